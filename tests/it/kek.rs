//! Changing the key that seals, by the command line: killed anywhere, it goes on, and in the end the earlier key opens nothing.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Instant;

use rusqlite::{Connection, OpenFlags};

use crate::harness::{Keyfall, LIMIT, http, keyfall, ran, token};

const SECRETS: usize = 1_200;

/// A server with many secrets.
fn with_secrets() -> Keyfall {
    let kf = Keyfall::start();
    let alice = token(&kf.dir(), "alice");
    for number in 0..SECRETS {
        let url = format!("{}/v1/secrets/s{number}", kf.url());
        let (status, _, body) = http("PUT", &url, Some(&alice), "s3cret");
        assert_eq!(status, 200, "{body}");
    }
    kf
}

/// The server goes on with a fresh key, and the present one beside it.
fn exchange_key(kf: &Keyfall, number: u32) {
    assert!(kf.stop().success(), "{}", kf.log());
    let other = Keyfall::init(&[]);
    let (kek, earlier) = (kf.dir().join("kek"), kf.dir().join(format!("kek.{number}")));
    fs::rename(&kek, &earlier).unwrap();
    fs::copy(other.dir().join("kek"), &kek).unwrap();
    name_earlier(kf, &[&format!("kek.{number}")]);
    kf.resume();
}

fn name_earlier(kf: &Keyfall, files: &[&str]) {
    let text = fs::read_to_string(kf.config()).unwrap();
    let kept = text.lines().filter(|line| !line.starts_with("previous_kek_files"));
    let mut text: String = kept.map(|line| format!("{line}\n")).collect();
    if !files.is_empty() {
        text.push_str(&format!("previous_kek_files = {files:?}\n"));
    }
    fs::write(kf.config(), text).unwrap();
}

struct Rows(Connection);

impl Rows {
    fn of(kf: &Keyfall) -> Self {
        let file = kf.dir().join("keyfall.db");
        Self(Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap())
    }

    /// Living secrets by the key that they are sealed under, the fullest first.
    fn by_key(&self) -> Vec<usize> {
        let mut question = self
            .0
            .prepare_cached("select count(*) from secrets where destroyed_at is null group by kek_id order by 1 desc")
            .unwrap();
        let counts = question.query_map([], |row| row.get::<_, u32>(0)).unwrap();
        counts.map(|count| count.unwrap() as usize).collect()
    }
}

fn rotating(kf: &Keyfall) -> Child {
    let mut command = kf.alice().command();
    command
        .args(["kek", "rotate"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Begins a rotation and kills the server as soon as any secret is under the new key; the rows by key that it left.
fn killed_in_a_rotation(kf: &Keyfall) -> Vec<usize> {
    let rows = Rows::of(kf);
    let mut command = rotating(kf);
    let began = Instant::now();
    let only_old = rows.by_key();
    assert!(only_old.len() <= 2, "{only_old:?}");
    while rows.by_key() == [SECRETS] && command.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < LIMIT, "nothing is sealed anew");
        std::thread::yield_now();
    }
    kf.kill();
    command.wait().unwrap();
    rows.by_key()
}

#[test]
fn a_rotation_of_the_key_that_was_killed_halfway_goes_on_and_needs_the_earlier_key_no_more() {
    let kf = with_secrets();
    let mut halfway = false;
    for number in 0..10 {
        exchange_key(&kf, number);
        let left = killed_in_a_rotation(&kf);
        assert_eq!(left.iter().sum::<usize>(), SECRETS, "{left:?}");
        halfway = left.len() == 2;
        kf.resume();
        let rotated = kf.alice().json(&["kek", "rotate"]);
        let rest = if halfway { left[1].min(left[0]) } else { 0 };
        let rewrapped = usize::try_from(rotated["rewrapped"].as_u64().unwrap()).unwrap();
        assert!(rewrapped >= rest && rewrapped < SECRETS, "{rotated}, {left:?}");
        assert_eq!(Rows::of(&kf).by_key(), [SECRETS]);
        if halfway {
            break;
        }
    }
    assert!(halfway, "no kill fell into a rotation");

    // The earlier keys are taken off the ring: everything opens without them.
    assert!(kf.stop().success());
    name_earlier(&kf, &[]);
    kf.resume();
    let doctor = kf.alice().json(&["doctor"]);
    let line = doctor
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["check"] == "key")
        .unwrap();
    assert_eq!(line["ok"], true, "{doctor}");
    assert_eq!(kf.alice().json(&["kek", "rotate"])["rewrapped"], 0);
}

/// Row 33.
#[test]
fn a_key_is_not_dropped_before_its_rotation() {
    let kf = Keyfall::start();
    kf.alice().secret("one", "s3cret");
    exchange_key(&kf, 0);
    assert!(kf.stop().success());
    name_earlier(&kf, &[]);
    let refused = ran(&mut kf.serve_command(), b"");
    assert!(refused.code == 1 && refused.stderr.contains("wrong key"), "{refused:?}");
    name_earlier(&kf, &["kek.0"]);
    kf.resume();
    assert_eq!(kf.alice().json(&["kek", "rotate"])["rewrapped"], 1);
    let help = ran(keyfall().args(["kek", "rotate", "--help"]), b"");
    assert!(help.stdout.contains("previous_kek_files"), "{help:?}");
}
