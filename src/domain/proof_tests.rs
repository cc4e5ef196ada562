//! When the next round is wanted, and when none is wanted any more.

use keyfall_sdk::{InconclusiveWhy, Verdict};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn terms(give_up_after: i64) -> ProofTerms {
    ProofTerms {
        vantages: vec!["one".to_owned()],
        refusals: 3,
        interval: SignedDuration::ZERO,
        settling: SignedDuration::from_secs(10),
        settling_source: "test".to_owned(),
        give_up_after: SignedDuration::from_secs(give_up_after),
    }
}

fn progress(rounds: Vec<Round>) -> ProofProgress {
    ProofProgress {
        baseline: BTreeMap::from([("one".to_owned(), at(-1))]),
        revoked_at: Some(at(0)),
        rounds,
    }
}

fn round(second: i64, refused: bool) -> Round {
    let no = || Verdict::Refused { code: "no".to_owned() };
    let unclear = Verdict::Inconclusive {
        why: InconclusiveWhy::Timeout,
        detail: String::new(),
    };
    Round {
        vantage: "one".to_owned(),
        endpoint: "here".to_owned(),
        began_at: at(second),
        ended_at: at(second),
        old: if refused { no() } else { unclear },
        positive: Some(Verdict::Accepted {
            principal: "app".to_owned(),
        }),
        negative: no(),
        control_plane: ControlPlane::CredentialGone,
    }
}

#[test]
fn rounds_that_prove_nothing_lie_apart_also_at_an_interval_of_zero() {
    let after = |round| judge(&terms(60), &progress(vec![round]), at(10));
    assert_eq!(after(round(10, true)), Standing::Probe { at: at(10) });
    assert_eq!(after(round(10, false)), Standing::Probe { at: at(11) });
}

#[test]
fn a_life_that_was_not_seen_before_the_revocation_proves_nothing() {
    let refused = || (10..13).map(|second| round(second, true)).collect();
    let lived = |lived_at| {
        let baseline = BTreeMap::from([("one".to_owned(), lived_at)]);
        let progress = ProofProgress {
            baseline,
            ..progress(refused())
        };
        judge(&terms(60), &progress, at(13))
    };
    assert!(matches!(lived(at(-1)), Standing::Proven(_)));
    for late in [at(0), at(120)] {
        assert!(
            matches!(lived(late), Standing::Unprovable { .. }),
            "the receipt would not verify"
        );
    }
}

#[test]
fn a_delayed_round_is_made_before_a_proof_is_given_up() {
    let terms = terms(1);
    let late = |rounds, second| judge(&terms, &progress(rounds), at(second));
    assert!(matches!(late(vec![], 70), Standing::Probe { .. }), "none was made yet");
    assert!(
        matches!(late(vec![round(9, false)], 70), Standing::Probe { .. }),
        "the next one was wanted before the end"
    );
    assert!(matches!(late(vec![round(70, false)], 71), Standing::Unprovable { .. }));
}

/// Row 25.
#[test]
fn a_row_of_refusals_is_counted_to_its_end() {
    let terms = terms(1);
    let late = |rounds, second| judge(&terms, &progress(rounds), at(second));
    let mut row = vec![round(70, true), round(130, true)];
    assert!(matches!(late(row.clone(), 130), Standing::Probe { .. }));
    row.push(round(190, true));
    assert!(matches!(late(row.clone(), 190), Standing::Proven(_)));
    row.pop();
    row.push(round(190, false));
    assert!(matches!(late(row, 190), Standing::Unprovable { .. }), "it broke off");
}

/// Row 26.
#[test]
fn refusals_with_anything_between_them_are_no_row() {
    let rounds = [true, false, true, true, false, true];
    let rounds = rounds.iter().zip(20..).map(|(refused, second)| round(second, *refused));
    let mut rounds: Vec<Round> = rounds.collect();
    let terms = terms(600);
    assert!(matches!(
        judge(&terms, &progress(rounds.clone()), at(30)),
        Standing::Probe { .. }
    ));
    rounds.extend([round(31, true), round(32, true)]);
    assert!(matches!(judge(&terms, &progress(rounds), at(33)), Standing::Proven(_)));
}

#[test]
fn a_rotation_takes_its_overlap_its_window_and_its_rounds() {
    let mut terms = terms(60);
    terms.interval = SignedDuration::from_secs(5);
    let takes = terms.takes(SignedDuration::from_secs(100));
    assert_eq!(takes, SignedDuration::from_secs(100 + 10 + 15 + 60));
}
