//! How many calls a second one system gets: of this node alone, or of all nodes together, which then draw them from the store in small batches.
//! What was drawn and not used within a moment is lost, so that nobody saves up a storm.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use jiff::SignedDuration;
use tokio::time::Instant;

use super::lease::unsigned;
use crate::store::{ShareAsk, Store};

/// Tokio's clock, so that a limit waits and is tested by the same one.
#[derive(Clone)]
pub(super) struct Beat(Instant);

impl Clock for Beat {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Where the calls that all nodes share are drawn from.
#[derive(Clone)]
pub struct CommonPaces {
    pub store: Arc<dyn Store>,
    pub node: String,
}

/// How many calls a second one system gets. A second's worth may come at once.
pub(super) enum Pace {
    Own {
        limiter: RateLimiter<NotKeyed, InMemoryState, Beat, NoOpMiddleware<Duration>>,
        beat: Beat,
    },
    Common(Batches),
}

/// What this node has drawn for one system.
pub(super) struct Batches {
    from: CommonPaces,
    system: String,
    rate: NonZeroU32,
    batch: tokio::sync::Mutex<Batch>,
}

struct Batch {
    calls: u32,
    drawn_at: Instant,
}

/// How long a batch may be used. Ten batches make a second's worth.
const FRESH: Duration = Duration::from_millis(500);
const BATCHES: u32 = 10;
/// When the store is asked again that did not answer.
const STORE_AGAIN: Duration = Duration::from_secs(1);

impl Pace {
    /// `None`: as many as there are.
    pub(super) fn new(calls_per_second: u32) -> Option<Self> {
        let rate = NonZeroU32::new(calls_per_second)?;
        let beat = Beat(Instant::now());
        Some(Self::Own {
            limiter: RateLimiter::direct_with_clock(Quota::per_second(rate), beat.clone()),
            beat,
        })
    }

    /// The same for all nodes together.
    pub(super) fn common(system: &str, calls_per_second: u32, from: CommonPaces) -> Option<Self> {
        Some(Self::Common(Batches {
            from,
            system: system.to_owned(),
            rate: NonZeroU32::new(calls_per_second)?,
            batch: tokio::sync::Mutex::new(Batch {
                calls: 0,
                drawn_at: Instant::now(),
            }),
        }))
    }

    /// One call, or how long there is to wait for it.
    async fn check(&self) -> Result<(), Duration> {
        match self {
            Self::Own { limiter, beat } => limiter.check().map_err(|not_yet| not_yet.wait_time_from(beat.now())),
            Self::Common(batches) => batches.take().await,
        }
    }

    /// Waits until one more call may be made.
    ///
    /// # Errors
    /// How long there would still be to wait, when `patience` does not suffice for it. The call is not counted then.
    pub(super) async fn take(&self, patience: Duration) -> Result<(), Duration> {
        let began = Instant::now();
        loop {
            let Err(not_yet) = self.check().await else {
                return Ok(());
            };
            // The clock below counts whole milliseconds; a wait of none would go round without letting time pass.
            let wait = not_yet.max(Duration::from_millis(1));
            if began.elapsed() + wait > patience {
                return Err(wait);
            }
            tokio::time::sleep(wait).await;
        }
    }
}

impl Batches {
    async fn take(&self) -> Result<(), Duration> {
        let mut batch = self.batch.lock().await;
        if batch.calls == 0 || batch.drawn_at.elapsed() > FRESH {
            *batch = Batch {
                drawn_at: Instant::now(),
                calls: self.draw().await?,
            };
        }
        batch.calls = batch.calls.saturating_sub(1);
        Ok(())
    }

    async fn draw(&self) -> Result<u32, Duration> {
        let ask = ShareAsk {
            system: self.system.clone(),
            node: self.from.node.clone(),
            slots: None,
            concurrency: 0,
            slots_for: SignedDuration::ZERO,
            calls: (self.rate.get() / BATCHES).max(1),
            calls_per_second: self.rate.get(),
            leave_alone_for: None,
        };
        match self.from.store.draw_share(&ask).await {
            Ok(share) if share.calls > 0 => Ok(share.calls),
            Ok(share) => Err(unsigned(share.more_calls_in)),
            Err(error) => {
                tracing::warn!(
                    system.name = self.system,
                    error = &error as &dyn std::error::Error,
                    "no calls could be drawn; none is made"
                );
                Err(STORE_AGAIN)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Pace;

    #[tokio::test]
    async fn a_second_holds_so_many_calls_and_no_more() {
        let pace = Pace::new(100).unwrap();
        let began = Instant::now();
        for _ in 0..150 {
            pace.take(Duration::from_secs(60)).await.unwrap();
        }
        assert!(began.elapsed() >= Duration::from_millis(490), "{:?}", began.elapsed());
        assert!(Pace::new(0).is_none());
    }

    #[tokio::test]
    async fn a_wait_that_is_too_long_is_not_begun() {
        let pace = Pace::new(1).unwrap();
        pace.take(Duration::ZERO).await.unwrap();
        let wait = pace.take(Duration::from_millis(10)).await.unwrap_err();
        assert!(wait > Duration::from_millis(10), "{wait:?}");
    }
}
