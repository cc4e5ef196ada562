//! The hand of the kit: makes calls, waits for what may settle, remembers what it made, and looks for secrets in whatever
//! comes back.

use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::report::{Judgement, Why};
use super::subject::Subject;
use crate::{
    CallContext, ConnectorError, Entitle, ErrorKind, Inventory, Issue, IssueCall, IssueObservation, Issued, KeyId,
    Placement, PrincipalReading, PrincipalRef, Probe, ProbeCall, ProbePurpose, Result, Revoke, RevokeCall, Revoked,
    SecretShape, SecretValue, Sessions, Strategy, Suspend, Verdict,
};

/// How often something that may settle is looked at.
const LOOKS: u32 = 20;

pub(super) struct Examiner<'a> {
    pub(super) subject: &'a Subject,
    secrets: Mutex<Secrets>,
    made: Mutex<Vec<PrincipalRef>>,
}

/// Secrets that were drawn, and where one of them came back.
pub(super) struct Secrets {
    shape: SecretShape,
    state: u64,
    drawn: Vec<SecretValue>,
    leaks: Vec<String>,
}

/// A credential that the kit made.
pub(super) struct Made {
    pub(super) call: IssueCall,
    pub(super) issued: Issued,
}

impl Made {
    pub(super) fn revocation(&self) -> RevokeCall {
        RevokeCall {
            principal: self.issued.principal.clone(),
            key_id: self.issued.key_id.clone(),
        }
    }
}

impl Secrets {
    pub(super) fn new(shape: SecretShape, seed: u64) -> Self {
        Self {
            shape,
            state: seed,
            drawn: Vec::new(),
            leaks: Vec::new(),
        }
    }

    /// Makes the secrets that follow differ from those of another seed.
    pub(super) fn mix(&mut self, seed: u64) {
        self.state = self.state.wrapping_add(seed.rotate_left(32));
    }

    /// A secret of the connector's shape. Not random enough to protect anything.
    pub(super) fn draw(&mut self) -> SecretValue {
        let alphabet = self.shape.alphabet.as_bytes();
        let mut bytes = Vec::with_capacity(self.shape.length);
        for _ in 0..self.shape.length {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut bits = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bits ^= bits >> 31;
            let index = usize::try_from(bits % (alphabet.len().max(1) as u64)).unwrap_or(0);
            bytes.push(alphabet.get(index).copied().unwrap_or(b'x'));
        }
        let secret = SecretValue::new(bytes);
        self.drawn.push(secret.clone());
        secret
    }

    /// Looks for every drawn secret in an answer, as `{:?}` and `{}` print it.
    pub(super) fn look<T: Debug>(&mut self, call: &str, answer: &Result<T>) {
        let mut text = format!("{answer:?}");
        if let Err(error) = answer {
            text.push_str(&format!(" {error}"));
        }
        let leaked = |secret: &SecretValue| secret.expose_secret_str().is_some_and(|secret| text.contains(secret));
        if self.drawn.iter().any(leaked) {
            self.leaks.push(format!("the answer of `{call}` holds a secret"));
        }
    }

    pub(super) fn none(&self) -> Judgement {
        if self.leaks.is_empty() {
            Ok(())
        } else {
            Err(Why::Broken(self.leaks.join("; ")))
        }
    }
}

impl<'a> Examiner<'a> {
    pub(super) fn new(subject: &'a Subject) -> Self {
        let shape = subject.connector.descriptor().secret_shape;
        Self {
            subject,
            secrets: Mutex::new(Secrets::new(shape, subject.seed)),
            made: Mutex::default(),
        }
    }

    pub(super) fn no_leak(&self) -> Judgement {
        held(&self.secrets).none()
    }

    pub(super) fn secret(&self) -> SecretValue {
        held(&self.secrets).draw()
    }

    /// Passes an answer on after looking for secrets in it.
    pub(super) fn seen<T: Debug>(&self, call: &str, answer: Result<T>) -> Result<T> {
        held(&self.secrets).look(call, &answer);
        answer
    }

    pub(super) fn principal(&self, suffix: &str) -> PrincipalRef {
        PrincipalRef {
            name: format!("{}{suffix}", self.subject.principal_prefix),
            immutable_id: None,
        }
    }

    /// How the connector's default strategy places a secret.
    pub(super) fn placement(&self) -> Placement {
        match self.subject.connector.descriptor().strategies.first() {
            Some(Strategy::DualSlot) => Placement::Alongside,
            _ => Placement::Replace,
        }
    }

