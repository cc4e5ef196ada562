//! How a login ends at one vantage of a demo provider: who sees what when, and what is counted against a principal. It changes nothing
//! else of the truth, and knows no call of the contract.

use keyfall_sdk::PrincipalStatus;

use super::account::{Account, Login, Look};
use super::faults::Faults;
use super::provider::{Provider, held};

impl Provider {
    /// How a login ends at one vantage. `probe_number` decides which node a flapping vantage answers from.
    pub(super) fn login(&self, name: &str, hash: &[u8; 32], vantage: &str, probe_number: u64) -> Login {
        let faults = self.faults();
        let look = self.look(&faults, vantage, probe_number);
        let mut shard = self.shard(name);
        let Some(namesakes) = shard.get_mut(name) else {
            return Login::BadCredential;
        };
        let answers = namesakes.iter().map(|account| account.login(hash, look));
        // Of namesakes, at most one exists at any instant; the others can only answer with a key that is honoured as a lie.
        let answer = answers
            .max_by_key(|answer| match answer {
                Login::Accepted(_) => 2,
                Login::Principal(_) => 1,
                Login::BadCredential => 0,
            })
            .unwrap_or(Login::BadCredential);
        let locked = faults.locked_principals.iter().any(|locked| locked == name);
        let answer = if locked {
            Login::Principal(PrincipalStatus::Locked)
        } else {
            answer
        };
        match answer {
            Login::Principal(_) if faults.disabled_looks_refused => Login::BadCredential,
            Login::BadCredential => {
                count_failure(&faults, namesakes, look.now);
                Login::BadCredential
            }
            other => other,
        }
    }

    fn look(&self, faults: &Faults, vantage: &str, probe_number: u64) -> Look {
        let now = self.now();
        let Some(faulty) = faults.vantages.get(vantage) else {
            return Look { as_of: now, now };
        };
        let flapping = faulty
            .flapping
            .filter(|flapping| flapping.every > 0 && probe_number.is_multiple_of(flapping.every));
        let lag_ms = flapping.map_or(faulty.lag_ms, |flapping| flapping.lag_ms.max(faulty.lag_ms));
        let late = now.saturating_sub(lag_ms.saturating_mul(1000));
        let frozen = if faulty.stops_learning {
            held(&self.frozen).get(vantage).copied()
        } else {
            None
        };
        Look {
            as_of: frozen.map_or(late, |frozen| late.min(frozen)),
            now,
        }
    }
}

fn count_failure(faults: &Faults, namesakes: &mut [Account], now: u64) {
    let Some(lockout) = faults.lockout else { return };
    let Some(account) = namesakes.iter_mut().find(|account| account.is_live()) else {
        return;
    };
    let since = now.saturating_sub(lockout.window_ms.saturating_mul(1000));
    account.failures.retain(|at| *at >= since);
    account.failures.push(now);
    if account.failures.len() >= usize::try_from(lockout.failures).unwrap_or(usize::MAX) {
        account.failures.clear();
        account.set_status(now, PrincipalStatus::Locked);
    }
}
