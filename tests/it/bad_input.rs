//! Wrong manifests, flags, stores, tokens and replies: each gets a clear error that says what to do, and nothing is lost.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Keyfall, demo_accounts, keyfall, ran};

const OWNER: &str =
    "apiVersion: keyfall.dev/v1\nkind: Owner\nmetadata: { name: team }\nspec: { contact: t@example.com }\n";

#[test]
fn a_wrong_manifest_is_named_with_its_line_and_nothing_of_it_is_applied() {
    let kf = Keyfall::start();
    let (good, bad) = (kf.scratch("good.yaml"), kf.scratch("bad.yaml"));
    fs::write(&good, OWNER).unwrap();
    fs::write(&bad, OWNER.replace("team", "other").replace("contact:", "contct:")).unwrap();
    let refused = kf.alice().fails(&["apply", "-f", &good, "-f", &bad], 1);
    assert!(refused.contains("contct") && refused.contains("contact"), "{refused}");
    assert!(refused.contains("bad.yaml") && refused.contains('4'), "{refused}");
    assert_eq!(kf.alice().json(&["get", "owners"]), json!([]));
    assert_eq!(kf.alice().json(&["get", "plans"]), json!([]));
}

const TYPOS: &str = "\
apiVersion: keyfall.dev/v1
kind: Owner
metadata: { name: team }
spec: { contact: t@example.com }
---
apiVersion: keyfall.dev/v1
kind: System
metadata: { name: shop }
spec:
  connector: demo
  environment: test
  owner: team
  vantages: [{ name: only, role: control, host: 127.0.0.1, port: 1 }]
  controlAccess:
    grant: [read]
---
apiVersion: keyfall.dev/v1
kind: System
metadata: { name: other-shop }
spec:
  connector: demo
  environment: test
  owner: team
  vantages: [{ name: only, role: control, host: 127.0.0.1, port: 1 }]
  options:
    provider: other
    faults:
      sed: 7
---
apiVersion: keyfall.dev/v1
kind: System
metadata: { name: cache }
spec:
  connector: redis
  environment: test
  owner: team
  tls: off
  vantages:
    - name: only
      role: control
      host: 127.0.0.1
      port: 1
  options:
    databse: 0
---
apiVersion: keyfall.dev/v1
kind: Destination
metadata: { name: apps }
spec:
  connector: file
  environment: test
  owner: team
  defaults:
    root: apps
    laiout: raw
---
apiVersion: keyfall.dev/v1
kind: Destination
metadata: { name: sound-apps }
spec: { connector: file, environment: test, owner: team, defaults: { root: apps } }
---
apiVersion: keyfall.dev/v1
kind: Identity
metadata: { name: orders }
spec:
  kind: service_account
  system: shop
  environment: test
  owner: team
  expires: 2099-01-01T00:00:00Z
  account: orders
  access:
    grants: [read]
    privilegd: true
  deliverTo:
    - destination: sound-apps
      target: { path: a, layout: raw }
    - destination: sound-apps
      target:
        path: orders
        layout: raw
        name: orders
        after:
          signal:
            pidFile: p
            name: HUP
    - destination: sound-apps
      target:
        path: more
        layout: raw
        after:
          signl:
            pidFile: p
            name: HUP
";

#[test]
fn an_unknown_key_of_a_connector_is_named_with_its_line_and_the_nearest_right_one() {
    let kf = Keyfall::start_with("[file_roots]\napps = \"DIR/apps\"");
    let file = kf.scratch("typos.yaml");
    fs::write(&file, TYPOS).unwrap();
    let refused = kf.alice().fails(&["plan", "-f", &file], 1);
    for (key, meant) in [
        ("sed", ", did you mean `seed`?"),
        ("grant", ", did you mean `grants`?"),
        ("databse", "; nothing is known here"),
        ("laiout", ", did you mean `layout`?"),
        ("privilegd", ", did you mean `privileged`?"),
        ("name", "; known here are root, path"),
        ("signl", ", did you mean `signal`?"),
    ] {
        let starts = |line: &str| line.trim_start().starts_with(&format!("{key}: "));
        // The second `name` is a signal's, and belongs there.
        let line = match key {
            "name" => TYPOS.lines().position(|line| line.trim_start() == "name: orders"),
            "signl" => TYPOS.lines().position(|line| line.trim_start() == "signl:"),
            _ => TYPOS.lines().position(starts),
        };
        let place = format!("typos.yaml:{}: ", line.unwrap() + 1);
        let told = refused
            .lines()
            .find(|line| line.contains(&format!("unknown key `{key}`")));
        let told = told.unwrap_or_else(|| panic!("{key}: {refused}"));
        assert!(
            told.contains(&place) && told.contains(meant),
            "{place}{key}{meant}: {told}"
        );
    }
    assert_eq!(refused.matches("unknown key").count(), 7, "{refused}");
}

