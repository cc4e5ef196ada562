//! Until when a call must have its answer. A length of time and no clock: each connector adds it to the one that it waits by.

use std::time::Duration;

use crate::call::CallContext;

/// A day bounds the sum with an instant: an absurd time limit must not overflow a clock.
const LONGEST: Duration = Duration::from_secs(86_400);
const MOST_MARGIN: Duration = Duration::from_millis(200);

impl CallContext {
    /// How long the connector itself may take: a tenth less than the engine waits, or 200 ms where that is less, so that the connector's own
    /// answer comes before the engine stops listening.
    #[must_use]
    pub fn answer_within(&self) -> Duration {
        let margin = (self.time_left / 10).min(MOST_MARGIN);
        self.time_left.saturating_sub(margin).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::call::CallContext;

    #[test]
    fn an_answer_is_due_a_little_before_nobody_waits_for_it() {
        let of = |time_left| {
            let ctx = CallContext {
                run: String::new(),
                step: String::new(),
                attempt: 1,
                idempotency_key: String::new(),
                time_left,
            };
            ctx.answer_within()
        };
        assert_eq!(of(Duration::from_secs(10)), Duration::from_millis(9_800));
        assert_eq!(of(Duration::from_millis(100)), Duration::from_millis(90));
        assert_eq!(of(Duration::ZERO), Duration::ZERO);
        assert_eq!(of(Duration::MAX), Duration::from_secs(86_400));
    }
}
