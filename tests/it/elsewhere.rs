//! A store whose database is another one than it was: a standby that was promoted, a backup that was restored, a server that cannot be written to.
//! Nothing is sent to any system until two people have said that it may be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Keyfall, Servers, demo_accounts, http, ran, sql};

pub(crate) const PRIMARY: &str = "KEYFALL_PG_PRIMARY_PORT";
pub(crate) const REPLICA: &str = "KEYFALL_PG_REPLICA_PORT";
const PASSWORD: &str = "of-the-store";

/// A database of its own and its user, the owner of it.
fn database(servers: &Servers, name: &str) {
    sql(
        servers,
        PRIMARY,
        &format!("create role {name} login password '{PASSWORD}'"),
    );
    sql(servers, PRIMARY, &format!("create database {name} owner {name}"));
}

/// A file with the address of that database on these ports.
fn address(kf: &Keyfall, servers: &Servers, name: &str, ports: &[&str]) -> String {
    write_address(
        &kf.scratch(&format!("{name}-{}.address", ports.join("-"))),
        servers,
        name,
        ports,
    )
}

fn write_address(file: &str, servers: &Servers, name: &str, ports: &[&str]) -> String {
    let host = servers.text("KEYFALL_PG_HOST");
    let hosts: Vec<_> = ports
        .iter()
        .map(|port| format!("{host}:{}", servers.text(port)))
        .collect();
    fs::write(
        file,
        format!("postgres://{name}:{PASSWORD}@{}/{name}\n", hosts.join(",")),
    )
    .unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    format!("file:{file}")
}

fn name(of: &str) -> String {
    format!("kf_{of}_{}", std::process::id())
}

/// A server on a database, with one identity that it provisioned; the provider's truth is a file.
pub(crate) fn provisioned(servers: &Servers, name: &str, ports: &[&str]) -> Keyfall {
    database(servers, name);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("address").display().to_string();
    let store = write_address(&file, servers, name, ports);
    let kf = Keyfall::init(&["--store", &store]);
    // The address moves to where it stays.
    let kept = address(&kf, servers, name, ports);
    let text = fs::read_to_string(kf.config()).unwrap().replace(&store, &kept);
    fs::write(kf.config(), text).unwrap();
    kf.add_settings("[file_roots]\ntruth = \"DIR/truth\"");
    fs::create_dir(kf.dir().join("truth")).unwrap();
    kf.resume();
    for run in kf.apply(&manifests()) {
        kf.follow(&run, 0);
    }
    kf
}

fn manifests() -> String {
    let manifest = |kind: &str, name: &str, spec: Value| {
        json!({ "apiVersion": "keyfall.dev/v1", "kind": kind, "metadata": { "name": name }, "spec": spec }).to_string()
    };
    let options = json!({ "provider": "elsewhere", "stateFolder": { "root": "truth", "folder": "elsewhere" } });
    [
        manifest("Owner", "team", json!({ "contact": "t@example.com" })),
        manifest(
            "System",
            "demo",
            json!({
                "connector": "demo", "environment": "test", "owner": "team", "options": options,
                "vantages": [{ "name": "only", "role": "control", "host": "127.0.0.1", "port": 1 }],
            }),
        ),
        manifest(
            "Policy",
            "standard",
            json!({
                "owner": "team", "selector": { "environments": ["test"] }, "autonomy": "automatic",
                "rotation": { "every": "30d" },
                "proof": { "refusals": 2, "interval": "100ms", "giveUpAfter": "2s", "keepDeadSecret": "1h" },
            }),
        ),
        manifest(
            "Identity",
            "app",
            json!({
                "kind": "service_account", "system": "demo", "environment": "test", "owner": "team",
                "expires": "2099-01-01T00:00:00Z", "account": "app",
            }),
        ),
    ]
    .join("\n---\n")
}

pub(crate) fn truth(kf: &Keyfall) -> Vec<Value> {
    demo_accounts(&kf.dir().join("truth/elsewhere"))
}

fn ready(kf: &Keyfall) -> (u16, String) {
    let (code, _, body) = http("GET", &format!("{}/readyz", kf.url()), None, "");
    (code, body)
}

/// The reason for which everything stands still.
pub(crate) fn frozen(kf: &Keyfall) -> String {
    kf.wait("the server says that everything is frozen", || {
        let status = kf.alice().run(&["status", "-o", "json"]);
        let view: Value = serde_json::from_str(&status.stdout).ok()?;
        view["frozen"].as_str().map(str::to_owned)
    })
}

