//! What a manifest may say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use keyfall_sdk::{ConnectorKind, ServerGrants};
use serde_json::{Value, json};

use super::{Setup, raw, spec};
use crate::file::FileKind;

#[test]
fn paths_that_do_not_say_where_they_lead_are_refused() {
    let setup = Setup::new();
    let corpus = [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "./a",
        "a/./b",
        "a//b",
        "a/",
        "a\0b",
        "a\nb",
        "a/\u{7f}",
    ];
    for path in corpus {
        assert_eq!(setup.problems(&raw(path)).len(), 1, "{path:?}");
        let acks = json!({ "root": "apps", "path": "db", "layout": "raw", "acknowledgements": path });
        assert_eq!(setup.problems(&acks).len(), 1, "acknowledgements {path:?}");
    }
    for path in ["db", "a/b/c.env", "..a", "a..b", "ein Name", ".hidden"] {
        assert_eq!(setup.problems(&raw(path)), Vec::<String>::new(), "{path:?}");
    }
}

#[test]
fn a_target_is_checked_before_anything_is_planned_on_it() {
    let setup = Setup::with_commands(&[("reload", &["/bin/true"])]);
    let wrong = [
        json!({ "root": "etc" }),
        json!({ "layout": "yaml" }),
        json!({ "layout": "template" }),
        json!({ "template": "{{ secret }}" }),
        json!({ "layout": "template", "template": "no placeholder" }),
        json!({ "layout": "template", "template": "{{ secret" }),
        json!({ "keys": { "secret": "X" } }),
        json!({ "layout": "dotenv", "keys": { "secret": "A B" } }),
        json!({ "layout": "dotenv", "keys": { "secret": "1A" } }),
        json!({ "mode": "0644" }),
        json!({ "mode": "4600" }),
        json!({ "mode": "0060" }),
        json!({ "mode": 600 }),
        json!({ "mode": "rw" }),
        json!({ "after": {} }),
        json!({ "after": { "command": "rm" } }),
        json!({ "after": { "command": "reload", "signal": { "pidFile": "p", "name": "HUP" } } }),
        json!({ "after": { "signal": { "pidFile": "../p", "name": "HUP" } } }),
        json!({ "after": { "signal": { "pidFile": "p", "name": "KILL" } } }),
        json!({ "acknowledgements": "db" }),
        json!({ "shell": "true" }),
    ];
    for change in wrong {
        let mut target = raw("db");
        for (key, value) in change.as_object().unwrap() {
            target[key] = value.clone();
        }
        assert_eq!(setup.problems(&target).len(), 1, "{change}");
    }
    assert_eq!(setup.problems(&json!("db")).len(), 1);
}

#[test]
fn defaults_are_checked_as_far_as_they_go() {
    let setup = Setup::with_commands(&[]);
    let problems = |defaults: &Value| setup.connector.deliver().unwrap().check_defaults(defaults);
    for sound in [
        json!(null),
        json!({}),
        json!({ "root": "apps" }),
        json!({ "layout": "template" }),
        json!({ "template": "{{ secret }}" }),
    ] {
        assert_eq!(problems(&sound), Vec::<String>::new(), "{sound}");
    }
    for wrong in [
        json!("apps"),
        json!({ "root": "etc" }),
        json!({ "path": "../x" }),
        json!({ "layout": "yaml" }),
        json!({ "mode": "0644" }),
        json!({ "after": { "command": "rm" } }),
        json!({ "path": "a", "acknowledgements": "a" }),
        json!({ "rot": "apps" }),
    ] {
        assert_eq!(problems(&wrong).len(), 1, "{wrong}");
    }
}

#[test]
fn the_configuration_names_no_vantage_and_the_server_no_relative_path() {
    let grants = ServerGrants {
        file_roots: BTreeMap::from([("apps".to_owned(), PathBuf::from("relative"))]),
        reload_commands: BTreeMap::from([("reload".to_owned(), vec!["systemctl".to_owned()])]),
        plaintext_hosts: Vec::new(),
    };
    assert_eq!(FileKind.check(&spec(), &ServerGrants::default()), Vec::new());
    assert_eq!(FileKind.check(&spec(), &grants).len(), 2);
    let mut spec = spec();
    spec.options = json!({ "x": 1 });
    assert_eq!(FileKind.check(&spec, &ServerGrants::default()).len(), 1);
}
