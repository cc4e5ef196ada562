//! What is wrong although nothing happens: identities that are overdue or without an owner, systems that settle later than they document. And
//! what is right again: findings whose reason is gone are resolved here, whatever took it away.
//!
//! Everything is asked of a column that says so; no sweep reads the whole register.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::breaker::BREAKER;
use super::findings::{self, Severity, Wrong, about_identity};
use super::freeze::FREEZE;
use super::housekeeping::NOTICE;
use super::pass::KEYFALL;
use super::succession::Owners;
use super::telling::{commit_exceptions, commit_findings, is_open, open_among, raise_once};
use super::{Shared, aside, budget, ends, nodes, record};
use crate::domain::due::GRACE;
use crate::domain::identity::{Identity, IdentityState};
use crate::domain::ids::IdentityId;
use crate::domain::landscape::Landscape;
use crate::evidence::record::ExceptionCause;
use crate::store::{Fact, FindingFilter, FindingRow, Page, StoreError};

const BATCH: u32 = 500;

/// What is remembered between sweeps: losing it costs repeated questions, nothing else.
#[derive(Default)]
pub(super) struct Sweep {
    /// Overdue, and said so.
    overdue: HashSet<IdentityId>,
}

impl Sweep {
    /// `standstill`: why nothing is opened at the moment.
    pub(super) async fn over(&mut self, shared: &Arc<Shared>, standstill: Option<&str>) -> Result<(), StoreError> {
        let now = record::to_micros(shared.env.now());
        let register = shared.register.current(&*shared.store).await?;
        self.overdue(shared, standstill, now).await?;
        if let Some(why) = standstill {
            ends::look(shared, why, now).await?;
        }
        let owners = Owners::read(shared).await?;
        owners.look_for_unowned(shared, &register, now).await?;
        settling(shared, &register, now).await?;
        unknown_steps(shared, now).await?;
        aside::right_again(shared).await?;
        let standing = Standing {
            owners: &owners,
            is_still: standstill.is_some(),
        };
        identities_right_again(shared, &register, standing, now).await?;
        right_again(shared, &register, now).await
    }

    /// Due for longer than the grace: those that wait, and those whose run has been under way for as long.
    async fn overdue(&mut self, shared: &Shared, why: Option<&str>, now: Timestamp) -> Result<(), StoreError> {
        let late = now.saturating_sub(GRACE).unwrap_or(Timestamp::MIN);
        let mut found = HashSet::new();
        let mut after = None;
        loop {
            let page = shared.store.due_identities(late, after, BATCH).await?;
            after = page.last().map(|due| (due.due_at, due.id));
            let ids: Vec<_> = page.iter().map(|due| due.id).collect();
            self.say_overdue(shared, &ids, Late::Waiting(why), now).await?;
            found.extend(ids);
            if page.len() < BATCH as usize {
                break;
            }
        }
        let mut after = None;
        loop {
            let page = shared.store.runs_under_way_since(late, after, BATCH).await?;
            after = page.last().map(|(opened_at, run, _)| (*opened_at, *run));
            let ids: Vec<_> = page.iter().map(|(_, _, identity)| *identity).collect();
            self.say_overdue(shared, &ids, Late::UnderWay, now).await?;
            found.extend(ids);
            if page.len() < BATCH as usize {
                break;
            }
        }
        self.overdue.retain(|id| found.contains(id));
        Ok(())
    }

    async fn say_overdue(
        &mut self,
        shared: &Shared,
        ids: &[IdentityId],
        late: Late<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let unsaid: Vec<_> = ids.iter().copied().filter(|id| !self.overdue.contains(id)).collect();
        if unsaid.is_empty() {
            return Ok(());
        }
        let mut overdue = shared.store.identities_with(&unsaid).await?;
        overdue.retain(|identity| is_overdue(identity, now));
        self.overdue.extend(overdue.iter().map(|identity| identity.id));
        let known = open_among(shared, findings::OVERDUE, &overdue).await?;
        overdue.retain(|identity| !known.contains(&identity.name));
        let waiting = waiting_for_a_person(shared, &overdue).await?;
        let (mut facts, mut missed) = (Vec::new(), Vec::new());
        for identity in &overdue {
            let text = overdue_text(identity, late.why());
            let wrong = about_identity(identity, findings::OVERDUE, Severity::High, text);
            let fact = findings::raised(&shared.env, now, wrong);
            match late {
                Late::Waiting(_) if !waiting.contains(&identity.name) => missed.push(fact),
                _ => facts.push(fact),
            }
        }
        commit_findings(shared, facts, now).await?;
        commit_exceptions(shared, missed, now, ExceptionCause::DisconnectedTrigger)
            .await
            .map(drop)
    }
}

