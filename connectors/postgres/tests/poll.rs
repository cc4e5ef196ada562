//! Waiting for a value, with a bound: the only place of these tests where time passes on purpose.

use std::time::Duration;

const AT_MOST: Duration = Duration::from_secs(15);
const EVERY: Duration = Duration::from_millis(10);

/// Asks until the answer is `Some`, and fails with `what` when that takes too long.
pub(super) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let reached = async {
        loop {
            if let Some(value) = ask().await {
                return value;
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::time::timeout(AT_MOST, reached)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {AT_MOST:?}"))
}
