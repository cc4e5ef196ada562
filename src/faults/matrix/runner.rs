//! Plays many cells side by side, each worker on stores of its own, and says for each that failed how to play exactly it again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::bench::Bench;
use super::cells::Cell;
use super::play::play;

/// Workers: cells wait for answers that never come, so there are more than cores.
const WORKERS: usize = 8;
/// Cells that share one store.
const CELLS_OF_A_BENCH: usize = 100;

/// What failed, as text that ends with the command that replays it.
pub(crate) async fn run(cells: Vec<(usize, Cell)>) -> Vec<String> {
    let queue = Arc::new(Mutex::new(VecDeque::from(cells)));
    let failed = Arc::new(Mutex::new(Vec::new()));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(work(Arc::clone(&queue), Arc::clone(&failed)));
    }
    workers.join_all().await;
    std::mem::take(&mut *failed.lock().unwrap())
}

async fn work(queue: Arc<Mutex<VecDeque<(usize, Cell)>>>, failed: Arc<Mutex<Vec<String>>>) {
    let mut kept: Option<(Arc<Bench>, usize)> = None;
    loop {
        let next = queue.lock().unwrap().pop_front();
        let Some((number, cell)) = next else { return };
        let fits = |bench: &Bench| bench.flavour == cell.scenario.flavour && bench.database == cell.database;
        let bench = match kept.take() {
            Some((bench, left)) if left > 0 && fits(&bench) => (bench, left - 1),
            _ => (
                Arc::new(Bench::new(cell.scenario.flavour, cell.database).await),
                CELLS_OF_A_BENCH,
            ),
        };
        let wrong = one(Arc::clone(&bench.0), cell).await;
        match wrong {
            None => kept = Some(bench),
            // What it left is nobody else's to stumble over.
            Some(wrong) => {
                failed
                    .lock()
                    .unwrap()
                    .push(format!("cell {number} {}: {wrong}\n  {}", cell.name(), replay(&cell)))
            }
        }
    }
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
