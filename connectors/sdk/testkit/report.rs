//! What the kit found, law by law.

use std::fmt;

/// Why a law did not hold, or was not judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    Broken(String),
    /// It does not apply to this connector, or the subject came without what it takes.
    Skipped(String),
}

impl From<String> for Why {
    fn from(what: String) -> Self {
        Self::Broken(what)
    }
}

pub(super) type Judgement<T = ()> = Result<T, Why>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Held,
    Broken(String),
    Skipped(String),
}

/// One law, by the name of the function that judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LawResult {
    pub law: &'static str,
    pub outcome: Outcome,
}

/// Every law that was judged, in order.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub laws: Vec<LawResult>,
}

impl Report {
    pub(super) fn add(&mut self, law: &'static str, judgement: Judgement) {
        let outcome = match judgement {
            Ok(()) => Outcome::Held,
            Err(Why::Broken(what)) => Outcome::Broken(what),
            Err(Why::Skipped(why)) => Outcome::Skipped(why),
        };
        self.laws.push(LawResult { law, outcome });
    }

    /// The laws that were broken.
    #[must_use]
    pub fn broken(&self) -> Vec<&'static str> {
        self.named(|outcome| matches!(outcome, Outcome::Broken(_)))
    }

    /// The laws that were not judged. An author asserts that there is no law among them that should have been.
    #[must_use]
    pub fn skipped(&self) -> Vec<&'static str> {
        self.named(|outcome| matches!(outcome, Outcome::Skipped(_)))
    }

    /// Fails the test that calls it when any law was broken, and says which and how.
    #[expect(
        clippy::panic,
        reason = "an assertion for tests; the kit is never in the shipped binary"
    )]
    pub fn assert_holds(&self) {
        if !self.broken().is_empty() {
            panic!("the connector does not conform:\n{self}");
        }
    }

    fn named(&self, which: impl Fn(&Outcome) -> bool) -> Vec<&'static str> {
        self.laws
            .iter()
            .filter(|law| which(&law.outcome))
            .map(|law| law.law)
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for LawResult { law, outcome } in &self.laws {
            match outcome {
                Outcome::Held => writeln!(f, "held     {law}")?,
                Outcome::Broken(what) => writeln!(f, "BROKEN   {law}: {what}")?,
                Outcome::Skipped(why) => writeln!(f, "skipped  {law}: {why}")?,
            }
        }
        Ok(())
    }
}
