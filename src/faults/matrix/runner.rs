//! Plays many cells side by side, each worker on stores of its own, and says for each that failed how to play exactly it again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::bench::Bench;
use super::cells::Cell;
use super::play::play;
use super::time::{Time, at_a_time_of_its_own, joined};

/// Workers: cells wait for servers, so there are more than cores.
const WORKERS: usize = 6;
/// Cells that share one store.
const CELLS_OF_A_BENCH: usize = 100;
/// Cells after which their store is read whole.
const CELLS_UNTIL_CHECKED: usize = 25;

type Numbered = (usize, Cell);

#[derive(Default)]
struct Work {
    left: Mutex<VecDeque<Numbered>>,
    failed: Mutex<Vec<String>>,
}

impl Work {
    /// The next one that fits the bench at hand; where none does, one of those whose kind are most.
    fn next(&self, bench: Option<&Bench>) -> Option<Numbered> {
        let mut left = self.left.lock().unwrap();
        let fitting = bench.and_then(|bench| left.iter().position(|(_, cell)| bench.fits(cell)));
        let at = fitting.or_else(|| {
            let alike = |cell: &Cell| left.iter().filter(|(_, other)| cell.shares_a_bench_with(other)).count();
            let mut firsts: Vec<usize> = Vec::new();
            for (at, (_, cell)) in left.iter().enumerate() {
                if !firsts.iter().any(|first| left[*first].1.shares_a_bench_with(cell)) {
                    firsts.push(at);
                }
            }
            firsts.into_iter().max_by_key(|first| alike(&left[*first].1))
        })?;
        left.remove(at)
    }

    fn failed(&self, what: String) {
        eprintln!("{what}");
        self.failed.lock().unwrap().push(what);
    }
}

/// What failed, as text that ends with the command that replays it.
pub(crate) fn run(cells: Vec<Numbered>) -> Vec<String> {
    let work = Arc::new(Work {
        left: Mutex::new(VecDeque::from(cells)),
        ..Work::default()
    });
    let workers = (0..WORKERS).map(|_| {
        let work = Arc::clone(&work);
        at_a_time_of_its_own(async move |time| worker(&work, &time).await)
    });
    let workers: Vec<_> = workers.collect();
    workers.into_iter().for_each(joined);
    std::mem::take(&mut *work.failed.lock().unwrap())
}

/// A bench with what was played on it.
struct Kept {
    bench: Arc<Bench>,
    played: usize,
    unchecked: Vec<Cell>,
}

impl Kept {
    async fn check(&mut self, work: &Work) {
        let wrong = self.bench.store.check().await.unwrap();
        if !wrong.is_empty() {
            let cells: Vec<String> = self.unchecked.iter().map(replay).collect();
            work.failed(format!("behind one of these: {wrong:#?}\n  {}", cells.join("\n  ")));
        }
        self.unchecked.clear();
    }
}

async fn worker(work: &Work, time: &Time) {
    let mut kept: Option<Kept> = None;
    while let Some((number, cell)) = work.next(kept.as_ref().map(|kept| &*kept.bench)) {
        let is_fit = |kept: &&mut Kept| kept.played < CELLS_OF_A_BENCH && kept.bench.fits(&cell);
        let on = match kept.as_mut().filter(is_fit) {
            Some(on) => on,
            None => {
                retire(kept.take(), work).await;
                kept.insert(Kept {
                    bench: Arc::new(Bench::new(cell.scenario.flavour, cell.database, time).await),
                    played: 0,
                    unchecked: Vec::new(),
                })
            }
        };
        on.played += 1;
        on.unchecked.push(cell);
        match one(Arc::clone(&on.bench), cell).await {
            None if on.unchecked.len() >= CELLS_UNTIL_CHECKED => on.check(work).await,
            None => {}
            Some(wrong) => {
                work.failed(format!("cell {number} {}: {wrong}\n  {}", cell.name(), replay(&cell)));
                // What it left is nobody else's to stumble over.
                retire(kept.take(), work).await;
            }
        }
    }
    retire(kept, work).await;
}

async fn retire(kept: Option<Kept>, work: &Work) {
    let Some(mut kept) = kept else { return };
    kept.check(work).await;
    kept.bench.store.close().await.unwrap();
}

async fn one(bench: Arc<Bench>, cell: Cell) -> Option<String> {
    let played = tokio::spawn(async move { play(&bench, cell.piece()).await }).await;
    match played {
        Ok(played) => {
            let wrong = cell.wrong(&played);
            (!wrong.is_empty()).then(|| format!("{wrong:#?}\n{}", played.log))
        }
        Err(error) => Some(error.to_string()),
    }
}

fn replay(cell: &Cell) -> String {
    format!(
        "KEYFALL_MATRIX_CELL={} cargo test --lib faults::matrix -- --nocapture the_crash_matrix",
        cell.name()
    )
}