/// Nothing changes downstream until two people have lifted the standstill, and then everything goes on.
fn stands_still_until_two_lift_it(kf: &Keyfall, before: &[Value]) {
    two_lift_it(kf, before);
    let asked = kf.alice().json(&["rotate", "app", "--reason", "in a test"]);
    kf.follow(asked["run"]["id"].as_str().unwrap(), 0);
    assert_ne!(truth(kf), before);
}

/// Until two people have lifted the standstill only what reads goes on.
pub(crate) fn two_lift_it(kf: &Keyfall, before: &[Value]) {
    let refused = kf.alice().run(&["rotate", "app", "--reason", "in a test"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    // What only reads goes on.
    kf.alice().ok(&["review"]);
    let doctor = kf.alice().run(&["doctor"]).stdout;
    assert!(doctor.contains("database"), "{doctor}");
    let plan = kf.alice().json(&["unfreeze", "--reason", "looked at"]);
    let id = plan["id"].as_str().unwrap();
    kf.alice().fails(&["approve", id, "--yes"], 1);
    assert_eq!(truth(kf), before, "something changed downstream");
    kf.bob().approve(id);
}

/// Row 30.
#[test]
fn a_promoted_standby_is_taken_for_an_old_copy_and_a_standby_for_none() {
    let servers = Servers::own(&["postgres", "replica"]);
    let name = name("promoted");
    let kf = provisioned(servers, &name, &[PRIMARY, REPLICA]);
    let before = truth(&kf);

    let standby = address(&kf, servers, &name, &[REPLICA]);
    let refused = ran(
        kf.serve_command()
            .args(["--store", &standby, "--node", "other", "--listen", "127.0.0.1:0"]),
        b"",
    );
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("standby or a read-only server"),
        "{}",
        refused.stderr
    );

    // A server that becomes read-only is waited for.
    let put_out = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'keyfall/%'";
    sql(
        servers,
        PRIMARY,
        &format!("alter database {name} set default_transaction_read_only = on"),
    );
    sql(servers, PRIMARY, put_out);
    let why = kf.wait("the server says that it cannot write", || {
        let (code, body) = ready(&kf);
        (code == 503 && body.contains("read-only")).then_some(body)
    });
    assert!(why.contains("standby or a read-only server"), "{why}");
    sql(
        servers,
        PRIMARY,
        &format!("alter database {name} reset default_transaction_read_only"),
    );
    kf.wait("the server is ready again", || (ready(&kf).0 == 200).then_some(()));
    assert_eq!(kf.alice().json(&["status"])["frozen"], Value::Null);

    servers.order("stop", "postgres");
    sql(servers, REPLICA, "select pg_promote()");
    let why = frozen(&kf);
    assert!(why.contains("a standby was promoted"), "{why}");
    stands_still_until_two_lift_it(&kf, &before);
    // It is its database from here on.
    assert!(kf.stop().success());
    kf.resume();
    assert_eq!(kf.alice().json(&["status"])["frozen"], Value::Null);
}

/// Row 31.
#[test]
fn a_restored_dump_is_taken_for_an_old_copy_wherever_it_is() {
    let servers = Servers::own(&["postgres"]);
    let other = Servers::own(&["postgres"]);
    let name = name("dumped");
    let kf = provisioned(servers, &name, &[PRIMARY]);
    assert!(kf.stop().success());
    let before = truth(&kf);
    database(other, &name);
    copy(servers, other, &name);
    let there = address(&kf, other, &name, &[PRIMARY]);
    let config = fs::read_to_string(kf.config()).unwrap();
    let at = config.lines().find(|line| line.starts_with("store =")).unwrap();
    fs::write(kf.config(), config.replace(at, &format!("store = \"{there}\""))).unwrap();
    kf.resume();
    let why = frozen(&kf);
    assert!(why.contains("another server than it was last run on"), "{why}");
    stands_still_until_two_lift_it(&kf, &before);
}

/// `pg_dump | psql`.
fn copy(from: &Servers, to: &Servers, database: &str) {
    let program = |servers: &Servers, program: &str| {
        let mut command = Command::new(format!("{}/{program}", servers.text("KEYFALL_PG_BIN")));
        command
            .env("PGPASSFILE", servers.text("KEYFALL_PG_PASSFILE"))
            .args(["-h", servers.text("KEYFALL_PG_HOST"), "-p", servers.text(PRIMARY)])
            .args(["-U", servers.text("KEYFALL_PG_ADMIN_USER"), "-d", database]);
        command
    };
    let mut dump = program(from, "pg_dump").stdout(Stdio::piped()).spawn().unwrap();
    let restored = program(to, "psql")
        .args(["-q", "-v", "ON_ERROR_STOP=1"])
        .stdin(dump.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(restored.success() && dump.wait().unwrap().success());
}
