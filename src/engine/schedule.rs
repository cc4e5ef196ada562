//! Turns due identities into open runs. Everything is read anew; what may not be opened becomes a finding, once, and hides nobody behind it.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::Instant;

use super::findings::{self, Severity, about_identity};
use super::opening::{opening, stands};
use super::pass::{PassReport, SWEEP};
use super::telling::commit_news;
use super::{Shared, measure, record};
use crate::domain::actor::{Actor, Approval};
use crate::domain::due::DueReason;
use crate::domain::identity::{Credential, Identity};
use crate::domain::ids::{CredentialId, IdentityId, PlanId, RunId, SecretId};
use crate::domain::landscape::Landscape;
use crate::domain::planner::{ConnectorFacts, Drawn, Lives, RunRequest};
use crate::domain::resource::Autonomy;
use crate::domain::workflow::{RunKind, RunPlan, Trigger};
use crate::evidence::record::ExceptionCause;
use crate::store::{Commit, Committed, DueIdentity, Fact, StoreError};

const BATCH: u32 = 500;
/// How long an identity that may not be opened is left alone before it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// So many of them are looked at again in one pass. Where there are more, each of them is looked at more rarely.
const AGAIN_IN_A_PASS: usize = 2_000;

/// Why a due identity was not opened.
struct Held {
    kind: &'static str,
    severity: Severity,
    text: String,
}

/// What is remembered between passes, so that a finding is not written each second. Losing it costs a few repeated questions.
#[derive(Default)]
pub(super) struct Memory {
    /// Until when each is left alone, and what was said of it.
    held: HashMap<IdentityId, (Instant, u64)>,
    /// What they were held against. Another one may hold none of them.
    register: Option<Arc<Landscape>>,
}

/// What one pass knows of a system, read once.
struct SystemFacts {
    connector: Result<ConnectorFacts, String>,
}

pub(super) struct Scheduling<'a> {
    shared: &'a Arc<Shared>,
    memory: &'a mut Memory,
    register: Arc<Landscape>,
    systems: HashMap<String, SystemFacts>,
    /// By the plan that was approved: all standing approvals of one plan are the same.
    approvals: HashMap<PlanId, Result<(), String>>,
    /// How many of those that are held this pass may look at again.
    again: usize,
    /// Frozen, or the breaker is open: due identities are counted, none is opened.
    is_standing_still: bool,
}

/// Opens what is due, page by page.
pub(super) async fn open_due(
    shared: &Arc<Shared>,
    memory: &mut Memory,
    is_standing_still: bool,
    report: &mut PassReport,
) -> Result<(), StoreError> {
    let register = shared.register.current(&*shared.store).await?;
    let is_same = memory
        .register
        .as_ref()
        .is_some_and(|before| Arc::ptr_eq(before, &register));
    memory.register = Some(Arc::clone(&register));
    let mut scheduling = Scheduling {
        again: if is_same { AGAIN_IN_A_PASS } else { usize::MAX },
        shared,
        memory,
        register,
        systems: HashMap::new(),
        approvals: HashMap::new(),
        is_standing_still,
    };
    let mut seen = HashSet::new();
    let mut after = None;
    loop {
        let now = record::to_micros(shared.env.now());
        let page = shared.store.due_identities(now, after, BATCH).await?;
        after = page.last().map(|due| (due.due_at, due.id));
        seen.extend(page.iter().map(|due| due.id));
        scheduling.page(&page, now, report).await?;
        if page.len() < BATCH as usize || shared.is_stopping() {
            break;
        }
    }
    // What is not due any more may be spoken about again when it is due the next time.
    memory.held.retain(|id, _| seen.contains(id));
    Ok(())
}

