//! The hand that meddles: it knows the one fault of a cell, strikes once, and writes down every call that truly reached the provider. It lives as
//! long as the cell; a `Life` is one process in it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyfall_sdk::{BoxFuture, CallContext, ConnectorError, ErrorKind, Result};
use tokio::sync::{Notify, watch};

use super::fault::{Call, Cut, Fault, Mode, Site};
use super::time::Time;
use crate::domain::workflow::Step;

/// One process: once it is dead, neither store nor provider hears of it again.
pub(crate) struct Life {
    /// The name under which it holds runs.
    node: String,
    dead: AtomicBool,
    /// It sleeps as long as the hand holds it.
    held: AtomicBool,
    /// One more for each question to the store that is under way.
    pub(crate) questions: Arc<()>,
}

impl Life {
    pub(crate) fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            dead: AtomicBool::new(false),
            held: AtomicBool::new(false),
            questions: Arc::default(),
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// It waits for nothing from the store.
    pub(crate) fn asks_nothing(&self) -> bool {
        Arc::strong_count(&self.questions) == 1
    }

    pub(crate) async fn awake(&self, hand: &Hand) {
        if self.held.load(Ordering::SeqCst) {
            hand.let_go().await;
        }
    }

    pub(crate) fn end(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }
}

/// What is known of a call besides its name.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    pub(crate) run: String,
    /// The account, or the version that is delivered.
    pub(crate) what: String,
    /// The credential, for a revocation.
    pub(crate) key: Option<String>,
    /// The node that sends it; none for what was sent before and arrives late.
    pub(crate) sender: Option<String>,
}

/// Asked around each change that reaches the provider.
pub(crate) trait Watch: Send + Sync {
    fn before<'a>(&'a self, site: Site, about: &'a About) -> BoxFuture<'a, ()>;
    fn after<'a>(&'a self, site: Site, about: &'a About) -> BoxFuture<'a, ()>;
}

/// How far behind its deadline a late answer comes.
const LATE: Duration = Duration::from_millis(20);

type Thunk = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

pub(crate) struct Hand {
    fault: Mutex<Option<Fault>>,
    struck: AtomicBool,
    sites: Mutex<BTreeMap<Site, u32>>,
    late: Mutex<Vec<Thunk>>,
    watch: Arc<dyn Watch>,
    pub(crate) time: Time,
    /// Rung by everything that may have brought a run on.
    pub(crate) bell: Notify,
    /// While a commit is held: true. Set to false, it goes on.
    pub(crate) held: watch::Sender<bool>,
}

/// How a call is sent, as often as the fault wants.
pub(crate) type Send_<T> = Arc<dyn Fn() -> BoxFuture<'static, Result<T>> + Send + Sync>;

impl Hand {
    pub(crate) fn new(fault: Option<Fault>, watch: Arc<dyn Watch>, time: Time) -> Arc<Self> {
        Arc::new(Self {
            fault: Mutex::new(fault),
            struck: AtomicBool::new(false),
            sites: Mutex::default(),
            late: Mutex::default(),
            watch,
            time,
            bell: Notify::new(),
            held: watch::Sender::new(false),
        })
    }

