//! How many refused logins an account may still see: old and random attempts together, across all vantages, so that proving a death never
//! locks an account. Kept in memory. What was refused before the process began is learnt from the log when an account is asked for the
//! first time, as long as a window reaches back behind the beginning. Where other nodes carry out steps too, it is learnt with each claim of a
//! run that does not follow on one of this process: refused logins are made under a claim alone, and an identity has one run at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::Descriptor;

use crate::domain::ids::RunId;
use crate::domain::resource::SystemLimits;

/// Logins that a round spends at one vantage: the old secret and a random one.
pub(super) const REFUSED_PER_VANTAGE: u32 = 2;

/// Refused logins that a window may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) refused: u32,
    pub(super) per: SignedDuration,
}

/// The system's configured limit, and half of the threshold at which it locks accounts by itself.
pub(super) fn allowances(limits: &SystemLimits, descriptor: &Descriptor) -> Vec<Allowance> {
    let mut all = vec![Allowance {
        refused: limits.refused_logins_per_minute,
        per: SignedDuration::from_mins(1),
    }];
    all.extend(descriptor.lockout.map(|lockout| Allowance {
        refused: lockout.failures / 2,
        per: SignedDuration::try_from(lockout.window).unwrap_or(SignedDuration::MAX),
    }));
    all
}

/// What fits now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) refused: u32,
    /// When there is more room; `None` when nothing is held against the account.
    pub(super) more_at: Option<Timestamp>,
    /// What fits when nothing is held against the account.
    pub(super) most: u32,
}

impl Room {
    /// Waiting would never make room for a probe and its control at one vantage.
    pub(super) fn is_shut(self) -> bool {
        self.most < REFUSED_PER_VANTAGE
    }

    /// Where nobody knows what an account has seen, it sees nothing more for a minute.
    pub(super) fn unknown(allowances: &[Allowance], now: Timestamp) -> Self {
        let in_a_minute = now.saturating_add(SignedDuration::from_mins(1));
        Self {
            refused: 0,
            more_at: Some(in_a_minute.unwrap_or(Timestamp::MAX)),
            most: most(allowances),
        }
    }

    /// When to ask again.
    pub(super) fn later_than(self, now: Timestamp) -> Timestamp {
        let in_a_minute = now
            .saturating_add(SignedDuration::from_mins(1))
            .unwrap_or(Timestamp::MAX);
        self.more_at.filter(|more_at| *more_at > now).unwrap_or(in_a_minute)
    }
}

/// What fits when nothing is held against the account.
fn most(allowances: &[Allowance]) -> u32 {
    allowances.iter().map(|one| one.refused).min().unwrap_or(u32::MAX)
}

pub(super) struct RefusalBudget(Mutex<Known>);

/// A run and the epoch under which it is in hand.
type Claim = (RunId, u64);

struct Known {
    /// When this process began to remember.
    begun_at: Timestamp,
    /// Others carry out steps on the same store.
    has_others: bool,
    /// By system and account.
    accounts: HashMap<(String, String), Account>,
    /// When there are more accounts than this, those without a recent refusal are forgotten. Twice as many as were left the last time, so
    /// that going through them costs each refusal the same however many accounts there are.
    many: usize,
}

#[derive(Default)]
struct Account {
    /// When the last refusals were.
    refused: VecDeque<Timestamp>,
    /// The last claim under which it was asked for: nobody else has touched the account since.
    claim: Option<Claim>,
}

impl Account {
    /// Nobody else can have made a login since it was asked for the last time.
    fn is_followed_by(&self, claim: Option<Claim>) -> bool {
        let (Some((before, last)), Some((run, epoch))) = (self.claim, claim) else {
            return false;
        };
        before == run && epoch.saturating_sub(last) <= 1
    }
}

/// Accounts that are remembered without being gone through.
const MANY: usize = 4096;
/// Refusals remembered for one account.
pub(super) const REMEMBERED: usize = 1024;