impl Scheduling<'_> {
    async fn page(&mut self, page: &[DueIdentity], now: Timestamp, report: &mut PassReport) -> Result<(), StoreError> {
        let moment = Instant::now();
        let due: HashMap<IdentityId, &DueIdentity> = page
            .iter()
            .filter(|due| self.is_looked_at(due.id, moment))
            .map(|due| (due.id, due))
            .collect();
        let count = u32::try_from(page.len()).unwrap_or(u32::MAX);
        report.due = report.due.saturating_add(count);
        if self.is_standing_still {
            report.held = report.held.saturating_add(count);
            return Ok(());
        }
        let ids: Vec<IdentityId> = page
            .iter()
            .map(|due| due.id)
            .filter(|id| due.contains_key(id))
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let identities = self.shared.store.identities_with(&ids).await?;
        let mut credentials: HashMap<IdentityId, Vec<Credential>> = HashMap::new();
        for credential in self.shared.store.credentials_in_play_of_many(&ids).await? {
            credentials.entry(credential.identity).or_default().push(credential);
        }
        let mut commits = Vec::new();
        let mut facts = Vec::new();
        for identity in &identities {
            let Some(due) = due.get(&identity.id) else { continue };
            let credentials = credentials.get(&identity.id).map_or(&[][..], Vec::as_slice);
            match self.prepare(identity, due, credentials, now).await? {
                Ok(commit) => commits.push(commit),
                Err(held) => facts.extend(self.hold(identity, held, now, report)),
            }
        }
        let is_conflict = |fact: &Fact| matches!(fact, Fact::Finding(row) if row.kind == findings::POLICY_CONFLICT);
        let (conflicts, facts): (Vec<_>, Vec<_>) = facts.into_iter().partition(is_conflict);
        commit_news(self.shared, facts, now, None).await?;
        commit_news(self.shared, conflicts, now, Some(ExceptionCause::PolicyConflict)).await?;
        self.open(commits, report).await
    }

    /// One that is held is left alone for a while, unless the register is another one than it was held against.
    fn is_looked_at(&mut self, id: IdentityId, moment: Instant) -> bool {
        let Some((until, _)) = self.memory.held.get(&id) else {
            return true;
        };
        if self.again == usize::MAX {
            return true;
        }
        if moment < *until || self.again == 0 {
            return false;
        }
        self.again = self.again.saturating_sub(1);
        true
    }

    /// Side by side: the store stores them together, and one that is refused (its identity has a run by now) takes no other with it.
    async fn open(&self, commits: Vec<Commit>, report: &mut PassReport) -> Result<(), StoreError> {
        let mut opened: u32 = 0;
        let answers = join_all(commits.into_iter().map(|commit| self.shared.store.commit(commit))).await;
        for answer in answers {
            if matches!(answer?, Committed::Stored) {
                opened = opened.saturating_add(1);
            }
        }
        report.opened = report.opened.saturating_add(opened);
        if opened > 0 {
            measure::opened(RunKind::Rotate, u64::from(opened));
            self.shared.claim_bell.notify_one();
        }
        Ok(())
    }

    fn hold(&mut self, identity: &Identity, held: Held, now: Timestamp, report: &mut PassReport) -> Option<Fact> {
        report.held = report.held.saturating_add(1);
        let turns = u32::try_from(self.memory.held.len() / AGAIN_IN_A_PASS).unwrap_or(u32::MAX);
        let until = Instant::now() + LOOK_AGAIN.max(SWEEP.saturating_mul(turns));
        let said = BuildHasherDefault::<DefaultHasher>::default().hash_one((held.kind, &held.text));
        let before = self.memory.held.insert(identity.id, (until, said));
        if before.is_some_and(|(_, before)| before == said) {
            return None;
        }
        let wrong = about_identity(identity, held.kind, held.severity, held.text);
        Some(findings::raised(&self.shared.env, now, wrong))
    }

    async fn prepare(
        &mut self,
        identity: &Identity,
        due: &DueIdentity,
        credentials: &[Credential],
        now: Timestamp,
    ) -> Result<Result<Commit, Held>, StoreError> {
        let register = Arc::clone(&self.register);
        let holding = register.policy_of(identity);
        let approval = match may_open(identity, &register, now) {
            Ok(approval) => approval,
            Err(held) => return Ok(Err(grave(held, due.reason, &identity.name))),
        };
        if let Err(why) = self.check_approval(&approval).await {
            let whose = match holding {
                Some(holding) if !identity.is_control => format!("policy `{}`", holding.name),
                _ => format!("system `{}`", identity.spec.system),
            };
            return Ok(Err(Held {
                kind: findings::APPROVAL_WANTED,
                severity: Severity::High,
                text: format!(
                    "`{}` is due, and the approval of {whose} does not hold: {why}. Apply the manifest of {whose} again and have the plan approved",
                    identity.name
                ),
            }));
        }
        self.learn(&identity.spec.system).await?;
        let plan = self.plan(identity, due, credentials, approval, now);
        Ok(plan.and_then(|plan| self.commit(identity, plan)).map_err(|why| Held {
            kind: findings::CANNOT_PLAN,
            severity: Severity::High,
            text: format!("`{}` is due and cannot be rotated: {why}", identity.name),
        }))
    }

    fn plan(
        &self,
        identity: &Identity,
        due: &DueIdentity,
        credentials: &[Credential],
        approval: Approval,
        now: Timestamp,
    ) -> Result<RunPlan, String> {
        let name = &identity.spec.system;
        let facts = self.systems.get(name);
        let facts = facts.ok_or_else(|| format!("system `{name}` is not registered"))?;
        let connector = facts.connector.as_ref().map_err(Clone::clone)?;
        // A rotation ends a credential that is in use, and tries it itself.
        let known = (credentials, &Lives::new());
        let request = RunRequest {
            kind: RunKind::Rotate,
            trigger: Trigger::Schedule,
            reason: due.reason,
            initiator: Actor::Engine,
            approval,
            credential: None,
            exception: None,
        };
        let env = &self.shared.env;
        let drawn = Drawn {
            run: RunId::from_uuid(env.draw_uuid()),
            credential: CredentialId::from_uuid(env.draw_uuid()),
            secret: SecretId::from_uuid(env.draw_uuid()),
            now,
        };
        let plan = self.register.plan_run(identity, known, connector, request, drawn);
        let plan = plan.map_err(|cannot| cannot.to_string())?;
        Ok(RunPlan {
            due_at: Some(due.due_at),
            ..plan
        })
    }

    fn commit(&self, identity: &Identity, plan: RunPlan) -> Result<Commit, String> {
        let secret = match &plan.new {
            Some(_) => Some(self.shared.prepare.seal_new(&plan)?),
            None => None,
        };
        let mut commit = opening(plan, secret).map_err(|error| error.to_string())?;
        commit.guards.push(stands(identity));
        Ok(commit)
    }

    async fn check_approval(&mut self, approval: &Approval) -> Result<(), String> {
        if let Some(known) = self.approvals.get(&approval.plan) {
            return known.clone();
        }
        let answer = self.shared.prepare.check_approval(approval).await;
        self.approvals.insert(approval.plan, answer.clone());
        answer
    }

    async fn learn(&mut self, system: &str) -> Result<(), StoreError> {
        if self.systems.contains_key(system) {
            return Ok(());
        }
        let Some((resource, _)) = self.register.system(system) else {
            return Ok(());
        };
        let facts = SystemFacts {
            connector: self.shared.prepare.connector_facts(resource).await,
        };
        self.systems.insert(system.to_owned(), facts);
        Ok(())
    }
}

