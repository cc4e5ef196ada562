//! A commit, made ready on the caller's thread and carried out in one transaction: first every guard, then every fact, then the log.

use std::collections::HashSet;

use jiff::Timestamp;

use super::driver::{Lock, Read, Tx, Verb, only_number, only_text};
use super::fact::{Commit, Committed, Fact, Guard};
use super::sql::{
    Bound, Leaf, Op, credential, finding, identity, ledger, log, person, plan, receipt, resource, run, secret,
};
use super::{Result, SCRUB_OWED};
use crate::domain::ids::{RunId, SecretId};

/// A commit with nothing left to encode or to hash.
pub(crate) struct Prepared {
    /// On what may have no row: settings and budgets.
    locks: Vec<Lock>,
    checks: Vec<Check>,
    ops: Vec<Op>,
    leaves: Vec<Leaf>,
    takes_reserve: bool,
}

/// A guard as a statement and what its answer must be.
enum Check {
    RunHeld {
        run: RunId,
        read: Bound,
        node: String,
        epoch: u64,
    },
    RunAt {
        run: RunId,
        read: Bound,
        next_seq: u32,
    },
    SomeRow(Bound),
    /// No run is open, and none is opened until the commit ends: whoever opens one changes the identity.
    NoRun {
        identity: Bound,
        open: Bound,
    },
    /// The number in the only row; 0 when there is none.
    NumberIs(Bound, u64),
    /// Under the setting's lock.
    TextIs(Bound, Option<String>),
    /// Under the budget's lock.
    Below(Bound, u32),
    /// Under the finding's lock: what the open one says.
    Says(Bound, Wanted),
}

/// What an open finding must be.
enum Wanted {
    Absent,
    Other(String),
    There,
}

impl Wanted {
    fn is(&self, said: Option<String>) -> bool {
        match self {
            Self::Absent => said.is_none(),
            Self::Other(text) => said.as_ref() != Some(text),
            Self::There => said.is_some(),
        }
    }
}

impl Prepared {
    /// `now` closes a run whose commit holds no event of it.
    pub(crate) fn of(commit: Commit, now: Timestamp) -> Result<Self> {
        let checks = commit.guards.iter().map(check).collect::<Result<_>>()?;
        let mut ops = Vec::with_capacity(commit.facts.len());
        for fact in &commit.facts {
            add(&mut ops, fact, &commit, now)?;
        }
        // With what left the bytes, so that neither a death nor a full disk can forget them.
        if let Some(id) = commit.facts.iter().rev().find_map(leaves_bytes) {
            ops.push(ledger::set(SCRUB_OWED, Some(&id.to_string()))?);
        }
        let mut locks = locks(&commit);
        Lock::in_order(&mut locks);
        Ok(Self {
            locks,
            checks,
            ops,
            leaves: commit.log.into_iter().map(Leaf::of).collect(),
            takes_reserve: false,
        })
    }
}

impl Prepared {
    /// It holds what came of a call that was made.
    pub(crate) fn of_a_result(mut self) -> Self {
        self.takes_reserve = true;
        self
    }
}

/// Whoever looks at a setting or a budget and goes by it is either before or behind a change of it.
fn locks(commit: &Commit) -> Vec<Lock> {
    let looked_at = commit.guards.iter().filter_map(|guard| match guard {
        Guard::SettingIs { key, .. } => Some(Lock::of_setting(key, false)),
        // Alone: who is allowed to spend by it spends, and two who look at once would both find room.
        Guard::SpentBelow { scope, .. } => Some(Lock::of_budget(scope, true)),
        // Alone as well: of two who find that nothing was said yet, one says it.
        Guard::FindingIsNews { kind, subject, .. } | Guard::FindingIsOpen { kind, subject } => {
            Some(Lock::of_finding(kind, subject))
        }
        _ => None,
    });
    let changed = commit.facts.iter().filter_map(|fact| match fact {
        Fact::Setting { key, .. } => Some(Lock::of_setting(key, true)),
        Fact::Spent(spend) => Some(Lock::of_budget(&spend.scope, true)),
        _ => None,
    });
    looked_at.chain(changed).collect()
}

/// The secret of which the fact leaves sealed bytes behind in the store's files, until these are scrubbed.
fn leaves_bytes(fact: &Fact) -> Option<SecretId> {
    match fact {
        Fact::SecretDestroyed { id, .. } | Fact::SecretRewrapped { id, .. } => Some(*id),
        Fact::SecretResealed(row) => Some(row.id),
        _ => None,
    }
}

