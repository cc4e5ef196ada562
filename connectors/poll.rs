//! The one place where the tests of connectors let time pass: between two looks at a value that may still settle.

use std::time::Duration;

use keyfall_sdk::BoxFuture;

/// What the conformance kit waits with (`keyfall_sdk::testkit::Sleep`).
pub(crate) fn wait(time: Duration) -> BoxFuture<'static, ()> {
    Box::pin(tokio::time::sleep(time))
}
