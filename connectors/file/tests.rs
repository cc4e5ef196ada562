//! Tests of the file destination on a real file system: what readers see, what attackers try, what repeats.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyfall_sdk::{
    CallContext, Confirmation, Connector, ConnectorKind, DeliverCall, Delivered, ErrorKind, Result, Revoked,
    SecretValue, ServerGrants, SystemSpec,
};
use serde_json::{Value, json};

use super::FileKind;

/// Shows up nowhere but in files that are meant to hold it.
const SECRET: &str = "s3cret-Value_that-must-not-leak";

struct Setup {
    folder: tempfile::TempDir,
    connector: Arc<dyn Connector>,
}

impl Setup {
    fn new() -> Self {
        Self::with_commands(&[])
    }

    fn with_commands(commands: &[(&str, &[&str])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("root")).unwrap();
        let grants = ServerGrants {
            file_roots: BTreeMap::from([("apps".to_owned(), folder.path().join("root"))]),
            reload_commands: commands
                .iter()
                .map(|(name, argv)| ((*name).to_owned(), argv.iter().map(|a| (*a).to_owned()).collect()))
                .collect(),
            plaintext_hosts: Vec::new(),
        };
        let connector = FileKind.connect(&spec(), None, &grants).unwrap();
        Self { folder, connector }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn problems(&self, target: &Value) -> Vec<String> {
        self.connector.deliver().unwrap().check_target(target)
    }

    async fn deliver(&self, target: Value, secret: &str) -> Result<Delivered> {
        self.deliver_again(target, secret, 1).await
    }

    async fn deliver_again(&self, target: Value, secret: &str, attempt: u32) -> Result<Delivered> {
        let outcome = self
            .connector
            .deliver()
            .unwrap()
            .deliver(&context(attempt), &call(target, secret))
            .await;
        if let Err(error) = &outcome {
            let shown = format!("{error} {error:?}");
            assert!(
                secret.is_empty() || !shown.contains(secret),
                "the error shows the secret"
            );
        }
        outcome
    }

    async fn confirm(&self, target: Value, secret: &str) -> Confirmation {
        let deliver = self.connector.deliver().unwrap();
        deliver.confirm(&context(1), &call(target, secret)).await.unwrap()
    }

    async fn acknowledged(&self, target: &Value, consumer: &str) -> Option<String> {
        let deliver = self.connector.deliver().unwrap();
        deliver
            .acknowledged(&context(1), target, consumer)
            .await
            .unwrap()
            .version
    }

    async fn withdraw(&self, target: &Value) -> Result<Revoked> {
        self.connector.deliver().unwrap().withdraw(&context(1), target).await
    }

    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).unwrap()
    }
}

fn spec() -> SystemSpec {
    serde_json::from_value(json!({ "connector": "file" })).unwrap()
}

fn context(attempt: u32) -> CallContext {
    CallContext {
        run: "run_test".to_owned(),
        step: "deliver".to_owned(),
        attempt,
        idempotency_key: "key".to_owned(),
        time_left: Duration::from_secs(20),
    }
}

fn call(target: Value, secret: &str) -> DeliverCall {
    let fields = [
        ("username", "app"),
        ("host", "db.example.org"),
        ("port", "5432"),
        ("database", "bill"),
    ];
    DeliverCall {
        target,
        secret: SecretValue::from(secret.to_owned()),
        fields: fields.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        version: "v7".to_owned(),
    }
}

fn raw(path: &str) -> Value {
    json!({ "root": "apps", "path": path, "layout": "raw" })
}

fn template(text: &str) -> Value {
    json!({ "root": "apps", "path": "t", "layout": "template", "template": text })
}

