//! What lies between a node and the systems: every call of every connector passes here, and may fail, be late, come twice or be answered by
//! nobody. The provider behind it tells the truth unless it was told to lie; this is where calls go wrong, not where they are carried out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyfall_sdk::{BoxFuture, CallContext, ConnectorError, Result};

use super::dice::Dice;
use super::life::Life;
use super::truth::{OnItsWay, Truth};
use super::witness::Witness;

/// How bad the network is, in thousandths of all calls.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NetWeather {
    pub(super) mishaps: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    /// Nothing arrives.
    Unreachable,
    RateLimited,
    Denied,
    /// The effect, and no answer that says so.
    LostReply,
    Garbage,
    /// The effect, and no answer at all.
    Hang,
    /// The effect comes so late that whoever asked may have given up.
    LateEffect(Duration),
    LateReply(Duration),
    /// The effect twice.
    Twice,
    /// The connector itself fails.
    Panic,
}

/// What a call may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    Read,
    Effect,
    /// An effect that is another one each time: nobody may send it while one of the same run may still arrive.
    EffectOnce,
}

/// No call is under way for longer: what the engine is told to reckon with.
pub(super) const LONGEST_WAY: Duration = Duration::from_millis(2_500);

/// The network of one node.
pub(super) struct Network {
    pub(super) life: Arc<Life>,
    pub(super) truth: Arc<Truth>,
    /// Looks at the log when an effect is sent.
    pub(super) witness: Arc<Witness>,
    pub(super) dice: Dice,
    weather: Mutex<NetWeather>,
}

impl Network {
    pub(super) fn new(life: Arc<Life>, truth: Arc<Truth>, witness: Arc<Witness>, dice: Dice) -> Self {
        Self {
            life,
            truth,
            witness,
            dice,
            weather: Mutex::default(),
        }
    }

    pub(super) fn set_weather(&self, weather: NetWeather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    fn mishap(&self, is_effect: bool) -> Option<Mishap> {
        let weather = *self.weather.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.dice.permille(weather.mishaps) {
            return None;
        }
        let late = self.dice.millis(200, 2_500);
        let all = [
            Mishap::Unreachable,
            Mishap::RateLimited,
            Mishap::LostReply,
            Mishap::LostReply,
            Mishap::Garbage,
            Mishap::Hang,
            Mishap::LateReply(late),
            Mishap::LateEffect(late),
            Mishap::LateEffect(late),
            Mishap::Twice,
            Mishap::Denied,
            Mishap::Panic,
        ];
        let mishap = self.dice.pick(&all);
        // Our own access is refused more rarely: it stops everything until a person looks.
        (mishap != Mishap::Denied || is_effect || self.dice.permille(200)).then_some(mishap)
    }

    /// One call to a system. Once sent it is on its way, whatever becomes of who sent it.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        ctx: &CallContext,
        about: &str,
        nature: Nature,
        ask: impl Fn() -> BoxFuture<'static, Result<T>> + Send + Sync + 'static,
    ) -> Result<T> {
        self.life.gate().await;
        let is_effect = nature != Nature::Read;
        if is_effect {
            self.witness.effect_is_sent(operation, ctx).await;
        }
        let on_its_way = (nature == Nature::EffectOnce).then(|| self.truth.is_on_its_way(operation, &ctx.run));
        let mishap = self.mishap(is_effect);
        let what = format!("{operation} {about} ({} of {})", ctx.step, ctx.run);
        self.truth
            .note(|| format!("{} {what}: sent, {mishap:?}", self.witness.node));
        let network = Arc::clone(self);
        let way = tokio::spawn(async move { network.carry(what, mishap, is_effect, on_its_way, ask).await });
        let answer = way.await.unwrap();
        self.life.gate().await;
        if mishap == Some(Mishap::Panic) {
            std::panic::resume_unwind(Box::new("the connector fails"));
        }
        answer
    }

    /// There, the effect, and back.
    async fn carry<T: Send + 'static>(
        &self,
        what: String,
        mishap: Option<Mishap>,
        is_effect: bool,
        on_its_way: Option<OnItsWay>,
        ask: impl Fn() -> BoxFuture<'static, Result<T>> + Send + Sync + 'static,
    ) -> Result<T> {
        tokio::time::sleep(self.dice.millis(1, 20)).await;
        match mishap {
            Some(Mishap::Unreachable) => return Err(ConnectorError::transient("nobody answers")),
            Some(Mishap::RateLimited) => {
                return Err(ConnectorError::rate_limited(
                    Duration::from_millis(300),
                    "too many calls",
                ));
            }
            Some(Mishap::Denied) => return Err(ConnectorError::denied("our access is refused")),
            Some(Mishap::LateEffect(by)) => tokio::time::sleep(by).await,
            _ => {}
        }
        let mut answer = ask().await;
        self.landed(&what, is_effect);
        if mishap == Some(Mishap::Twice) && is_effect {
            tokio::time::sleep(self.dice.millis(1, 300)).await;
            answer = answer.and(ask().await);
            self.landed(&what, is_effect);
        }
        drop(on_its_way);
        match mishap {
            Some(Mishap::LostReply) => return Err(ConnectorError::ambiguous("the answer was lost")),
            Some(Mishap::Garbage) => return Err(ConnectorError::protocol("the answer cannot be read")),
            Some(Mishap::Hang) => std::future::pending().await,
            Some(Mishap::LateReply(by)) => tokio::time::sleep(by).await,
            _ => tokio::time::sleep(self.dice.millis(1, 10)).await,
        }
        answer
    }

    fn landed(&self, what: &str, is_effect: bool) {
        if is_effect {
            self.truth.note(|| format!("{what}: has its effect"));
            self.truth.look_at_consumers(what);
        }
    }
}
