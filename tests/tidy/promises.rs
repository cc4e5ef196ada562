//! The promises of the map: each names tests that exist, and every number that is cited stands there.

use std::collections::BTreeSet;

use crate::source::Source;
use crate::tree::Text;

/// The map's rows: the number, and the tests that try to break it.
fn promised(map: &str) -> Vec<(String, Vec<String>)> {
    let rows = map.lines().filter(|line| line.starts_with("| P"));
    let row = |line: &str| {
        let number = line.trim_start_matches("| ").split(' ').next().unwrap_or_default();
        let tests = line.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (number.to_owned(), tests)
    };
    rows.map(row).collect()
}

/// Tests that the map names and nobody wrote, and promises without a test.
pub(crate) fn have_tests(map: &Text, sources: &[Source]) -> Vec<String> {
    let written: BTreeSet<&str> = sources.iter().flat_map(|source| tests_of(&source.text)).collect();
    let complaint = |what: String| format!("{}: {what}", map.path);
    let rows = promised(&map.text);
    let missing = rows.iter().flat_map(|(number, tests)| {
        let none = tests.is_empty().then(|| complaint(format!("{number} names no test")));
        let unknown = tests.iter().filter(|test| !written.contains(test.as_str()));
        none.into_iter()
            .chain(unknown.map(move |test| complaint(format!("{number} names `{test}`, which no test is called"))))
    });
    missing.collect()
}

fn tests_of(text: &str) -> impl Iterator<Item = &str> {
    let functions = text.split("fn ").skip(1);
    functions.filter_map(|rest| rest.split_once('(').map(|(name, _)| name))
}

/// Numbers that a comment cites and the map does not explain.
pub(crate) fn are_explained(map: &Text, sources: &[Source]) -> Vec<String> {
    let known: BTreeSet<String> = promised(&map.text).into_iter().map(|(number, _)| number).collect();
    let mut complaints = Vec::new();
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            let cited = comment(line)
                .split(|c: char| !c.is_alphanumeric())
                .filter(|word| is_number(word));
            for word in cited.filter(|word| !known.contains(*word)) {
                complaints.push(format!(
                    "{}:{}: {word} is no promise of the map",
                    source.path,
                    number + 1
                ));
            }
        }
    }
    complaints
}

fn comment(line: &str) -> &str {
    line.find("//").and_then(|start| line.get(start..)).unwrap_or_default()
}

fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix('P').unwrap_or_default();
    (1..=2).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_digit())
}
