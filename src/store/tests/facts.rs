//! Every fact is stored as what it was, and read back as that.

use jiff::SignedDuration;
use uuid::Uuid;

use super::rows::{approval, credential, due, entry, opening, progress, run_row};
use super::support::{BOTH, Opened, at};
use crate::domain::digest::Digest;
use crate::domain::due::DueReason;
use crate::domain::identity::IdentityState;
use crate::domain::ids::{ApprovalId, FindingId, PersonId, PlanId, ReceiptId, ResourceId, RunId, TokenId};
use crate::domain::resource::{Kind, OwnerSpec, Resource, Spec};
use crate::store::{
    ApprovalRow, BudgetSpend, Commit, Fact, FindingFilter, FindingRow, Page, PersonRow, PlanRow, PlanStatus,
    ReceiptRow, SettlingSample, TokenRow,
};

/// A new fact does not compile until somebody has said here which test stores it and reads it back.
#[expect(dead_code, reason = "its match is the check, made by the compiler")]
fn tested_by(fact: &Fact) -> &'static str {
    match fact {
        Fact::Resource(_) => "resources_come_back",
        Fact::Identity(_) | Fact::IdentityState { .. } | Fact::IdentityCurrent { .. } | Fact::IdentityDue { .. } => {
            "an_identity_comes_back_and_keeps_what_only_its_own_facts_change"
        }
        Fact::IdentityPutOff { .. } => "runs::what_is_put_off_is_what_stands_as_it_was_read",
        Fact::Credential(_)
        | Fact::CredentialState { .. }
        | Fact::CredentialIssued { .. }
        | Fact::CredentialProven { .. }
        | Fact::CredentialExpires { .. }
        | Fact::CredentialSecret { .. } => "a_credential_*",
        Fact::Secret(_)
        | Fact::SecretDestroyAt { .. }
        | Fact::SecretKept { .. }
        | Fact::SecretDestroyed { .. }
        | Fact::SecretResealed(_)
        | Fact::SecretRewrapped { .. } => "secrets::*",
        Fact::RunOpened(_) | Fact::RunProgress { .. } => "a_run_comes_back",
        Fact::RunSetAside { .. } => "runs::a_run_that_cannot_be_read_keeps_no_other_from_its_claim",
        Fact::Plan(_) | Fact::PlanStatus { .. } | Fact::Approval(_) => "plans_and_approvals_come_back",
        Fact::Finding(_) | Fact::FindingResolved { .. } => "a_finding_is_raised_once_while_it_is_open",
        Fact::Receipt(_) => "a_receipt_knows_its_place_in_the_log",
        Fact::Person(_) | Fact::PersonRetired { .. } | Fact::Token(_) | Fact::TokenRevoked { .. } => {
            "people_and_tokens_come_back"
        }
        Fact::Setting { .. } | Fact::Spent(_) | Fact::Settling(_) => "small_things_come_back",
    }
}

fn person(test: &Opened) -> PersonRow {
    PersonRow {
        id: PersonId::from_uuid(test.uuid()),
        name: "ana".to_owned(),
        roles: vec!["admin".to_owned(), "approver".to_owned()],
        public_key: Some("ana+1234+key".to_owned()),
        enrolled_by: None,
        enrolment: Some(approval()),
        enrolled_at: at(0),
        retired_at: None,
    }
}

#[tokio::test]
async fn resources_come_back() {
    for on in BOTH {
        let test = on.opened().await;
        let mut owner = Resource {
            id: ResourceId::from_uuid(test.uuid()),
            name: "team-orders".to_owned(),
            version: 1,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            spec: Spec::Owner(OwnerSpec {
                contact: "orders@example.org".to_owned(),
                description: String::new(),
                source: "manual".to_owned(),
                retired: false,
            }),
            approved: Some(approval()),
        };
        test.put(vec![Fact::Resource(owner.clone())]).await;
        owner.version = 2;
        test.put(vec![Fact::Resource(owner.clone())]).await;
        let found = test.store.resource(Kind::Owner, "team-orders").await.unwrap();
        assert_eq!(found.as_ref(), Some(&owner));
        assert_eq!(test.store.resources(Kind::Owner).await.unwrap(), [owner.clone()]);
        assert_eq!(test.store.resources(Kind::System).await.unwrap(), []);
    }
}

