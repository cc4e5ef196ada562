//! The proofs of death that a receipt must hold.

use proptest::prelude::*;

use super::*;

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

#[test]
fn a_step_that_was_declared_done_stands_in_the_receipt_and_makes_no_death_of_anything() {
    let declared = |step| DeclaredDone {
        step,
        by: Actor::Person {
            id: PersonId::from_uuid(uuid(12)),
            name: "Cy".to_owned(),
        },
        reason: "the folder is a link".to_owned(),
    };
    let unprovable = || Outcome::Unprovable {
        best: None,
        why: "Cy declared withdraw done by hand".to_owned(),
    };
    let mut world = world();
    world.body.by_hand = vec![declared(Step::Withdraw)];
    assert!(
        world.verify().unwrap_err().to_string().contains("outcome of the run"),
        "completed"
    );
    world.body.outcome = unprovable();
    let verified = world.verify().unwrap();
    assert_eq!(verified.dead, [world.body.credentials[0].id]);
    assert_eq!(verified.body.by_hand, world.body.by_hand);

    // A revocation that was made by hand is looked at by the proof, so it takes nothing from the outcome, and gives nothing to it.
    world.body.by_hand = vec![declared(Step::RevokeOld)];
    assert!(
        world.verify().unwrap_err().to_string().contains("outcome of the run"),
        "unprovable"
    );
    world.body.outcome = Outcome::Completed;
    world.verify().unwrap();
    world.body.credentials[0].vantages[1].rounds.pop();
    assert!(world.verify().is_err(), "a death without its proof");
    world.body.credentials[0].end = CredentialEnd::Unprovable {
        best: None,
        why: "a person sent the run past its proof".to_owned(),
    };
    world.body.credentials[0].vantages[1].grade = Some(Grade::E3);
    world.body.by_hand = vec![declared(Step::ProveDead)];
    assert!(
        world.verify().unwrap_err().to_string().contains("outcome of the run"),
        "not proven"
    );
    world.body.outcome = unprovable();
    assert!(world.verify().unwrap().dead.is_empty());
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
