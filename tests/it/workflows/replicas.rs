//! A PostgreSQL replica that stops replaying goes on honouring a revoked password: nothing is called dead before it has caught up.

use std::fs;

use serde_json::{Value, json};

use super::scene::Scene;
use crate::harness::{Delivered, Servers, Service, login, sql};

const PRIMARY: &str = "KEYFALL_PG_PRIMARY_PORT";
const REPLICA: &str = "KEYFALL_PG_REPLICA_PORT";

/// On a pair of its own: what stands still here stands still for everybody.
fn scene() -> Scene {
    Scene::start_on(Servers::own(&["postgres", "replica"]))
}

fn settling(window: &str) -> Value {
    json!({ "proof": {
        "refusals": 2, "interval": "100ms", "giveUpAfter": "1m", "keepDeadSecret": "10m", "settling": window,
    } })
}

fn pause(scene: &Scene) {
    sql(scene.servers, REPLICA, "select pg_wal_replay_pause()");
    scene.kf.wait("the replica stands still", || {
        let state = sql(scene.servers, REPLICA, "select pg_get_wal_replay_pause_state()");
        (state == [["paused"]]).then_some(())
    });
}

fn go_on(scene: &Scene) {
    sql(scene.servers, REPLICA, "select pg_wal_replay_resume()");
}

fn is_let_in(scene: &Scene, port: &str, what: &Delivered) -> bool {
    login(scene.servers, Service::Postgres, port, &what.user, &what.secret).is_ok()
}

/// A rotation whose new credential is proven everywhere, and whose old one is revoked while the replica stands still.
fn revoked_behind_a_still_replica(scene: &Scene, window: &str) -> (Delivered, String) {
    let old = scene.in_use(Service::Postgres, settling(window), json!({}));
    let run = scene.rotate("orders");
    scene.until_step(&run, "await_uptake");
    pause(scene);
    scene.takes_up("orders", Some(&old));
    scene.until_step(&run, "prove_dead");
    assert!(!is_let_in(scene, PRIMARY, &old));
    assert!(is_let_in(scene, REPLICA, &old), "the replica has not heard of it");
    (old, run)
}

#[test]
fn nothing_is_dead_before_the_replica_has_caught_up() {
    let scene = scene();
    let (old, run) = revoked_behind_a_still_replica(&scene, "4s");
    assert_eq!(scene.credentials("orders"), ["active", "revoked"]);
    go_on(&scene);
    scene.kf.follow(&run, 0);
    scene.is_dead(Service::Postgres, &old);
    assert_eq!(scene.credentials("orders"), ["active", "dead"]);
    scene.receipt(&run, 0);
}

#[test]
fn a_replica_that_stands_still_for_longer_is_reported_and_its_credential_never_called_dead() {
    let scene = scene();
    let (old, run) = revoked_behind_a_still_replica(&scene, "1s");
    scene.kf.follow(&run, 4);
    assert_eq!(scene.credentials("orders"), ["active", "alive_after_revoke"]);
    assert_eq!(scene.findings("alive_after_revoke").len(), 1);
    assert!(is_let_in(&scene, REPLICA, &old));
    scene.works(Service::Postgres, &scene.delivered("orders"));

    go_on(&scene);
    scene.kf.wait("the replica refuses it too", || {
        (!is_let_in(&scene, REPLICA, &old)).then_some(())
    });
    let credential = scene.credential("orders", "alive_after_revoke");
    let revoke = [
        "revoke",
        "orders",
        "--credential",
        &credential,
        "--reason",
        "it was let in",
    ];
    let runs = scene.agreed(&revoke);
    // In this run it was accepted nowhere before its revocation, so its death is not claimed.
    scene.kf.follow(&runs[0], 4);
    assert_eq!(scene.credentials("orders"), ["active", "unprovable"]);
    scene.is_dead(Service::Postgres, &old);
}

/// Who logged in at the replica behind the cut is sent away with the credential.
#[test]
fn sessions_that_the_replica_let_in_behind_the_cut_end_with_the_credential() {
    let scene = scene();
    let (old, run) = revoked_behind_a_still_replica(&scene, "4s");
    let late = Session::open(&scene, &old);
    go_on(&scene);
    scene.kf.follow(&run, 0);
    let open = format!("select count(*) from pg_stat_activity where usename = '{}'", old.user);
    assert_eq!(sql(scene.servers, REPLICA, &open), [["0"]]);
    late.close();
}

/// A session of `psql`, which reads its password from a file.
struct Session(std::process::Child);

impl Session {
    fn open(scene: &Scene, what: &Delivered) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let passfile = scene.kf.scratch("passfile");
        fs::write(&passfile, format!("*:*:*:{}:{}\n", what.user, what.secret)).unwrap();
        fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).unwrap();
        let child = std::process::Command::new(scene.servers.text("KEYFALL_PSQL"))
            .env("PGPASSFILE", &passfile)
            .args([
                "-w",
                "-h",
                scene.servers.text("KEYFALL_PG_HOST"),
                "-p",
                scene.servers.text(REPLICA),
            ])
            .args(["-U", &what.user, "-d", "postgres"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let open = format!(
            "select count(*) from pg_stat_activity where usename = '{}' and application_name = 'psql'",
            what.user
        );
        scene.kf.wait("the session is open", || {
            (sql(scene.servers, REPLICA, &open) == [["1"]]).then_some(())
        });
        Self(child)
    }

    fn close(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}
