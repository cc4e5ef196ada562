//! The one thread that writes. It takes everything that waits, runs it in one transaction, commits once, and then answers everyone.
//!
//! A group is first run without savepoints, because nearly always nobody in it fails. When somebody does, the whole group is rolled back and
//! run again with a savepoint around each, so that the failing one takes nothing of its neighbours along. Verbs can be run again by
//! contract, and nothing was answered or durable yet.
//!
//! The thread takes what is there and never waits for more: while it commits one group the next one gathers by itself.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::super::driver::Verb;
use super::super::{Result, StoreError};
use super::fault::{Fault, Health, classify, stored_nothing};
use super::lock::Lock;
use super::reserve::Reserve;
use super::session::{Session, at_once};
use super::upkeep;

/// Callers beyond this many wait for room in the queue.
const QUEUE: usize = 8192;

enum Message {
    Job(Box<dyn Job>),
    Scrub(oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<Result<()>>),
}

pub(super) struct Writer {
    queue: Option<mpsc::Sender<Message>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread that writes holds alone.
pub(super) struct Hands {
    pub(super) session: Session,
    pub(super) lock: Lock,
    pub(super) reserve: Reserve,
}

impl Writer {
    pub(super) fn start(hands: Hands, group: usize, health: Arc<Health>) -> Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let work = move || {
            // Held by the thread: the file is free for another server only when nothing writes to it any more.
            let Hands {
                session,
                lock: _lock,
                reserve,
            } = hands;
            Thread {
                session,
                reserve,
                waiting,
                group: group.max(1),
                health,
            }
            .run();
        };
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(work);
        Ok(Self {
            queue: Some(queue),
            thread: Mutex::new(Some(thread.map_err(|error| StoreError::Open {
                why: format!("the writer's thread cannot be started: {error}"),
            })?)),
        })
    }

    pub(super) async fn run<V: Verb>(&self, verb: V) -> Result<V::Output> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Job(Box::new(Waiting {
            verb,
            result: None,
            reply,
        })))
        .await?;
        // The verb comes back to be dropped here: its many small pieces are no work for the one thread that writes.
        let (result, _verb) = answer.await.map_err(|_| StoreError::Closed)?;
        result
    }

    pub(super) async fn scrub(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Scrub(reply)).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Closing twice is closing once.
    pub(super) async fn close(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        if self.send(Message::Close(reply)).await.is_err() {
            return Ok(());
        }
        let ended = answer.await.unwrap_or(Ok(()));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        ended
    }

    async fn send(&self, message: Message) -> Result<()> {
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.send(message).await.map_err(|_| StoreError::Closed)
    }
}

impl Drop for Writer {
    /// Without its queue the thread ends by itself; whoever opens the file next must find the lock free.
    fn drop(&mut self) {
        self.queue = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// One caller's transaction.
trait Job: Send {
    /// Answers whether it succeeded. May be called again after its work was rolled back.
    fn run(&mut self, session: &mut Session) -> bool;

    /// May take the room that is kept in reserve.
    fn takes_reserve(&self) -> bool;

    /// Tells the caller, when it is clear what became of the group.
    fn answer(self: Box<Self>, fault: Option<&Fault>);
}

struct Waiting<V: Verb> {
    verb: V,
    result: Option<Result<V::Output>>,
    reply: oneshot::Sender<(Result<V::Output>, V)>,
}

impl<V: Verb> Job for Waiting<V> {
    fn run(&mut self, session: &mut Session) -> bool {
        session.look_at_clock();
        let attempt = catch_unwind(AssertUnwindSafe(|| at_once(self.verb.run(session))));
        let result = attempt.unwrap_or_else(|panic| Err(panicked(V::DOING, panic.as_ref())));
        let succeeded = result.is_ok();
        self.result = Some(result);
        succeeded
    }

    fn takes_reserve(&self) -> bool {
        self.verb.takes_reserve()
    }

    fn answer(self: Box<Self>, fault: Option<&Fault>) {
        let result = match (fault, self.result) {
            (Some(fault), _) => Err(fault.to_error()),
            (None, Some(result)) => result,
            (None, None) => Err(StoreError::Closed),
        };
        // A caller that went away has its work stored all the same.
        let _ = self.reply.send((result, self.verb));
    }
}

fn panicked(doing: &'static str, panic: &(dyn Any + Send)) -> StoreError {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    StoreError::Failed {
        doing,
        source: format!("it panicked: {}", text.unwrap_or_default()).into(),
    }
}

struct Thread {
    session: Session,
    reserve: Reserve,
    waiting: mpsc::Receiver<Message>,
    group: usize,
    health: Arc<Health>,
}

impl Thread {
    fn run(mut self) {
        let mut jobs: Vec<Box<dyn Job>> = Vec::with_capacity(self.group);
        while let Some(first) = self.waiting.blocking_recv() {
            let mut next = Some(first);
            let mut other = None;
            while let Some(message) = next.take() {
                match message {
                    Message::Job(job) => jobs.push(job),
                    message => other = Some(message),
                }
                if other.is_none() && jobs.len() < self.group {
                    next = self.waiting.try_recv().ok();
                }
            }
            self.commit(&mut jobs);
            match other {
                Some(Message::Scrub(reply)) => {
                    let _ = reply.send(upkeep::scrub(self.session.connection()));
                }
                Some(Message::Close(reply)) => {
                    self.waiting.close();
                    let _ = reply.send(upkeep::scrub(self.session.connection()));
                    return;
                }
                Some(Message::Job(_)) | None => {}
            }
        }
        let _ = upkeep::scrub(self.session.connection());
    }

