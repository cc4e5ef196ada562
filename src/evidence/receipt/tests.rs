//! Receipts that hold, receipts that somebody touched, and receipts by a server that lies.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{InconclusiveWhy, PrincipalRef, SessionsEnded, Verdict};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::actor::{Actor, Approval, Approver};
use crate::domain::digest::Digest;
use crate::domain::ids::{CredentialId, IdentityId, PersonId, PlanId, ReceiptId, ResourceId, RunId};
use crate::domain::proof::{ControlPlane, Grade, ProofProgress, ProofTerms, Round, Standing, judge};
use crate::domain::workflow::{Outcome, RunKind, Trigger};
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

    fn closing_record(&self, body: &[u8]) -> AuditRecord {
        let digest = ReceiptBody::digest_of(body);
        AuditRecord {
            id: format!("{}/40", self.body.run.id),
            at_micros: at(30).as_microsecond(),
            run: Some(self.body.run.id.to_string()),
            step: None,
            action: "closed".to_owned(),
            trigger: "request".to_owned(),
            initiator: Party {
                kind: PartyKind::Person,
                id: "per_1".to_owned(),
                name: "Ann".to_owned(),
            },
            approvers: Vec::new(),
            plan_digest: Some(self.body.approval.plan_digest.0),
            rule: None,
            identity: Some(self.body.identity.id.to_string()),
            system: None,
            permissions_before: None,
            permissions_after: None,
            attempt: 0,
            exception: None,
            outcome: Some(self.body.outcome.name().to_owned()),
            details: format!(r#"{{"event":"closed","outcome":{{"outcome":"completed"}},"receipt_digest":"{digest}"}}"#),
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

#[test]
fn an_honest_receipt_verifies_and_says_what_is_dead() {
    let world = world();
    let verified = world.verify().unwrap();
    assert_eq!(verified.body, world.body);
    assert_eq!(verified.dead, [CredentialId::from_uuid(uuid(3))]);
    assert_eq!((verified.position, verified.checkpoint.size), (3, 5));
    assert_eq!(verified.notes, ["exception (human_override): consumer gone"]);
    let mut whole_event = world.closing_record(&world.body.to_bytes().unwrap());
    whole_event.details = format!(r#"{{"seq":40,"at":"x","epoch":1,"body":{}}}"#, whole_event.details);
    let file = world.file_with(&world.body.to_bytes().unwrap(), &whole_event.encode());
    verify_receipt(&file, &world.keys(), None).unwrap();
}

/// A receipt is read for years: this one must verify for as long as its format is read.
#[test]
fn the_committed_receipt_verifies() {
    let mut keys = include_str!("../testdata/receipt-v1.keys")
        .lines()
        .map(|line| line.parse().unwrap());
    let keys = VerifierKeys {
        origin: ORIGIN.to_owned(),
        server: vec![keys.next().unwrap()],
        approvers: Some(keys.collect()),
    };
    let verified = verify_receipt(include_bytes!("../testdata/receipt-v1.json"), &keys, None).unwrap();
    assert_eq!(verified.dead, [CredentialId::from_uuid(uuid(3))]);
}

#[test]
fn every_flipped_byte_of_the_file_is_seen() {
    let world = world();
    let (file, keys) = (world.file(), world.keys());
    verify_receipt(&file, &keys, None).unwrap();
    for position in 0..file.len() {
        for mask in [0x01, 0x20] {
            let mut changed = file.clone();
            changed[position] ^= mask;
            assert!(
                verify_receipt(&changed, &keys, None).is_err(),
                "byte {position} with mask {mask:#x}"
            );
        }
    }
    for end in [0, 1, file.len() / 2, file.len() - 1] {
        assert!(verify_receipt(&file[..end], &keys, None).is_err(), "cut at {end}");
    }
    let longer = [file.as_slice(), b"\n"].concat();
    assert!(matches!(
        verify_receipt(&longer, &keys, None),
        Err(VerifyError::File { .. })
    ));
}

#[test]
fn only_the_keys_and_the_log_that_were_asked_for_are_believed() {
    let world = world();
    let with = |change: fn(&mut VerifierKeys)| {
        let mut keys = world.keys();
        change(&mut keys);
        verify_receipt(&world.file(), &keys, None)
    };
    assert!(matches!(
        with(|keys| keys.server = vec![key(ORIGIN).verifier().clone()]),
        Err(VerifyError::Signature { .. })
    ));
    assert!(matches!(
        with(|keys| keys.origin = "other".to_owned()),
        Err(VerifyError::Checkpoint { .. })
    ));
    let strangers = with(|keys| keys.approvers = Some(vec![key("zoe").verifier().clone()]));
    assert!(matches!(strangers, Err(VerifyError::Approval { .. })));
    assert!(
        with(|keys| keys.approvers = None)
            .unwrap()
            .notes
            .iter()
            .any(|note| note.contains("server's word"))
    );
    let early = verify_receipt(&world.file(), &world.keys(), Some(at(-1000)));
    assert!(matches!(early, Err(VerifyError::Future { .. })));
}

#[test]
fn the_log_must_commit_to_this_receipt() {
    let world = world();
    let body = world.body.to_bytes().unwrap();
    let changes: [Change<AuditRecord>; 6] = [
        (|record| record.run = None, "another run"),
        (
            |record| record.outcome = Some("unprovable".to_owned()),
            "another outcome",
        ),
        (|record| record.plan_digest = None, "approved plan"),
        (
            |record| record.details = record.details.replace("closed", "opened"),
            "closing event",
        ),
        (
            |record| record.details = r#"{"event":"closed"}"#.to_owned(),
            "another receipt",
        ),
        (
            |record| record.details = "{}".to_owned(),
            "not those of a closing event",
        ),
    ];
    for (change, why) in changes {
        let mut record = world.closing_record(&body);
        change(&mut record);
        let error = verify_receipt(&world.file_with(&body, &record.encode()), &world.keys(), None).unwrap_err();
        assert!(
            matches!(error, VerifyError::Mismatch { .. }) && error.to_string().contains(why),
            "{error}"
        );
    }
    // A second body for the same run, signed by the same server, beside the record of the first.
    let mut second = world.body.clone();
    second.identity.owner = "somebody else".to_owned();
    let file = world.file_with(&second.to_bytes().unwrap(), &world.closing_record(&body).encode());
    assert!(matches!(
        verify_receipt(&file, &world.keys(), None),
        Err(VerifyError::Mismatch { .. })
    ));
    let file = world.file_with(&body, b"not a record");
    assert!(matches!(
        verify_receipt(&file, &world.keys(), None),
        Err(VerifyError::Record { .. })
    ));
}

#[test]
fn an_approval_that_does_not_hold_is_named() {
    let cases: [Lie; 6] = [
        ("is not over this plan", |body| {
            body.approval.plan_digest = Digest([8; 32])
        }),
        ("is not over this plan", |body| {
            body.approval.approvers[0].expires_at_micros += 1
        }),
        ("had expired", |body| body.run.opened_at = at(7200)),
        ("approved what he or she asked for", |body| {
            body.approval.approvers[0].person = PersonId::from_uuid(uuid(10))
        }),
        ("nobody signed", |body| body.approval.approvers.clear()),
        ("stands for two approvers", |body| {
            let mut again = body.approval.approvers[0].clone();
            again.person = PersonId::from_uuid(uuid(12));
            body.approval.approvers.push(again);
        }),
    ];
    for (why, change) in cases {
        let error = lie(change);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_death_without_its_proof_is_not_believed() {
    assert!(lie(|body| body.credentials.clear()).contains("lists none"));
    assert!(lie(|body| body.credentials.push(credential())).contains("twice"));
    assert!(lie_about_credential(|c| c.revoked_at = None).contains("when it was revoked"));
    assert!(lie_about_credential(|c| c.key_id = None).contains("immutable id"));
    assert!(
        lie_about_credential(|c| c.end = CredentialEnd::Dead { proven_at: at(20) }).contains("before its last probe")
    );
    assert!(
        lie_about_credential(|c| c.end = CredentialEnd::Dead { proven_at: at(31) }).contains("after the run closed")
    );
    assert!(lie_about_credential(|c| c.vantages.truncate(1)).contains("exactly the vantages"));
    assert!(lie_about_credential(|c| c.vantages.swap(0, 1)).contains("exactly the vantages"));
    assert!(lie_about_credential(|c| c.terms.refusals = 4).contains("3 refusals in a row, and 4"));
    assert!(lie_about_credential(|c| c.terms.refusals = 0).contains("ask for no refusal"));
    assert!(lie_about_credential(|c| c.terms.settling = SignedDuration::from_secs(21)).contains("settling window"));
    let nowhere = lie_about_credential(|c| {
        c.vantages.clear();
        c.terms.vantages.clear();
    });
    assert!(nowhere.contains("exactly the vantages"));
    let unproven = CredentialEnd::Unprovable {
        best: Some(Grade::E3),
        why: "no control".to_owned(),
    };
    assert!(lie_about_credential(|c| c.end = unproven).contains("outcome of the run"));
    assert!(lie(|body| body.outcome = Outcome::AliveAfterRevoke { since: at(25) }).contains("outcome of the run"));
}

#[test]
fn rounds_that_do_not_count_are_named() {
    assert!(lie_about_replica(|v| v.baseline_accepted_at = None).contains("never accepted here"));
    assert!(lie_about_replica(|v| v.baseline_accepted_at = Some(at(0))).contains("before the revocation"));
    assert!(lie_about_replica(|v| v.grade = Some(Grade::E2)).contains("not E1"));
    assert!(lie_about_replica(|v| v.rounds.swap(0, 1)).contains("does not follow"));
    assert!(lie_about_replica(|v| v.rounds[2] = v.rounds[1].clone()).contains("does not follow"));
    assert!(lie_about_replica(|v| v.rounds[0].vantage = "primary".to_owned()).contains("among its rounds"));
    for dropped in 0..3 {
        assert!(lie_about_replica(|v| drop(v.rounds.remove(dropped))).contains("at replica"));
    }
    let changes: [Change<Round>; 8] = [
        (|r| r.old = accepted(), "was not refused"),
        (
            |r| {
                r.old = Verdict::Inconclusive {
                    why: InconclusiveWhy::Timeout,
                    detail: String::new(),
                }
            },
            "was not refused",
        ),
        (|r| r.positive = None, "no live credential"),
        (|r| r.positive = Some(refused("28P01")), "no live credential"),
        (|r| r.negative = refused("28000"), "same refusal"),
        (|r| r.negative = accepted(), "same refusal"),
        (|r| r.control_plane = ControlPlane::PrincipalDisabled, "control plane"),
        (
            |r| r.control_plane = ControlPlane::CredentialStillThere,
            "control plane",
        ),
    ];
    for (change, why) in changes {
        for which in 0..3 {
            let error = lie_about_replica(|v| change(&mut v.rounds[which]));
            assert!(error.contains(why) && error.contains("at replica"), "{error}");
        }
    }
    let slow = lie_about_replica(|v| v.rounds[0].began_at = at(15) - SignedDuration::from_secs(62));
    assert!(slow.contains("does not count"), "{slow}");
}

#[test]
fn what_is_not_proven_dead_is_reported_as_that() {
    let mut world = world();
    let first = &mut world.body.credentials[0];
    first.vantages[1].rounds.pop();
    first.vantages[1].grade = Some(Grade::E3);
    first.end = CredentialEnd::Unprovable {
        best: Some(Grade::E3),
        why: "the replica was away".to_owned(),
    };
    world.body.outcome = Outcome::Unprovable {
        best: Some(Grade::E3),
        why: "the replica was away".to_owned(),
    };
    let verified = world.verify().unwrap();
    assert!(verified.dead.is_empty());
    assert!(
        verified
            .notes
            .iter()
            .any(|note| note.contains("not proven dead: the replica was away"))
    );
    world.body.credentials[0].vantages[1].grade = Some(Grade::E1);
    assert!(
        world
            .verify()
            .unwrap_err()
            .to_string()
            .contains("claimed and not shown")
    );
}

fn some_round() -> impl Strategy<Value = Round> {
    let vantage = prop::sample::select(vec!["primary", "replica"]);
    let fault = prop_oneof![4 => Just(0_u8), 1 => 1_u8..6];
    (vantage, fault).prop_map(|(vantage, fault)| {
        let mut round = round(vantage, 0);
        match fault {
            1 => round.old = accepted(),
            2 => round.positive = None,
            3 => round.negative = refused("28000"),
            4 => round.control_plane = ControlPlane::PrincipalDisabled,
            5 => round.old = refused("53300"),
            _ => {}
        }
        round
    })
}

proptest! {
    /// The engine's judgement and the verifier's are written apart; on what an engine can see they must agree.
    #[test]
    fn the_engine_calls_proven_what_the_verifier_believes(
        rounds in proptest::collection::vec(some_round(), 0..12), gap in 1_i64..8, bad_baseline: bool,
    ) {
        let terms = terms(&["primary", "replica"]);
        let mut progress = progress();
        progress.rounds = rounds;
        if bad_baseline {
            progress.baseline.remove("replica");
        }
        for (number, round) in (1..).zip(&mut progress.rounds) {
            round.began_at = at(number * gap);
            round.ended_at = at(number * gap) + SignedDuration::from_millis(500);
        }
        let evidence = vantage_evidence(&terms, &progress);
        let believed = evidence.iter().all(|one| one.grade == Some(Grade::E1));
        match judge(&terms, &progress, at(100)) {
            Standing::Proven(_) => prop_assert!(believed),
            _ => prop_assert!(!believed),
        }
    }
}
