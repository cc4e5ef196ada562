//! What opening a run needs besides the register: facts of the connector with what was measured here, a fresh sealed secret, and the check that
//! the approval is signed by people who are enrolled and did not ask for it themselves.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use keyfall_sdk::{BoxFuture, CallContext, PrincipalReading, PrincipalRef};

use super::enrolment;
use super::report::PrepareRuns;
use super::secrets::{SealAs, seal};
use super::systems::Systems;
use crate::clock::Environment;
use crate::domain::actor::{Approval, Approver};
use crate::domain::digest::Digest;
use crate::domain::planner::ConnectorFacts;
use crate::domain::resource::{Resource, Spec};
use crate::domain::workflow::RunPlan;
use crate::evidence::approval::{ApprovalStatement, Decision};
use crate::evidence::keys::VerifierKey;
use crate::sealing::{Keyring, SecretGenerator};
use crate::store::{PersonRow, SecretRow, Store};

/// How many of the last measured settling times may widen a window.
const SAMPLES: u32 = 200;

/// A read that takes longer is given up.
const READING_TIME: Duration = Duration::from_secs(10);

pub struct Preparation {
    pub store: Arc<dyn Store>,
    pub systems: Arc<Systems>,
    pub keys: Arc<Keyring>,
    pub env: Environment,
    pub signatures: KnownSignatures,
}

/// Signatures that were verified, by digest of statement, signature and key. Whether one holds never changes, and every run under a policy
/// carries the same; who is enrolled is read each time.
#[derive(Default)]
pub struct KnownSignatures(Mutex<HashSet<Digest>>);

/// Standing approvals are few. When there are more, all are verified anew.
const KNOWN: usize = 4096;

impl KnownSignatures {
    pub(super) fn holds(&self, statement: &ApprovalStatement, key: &VerifierKey, signature: &str) -> bool {
        let mut bytes = statement.signing_bytes();
        // Neither a signature nor a key holds a line break, so no two triples have the same bytes.
        for part in [signature, &key.to_string()] {
            bytes.push(b'\n');
            bytes.extend_from_slice(part.as_bytes());
        }
        let digest = Digest::of(&bytes);
        if self.lock().contains(&digest) {
            return true;
        }
        if !statement.verifies(key, signature) {
            return false;
        }
        let mut known = self.lock();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(digest);
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PrepareRuns for Preparation {
    fn connector_facts<'a>(&'a self, system: &'a Resource) -> BoxFuture<'a, Result<ConnectorFacts, String>> {
        Box::pin(async move {
            let Spec::System(manifest) = &system.spec else {
                return Err(format!("`{}` is no system", system.name));
            };
            let unknown = || format!("this server has no connector called `{}`", manifest.connector);
            let descriptor = self.systems.descriptor(&manifest.connector).ok_or_else(unknown)?;
            let measured = self.store.settling(&system.name, SAMPLES).await;
            let measured =
                measured.map_err(|error| format!("the measured settling times could not be read: {error}"))?;
            Ok(ConnectorFacts {
                strategies: descriptor.strategies.to_vec(),
                settling: SignedDuration::try_from(descriptor.settling.documented).unwrap_or(SignedDuration::MAX),
                settling_source: descriptor.settling.source.to_owned(),
                measured: measured
                    .iter()
                    .map(|sample| sample.micros)
                    .max()
                    .map(SignedDuration::from_micros),
            })
        })
    }

    fn seal_new(&self, plan: &RunPlan) -> Result<SecretRow, String> {
        let new = plan
            .new
            .as_ref()
            .ok_or_else(|| format!("{} issues nothing", plan.run))?;
        let unknown = || format!("this server has no connector called `{}`", plan.connector);
        let shape = self
            .systems
            .descriptor(&plan.connector)
            .ok_or_else(unknown)?
            .secret_shape;
        let generator = SecretGenerator::new(shape).map_err(|error| error.to_string())?;
        let secret = generator.draw(&*self.env.random).map_err(|error| error.to_string())?;
        let seal_as = SealAs {
            id: new.secret,
            name: None,
            kind: "credential".to_owned(),
            version: 1,
            endpoints: plan.endpoint_digest,
            at: plan.timing.opened_at,
        };
        seal(&self.keys, seal_as, &secret, &*self.env.random).map_err(|error| error.to_string())
    }

    fn reading<'a>(
        &'a self,
        system: &'a str,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<PrincipalReading, String>> {
        Box::pin(async move {
            let connected = self.systems.connected(system).await;
            let (connector, _) = connected.map_err(|error| error.to_string())?;
            let ctx = CallContext {
                run: "none".to_owned(),
                step: "reconcile".to_owned(),
                attempt: 1,
                idempotency_key: String::new(),
                time_left: READING_TIME,
            };
            let reading = connector.read(ctx, principal.clone()).await;
            reading.map_err(|error| error.to_string())
        })
    }

    fn check_approval<'a>(&'a self, approval: &'a Approval) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let unread = |error: crate::store::StoreError| format!("the approval could not be checked: {error}");
            let plan = self.store.plan_terms(approval.plan).await.map_err(unread)?;
            let plan = plan.ok_or_else(|| format!("plan {} is not in the store", approval.plan))?;
            if plan.digest != approval.plan_digest {
                return Err(format!(
                    "{} is not the plan that was approved: its digest differs",
                    approval.plan
                ));
            }
            let needed = usize::try_from(plan.approvals_needed).unwrap_or(usize::MAX);
            if approval.approvers.len() < needed {
                return Err(format!(
                    "{} needs {needed} approvals and has {}",
                    approval.plan,
                    approval.approvers.len()
                ));
            }
            for approver in &approval.approvers {
                if approver.person == plan.requester && !approval.solo {
                    return Err(format!(
                        "{} asked for {} and cannot approve it",
                        approver.name, approval.plan
                    ));
                }
                let person = self.store.person(approver.person).await.map_err(unread)?;
                if let Some(person) = &person {
                    enrolment::check(&*self.store, &self.signatures, person).await?;
                }
                let enrolled = key_that_counts(person)?;
                check_signature(&self.signatures, approval, approver, enrolled.as_deref())?;
            }
            Ok(())
        })
    }
}

