//! What a test looks at, and how it waits for it: with a bound.

use std::future::Future;
use std::time::Duration;

use crate::domain::ids::{CredentialId, RunId};
use crate::domain::workflow::{EventBody, Run, Step};
use crate::store::StoredRun;

pub(crate) fn run_id(run: &StoredRun) -> RunId {
    run.row.id
}

/// The credential that the run issued.
pub(crate) fn new_of(run: &StoredRun) -> CredentialId {
    Run::replay(&run.events).unwrap().plan().new.as_ref().unwrap().id
}

pub(crate) fn starts_of(run: &StoredRun, wanted: Step) -> usize {
    let is_start = |body: &EventBody| matches!(body, EventBody::Started { step, .. } if *step == wanted);
    run.events.iter().filter(|event| is_start(&event.body)).count()
}

/// Asks until there is an answer, for a bounded time.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let mut beat = tokio::time::interval(Duration::from_millis(10));
    let asking = async {
        loop {
            beat.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(30), asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("in vain waited until {what}"),
    }
}
