//! How a credential of the demo provider begins and how it is tried: issue, observe, probe.

use std::time::Duration;

use keyfall_sdk::{
    BoxFuture, CallContext, ConnectorError, InconclusiveWhy, Issue, IssueCall, IssueClass, IssueObservation, Issued,
    KeyId, Placement, PrincipalRef, PrincipalState, PrincipalStatus, Probe, ProbeCall, ProbeReading, Result, Verdict,
};
use serde::Deserialize;

use super::account::{Account, Key, Login, hash_of};
use super::connector::{BAD_CREDENTIAL, DemoConnector, PRINCIPAL_DISABLED, PRINCIPAL_LOCKED};
use super::control::{absent, another};
use super::faults::{Fault, Faults, Operation};
use super::provider::{Provider, remember};

/// The identity's `access`, in this connector's words.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Access {
    /// What the account may do, one line each; any words will do.
    grants: Vec<String>,
    privileged: bool,
}

impl Access {
    fn parse(access: &serde_json::Value) -> std::result::Result<Self, String> {
        if access.is_null() {
            return Ok(Self::default());
        }
        let mut access = Self::deserialize(access)
            .map_err(|error| format!("{error}; a demo account takes `grants` (a list of words) and `privileged`"))?;
        access.grants.sort();
        access.grants.dedup();
        Ok(access)
    }
}

impl Issue for DemoConnector {
    fn check_access(&self, access: &serde_json::Value) -> Vec<String> {
        Access::parse(access).err().into_iter().collect()
    }

    fn lacking(&self, access: &serde_json::Value, state: &PrincipalState) -> Vec<String> {
        let wanted = Access::parse(access).map(|access| access.grants).unwrap_or_default();
        let missing = wanted.into_iter().filter(|grant| !state.grants.contains(grant));
        missing.map(|grant| format!("it may not {grant}")).collect()
    }

    fn issue<'a>(&'a self, _ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<Issued>> {
        let class = keyfall_sdk::Connector::descriptor(self).issue_class;
        self.call(Operation::Issue, &call.principal.name, move |provider| {
            let access = Access::parse(&call.access).map_err(ConnectorError::conflict)?;
            let faults = provider.faults();
            let now = provider.now();
            let mut shard = provider.shard(&call.principal.name);
            let namesakes = shard.entry(call.principal.name.clone()).or_default();
            if !namesakes.iter().any(Account::is_live) {
                if call.principal.immutable_id.is_some() {
                    return Err(absent(&call.principal));
                }
                remember(namesakes, provider.new_account(&call.principal.name, &call.marker, now));
            }
            let account = namesakes
                .iter_mut()
                .find(|account| account.is_live())
                .ok_or_else(|| absent(&call.principal))?;
            check_recorded(account, call)?;
            let key_id = put_key(provider, &faults, class, account, call, now)?;
            if account.status() == PrincipalStatus::Disabled {
                account.set_status(now, PrincipalStatus::Enabled);
            }
            account.grants = access.grants;
            account.privileged = access.privileged;
            Ok(issued(account, key_id, &call.principal))
        })
    }

    fn observe<'a>(&'a self, _ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<IssueObservation>> {
        let class = keyfall_sdk::Connector::descriptor(self).issue_class;
        self.call(Operation::Observe, &call.principal.name, move |provider| {
            if class == IssueClass::Once {
                let why = "this provider cannot say which secret an account holds; compare lists".to_owned();
                return Ok(IssueObservation::Unknown { why });
            }
            let at = provider.listed_as_of(&provider.faults());
            let hash = hash_of(&call.secret);
            let shard = provider.shard(&call.principal.name);
            let namesakes = shard.get(&call.principal.name).into_iter().flatten();
            let Some(account) = namesakes.into_iter().find(|account| account.existed_at(at)) else {
                return Ok(IssueObservation::NotApplied);
            };
            if check_recorded(account, call).is_err() {
                return Ok(IssueObservation::NotApplied);
            }
            let listed = account.state_at(at).key_ids;
            let key = account
                .keys
                .iter()
                .find(|key| key.hash == hash && listed.contains(&key.id));
            Ok(key.map_or(IssueObservation::NotApplied, |key| {
                IssueObservation::Applied(issued(account, key.id.clone(), &call.principal))
            }))
        })
    }

    fn keeps_markers(&self) -> bool {
        self.keeps_markers
    }

    fn marked<'a>(
        &'a self,
        _ctx: &'a CallContext,
        principal: &'a PrincipalRef,
        marker: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Issued>>> {
        self.call(Operation::Read, &principal.name, move |provider| {
            let at = provider.listed_as_of(&provider.faults());
            let shard = provider.shard(&principal.name);
            let accounts = shard.get(&principal.name).into_iter().flatten();
            let recorded = |id: &String| principal.immutable_id.as_ref().is_none_or(|recorded| recorded == id);
            let mut there = accounts.filter(|account| account.existed_at(at) && recorded(&account.immutable_id));
            let Some(account) = there.next() else {
                return Ok(Vec::new());
            };
            let listed = account.state_at(at).key_ids;
            let marked = |key: &&Key| key.marker == marker && listed.contains(&key.id);
            let keys = account.keys.iter().filter(marked);
            Ok(keys.map(|key| issued(account, key.id.clone(), principal)).collect())
        })
    }
}