/// What stands in a directory, hidden files too.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_delivery_is_whole_private_and_repeatable() {
    let setup = Setup::new();
    let first = setup.deliver(raw("db"), SECRET).await.unwrap();
    assert!(first.changed);
    assert!(first.place.ends_with("root/db (root `apps`)"), "{}", first.place);
    assert_eq!(setup.text("db"), SECRET);
    let meta = std::fs::metadata(setup.root().join("db")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
    assert_eq!(names(&setup.root()), ["db"]);

    assert!(!setup.deliver(raw("db"), SECRET).await.unwrap().changed);
    assert_eq!(std::fs::metadata(setup.root().join("db")).unwrap().ino(), meta.ino());
    assert_eq!(setup.confirm(raw("db"), SECRET).await, Confirmation::Matches);
    assert_eq!(setup.confirm(raw("db"), "another").await, Confirmation::Differs);
    assert_eq!(setup.confirm(raw("gone"), SECRET).await, Confirmation::Absent);
    assert_eq!(setup.confirm(raw("no/dir"), SECRET).await, Confirmation::Absent);

    assert_eq!(setup.withdraw(&raw("db")).await.unwrap(), Revoked::Revoked);
    assert_eq!(setup.withdraw(&raw("db")).await.unwrap(), Revoked::AlreadyGone);
    assert_eq!(setup.withdraw(&raw("no/dir")).await.unwrap(), Revoked::AlreadyGone);
    assert!(names(&setup.root()).is_empty());
}

#[tokio::test]
async fn a_changed_mode_is_put_right_and_the_umask_does_not_matter() {
    let setup = Setup::new();
    let target = json!({ "root": "apps", "path": "db", "layout": "raw", "mode": "0640" });
    setup.deliver(target.clone(), SECRET).await.unwrap();
    let file = setup.root().join("db");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(setup.confirm(target.clone(), SECRET).await, Confirmation::Differs);
    assert!(setup.deliver(target, SECRET).await.unwrap().changed);
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
}

#[tokio::test]
async fn the_owner_is_set_by_root_and_refused_clearly_to_others() {
    let setup = Setup::new();
    let target = json!({ "root": "apps", "path": "db", "layout": "raw", "owner": 1, "group": "daemon" });
    let outcome = setup.deliver(target, SECRET).await;
    if rustix::process::geteuid().is_root() {
        outcome.unwrap();
        let meta = std::fs::metadata(setup.root().join("db")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1, 1));
    } else {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.message().contains("only root"), "{error}");
        assert!(names(&setup.root()).is_empty(), "a refused delivery leaves nothing");
    }
    let unknown = json!({ "root": "apps", "path": "db2", "layout": "raw", "owner": "nobody-has-this-name" });
    assert_eq!(
        setup.deliver(unknown, SECRET).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

/// A reader that looks as fast as it can never sees anything but one whole content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_one_content_or_the_other() {
    let setup = Setup::new();
    let contents: Vec<String> = ["a", "b"].iter().map(|letter| letter.repeat(20_000)).collect();
    setup.deliver(raw("db"), &contents[0]).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (stop, file, contents) = (Arc::clone(&stop), setup.root().join("db"), contents.clone());
        std::thread::spawn(move || {
            let mut reads = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let seen = std::fs::read_to_string(&file).expect("the file is always there");
                assert!(contents.contains(&seen), "a torn read of {} bytes", seen.len());
                reads += 1;
            }
            reads
        })
    };
    for round in 1..=1_000 {
        assert!(setup.deliver(raw("db"), &contents[round % 2]).await.unwrap().changed);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 100, "the reader hardly ran");
}

#[tokio::test]
async fn what_a_crash_left_behind_is_removed_by_the_next_delivery() {
    let setup = Setup::new();
    std::fs::write(setup.root().join(".db.keyfall"), "half a secr").unwrap();
    setup.deliver(raw("db"), SECRET).await.unwrap();
    assert_eq!(names(&setup.root()), ["db"]);
    std::fs::write(setup.root().join(".db.keyfall"), "half a secr").unwrap();
    setup.withdraw(&raw("db")).await.unwrap();
    assert!(names(&setup.root()).is_empty());
}