/// The standing approval under which the engine may rotate the identity by itself, or why it may not.
fn may_open(identity: &Identity, register: &Landscape, now: Timestamp) -> Result<Approval, Held> {
    let standing = |approved: &Approval| Approval {
        standing: true,
        ..approved.clone()
    };
    if identity.is_control {
        // Powerless and Keyfall's own: what allowed its system allows its rotations, whatever policies say of the system's identities.
        let system = register.system(&identity.spec.system);
        let approved = system.and_then(|(system, _)| system.approved.as_ref());
        return approved
            .map(standing)
            .ok_or_else(|| wanted(identity, "its system was not approved by anybody"));
    }
    let Some(holding) = register.policy_of(identity) else {
        return Err(wanted(identity, "no policy selects it"));
    };
    if identity.spec.expires <= now {
        return Err(Held {
            kind: findings::EXPIRED,
            severity: Severity::High,
            text: format!(
                "`{}` has expired and gets no new credential: decommission it, or apply a manifest with a later expiry",
                identity.name
            ),
        });
    }
    if identity.spec.privileged {
        return Err(wanted(
            identity,
            "it is privileged, and those are never rotated without a person",
        ));
    }
    if let Some((holds, other)) = register.conflict_of(identity) {
        return Err(Held {
            kind: findings::POLICY_CONFLICT,
            severity: Severity::High,
            text: format!(
                "`{name}` is due, and policies `{holds}` and `{other}` select it with equal right and ask for different things: narrow one of them, or write a policy that names `{name}`; `keyfall rotate {name}` asks for this rotation alone",
                name = identity.name
            ),
        });
    }
    match holding.policy.autonomy {
        Autonomy::Observe => Err(wanted(identity, "its policy only observes")),
        Autonomy::Propose => Err(wanted(identity, "its policy proposes and waits to be asked")),
        Autonomy::Approve => Err(wanted(identity, "its policy asks for approval of each run")),
        Autonomy::Automatic => match holding.approved {
            Some(approved) => Ok(standing(approved)),
            None => Err(wanted(identity, "its policy was not approved by anybody")),
        },
    }
}

/// A compromised credential waits for nobody's convenience.
fn grave(held: Held, reason: DueReason, name: &str) -> Held {
    if reason != DueReason::Compromised || held.kind != findings::APPROVAL_WANTED {
        return held;
    }
    Held {
        severity: Severity::Critical,
        text: format!(
            "{held}; its credential is compromised, and its emergency rotation was taken back: `keyfall rotate {name} --emergency --reason …` asks for another",
            held = held.text
        ),
        ..held
    }
}

fn wanted(identity: &Identity, why: &str) -> Held {
    Held {
        kind: findings::APPROVAL_WANTED,
        severity: Severity::Medium,
        text: format!(
            "`{}` is due and {why}: run `keyfall rotate {}`",
            identity.name, identity.name
        ),
    }
}