    pub(crate) fn has_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }

    /// Every call that was made, by the step that made it.
    pub(crate) fn sites(&self) -> Vec<Site> {
        self.sites.lock().unwrap().keys().copied().collect()
    }

    pub(crate) fn count(&self, site: Site) {
        *self.sites.lock().unwrap().entry(site).or_default() += 1;
    }

    /// Whether the fault is for here and now. It is, once.
    pub(crate) fn strikes(&self, fits: impl FnOnce(&Fault) -> bool) -> Option<Fault> {
        let mut fault = self.fault.lock().unwrap();
        if !fault.as_ref().is_some_and(fits) {
            return None;
        }
        self.struck.store(true, Ordering::SeqCst);
        fault.take()
    }

    /// One call of a connector, as far as the fault lets it.
    pub(crate) async fn pass<T: Send + 'static>(
        self: &Arc<Self>,
        life: &Life,
        (call, ctx): (Call, &CallContext),
        mut about: About,
        send: Send_<T>,
    ) -> Result<T> {
        if life.is_dead() {
            return Err(dead());
        }
        about.sender = Some(life.node.clone());
        let Some(step) = step_of(&ctx.step) else {
            return send().await;
        };
        let site = Site { step, call: Some(call) };
        self.count(site);
        let Some(fault) = self.strikes(|fault| fault.site == site && fault.cut.is_at_call()) else {
            let answer = self.send(site, &about, &send).await;
            self.let_late_ones_arrive().await;
            return answer;
        };
        if fault.cut == Cut::BeforeSend {
            self.before(life, (fault, ctx.time_left), &about, site, &send).await
        } else {
            self.after(life, (fault, ctx.time_left), &about, site, &send).await
        }
    }

    async fn before<T: Send + 'static>(
        self: &Arc<Self>,
        life: &Life,
        (fault, time_left): (Fault, Duration),
        about: &About,
        site: Site,
        send: &Send_<T>,
    ) -> Result<T> {
        match fault.mode {
            Mode::Kill => Err(self.kill(life)),
            Mode::Error(kind) => Err(ConnectorError::new(
                kind,
                "the matrix fails this call, and nothing was done",
            )),
            Mode::Timeout => self.never(time_left).await,
            Mode::Duplicate => {
                let _ = self.send(site, about, send).await;
                self.send(site, about, send).await
            }
            Mode::LostReply => Err(ConnectorError::ambiguous("the matrix lost this request")),
            Mode::LateReply => {
                self.keep(site, about, send);
                self.never(time_left).await
            }
        }
    }

    async fn after<T: Send + 'static>(
        self: &Arc<Self>,
        life: &Life,
        (fault, time_left): (Fault, Duration),
        about: &About,
        site: Site,
        send: &Send_<T>,
    ) -> Result<T> {
        let answer = self.send(site, about, send).await;
        match fault.mode {
            Mode::Kill => Err(self.kill(life)),
            Mode::Error(kind) => Err(ConnectorError::new(kind, "the matrix answers what cannot be read")),
            Mode::Timeout => self.never(time_left).await,
            Mode::Duplicate => {
                self.keep(site, about, send);
                answer
            }
            Mode::LostReply => Err(ConnectorError::ambiguous("the matrix lost this reply")),
            Mode::LateReply => {
                self.let_time_out(time_left);
                late(time_left + LATE).await;
                answer
            }
        }
    }

    /// A call that reaches the provider.
    async fn send<T>(&self, site: Site, about: &About, send: &Send_<T>) -> Result<T> {
        let is_change = site.call.is_some_and(Call::has_effect);
        if is_change {
            self.watch.before(site, about).await;
        }
        let answer = send().await;
        if is_change {
            self.watch.after(site, about).await;
        }
        answer
    }

    /// A call that is under way, and arrives behind the next one.
    fn keep<T: Send + 'static>(self: &Arc<Self>, site: Site, about: &About, send: &Send_<T>) {
        let (hand, mut about, send) = (Arc::clone(self), about.clone(), Arc::clone(send));
        about.sender = None;
        let late: Thunk = Box::new(move || {
            Box::pin(async move {
                let _ = hand.send(site, &about, &send).await;
            })
        });
        self.late.lock().unwrap().push(late);
    }

    pub(crate) async fn let_late_ones_arrive(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for one in late {
            one().await;
        }
    }

    /// Whoever waits for an answer gives it up, and there is none.
    async fn never<T>(&self, time_left: Duration) -> T {
        self.let_time_out(time_left);
        std::future::pending().await
    }

    fn let_time_out(&self, time_left: Duration) {
        let time = self.time.clone();
        tokio::spawn(async move { time.pass(time_left + Duration::from_millis(1)).await });
    }

    pub(crate) fn kill(&self, life: &Life) -> ConnectorError {
        life.end();
        self.bell.notify_one();
        dead()
    }

    /// The process sleeps, and does not come back until the harness says so.
    pub(crate) async fn hold(&self, life: &Life) {
        life.held.store(true, Ordering::SeqCst);
        self.held.send_replace(true);
        self.bell.notify_one();
        self.let_go().await;
        life.held.store(false, Ordering::SeqCst);
    }

    async fn let_go(&self) {
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }
}

/// Lets this much time go by: an answer that comes so late is the fault itself.
async fn late(by: Duration) {
    let _ = tokio::time::timeout(by, std::future::pending::<()>()).await;
}

fn dead() -> ConnectorError {
    ConnectorError::new(ErrorKind::Transient, "this process is dead")
}

/// `None` for calls that no step makes (a reading of clocks by the engine itself).
fn step_of(name: &str) -> Option<Step> {
    Step::ALL.into_iter().find(|step| step.name() == name)
}
