//! The one place where the tests of the store let time pass: between two looks at a value, or while somebody else is at work.

use std::time::Duration;

pub(crate) async fn pause(length: Duration) {
    tokio::time::sleep(length).await;
}
