//! An `init` that is cut off at any instant is gone on with by the same command, whatever its store knows of it by then.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Database, Keyfall, Ran, keyfall, ran};

/// Where the store of a new server is: a file in its directory, or a database that is gone with this.
struct Place(Option<Database>);

impl Place {
    fn store(&self) -> String {
        self.0.as_ref().map_or("keyfall.db".to_owned(), Database::store)
    }

    fn arguments(&self) -> Vec<String> {
        let named = self.0.as_ref().map(|database| ["--store".to_owned(), database.store()]);
        named.into_iter().flatten().collect()
    }
}

fn both() -> [fn() -> Place; 2] {
    [|| Place(None), || Place(Some(Database::fresh()))]
}

fn init(dir: &Path, place: &Place) -> Command {
    let mut command = keyfall();
    command.arg("init").arg(dir).args(["--listen", "127.0.0.1:0"]);
    command.args(place.arguments());
    command
}

fn mark(place: &Place) -> String {
    let store = place.store();
    format!("keyfall init --name keyfall --people alice,bob --listen 127.0.0.1:0 --store {store}\n")
}

/// Everything but the log of the server and what changes with each start.
fn keys(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    ["kek", "signing.key", "people/alice.key", "people/bob.token"]
        .map(|name| (dir.join(name), fs::read(dir.join(name)).unwrap()))
        .into()
}

fn serves(kf: &Keyfall) {
    kf.resume();
    let status = kf.alice().json(&["status"]);
    assert_eq!(status["frozen"], Value::Null, "{status}");
    kf.alice().secret("some-admin", "s3cret");
    kf.bob().ok(&["review"]);
}

#[test]
fn an_init_that_is_killed_at_any_instant_goes_on() {
    for fresh in both() {
        let mut killed = 0;
        for round in 1.. {
            let place = fresh();
            let kf = Keyfall::nowhere();
            let mut child = init(&kf.dir(), &place)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let until = Instant::now() + Duration::from_millis(20 * round);
            let ended = loop {
                match child.try_wait().unwrap() {
                    Some(ended) => break Some(ended),
                    None if Instant::now() > until => break None,
                    None => std::thread::yield_now(),
                }
            };
            if let Some(ended) = ended {
                assert!(ended.success(), "{ended}");
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
            let again = ran(&mut init(&kf.dir(), &place), b"");
            // Killed with its last breath, it had done everything.
            let is_done = again.stderr.contains("is not empty") && !kf.dir().join("init.unfinished").exists();
            assert!(again.code == 0 || is_done, "round {round}: {again:?}");
            serves(&kf);
        }
        assert!(killed > 0);
    }
}

/// What a kill right behind the first record leaves: the store knows the server, and nothing else does.
#[test]
fn an_init_that_was_cut_off_behind_its_first_record_keeps_its_keys() {
    for fresh in both() {
        let place = fresh();
        let kf = Keyfall::nowhere();
        assert_eq!(ran(&mut init(&kf.dir(), &place), b"").code, 0);
        let before = keys(&kf.dir());
        let unfinished = kf.dir().join("init.unfinished");
        assert!(!unfinished.exists());
        fs::write(&unfinished, mark(&place)).unwrap();
        fs::remove_file(kf.dir().join("anchor")).unwrap();

        let other = ran(init(&kf.dir(), &place).args(["--people", "ann,ben"]), b"");
        assert_eq!(other.code, 1, "{other:?}");
        assert!(other.stderr.contains("other arguments"), "{other:?}");
        let again = ran(&mut init(&kf.dir(), &place), b"");
        assert_eq!(again.code, 0, "{again:?}");
        assert_eq!(keys(&kf.dir()), before);
        assert!(!unfinished.exists() && kf.dir().join("anchor").exists());
        serves(&kf);
    }
}

/// What a kill before the first record leaves, and a store that cannot be reached while somebody goes on.
#[test]
fn an_init_that_was_cut_off_before_its_first_record_begins_anew_and_takes_no_other_store() {
    let kf = Keyfall::nowhere();
    let (place, theirs) = (Place(Some(Database::fresh())), Database::fresh());
    let address = place.store().replace("file:", "");
    let again = || -> Ran { ran(&mut init(&kf.dir(), &place), b"") };
    assert_eq!(again().code, 0);
    let before = keys(&kf.dir());
    let ours = fs::read_to_string(&address).unwrap();
    let unfinished = kf.dir().join("init.unfinished");
    let lead_to = |text: &str| {
        fs::write(&address, text).unwrap();
        fs::set_permissions(&address, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&unfinished, mark(&place)).unwrap();
    };

    let (server, rest) = ours.rsplit_once(':').unwrap();
    let (_, database) = rest.split_once('/').unwrap();
    lead_to(&format!("{server}:1/{database}"));
    let unreachable = again();
    assert_eq!(unreachable.code, 1, "{unreachable:?}");
    assert_eq!(keys(&kf.dir()), before, "it may be known there");

    let made = ran(
        keyfall().args(["init", &kf.scratch("theirs"), "--store", &theirs.store()]),
        b"",
    );
    assert_eq!(made.code, 0, "{made:?}");
    lead_to(&fs::read_to_string(theirs.store().replace("file:", "")).unwrap());
    let refused = again();
    assert!(
        refused.code == 1 && refused.stderr.contains("another server's store"),
        "{refused:?}"
    );
    assert_eq!(keys(&kf.dir()), before);

    // An empty one: nothing was stored, so it begins anew.
    let empty = Database::fresh();
    lead_to(&fs::read_to_string(empty.store().replace("file:", "")).unwrap());
    let anew = again();
    assert_eq!(anew.code, 0, "{anew:?}");
    assert_ne!(keys(&kf.dir()), before);
    serves(&kf);
}