impl RefusalBudget {
    pub(super) fn begun_at(begun_at: Timestamp, has_others: bool) -> Self {
        Self(Mutex::new(Known {
            begun_at,
            has_others,
            accounts: HashMap::new(),
            many: 0,
        }))
    }

    /// The time that a window reaches back to from before what this process knows by itself, and the instant from which on it does, when
    /// nobody has learnt yet what the account of that system saw in between.
    pub(super) fn unknown(
        &self,
        (system, principal): (&str, &str),
        claim: Option<Claim>,
        allowances: &[Allowance],
        now: Timestamp,
    ) -> Option<(Timestamp, Timestamp)> {
        let longest = allowances.iter().map(|one| one.per).max()?;
        let since = now.saturating_sub(longest).unwrap_or(Timestamp::MIN);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (begun_at, has_others) = (all.begun_at, all.has_others);
        let account = all.accounts.get_mut(&(system.to_owned(), principal.to_owned()));
        if !has_others {
            return (since < begun_at && account.is_none()).then_some((since, begun_at));
        }
        match account {
            Some(known) if known.is_followed_by(claim) => {
                known.claim = claim;
                None
            }
            _ => Some((since, now)),
        }
    }

    /// What the log tells of the time before. From here on, this is what is known of the account. This process may remember a login whose
    /// record was lost with its lease: both lists tell of the same ones in part, and the longer one is the safer answer.
    pub(super) fn learn(&self, (system, principal): (&str, &str), claim: Option<Claim>, recorded: &[Timestamp]) {
        let mut recorded = recorded.to_vec();
        recorded.sort_unstable();
        let surplus = recorded.len().saturating_sub(REMEMBERED);
        let recorded: VecDeque<_> = recorded.into_iter().skip(surplus).collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let account = all
            .accounts
            .entry((system.to_owned(), principal.to_owned()))
            .or_default();
        account.claim = claim;
        let first = recorded.front().copied().unwrap_or(Timestamp::MAX);
        if account.refused.iter().filter(|at| **at >= first).count() < recorded.len() {
            account.refused = recorded;
        }
    }

    /// `recorded`: instants of refused logins that the run's own log holds.
    pub(super) fn room(
        &self,
        system: &str,
        principal: &str,
        allowances: &[Allowance],
        recorded: &[Timestamp],
        now: Timestamp,
    ) -> Room {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<Timestamp> = all
            .accounts
            .get(&(system.to_owned(), principal.to_owned()))
            .map(|known| known.refused.iter().copied().collect())
            .unwrap_or_default();
        drop(all);
        let mut room = Room {
            refused: u32::MAX,
            more_at: None,
            most: most(allowances),
        };
        for allowance in allowances {
            let since = now.saturating_sub(allowance.per).unwrap_or(Timestamp::MIN);
            let inside = |all: &[Timestamp]| -> Vec<Timestamp> {
                let mut inside: Vec<_> = all.iter().copied().filter(|at| *at > since).collect();
                inside.sort_unstable();
                inside
            };
            // Both lists tell of the same logins in part; the longer one is the safer answer.
            let (here, logged) = (inside(&known), inside(recorded));
            let spent = if logged.len() > here.len() { logged } else { here };
            let left = allowance
                .refused
                .saturating_sub(u32::try_from(spent.len()).unwrap_or(u32::MAX));
            room.refused = room.refused.min(left);
            if let Some(first) = spent.first() {
                let frees_at = first.saturating_add(allowance.per).unwrap_or(Timestamp::MAX);
                room.more_at = Some(room.more_at.map_or(frees_at, |at| at.max(frees_at)));
            }
        }
        room
    }

