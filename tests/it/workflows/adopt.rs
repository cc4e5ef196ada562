//! Accounts that were there before Keyfall: registered without a change, and under approval taken over, rotated and rid of what was known.

use std::fs;

use serde_json::{Value, json};

use super::scene::{Scene, policy};
use crate::harness::{Delivered, Service, login, ran, redis_admin, sql};

const PASSWORD: &str = "chosen-by-somebody-in-2019";

/// An account that somebody made by hand.
fn found(scene: &Scene, service: Service) -> Delivered {
    let user = scene.account("legacy");
    match service {
        Service::Postgres => {
            let text = format!("create role {user} login password '{PASSWORD}'");
            sql(scene.servers, "KEYFALL_PG_PRIMARY_PORT", &text);
        }
        Service::Redis => {
            for port in service.ports() {
                redis_admin(
                    scene.servers,
                    port,
                    &["ACL", "SETUSER", &user, "on", &format!(">{PASSWORD}"), "~*", "+get"],
                );
            }
        }
    }
    let found = Delivered {
        user,
        secret: PASSWORD.to_owned(),
        version: String::new(),
    };
    scene.kf.wait("every server knows it", || {
        let lets_in = |port: &&str| login(scene.servers, service, port, &found.user, &found.secret).is_ok();
        service.ports().iter().all(lets_in).then_some(())
    });
    found
}

/// Everything that the servers know of the account.
fn snapshot(scene: &Scene, service: Service) -> String {
    let user = scene.account("legacy");
    let all = service.ports().map(|port| match service {
        Service::Postgres => format!(
            "{:?}",
            sql(
                scene.servers,
                port,
                &format!("select *, oid from pg_authid where rolname = '{user}'")
            )
        ),
        Service::Redis => format!("{:?}", redis_admin(scene.servers, port, &["ACL", "GETUSER", &user])),
    });
    all.join("\n")
}

fn adoption<'a>(service: Service, account: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let system = if service == Service::Postgres { "pg" } else { "redis" };
    let mut asked = vec![
        "adopt",
        "legacy",
        "--system",
        system,
        "--account",
        account,
        "--owner",
        "team",
    ];
    asked.extend(["--environment", "test", "--expires", "2099-01-01T00:00:00Z"]);
    asked.extend(more);
    asked
}

#[test]
fn an_adopted_account_is_untouched_until_it_is_taken_over_and_then_rotated() {
    for service in [Service::Postgres, Service::Redis] {
        let scene = Scene::start();
        let mut manifests = scene.ground(service);
        manifests.push(policy("fast", &["legacy"], json!({})));
        scene.register(&manifests);
        let by_hand = found(&scene, service);
        let before = snapshot(&scene, service);
        let unregistered = scene.kf.alice().json(&["review"])["unregistered"].to_string();
        assert!(unregistered.contains(&by_hand.user), "{unregistered}");

        let runs = scene.agreed(&adoption(service, &by_hand.user, &[]));
        scene.kf.follow(&runs[0], 0);
        assert_eq!(scene.credentials("legacy"), ["foreign"]);
        assert_eq!(snapshot(&scene, service), before);
        let refused = scene.kf.alice().run(&["rotate", "legacy"]);
        assert!(
            refused.code != 0 && refused.stderr.contains("--take-over"),
            "{refused:?}"
        );

        let wrong = scene.kf.scratch("wrong");
        fs::write(&wrong, "not-the-password\n").unwrap();
        let runs = scene.agreed(&adoption(
            service,
            &by_hand.user,
            &["--take-over", "--secret-from", &wrong],
        ));
        scene.until_status(&runs[0], "needs_operator");
        scene
            .kf
            .alice()
            .ok(&["cancel", &runs[0], "--reason", "wrong password given"]);
        assert_eq!(scene.kf.alice().run(&["watch", &runs[0]]).code, 1);

        let more = ["--take-over", "--secret-from", "-", "-o", "json"];
        let mut command = scene.kf.alice().command();
        command.args(adoption(service, &by_hand.user, &more));
        let asked = ran(&mut command, format!("{PASSWORD}\n").as_bytes());
        assert_eq!(asked.code, 0, "{asked:?}");
        let plan: Value = serde_json::from_str(&asked.stdout).unwrap();
        let runs = scene.kf.bob().approve(plan["id"].as_str().unwrap());
        scene.kf.follow(&runs[0], 0);
        assert_eq!(scene.credentials("legacy"), ["active"]);
        assert_eq!(snapshot(&scene, service), before);
        scene.works(service, &by_hand);

        is_rotated_and_ended(&scene, service, &by_hand);
    }
}

fn is_rotated_and_ended(scene: &Scene, service: Service, by_hand: &Delivered) {
    let run = scene.rotate("legacy");
    scene.kf.follow(&run, 0);
    scene.is_dead(service, by_hand);
    assert_eq!(scene.credentials("legacy"), ["active", "dead"]);
    scene.receipt(&run, 0);
    let account = scene.describe("legacy")["current"]["account"]
        .as_str()
        .unwrap()
        .to_owned();
    let expected = if service == Service::Postgres {
        format!("{}_a", by_hand.user)
    } else {
        by_hand.user.clone()
    };
    assert_eq!(account, expected);

    let runs = scene.agreed(&["decommission", "legacy", "--reason", "replaced"]);
    scene.kf.follow(&runs[0], 0);
    assert_eq!(scene.state("legacy"), "decommissioned");
    let left = snapshot(scene, service);
    assert!(!left.contains(&by_hand.user), "{left}");
}
