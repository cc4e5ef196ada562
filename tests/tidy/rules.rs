//! The rules about single files: their head, size, words. Imports are in `imports.rs`. They must not read any file.

use crate::source::{Source, has_word, is_test_file, lines_with};
use crate::tree::Text;

const MOST_LINES: usize = 400;
const MOST_FUNCTION_LINES: usize = 60;

pub(crate) fn opens_with_its_purpose(source: &Source) -> Vec<String> {
    let first = source.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//!").is_some_and(|rest| rest.trim().len() > 10);
    if says {
        Vec::new()
    } else {
        vec![source.complain(1, "it does not open with `//!` and a sentence")]
    }
}

pub(crate) fn stays_small(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines > MOST_LINES {
        vec![source.complain(lines, &format!("{lines} lines; {MOST_LINES} are the most"))]
    } else {
        Vec::new()
    }
}

/// A function from its first line to the brace that closes it, which stands under it: rustfmt sees to that.
pub(crate) fn has_short_functions(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.code.lines().collect();
    let mut complaints = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let is_function = line
            .split_whitespace()
            .take_while(|word| !word.contains('('))
            .any(|word| word == "fn");
        if !is_function || line.trim_end().ends_with(['}', ';']) {
            continue;
        }
        let closes =
            |line: &&&str| line.len() > indent && line[..indent].trim().is_empty() && line[indent..].starts_with('}');
        let rest = lines.iter().skip(at + 1);
        let long = rest.clone().position(|line| closes(&line)).map_or(0, |end| end + 2);
        if long > MOST_FUNCTION_LINES {
            complaints.push(source.complain(at + 1, &format!("{long} lines; {MOST_FUNCTION_LINES} are the most")));
        }
    }
    complaints
}

/// Marks of unfinished work, in comments too. Written in halves, or this file would break its own rule.
const MARKS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[allow(", "#![allow("];

pub(crate) fn leaves_nothing_for_later(source: &Source) -> Vec<String> {
    let marks = MARKS.iter().map(|mark| (mark, &source.text));
    let macros = UNFINISHED.iter().map(|mark| (mark, &source.code));
    marks
        .chain(macros)
        .flat_map(|(mark, text)| lines_with(text, mark).into_iter().map(move |line| (line, mark)))
        .map(|(line, mark)| source.complain(line, &format!("it says {mark}")))
        .collect()
}

/// A timer that is handed over as a value is not a sleep: whoever gets it bounds the wait. A bench measures time and asserts nothing. In the
/// simulation time is paused: what sleeps there waits for nobody's clock.
pub(crate) fn does_not_sleep_in_tests(source: &Source) -> Vec<String> {
    let may_wait = source.path.ends_with("/poll.rs") || source.path.starts_with("tests/bench/");
    let is_simulated = source.path.starts_with("src/faults/sim/");
    if is_simulated || (may_wait && is_test_file(&source.path)) {
        return Vec::new();
    }
    let tests = source.tests();
    let calls = ["sleep(", "sleep_until("]
        .iter()
        .flat_map(|call| tests.match_indices(call));
    calls
        .filter(|(at, call)| {
            let (before, after) = (&tests[..*at], &tests[at + call.len()..]);
            before.ends_with("thread::") || after_call(after).trim_start().starts_with(".await")
        })
        .map(|(at, _)| source.complain(tests[..at].matches('\n').count() + 1, "a test sleeps"))
        .collect()
}

/// What follows the closing parenthesis of the call whose arguments `rest` begins with.
fn after_call(rest: &str) -> &str {
    let mut depth = 1_i32;
    for (at, c) in rest.char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth == 0 {
            return &rest[at + 1..];
        }
    }
    ""
}

const WALL_CLOCKS: &[&str] = &["SystemTime::now", "Timestamp::now", "Zoned::now"];

pub(crate) fn leaves_the_clock_alone(source: &Source) -> Vec<String> {
    if source.path == "src/clock.rs" {
        return Vec::new();
    }
    let wall = WALL_CLOCKS.iter().map(|clock| (*clock, &source.code));
    // How long something took, or may still take, is no wall-clock time: whoever does I/O may measure it.
    let does_io = ["src/engine/", "src/store/", "src/http/", "src/cli/"];
    let is_pure = source.path.starts_with("src/") && !does_io.iter().any(|folder| source.path.starts_with(folder));
    let monotonic = is_pure.then_some(("Instant::now", &source.product));
    wall.chain(monotonic)
        .flat_map(|(clock, text)| lines_with(text, clock).into_iter().map(move |line| (line, clock)))
        .map(|(line, clock)| source.complain(line, &format!("it calls {clock}")))
        .collect()
}

pub(crate) fn carries_the_licence(file: &Text) -> Vec<String> {
    let holds = if file.path == "LICENSE" {
        file.text.contains("Apache License") && file.text.contains("Version 2.0, January 2004")
    } else {
        let stated = ["license.workspace = true", "license = \"Apache-2.0\""];
        file.text.lines().any(|line| stated.contains(&line.trim()))
    };
    if holds {
        Vec::new()
    } else {
        vec![format!("{}: it does not carry Apache-2.0", file.path)]
    }
}

/// Paths of one machine, and words about how a text came about. Written in halves, as above.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];
const PROCESS: &[&str] = &[
    concat!("cla", "ude"),
    concat!("chat", "gpt"),
    concat!("agent ", "session"),
    concat!("language ", "model"),
];

pub(crate) fn belongs_in_the_tree(file: &Text) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let lower = line.to_lowercase();
        let path = MACHINE_PATHS.iter().find(|path| begins_a_path(line, path));
        let word = PROCESS.iter().find(|word| has_word(&lower, word));
        if let Some(found) = path.or(word) {
            complaints.push(format!("{}:{}: it says {found}", file.path, index + 1));
        }
    }
    complaints
}

/// `needle` at the start of an absolute path, not within a longer one.
fn begins_a_path(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~$}*".contains(c))
    })
}

pub(crate) fn has_unreleased(changelog: &Text) -> Vec<String> {
    let mut after = changelog.text.lines().skip_while(|line| *line != "## Unreleased");
    if after.next().is_some() {
        Vec::new()
    } else {
        vec![format!("{}: it has no section `## Unreleased`", changelog.path)]
    }
}
