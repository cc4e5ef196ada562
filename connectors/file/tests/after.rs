//! Commands and signals that follow a delivery.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use keyfall_sdk::ErrorKind;
use serde_json::json;

use super::{SECRET, Setup, call, context};

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
                         "after": { "signal": { "pidFile": "pid", "name": "USR1" } } });
    let mut workload = std::process::Command::new("/bin/sleep").arg("600").spawn().unwrap();
    std::fs::write(setup.root().join("pid"), format!("{}\n", workload.id())).unwrap();
    setup.deliver(target.clone(), SECRET).await.unwrap();
    let status = workload.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(10));

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
