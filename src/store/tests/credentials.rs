//! Credentials are stored as what they were, in each state of their life, and read back as that.

use jiff::SignedDuration;
use keyfall_sdk::{KeyId, PrincipalRef};

use super::rows::{credential, secret};
use super::support::{BOTH, On, at};
use crate::domain::identity::CredentialState;
use crate::domain::proof::{Grade, Proof, ProofProgress, ProofTerms, Round, Standing, judge};
use crate::store::Fact;

fn proof() -> Box<Proof> {
    let terms = ProofTerms {
        vantages: vec!["primary".to_owned()],
        refusals: 1,
        interval: SignedDuration::ZERO,
        settling: SignedDuration::ZERO,
        settling_source: "test".to_owned(),
        give_up_after: SignedDuration::from_secs(1),
    };
    let round = serde_json::json!({
        "vantage": "primary", "endpoint": "127.0.0.1:1", "began_at": at(3), "ended_at": at(4),
        "old": {"verdict": "refused", "code": "28P01"}, "positive": {"verdict": "accepted", "principal": "x"},
        "negative": {"verdict": "refused", "code": "28P01"}, "control_plane": {"shows": "credential_gone"},
    });
    let progress = ProofProgress {
        baseline: [("primary".to_owned(), at(0))].into(),
        revoked_at: Some(at(2)),
        rounds: vec![serde_json::from_value::<Round>(round).unwrap()],
    };
    let Standing::Proven(proof) = judge(&terms, &progress, at(5)) else {
        panic!("the rounds of this test are a proof");
    };
    proof
}

#[tokio::test]
async fn a_credential_comes_back_in_every_state() {
    for on in BOTH {
        let test = on.opened().await;
        let owner = test.identity("billing").await;
        let successor = credential(2, owner.id).id;
        let states = [
            CredentialState::Intended,
            CredentialState::Issued,
            CredentialState::Active,
            CredentialState::Superseded {
                successor,
                overlap_ends: at(9),
            },
            CredentialState::Revoking,
            CredentialState::Revoked { settling_until: at(10) },
            CredentialState::Dead { proof: proof() },
            CredentialState::AliveAfterRevoke { since: at(11) },
            CredentialState::Unprovable {
                best: Some(Grade::E3),
                why: "no baseline".to_owned(),
            },
            CredentialState::NeverIssued,
            CredentialState::Lost,
            CredentialState::Foreign,
        ];
        let mut all = Vec::new();
        for (number, state) in (10..).zip(states) {
            let mut one = credential(number, owner.id);
            one.state = state;
            one.created_at = at(i64::try_from(number).unwrap());
            test.put(vec![Fact::Credential(one.clone())]).await;
            all.push(one);
        }
        assert_eq!(test.store.credentials_of(owner.id).await.unwrap(), all);
    }
}

#[tokio::test]
async fn a_credential_learns_what_the_system_answered() {
    for on in BOTH {
        let test = on.opened().await;
        let owner = test.identity("billing").await;
        let mut intended = credential(10, owner.id);
        test.put(vec![Fact::Credential(intended.clone())]).await;
        let taken = secret(3, b"sealed");
        test.put(vec![
            Fact::Secret(taken.clone()),
            Fact::CredentialSecret {
                id: intended.id,
                secret: taken.id,
            },
            Fact::CredentialIssued {
                id: intended.id,
                principal: PrincipalRef {
                    name: "billing_b".to_owned(),
                    immutable_id: Some("16384".to_owned()),
                },
                key_id: KeyId("scram:1".to_owned()),
            },
            Fact::CredentialProven {
                id: intended.id,
                at: at(7),
            },
            Fact::CredentialExpires {
                id: intended.id,
                at: at(9),
            },
        ])
        .await;
        intended.secret = Some(taken.id);
        intended.principal.name = "billing_b".to_owned();
        intended.principal.immutable_id = Some("16384".to_owned());
        intended.key_id = Some(KeyId("scram:1".to_owned()));
        intended.proven_at = Some(at(7));
        intended.expires_at = Some(at(9));
        intended.state = CredentialState::Issued;
        assert_eq!(test.store.credential(intended.id).await.unwrap(), Some(intended));
    }
}

