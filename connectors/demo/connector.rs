//! The demo kind and its connector: the descriptor, and the one place through which every call passes, so that each of
//! them is counted, delayed and broken in the same way.

use std::sync::Arc;
use std::time::Duration;

use keyfall_sdk::{
    AdminCredential, BoxFuture, ConfigProblem, Connector, ConnectorError, ConnectorKind, Descriptor, ErrorKind,
    IssueClass, Lockout, RefusalCode, Result, SecretShape, ServerGrants, SettlingWindow, Strategy, SystemSpec,
    VantageRole,
};

use super::faults::{Fault, Operation};
use super::options::{Options, vantage_names};
use super::provider::{Provider, provider};

const DUAL_SLOT_FIRST: &[Strategy] = &[Strategy::DualSlot, Strategy::AlternatingAccounts, Strategy::InPlace];
const ALTERNATING_FIRST: &[Strategy] = &[Strategy::AlternatingAccounts, Strategy::DualSlot, Strategy::InPlace];
const IN_PLACE_FIRST: &[Strategy] = &[Strategy::InPlace, Strategy::DualSlot, Strategy::AlternatingAccounts];

pub(super) const BAD_CREDENTIAL: &str = "bad_credential";
pub(super) const PRINCIPAL_DISABLED: &str = "principal_disabled";
pub(super) const PRINCIPAL_LOCKED: &str = "principal_locked";

const ANSWERS: &[RefusalCode] = &[
    RefusalCode {
        code: BAD_CREDENTIAL,
        refuses_credential: true,
        meaning: "no such account, or not a secret of this account",
    },
    RefusalCode {
        code: PRINCIPAL_DISABLED,
        refuses_credential: false,
        meaning: "the account is disabled, whatever the secret",
    },
    RefusalCode {
        code: PRINCIPAL_LOCKED,
        refuses_credential: false,
        meaning: "the account is locked, whatever the secret",
    },
];

const DESCRIPTOR: Descriptor = Descriptor {
    kind: "demo",
    about: "An in-memory provider that waits, lies and fails on request.",
    strategies: DUAL_SLOT_FIRST,
    issue_class: IssueClass::CheckFirst,
    secret_shape: SecretShape::STRONG,
    settling: SettlingWindow {
        documented: Duration::ZERO,
        source: "in memory: a change holds at once, unless options.settlingMs claims a window",
    },
    lockout: None,
    sessions_survive: true,
    answers: ANSWERS,
};

/// Makes connectors to demo providers.
#[derive(Debug, Default)]
pub struct DemoKind;

/// One system on a demo provider.
pub(super) struct DemoConnector {
    descriptor: Descriptor,
    pub(super) provider: Arc<Provider>,
    pub(super) vantages: Vec<String>,
    /// The vantage whose control plane takes the changes.
    pub(super) control: String,
    pub(super) keeps_markers: bool,
}

impl ConnectorKind for DemoKind {
    fn descriptor(&self) -> &Descriptor {
        &DESCRIPTOR
    }

    fn check(&self, spec: &SystemSpec, grants: &ServerGrants) -> Vec<ConfigProblem> {
        match Options::parse(&spec.options) {
            Ok(options) => options.problems(spec, grants),
            Err(problem) => vec![problem],
        }
    }

