//! Settings: where each value comes from, which win, and what is said of a wrong one.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::{Config, ConfigError, Environment, load};

#[derive(Serialize, Default)]
struct Flags {
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<&'static str>,
}

fn read(text: &str, variables: &[(&str, &str)], flags: &Flags) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyfall.toml");
    fs::write(&file, text).unwrap();
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(Some(&file), &Environment(variables.collect()), flags)
        .map(|(config, _)| config)
        .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "DIR"))
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_defaults() {
    let text = "listen = '127.0.0.1:1'\nnode = 'file'\n[engine]\nmax_runs = 3\nbreaker_percent = 7\n";
    let variables = [
        ("KEYFALL_LISTEN", "127.0.0.1:2"),
        ("KEYFALL_ENGINE__MAX_RUNS", "5"),
        ("KEYFALL_ENGINE__LEASE", "45s"),
        ("KEYFALL_SERVER", "https://elsewhere"),
    ];
    let config = read(text, &variables, &Flags::default()).unwrap();
    assert_eq!(config.listen.port(), 2);
    assert_eq!(config.node, "file");
    assert_eq!((config.engine.max_runs, config.engine.breaker_percent), (5, 7));
    assert_eq!(config.engine.lease.as_secs(), 45);
    assert_eq!(config.engine.breaker_at_least, 500);
    let flags = Flags {
        listen: Some("127.0.0.1:3"),
    };
    assert_eq!(read(text, &variables, &flags).unwrap().listen.port(), 3);
}

#[test]
fn paths_start_at_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyfall.toml");
    fs::write(
        &file,
        "store = 'data/kf.db'\nkek_file = '/etc/kek'\n[file_roots]\napps = 'apps'\n",
    )
    .unwrap();
    let (config, found) = load(Some(&file), &Environment::default(), &Flags::default()).unwrap();
    assert_eq!(found, file);
    assert_eq!(config.store.file(), Some(&*folder.path().join("data/kf.db")));
    assert_eq!(config.kek_file.as_deref(), Some(Path::new("/etc/kek")));
    assert_eq!(config.file_roots["apps"], folder.path().join("apps"));
    assert_eq!(config.backup_directory, folder.path().join("backups"));
}

#[test]
fn the_key_comes_from_systemd_when_nothing_else_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyfall.toml");
    fs::write(&file, "").unwrap();
    let credentials = folder.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    let environment = Environment(vec![(
        "CREDENTIALS_DIRECTORY".to_owned(),
        credentials.display().to_string(),
    )]);
    let kek = || {
        load(Some(&file), &environment, &Flags::default())
            .unwrap()
            .0
            .kek_file
            .unwrap()
    };
    assert_eq!(kek(), folder.path().join("kek"));
    fs::write(credentials.join("kek"), "").unwrap();
    assert_eq!(kek(), credentials.join("kek"));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    let top = read("listn = '127.0.0.1:1'", &[], &Flags::default()).unwrap_err();
    assert!(
        top.starts_with("DIR/keyfall.toml: unknown key `listn`, did you mean `listen`?"),
        "{top}"
    );
    let inner = read("[engine]\nmax_run = 1", &[], &Flags::default()).unwrap_err();
    assert!(
        inner.contains("unknown key `max_run` in `engine`, did you mean `max_runs`?"),
        "{inner}"
    );
    let variable = read("", &[("KEYFALL_ENGINE__MAXRUNS", "1")], &Flags::default()).unwrap_err();
    assert!(
        variable.contains("did you mean `KEYFALL_ENGINE__MAX_RUNS`?"),
        "{variable}"
    );
    assert!(read("", &[("KEYFALL_TEST_SERVERS", "x")], &Flags::default()).is_ok());
}

#[test]
fn a_wrong_value_is_named_with_its_place() {
    let wrong = read("[engine]\nlease = '1 month'", &[], &Flags::default()).unwrap_err();
    assert!(
        wrong.contains("`engine.lease`") && wrong.contains("months or years"),
        "{wrong}"
    );
    let open = read("listen = '0.0.0.0:7411'", &[], &Flags::default()).unwrap_err();
    assert!(open.contains("needs TLS"), "{open}");
    let half = read("tls_cert = 'a.pem'", &[], &Flags::default()).unwrap_err();
    assert!(half.contains("belong together"), "{half}");
    let shell = read(
        "[reload_commands]\nnginx = ['systemctl', 'reload']",
        &[],
        &Flags::default(),
    )
    .unwrap_err();
    assert!(shell.contains("reload_commands.nginx"), "{shell}");
    assert!(
        read(
            "listen = '0.0.0.0:1'\ntls_cert = 'a'\ntls_key = 'b'",
            &[],
            &Flags::default()
        )
        .is_ok()
    );
}

#[test]
fn a_missing_file_says_how_to_make_one() {
    let missing = load(
        Some(Path::new("/nowhere/keyfall.toml")),
        &Environment::default(),
        &Flags::default(),
    );
    let Err(ConfigError::Missing { .. }) = missing else {
        panic!("{missing:?}");
    };
}

#[test]
fn every_key_can_be_given_by_the_environment() {
    let full = Config {
        tls_cert: Some("a".into()),
        tls_key: Some("b".into()),
        kek_file: Some("c".into()),
        ..Config::default()
    };
    let table: toml::Table = toml::from_str(&full.to_toml().unwrap()).unwrap();
    let known = load::known_keys();
    for key in table.keys() {
        let is_listed = known
            .iter()
            .any(|one| one == key || one.starts_with(&format!("{key}.")));
        assert!(is_listed, "{key} is not in {known:?}");
    }
}