    fn commit(&mut self, jobs: &mut Vec<Box<dyn Job>>) {
        if jobs.is_empty() {
            return;
        }
        let fault = match self.health.check() {
            // What was sent before the store was closed is still done.
            Ok(()) | Err(StoreError::Closed) => self.store(jobs).err(),
            Err(error) => Fault::of(&error),
        };
        if let Some(fault) = &fault {
            self.health.note(fault);
        }
        for job in jobs.drain(..) {
            job.answer(fault.as_ref());
        }
    }
}

impl Thread {
    fn store(&mut self, jobs: &mut Vec<Box<dyn Job>>) -> std::result::Result<(), Fault> {
        if !self.reserve.is_whole() {
            refuse_ordinary(jobs);
        }
        let stored = run_group(&mut self.session, jobs);
        let is_full = self.session.take_full() && matches!(stored, Err(Fault::Unwritable { .. }));
        if is_full && jobs.iter().any(|job| job.takes_reserve()) && self.reserve.give_up() {
            refuse_ordinary(jobs);
            return run_group(&mut self.session, jobs);
        }
        stored
    }
}

/// Leaves those that may take the reserve.
fn refuse_ordinary(jobs: &mut Vec<Box<dyn Job>>) {
    let (taking, ordinary): (Vec<_>, Vec<_>) = jobs.drain(..).partition(|job| job.takes_reserve());
    *jobs = taking;
    for job in ordinary {
        job.answer(Some(&Reserve::refusal()));
    }
}

/// Whether a group's run came to its end.
enum Run {
    Ended,
    /// Somebody failed, and the others' work is gone with it.
    OneFailed,
}

fn run_group(session: &mut Session, jobs: &mut [Box<dyn Job>]) -> std::result::Result<(), Fault> {
    if jobs.is_empty() {
        return Ok(());
    }
    let careful = matches!(attempt(session, jobs, false)?, Run::OneFailed) && jobs.len() > 1;
    if careful {
        attempt(session, jobs, true)?;
    }
    Ok(())
}

fn attempt(session: &mut Session, jobs: &mut [Box<dyn Job>], careful: bool) -> std::result::Result<Run, Fault> {
    session.take_fault();
    control(session, "begin immediate")?;
    for job in jobs.iter_mut() {
        let succeeded = match careful {
            true => run_in_savepoint(session, job.as_mut())?,
            false => job.run(session),
        };
        if let Some(fault) = session.take_fault() {
            session.roll_back();
            return Err(fault);
        }
        if !succeeded && !careful {
            session.roll_back();
            return Ok(Run::OneFailed);
        }
    }
    finish(session)?;
    Ok(Run::Ended)
}

fn run_in_savepoint(session: &mut Session, job: &mut dyn Job) -> std::result::Result<bool, Fault> {
    let before = session.pending();
    control(session, "savepoint one")?;
    let succeeded = job.run(session);
    if !succeeded && !session.connection().is_autocommit() {
        session.set_pending(before);
        control(session, "rollback to one")?;
    }
    if !session.connection().is_autocommit() {
        control(session, "release one")?;
    }
    Ok(succeeded)
}

fn finish(session: &mut Session) -> std::result::Result<(), Fault> {
    let frontier = session.write_pending().map_err(|error| {
        session.roll_back();
        unwritable(&error)
    })?;
    match session.control("commit") {
        Ok(()) => {
            session.keep(frontier);
            Ok(())
        }
        Err(source) => {
            let error = classify("committing", &source);
            let fault = match Fault::of(&error) {
                Some(Fault::Damaged { what }) => Fault::Damaged { what },
                _ if stored_nothing(&source) => unwritable(&error),
                _ => Fault::Doubtful {
                    why: source.to_string(),
                },
            };
            session.roll_back();
            Err(fault)
        }
    }
}

fn control(session: &mut Session, text: &'static str) -> std::result::Result<(), Fault> {
    session.control(text).map_err(|source| {
        session.roll_back();
        unwritable(&classify("beginning a transaction", &source))
    })
}

/// A failure outside any one caller's work concerns them all.
fn unwritable(error: &StoreError) -> Fault {
    Fault::of(error).unwrap_or_else(|| Fault::Unwritable { why: error.to_string() })
}