    pub(super) fn issue_call(&self, principal: PrincipalRef, placement: Placement, marker: &str) -> IssueCall {
        IssueCall {
            principal,
            secret: self.secret(),
            placement,
            replaces: Vec::new(),
            marker: format!("keyfall-testkit {marker}"),
            access: self.subject.access.clone(),
        }
    }

    /// An account of this suffix with one new credential.
    pub(super) async fn make(&self, suffix: &str) -> Judgement<Made> {
        self.make_on(self.principal(suffix), self.placement(), suffix).await
    }

    pub(super) async fn make_on(&self, principal: PrincipalRef, placement: Placement, marker: &str) -> Judgement<Made> {
        self.made(self.issue_call(principal, placement, marker)).await
    }

    pub(super) async fn made(&self, call: IssueCall) -> Judgement<Made> {
        let issued = self.issue(&call).await.map_err(|error| failed("issue", &error))?;
        if issued.principal.name != call.principal.name || issued.principal.immutable_id.is_none() {
            return Err(Why::Broken(format!(
                "issue answers the account {:?}, it was asked for {}",
                issued.principal, call.principal.name
            )));
        }
        Ok(Made { call, issued })
    }

    pub(super) async fn issue(&self, call: &IssueCall) -> Result<Issued> {
        let issue = self.subject.connector.issue().ok_or_else(lacking)?;
        let answer = self.seen("issue", issue.issue(&context("issue"), call).await);
        if let Ok(issued) = &answer {
            self.remember(&issued.principal);
        }
        answer
    }

    pub(super) async fn observe(&self, call: &IssueCall) -> Judgement<IssueObservation> {
        let issue = self.issuer()?;
        let answer = self.seen("observe", issue.observe(&context("observe"), call).await);
        answer.map_err(|error| failed("observe", &error))
    }

    pub(super) async fn read(&self, principal: &PrincipalRef) -> Judgement<PrincipalReading> {
        let inventory = self.inventory()?;
        let answer = self.seen("read", inventory.read(&context("read"), principal).await);
        answer.map_err(|error| failed("read", &error))
    }

    pub(super) async fn revoke(&self, call: &RevokeCall) -> Result<Revoked> {
        let revoke = self.subject.connector.revoke().ok_or_else(lacking)?;
        self.seen("revoke", revoke.revoke(&context("revoke"), call).await)
    }

    pub(super) async fn delete(&self, principal: &PrincipalRef) -> Result<Revoked> {
        let revoke = self.subject.connector.revoke().ok_or_else(lacking)?;
        self.seen(
            "delete_principal",
            revoke.delete_principal(&context("delete"), principal).await,
        )
    }

    pub(super) async fn verdict(
        &self,
        name: &str,
        secret: &SecretValue,
        vantage: &str,
        purpose: ProbePurpose,
    ) -> Judgement<Verdict> {
        let call = ProbeCall {
            principal: PrincipalRef {
                name: name.to_owned(),
                immutable_id: None,
            },
            secret: secret.clone(),
            vantage: vantage.to_owned(),
            purpose,
        };
        let reading = self.prober()?.probe(&context("probe"), &call).await;
        held(&self.secrets).look("probe", &Ok(&reading));
        Ok(reading.verdict)
    }

