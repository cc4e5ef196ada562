//! From a manifest to an account that works: planned, approved by another person, provisioned, delivered. And what makes a plan worthless.

use std::fs;

use serde_json::{Value, json};

use super::scene::{Scene, over, policy, text, yaml};
use crate::harness::{Service, sql};

#[test]
fn a_manifest_becomes_an_account_that_works_and_nothing_the_second_time() {
    for service in [Service::Postgres, Service::Redis] {
        let scene = Scene::start();
        let mut manifests = scene.ground(service);
        manifests.push(policy("fast", &["orders"], json!({})));
        manifests.push(scene.identity("orders", service, json!({})));
        let runs = scene.apply(&manifests);
        assert_eq!(runs.len(), 2, "the identity's and the control identity's");
        for run in &runs {
            scene.kf.follow(run, 0);
        }
        scene.works(service, &scene.delivered("orders"));
        assert_eq!(scene.state("orders"), "active");
        assert_eq!(scene.credentials("orders"), ["active"]);
        let system = if service == Service::Postgres { "pg" } else { "redis" };
        assert_eq!(scene.state(&format!("keyfall-control.{system}")), "active");
        assert!(scene.apply(&manifests).is_empty(), "the second plan is empty");
        assert!(
            scene.kf.alice().json(&["review"])["findings"]
                .as_array()
                .unwrap()
                .is_empty()
        );
    }
}

/// Alternating accounts act as one owner that cannot log in, and the control identity has no right at all.
#[test]
fn accounts_have_exactly_the_rights_that_were_approved() {
    let scene = Scene::start();
    let mut manifests = scene.ground(Service::Postgres);
    manifests.push(policy("fast", &["orders"], json!({})));
    manifests.push(scene.identity("orders", Service::Postgres, json!({})));
    scene.register(&manifests);
    let statement = format!(
        "select r.rolname, r.rolcanlogin, r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls, \
         coalesce((select string_agg(o.rolname, ',') from pg_auth_members m join pg_roles o on o.oid = m.roleid where m.member = r.oid), '') \
         from pg_roles r where starts_with(r.rolname, '{}') order by 1",
        scene.account("")
    );
    let rows = sql(scene.servers, "KEYFALL_PG_PRIMARY_PORT", &statement);
    let owner = scene.account("orders_owner");
    let row = |name: String, login: &str, member: &str| vec![name, login.to_owned(), "f".to_owned(), member.to_owned()];
    assert_eq!(
        rows,
        [
            row(scene.account("control"), "t", ""),
            row(scene.account("orders_a"), "t", &owner),
            row(owner.clone(), "f", ""),
        ]
    );
}

#[test]
fn a_plan_that_is_not_what_is_registered_any_more_is_worth_nothing() {
    let scene = Scene::start();
    let ground = scene.ground(Service::Redis);
    scene.register(&ground);
    let propose = |contact: &str| -> Value {
        let mut owner = ground[0].clone();
        owner["spec"]["contact"] = contact.into();
        let file = scene.kf.scratch("owner.yaml");
        fs::write(&file, yaml(&[owner])).unwrap();
        scene.kf.alice().json(&["plan", "-f", &file])
    };
    let (first, second) = (propose("first@example.com"), propose("second@example.com"));
    let own = scene.kf.alice().fails(&["approve", &text(&first["id"]), "--yes"], 1);
    assert!(own.contains("another person"), "{own}");
    scene.kf.bob().approve(&text(&second["id"]));
    let stale = scene.kf.bob().fails(&["approve", &text(&first["id"]), "--yes"], 1);
    assert!(stale.contains("changed meanwhile; plan again"), "{stale}");
    let owner = scene.kf.alice().json(&["describe", "owner", "team"]);
    assert_eq!(owner["spec"]["contact"], "second@example.com");
}

/// Somebody with the store's file in his hands gives himself more than was signed.
#[test]
fn a_plan_whose_bytes_were_changed_opens_nothing() {
    let scene = Scene::start();
    scene.register(&scene.ground(Service::Redis));
    let file = scene.kf.scratch("orders.yaml");
    fs::write(&file, yaml(&[scene.identity("orders", Service::Redis, json!({}))])).unwrap();
    let plan = text(&scene.kf.alice().json(&["plan", "-f", &file])["id"]);
    scene.kf.stop();
    let store = rusqlite::Connection::open(scene.kf.dir().join("keyfall.db")).unwrap();
    let content: Vec<u8> = store
        .query_row("select content from plans where status = 'proposed'", [], |row| {
            row.get(0)
        })
        .unwrap();
    let changed = String::from_utf8(content).unwrap().replace("+@read", "+@all ");
    store
        .execute(
            "update plans set content = ?1 where status = 'proposed'",
            [changed.as_bytes()],
        )
        .unwrap();
    drop(store);
    scene.kf.resume();
    let refused = scene.kf.bob().run(&["approve", &plan, "--yes"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(scene.kf.alice().run(&["describe", "identity", "orders"]).code != 0);
}

#[test]
fn what_cannot_be_carried_out_is_refused_with_its_line() {
    let scene = Scene::start();
    let mut manifests = scene.ground(Service::Postgres);
    manifests.push(over(
        scene.identity(
            "orders",
            Service::Postgres,
            json!({ "environment": "prod", "owner": "nobody" }),
        ),
        json!({}),
    ));
    let file = scene.kf.scratch("bad.yaml");
    fs::write(&file, yaml(&manifests)).unwrap();
    let refused = scene.kf.alice().run(&["plan", "-f", &file]);
    assert_ne!(refused.code, 0);
    for part in ["bad.yaml:", "owner `nobody` is not registered", "environment"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
}