fn check(guard: &Guard) -> Result<Check> {
    Ok(match guard {
        Guard::RunHeld { run, node, epoch } => Check::RunHeld {
            run: *run,
            read: run::lease(*run)?,
            node: node.clone(),
            epoch: *epoch,
        },
        Guard::RunAt { run, next_seq } => Check::RunAt {
            run: *run,
            read: run::lease(*run)?,
            next_seq: *next_seq,
        },
        Guard::NoOpenRun { identity } => Check::NoRun {
            identity: identity::held(*identity)?,
            open: run::open_of(*identity)?,
        },
        Guard::PlanIs { plan, status } => {
            Check::SomeRow(plan::STATUS.with([("id", plan.to_string().into()), ("status", status.name().into())])?)
        }
        Guard::ResourceAt { kind, name, version } => Check::NumberIs(
            resource::VERSION_BY_NAME.with([("kind", (*kind).into()), ("name", name.as_str().into())])?,
            u64::from(*version),
        ),
        Guard::IdentityAt { name, version } => Check::NumberIs(
            identity::VERSION_BY_NAME.with([("name", name.as_str().into())])?,
            u64::from(*version),
        ),
        Guard::IdentityStands {
            identity,
            state,
            current,
        } => Check::SomeRow(identity::stands(*identity, *state, *current)?),
        Guard::SecretWrapped { id, wrapped_key } => Check::SomeRow(secret::wrapped(*id, wrapped_key)?),
        Guard::SecretDue { id, now } => Check::SomeRow(secret::due(*id, *now)?),
        Guard::SettingIs { key, value } => Check::TextIs(ledger::setting(key)?, value.clone()),
        Guard::FindingIsNews { kind, subject, saying } => {
            let wanted = saying.clone().map_or(Wanted::Absent, Wanted::Other);
            Check::Says(finding::says(kind, subject)?, wanted)
        }
        Guard::FindingIsOpen { kind, subject } => Check::Says(finding::says(kind, subject)?, Wanted::There),
        Guard::SpentBelow { scope, since, limit } => Check::Below(ledger::spent(scope, *since)?, *limit),
    })
}

/// Every fact, by its noun. A new fact does not compile until it is stored somewhere.
fn add(ops: &mut Vec<Op>, fact: &Fact, commit: &Commit, now: Timestamp) -> Result<()> {
    match fact {
        Fact::Resource(one) => ops.push(resource::put(one)?),
        Fact::Identity(one) => ops.push(identity::put(one)?),
        Fact::IdentityState { id, to } => ops.push(identity::move_to(*id, *to)?),
        Fact::IdentityCurrent { id, credential } => ops.push(identity::set_current(*id, *credential)?),
        Fact::IdentityDue { id, due } => ops.push(identity::set_due(*id, *due)?),
        Fact::IdentityPutOff { id, was, to } => ops.push(identity::put_off(*id, *was, *to)?),
        Fact::Credential(one) => ops.push(credential::put(one)?),
        Fact::CredentialState { id, to } => ops.push(credential::move_to(*id, to)?),
        Fact::CredentialIssued { id, principal, key_id } => ops.extend(credential::issued(*id, principal, key_id)?),
        Fact::CredentialProven { id, at } => ops.push(credential::proven(*id, *at)?),
        Fact::CredentialExpires { id, at } => ops.push(credential::expires(*id, *at)?),
        Fact::CredentialSecret { id, secret } => ops.push(credential::set_secret(*id, *secret)?),
        Fact::Secret(one) => ops.push(secret::insert(one)?),
        Fact::SecretResealed(one) => ops.push(secret::reseal(one)?),
        Fact::SecretDestroyAt { id, at } => ops.push(secret::destroy_at(*id, *at)?),
        Fact::SecretKept { id } => ops.push(secret::keep(*id)?),
        Fact::SecretDestroyed { id, at } => ops.push(secret::destroy(*id, *at)?),
        Fact::SecretRewrapped {
            id,
            kek_id,
            wrapped_key,
            wrap_nonce,
        } => ops.push(secret::rewrap(*id, kek_id, wrapped_key, wrap_nonce)?),
        Fact::RunOpened(_) | Fact::RunProgress { .. } => add_run(ops, fact, commit, now)?,
        Fact::RunSetAside { run, until } => ops.push(run::set_aside(*run, *until)?),
        Fact::Plan(one) => ops.push(plan::insert(one)?),
        Fact::PlanStatus { plan, to, at } => ops.push(plan::set_status(*plan, *to, *at)?),
        Fact::Approval(one) => ops.push(plan::approve(one)?),
        Fact::Finding(one) => ops.push(finding::raise(one)?),
        Fact::FindingResolved { kind, subject, at } => ops.push(finding::resolve(kind, subject, *at)?),
        Fact::Receipt(one) => ops.push(receipt::insert(one)?),
        Fact::Person(one) => ops.push(person::put(one)?),
        Fact::PersonRetired { id, at } => ops.push(person::retire(*id, *at)?),
        Fact::Token(one) => ops.push(person::add_token(one)?),
        Fact::TokenRevoked { id, at } => ops.push(person::revoke_token(*id, *at)?),
        Fact::Setting { key, value } => ops.push(ledger::set(key, value.as_deref())?),
        Fact::Spent(one) => ops.extend(ledger::spend(one)?),
        Fact::Settling(one) => ops.push(ledger::settled(one)?),
    }
    Ok(())
}