#[tokio::test]
async fn an_account_has_one_open_intent() {
    for on in BOTH {
        let test = on.opened().await;
        let owner = test.identity("billing").await;
        let first = credential(1, owner.id);
        let mut second = credential(2, owner.id);
        second.principal = first.principal.clone();
        test.put(vec![Fact::Credential(first)]).await;
        let refused = test.try_put(vec![Fact::Credential(second)]).await;
        assert!(
            matches!(refused, Err(crate::store::StoreError::Conflict { .. })),
            "{refused:?}"
        );
    }
}

/// Of an identity that was rotated between two accounts for years, with what is left of one failed rotation among it.
#[tokio::test]
async fn what_a_rotation_is_planned_from_does_not_grow_with_the_history() {
    for on in BOTH {
        let test = on.opened().await;
        let owner = test.identity("billing").await;
        let other = test.identity("shipping").await;
        let mut sizes = Vec::new();
        for number in 0..400_u32 {
            let mut one = credential(
                u128::from(number) + 1_000,
                if number == 200 { other.id } else { owner.id },
            );
            one.created_at = at(i64::from(number));
            one.principal.name = format!("billing_{}", if number % 2 == 0 { "a" } else { "b" });
            one.principal.immutable_id = Some(format!("oid-{}", one.principal.name));
            one.state = match number {
                100 => CredentialState::AliveAfterRevoke { since: at(101) },
                300 => CredentialState::NeverIssued,
                _ => CredentialState::Dead { proof: proof() },
            };
            // A failed attempt on an account of which nothing is known.
            if number == 300 {
                one.principal.immutable_id = None;
                one.principal.name = "billing_c".to_owned();
            }
            test.put(vec![Fact::Credential(one)]).await;
            if [150, 250, 399].contains(&number) {
                let current = Fact::IdentityCurrent {
                    id: owner.id,
                    credential: Some(credential(1_120, owner.id).id),
                };
                test.put(vec![current]).await;
                sizes.push(test.store.credentials_in_play(owner.id).await.unwrap().len());
            }
        }
        assert_eq!(sizes, [4, 4, 4]);
        let numbers = |found: Vec<crate::domain::identity::Credential>| -> Vec<u128> {
            found.iter().map(|one| one.id.as_uuid().as_u128()).collect()
        };
        // What is still accepted, the current one though it is dead, and the last of each account.
        let wanted = [1_100, 1_120, 1_398, 1_399];
        assert_eq!(numbers(test.store.credentials_in_play(owner.id).await.unwrap()), wanted);
        let both = test
            .store
            .credentials_in_play_of_many(&[other.id, owner.id])
            .await
            .unwrap();
        assert_eq!(numbers(both), [1_100, 1_120, 1_200, 1_398, 1_399]);
        let latest = test.store.latest_credentials(owner.id, 3).await.unwrap();
        assert_eq!(numbers(latest), [1_399, 1_398, 1_397]);
    }
}

/// A short history is read whole and a long one is not; what is in play of them is the same.
#[tokio::test]
async fn what_is_in_play_of_a_short_history_is_what_would_be_of_a_long_one() {
    for (dead_before, on) in [
        (0_u32, On::Sqlite),
        (40, On::Sqlite),
        (0, On::Postgres),
        (40, On::Postgres),
    ] {
        let test = on.opened().await;
        let owner = test.identity("billing").await;
        for number in 0..dead_before + 8 {
            let mut one = credential(u128::from(number) + 1_000, owner.id);
            one.created_at = at(i64::from(number));
            one.principal.name = format!("billing_{}", if number % 2 == 0 { "a" } else { "b" });
            one.principal.immutable_id = Some(format!("oid-{}", one.principal.name));
            one.state = match number.checked_sub(dead_before) {
                Some(1) => CredentialState::AliveAfterRevoke { since: at(101) },
                Some(6) => CredentialState::NeverIssued,
                _ => CredentialState::Dead { proof: proof() },
            };
            if number == dead_before + 6 {
                one.principal.immutable_id = None;
            }
            test.put(vec![Fact::Credential(one)]).await;
        }
        let current = credential(u128::from(dead_before) + 1_003, owner.id).id;
        test.put(vec![Fact::IdentityCurrent {
            id: owner.id,
            credential: Some(current),
        }])
        .await;
        let found = test.store.credentials_in_play(owner.id).await.unwrap();
        let places = found
            .iter()
            .map(|one| one.id.as_uuid().as_u128() - 1_000 - u128::from(dead_before));
        assert_eq!(places.collect::<Vec<_>>(), [1, 3, 4, 7], "behind {dead_before}");
    }
}
