//! One byte of the log is not what was signed: whoever verifies is told the first bad record, and the server does nothing more on such a store.

use rusqlite::Connection;
use serde_json::json;

use super::scene::{Scene, text};
use crate::harness::{Keyfall, Service};

/// Changes one byte of one record, as somebody with the file in hands can.
fn flip(kf: &Keyfall, position: i64) {
    let store = Connection::open(kf.dir().join("keyfall.db")).unwrap();
    store.execute_batch("drop trigger log_is_not_changed").unwrap();
    let mut bytes: Vec<u8> = store
        .query_row("select bytes from log where position = ?1", [position], |row| {
            row.get(0)
        })
        .unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let changed = store
        .execute("update log set bytes = ?1 where position = ?2", (bytes, position))
        .unwrap();
    assert_eq!(changed, 1);
    let trigger = "create trigger log_is_not_changed before update on log begin
    select raise(abort, 'the log is append-only');
end";
    store.execute_batch(trigger).unwrap();
}

/// The newest record of a run that is closed.
fn of_a_closed_run(kf: &Keyfall) -> i64 {
    let store = Connection::open(kf.dir().join("keyfall.db")).unwrap();
    let text = "select max(position) from log where run is not null";
    store.query_row(text, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_flipped_byte_in_the_log_is_named_and_stops_everything() {
    let scene = Scene::start();
    let kf = &scene.kf;
    let old = scene.in_use(Service::Redis, json!({}), json!({}));
    let sound = kf.scratch("sound.log");
    kf.alice().ok(&["audit", "export", &sound]);
    kf.alice().ok(&["audit", "verify", "--key", &kf.public_key()]);
    let position = of_a_closed_run(kf);
    let run = scene.rotate("orders");
    scene.until_step(&run, "await_uptake");
    assert!(kf.stop().success());
    flip(kf, position);

    kf.resume();
    let named = format!("record {position}");
    let frozen = text(&kf.alice().json(&["status"])["frozen"]);
    assert!(
        frozen.contains(&named) && frozen.contains("keyfall restore"),
        "{frozen}"
    );
    let doctor = kf.alice().run(&["doctor"]);
    assert!(doctor.stdout.contains(&named), "{doctor:?}");
    let bad = kf.scratch("bad.log");
    kf.alice().ok(&["audit", "export", &bad]);
    for file in [None, Some(bad.as_str())] {
        let key = kf.public_key();
        let args: Vec<&str> = ["audit", "verify", "--key", &key].into_iter().chain(file).collect();
        let said = kf.alice().fails(&args, 4);
        assert!(said.contains(&named), "{said}");
    }
    kf.alice().ok(&["audit", "verify", "--key", &kf.public_key(), &sound]);

    let note = text(&scene.run(&run)["note"]);
    assert_eq!(scene.run(&run)["status"], "needs_operator");
    assert!(note.contains(&named), "{note}");
    // Nor does a person who goes on before the standstill is lifted send anything.
    kf.alice().ok(&["retry", &run, "--reason", "in a test"]);
    scene.takes_up("orders", Some(&old));
    scene.until_held("standstill");
    scene.works(Service::Redis, &old);
    assert_eq!(scene.run(&run)["step"], "revoke_old");
}
