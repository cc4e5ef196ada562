//! A store with something in every table.

use jiff::SignedDuration;

use super::rows::{approval, credential, due, entry, note, opening, run_row, secret};
use super::support::{Opened, at};
use crate::domain::digest::Digest;
use crate::domain::ids::{ApprovalId, FindingId, PersonId, PlanId, ReceiptId, ResourceId, RunId, TokenId};
use crate::domain::resource::{OwnerSpec, Resource, Spec};
use crate::store::{
    ApprovalRow, BudgetSpend, Commit, Fact, FindingRow, PersonRow, PlanRow, PlanStatus, ReceiptRow, RunRow,
    SettlingSample, TokenRow,
};

/// Something in every table, and a log that is long enough for stored nodes.
pub(super) async fn fill(test: &Opened) {
    let row = test.run("billing", 0).await;
    let mut current = credential(1, row.identity);
    let sealed = secret(5, b"sealed bytes");
    current.secret = Some(sealed.id);
    let person = PersonRow {
        id: PersonId::from_uuid(test.uuid()),
        name: "ana".to_owned(),
        roles: vec!["admin".to_owned()],
        public_key: Some("ana+1234+key".to_owned()),
        enrolled_by: None,
        enrolment: Some(approval()),
        enrolled_at: at(0),
        retired_at: None,
    };
    let plan = PlanRow {
        id: PlanId::from_uuid(test.uuid()),
        status: PlanStatus::Proposed,
        digest: Digest::of(b"content"),
        requester: person.id,
        approvals_needed: 1,
        content: vec![0, 255, 10],
        created_at: at(0),
        expires_at: at(100),
        decided_at: None,
    };
    let mut facts = vec![
        Fact::Secret(sealed),
        Fact::Credential(current.clone()),
        Fact::IdentityCurrent {
            id: row.identity,
            credential: Some(current.id),
        },
        Fact::Setting {
            key: "freeze",
            value: Some("a quiet day".to_owned()),
        },
    ];
    facts.extend(papers(test, &person, &plan));
    facts.extend(measures(test, &row));
    test.put(facts).await;
    lengthen(test).await;
}

/// Entries of no run, and runs with their first.
async fn lengthen(test: &Opened) {
    for group in 0..6_u32 {
        let log = (0..100).map(|number| note(&format!("note {group}/{number}"))).collect();
        let commit = Commit {
            log,
            ..Commit::default()
        };
        test.store.commit(commit).await.unwrap();
    }
    for number in 0..20 {
        let one = test.identity(&format!("service-{number}")).await;
        test.put(vec![due(&one, number)]).await;
        let row = run_row(RunId::from_uuid(test.uuid()), &one, 0);
        let commit = Commit {
            facts: vec![Fact::RunOpened(row.clone())],
            log: vec![entry(&row, &opening(&row))],
            ..Commit::default()
        };
        test.store.commit(commit).await.unwrap();
    }
}

fn papers(test: &Opened, person: &PersonRow, plan: &PlanRow) -> Vec<Fact> {
    vec![
        Fact::Person(person.clone()),
        Fact::Plan(plan.clone()),
        Fact::Approval(ApprovalRow {
            id: ApprovalId::from_uuid(test.uuid()),
            plan: plan.id,
            person: person.id,
            approve: true,
            reason: "looks right, überall".to_owned(),
            expires_at: at(50),
            signature: vec![9; 64],
            at: at(1),
        }),
        Fact::Token(TokenRow {
            id: TokenId::from_uuid(test.uuid()),
            person: person.id,
            hash: Digest::of(b"token").0,
            label: "laptop".to_owned(),
            created_at: at(0),
            expires_at: at(1000),
            revoked_at: None,
        }),
    ]
}

fn measures(test: &Opened, row: &RunRow) -> Vec<Fact> {
    let mut facts = vec![
        Fact::Resource(Resource {
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
        }),
        Fact::Finding(FindingRow {
            id: FindingId::from_uuid(test.uuid()),
            kind: "overdue".to_owned(),
            subject: "billing".to_owned(),
            severity: "high".to_owned(),
            text: "since today".to_owned(),
            owner: "team-orders".to_owned(),
            raised_at: at(0),
            resolved_at: None,
        }),
        Fact::Receipt(ReceiptRow {
            id: ReceiptId::from_uuid(test.uuid()),
            run: row.id,
            identity: row.identity,
            body: b"body".to_vec(),
            body_digest: Digest::of(b"body"),
            closing_seq: 0,
            log_position: None,
            at: at(5),
        }),
    ];
    for number in 0..8_i64 {
        facts.push(Fact::Spent(BudgetSpend {
            scope: format!("destructive:{number}"),
            at: at(number),
            amount: 1,
            keep: SignedDuration::from_secs(1_000),
        }));
        // The same instant, so that only the order of insertion tells them apart.
        facts.push(Fact::Settling(SettlingSample {
            system: "orders-db".to_owned(),
            vantage: "primary".to_owned(),
            micros: number,
            at: at(0),
        }));
    }
    facts
}