#[test]
fn a_wrong_flag_is_a_usage_error_with_help() {
    let kf = Keyfall::init(&[]);
    for (args, hint) in [
        (&["runs", "--ident", "x"][..], "--identity"),
        (&["rotat", "x"], "rotate"),
        (&["decommission", "x"], "--reason"),
        (&[], "Usage"),
    ] {
        let refused = kf.stranger().run(args);
        assert_eq!(refused.code, 64, "keyfall {args:?}: {refused:?}");
        assert!(refused.stderr.contains(hint), "keyfall {args:?}: {}", refused.stderr);
    }
}

#[test]
fn a_kind_that_there_is_none_of_is_refused_with_the_nearest() {
    let kf = Keyfall::start();
    for (what, wrong, right) in [
        ("findings", "unownd", "did you mean `unowned`?"),
        ("identities", "databse_user", "unknown variant `databse_user`"),
    ] {
        let refused = kf.alice().fails(&["get", what, "--kind", wrong], 1);
        assert!(refused.contains(right), "{what}: {refused}");
        assert_eq!(kf.alice().json(&["get", what]), json!([]));
    }
}

#[test]
fn a_store_with_a_damaged_page_is_refused_and_left_as_it_is() {
    let kf = Keyfall::init(&[]);
    let store = kf.dir().join("keyfall.db");
    let mut bytes = fs::read(&store).unwrap();
    let (page, mut harmed) = (8192, 0);
    // The type of every page behind the first one, which holds the header.
    for start in (page..bytes.len()).step_by(page).take(20) {
        bytes[start] ^= 0x5a;
        harmed += 1;
    }
    assert!(harmed > 5, "{harmed} pages");
    fs::write(&store, &bytes).unwrap();
    let refused = ran(&mut kf.serve_command(), b"");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("damaged") && refused.stderr.contains("restore"),
        "{}",
        refused.stderr
    );
    assert_eq!(fs::read(&store).unwrap(), bytes, "the damaged store was changed");
}

#[test]
fn a_store_of_a_newer_keyfall_is_refused() {
    let kf = Keyfall::init(&[]);
    let store = kf.dir().join("keyfall.db");
    let connection = rusqlite::Connection::open(&store).unwrap();
    let text = "insert into refinery_schema_history (version, name, applied_on, checksum) values (9999, 'later', '2099-01-01T00:00:00Z', '1')";
    assert_eq!(connection.execute(text, []).unwrap(), 1);
    drop(connection);
    let refused = ran(&mut kf.serve_command(), b"");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("newer") && refused.stderr.contains("9999"),
        "{}",
        refused.stderr
    );
}

#[test]
fn what_was_restored_is_thawed_by_two() {
    let kf = Keyfall::start();
    let backup = kf.alice().json(&["backup", "b"])["path"].as_str().unwrap().to_owned();
    assert!(kf.stop().success());
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(kf.dir().join(format!("keyfall.db{suffix}")));
    }
    let restored = ran(keyfall().args(["restore", &backup, "--config"]).arg(kf.config()), b"");
    assert_eq!(restored.code, 0, "{restored:?}");
    kf.resume();
    let plan = kf.alice().json(&["unfreeze", "--reason", "looked at"]);
    let id = plan["id"].as_str().unwrap();
    let own = kf.alice().fails(&["approve", id, "--yes"], 1);
    assert!(own.contains("another person"), "{own}");
    assert_ne!(kf.alice().json(&["status"])["frozen"], Value::Null);
    kf.bob().approve(id);
    assert_eq!(kf.alice().json(&["status"])["frozen"], Value::Null);
}