/// What became of an overdue identity's run.
#[derive(Clone, Copy)]
enum Late<'a> {
    /// None was opened, for this reason where everything stands still.
    Waiting(Option<&'a str>),
    UnderWay,
}

impl<'a> Late<'a> {
    fn why(self) -> Option<&'a str> {
        match self {
            Self::Waiting(why) => why,
            Self::UnderWay => Some("its run does not end"),
        }
    }
}

/// The names of those that were looked at in time, and of which somebody was told what stands in the way.
async fn waiting_for_a_person(shared: &Shared, identities: &[Identity]) -> Result<HashSet<String>, StoreError> {
    let mut waiting = HashSet::new();
    for kind in [
        findings::APPROVAL_WANTED,
        findings::POLICY_CONFLICT,
        findings::CANNOT_PLAN,
    ] {
        waiting.extend(open_among(shared, kind, identities).await?);
    }
    Ok(waiting)
}

/// One that has expired is not to be rotated any more, and is a finding of its own.
fn is_overdue(identity: &Identity, now: Timestamp) -> bool {
    let since = identity.due.map(|(at, _)| now.duration_since(at));
    identity.state == IdentityState::Active && identity.spec.expires > now && since.is_some_and(|since| since > GRACE)
}

fn overdue_text(identity: &Identity, why: Option<&str>) -> String {
    let (since, reason) = identity
        .due
        .map_or((String::new(), ""), |(at, reason)| (format!("{at:.0}"), reason.name()));
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("`{}` has been due since {since} ({reason}){why}", identity.name)
}

/// Systems that were measured to honour what was revoked for longer than they, or their manifests, say.
async fn settling(shared: &Shared, register: &Landscape, now: Timestamp) -> Result<(), StoreError> {
    for (resource, system) in register.systems() {
        let name = &resource.name;
        // A connector that cannot be asked is told where it is needed.
        let Ok(facts) = shared.prepare.connector_facts(resource).await else {
            continue;
        };
        let documented = system.settling.map_or(facts.settling, |own| own.max(facts.settling));
        match facts.measured.filter(|measured| *measured > documented) {
            Some(measured) => {
                let wrong = Wrong {
                    kind: findings::SETTLING_OUTSIDE_WINDOW,
                    subject: name.clone(),
                    severity: Severity::Medium,
                    owner: &system.owner,
                    text: format!(
                        "`{name}` went on accepting a revoked credential for {measured:#}, and {documented:#} is documented; proofs wait for as long as was measured. Find out why, or write `settling` in its manifest"
                    ),
                };
                raise_once(shared, wrong, now).await?;
            }
            None => {
                if is_open(shared, findings::SETTLING_OUTSIDE_WINDOW, name).await? {
                    let fact = findings::resolved(findings::SETTLING_OUTSIDE_WINDOW, name.clone(), now);
                    commit_findings(shared, vec![fact], now).await?;
                }
            }
        }
    }
    Ok(())
}

/// What the findings about identities are held against.
struct Standing<'a> {
    owners: &'a Owners,
    /// Nothing is opened at the moment.
    is_still: bool,
}

/// Findings about identities that hold no more.
async fn identities_right_again(
    shared: &Shared,
    register: &Landscape,
    Standing { owners, is_still }: Standing<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let soon = now.saturating_add(NOTICE).unwrap_or(Timestamp::MAX);
    let is_there = |identity: &Identity| identity.state != IdentityState::Decommissioned;
    let is_due = |identity: &Identity| identity.due.is_some_and(|(at, _)| at <= now);
    type StillWrong<'a> = &'a (dyn Fn(&Identity) -> bool + Sync);
    let kinds: [(&'static str, StillWrong<'_>); 8] = [
        (findings::OVERDUE, &|one| is_overdue(one, now)),
        (findings::ENDS_MEANWHILE, &|one| is_still && ends::is_close(one, now)),
        (findings::UNOWNED, &|one| {
            is_there(one) && owners.why_gone(&one.spec.owner).is_some()
        }),
        (findings::EXPIRED, &|one| is_there(one) && one.spec.expires <= now),
        (findings::EXPIRING, &|one| {
            is_there(one) && one.spec.expires > now && one.spec.expires < soon
        }),
        (findings::APPROVAL_WANTED, &|one| is_there(one) && is_due(one)),
        (findings::CANNOT_PLAN, &|one| is_there(one) && is_due(one)),
        (findings::POLICY_CONFLICT, &|one| {
            is_there(one) && register.conflict_of(one).is_some()
        }),
    ];
    for (kind, is_still_wrong) in kinds {
        let mut after = None;
        while let Some(page) = open_findings(shared, kind, &mut after).await? {
            let names: Vec<_> = page.iter().map(|row| row.subject.clone()).collect();
            let found = shared.store.identities_named(&names).await?;
            let by_name: HashMap<_, _> = found.iter().map(|one| (one.name.as_str(), one)).collect();
            let over = names
                .iter()
                .filter(|name| !by_name.get(name.as_str()).is_some_and(|one| is_still_wrong(one)));
            let facts = over.map(|name| findings::resolved(kind, name.clone(), now)).collect();
            commit_findings(shared, facts, now).await?;
        }
    }
    Ok(())
}

