//! Receipts that hold, receipts that somebody touched, and receipts by a server that lies.

mod files;
mod proofs;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{InconclusiveWhy, PrincipalRef, SessionsEnded, Verdict};
use uuid::Uuid;

use super::*;
use crate::domain::actor::{Actor, Approval, Approver};
use crate::domain::digest::Digest;
use crate::domain::ids::{CredentialId, IdentityId, PersonId, PlanId, ReceiptId, ResourceId, RunId};
use crate::domain::proof::{ControlPlane, Grade, ProofProgress, ProofTerms, Round, Standing, judge};
use crate::domain::workflow::{Outcome, RunKind, Step, Trigger};
use crate::evidence::approval::{ApprovalStatement, Decision};
use crate::evidence::checkpoint::Checkpoint;
use crate::evidence::keys::SigningKey;
use crate::evidence::keys::tests::key;
use crate::evidence::merkle::{Frontier, NodeId, inclusion_proof, leaf_hash};
use crate::evidence::record::{AuditRecord, ExceptionCause, Party, PartyKind};

const ORIGIN: &str = "keyfall.example/log";

/// A change, and what verification must say about it.
type Change<T> = (fn(&mut T), &'static str);
type Lie = (&'static str, fn(&mut ReceiptBody));

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

/// A server with its log, an approver, and the body of the run that they closed.
struct World {
    server: SigningKey,
    zoe: SigningKey,
    body: ReceiptBody,
}

fn refused(code: &str) -> Verdict {
    Verdict::Refused { code: code.to_owned() }
}

fn accepted() -> Verdict {
    Verdict::Accepted {
        principal: "app".to_owned(),
    }
}

fn round(vantage: &str, second: i64) -> Round {
    Round {
        vantage: vantage.to_owned(),
        endpoint: format!("{vantage}:5432"),
        began_at: at(second),
        ended_at: at(second + 1),
        old: refused("28P01"),
        positive: Some(accepted()),
        negative: refused("28P01"),
        control_plane: ControlPlane::CredentialGone,
    }
}

fn terms(vantages: &[&str]) -> ProofTerms {
    ProofTerms {
        vantages: vantages.iter().map(|name| (*name).to_owned()).collect(),
        refusals: 3,
        interval: SignedDuration::from_secs(5),
        settling: SignedDuration::from_secs(20),
        settling_source: "documented".to_owned(),
        give_up_after: SignedDuration::from_mins(10),
    }
}

fn progress() -> ProofProgress {
    let rounds = [10, 15, 20]
        .into_iter()
        .flat_map(|second| [round("primary", second), round("replica", second)]);
    ProofProgress {
        baseline: BTreeMap::from([("primary".to_owned(), at(-9)), ("replica".to_owned(), at(-8))]),
        revoked_at: Some(at(0)),
        rounds: rounds.collect(),
    }
}

fn credential() -> CredentialEvidence {
    let terms = terms(&["primary", "replica"]);
    CredentialEvidence {
        id: CredentialId::from_uuid(uuid(3)),
        key_id: Some("16385/scram-1f".to_owned()),
        principal: PrincipalRef {
            name: "app_a".to_owned(),
            immutable_id: Some("16385".to_owned()),
        },
        end: CredentialEnd::Dead { proven_at: at(22) },
        revoked_at: Some(at(0)),
        vantages: vantage_evidence(&terms, &progress()),
        terms,
        sessions: Some(SessionsEnded { ended: 2, left: 0 }),
        secret_destroyed_by: Some(at(604_800)),
    }
}

fn approver(zoe: &SigningKey, person: u128, plan: PlanId, plan_digest: Digest) -> Approver {
    let statement = ApprovalStatement {
        plan_id: plan.to_string(),
        plan_digest: plan_digest.0,
        decision: Decision::Approve,
        expires_at_micros: at(3600).as_microsecond(),
    };
    Approver {
        person: PersonId::from_uuid(uuid(person)),
        name: "Zoe".to_owned(),
        public_key: zoe.verifier().to_string(),
        expires_at_micros: statement.expires_at_micros,
        signature: statement.sign(zoe),
    }
}

fn world() -> World {
    let (server, zoe) = (key(ORIGIN), key("zoe"));
    let (plan, plan_digest) = (PlanId::from_uuid(uuid(8)), Digest([7; 32]));
    let body = ReceiptBody {
        format: FORMAT.to_owned(),
        id: ReceiptId::from_uuid(uuid(1)),
        run: RunFacts {
            id: RunId::from_uuid(uuid(2)),
            kind: RunKind::Decommission,
            trigger: Trigger::Request,
            initiator: Actor::Person {
                id: PersonId::from_uuid(uuid(10)),
                name: "Ann".to_owned(),
            },
            opened_at: at(-100),
            closed_at: at(30),
        },
        identity: IdentityFacts {
            id: IdentityId::from_uuid(uuid(4)),
            name: "orders-api".to_owned(),
            owner: "payments".to_owned(),
            environment: "production".to_owned(),
        },
        system: SystemFacts {
            id: ResourceId::from_uuid(uuid(5)),
            name: "orders-db".to_owned(),
            connector: "postgres".to_owned(),
            endpoint_digest: Digest([9; 32]),
        },
        approval: Approval {
            plan,
            plan_digest,
            requester: PersonId::from_uuid(uuid(10)),
            approvers: vec![approver(&zoe, 11, plan, plan_digest)],
            standing: false,
            solo: false,
        },
        exceptions: vec![ExceptionFacts {
            cause: ExceptionCause::HumanOverride,
            note: "consumer gone".to_owned(),
        }],
        by_hand: Vec::new(),
        credentials: vec![credential()],
        outcome: Outcome::Completed,
    };
    World { server, zoe, body }
}

impl World {
    fn keys(&self) -> VerifierKeys {
        VerifierKeys {
            origin: ORIGIN.to_owned(),
            server: vec![self.server.verifier().clone()],
            approvers: Some(vec![self.zoe.verifier().clone()]),
        }
    }

    fn closing_record(&self, body: &[u8]) -> AuditRecord<'static> {
        let digest = ReceiptBody::digest_of(body);
        AuditRecord {
            id: format!("{}/40", self.body.run.id).into(),
            at_micros: at(30).as_microsecond(),
            run: Some(self.body.run.id.to_string().into()),
            step: None,
            action: "closed".into(),
            trigger: "request".into(),
            initiator: Party {
                kind: PartyKind::Person,
                id: "per_1".into(),
                name: "Ann".into(),
            },
            approvers: Vec::new(),
            plan_digest: Some(self.body.approval.plan_digest.0),
            rule: None,
            identity: Some(self.body.identity.id.to_string().into()),
            system: None,
            permissions_before: None,
            permissions_after: None,
            attempt: 0,
            exception: None,
            outcome: Some(self.body.outcome.name().into()),
            details: format!(r#"{{"event":"closed","outcome":{{"outcome":"completed"}},"receipt_digest":"{digest}"}}"#)
                .into(),
        }
    }

    /// Puts the record among others of a log, and the file together, all with the server's own key.
    fn file_with(&self, body: &[u8], record: &[u8]) -> Vec<u8> {
        let records = [b"a".as_slice(), b"b", b"c", record, b"e"];
        let mut frontier = Frontier::new();
        let mut completed = Vec::new();
        for record in records {
            frontier.append(leaf_hash(record), &mut completed);
        }
        let fetch = |id: NodeId| match id.level {
            0 => records.get(id.index as usize).map(|record| leaf_hash(record)),
            _ => completed.iter().find(|node| node.id == id).map(|node| node.hash),
        };
        let checkpoint = Checkpoint {
            origin: ORIGIN.to_owned(),
            size: frontier.size(),
            root: frontier.root(),
        };
        let place = LogPlace {
            record: record.to_vec(),
            position: 3,
            inclusion_proof: inclusion_proof(3, frontier.size(), &fetch).unwrap(),
            checkpoint: checkpoint.sign(&[&self.server]).unwrap(),
        };
        assemble(body, &place, &[&self.server]).unwrap()
    }

    fn file(&self) -> Vec<u8> {
        let body = self.body.to_bytes().unwrap();
        self.file_with(&body, &self.closing_record(&body).encode())
    }

    fn verify(&self) -> Result<VerifiedReceipt, VerifyError> {
        verify_receipt(&self.file(), &self.keys(), Some(at(60)))
    }
}

/// What verification says after a server with all its keys changed the body before signing it.
fn lie(change: impl FnOnce(&mut ReceiptBody)) -> String {
    let mut world = world();
    change(&mut world.body);
    world.verify().expect_err("the lie was believed").to_string()
}

fn lie_about_credential(change: impl FnOnce(&mut CredentialEvidence)) -> String {
    lie(|body| change(&mut body.credentials[0]))
}

fn lie_about_replica(change: impl FnOnce(&mut VantageEvidence)) -> String {
    lie_about_credential(|credential| change(&mut credential.vantages[1]))
}
