//! The verbs of nodes: who is alive under which name, and how much of a system each may use. All instants are the transaction's.

use jiff::{SignedDuration, Timestamp};

use super::Result;
use super::driver::{Lock, Tx, Verb, only_number};
use super::nodes::{Heard, NodeRow, NodeSays, Share, ShareAsk};
use super::sql::node;

/// A node says that it lives.
pub(super) struct Say(pub(super) NodeSays);

impl Verb for Say {
    type Output = Heard;
    const DOING: &'static str = "saying that a node lives";

    async fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> Result<Heard> {
        let says = &self.0;
        tx.lock(&[Lock::of_node(&says.name)]).await?;
        let now = tx.now().await?;
        let known = tx.query(&node::by_name(&says.name)?).await?.into_iter().next();
        let known = known.map(node::read).transpose()?;
        let another = known.filter(|known| known.instance != says.instance);
        let has_ended = |by: &NodeRow| says.ended.as_ref() == Some(&by.instance);
        let is_taken = |by: &NodeRow| !says.starts || (by.is_alive(now, says.believed_for) && !has_ended(by));
        if let Some(by) = another.filter(is_taken) {
            return Ok(Heard::Taken { by });
        }
        let bound = if says.starts {
            node::started(says, now)?
        } else {
            node::seen(says, now)?
        };
        tx.execute(&bound).await?;
        Ok(Heard::Ours)
    }
}

/// A node draws what it may use of a system, under a lock on the system that the transaction holds.
pub(super) struct Draw(pub(super) ShareAsk);

impl Verb for Draw {
    type Output = Share;
    const DOING: &'static str = "drawing a share of a system";

    async fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> Result<Share> {
        let ask = &self.0;
        tx.lock(&[Lock::of_system(&ask.system)]).await?;
        let now = tx.now().await?;
        let pace = tx.query(&node::pace(&ask.system)?).await?.into_iter().next();
        let (given_until, left_alone_until) = pace.map(node::read_pace).transpose()?.unwrap_or((now, None));
        let (given_until, calls, more_calls_in) = calls(ask, given_until, now);
        let asked = ask.leave_alone_for.and_then(|length| now.checked_add(length).ok());
        let left_alone_until = left_alone_until.max(asked).filter(|until| *until > now);
        tx.execute(&node::keep_pace(&ask.system, given_until, left_alone_until)?)
            .await?;
        Ok(Share {
            slots: match ask.slots {
                Some(wanted) => self.slots(tx, wanted, now).await?,
                None => 0,
            },
            calls,
            more_calls_in,
            left_alone_for: left_alone_until.map(|until| until.duration_since(now)),
        })
    }
}

impl Draw {
    async fn slots<T: Tx>(&self, tx: &mut T, wanted: u32, now: Timestamp) -> Result<u32> {
        let ask = &self.0;
        tx.execute(&node::forget_slots(&ask.system, now)?).await?;
        let others = node::slots_of_others(&ask.system, &ask.node, now)?;
        let others = tx.query(&others).await?.into_iter().next();
        let others = others.map(only_number).transpose()?.unwrap_or(0);
        let free = u64::from(ask.concurrency).saturating_sub(others);
        let slots = wanted.min(u32::try_from(free).unwrap_or(u32::MAX));
        let until = now.saturating_add(ask.slots_for).unwrap_or(Timestamp::MAX);
        tx.execute(&node::keep_slots(&ask.system, &ask.node, slots, until)?)
            .await?;
        Ok(slots)
    }
}

/// Up to when calls are given out now, how many these are, and after how long there are more. Calls are spread evenly; what was not drawn within
/// a second is lost. Pure.
fn calls(ask: &ShareAsk, given_until: Timestamp, now: Timestamp) -> (Timestamp, u32, SignedDuration) {
    let second = SignedDuration::from_secs(1);
    let from = given_until.max(now);
    if ask.calls == 0 || ask.calls_per_second == 0 {
        return (given_until, ask.calls, SignedDuration::ZERO);
    }
    let rate = i64::from(ask.calls_per_second);
    let room = second.saturating_sub(from.duration_since(now));
    let room = i64::try_from(room.as_micros()).unwrap_or(0).max(0);
    let count = (room.saturating_mul(rate) / 1_000_000).min(i64::from(ask.calls));
    let length = SignedDuration::from_micros(count.saturating_mul(1_000_000) / rate);
    let one = SignedDuration::from_micros(1_000_000 / rate + 1);
    let until = from.saturating_add(length).unwrap_or(from);
    let wait = match count {
        0 => one.saturating_sub(SignedDuration::from_micros(room)),
        _ => SignedDuration::ZERO,
    };
    (until, u32::try_from(count).unwrap_or(0), wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(calls: u32, calls_per_second: u32) -> ShareAsk {
        ShareAsk {
            system: "sys".to_owned(),
            node: "a".to_owned(),
            slots: None,
            concurrency: 0,
            slots_for: SignedDuration::ZERO,
            calls,
            calls_per_second,
            leave_alone_for: None,
        }
    }

    #[test]
    fn a_second_holds_so_many_calls_however_they_are_drawn() {
        for (batch, rate) in [(1, 1), (3, 10), (10, 10), (7, 100), (1000, 30)] {
            let began = Timestamp::from_second(1_800_000_000).unwrap();
            let (mut given, mut until, mut now) = (0, began, began);
            let end = began + SignedDuration::from_secs(10);
            while now < end {
                let (next, count, wait) = calls(&ask(batch, rate), until, now);
                given += count;
                until = next;
                now += if count == 0 {
                    wait
                } else {
                    SignedDuration::from_millis(1)
                };
            }
            // Ten seconds, and the one that may come at once at the beginning.
            let most = rate * 11;
            assert!(
                given <= most && given >= rate * 9,
                "{batch} of {rate}: {given} of {most}"
            );
        }
    }
}
