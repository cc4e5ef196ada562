//! What an attempt saw is part of the event that ends it: folded before its end, and stored however it ended.

use jiff::Timestamp;
use keyfall_sdk::{
    ErrorKind, Issued, KeyId, PlaceReading, PrincipalReading, PrincipalState, PrincipalStatus, ProbeReading, Strategy,
    Verdict,
};

use super::{Told, at, plan, principal, uuid};
use crate::domain::ids::CredentialId;
use crate::domain::proof::{ControlPlane, Round};
use crate::domain::workflow::{
    Death, EventBody, Observation, RegisterChange, Run, RunKind, Step, StepError, StepOutput, StuckBecause, Then,
};

fn old() -> CredentialId {
    CredentialId::from_uuid(uuid(10))
}

fn new() -> CredentialId {
    CredentialId::from_uuid(uuid(20))
}

/// Every way in which an attempt ends.
fn ends(step: Step, seen: &[Observation]) -> [EventBody; 4] {
    let error = StepError {
        kind: ErrorKind::Transient,
        message: "busy".to_owned(),
        code: None,
    };
    [
        EventBody::Succeeded {
            step,
            seen: seen.to_vec(),
            output: StepOutput::Nothing,
        },
        EventBody::Failed {
            step,
            seen: seen.to_vec(),
            error,
            then: Then::RetryAt { at: at(400) },
        },
        EventBody::Waiting {
            step,
            seen: seen.to_vec(),
            until: at(400),
            why: "late".to_owned(),
        },
        EventBody::NeedsOperator {
            step,
            seen: seen.to_vec(),
            reason: "odd".to_owned(),
            manual_step: "look".to_owned(),
            because: StuckBecause::Drift,
        },
    ]
}

fn reading(ends_at: Timestamp) -> PrincipalReading {
    let state = PrincipalState {
        name: "app_a".to_owned(),
        immutable_id: "id-app_a".to_owned(),
        status: PrincipalStatus::Enabled,
        key_ids: vec![KeyId("old".to_owned())],
        grants: Vec::new(),
        expires_at: Some(ends_at.as_microsecond()),
        sessions: None,
        privileged: false,
    };
    PrincipalReading {
        places: vec![PlaceReading {
            vantage: "one".to_owned(),
            state: Some(state),
        }],
    }
}

fn tried(vantage: &str, verdict: Verdict) -> Observation {
    Observation::Tried {
        credential: old(),
        vantage: vantage.to_owned(),
        reading: ProbeReading {
            verdict,
            endpoint: "here".to_owned(),
        },
    }
}

fn round() -> Round {
    let refused = || Verdict::Refused { code: "no".to_owned() };
    Round {
        vantage: "one".to_owned(),
        endpoint: "here".to_owned(),
        began_at: at(50),
        ended_at: at(51),
        old: refused(),
        positive: None,
        negative: refused(),
        control_plane: ControlPlane::CredentialStillThere,
    }
}

fn issued() -> Issued {
    Issued {
        principal: principal("app_b"),
        key_id: KeyId("found".to_owned()),
        created_principal: true,
    }
}

fn everything() -> Vec<Observation> {
    let principal = "app_a".to_owned();
    vec![
        Observation::Before {
            reading: reading(at(900)),
        },
        tried("one", Verdict::Accepted { principal }),
        tried("two", Verdict::Refused { code: "no".to_owned() }),
        Observation::ProbeRound {
            credential: old(),
            round: round(),
        },
        Observation::IssueFound { issued: issued() },
        Observation::SecretLost { credential: new() },
    ]
}

#[test]
fn what_an_attempt_saw_stands_however_it_ended() {
    for end in ends(Step::Precheck, &everything()) {
        let mut told = Told::open(plan(RunKind::Rotate, Strategy::AlternatingAccounts));
        let name = end.name();
        told.tell(end).unwrap();
        let run = &told.run;
        assert_eq!(run.next_seq(), 2, "{name}");
        assert!(run.was_begun(Step::Precheck), "{name}");
        assert_eq!(run.before(), Some(&reading(at(900))), "{name}");
        assert_eq!(run.issued(), Some(&issued()), "{name}");
        let progress = run.progress(old()).unwrap();
        assert_eq!(progress.baseline, [("one".to_owned(), at(1))].into(), "{name}");
        assert_eq!(progress.rounds, [round()], "{name}");
        assert_eq!(
            run.refused_at(old()).collect::<Vec<_>>(),
            [at(1), at(50), at(50)],
            "{name}"
        );
        let ends = RegisterChange::CredentialExpires { id: old(), at: at(900) };
        assert!(told.changes.contains(&ends), "{name}: {:?}", told.changes);
        assert_eq!(told.states(20), ["lost"], "{name}");
    }
}

#[test]
fn an_attempt_that_saw_nothing_and_did_not_succeed_has_begun_nothing() {
    for end in ends(Step::Precheck, &[]) {
        let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
        let begins = matches!(end, EventBody::Succeeded { .. } | EventBody::Waiting { .. });
        told.tell(end).unwrap();
        assert_eq!(told.run.was_begun(Step::Precheck), begins, "{:?}", told.log);
    }
}

#[test]
fn what_was_seen_at_another_step_than_the_runs_own_is_not_taken() {
    for end in ends(Step::Baseline, &everything()) {
        let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
        let before = told.run.clone();
        let illegal = told.tell(end.clone()).unwrap_err();
        assert_eq!((illegal.seq, illegal.event), (1, end.name()));
        assert!(illegal.state.contains("precheck"), "{illegal}");
        assert_eq!(told.run, before);
    }
}

#[test]
fn a_death_that_the_rounds_in_the_log_do_not_prove_does_not_follow() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
    told.until(Step::Baseline);
    let principal = "app_a".to_owned();
    told.tell(EventBody::Succeeded {
        step: Step::Baseline,
        seen: vec![tried("one", Verdict::Accepted { principal })],
        output: StepOutput::Nothing,
    })
    .unwrap();
    told.until(Step::ProveDead);
    let proven_at = at(60);
    let claim = |rounds: &[Round]| EventBody::Succeeded {
        step: Step::ProveDead,
        seen: rounds
            .iter()
            .map(|round| Observation::ProbeRound {
                credential: old(),
                round: round.clone(),
            })
            .collect(),
        output: StepOutput::Proofs {
            deaths: [(old(), Death::Proven { proven_at })].into(),
        },
    };
    let refusal = Round {
        positive: Some(Verdict::Accepted {
            principal: "app_b".to_owned(),
        }),
        control_plane: ControlPlane::CredentialGone,
        ..round()
    };
    for rounds in [vec![], vec![round()], vec![refusal.clone(), round()]] {
        let illegal = told.tell(claim(&rounds)).unwrap_err();
        assert_eq!(illegal.event, "succeeded", "{rounds:?}");
    }
    assert_eq!(told.run.proof_of(old()), None);
    assert_eq!(told.states(10), ["superseded", "revoking", "revoked"]);

    told.tell(claim(std::slice::from_ref(&refusal))).unwrap();
    assert_eq!(told.states(10), ["superseded", "revoking", "revoked", "dead"]);
    let proof = told.run.proof_of(old()).unwrap();
    assert_eq!(proof.proven_at(), proven_at);
    assert_eq!(proof.terms(), &told.run.plan().proof);
    assert_eq!(proof.progress().rounds, [refusal]);
    assert_eq!(Run::replay(&told.log).unwrap(), told.run);
}