    /// A demo provider has no administrators: the credential is not looked at.
    fn connect(
        &self,
        spec: &SystemSpec,
        _admin: Option<AdminCredential>,
        grants: &ServerGrants,
    ) -> Result<Arc<dyn Connector>> {
        if let Some(problem) = self.check(spec, grants).into_iter().next() {
            return Err(problem.refused(&DESCRIPTOR));
        }
        let options = Options::parse(&spec.options).map_err(|problem| problem.refused(&DESCRIPTOR))?;
        let provider = provider(&options.provider);
        if let Some(path) = options.state_folder(grants).map_err(ConnectorError::conflict)? {
            provider.keep_in(path)?;
        }
        let mut descriptor = DESCRIPTOR;
        descriptor.strategies = match options.strategy {
            Strategy::DualSlot => DUAL_SLOT_FIRST,
            Strategy::AlternatingAccounts => ALTERNATING_FIRST,
            Strategy::InPlace => IN_PLACE_FIRST,
        };
        descriptor.issue_class = options.issue_class;
        descriptor.settling.documented = Duration::from_millis(options.settling_ms);
        if let Some(faults) = &options.faults {
            descriptor.lockout = faults.lockout.map(|lockout| Lockout {
                failures: lockout.failures,
                window: Duration::from_millis(lockout.window_ms),
            });
            provider.configure(faults);
        }
        let vantages = vantage_names(spec);
        let control = spec
            .vantages
            .iter()
            .find(|vantage| vantage.role == VantageRole::Control);
        let control = control
            .map(|vantage| vantage.name.clone())
            .or_else(|| vantages.first().cloned());
        Ok(Arc::new(DemoConnector {
            descriptor,
            provider,
            vantages,
            control: control.unwrap_or_default(),
            keeps_markers: options.keeps_markers,
        }))
    }
}

impl Connector for DemoConnector {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    keyfall_sdk::abilities!(
        inventory: Inventory,
        issue: Issue,
        suspend: Suspend,
        entitle: Entitle,
        revoke: Revoke,
        sessions: Sessions,
        probe: Probe,
    );
}

impl DemoConnector {
    /// One call: it arrives, it takes its time, it fails as it is told to, and otherwise has its effect.
    pub(super) fn call<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        principal: &'a str,
        effect: impl FnOnce(&Provider) -> Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(async move {
            let provider = &*self.provider;
            let faults = provider.faults();
            let (_, fault) = provider.arrive(&faults, operation, principal, None);
            if let Some(latency) = faults.latency(operation) {
                tokio::time::sleep(latency).await;
            }
            let after = before_effect(fault)?;
            let turn = provider.turn(principal).await?;
            let answer = effect(provider);
            if let Some(turn) = turn.filter(|_| operation.changes_downstream()) {
                provider.keep(&turn, principal)?;
            }
            match after {
                None => answer,
                Some(AfterEffect::Answer(error)) => Err(error),
                Some(AfterEffect::Silence) => std::future::pending().await,
                Some(AfterEffect::Late(by)) => {
                    tokio::time::sleep(by).await;
                    answer
                }
            }
        })
    }
}

/// What becomes of a reply whose call had its effect.
pub(super) enum AfterEffect {
    Answer(ConnectorError),
    Silence,
    Late(Duration),
}

/// Fails a call that is to have no effect; otherwise says what becomes of its reply.
pub(super) fn before_effect(fault: Option<Fault>) -> Result<Option<AfterEffect>> {
    let Some(fault) = fault else { return Ok(None) };
    match fault {
        Fault::Transient => Err(ConnectorError::transient(
            "the demo provider did not answer the connection; nothing was changed, try again",
        )
        .with_code("unavailable")),
        Fault::RateLimited(after_ms) => Err(ConnectorError::new(
            ErrorKind::RateLimited { after_ms },
            "the demo provider asks for a pause; nothing was changed",
        )
        .with_code("slow_down")),
        Fault::Denied => Err(ConnectorError::new(
            ErrorKind::Denied,
            "the demo provider refuses our own access; take the fault `denied` out of options.faults",
        )
        .with_code("denied")),
        Fault::NotFound => Err(ConnectorError::new(
            ErrorKind::NotFound,
            "the demo provider says that there is no such thing",
        )
        .with_code("not_found")),
        Fault::LostReply => Ok(Some(AfterEffect::Answer(ConnectorError::ambiguous(
            "the demo provider took the call and its reply was lost; observe before repeating",
        )))),
        Fault::Garbage => Ok(Some(AfterEffect::Answer(ConnectorError::protocol(
            "the demo provider answered what cannot be read; observe before repeating",
        )))),
        Fault::FalseRefusal => Ok(Some(AfterEffect::Answer(ConnectorError::conflict(
            "the demo provider refuses what it has done already",
        )))),
        Fault::Hang => Ok(Some(AfterEffect::Silence)),
        Fault::LateReply(by_ms) => Ok(Some(AfterEffect::Late(Duration::from_millis(by_ms)))),
    }
}