/// A run that no living node knows how to end waits without a word: a finding says so, until there is one or the run is over.
async fn unknown_steps(shared: &Shared, now: Timestamp) -> Result<(), StoreError> {
    let mut runs = shared.store.runs_of_later_workflows(BATCH).await?;
    if !runs.is_empty() {
        let newest = nodes::newest_known(shared).await?;
        runs.retain(|run| run.workflow > newest);
    }
    for run in &runs {
        let wrong = Wrong {
            kind: findings::UNKNOWN_STEPS,
            subject: run.id.to_string(),
            severity: Severity::High,
            owner: KEYFALL,
            text: format!(
                "{} of `{}` asks for list of steps number {}, which no server here knows: start the newer Keyfall again, which ends what it began",
                run.id, run.identity_name, run.workflow
            ),
        };
        raise_once(shared, wrong, now).await?;
    }
    let left: HashSet<_> = runs.iter().map(|run| run.id.to_string()).collect();
    let mut after = None;
    while let Some(page) = open_findings(shared, findings::UNKNOWN_STEPS, &mut after).await? {
        let over = page.into_iter().filter(|row| !left.contains(&row.subject));
        let facts = over.map(|row| findings::resolved(findings::UNKNOWN_STEPS, row.subject, now));
        commit_findings(shared, facts.collect(), now).await?;
    }
    Ok(())
}

/// Findings about the server itself that hold no more: what a person lifted, and a budget that has room again.
async fn right_again(shared: &Shared, register: &Landscape, now: Timestamp) -> Result<(), StoreError> {
    let is_open_breaker = shared.store.setting(BREAKER).await?.is_some();
    let is_frozen = shared.store.setting(FREEZE).await?.is_some();
    for (kind, still) in [
        (findings::BREAKER_OPEN, is_open_breaker),
        (findings::CLOCK_JUMP, is_frozen),
    ] {
        let mut after = None;
        while let Some(page) = open_findings(shared, kind, &mut after).await? {
            let over = page.into_iter().filter(|_| !still);
            let facts = over.map(|row| findings::resolved(kind, row.subject, now)).collect();
            commit_findings(shared, facts, now).await?;
        }
    }
    let mut after = None;
    while let Some(page) = open_findings(shared, findings::BUDGET_SPENT, &mut after).await? {
        let mut facts: Vec<Fact> = Vec::new();
        for row in page {
            let budget = register.budget_of(budget::policy_of(&row.subject));
            let since = now.saturating_sub(budget.per).unwrap_or(Timestamp::MIN);
            if shared.store.spent(&row.subject, since).await? < budget.destructive {
                facts.push(findings::resolved(findings::BUDGET_SPENT, row.subject, now));
            }
        }
        commit_findings(shared, facts, now).await?;
    }
    Ok(())
}

/// The next page of open findings of a kind; `None` behind the last one.
async fn open_findings(
    shared: &Shared,
    kind: &str,
    after: &mut Option<String>,
) -> Result<Option<Vec<FindingRow>>, StoreError> {
    let filter = FindingFilter {
        kind: Some(kind.to_owned()),
        subject: None,
        open_only: true,
    };
    let page = Page {
        after: after.take(),
        limit: BATCH,
    };
    let rows = shared.store.findings(&filter, page).await?;
    *after = rows.last().map(FindingRow::page_key);
    Ok(Some(rows).filter(|rows| !rows.is_empty()))
}
