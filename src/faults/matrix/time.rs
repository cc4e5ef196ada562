//! Time as cells have it: each worker is a thread with a runtime whose clock stands, and goes on by a little whenever the thread has got round to
//! everything else. A machine that is busy makes nothing late, and a fault that is about time takes none.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Builder;
use tokio::sync::Notify;

use crate::clock::{Clock, Environment};

/// Goes by in one turn, on a machine that has nothing else to do also by the machine's clock.
const TURN: Duration = Duration::from_millis(2);

/// The clocks of one worker: the wall clock, and the one that tokio measures lengths by.
#[derive(Debug, Clone)]
pub(crate) struct Time(Arc<AtomicI64>);

impl Time {
    /// Lets so much go by at once.
    pub(crate) async fn pass(&self, by: Duration) {
        self.skip(SignedDuration::try_from(by).unwrap());
        tokio::time::advance(by).await;
    }

    /// On the wall clock only: what is waited for by the stored instant is over.
    pub(crate) fn skip(&self, by: SignedDuration) {
        let micros = i64::try_from(by.as_micros()).unwrap();
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for Time {
    /// Never the same instant twice, as on a machine.
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.fetch_add(1, Ordering::SeqCst)).unwrap()
    }
}

/// Does the work on a thread and at a time of its own.
pub(crate) fn at_a_time_of_its_own<F>(work: impl FnOnce(Time) -> F + Send + 'static) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static>,
{
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let began = Environment::of_this_machine().now().as_microsecond();
        let time = Time(Arc::new(AtomicI64::new(began)));
        let (going, gone) = channel::<()>();
        let bell = Arc::new(Notify::new());
        let turn = Arc::clone(&bell);
        // While work like this is under way tokio does not take waiting for the network for having nothing to do, and leaves its clock alone.
        runtime.spawn_blocking(move || {
            while gone.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
                turn.notify_one();
            }
        });
        let turning = time.clone();
        runtime.spawn(async move {
            loop {
                bell.notified().await;
                turning.pass(TURN).await;
            }
        });
        let done = runtime.block_on(work(time));
        drop(going);
        done
    })
}

/// What came of the work; a panic in it is one here.
pub(crate) fn joined<T>(work: JoinHandle<T>) -> T {
    work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
