//! Lists: each row once, in order, whatever changes between two pages.

use super::rows::{identity, progress};
use super::support::{BOTH, Opened, at};
use crate::domain::identity::IdentityState;
use crate::domain::ids::{FindingId, IdentityId};
use crate::store::{Fact, FindingFilter, FindingRow, IdentityFilter, Page, RunFilter};
use uuid::Uuid;

async fn names(test: &Opened, filter: &IdentityFilter, page: Page) -> Vec<String> {
    let found = test.store.identities(filter, page).await.unwrap();
    found.into_iter().map(|one| one.name).collect()
}

#[tokio::test]
async fn filters_hold_alone_and_together() {
    for on in BOTH {
        let test = on.opened().await;
        for number in 0..32_u128 {
            let mut one = identity(
                IdentityId::from_uuid(Uuid::from_u128(number + 100)),
                &format!("id-{number:02}"),
            );
            let pick = |bit: u128, a: &str, b: &str| if number & bit == 0 { a.to_owned() } else { b.to_owned() };
            one.spec.system = pick(1, "orders-db", "cache");
            one.spec.environment = pick(2, "prod", "test");
            one.spec.owner = pick(4, "team-orders", "team-web");
            one.state = if number & 8 == 0 {
                IdentityState::Active
            } else {
                IdentityState::Requested
            };
            one.is_control = number & 16 != 0;
            test.put(vec![Fact::Identity(one)]).await;
        }
        let all = Page::first(100);
        let none = IdentityFilter::default();
        assert_eq!(names(&test, &none, all.clone()).await.len(), 16);
        let filter = IdentityFilter {
            system: Some("cache".to_owned()),
            environment: Some("prod".to_owned()),
            owner: Some("team-web".to_owned()),
            state: Some("requested".to_owned()),
            kind: Some(crate::domain::resource::IdentityKind::DatabaseUser),
            name_prefix: Some("id-".to_owned()),
            with_control: true,
        };
        assert_eq!(names(&test, &filter, all.clone()).await, ["id-13", "id-29"]);
        let prefix = IdentityFilter {
            name_prefix: Some("id-0".to_owned()),
            ..IdentityFilter::default()
        };
        assert_eq!(names(&test, &prefix, all.clone()).await.len(), 10);
        let nobody = IdentityFilter {
            owner: Some("' or 1=1 --".to_owned()),
            ..IdentityFilter::default()
        };
        assert_eq!(names(&test, &nobody, all).await.len(), 0);
        let control = test.store.control_identity("cache").await.unwrap().unwrap();
        assert!(control.is_control && control.spec.system == "cache");
        let ids: Vec<_> = (100..104)
            .map(|id| IdentityId::from_uuid(Uuid::from_u128(id)))
            .collect();
        assert_eq!(test.store.identities_with(&ids).await.unwrap().len(), 4);
        let wanted = ["id-01".to_owned(), "nobody".to_owned()];
        assert_eq!(test.store.identities_named(&wanted).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_page_goes_on_behind_the_last_row_whatever_came_between() {
    for on in BOTH {
        let test = on.opened().await;
        for name in ["b", "d", "f", "h"] {
            test.identity(name).await;
        }
        let filter = IdentityFilter::default();
        let first = names(&test, &filter, Page::first(2)).await;
        test.identity("a").await;
        test.identity("c").await;
        test.identity("g").await;
        let after = first.last().cloned();
        let second = names(&test, &filter, Page { after, limit: 10 }).await;
        assert_eq!(
            (first, second),
            (
                vec!["b".to_owned(), "d".to_owned()],
                vec!["f".to_owned(), "g".to_owned(), "h".to_owned()]
            )
        );
    }
}

#[tokio::test]
async fn runs_come_newest_first_and_their_pages_do_not_move() {
    for on in BOTH {
        let test = on.opened().await;
        let mut ids = Vec::new();
        for number in 0..6 {
            // Pairs of the same instant: the id decides.
            ids.push(test.run(&format!("name-{number}"), number / 2).await);
        }
        ids.reverse();
        let filter = RunFilter::default();
        let mut seen = Vec::new();
        let mut page = Page::first(2);
        while let Some(last) = {
            let found = test.store.runs(&filter, page.clone()).await.unwrap();
            seen.extend(found.iter().map(|row| row.id));
            found.last().map(|row| row.id.to_string())
        } {
            test.run(&format!("new-{}", seen.len()), 1000).await;
            page.after = Some(last);
        }
        assert_eq!(seen, ids.iter().map(|row| row.id).collect::<Vec<_>>());

        test.put(vec![progress(&ids[0], 1, "completed", false)]).await;
        let one = RunFilter {
            identity: Some(ids[0].identity),
            kind: Some(ids[0].kind),
            status: Some("completed".to_owned()),
            open_only: false,
            opened_since: Some(at(2)),
        };
        assert_eq!(test.store.runs(&one, Page::first(9)).await.unwrap().len(), 1);
        let open = RunFilter { open_only: true, ..one };
        assert_eq!(test.store.runs(&open, Page::first(9)).await.unwrap().len(), 0);
    }
}

#[tokio::test]
async fn a_finding_that_is_resolved_between_two_pages_hides_none_behind_it() {
    for on in BOTH {
        let test = on.opened().await;
        for number in 0..6_u32 {
            test.put(vec![Fact::Finding(FindingRow {
                id: FindingId::from_uuid(test.uuid()),
                kind: "overdue".to_owned(),
                subject: format!("name-{number}"),
                severity: "high".to_owned(),
                text: "late".to_owned(),
                owner: "team".to_owned(),
                raised_at: at(i64::from(number)),
                resolved_at: None,
            })])
            .await;
        }
        let resolve = |number: u32| Fact::FindingResolved {
            kind: "overdue",
            subject: format!("name-{number}"),
            at: at(50),
        };
        test.put(vec![resolve(1)]).await;
        let all = FindingFilter::default();
        let first = test.store.findings(&all, Page::first(2)).await.unwrap();
        test.put(vec![resolve(4)]).await;
        let after = first.last().map(FindingRow::page_key);
        let rest = test.store.findings(&all, Page { after, limit: 10 }).await.unwrap();
        let subjects: Vec<_> = first.iter().chain(&rest).map(|one| one.subject.as_str()).collect();
        // The one that was resolved meanwhile stands among the resolved ones as well.
        assert_eq!(
            subjects,
            ["name-5", "name-4", "name-3", "name-2", "name-0", "name-4", "name-1"]
        );
        let open = FindingFilter {
            open_only: true,
            kind: Some("overdue".to_owned()),
            subject: None,
        };
        assert_eq!(test.store.findings(&open, Page::first(10)).await.unwrap().len(), 4);
    }
}

#[tokio::test]
async fn what_expires_is_found_in_order() {
    for on in BOTH {
        let test = on.opened().await;
        for (number, expires) in [(1_u128, 500), (2, 100), (3, 300)] {
            let mut one = identity(IdentityId::from_uuid(Uuid::from_u128(number)), &format!("id-{number}"));
            one.spec.expires = at(expires);
            test.put(vec![Fact::Identity(one)]).await;
        }
        let found = test.store.expiring_identities(at(400), None, 10).await.unwrap();
        assert_eq!(
            found.iter().map(|(instant, _)| *instant).collect::<Vec<_>>(),
            [at(100), at(300)]
        );
        let rest = test
            .store
            .expiring_identities(at(600), Some(found[1]), 10)
            .await
            .unwrap();
        assert_eq!(rest.len(), 1);
        assert_eq!(test.store.overview(at(0)).await.unwrap().expiring_in_30_days, 3);
    }
}
