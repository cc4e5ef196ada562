//! Whether a process of this machine has ended, told without doubt or not at all: by the machine's boot, the namespaces in which its number
//! counts, its number, and the instant at which it began. It knows nothing of what the processes do.
//!
//! A process that is stopped is there; one that is cut off from the database is there; of one on another machine, in another container or before
//! the last boot nothing is said.

use std::fs;
use std::path::Path;

use keyfall::engine::Processes;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

#[derive(Debug)]
pub(super) struct LocalProcesses {
    proc: &'static Path,
}

impl LocalProcesses {
    pub(super) fn new() -> Self {
        Self {
            proc: Path::new("/proc"),
        }
    }

    /// Where a process number means one process: this boot, seen from these namespaces. Instants are told in one of them too.
    fn place(&self) -> Option<String> {
        let boot = fs::read_to_string(self.proc.join("sys/kernel/random/boot_id")).ok()?;
        let namespace = |name: &str| {
            let link = fs::read_link(self.proc.join("self/ns").join(name)).ok()?;
            Some(link.display().to_string())
        };
        Some(format!("{}/{}/{}", boot.trim(), namespace("pid")?, namespace("time")?))
    }

    fn stat(&self, process: &str) -> Option<Stat> {
        Stat::read(&fs::read_to_string(self.proc.join(process).join("stat")).ok()?)
    }
}

impl Processes for LocalProcesses {
    fn own(&self) -> Option<String> {
        let own = self.stat("self")?;
        // Else this is the list of another namespace's processes, in which our numbers mean others.
        if own.number != std::process::id().to_string() {
            return None;
        }
        Some(format!("{}/{}/{}", self.place()?, own.number, own.began))
    }

    fn has_ended(&self, mark: &str) -> bool {
        let mut parts = mark.rsplitn(3, '/');
        let (Some(began), Some(number), Some(place)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        if self.own().is_none() || self.place().as_deref() != Some(place) {
            return false;
        }
        let Some(pid) = number.parse().ok().and_then(Pid::from_raw) else {
            return false;
        };
        // Asked of the kernel: a list of processes may hide those of others.
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return true;
        }
        self.stat(number)
            .is_some_and(|there| there.began != began || (there.is_dead && self.tasks(number) == Some(1)))
    }
}

impl LocalProcesses {
    fn tasks(&self, process: &str) -> Option<usize> {
        Some(fs::read_dir(self.proc.join(process).join("task")).ok()?.count())
    }
}

/// What the kernel tells of a process (proc(5), `/proc/pid/stat`).
struct Stat {
    number: String,
    /// It has ended, and its parent has not asked how.
    is_dead: bool,
    /// In the kernel's ticks since the boot.
    began: String,
}

impl Stat {
    /// The second field is the program's name in parentheses, which may hold anything.
    fn read(text: &str) -> Option<Self> {
        let (number, rest) = text.split_once(" (")?;
        let (_, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?;
        Some(Self {
            number: number.to_owned(),
            is_dead: matches!(state, "Z" | "X"),
            began: fields.nth(18)?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use keyfall::engine::Processes;
    use rustix::process::{Pid, Signal, kill_process};

    use super::{LocalProcesses, Stat};

    fn started() -> Child {
        Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()
    }

    /// The mark that this process has given itself.
    fn mark_of(child: &Child) -> String {
        let processes = LocalProcesses::new();
        let stat = processes.stat(&child.id().to_string()).unwrap();
        format!("{}/{}/{}", processes.place().unwrap(), stat.number, stat.began)
    }

    fn signal(child: &Child, signal: Signal) {
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    #[test]
    fn a_process_has_ended_when_it_was_killed_and_not_when_it_is_stopped() {
        let processes = LocalProcesses::new();
        assert!(!processes.has_ended(&processes.own().unwrap()), "that is this one");
        let mut child = started();
        let mark = mark_of(&child);
        assert!(!processes.has_ended(&mark));
        signal(&child, Signal::STOP);
        assert!(!processes.has_ended(&mark), "it may go on at any time");
        signal(&child, Signal::CONT);
        signal(&child, Signal::KILL);
        child.wait().unwrap();
        assert!(processes.has_ended(&mark));
    }

    #[test]
    fn a_number_that_was_given_to_another_process_tells_of_the_end() {
        let processes = LocalProcesses::new();
        let own = processes.own().unwrap();
        let (place, began) = own.rsplit_once('/').unwrap();
        assert!(processes.has_ended(&format!("{place}/{}", began.parse::<u64>().unwrap() - 1)));
    }

    #[test]
    fn of_processes_elsewhere_nothing_is_said() {
        let processes = LocalProcesses::new();
        let mut child = started();
        let mark = mark_of(&child);
        child.kill().unwrap();
        child.wait().unwrap();
        let (place, process) = mark.split_at(mark.find('/').unwrap());
        let elsewhere = format!(
            "{}{process}",
            place.replace(|digit: char| digit.is_ascii_hexdigit(), "7")
        );
        for mark in [elsewhere.as_str(), "", "a", "a/b", "a/b/c", "//"] {
            assert!(!processes.has_ended(mark), "{mark}");
        }
    }

    #[test]
    fn a_programs_name_may_hold_anything() {
        let stat = Stat::read("7 (a) R (b c)) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20\n").unwrap();
        assert_eq!(
            (stat.number.as_str(), stat.is_dead, stat.began.as_str()),
            ("7", true, "4711")
        );
        assert!(Stat::read("7 (a) Z 1 2").is_none());
    }
}