    pub(super) fn spend(&self, system: &str, principal: &str, refused: usize, now: Timestamp) {
        if refused == 0 {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.accounts.len() > all.many.max(MANY) {
            let recent = now
                .saturating_sub(SignedDuration::from_hours(24))
                .unwrap_or(Timestamp::MIN);
            all.accounts
                .retain(|_, known| known.refused.back().is_some_and(|last| *last > recent));
            all.many = all.accounts.len().saturating_mul(2);
        }
        let account = (system.to_owned(), principal.to_owned());
        let known = &mut all.accounts.entry(account).or_default().refused;
        known.extend(std::iter::repeat_n(now, refused));
        let surplus = known.len().saturating_sub(REMEMBERED);
        known.drain(..surplus);
    }
}

#[cfg(test)]
impl RefusalBudget {
    /// As a restart does, with a log of which nothing can be learnt.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap().accounts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowance, RefusalBudget};
    use crate::domain::ids::RunId;
    use jiff::{SignedDuration, Timestamp};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn refusals_leave_the_window_one_after_the_other() {
        let budget = RefusalBudget::begun_at(Timestamp::MIN, false);
        let allowances = [Allowance {
            refused: 4,
            per: SignedDuration::from_secs(60),
        }];
        let room = |now| budget.room("s", "p", &allowances, &[], at(now)).refused;
        assert_eq!(room(0), 4);
        budget.spend("s", "p", 2, at(0));
        budget.spend("s", "p", 2, at(30));
        assert_eq!(room(31), 0);
        assert_eq!(room(60), 2);
        assert_eq!(room(90), 4);
        assert_eq!(budget.room("s", "p", &allowances, &[], at(31)).more_at, Some(at(60)));
        assert_eq!(budget.room("s", "other", &allowances, &[], at(31)).refused, 4);
    }

    #[test]
    fn accounts_without_a_recent_refusal_are_forgotten_and_the_others_stay() {
        let budget = RefusalBudget::begun_at(Timestamp::MIN, false);
        let day = 24 * 3600;
        for number in 0..=super::MANY {
            budget.spend("s", &format!("old-{number}"), 2, at(0));
        }
        budget.spend("s", "recent", 2, at(day));
        budget.spend("s", "now", 2, at(day + 60));
        let mut known: Vec<_> = budget.0.lock().unwrap().accounts.keys().cloned().collect();
        known.sort();
        assert_eq!(
            known,
            [
                ("s".to_owned(), "now".to_owned()),
                ("s".to_owned(), "recent".to_owned())
            ]
        );
    }

    #[test]
    fn beside_other_nodes_an_account_is_learnt_of_with_each_claim_that_follows_on_none_of_ours() {
        let budget = RefusalBudget::begun_at(Timestamp::MIN, true);
        let allowances = [Allowance {
            refused: 4,
            per: SignedDuration::from_secs(60),
        }];
        let run = |id| RunId::from_uuid(uuid::Uuid::from_u128(id));
        let asks = |claim, now| budget.unknown(("s", "p"), claim, &allowances, at(now)).is_some();
        let room = |now| budget.room("s", "p", &allowances, &[], at(now)).refused;
        assert!(asks(Some((run(1), 1)), 100));
        budget.learn(("s", "p"), Some((run(1), 1)), &[at(90)]);
        budget.spend("s", "p", 1, at(100));
        assert_eq!(room(100), 2);
        // Under the same claim, and under the next one: nobody else had the run in between.
        assert!(!asks(Some((run(1), 1)), 101) && !asks(Some((run(1), 2)), 102));
        // Another node had it, and another run is whoever's.
        assert!(asks(Some((run(1), 4)), 103) && asks(Some((run(2), 3)), 104) && asks(None, 104));
        budget.learn(("s", "p"), Some((run(1), 4)), &[at(90), at(100), at(102)]);
        assert_eq!(room(104), 1);
        // A log that knows less than this process takes nothing back.
        budget.learn(("s", "p"), Some((run(1), 6)), &[at(102)]);
        assert_eq!(room(104), 1);
    }

    #[test]
    fn what_the_log_tells_counts_where_memory_has_forgotten() {
        let budget = RefusalBudget::begun_at(Timestamp::MIN, false);
        let allowances = [Allowance {
            refused: 4,
            per: SignedDuration::from_secs(60),
        }];
        let recorded = [at(10), at(10), at(11)];
        assert_eq!(budget.room("s", "p", &allowances, &recorded, at(20)).refused, 1);
    }
}
