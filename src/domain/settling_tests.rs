//! How long a system honours what was revoked, as it is seen: the figure that widens the next windows, and must not feed on itself.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::Verdict;

use super::{ControlPlane, ProofProgress, ProofTerms, Round, Standing, judge, measured_settling};

fn after(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
}

fn terms(settling: SignedDuration) -> ProofTerms {
    ProofTerms {
        vantages: vec!["one".to_owned()],
        refusals: 1,
        interval: SignedDuration::from_secs(2),
        settling,
        settling_source: "test".to_owned(),
        give_up_after: SignedDuration::from_hours(2),
    }
}

fn progress(rounds: Vec<Round>) -> ProofProgress {
    ProofProgress {
        baseline: BTreeMap::from([("one".to_owned(), after(-1000))]),
        revoked_at: Some(after(0)),
        rounds,
    }
}

fn round(vantage: &str, began: i64, ended: i64, is_live: bool) -> Round {
    let accepted = || Verdict::Accepted {
        principal: "app".to_owned(),
    };
    let refused = || Verdict::Refused { code: "no".to_owned() };
    Round {
        vantage: vantage.to_owned(),
        endpoint: "h:1".to_owned(),
        began_at: after(began),
        ended_at: after(ended),
        old: if is_live { accepted() } else { refused() },
        positive: Some(accepted()),
        negative: refused(),
        control_plane: ControlPlane::CredentialGone,
    }
}

/// One proof on a system that refuses at once, each round of which takes `took` milliseconds, looked at no sooner than `first`.
fn proven(window: SignedDuration, took: i64, first: i64) -> ProofProgress {
    let mut progress = progress(Vec::new());
    let mut now = first;
    loop {
        match judge(&terms(window), &progress, after(now)) {
            Standing::Probe { at } => {
                let began = at.duration_since(after(0)).as_millis() as i64;
                let began = began.max(now);
                now = began + took;
                progress.rounds.push(round("one", began, now, false));
            }
            Standing::Proven(_) => return progress,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_window_does_not_grow_from_one_rotation_to_the_next() {
    let mut window = SignedDuration::ZERO;
    for first in [0, 0, 3_600_000, 0, 0] {
        let progress = proven(window, 700, first);
        let measured = measured_settling(&terms(window), &progress, "one");
        assert_eq!(measured, None, "nothing was seen to settle");
        window = window.max(measured.unwrap_or(SignedDuration::ZERO));
    }
    assert_eq!(window, SignedDuration::ZERO);
}

#[test]
fn what_was_seen_to_settle_is_measured_at_its_own_vantage() {
    let rounds = vec![
        round("one", 1_000, 1_500, true),
        round("two", 1_000, 1_500, false),
        round("one", 3_500, 4_000, true),
        round("one", 6_000, 6_500, false),
        round("one", 8_500, 9_000, false),
    ];
    let (terms, progress) = (terms(SignedDuration::from_secs(8)), progress(rounds));
    let measured = |vantage| measured_settling(&terms, &progress, vantage);
    assert_eq!(measured("one"), Some(SignedDuration::from_millis(6_500)));
    assert_eq!(measured("two"), None);
}

#[test]
fn a_gap_in_the_looking_is_no_settling_time() {
    let rounds = vec![
        round("one", 1_000, 1_500, true),
        round("one", 3_600_000, 3_600_500, false),
    ];
    let progress = progress(rounds);
    assert_eq!(
        measured_settling(&terms(SignedDuration::from_secs(8)), &progress, "one"),
        None
    );
}
