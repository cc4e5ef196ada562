//! The one place where these tests let time pass: between two looks at a value, and never without a bound.

use std::sync::mpsc;
use std::time::{Duration, Instant};

/// No single thing of Keyfall takes longer on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
const BETWEEN: Duration = Duration::from_millis(50);

/// Looks until there is a value.
///
/// # Panics
/// When there is none in time.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let (_keeper, nothing) = mpsc::channel::<()>();
    let began = Instant::now();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(began.elapsed() < limit, "waited {limit:?} in vain: {what}");
        let _ = nothing.recv_timeout(BETWEEN);
    }
}
