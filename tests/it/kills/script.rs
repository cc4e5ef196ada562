//! What two people do during a replay. The server may die under any of their requests, so each act is told to be done by what then holds, and
//! is asked for again until it does.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::manifests::{Names, fast};
use crate::harness::{Keyfall, Person, Servers, wait_for};

/// Only what hangs takes longer: a loaded machine is slow, and several lives of the server may pass.
const PATIENCE: Duration = Duration::from_secs(600);
/// The exit code for "the server cannot be reached".
const AWAY: i32 = 5;

pub(crate) struct Script<'a> {
    pub(crate) kf: &'a Keyfall,
    pub(crate) names: &'a Names,
}

impl Script<'_> {
    /// The scenes, in the order in which they depend on each other.
    pub(crate) fn register(&self) {
        let servers = Servers::get();
        for (name, file) in [
            ("pg-admin", "KEYFALL_PG_ADMIN_PASSWORD_FILE"),
            ("redis-admin", "KEYFALL_REDIS_ADMIN_PASSWORD_FILE"),
        ] {
            wait_for("a secret is set", PATIENCE, || {
                self.kf.alice().try_secret(name, &servers.file(file)).then_some(())
            });
        }
        self.apply(&self.names.manifests(servers, "3s"));
    }

    pub(crate) fn decommission(&self) {
        self.wait_for_state("legacy", &["active"]);
        wait_for("the decommission is approved", PATIENCE, || {
            let state = self.state("legacy")?;
            if state.starts_with("decommission") || self.has_run("legacy", "decommission") {
                return Some(());
            }
            self.propose(&["decommission", "legacy", "--reason", "nobody needs it"]);
            None
        });
    }

    /// The `time`-th emergency: proposed until there is a run for it, followed until it is over.
    pub(crate) fn rotate_leaked(&self, time: usize) {
        self.wait_for_state("batch", &["active"]);
        wait_for("the emergency rotation is approved and over", PATIENCE, || {
            let runs = self.runs("batch", "emergency_rotate")?;
            let open = runs.iter().any(|run| run["closed_at"].is_null());
            if open {
                return None;
            }
            if runs.len() >= time {
                return Some(());
            }
            self.propose(&["rotate", "batch", "--emergency", "--reason", "found in public"]);
            None
        });
    }

    /// Waits until each of them was rotated by schedule.
    pub(super) fn rotates(&self, identities: &[&str]) {
        for identity in identities {
            wait_for(&format!("{identity} is rotated by schedule"), PATIENCE, || {
                let runs = self.runs(identity, "rotate")?;
                runs.iter().any(|run| run["status"] == "completed").then_some(())
            });
        }
    }

    /// Ends scheduled rotations, and waits until nothing is under way.
    pub(crate) fn come_to_rest(&self) {
        self.apply(&fast("30d").to_string());
        self.wait_for_state("legacy", &["decommissioned"]);
        wait_for("nothing is under way", PATIENCE, || {
            let open = ask(&self.kf.alice(), &["runs", "--open"])?;
            let stuck = ask(&self.kf.alice(), &["runs", "--status", "needs_operator"])?;
            assert_eq!(stuck, Value::Array(Vec::new()), "a run asks for a person");
            open.as_array()?.is_empty().then_some(())
        });
    }

    /// How many rotations were completed.
    pub(crate) fn rotations(&self) -> usize {
        let args = ["runs", "--kind", "rotate", "--status", "completed"];
        ask(&self.kf.alice(), &args)
            .and_then(|runs| Some(runs.as_array()?.len()))
            .unwrap_or_default()
    }

    /// The manifests, applied and approved until applying them again changes nothing.
    fn apply(&self, manifests: &str) {
        let file = self.kf.scratch("manifests.yaml");
        fs::write(&file, manifests).unwrap();
        wait_for("the manifests hold", PATIENCE, || {
            let plan = ask(&self.kf.alice(), &["apply", "-f", &file, "--reason", "in a test"])?;
            if plan["empty"] == Value::Bool(true) {
                return Some(());
            }
            self.approve(&plan);
            None
        });
    }

    fn propose(&self, args: &[&str]) {
        if let Some(plan) = ask(&self.kf.alice(), args) {
            self.approve(&plan);
        }
    }

    fn approve(&self, plan: &Value) {
        if let Some(id) = plan["id"].as_str() {
            let _ = ask(&self.kf.bob(), &["approve", id, "--yes", "--reason", "in a test"]);
        }
    }

    fn wait_for_state(&self, identity: &str, wanted: &[&str]) {
        let mut last = None;
        wait_for(&format!("{identity} is {wanted:?}"), PATIENCE, || {
            last = self.state(identity);
            wanted.contains(&last.as_deref()?).then_some(())
        });
    }

    fn state(&self, identity: &str) -> Option<String> {
        let view = ask(&self.kf.alice(), &["describe", "identity", identity])?;
        Some(view["state"].as_str()?.to_owned())
    }

    fn has_run(&self, identity: &str, kind: &str) -> bool {
        self.runs(identity, kind).is_some_and(|runs| !runs.is_empty())
    }

    fn runs(&self, identity: &str, kind: &str) -> Option<Vec<Value>> {
        let runs = ask(&self.kf.alice(), &["runs", "--identity", identity, "--kind", kind])?;
        runs.as_array().cloned()
    }
}

/// What a command printed as JSON, whatever its exit code; `None` when the server was away.
pub(crate) fn ask(person: &Person, args: &[&str]) -> Option<Value> {
    if person.url.is_empty() {
        return None;
    }
    let ran = person.run(&[args, &["-o", "json"]].concat());
    if ran.code != 0 && ran.code != AWAY {
        println!("keyfall {args:?} ended with {}: {}", ran.code, ran.stderr);
    }
    serde_json::from_str(&ran.stdout).ok()
}