#[tokio::test]
async fn an_identity_comes_back_and_keeps_what_only_its_own_facts_change() {
    for on in BOTH {
        let test = on.opened().await;
        let mut one = test.identity("billing").await;
        let current = credential(1, one.id);
        test.put(vec![
            due(&one, 60),
            Fact::Credential(current.clone()),
            Fact::IdentityCurrent {
                id: one.id,
                credential: Some(current.id),
            },
            Fact::IdentityState {
                id: one.id,
                to: IdentityState::Quarantined,
            },
        ])
        .await;
        // Applied again from a manifest: what the runs have made of it stays.
        one.version = 2;
        one.approved = Some(approval());
        one.spec.owner = "team-billing".to_owned();
        test.put(vec![Fact::Identity(one.clone())]).await;
        one.due = Some((at(60), DueReason::MaxAge));
        one.current = Some(current.id);
        one.state = IdentityState::Quarantined;
        assert_eq!(test.store.identity(one.id).await.unwrap().as_ref(), Some(&one));
        assert_eq!(test.store.identity_named("billing").await.unwrap().as_ref(), Some(&one));
        let overview = test.store.overview(at(0)).await.unwrap();
        assert_eq!(overview.identities, [("quarantined".to_owned(), 1)]);
    }
}

#[tokio::test]
async fn a_run_comes_back() {
    for on in BOTH {
        let test = on.opened().await;
        let mut row = test.run("billing", 0).await;
        row.wake_at = Some(at(99));
        test.put(vec![progress(&row, 4, "needs_operator", false)]).await;
        row.status = "needs_operator".to_owned();
        row.next_seq = 4;
        assert_eq!(test.store.run(row.id).await.unwrap().unwrap().row, row);

        test.put(vec![progress(&row, 5, "completed", false)]).await;
        let closed = test.store.run(row.id).await.unwrap().unwrap().row;
        assert_eq!(
            (closed.closed_at, closed.wake_at, closed.node),
            (Some(at(0)), None, None)
        );
        assert_eq!(test.store.open_run_of(row.identity).await.unwrap(), None);
        // The place is free for the next one.
        let identity = test.store.identity(row.identity).await.unwrap().unwrap();
        let next = run_row(RunId::from_uuid(test.uuid()), &identity, 1);
        test.put(vec![Fact::RunOpened(next.clone())]).await;
        let again = run_row(RunId::from_uuid(test.uuid()), &identity, 1);
        let refused = test.try_put(vec![Fact::RunOpened(again)]).await;
        assert!(
            matches!(refused, Err(crate::store::StoreError::Conflict { .. })),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn plans_and_approvals_come_back() {
    for on in BOTH {
        let test = on.opened().await;
        let person = person(&test);
        let mut plan = PlanRow {
            id: PlanId::from_uuid(test.uuid()),
            status: PlanStatus::Proposed,
            digest: Digest::of(b"content"),
            requester: person.id,
            approvals_needed: 2,
            content: b"content".to_vec(),
            created_at: at(0),
            expires_at: at(100),
            decided_at: None,
        };
        let approval = ApprovalRow {
            id: ApprovalId::from_uuid(test.uuid()),
            plan: plan.id,
            person: person.id,
            approve: true,
            reason: "looks right".to_owned(),
            expires_at: at(50),
            signature: vec![9; 64],
            at: at(1),
        };
        test.put(vec![
            Fact::Person(person),
            Fact::Plan(plan.clone()),
            Fact::Approval(approval.clone()),
        ])
        .await;
        assert_eq!(test.store.plan(plan.id).await.unwrap().as_ref(), Some(&plan));
        assert_eq!(test.store.approvals(plan.id).await.unwrap(), [approval]);
        for status in PlanStatus::ALL {
            test.put(vec![Fact::PlanStatus {
                plan: plan.id,
                to: status,
                at: at(2),
            }])
            .await;
            plan.status = status;
            plan.decided_at = Some(at(2));
            let found = test.store.plans(Some(status), Page::first(5)).await.unwrap();
            assert_eq!(found, [plan.clone()]);
        }
    }
}

#[tokio::test]
async fn a_finding_is_raised_once_while_it_is_open() {
    for on in BOTH {
        let test = on.opened().await;
        let finding = |id: u128, text: &str| FindingRow {
            id: FindingId::from_uuid(Uuid::from_u128(id)),
            kind: "overdue".to_owned(),
            subject: "billing".to_owned(),
            severity: "high".to_owned(),
            text: text.to_owned(),
            owner: "team-orders".to_owned(),
            raised_at: at(0),
            resolved_at: None,
        };
        test.put(vec![Fact::Finding(finding(1, "since today"))]).await;
        test.put(vec![Fact::Finding(finding(2, "since yesterday"))]).await;
        let filter = FindingFilter {
            subject: Some("billing".to_owned()),
            ..FindingFilter::default()
        };
        let found = test.store.findings(&filter, Page::first(5)).await.unwrap();
        assert_eq!(found, [finding(1, "since yesterday")]);
        let open = async |kind| test.store.open_among(kind, &["billing", "shipping"]).await.unwrap();
        assert_eq!(open("overdue").await.into_iter().collect::<Vec<_>>(), ["billing"]);
        assert!(open("unowned").await.is_empty());
        let resolved = Fact::FindingResolved {
            kind: "overdue",
            subject: "billing".to_owned(),
            at: at(3),
        };
        test.put(vec![resolved.clone(), resolved]).await;
        assert!(open("overdue").await.is_empty());
        test.put(vec![Fact::Finding(finding(3, "again"))]).await;
        let found = test.store.findings(&filter, Page::first(5)).await.unwrap();
        assert_eq!(
            found.iter().map(|one| one.resolved_at).collect::<Vec<_>>(),
            [None, Some(at(3))]
        );
        assert_eq!(
            test.store.overview(at(0)).await.unwrap().open_findings,
            [("overdue".to_owned(), 1)]
        );
    }
}

#[tokio::test]
async fn a_receipt_knows_its_place_in_the_log() {
    for on in BOTH {
        let test = on.opened().await;
        let other = test.run("other", 0).await;
        let identity = test.identity("billing").await;
        let row = run_row(RunId::from_uuid(test.uuid()), &identity, 0);
        let mut receipt = ReceiptRow {
            id: ReceiptId::from_uuid(test.uuid()),
            run: row.id,
            identity: identity.id,
            body: b"body".to_vec(),
            body_digest: Digest::of(b"body"),
            closing_seq: 0,
            log_position: None,
            at: at(5),
        };
        let commit = Commit {
            guards: Vec::new(),
            facts: vec![Fact::RunOpened(row.clone()), Fact::Receipt(receipt.clone())],
            log: vec![entry(&row, &opening(&row))],
        };
        test.store.commit(commit).await.unwrap();
        receipt.log_position = Some(1);
        assert_eq!(test.store.receipt(receipt.id).await.unwrap(), Some(receipt.clone()));
        let of = |run| crate::store::ReceiptFilter {
            run: Some(run),
            identity: None,
        };
        assert_eq!(
            test.store.receipts(&of(row.id), Page::first(2)).await.unwrap(),
            [receipt]
        );
        assert_eq!(test.store.receipts(&of(other.id), Page::first(2)).await.unwrap(), []);
    }
}

#[tokio::test]
async fn people_and_tokens_come_back() {
    for on in BOTH {
        let test = on.opened().await;
        let mut ana = person(&test);
        let mut token = TokenRow {
            id: TokenId::from_uuid(test.uuid()),
            person: ana.id,
            hash: Digest::of(b"token").0,
            label: "laptop".to_owned(),
            created_at: at(0),
            expires_at: at(1000),
            revoked_at: None,
        };
        test.put(vec![Fact::Person(ana.clone()), Fact::Token(token.clone())])
            .await;
        assert_eq!(test.store.people().await.unwrap(), [ana.clone()]);
        assert_eq!(test.store.token(token.hash).await.unwrap(), Some(token.clone()));
        assert_eq!(test.store.token([0; 32]).await.unwrap(), None);
        test.put(vec![
            Fact::PersonRetired { id: ana.id, at: at(7) },
            Fact::TokenRevoked {
                id: token.id,
                at: at(8),
            },
        ])
        .await;
        // Retiring again does not move the instant.
        test.put(vec![Fact::PersonRetired { id: ana.id, at: at(9) }]).await;
        ana.retired_at = Some(at(7));
        token.revoked_at = Some(at(8));
        assert_eq!(test.store.person(ana.id).await.unwrap(), Some(ana));
        assert_eq!(test.store.token(token.hash).await.unwrap(), Some(token));
    }
}

#[tokio::test]
async fn what_is_spent_in_one_moment_leaves_the_window_together_and_not_early() {
    for on in BOTH {
        let test = on.opened().await;
        let spent = |millis| {
            Fact::Spent(BudgetSpend {
                scope: "destructive:p".to_owned(),
                at: at(0) + SignedDuration::from_millis(millis),
                amount: 1,
                keep: SignedDuration::from_secs(512),
            })
        };
        let since = |millis| at(0) + SignedDuration::from_millis(millis);
        // Out of order, as two callers may come.
        test.put(vec![spent(100), spent(900), spent(500), spent(1_000)]).await;
        for (from, amount) in [(0, 4), (101, 4), (900, 4), (901, 1), (1_001, 0)] {
            assert_eq!(
                test.store.spent("destructive:p", since(from)).await.unwrap(),
                amount,
                "{from}"
            );
        }
    }
}

#[tokio::test]
async fn small_things_come_back() {
    for on in BOTH {
        let test = on.opened().await;
        let spent = |seconds, amount| {
            Fact::Spent(BudgetSpend {
                scope: "destructive:p".to_owned(),
                at: at(seconds),
                amount,
                keep: SignedDuration::from_secs(100),
            })
        };
        let sample = |seconds, micros| SettlingSample {
            system: "orders-db".to_owned(),
            vantage: "primary".to_owned(),
            micros,
            at: at(seconds),
        };
        let set = |value: Option<&str>| Fact::Setting {
            key: "freeze",
            value: value.map(str::to_owned),
        };
        test.put(vec![
            spent(0, 3),
            spent(50, 2),
            Fact::Settling(sample(1, 10)),
            Fact::Settling(sample(2, 20)),
            set(Some("on")),
        ])
        .await;
        assert_eq!(test.store.spent("destructive:p", at(0)).await.unwrap(), 5);
        assert_eq!(test.store.spent("destructive:p", at(1)).await.unwrap(), 2);
        assert_eq!(test.store.spent("another", at(0)).await.unwrap(), 0);
        assert_eq!(
            test.store.settling("orders-db", 5).await.unwrap(),
            [sample(2, 20), sample(1, 10)]
        );
        assert_eq!(test.store.setting("freeze").await.unwrap().as_deref(), Some("on"));
        test.put(vec![set(None), spent(220, 1)]).await;
        assert_eq!(test.store.setting("freeze").await.unwrap(), None);
        // What no window can reach any more is forgotten.
        assert_eq!(test.store.spent("destructive:p", at(-1000)).await.unwrap(), 3);
    }
}