#[tokio::test]
async fn a_second_delivery_at_the_same_time_waits_its_turn() {
    let setup = Setup::new();
    let held = std::fs::File::create(setup.root().join(".db.keyfall")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = setup.deliver(raw("db"), SECRET).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert_eq!(names(&setup.root()), [".db.keyfall"]);
    drop(held);
    setup.deliver(raw("db"), SECRET).await.unwrap();
}

#[tokio::test]
async fn no_link_leads_out_of_the_root() {
    let setup = Setup::new();
    let outside = setup.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("victim"), "untouched").unwrap();
    symlink(&outside, setup.root().join("dir")).unwrap();
    symlink(outside.join("victim"), setup.root().join("file")).unwrap();
    symlink(outside.join("victim"), setup.root().join(".db.keyfall")).unwrap();
    symlink("../outside", setup.root().join("relative")).unwrap();

    for path in ["dir/db", "relative/db", "file/db"] {
        let error = setup.deliver(raw(path), SECRET).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{path}: {error}");
        assert_eq!(
            setup.withdraw(&raw(path)).await.unwrap_err().kind(),
            ErrorKind::Conflict
        );
    }
    // A link in the file's own place, or in that of the temporary file, is replaced and not followed.
    setup.deliver(raw("file"), SECRET).await.unwrap();
    setup.deliver(raw("db"), SECRET).await.unwrap();
    assert!(std::fs::symlink_metadata(setup.root().join("file")).unwrap().is_file());
    assert_eq!(std::fs::read_to_string(outside.join("victim")).unwrap(), "untouched");
    assert_eq!(names(&outside), ["victim"]);
}

#[test]
fn the_way_without_openat2_refuses_the_same() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("root/a/b")).unwrap();
    symlink("a", folder.path().join("root/link")).unwrap();
    let root = std::fs::File::open(folder.path().join("root")).unwrap();
    let open = |path| super::place::open_by_components(std::os::fd::AsFd::as_fd(&root), path);
    assert!(open("a/b").is_ok());
    for path in ["link", "link/b", "a/../..", "..", "a//b", "/etc", ""] {
        assert!(open(path).is_err(), "{path:?} was opened");
    }
}

