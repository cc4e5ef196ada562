//! What is checked without the server: the log and its checkpoints, on the reader's own machine.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::harness::{Keyfall, ran};

/// A server with some records in its log.
fn with_records() -> Keyfall {
    let kf = Keyfall::start();
    for name in ["one", "two", "three"] {
        kf.alice().secret(name, "s3cret");
    }
    kf
}

#[test]
fn the_log_is_verified_from_the_server_and_from_a_file() {
    let kf = with_records();
    let key = kf.public_key();
    let kept = kf.scratch("kept.checkpoint");
    fs::write(&kept, kf.alice().ok(&["audit", "checkpoint"])).unwrap();
    kf.alice().secret("four", "s3cret");
    let from_server = kf.alice().ok(&["audit", "verify", "--key", &key, "--anchor", &kept]);
    assert!(from_server.contains("all 5 records of `keyfall`"), "{from_server}");
    let file = kf.scratch("log.ndjson");
    kf.alice().ok(&["audit", "export", &file]);
    assert!(kf.stop().success());
    kf.stranger()
        .ok(&["audit", "verify", &file, "--key", &key, "--anchor", &kept]);
    let anchor = kf.dir().join("anchor").display().to_string();
    kf.stranger()
        .ok(&["audit", "verify", &file, "--key", &key, "--anchor", &anchor]);
    let other = Keyfall::init(&[]);
    let strange = kf
        .stranger()
        .fails(&["audit", "verify", &file, "--key", &other.public_key()], 4);
    assert!(
        strange.contains("no signature is by a key that is trusted here"),
        "{strange}"
    );
}

#[test]
fn the_first_bad_record_is_named() {
    let kf = with_records();
    let (file, key) = (kf.scratch("log.ndjson"), kf.public_key());
    kf.alice().ok(&["audit", "export", &file]);
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let verdict = |lines: &[String]| {
        fs::write(&file, lines.join("\n") + "\n").unwrap();
        kf.stranger().fails(&["audit", "verify", &file, "--key", &key], 4)
    };
    let owned = || lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();

    let mut changed = owned();
    let mut record: Value = serde_json::from_str(&changed[2]).unwrap();
    let mut bytes = STANDARD.decode(record["record"].as_str().unwrap()).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    record["record"] = STANDARD.encode(&bytes).into();
    changed[2] = record.to_string();
    assert!(verdict(&changed).contains("record 2: its bytes are not those that were hashed"));

    let mut missing = owned();
    missing.remove(1);
    assert!(verdict(&missing).contains("record 1: the record 2 stands in its place"));

    let cut = owned()[..3].to_vec();
    assert!(verdict(&cut).contains("without a checkpoint: it was cut"));

    let mut forged = owned();
    forged[2] = record
        .as_object_mut()
        .map(|line| line.remove("leaf"))
        .map(|_| record.to_string())
        .unwrap();
    assert!(
        verdict(&forged).contains("the root over all"),
        "a record without its leaf"
    );
}

#[test]
fn a_rewound_log_does_not_pass_for_the_one_that_was_kept() {
    let kf = with_records();
    let (file, key) = (kf.scratch("old.ndjson"), kf.public_key());
    kf.alice().ok(&["audit", "export", &file]);
    kf.alice().secret("four", "s3cret");
    let kept = kf.scratch("kept.checkpoint");
    fs::write(&kept, kf.alice().ok(&["audit", "checkpoint"])).unwrap();
    let rewound = kf
        .stranger()
        .fails(&["audit", "verify", &file, "--key", &key, "--anchor", &kept], 4);
    assert!(
        rewound.contains("rewound: the anchor speaks of 5 records, the log of 4"),
        "{rewound}"
    );
}

#[test]
fn a_secret_that_was_set_is_in_no_file_in_clear() {
    let kf = Keyfall::start();
    let canary = "canary-7f1c9b52-do-not-find-me";
    kf.alice().secret("admin", canary);
    let backup = kf.alice().json(&["backup", "b"])["path"].as_str().unwrap().to_owned();
    assert!(kf.stop().success());
    let mut looked_at = 0;
    let mut folders = vec![kf.dir(), kf.scratch("").into()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{} holds the secret", path.display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 8 && fs::exists(backup).unwrap(), "{looked_at}");
}

#[test]
fn a_file_that_is_no_receipt_proves_nothing() {
    let kf = Keyfall::init(&[]);
    let file = kf.scratch("receipt");
    fs::write(&file, "{}").unwrap();
    let refused = ran(
        crate::harness::keyfall().args(["verify", &file, "--key", &kf.public_key()]),
        b"",
    );
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("not a receipt"), "{refused:?}");
}