fn add_run(ops: &mut Vec<Op>, fact: &Fact, commit: &Commit, now: Timestamp) -> Result<()> {
    match fact {
        Fact::RunOpened(one) => {
            ops.push(run::opened(one)?);
            ops.push(identity::run_opened(one.identity, one.id)?);
        }
        Fact::RunProgress {
            run,
            status,
            step,
            next_seq,
            wake_at,
            release,
        } => {
            ops.push(run::progress(&run::Progress {
                run: *run,
                status,
                step: *step,
                next_seq: *next_seq,
                wake_at: *wake_at,
                release: *release,
                at: log::last_instant(&commit.log, *run).unwrap_or(now),
            })?);
            if !run::is_open(status) {
                ops.push(identity::run_closed(*run)?);
            }
        }
        _ => {}
    }
    Ok(())
}

impl Verb for Prepared {
    type Output = Committed;
    const DOING: &'static str = "committing";

    fn takes_reserve(&self) -> bool {
        self.takes_reserve
    }

    async fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> Result<Committed> {
        if !self.locks.is_empty() {
            tx.lock(&self.locks).await?;
        }
        tx.ahead(self.reads()).await?;
        let mut leases = Leases::default();
        for (guard, check) in self.checks.iter().enumerate() {
            if !holds(tx, check, &mut leases).await? {
                return Ok(Committed::Refused { guard });
            }
        }
        for op in &self.ops {
            op.run(tx).await?;
        }
        if !self.leaves.is_empty() {
            tx.append(&self.leaves).await?;
        }
        Ok(Committed::Stored)
    }
}

impl Prepared {
    /// What is certain to be asked, in this order: all that the guards want to know, and the states of what exists before the commit.
    fn reads(&self) -> impl Iterator<Item = Read<'_>> + Send {
        let mut last = None;
        let guards = self.checks.iter().flat_map(move |check| match check {
            Check::RunHeld { run, read, .. } | Check::RunAt { run, read, .. } => {
                let known = last.replace(*run) == Some(*run);
                [(!known).then_some(Read::Locked(read)), None]
            }
            Check::SomeRow(read) | Check::NumberIs(read, _) => [Some(Read::Locked(read)), None],
            Check::NoRun { identity, open } => [Some(Read::Locked(identity)), Some(Read::Plain(open))],
            Check::TextIs(read, _) | Check::Below(read, _) | Check::Says(read, _) => [Some(Read::Plain(read)), None],
        });
        let mut touched = HashSet::new();
        let states = self.ops.iter().filter_map(move |op| {
            // Only the first step about something finds it as it was before.
            let is_first = touched.insert(op.about()?);
            op.reads_first().filter(|_| is_first).map(Read::Locked)
        });
        guards.flatten().chain(states)
    }
}

/// The run that was looked at last: its guards come in pairs.
#[derive(Default)]
struct Leases(Option<(RunId, Option<run::Lease>)>);

impl Leases {
    async fn of<T: Tx>(&mut self, tx: &mut T, run: RunId, read: &Bound) -> Result<Option<&run::Lease>> {
        if self.0.as_ref().is_none_or(|(known, _)| *known != run) {
            let row = tx.query_locked(read).await?.into_iter().next();
            self.0 = Some((run, row.map(run::read_lease).transpose()?));
        }
        Ok(self.0.as_ref().and_then(|(_, lease)| lease.as_ref()))
    }
}

async fn holds<T: Tx>(tx: &mut T, check: &Check, leases: &mut Leases) -> Result<bool> {
    Ok(match check {
        Check::RunHeld { run, read, node, epoch } => {
            let now = tx.now().await?;
            leases.of(tx, *run, read).await?.is_some_and(|lease| {
                !lease.closed
                    && lease.epoch == *epoch
                    && lease.node.as_deref() == Some(node)
                    && lease.lease_until.is_some_and(|until| until > now)
            })
        }
        Check::RunAt { run, read, next_seq } => {
            let lease = leases.of(tx, *run, read).await?;
            lease.is_some_and(|lease| lease.next_seq == *next_seq)
        }
        Check::SomeRow(bound) => !tx.query_locked(bound).await?.is_empty(),
        Check::NoRun { identity, open } => {
            tx.hold(identity).await?;
            tx.query(open).await?.is_empty()
        }
        Check::NumberIs(bound, wanted) => {
            let row = tx.query_locked(bound).await?.into_iter().next();
            row.map(only_number).transpose()?.unwrap_or(0) == *wanted
        }
        Check::TextIs(bound, wanted) => {
            let row = tx.query(bound).await?.into_iter().next();
            row.map(only_text).transpose()? == *wanted
        }
        Check::Says(bound, wanted) => {
            let row = tx.query(bound).await?.into_iter().next();
            wanted.is(row.map(only_text).transpose()?)
        }
        Check::Below(bound, limit) => {
            let row = tx.query(bound).await?.into_iter().next();
            row.map(only_number).transpose()?.unwrap_or(0) < u64::from(*limit)
        }
    })
}
