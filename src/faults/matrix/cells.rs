//! The cells of the matrix, enumerated from what undisturbed runs were seen to do: a step that is added is in the matrix by being taken.

use keyfall_sdk::{ErrorKind, IssueClass};

use super::bench::Bench;
use super::database::Database;
use super::fault::{Call, Cut, Fault, Mode, Site};
use super::flavour::Flavour;
use super::play::{Piece, Played, play};
use super::steps::{Failing, Habits};
use super::time::Time;
use crate::domain::workflow::{RunKind, Step};

/// A run on one connector, to its end or back from one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) flavour: Flavour,
    pub(crate) kind: RunKind,
    /// The last step whose failure takes the run back; `None`: it goes forward.
    pub(crate) back_from: Option<Step>,
}

impl Scenario {
    pub(crate) fn name(&self) -> String {
        let way = if self.back_from.is_some() { "-back" } else { "" };
        format!("{}/{}{way}", self.flavour.name(), self.kind.name())
    }

    pub(crate) fn habits(&self) -> Habits {
        let fails = self.back_from.map(|step| Failing { step, is_done: false });
        Habits {
            fails,
            ..Habits::default()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cell {
    pub(crate) database: Database,
    pub(crate) scenario: Scenario,
    pub(crate) fault: Fault,
}

impl Cell {
    /// `sqlite/demo/rotate/prove_new/probe/after_send/late_reply`.
    pub(crate) fn name(&self) -> String {
        format!(
            "{}/{}/{}",
            self.database.name(),
            self.scenario.name(),
            self.fault.name()
        )
    }

    pub(crate) fn shares_a_bench_with(&self, other: &Self) -> bool {
        (self.scenario.flavour, self.database) == (other.scenario.flavour, other.database)
    }

    pub(crate) fn piece(&self) -> Piece {
        Piece {
            kind: self.scenario.kind,
            habits: self.scenario.habits(),
            fault: Some(self.fault),
            is_answered: true,
        }
    }

    /// What is wrong with how it ended: by the oracle, and because the engine must get over what passes by itself.
    pub(crate) fn wrong(&self, played: &Played) -> Vec<String> {
        let mut wrong = played.wrong.clone();
        if !played.has_struck {
            wrong.push("the fault of this cell never came".to_owned());
        }
        let wanted = if self.scenario.back_from.is_some() {
            "unwound"
        } else {
            "completed"
        };
        let status = played.status.as_str();
        if self.may_ask() && ["needs_operator", "unwound"].contains(&status) {
            wrong.retain(|one| !one.starts_with("I2"));
            return wrong;
        }
        if self.fault.mode.passes() {
            if status != wanted {
                wrong.push(format!(
                    "it ended as {status} and not as {wanted}, and the fault passes by itself"
                ));
            }
            if played.was_asked {
                wrong.push("a person was asked, and the fault passes by itself".to_owned());
            }
        } else if let Some(rules) = self.lies_about() {
            wrong.retain(|one| !rules.iter().any(|rule| one.starts_with(rule)));
        } else if !["completed", "unwound", "unprovable"].contains(&status) {
            wrong.push(format!("it ended as {status}"));
        }
        wrong
    }

    /// Where the system mints another key at each call, nobody but a person can say what a second one made. It is told, and nothing is deleted.
    fn may_ask(&self) -> bool {
        let Fault { site, mode, .. } = self.fault;
        let is_second_issue = site.call == Some(Call::Issue) && mode == Mode::Duplicate;
        let is_unanswered = matches!(
            site.step,
            Step::Precheck | Step::Baseline | Step::IssueNew | Step::RevokeNew
        );
        match self.scenario.flavour.issue_class() {
            IssueClass::Repeatable => false,
            IssueClass::CheckFirst => is_second_issue,
            // Whether its intent was all that there was, or the call was sent, cannot be read downstream either.
            IssueClass::Once => is_second_issue || is_unanswered,
        }
    }

    /// The provider says that there is nothing to do, and there is. What it holds on to then is found by a proof, or stays where only the provider
    /// could take it away; no more than these rules may be broken by it.
    fn lies_about(&self) -> Option<&'static [&'static str]> {
        let Mode::Error(ErrorKind::NotFound | ErrorKind::Unsupported) = self.fault.mode else {
            return None;
        };
        match self.fault.site.call? {
            Call::Revoke => Some(&["an honest provider", "taken back", "completed", "I2"]),
            Call::Withdraw => Some(&[
                "I1",
                "taken back: the destination",
                "completed decommission: its destination",
            ]),
            _ => None,
        }
    }
}

/// The scenarios of one flavour, each with what it was seen to do: every step with its calls.
pub(crate) async fn scenarios(flavour: Flavour, time: &Time) -> Vec<(Scenario, Vec<Site>)> {
    let bench = Bench::new(flavour, Database::Sqlite, time).await;
    let mut all = Vec::new();
    for kind in RunKind::ALL.into_iter().filter(|kind| flavour.has(*kind)) {
        let forward = Scenario {
            flavour,
            kind,
            back_from: None,
        };
        let played = undisturbed(&bench, forward).await;
        assert_eq!(played.status, "completed", "{}: {}", forward.name(), played.log);
        if let Some((back, sites)) = way_back(&bench, forward, &played).await {
            let undos = sites.into_iter().filter(|site| !played.path.contains(&site.step));
            all.push((back, undos.collect()));
        }
        all.push((forward, played.sites));
    }
    all
}

/// Back from the last step from which there is a way back: everything that there is to be taken back is.
async fn way_back(bench: &Bench, forward: Scenario, gone: &Played) -> Option<(Scenario, Vec<Site>)> {
    let steps = &gone.path;
    let pivot = steps.iter().position(|step| Some(*step) == gone.pivot);
    for step in steps.iter().take(pivot.map_or(usize::MAX, |pivot| pivot + 1)).rev() {
        let back = Scenario {
            back_from: Some(*step),
            ..forward
        };
        let played = undisturbed(bench, back).await;
        if played.status == "unwound" && played.path.iter().any(|step| !steps.contains(step)) {
            return Some((back, played.sites));
        }
    }
    None
}

async fn undisturbed(bench: &Bench, scenario: Scenario) -> Played {
    let piece = Piece {
        kind: scenario.kind,
        habits: scenario.habits(),
        fault: None,
        is_answered: false,
    };
    let played = play(bench, piece).await;
    assert_eq!(
        played.wrong,
        Vec::<String>::new(),
        "{}, undisturbed: {}",
        scenario.name(),
        played.log
    );
    played
}

/// Every place of a scenario on every side in every way.
pub(crate) fn faults(sites: &[Site]) -> Vec<Fault> {
    let mut steps: Vec<Step> = sites.iter().map(|site| site.step).collect();
    steps.dedup();
    steps.into_iter().flat_map(|step| faults_of(step, sites)).collect()
}

fn faults_of(step: Step, sites: &[Site]) -> Vec<Fault> {
    let calls: Vec<Site> = sites
        .iter()
        .filter(|site| site.step == step && site.call.is_some())
        .copied()
        .collect();
    let whole = Site { step, call: None };
    let changes = |site: &&Site| site.call.is_some_and(Call::has_effect);
    let main = calls.iter().find(changes).or(calls.first()).copied();
    let mut faults = Vec::new();
    for cut in Cut::ALL {
        let at = match (cut.is_at_call(), calls.is_empty()) {
            (true, false) => calls.clone(),
            _ => vec![whole],
        };
        for site in at {
            let is_silent = cut.is_at_call() && site.call.is_none();
            let is_main = Some(site) == main || site.call.is_some_and(Call::has_effect);
            for mode in modes(cut, is_main) {
                // A step that calls nobody has nobody to fail it.
                if !is_silent || mode == Mode::Kill {
                    faults.push(Fault { site, cut, mode });
                }
            }
        }
    }
    faults
}

/// One call of each step is failed in every way: the one that changes something, or else the first. At the others, which are asked for nothing but
/// an answer, the ways that differ by what is answered are one.
fn modes(cut: Cut, is_main: bool) -> Vec<Mode> {
    let mut modes = Mode::all(cut).to_vec();
    if cut == Cut::BeforeSend && is_main {
        modes.extend(Mode::OTHER_ERRORS);
    }
    if !is_main && cut.is_at_call() {
        modes.retain(|mode| match cut {
            Cut::BeforeSend => matches!(mode, Mode::Kill | Mode::Error(_) | Mode::Timeout),
            _ => matches!(mode, Mode::Error(_) | Mode::LateReply),
        });
    }
    modes
}