fn check_recorded(account: &Account, call: &IssueCall) -> Result<()> {
    let ours = match &call.principal.immutable_id {
        Some(id) => *id == account.immutable_id,
        None => !call.marker.is_empty() && account.marker == call.marker,
    };
    if ours {
        Ok(())
    } else {
        Err(another(&call.principal, &account.immutable_id))
    }
}

fn put_key(
    provider: &Provider,
    faults: &Faults,
    class: IssueClass,
    account: &mut Account,
    call: &IssueCall,
    now: u64,
) -> Result<KeyId> {
    let hash = hash_of(&call.secret);
    if class == IssueClass::Repeatable
        && let Some(key) = account.live_keys().find(|key| key.hash == hash)
    {
        return Ok(key.id.clone());
    }
    let strange = |key: &&Key| key.hash != hash && !call.replaces.contains(&key.id);
    match call.placement {
        Placement::Replace if account.live_keys().any(|key| strange(&key)) => {
            return Err(ConnectorError::conflict(format!(
                "{} at the demo provider holds a key that was not recorded; nothing was changed",
                call.principal.name
            )));
        }
        Placement::Replace => account.remove_all_keys(now, provider.honoured_until(faults)),
        Placement::Alongside if account.live_keys().count() >= faults.slots => {
            return Err(ConnectorError::conflict(format!(
                "all {} slots of {} at the demo provider are taken; revoke a recorded key first",
                faults.slots, call.principal.name
            ))
            .with_code("slots_full"));
        }
        Placement::Alongside => {}
    }
    let kept = if faults.issue_lies { [0; 32] } else { hash };
    let key = provider.new_key(kept, &call.marker, now);
    let id = key.id.clone();
    account.keys.push(key);
    Ok(id)
}

fn issued(account: &Account, key_id: KeyId, asked: &PrincipalRef) -> Issued {
    Issued {
        principal: PrincipalRef {
            name: account.name.clone(),
            immutable_id: Some(account.immutable_id.clone()),
        },
        key_id,
        created_principal: asked.immutable_id.is_none(),
    }
}

impl Probe for DemoConnector {
    fn probe<'a>(&'a self, _ctx: &'a CallContext, call: &'a ProbeCall) -> BoxFuture<'a, ProbeReading> {
        Box::pin(async move {
            let provider = &*self.provider;
            let endpoint = format!("demo://{}/{}", provider.name, call.vantage);
            let reading = |verdict| ProbeReading { verdict, endpoint };
            if !self.vantages.contains(&call.vantage) {
                let why = format!("this system has no vantage called {}", call.vantage);
                return reading(Verdict::Untestable { why });
            }
            let faults = provider.faults();
            let name = &call.principal.name;
            let (number, fault) = provider.arrive(&faults, Operation::Probe, name, Some(&call.vantage));
            if let Some(latency) = faults.latency(Operation::Probe) {
                tokio::time::sleep(latency).await;
            }
            let failed = match fault {
                Some(fault) => failed_probe(fault).await,
                None => None,
            };
            if let Some(verdict) = failed {
                return reading(verdict);
            }
            let login = match self.login(call, &faults, number).await {
                Ok(login) => login,
                Err(error) => return reading(inconclusive(InconclusiveWhy::ServerFault, error.message())),
            };
            reading(match login {
                Login::Accepted(_) => Verdict::Accepted {
                    principal: name.clone(),
                },
                Login::BadCredential => Verdict::Refused {
                    code: BAD_CREDENTIAL.to_owned(),
                },
                Login::Principal(PrincipalStatus::Locked) => inconclusive(InconclusiveWhy::Principal, PRINCIPAL_LOCKED),
                Login::Principal(_) => inconclusive(InconclusiveWhy::Principal, PRINCIPAL_DISABLED),
            })
        })
    }
}

impl DemoConnector {
    /// A login as an account sees it. A refused one is a change where refusals are counted.
    async fn login(&self, call: &ProbeCall, faults: &Faults, number: u64) -> Result<Login> {
        let name = &call.principal.name;
        let turn = self.provider.turn(name).await?;
        let login = self.provider.login(name, &hash_of(&call.secret), &call.vantage, number);
        if let Some(turn) = turn.filter(|_| faults.lockout.is_some() && login == Login::BadCredential) {
            self.provider.keep(&turn, name)?;
        }
        Ok(login)
    }
}

fn inconclusive(why: InconclusiveWhy, detail: &str) -> Verdict {
    Verdict::Inconclusive {
        why,
        detail: detail.to_owned(),
    }
}

/// `None`: late, and nothing worse.
async fn failed_probe(fault: Fault) -> Option<Verdict> {
    Some(match fault {
        Fault::Transient => inconclusive(
            InconclusiveWhy::Unreachable,
            "the demo provider did not answer the connection",
        ),
        Fault::RateLimited(_) => inconclusive(InconclusiveWhy::RateLimited, "the demo provider asks for a pause"),
        Fault::Denied => inconclusive(InconclusiveWhy::Policy, "the demo provider refuses this place"),
        Fault::NotFound => inconclusive(
            InconclusiveWhy::Protocol,
            "the demo provider says that there is no such thing",
        ),
        Fault::LostReply => inconclusive(InconclusiveWhy::Timeout, "the answer of the demo provider was lost"),
        Fault::Garbage | Fault::FalseRefusal => inconclusive(
            InconclusiveWhy::Protocol,
            "the demo provider answered what cannot be read",
        ),
        Fault::Hang => std::future::pending().await,
        Fault::LateReply(by_ms) => {
            tokio::time::sleep(Duration::from_millis(by_ms)).await;
            return None;
        }
    })
}
