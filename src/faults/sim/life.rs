//! The life of one node, and the line between it and the store. A node that is dead asks nothing more and learns nothing more; one that is
//! paused does neither until it goes on, and believes then that no time has passed. What it had sent before has its effect.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keyfall_sdk::BoxFuture;
use tokio::time::Instant;

use super::dice::Dice;
use crate::store::StoreError;
use crate::store::inline::{Line, Trip};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Paused(Instant),
    Dead,
}

/// How bad the line is, in thousandths of all trips.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LineWeather {
    pub(super) slow: u64,
    /// The transaction never arrives.
    pub(super) lost: u64,
    /// The transaction is durable, and its answer is lost.
    pub(super) doubtful: u64,
}

struct Held {
    state: State,
    weather: LineWeather,
    /// Nothing arrives before then.
    cut_until: Option<Instant>,
    /// Questions of one instant.
    asked: (Option<Instant>, u32),
    spun: bool,
}

/// Nobody has so many questions without time going on.
const MOST_AT_ONCE: u32 = 4_000;

pub(super) struct Life {
    held: Mutex<Held>,
    dice: Dice,
}

/// A question that does not arrive is given up after so long, as a driver with a time limit does.
const PATIENCE: Duration = Duration::from_secs(3);

impl Life {
    pub(super) fn new(dice: Dice) -> Self {
        let held = Held {
            state: State::Running,
            weather: LineWeather::default(),
            cut_until: None,
            asked: (None, 0),
            spun: false,
        };
        Self {
            held: Mutex::new(held),
            dice,
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn kill(&self) {
        self.held().state = State::Dead;
    }

    pub(super) fn pause(&self, time: Duration) {
        let mut held = self.held();
        if held.state != State::Dead {
            held.state = State::Paused(Instant::now() + time);
        }
    }

    pub(super) fn cut_off(&self, time: Duration) {
        self.held().cut_until = Some(Instant::now() + time);
    }

    pub(super) fn set_weather(&self, weather: LineWeather) {
        self.held().weather = weather;
    }

    /// Every fault ends; the dead stay dead.
    pub(super) fn calm(&self) {
        let mut held = self.held();
        held.weather = LineWeather::default();
        held.cut_until = None;
        if held.state != State::Dead {
            held.state = State::Running;
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.held().state == State::Dead
    }

    pub(super) fn is_running(&self) -> bool {
        self.held().state == State::Running
    }

    /// Passed by everything that the process does: at once by one that runs, later by one that is paused, never by one that is dead.
    pub(super) async fn gate(&self) {
        loop {
            let state = self.held().state;
            match state {
                State::Running => return,
                State::Paused(until) if Instant::now() >= until => {
                    let mut held = self.held();
                    if held.state == state {
                        held.state = State::Running;
                    }
                }
                State::Paused(until) => tokio::time::sleep_until(until).await,
                State::Dead => std::future::pending().await,
            }
        }
    }

    /// It went round in circles: without end, had its clock stood still.
    pub(super) fn spun(&self) -> bool {
        self.held().spun
    }

    /// Time goes on for who goes round in circles.
    async fn go_on(&self) {
        let is_spinning = {
            let mut held = self.held();
            let now = Some(Instant::now());
            held.asked = match held.asked {
                (at, count) if at == now => (now, count + 1),
                _ => (now, 0),
            };
            if held.asked.1 > MOST_AT_ONCE && !held.spun {
                held.spun = true;
                if std::env::var_os("KEYFALL_SIM_TRACE").is_some() {
                    // Who asks so often is told by who is asking now.
                    println!("{}", std::backtrace::Backtrace::force_capture());
                }
            }
            held.spun
        };
        if is_spinning {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn is_cut_off(&self) -> bool {
        let until = self.held().cut_until;
        let Some(until) = until.filter(|until| *until > Instant::now()) else {
            return false;
        };
        let given_up_at = Instant::now() + PATIENCE;
        tokio::time::sleep_until(until.min(given_up_at)).await;
        given_up_at < until
    }
}

fn lost() -> StoreError {
    StoreError::Failed {
        doing: "reaching the database",
        source: "the connection was lost before anything was sent".into(),
    }
}

impl Line for Life {
    fn there(&self, _trip: Trip) -> BoxFuture<'_, crate::store::Result<()>> {
        Box::pin(async move {
            self.gate().await;
            self.go_on().await;
            if self.is_cut_off().await {
                return Err(lost());
            }
            let weather = self.held().weather;
            if self.dice.permille(weather.slow) {
                tokio::time::sleep(self.dice.millis(50, 2_500)).await;
                self.gate().await;
            }
            if self.dice.permille(weather.lost) {
                return Err(lost());
            }
            Ok(())
        })
    }

    fn back(&self, trip: Trip) -> BoxFuture<'_, crate::store::Result<()>> {
        Box::pin(async move {
            let weather = self.held().weather;
            let is_lost = self.is_cut_off().await || self.dice.permille(weather.doubtful);
            self.gate().await;
            match trip {
                Trip::Read if is_lost => Err(lost()),
                Trip::Write if is_lost => Err(StoreError::Doubtful {
                    why: "the connection was lost while it committed".to_owned(),
                }),
                _ => Ok(()),
            }
        })
    }
}
