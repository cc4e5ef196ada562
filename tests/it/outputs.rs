//! What `-o json` prints where no server is asked: one document for a program, and no secret in it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Keyfall, Ran, keyfall, ran};

/// The one document that was printed. Nothing that the server keeps in its key and token files stands in it, nor in what is said beside it.
fn document(done: &Ran, dir: &Path) -> Value {
    assert_eq!(done.code, 0, "{done:?}");
    let secrets = secrets(dir);
    // The server's keys, and a key and a token of each of two people.
    assert_eq!(secrets.len(), 6, "in {}", dir.display());
    for (file, secret) in secrets {
        assert!(secret.len() >= 16, "{file}: {} letters", secret.len());
        let shown = done.stdout.contains(&secret) || done.stderr.contains(&secret);
        assert!(!shown, "what is in {file} was printed");
    }
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", done.stdout))
}

/// The secret line of each file that holds one; above a private key its public half stands in clear.
fn secrets(dir: &Path) -> Vec<(String, String)> {
    let people = ["alice", "bob"].map(|name| [format!("people/{name}.key"), format!("people/{name}.token")]);
    let files = ["kek", "signing.key"]
        .map(str::to_owned)
        .into_iter()
        .chain(people.into_iter().flatten());
    let secret = |file: String| {
        let text = fs::read_to_string(dir.join(&file)).unwrap();
        let line = match text.split_once("-----BEGIN PRIVATE KEY-----\n") {
            Some((_, body)) => body.lines().next(),
            None => text.lines().next(),
        };
        (file, line.unwrap().to_owned())
    };
    files.map(secret).collect()
}

#[test]
fn init_tells_a_program_where_everything_is() {
    let kf = Keyfall::init(&[]);
    let dir = kf.scratch("another");
    let made = ran(keyfall().args(["init", &dir, "-o", "json"]), b"");
    let dir = Path::new(&dir);
    let view = document(&made, dir);
    assert_eq!(view["directory"], json!(dir));
    assert_eq!(view["settings"], json!(dir.join("keyfall.toml")));
    let key = fs::read_to_string(dir.join("keyfall.pub")).unwrap();
    assert_eq!(view["verifier_key"], json!(key.trim()));
    let names: Vec<&Value> = view["people"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["alice", "bob"]);
    assert_eq!(view["people"][1]["context"], json!(dir.join("people/bob.toml")));
}

#[test]
fn config_tells_a_program_its_settings() {
    let kf = Keyfall::init(&[]);
    let config = kf.config().display().to_string();
    let ask = |verb: &str| ran(keyfall().args(["config", verb, "--config", &config, "-o", "json"]), b"");
    let checked = document(&ask("check"), &kf.dir());
    assert_eq!(checked, json!({ "settings": config, "in_order": true }));
    let printed = document(&ask("print"), &kf.dir());
    assert_eq!(printed["engine"]["breaker_percent"], 20);
    assert_eq!(printed["kek_file"], json!(kf.dir().join("kek")));
}

#[test]
fn restore_tells_a_program_what_it_put_back() {
    let kf = Keyfall::start();
    kf.alice().secret("orders-db-admin", "s3cret-of-the-admin");
    let backup = kf.alice().json(&["backup", "b"])["path"].as_str().unwrap().to_owned();
    assert!(kf.stop().success());
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(kf.dir().join(format!("keyfall.db{suffix}")));
    }
    let restored = ran(
        keyfall()
            .args(["restore", &backup, "-o", "json", "--config"])
            .arg(kf.config()),
        b"",
    );
    let view = document(&restored, &kf.dir());
    assert!(!restored.stdout.contains("s3cret-of-the-admin"), "{restored:?}");
    assert_eq!(view["store"], json!(kf.dir().join("keyfall.db")));
    assert_eq!((&view["backup"], &view["standstill"]), (&json!(backup), &json!(true)));
    assert!(view["records"].as_u64().unwrap() >= 2, "{view}");
}
