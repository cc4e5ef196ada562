//! What becomes of the due time when a rotation was taken back: its old credential is in use again, and whatever the rotation was for is not done.

use jiff::{SignedDuration, Timestamp};

use super::driver::Driver;
use super::record::Stop;
use crate::domain::due::{DueFacts, DueReason, DueTerms, due_of, returning};
use crate::domain::identity::Identity;
use crate::domain::workflow::{Outcome, Path, RunKind, RunPlan};
use crate::store::{Fact, Page, RunFilter};

/// After an unwound rotation: 15 minutes, then twice as long each time, up to 32 hours.
const FIRST_RETURN: SignedDuration = SignedDuration::from_mins(15);
const LONGEST_RETURN: SignedDuration = SignedDuration::from_hours(32);
/// More of them make the pause no longer.
const COUNTED: u32 = 16;

impl Driver {
    /// A rotation that was taken back stays due for its reason, whoever set it off, and comes back later each time. One that a person asked
    /// for and took back is withdrawn; a compromise is not ended by a person's patience with it.
    pub(super) async fn due_after_unwinding(&mut self, at: Timestamp) -> Result<Option<Fact>, Stop> {
        if !is_rotation(self.run.plan().kind) || self.run.path() == Path::Forward {
            return Ok(None);
        }
        let id = self.run.plan().identity;
        let Some(identity) = self.shared.store.identity(id).await? else {
            return Ok(None);
        };
        let due = if self.run.plan().reason == DueReason::Requested && self.run.cancel_reason().is_some() {
            match self.withdrawn(identity).await? {
                Some(due) => due,
                None => return Ok(None),
            }
        } else {
            let again = at.saturating_add(self.pause().await?).unwrap_or(Timestamp::MAX);
            Some(returning(identity.due, again, self.run.plan().reason))
        };
        Ok(Some(Fact::IdentityDue { id, due }))
    }

    /// The due time of the credential that is in use again, where the run had given the identity that of its successor.
    async fn withdrawn(&mut self, identity: Identity) -> Result<Option<Option<(Timestamp, DueReason)>>, Stop> {
        if self.run.promoted_at().is_none() {
            return Ok(None);
        }
        self.learn().await?;
        let plan = self.run.plan();
        let Some(old) = plan.old.first() else { return Ok(None) };
        let Some(current) = self.shared.store.credential(old.id).await? else {
            return Ok(None);
        };
        let unasked = Identity { due: None, ..identity };
        let facts = DueFacts::standing(&unasked, &current);
        Ok(due_of(self.terms(plan), &facts).ok())
    }

    fn terms<'a>(&'a self, plan: &RunPlan) -> Option<DueTerms<'a>> {
        let rule = self.schedule.rule.as_ref();
        rule.map(|rule| DueTerms::new(rule, plan.timing.overlap, &plan.proof))
    }

    async fn pause(&self) -> Result<SignedDuration, Stop> {
        let plan = self.run.plan();
        let filter = RunFilter {
            identity: Some(plan.identity),
            ..RunFilter::default()
        };
        let runs = self.shared.store.runs(&filter, Page::first(COUNTED)).await?;
        let completed = Outcome::Completed.name();
        let before = runs
            .iter()
            .filter(|row| row.id != plan.run && is_rotation(row.kind))
            .take_while(|row| row.status != completed)
            .count();
        let doubled = 1_i32
            .checked_shl(u32::try_from(before).unwrap_or(u32::MAX).min(16))
            .unwrap_or(i32::MAX);
        Ok(FIRST_RETURN.saturating_mul(doubled).min(LONGEST_RETURN))
    }
}

fn is_rotation(kind: RunKind) -> bool {
    matches!(kind, RunKind::Rotate | RunKind::EmergencyRotate)
}