#[tokio::test]
async fn something_else_in_the_place_is_left_alone() {
    let setup = Setup::new();
    std::fs::create_dir(setup.root().join("db")).unwrap();
    assert_eq!(
        setup.deliver(raw("db"), SECRET).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(
        setup.withdraw(&raw("db")).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    let missing = setup.deliver(raw("no/such/dir"), SECRET).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(names(&setup.root()), ["db"]);
}

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

const NASTY: &str = r#"p"a'ss$w`o:r@d/%2F\ #;é{{x}}"#;

#[tokio::test]
async fn every_layout_gives_the_secret_back_to_its_reader() {
    let setup = Setup::new();
    setup.deliver(raw("t"), NASTY).await.unwrap();
    assert_eq!(setup.text("t"), NASTY);

    let json = json!({ "root": "apps", "path": "t", "layout": "json", "keys": { "secret": "password" } });
    setup.deliver(json, NASTY).await.unwrap();
    let read: Value = serde_json::from_str(&setup.text("t")).unwrap();
    let expected = json!({ "username": "app", "host": "db.example.org", "port": "5432", "database": "bill",
                           "password": NASTY, "version": "v7" });
    assert_eq!(read, expected);

    let dotenv = json!({ "root": "apps", "path": "t", "layout": "dotenv", "keys": { "username": "DB_USER" } });
    for secret in [
        NASTY,
        "plain",
        "with space",
        "a$b`c",
        "it's",
        r"back\slash",
        "\"",
        "-",
        "#x",
        "a=b",
        "~",
    ] {
        setup.deliver(dotenv.clone(), secret).await.unwrap();
        assert!(
            setup
                .text("t")
                .contains("DB_USER=app\nHOST=db.example.org\nKEYFALL_VERSION=v7\n")
        );
        let script = format!(". {}; printf %s \"$PASSWORD\"", setup.root().join("t").display());
        assert_eq!(shell(&script), secret, "read by a shell");
    }
    setup.deliver(template("x={{ secret|shell }}\n"), NASTY).await.unwrap();
    let script = format!(". {}; printf %s \"$x\"", setup.root().join("t").display());
    assert_eq!(shell(&script), NASTY);
}

fn shell(script: &str) -> String {
    let output = std::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(script)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn templates_escape_for_their_place() {
    let setup = Setup::new();
    let encoded = "p%22a%27ss%24w%60o%3Ar%40d%2F%252F%5C%20%23%3B%C3%A9%7B%7Bx%7D%7D";
    let expected = [
        (
            "dsn-postgres",
            format!("postgresql://app:{encoded}@db.example.org:5432/bill"),
        ),
        ("redis-url", format!("redis://app:{encoded}@db.example.org:5432")),
        ("rediss-url", format!("rediss://app:{encoded}@db.example.org:5432")),
        (
            "jdbc-postgres",
            format!("jdbc:postgresql://db.example.org:5432/bill?user=app&password={encoded}"),
        ),
        (
            "pgpass",
            "db.example.org:5432:bill:app:p\"a'ss$w`o\\:r@d/%2F\\\\ #;é{{x}}\n".to_owned(),
        ),
        ("{{ secret|ini }}", "\"p\\\"a'ss$w`o:r@d/%2F\\\\ #;é{{x}}\"".to_owned()),
        ("{{ secret|json }}", serde_json::to_string(NASTY).unwrap()),
        ("{{ secret }} {{ version }}\n", format!("{NASTY} v7\n")),
    ];
    for (text, rendered) in expected {
        setup.deliver(template(text), NASTY).await.unwrap();
        assert_eq!(setup.text("t"), rendered, "{text}");
    }
}

#[tokio::test]
async fn a_template_that_cannot_be_filled_is_an_error_that_shows_nothing() {
    let setup = Setup::new();
    for text in [
        "{{ secret }} {{ nickname }}",
        "{% if false %}{{ secret }}{% endif %}",
        "{{ secret|lower }}",
        "{{ secret + 1 }}",
        "{{ secret.x.y }}",
        "{% for a in secret %}{% for b in secret %}{% for c in secret %}{% for d in secret %}x{% endfor %}{% endfor %}\
         {% endfor %}{% endfor %}",
        "{% include secret %}",
    ] {
        let error = setup.deliver(template(text), SECRET).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{text}: {error}");
    }
    for secret in ["two\nlines", "nul\0", "return\r", "\u{1b}[2J"] {
        for target in [
            template("{{ secret }}"),
            json!({ "root": "apps", "path": "t", "layout": "dotenv" }),
        ] {
            let error = setup.deliver(target, secret).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{secret:?}");
        }
    }
    assert!(setup.deliver(raw("t"), "").await.is_err());
    assert!(names(&setup.root()).is_empty());
}

#[tokio::test]
async fn a_command_gets_its_arguments_as_they_are_and_no_environment() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = folder.path().join("reload");
    std::fs::write(
        &script,
        format!(
            "#!/bin/sh\nprintf '%s|' \"$@\" >>{log}\nenv | sort | grep -v -e ^PWD= -e ^_= -e ^OLDPWD= -e ^SHLVL= >>{log}\n",
            log = log.display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let touched = folder.path().join("touched");
    let argument = format!("; touch {}", touched.display());
    let setup = Setup::with_commands(&[("reload", &[script.to_str().unwrap(), &argument, "$(id)"])]);
    let target = json!({ "root": "apps", "path": "db", "layout": "raw", "after": { "command": "reload" } });

    setup.deliver(target.clone(), SECRET).await.unwrap();
    let once = format!("{argument}|$(id)|HOME=/\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), once);
    assert!(!touched.exists());

    setup.deliver(target.clone(), SECRET).await.unwrap();
    assert_eq!(
        std::fs::read_to_string(&log).unwrap(),
        once,
        "nothing changed, so nothing is run"
    );
    assert!(!setup.deliver_again(target, SECRET, 2).await.unwrap().changed);
    assert_eq!(
        std::fs::read_to_string(&log).unwrap(),
        once.repeat(2),
        "a repeated attempt runs it again"
    );
}

#[tokio::test]
async fn a_command_that_fails_or_hangs_is_named_and_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let leak = folder.path().join("leak");
    std::fs::write(
        &leak,
        format!("#!/bin/sh\necho first >&2\necho \"bad password {SECRET}\" >&2\nexit 3\n"),
    )
    .unwrap();
    std::fs::set_permissions(&leak, std::fs::Permissions::from_mode(0o700)).unwrap();
    let setup = Setup::with_commands(&[
        ("leak", &[leak.to_str().unwrap()]),
        ("hang", &["/bin/sleep", "600"]),
        ("absent", &["/no/such/program"]),
    ]);
    let target = |name: &str| json!({ "root": "apps", "path": name, "layout": "raw", "after": { "command": name } });

    let error = setup.deliver(target("leak"), SECRET).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(
        error.message().contains("`leak`") && error.message().ends_with("bad password [redacted]"),
        "{error}"
    );
    assert_eq!(setup.text("leak"), SECRET, "the file itself is in place");

    let mut hurried = context(1);
    hurried.time_left = Duration::from_millis(500);
    let deliver = setup.connector.deliver().unwrap();
    let error = deliver
        .deliver(&hurried, &call(target("hang"), SECRET))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.message().contains("was killed"), "{error}");

    let error = setup.deliver(target("absent"), SECRET).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_signal_reaches_the_process_of_the_pid_file_and_no_other() {
    let setup = Setup::new();
    let target = json!({ "root": "apps", "path": "db", "layout": "raw",
                         "after": { "signal": { "pidFile": "pid", "name": "HUP" } } });
    let mut workload = std::process::Command::new("/bin/sleep").arg("600").spawn().unwrap();
    std::fs::write(setup.root().join("pid"), format!("{}\n", workload.id())).unwrap();
    setup.deliver(target.clone(), SECRET).await.unwrap();
    let status = workload.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(1));

    // The process is gone now; then pid files that must not be followed.
    assert_eq!(
        setup.deliver_again(target.clone(), SECRET, 2).await.unwrap_err().kind(),
        ErrorKind::Transient
    );
    for content in ["1", "0", "-1", "", "rubbish", &std::process::id().to_string()] {
        std::fs::write(setup.root().join("pid"), content).unwrap();
        let error = setup.deliver_again(target.clone(), SECRET, 2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{content:?}");
    }
    if rustix::process::geteuid().is_root() {
        let mut bystander = std::process::Command::new("/bin/sleep").arg("600").spawn().unwrap();
        std::fs::write(setup.root().join("pid"), bystander.id().to_string()).unwrap();
        std::os::unix::fs::chown(setup.root().join("pid"), Some(65_534), None).unwrap();
        let error = setup.deliver_again(target, SECRET, 2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(
            bystander.try_wait().unwrap().is_none(),
            "root's process was signalled for somebody else"
        );
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }
}

#[tokio::test]
async fn what_a_consumer_wrote_is_what_it_acknowledged() {
    let setup = Setup::new();
    let shared = json!({ "root": "apps", "path": "db", "layout": "raw", "acknowledgements": "acks" });
    assert_eq!(setup.acknowledged(&shared, "web").await, None);
    std::fs::write(
        setup.root().join("acks"),
        "web v1\nworker v7\nweb v7\nbatch one v3\n\nweb2 v9\n",
    )
    .unwrap();
    assert_eq!(setup.acknowledged(&shared, "web").await.as_deref(), Some("v7"));
    assert_eq!(setup.acknowledged(&shared, "batch one").await.as_deref(), Some("v3"));
    assert_eq!(setup.acknowledged(&shared, "we").await, None);
    std::fs::write(setup.root().join("acks"), [0xff, 0xfe]).unwrap();
    assert_eq!(setup.acknowledged(&shared, "web").await, None);
    assert_eq!(setup.acknowledged(&raw("db"), "web").await, None);

    let own = json!({ "root": "apps", "path": "db", "layout": "raw", "acknowledgements": "ack-{consumer}" });
    std::fs::write(setup.root().join("ack-web"), "v7\n").unwrap();
    std::fs::write(setup.folder.path().join("victim"), "v9\n").unwrap();
    assert_eq!(setup.acknowledged(&own, "web").await.as_deref(), Some("v7"));
    assert_eq!(setup.acknowledged(&own, "worker").await, None);
    let climbing = json!({ "root": "apps", "path": "db", "layout": "raw", "acknowledgements": "{consumer}" });
    for consumer in ["../victim", "..", ".", "", "a/b"] {
        assert_eq!(setup.acknowledged(&climbing, consumer).await, None, "{consumer:?}");
    }
}