/// A `demo` system, one identity on it, and a policy.
fn demo(options: &Value) -> String {
    let manifest = |kind: &str, name: &str, spec: Value| {
        json!({ "apiVersion": "keyfall.dev/v1", "kind": kind, "metadata": { "name": name }, "spec": spec }).to_string()
    };
    let system = json!({
        "connector": "demo", "environment": "test", "owner": "team", "options": options,
        "vantages": [{ "name": "only", "role": "control", "host": "127.0.0.1", "port": 1 }],
    });
    let policy = json!({
        "owner": "team", "selector": { "environments": ["test"] }, "autonomy": "automatic", "rotation": { "every": "30d" },
        "proof": { "refusals": 2, "interval": "100ms", "giveUpAfter": "2s", "keepDeadSecret": "1h" },
    });
    let identity = json!({
        "kind": "service_account", "system": "demo", "environment": "test", "owner": "team",
        "expires": "2099-01-01T00:00:00Z", "account": "app",
    });
    [
        OWNER.to_owned(),
        manifest("System", "demo", system),
        manifest("Policy", "standard", policy),
        manifest("Identity", "app", identity),
    ]
    .join("\n---\n")
}

#[test]
fn rubbish_from_a_provider_proves_no_death() {
    let kf = Keyfall::start();
    let honest = json!({ "provider": "rubbish" });
    for run in kf.apply(&demo(&honest)) {
        kf.follow(&run, 0);
    }
    // From here on every answer to a login is nonsense.
    let rules = json!([{ "operation": "probe", "every": 1, "then": "garbage" }]);
    kf.apply(&demo(&json!({ "provider": "rubbish", "faults": { "rules": rules } })));
    let run = rotate(&kf);
    kf.wait("the rotation ends, or waits for better answers", || {
        let view = kf.alice().json(&["describe", "run", &run]);
        let noted = view["note"].is_string() || view["closed_at"].is_string();
        noted.then_some(())
    });
    let identity = kf.alice().json(&["describe", "identity", "app"]);
    let states: Vec<&str> = identity["credentials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["state"].as_str().unwrap())
        .collect();
    assert!(states.contains(&"active") && !states.contains(&"dead"), "{states:?}");
    assert_eq!(identity["state"], "active");
}

/// The run of a rotation inside the policy's bounds.
fn rotate(kf: &Keyfall) -> String {
    let asked = kf.alice().json(&["rotate", "app", "--reason", "in a test"]);
    let run = asked["run"]["id"].as_str();
    run.unwrap_or_else(|| panic!("no run was opened: {asked}")).to_owned()
}

/// A file system of its own, small enough to be filled; unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "keyfall-test"])
            .arg(folder.path())
            .output()
            .map_err(|error| error.to_string())?;
        match mounted.status.success() {
            true => Ok(Self(folder)),
            false => Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned()),
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_stops_actions_before_their_effect_and_room_lets_them_go_on() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            println!("SKIPPED: a full disk needs a small file system of its own, and it cannot be mounted: {why}");
            return;
        }
    };
    let kf = Keyfall::init(&[]);
    let store = disk.path().join("keyfall.db");
    fs::rename(kf.dir().join("keyfall.db"), &store)
        .or_else(|_| fs::copy(kf.dir().join("keyfall.db"), &store).map(drop))
        .unwrap();
    let config = fs::read_to_string(kf.config()).unwrap();
    let moved = config.replace("store = \"keyfall.db\"", &format!("store = \"{}\"", store.display()));
    assert_ne!(moved, config);
    fs::write(kf.config(), moved).unwrap();
    kf.add_settings("[file_roots]\ntruth = \"DIR/truth\"");
    fs::create_dir(kf.dir().join("truth")).unwrap();
    kf.resume();
    let options = json!({ "provider": "full", "stateFolder": { "root": "truth", "folder": "full" } });
    for run in kf.apply(&demo(&options)) {
        kf.follow(&run, 0);
    }
    let truth = || demo_accounts(&kf.dir().join("truth/full"));
    let before = truth();

    fill(disk.path());
    let refused = kf.alice().run(&["rotate", "app", "--reason", "in a test"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("room") || refused.stderr.contains("disk"),
        "{}",
        refused.stderr
    );
    assert_eq!(kf.alice().json(&["status"])["open_runs"], 0);
    assert_eq!(truth(), before, "something changed downstream");

    fs::remove_file(disk.path().join("filler")).unwrap();
    rotate(&kf);
    kf.wait("the account has a new key", || (truth() != before).then_some(()));
}

/// Until nothing more fits.
fn fill(folder: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(folder.join("filler")).unwrap();
    for size in [64 * 1024, 1024] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}
