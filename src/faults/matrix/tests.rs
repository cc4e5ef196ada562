//! The matrix: a slice of it in every change's own checks, the whole by the soak.

use crate::clock::Environment;

use super::cells::{Cell, faults, scenarios};
use super::database::Database;
use super::flavour::Flavour;
use super::runner;
use super::time::{at_a_time_of_its_own, joined};

/// All of them, or all of one flavour where only one of its cells is wanted.
fn all(wanted: &Wanted) -> Vec<(usize, Cell)> {
    let mut cells = Vec::new();
    let mut flavours = Vec::new();
    let named = |flavour: &Flavour| wanted.is_of(flavour.name());
    for flavour in Flavour::ALL.into_iter().filter(named) {
        flavours.push(at_a_time_of_its_own(async move |time| scenarios(flavour, &time).await));
    }
    for scenarios in flavours {
        for (scenario, sites) in joined(scenarios) {
            for database in Database::ALL {
                let cell = |fault| Cell {
                    database,
                    scenario,
                    fault,
                };
                cells.extend(faults(&sites).into_iter().map(cell));
            }
        }
    }
    cells.into_iter().enumerate().collect()
}

/// One cell by its name, or those with the number I modulo N. By default each day has its own share, so that all of them come round.
enum Wanted {
    Named(String),
    Slice(usize, usize),
}

/// Days until every cell has had its turn, where nobody says what is wanted.
const DAYS: usize = 120;

impl Wanted {
    fn of_environment() -> Self {
        if let Ok(name) = std::env::var("KEYFALL_MATRIX_CELL") {
            return Self::Named(name);
        }
        let Ok(slice) = std::env::var("KEYFALL_MATRIX_SLICE") else {
            let day = Environment::of_this_machine().now().as_second() / 86_400;
            return Self::Slice(usize::try_from(day).unwrap() % DAYS, DAYS);
        };
        let (at, of) = slice.split_once('/').expect("KEYFALL_MATRIX_SLICE is I/N");
        Self::Slice(at.parse().unwrap(), of.parse().unwrap())
    }

    fn is_of(&self, flavour: &str) -> bool {
        match self {
            Self::Named(name) => name.split('/').nth(1) == Some(flavour),
            Self::Slice(..) => true,
        }
    }

    fn holds(&self, number: usize, cell: &Cell) -> bool {
        match self {
            Self::Named(name) => cell.name() == *name,
            Self::Slice(at, of) => number % of == *at,
        }
    }
}

/// Rows 3, 5, 8, 11, 22, 24.
#[test]
fn the_crash_matrix() {
    let wanted = Wanted::of_environment();
    let all = all(&wanted);
    let whole = all.len();
    let is_one = matches!(wanted, Wanted::Named(_));
    assert!(is_one || whole >= 2_500, "{whole} cells are too few to be all");
    let cells: Vec<_> = all
        .into_iter()
        .filter(|(number, cell)| wanted.holds(*number, cell))
        .collect();
    assert!(!cells.is_empty(), "there is no such cell");
    let number = cells.len();
    let failed = runner::run(cells);
    println!("COVERED: cells {number} of {whole}");
    assert!(
        failed.is_empty(),
        "{} cells failed:\n{}",
        failed.len(),
        failed.join("\n\n")
    );
}