/// Who was retired allows nothing any more, also with a signature from before: neither a single run nor the rotations under a policy.
fn key_that_counts(person: Option<PersonRow>) -> Result<Option<String>, String> {
    match person {
        Some(person) if person.retired_at.is_some() => Err(format!(
            "{} has retired, and what {} signed allows nothing any more",
            person.name, person.name
        )),
        person => Ok(person.and_then(|person| person.public_key)),
    }
}

fn check_signature(
    signatures: &KnownSignatures,
    approval: &Approval,
    approver: &Approver,
    enrolled: Option<&str>,
) -> Result<(), String> {
    if enrolled != Some(approver.public_key.as_str()) {
        return Err(format!(
            "the key that signed for {} is not the one that is enrolled",
            approver.name
        ));
    }
    let key: VerifierKey = approver
        .public_key
        .parse()
        .map_err(|error| format!("{}'s key: {error}", approver.name))?;
    if signatures.holds(&statement_of(approval, approver), &key, &approver.signature) {
        return Ok(());
    }
    Err(format!(
        "{}'s signature does not hold over {}",
        approver.name, approval.plan
    ))
}

/// What the approver signed.
pub(super) fn statement_of(approval: &Approval, approver: &Approver) -> ApprovalStatement {
    ApprovalStatement {
        plan_id: approval.plan.to_string(),
        plan_digest: approval.plan_digest.0,
        decision: Decision::Approve,
        expires_at_micros: approver.expires_at_micros,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::{ApprovalStatement, Decision, KnownSignatures, PersonRow, key_that_counts};
    use crate::domain::ids::PersonId;
    use crate::evidence::keys::SigningKey;

    #[test]
    fn the_signature_of_a_retired_person_allows_nothing() {
        let person = |retired_at| PersonRow {
            id: PersonId::from_uuid(Uuid::from_u128(1)),
            name: "bob".to_owned(),
            roles: vec!["approver".to_owned()],
            public_key: Some("key".to_owned()),
            enrolled_by: None,
            enrolment: None,
            enrolled_at: Timestamp::UNIX_EPOCH,
            retired_at,
        };
        let refused = key_that_counts(Some(person(Some(Timestamp::UNIX_EPOCH))));
        assert!(refused.is_err_and(|why| why.contains("bob has retired")));
        assert_eq!(key_that_counts(Some(person(None))), Ok(Some("key".to_owned())));
        assert_eq!(key_that_counts(None), Ok(None));
    }

    #[test]
    fn a_known_signature_vouches_for_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let key = |name: &str| {
            let path = folder.path().join(name);
            SigningKey::create(&path, name, &ring::rand::SystemRandom::new()).unwrap()
        };
        let (zoe, bob) = (key("zoe"), key("bob"));
        let statement = |plan: &str| ApprovalStatement {
            plan_id: plan.to_owned(),
            plan_digest: [7; 32],
            decision: Decision::Approve,
            expires_at_micros: 1,
        };
        let known = KnownSignatures::default();
        let signature = statement("one").sign(&zoe);
        for _ in 0..2 {
            assert!(known.holds(&statement("one"), zoe.verifier(), &signature));
            assert!(!known.holds(&statement("two"), zoe.verifier(), &signature));
            assert!(!known.holds(&statement("one"), bob.verifier(), &signature));
            assert!(!known.holds(&statement("one"), zoe.verifier(), &statement("one").sign(&bob)));
        }
    }
}
