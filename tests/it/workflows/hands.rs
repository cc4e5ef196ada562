//! Hands that change the systems behind Keyfall's back while a run is under way: what they did is never undone silently, and proves nothing.

use serde_json::json;

use super::scene::{Scene, text};
use crate::harness::{Delivered, Service, login, sql};

const PRIMARY: &str = "KEYFALL_PG_PRIMARY_PORT";

fn by_hand(scene: &Scene, statement: &str) {
    sql(scene.servers, PRIMARY, statement);
}

fn answer(scene: &Scene, what: &Delivered) -> Result<(), String> {
    login(scene.servers, Service::Postgres, PRIMARY, &what.user, &what.secret)
}

/// With a changed password of its own on the old account, nothing tells whose it is: it stays, and a person is asked.
#[test]
fn a_password_set_by_hand_on_the_old_account_is_left_alone() {
    let scene = Scene::start();
    let old = scene.in_use(Service::Postgres, json!({}), json!({}));
    let run = scene.rotate("orders");
    scene.until_step(&run, "await_uptake");
    by_hand(&scene, &format!("alter role {} password 'by-hand-1'", old.user));
    let hand = Delivered {
        secret: "by-hand-1".to_owned(),
        ..old.clone()
    };
    scene.takes_up("orders", Some(&old));
    let asked = scene.until_status(&run, "needs_operator");
    assert_eq!(asked["step"], "revoke_old", "{asked:#}");
    assert!(
        text(&asked["note"]).contains("somebody else set its password"),
        "{asked:#}"
    );
    assert_eq!(answer(&scene, &hand), Ok(()), "what a hand set is not taken away");
    scene.works(Service::Postgres, &scene.delivered("orders"));

    by_hand(&scene, &format!("alter role {} password null", old.user));
    scene
        .kf
        .alice()
        .ok(&["retry", &run, "--reason", "it was ours, and is gone"]);
    scene.kf.follow(&run, 0);
    scene.is_dead(Service::Postgres, &old);
    assert_eq!(scene.credentials("orders"), ["active", "dead"]);
}

/// The successor was proven, and does not work any more when its predecessor is to go: the last credential that works is kept (P3).
#[test]
fn a_password_set_by_hand_on_the_new_account_keeps_the_old_one_alive() {
    for service in [Service::Postgres, Service::Redis] {
        let scene = Scene::start();
        let old = scene.in_use(service, json!({}), json!({}));
        let run = scene.rotate("orders");
        scene.until_step(&run, "await_uptake");
        let new = scene.delivered("orders");
        match service {
            Service::Postgres => by_hand(&scene, &format!("alter role {} password 'by-hand-2'", new.user)),
            Service::Redis => {
                for port in service.ports() {
                    let take = format!("<{}", new.secret);
                    crate::harness::redis_admin(scene.servers, port, &["ACL", "SETUSER", &new.user, &take]);
                }
            }
        }
        scene.takes_up("orders", Some(&old));
        let asked = scene.until_status(&run, "needs_operator");
        assert_eq!(asked["step"], "revoke_old", "{asked:#}");
        scene.works(service, &old);
        if service == Service::Postgres {
            let hand = Delivered {
                secret: "by-hand-2".to_owned(),
                ..new
            };
            assert_eq!(answer(&scene, &hand), Ok(()), "what a hand set is not overwritten");
        }
        assert!(!scene.findings("needs_operator").is_empty());
    }
}

/// A locked account refuses the right password too, and unlocking brings it back: its refusals are worth nothing.
#[test]
fn an_account_that_a_hand_locked_is_not_dead_before_its_password_is_replaced() {
    let scene = Scene::start();
    let proof = json!({
        "refusals": 2, "interval": "200ms", "giveUpAfter": "1m", "keepDeadSecret": "10m", "settling": "2s",
    });
    let old = scene.in_use(Service::Postgres, json!({ "proof": proof }), json!({}));
    let verifier = sql(
        scene.servers,
        PRIMARY,
        &format!("select rolpassword from pg_authid where rolname = '{}'", old.user),
    );
    let run = scene.rotate("orders");
    scene.takes_up("orders", Some(&old));
    scene.until_step(&run, "prove_dead");
    by_hand(
        &scene,
        &format!("alter role {} nologin password '{}'", old.user, verifier[0][0]),
    );
    assert_eq!(answer(&scene, &old), Err("28000".to_owned()));
    scene.kf.wait("the locked account was tried", || {
        let seen = scene.seen(&run);
        let locked = seen.iter().filter(|line| line.contains("(principal)")).count();
        (locked >= 3).then_some(())
    });
    assert_eq!(scene.credentials("orders"), ["active", "revoked"]);
    by_hand(&scene, &format!("alter role {} login password null", old.user));
    scene.kf.follow(&run, 0);
    assert_eq!(scene.credentials("orders"), ["active", "dead"]);
    scene.is_dead(Service::Postgres, &old);
}
