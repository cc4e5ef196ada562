//! No secret byte is anywhere but in the files that it was delivered to: not in the most talkative log, in store, write-ahead log, anchor, backup,
//! receipts, figures, what commands print, or what the kernel shows of the process.

use std::fs;
use std::path::{Path, PathBuf};

use super::ROOTS;
use super::manifests::Names;
use super::script::Script;
use super::seed;
use crate::harness::{Consumer, Keyfall, Servers, Service, http, token};

const LOG: &str = "[log]\nfilter = \"trace\"";

#[test]
fn no_secret_is_anywhere_else() {
    let names = Names {
        prefix: format!("l{}", seed::prefix()),
    };
    let kf = Keyfall::start_with(&format!("{ROOTS}\n{LOG}"));
    fs::create_dir(kf.dir().join("state")).unwrap();
    let secrets = play(&kf, &names);
    assert!(secrets.len() >= 8, "only {} secrets ever existed", secrets.len());

    let mut looked_at = vec![
        (
            "/metrics".to_owned(),
            http("GET", &format!("{}/metrics", kf.url()), None, "").2.into_bytes(),
        ),
        ("commands".to_owned(), printed(&kf).into_bytes()),
    ];
    let backup = kf.alice().json(&["backup", "b"]);
    assert!(Path::new(backup["path"].as_str().unwrap()).exists());
    for name in ["environ", "cmdline"] {
        let path = format!("/proc/{}/{name}", kf.pid());
        // Only root may read these of a process that cannot be dumped.
        if let Ok(bytes) = fs::read(&path) {
            looked_at.push((path, bytes));
        }
    }
    looked_at.extend(files(&kf));
    assert!(kf.stop().success());
    looked_at.extend(files(&kf));
    let hits: Vec<String> = looked_at
        .iter()
        .flat_map(|(place, bytes)| {
            secrets
                .iter()
                .filter(|(_, secret)| holds(bytes, secret))
                .map(move |(whose, _)| format!("{whose} in {place}"))
        })
        .collect();
    assert!(hits.is_empty(), "{hits:#?}");
    let log = kf.log();
    assert!(log.contains(" DEBUG "), "the log is not talkative: {} bytes", log.len());
}

/// The scenes. Answers every secret that ever existed and can be known here, and whose it is.
fn play(kf: &Keyfall, names: &Names) -> Vec<(String, String)> {
    let apps = kf.dir().join("apps");
    for short in ["orders", "batch", "legacy", "cache"] {
        fs::create_dir_all(apps.join(short)).unwrap();
    }
    let consumers = [
        ("orders", Service::Postgres, false),
        ("cache", Service::Redis, false),
        ("batch", Service::Postgres, true),
    ]
    .map(|(short, service, forgiving)| (short, Consumer::start(service, &apps.join(short), forgiving)));
    let script = Script { kf, names };
    script.register();
    script.rotate_leaked(1);
    script.decommission();
    kf.wait("two scheduled rotations", || (script.rotations() >= 2).then_some(()));
    script.come_to_rest();
    let mut secrets: Vec<(String, String)> = ["alice", "bob"]
        .map(|name| (format!("{name}'s token"), token(&kf.dir(), name)))
        .into();
    for (whose, file) in [
        ("PostgreSQL's admin", "KEYFALL_PG_ADMIN_PASSWORD_FILE"),
        ("Redis's admin", "KEYFALL_REDIS_ADMIN_PASSWORD_FILE"),
    ] {
        secrets.push((whose.to_owned(), Servers::get().file(file)));
    }
    for (short, consumer) in consumers {
        secrets.extend(
            consumer
                .stop()
                .secrets
                .into_iter()
                .map(|secret| (short.to_owned(), secret)),
        );
    }
    secrets
}

/// Whatever shows the most of what there is.
fn printed(kf: &Keyfall) -> String {
    let alice = kf.alice();
    let mut text = String::new();
    for args in [
        &["audit", "list", "--limit", "1000"][..],
        &["runs", "--limit", "1000"],
        &["describe", "identity", "orders"],
        &["describe", "identity", "legacy"],
        &["review"],
        &["doctor"],
        &["get", "plans"],
        &["get", "accounts", "--system", "pg"],
    ] {
        let ran = alice.run(&[args, &["-o", "json"]].concat());
        assert_eq!(ran.code, 0, "keyfall {args:?}: {}", ran.stderr);
        text += &ran.stdout;
    }
    for receipt in alice.json(&["get", "receipts"]).as_array().unwrap() {
        text += &alice.ok(&["get", "receipt", receipt["id"].as_str().unwrap()]);
    }
    text
}

/// Every file of the server and beside it, but those that exist to hold a secret: what was delivered, and the people's own.
fn files(kf: &Keyfall) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![kf.scratch("").into()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let own = path == kf.dir().join("apps") || path == kf.dir().join("people");
            if path.is_dir() && !own {
                folders.push(path);
            } else if path.is_file() {
                found.push((path.display().to_string(), fs::read(&path).unwrap()));
            }
        }
    }
    assert!(found.len() >= 8, "{} files", found.len());
    found
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}
