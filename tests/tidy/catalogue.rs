//! The catalogue of failures in `tests/README.md`, against the tests that show its rules: each row has some, each named test carries the row
//! in a line `/// Row 7.` or `/// Rows 7, 8.` above its attribute, and each such line stands in the catalogue. It must not know what a row is about.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::Source;
use crate::tree::Text;

/// Rows are numbered from 1 to this.
pub(crate) const ROWS: u32 = 37;

/// A test by its file and its name, as the catalogue writes it: `src/a.rs::name`.
type Shown = BTreeMap<String, BTreeSet<u32>>;

/// Everything in which the catalogue and the tests differ.
pub(crate) fn differences(catalogue: &Text, sources: &[Source]) -> Vec<String> {
    let listed = listed(&catalogue.text);
    let mut complaints = Vec::new();
    let (mut shown, mut stray) = (Shown::new(), Vec::new());
    for source in sources {
        read(source, &mut shown, &mut stray);
    }
    complaints.extend(stray);
    let mut complain = |what: String| complaints.push(format!("{}: {what}", catalogue.path));
    for row in 1..=ROWS {
        let times = listed.iter().filter(|(number, _)| *number == row).count();
        if times != 1 {
            complain(format!("row {row} is there {times} times"));
        }
    }
    for (row, tests) in &listed {
        if tests.is_empty() {
            complain(format!("row {row} names no test"));
        }
        for test in tests {
            match shown.get(test) {
                None => complain(format!(
                    "row {row} names `{test}`, above which no line `/// Row …` stands"
                )),
                Some(rows) if !rows.contains(row) => {
                    complain(format!("row {row} names `{test}`, which shows {rows:?}"))
                }
                Some(_) => {}
            }
        }
    }
    for (test, rows) in &shown {
        for row in rows {
            if !listed
                .iter()
                .any(|(number, tests)| number == row && tests.contains(test))
            {
                complain(format!("row {row} does not name `{test}`, which shows it"));
            }
        }
    }
    complaints
}

/// The rows of the catalogue with the tests that they name.
fn listed(text: &str) -> Vec<(u32, BTreeSet<String>)> {
    let row = |line: &str| {
        let number = line.strip_prefix("| ")?.split(' ').next()?.parse().ok()?;
        let quoted = line.split('`').skip(1).step_by(2);
        let tests = quoted.filter(|text| text.contains(".rs::")).map(str::to_owned);
        Some((number, tests.collect()))
    };
    text.lines().filter_map(row).collect()
}

/// The lines of one file, each with the test that it stands above.
fn read(source: &Source, shown: &mut Shown, stray: &mut Vec<String>) {
    let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
    for (index, line) in lines.iter().enumerate() {
        let Some(rows) = rows_of(line) else { continue };
        let mut below = lines.iter().skip(index + 1).skip_while(|line| line.starts_with("///"));
        let attribute = below.next().copied().unwrap_or_default();
        let function = below.find_map(|line| line.split_once("fn ")?.1.split_once('('));
        match function {
            Some((name, _)) if attribute.starts_with("#[") && !rows.is_empty() => {
                shown
                    .entry(format!("{}::{name}", source.path))
                    .or_default()
                    .extend(rows);
            }
            _ => stray.push(source.complain(index + 1, "it names rows, and no test's attribute stands below it")),
        }
    }
}

/// The numbers of `/// Row 7.` and `/// Rows 7, 8. Why.`; `None` for any other line.
fn rows_of(line: &str) -> Option<Vec<u32>> {
    let rest = line.strip_prefix("/// Row")?;
    let rest = rest.strip_prefix('s').unwrap_or(rest).strip_prefix(' ')?;
    let (numbers, _) = rest.split_once('.')?;
    numbers.split(", ").map(|number| number.parse().ok()).collect()
}