    /// Every vantage lets this secret in as this account, within the time that the system may take.
    pub(super) async fn accepted_everywhere(&self, name: &str, secret: &SecretValue) -> Judgement {
        for vantage in &self.subject.vantages {
            self.eventually(LOOKS, async || {
                match self.verdict(name, secret, vantage, ProbePurpose::ProveNew).await? {
                    Verdict::Accepted { principal } if principal == name => Ok(()),
                    other => Err(Why::Broken(format!(
                        "{name} should be accepted at {vantage}, got {other:?}"
                    ))),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Every vantage refuses this secret with an answer that the table lists as a refusal of the credential.
    pub(super) async fn refused_everywhere(&self, name: &str, secret: &SecretValue) -> Judgement {
        let descriptor = self.subject.connector.descriptor();
        let spent = u32::try_from(self.subject.vantages.len()).unwrap_or(LOOKS).max(1) * 2;
        let looks = descriptor
            .lockout
            .map_or(LOOKS, |lockout| (lockout.failures / spent).clamp(1, LOOKS));
        for vantage in &self.subject.vantages {
            self.eventually(looks, async || {
                match self.verdict(name, secret, vantage, ProbePurpose::OldCredential).await? {
                    Verdict::Refused { code } => {
                        let listed = descriptor.answers.iter().find(|answer| answer.code == code);
                        match listed {
                            Some(answer) if answer.refuses_credential => Ok(()),
                            _ => Err(Why::Broken(format!(
                                "{vantage} refuses with {code}, which no table lists as that"
                            ))),
                        }
                    }
                    other => Err(Why::Broken(format!(
                        "{name} should be refused at {vantage}, got {other:?}"
                    ))),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Looks until it holds, or the time that the system may take to settle is over.
    pub(super) async fn eventually(&self, looks: u32, look: impl AsyncFn() -> Judgement) -> Judgement {
        let settle = self.subject.settle_within;
        if settle.is_zero() {
            return look().await;
        }
        for _ in 0..looks {
            match look().await {
                Err(Why::Broken(_)) => (self.subject.sleep)(settle / looks).await,
                other => return other,
            }
        }
        look().await
    }

    /// Waits until a read of the account satisfies the condition.
    pub(super) async fn read_shows(
        &self,
        principal: &PrincipalRef,
        what: &str,
        condition: impl Fn(&PrincipalReading) -> bool,
    ) -> Judgement {
        self.eventually(LOOKS, async || {
            let reading = self.read(principal).await?;
            if condition(&reading) {
                return Ok(());
            }
            Err(Why::Broken(format!(
                "reading {} should show {what}, got {reading:?}",
                principal.name
            )))
        })
        .await
    }

    /// Deletes what the last law made. What cannot be deleted is left: the next laws use other names.
    pub(super) async fn sweep(&self) {
        let made = std::mem::take(&mut *held(&self.made));
        for principal in made {
            drop(self.delete(&principal).await);
        }
    }

    pub(super) fn remember(&self, principal: &PrincipalRef) {
        let mut made = held(&self.made);
        if !made.contains(principal) {
            made.push(principal.clone());
        }
    }

    pub(super) fn issuer(&self) -> Judgement<&dyn Issue> {
        self.subject.connector.issue().ok_or_else(|| lacks("issue"))
    }
    pub(super) fn inventory(&self) -> Judgement<&dyn Inventory> {
        self.subject.connector.inventory().ok_or_else(|| lacks("inventory"))
    }
    pub(super) fn prober(&self) -> Judgement<&dyn Probe> {
        self.subject.connector.probe().ok_or_else(|| lacks("probe"))
    }
    pub(super) fn revoker(&self) -> Judgement<&dyn Revoke> {
        self.subject.connector.revoke().ok_or_else(|| lacks("revoke"))
    }
    pub(super) fn suspender(&self) -> Judgement<&dyn Suspend> {
        self.subject.connector.suspend().ok_or_else(|| lacks("suspend"))
    }
    pub(super) fn entitler(&self) -> Judgement<&dyn Entitle> {
        self.subject.connector.entitle().ok_or_else(|| lacks("entitle"))
    }
    pub(super) fn sessions(&self) -> Judgement<&dyn Sessions> {
        self.subject.connector.sessions().ok_or_else(|| lacks("sessions"))
    }
}

pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn context(step: &str) -> CallContext {
    CallContext {
        run: "run_testkit".to_owned(),
        step: step.to_owned(),
        attempt: 1,
        idempotency_key: format!("testkit-{step}"),
        time_left: Duration::from_secs(5),
    }
}

pub(super) fn failed(call: &str, error: &ConnectorError) -> Why {
    Why::Broken(format!("{call} failed: {:?}: {error}", error.kind()))
}

/// The answer must be an error of one of these kinds.
pub(super) fn fails_as<T: Debug>(call: &str, answer: &Result<T>, allowed: &[ErrorKind]) -> Judgement {
    match answer {
        Err(error) if allowed.contains(&error.kind()) => Ok(()),
        Err(error) => Err(Why::Broken(format!(
            "{call} fails as {:?}, not as one of {allowed:?}",
            error.kind()
        ))),
        Ok(answer) => Err(Why::Broken(format!(
            "{call} succeeds with {answer:?}, it must fail as one of {allowed:?}"
        ))),
    }
}

/// A key id that no system gave to anything.
pub(super) fn foreign_key() -> KeyId {
    KeyId("keyfall-testkit-no-such-key".to_owned())
}

fn lacks(ability: &str) -> Why {
    Why::Skipped(format!("the connector has no {ability}"))
}

fn lacking() -> ConnectorError {
    ConnectorError::new(ErrorKind::Unsupported, "the connector lacks the ability")
}
