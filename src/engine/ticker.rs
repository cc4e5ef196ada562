//! The bell: rings once a second. This is the only user of `tokio-cron-scheduler`, which loses firings, doubles them, and drops a job that
//! panicked; none of that matters to something that only says "look". Were it silent for good, the passes look by themselves, more rarely.

use std::sync::Arc;

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use super::Shared;

/// Six fields: every second.
const EVERY_SECOND: &str = "* * * * * *";

/// Rings until the engine stops. Answers after the bell was hung up.
pub(super) async fn start(shared: Arc<Shared>) -> Result<(), JobSchedulerError> {
    let mut scheduler = JobScheduler::new().await?;
    let rung = Arc::clone(&shared);
    let job = Job::new(EVERY_SECOND, move |_, _| rung.ring())?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    tokio::spawn(async move {
        shared.stopping.cancelled().await;
        if let Err(error) = scheduler.shutdown().await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the bell did not stop by itself"
            );
        }
    });
    Ok(())
}
