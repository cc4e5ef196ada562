//! The control plane of the demo provider: reading accounts, disabling them, taking their rights, their keys, their
//! sessions and themselves away. What makes and tries a credential is in `life.rs`.

use keyfall_sdk::principal::PlaceReading;
use keyfall_sdk::{
    BoxFuture, CallContext, ConnectorError, EndSessionsCall, Entitle, Inventory, PrincipalReading, PrincipalRef,
    PrincipalState, PrincipalStatus, Result, Revoke, RevokeCall, Revoked, Sessions, SessionsEnded, Suspend,
};

use super::account::Account;
use super::connector::DemoConnector;
use super::faults::Operation;
use super::provider::Provider;

impl Inventory for DemoConnector {
    fn list<'a>(&'a self, _ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<PrincipalState>>> {
        self.call(Operation::List, "", |provider| {
            let at = provider.listed_as_of(&provider.faults());
            let mut states = Vec::new();
            for shard in provider.each_shard() {
                let accounts = shard.values().flatten().filter(|account| account.existed_at(at));
                states.extend(accounts.map(|account| account.state_at(at)));
            }
            states.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(states)
        })
    }

    fn read<'a>(
        &'a self,
        _ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<PrincipalReading>> {
        self.call(Operation::Read, &principal.name, |provider| {
            let at = provider.listed_as_of(&provider.faults());
            let shard = provider.shard(&principal.name);
            let account = shard
                .get(&principal.name)
                .into_iter()
                .flatten()
                .find(|account| account.existed_at(at));
            Ok(PrincipalReading {
                places: vec![PlaceReading {
                    vantage: self.control.clone(),
                    state: account.map(|account| account.state_at(at)),
                }],
            })
        })
    }

    fn preflight<'a>(&'a self, _ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<String>>> {
        self.call(Operation::Preflight, "", |_| Ok(Vec::new()))
    }
}

impl Suspend for DemoConnector {
    fn suspend<'a>(&'a self, _ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>> {
        self.call(Operation::Suspend, &principal.name, |provider| {
            set_status(provider, principal, PrincipalStatus::Disabled)
        })
    }

    fn resume<'a>(&'a self, _ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>> {
        self.call(Operation::Resume, &principal.name, |provider| {
            set_status(provider, principal, PrincipalStatus::Enabled)
        })
    }
}

impl Entitle for DemoConnector {
    fn strip<'a>(&'a self, _ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<Vec<String>>> {
        self.call(Operation::Strip, &principal.name, |provider| {
            with_recorded(provider, principal, |account| std::mem::take(&mut account.grants))
                .map(Option::unwrap_or_default)
        })
    }
}

impl Revoke for DemoConnector {
    fn revoke<'a>(&'a self, _ctx: &'a CallContext, call: &'a RevokeCall) -> BoxFuture<'a, Result<Revoked>> {
        self.call(Operation::Revoke, &call.principal.name, |provider| {
            let now = provider.now();
            let honoured_until = provider.honoured_until(&provider.faults());
            let removed = with_recorded(provider, &call.principal, |account| {
                account.remove_key(&call.key_id, now, honoured_until)
            })?;
            Ok(match removed {
                Some(true) => Revoked::Revoked,
                Some(false) | None => Revoked::AlreadyGone,
            })
        })
    }

    fn delete_principal<'a>(
        &'a self,
        _ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<Revoked>> {
        self.call(Operation::Delete, &principal.name, |provider| {
            let now = provider.now();
            let honoured_until = provider.honoured_until(&provider.faults());
            let deleted = with_recorded(provider, principal, |account| account.delete(now, honoured_until))?;
            Ok(deleted.map_or(Revoked::AlreadyGone, |()| Revoked::Revoked))
        })
    }
}

impl Sessions for DemoConnector {
    fn count<'a>(&'a self, _ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<u32>> {
        self.call(Operation::CountSessions, &principal.name, |provider| {
            let open = provider.with_account(&principal.name, |account| account.sessions.len());
            Ok(open.map_or(0, count))
        })
    }

    fn end<'a>(&'a self, _ctx: &'a CallContext, call: &'a EndSessionsCall) -> BoxFuture<'a, Result<SessionsEnded>> {
        self.call(Operation::EndSessions, &call.principal.name, |provider| {
            let now = provider.now();
            let spared = call
                .spare_younger_than
                .map(|age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
            let sticky = provider.faults().sticky_sessions;
            let ended = with_recorded(provider, &call.principal, |account| {
                let spare = |opened_at: u64| spared.is_some_and(|age| now.saturating_sub(opened_at) <= age);
                let doomed = account
                    .sessions
                    .iter()
                    .filter(|session| !spare(session.opened_at))
                    .count();
                if sticky {
                    return SessionsEnded {
                        ended: 0,
                        left: count(doomed),
                    };
                }
                account.sessions.retain(|session| spare(session.opened_at));
                SessionsEnded {
                    ended: count(doomed),
                    left: 0,
                }
            })?;
            Ok(ended.unwrap_or(SessionsEnded { ended: 0, left: 0 }))
        })
    }
}

fn count(sessions: usize) -> u32 {
    u32::try_from(sessions).unwrap_or(u32::MAX)
}

fn set_status(provider: &Provider, principal: &PrincipalRef, status: PrincipalStatus) -> Result<()> {
    let now = provider.now();
    with_recorded(provider, principal, |account| account.set_status(now, status))?.ok_or_else(|| absent(principal))
}

pub(super) fn absent(principal: &PrincipalRef) -> ConnectorError {
    ConnectorError::not_found(format!(
        "the demo provider has no account {}; read the system again and plan anew",
        principal.name
    ))
}

pub(super) fn another(principal: &PrincipalRef, found: &str) -> ConnectorError {
    ConnectorError::conflict(format!(
        "the account {} at the demo provider is {found}, not the one that was recorded ({}); nothing was changed",
        principal.name,
        principal.immutable_id.as_deref().unwrap_or("none")
    ))
}

/// Acts on the account that was recorded. `None` where no account has the name; another one of the name is a conflict.
fn with_recorded<T>(
    provider: &Provider,
    principal: &PrincipalRef,
    act: impl FnOnce(&mut Account) -> T,
) -> Result<Option<T>> {
    let acted = provider.with_account(&principal.name, |account| {
        if principal.immutable_id.as_deref() != Some(account.immutable_id.as_str()) {
            return Err(another(principal, &account.immutable_id));
        }
        Ok(act(account))
    });
    acted.transpose()
}
