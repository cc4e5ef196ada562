//! The audit record and its bytes. What is hashed into the log is this encoding, never JSON text, and the store keeps these very bytes.
//!
//! Version 1, in this order, without padding, numbers big-endian:
//!
//! | part | bytes |
//! |---|---|
//! | version | `01` |
//! | id | text |
//! | at, microseconds since the Unix epoch, UTC | signed, 8 |
//! | run, step | each: optional text |
//! | action, trigger | each: text |
//! | initiator | kind 1, id text, name text |
//! | approvers | count 4, then each a text |
//! | plan digest | optional 32 |
//! | rule, identity, system | each: optional text |
//! | permissions before, permissions after | each: optional (count 4, then each a text) |
//! | attempt | 4 |
//! | exception | optional (cause 1, note text) |
//! | outcome | optional text |
//! | details | text |
//!
//! Text is its length in bytes (4) and its UTF-8. Optional is `00`, or `01` and the value. Exactly one encoding is accepted for a record, so
//! bytes and record stand for each other. The position in the log is not part of it: positions are given later.

use std::borrow::Cow;

use super::merkle::{Hash, leaf_hash};

const VERSION: u8 = 1;
/// What stands before the details of nearly every record.
const USUAL_HEAD: usize = 512;

/// One line of the audit log. None of it is secret. It borrows what it can: each thing that happens is encoded once, and a whole log is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord<'a> {
    /// Unique in the log: `run_…/12` for the event 12 of a run.
    pub id: Cow<'a, str>,
    /// Microseconds since the Unix epoch, UTC.
    pub at_micros: i64,
    pub run: Option<Cow<'a, str>>,
    pub step: Option<Cow<'a, str>>,
    /// What happened: an event's kind, or a use case's name.
    pub action: Cow<'a, str>,
    pub trigger: Cow<'a, str>,
    pub initiator: Party<'a>,
    /// Ids of the people whose signatures allow it.
    pub approvers: Vec<Cow<'a, str>>,
    /// What they signed.
    pub plan_digest: Option<[u8; 32]>,
    /// The rule that applied and the path taken.
    pub rule: Option<Cow<'a, str>>,
    pub identity: Option<Cow<'a, str>>,
    pub system: Option<Cow<'a, str>>,
    pub permissions_before: Option<Vec<Cow<'a, str>>>,
    pub permissions_after: Option<Vec<Cow<'a, str>>>,
    pub attempt: u32,
    pub exception: Option<Exception<'a>>,
    /// `None` while the outcome is unknown.
    pub outcome: Option<Cow<'a, str>>,
    /// JSON of the event's body, as the text that was written. The closing event of a run holds `receipt_digest` at its top level.
    pub details: Cow<'a, str>,
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party<'a> {
    pub kind: PartyKind,
    pub id: Cow<'a, str>,
    pub name: Cow<'a, str>,
}

/// An exception from the way things are meant to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception<'a> {
    pub cause: ExceptionCause,
    pub note: Cow<'a, str>,
}

/// Defines a closed list with a byte and a name for each of its values. A byte or a name is never given to another value.
macro_rules! closed_list {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $byte:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)* _ => None }
            }

            fn byte(self) -> u8 {
                match self { $(Self::$variant => $byte,)* }
            }

            fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($byte => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

closed_list! {
    /// What kind of party did something.
    PartyKind {
        Engine = 1, "engine";
        Person = 2, "person";
        /// An AI agent or another machine that asked; it can ask, never approve.
        Agent = 3, "agent";
    }
}

closed_list! {
    /// Why something did not go the way it is meant to go. Every exception has one of these.
    ExceptionCause {
        /// A fact that a decision needs was not there (an owner, an expiry, a recorded key id).
        MissingData = 1, "missing_data";
        /// Several people or teams answer for parts of it, or nobody does.
        FragmentedOwnership = 2, "fragmented_ownership";
        /// What should have set the work off did not, or came late.
        DisconnectedTrigger = 3, "disconnected_trigger";
        /// The downstream system failed, lied or answered rubbish.
        ProviderFault = 4, "provider_fault";
        /// Two policies, windows or budgets ask for what cannot both be had.
        PolicyConflict = 5, "policy_conflict";
        /// A person decided otherwise, with a reason.
        HumanOverride = 6, "human_override";
        /// Two people opened the emergency path.
        BreakGlass = 7, "break_glass";
        /// A consumer did not switch in time.
        ConsumerFault = 8, "consumer_fault";
        /// The approval ran out, or the plan changed under it.
        ApprovalLapsed = 9, "approval_lapsed";
        /// The world downstream was not as recorded.
        Drift = 10, "drift";
        /// Keyfall itself failed.
        OwnFault = 11, "own_fault";
    }
}

/// Why bytes are not an audit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record has version {version}, and this version of Keyfall reads version 1")]
    Version { version: u8 },
    #[error("the record ends inside its {part}")]
    Short { part: &'static str },
    #[error("the record's {part} is not valid")]
    Invalid { part: &'static str },
    #[error("the record has {extra} bytes behind its end")]
    Long { extra: usize },
}

impl<'a> AuditRecord<'a> {
    /// The bytes that are stored and hashed. A text longer than 4 GiB, which nothing here can be, is cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(USUAL_HEAD + self.details.len()));
        out.0.push(VERSION);
        out.text(&self.id);
        out.0.extend_from_slice(&self.at_micros.to_be_bytes());
        out.optional(self.run.as_ref(), |out, text| out.text(text));
        out.optional(self.step.as_ref(), |out, text| out.text(text));
        out.text(&self.action);
        out.text(&self.trigger);
        out.0.push(self.initiator.kind.byte());
        out.text(&self.initiator.id);
        out.text(&self.initiator.name);
        out.texts(&self.approvers);
        out.optional(self.plan_digest.as_ref(), |out, digest| out.0.extend_from_slice(digest));
        out.optional(self.rule.as_ref(), |out, text| out.text(text));
        out.optional(self.identity.as_ref(), |out, text| out.text(text));
        out.optional(self.system.as_ref(), |out, text| out.text(text));
        out.optional(self.permissions_before.as_ref(), |out, texts| out.texts(texts));
        out.optional(self.permissions_after.as_ref(), |out, texts| out.texts(texts));
        out.0.extend_from_slice(&self.attempt.to_be_bytes());
        out.optional(self.exception.as_ref(), |out, exception| {
            out.0.push(exception.cause.byte());
            out.text(&exception.note);
        });
        out.optional(self.outcome.as_ref(), |out, text| out.text(text));
        out.text(&self.details);
        out.0
    }

    /// # Errors
    /// The bytes are not exactly the encoding of a record of a known version.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let mut input = Reader(bytes);
        let version = input.byte("version")?;
        if version != VERSION {
            return Err(RecordError::Version { version });
        }
        let record = Self {
            id: input.text("id")?,
            at_micros: i64::from_be_bytes(input.array("time")?),
            run: input.optional("run", |input| input.text("run"))?,
            step: input.optional("step", |input| input.text("step"))?,
            action: input.text("action")?,
            trigger: input.text("trigger")?,
            initiator: Party {
                kind: PartyKind::from_byte(input.byte("initiator")?)
                    .ok_or(RecordError::Invalid { part: "initiator" })?,
                id: input.text("initiator")?,
                name: input.text("initiator")?,
            },
            approvers: input.texts("approvers")?,
            plan_digest: input.optional("plan digest", |input| input.array("plan digest"))?,
            rule: input.optional("rule", |input| input.text("rule"))?,
            identity: input.optional("identity", |input| input.text("identity"))?,
            system: input.optional("system", |input| input.text("system"))?,
            permissions_before: input.optional("permissions", |input| input.texts("permissions"))?,
            permissions_after: input.optional("permissions", |input| input.texts("permissions"))?,
            attempt: u32::from_be_bytes(input.array("attempt")?),
            exception: input.optional("exception", Reader::exception)?,
            outcome: input.optional("outcome", |input| input.text("outcome"))?,
            details: input.text("details")?,
        };
        match input.0.len() {
            0 => Ok(record),
            extra => Err(RecordError::Long { extra }),
        }
    }

    /// Whether [`AuditRecord::decode`] would read these bytes, without making the record: checking a whole log is bound by this.
    ///
    /// # Errors
    /// Those of `decode`.
    pub fn check(bytes: &[u8]) -> Result<(), RecordError> {
        let mut input = Reader(bytes);
        let version = input.byte("version")?;
        if version != VERSION {
            return Err(RecordError::Version { version });
        }
        input.str("id")?;
        input.array::<8>("time")?;
        input.optional("run", |input| input.str("run"))?;
        input.optional("step", |input| input.str("step"))?;
        input.str("action")?;
        input.str("trigger")?;
        PartyKind::from_byte(input.byte("initiator")?).ok_or(RecordError::Invalid { part: "initiator" })?;
        input.str("initiator")?;
        input.str("initiator")?;
        input.skip_texts("approvers")?;
        input.optional("plan digest", |input| input.array::<32>("plan digest"))?;
        input.optional("rule", |input| input.str("rule"))?;
        input.optional("identity", |input| input.str("identity"))?;
        input.optional("system", |input| input.str("system"))?;
        input.optional("permissions", |input| input.skip_texts("permissions"))?;
        input.optional("permissions", |input| input.skip_texts("permissions"))?;
        input.array::<4>("attempt")?;
        input.optional("exception", Reader::exception)?;
        input.optional("outcome", |input| input.str("outcome"))?;
        input.str("details")?;
        match input.0.len() {
            0 => Ok(()),
            extra => Err(RecordError::Long { extra }),
        }
    }

    /// The leaf that this record is in the log.
    #[must_use]
    pub fn leaf(&self) -> Hash {
        leaf_hash(&self.encode())
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn text(&mut self, text: &str) {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0
            .extend_from_slice(text.as_bytes().get(..length as usize).unwrap_or_default());
    }

    fn texts(&mut self, texts: &[Cow<'_, str>]) {
        self.0
            .extend_from_slice(&u32::try_from(texts.len()).unwrap_or(u32::MAX).to_be_bytes());
        texts.iter().for_each(|text| self.text(text));
    }

    fn optional<T: ?Sized>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], RecordError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(RecordError::Short { part })?;
        self.0 = rest;
        Ok(*array)
    }

    fn byte(&mut self, part: &'static str) -> Result<u8, RecordError> {
        let [byte] = self.array(part)?;
        Ok(byte)
    }

    fn str(&mut self, part: &'static str) -> Result<&'a str, RecordError> {
        let length = u32::from_be_bytes(self.array(part)?) as usize;
        let (text, rest) = self.0.split_at_checked(length).ok_or(RecordError::Short { part })?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| RecordError::Invalid { part })
    }

    fn text(&mut self, part: &'static str) -> Result<Cow<'a, str>, RecordError> {
        self.str(part).map(Cow::Borrowed)
    }

    fn skip_texts(&mut self, part: &'static str) -> Result<(), RecordError> {
        for _ in 0..u32::from_be_bytes(self.array(part)?) {
            self.str(part)?;
        }
        Ok(())
    }

    fn texts(&mut self, part: &'static str) -> Result<Vec<Cow<'a, str>>, RecordError> {
        let count = u32::from_be_bytes(self.array(part)?);
        // Grown as texts arrive, so that a false count cannot ask for memory.
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(self.text(part)?);
        }
        Ok(texts)
    }

    fn optional<T>(
        &mut self,
        part: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Option<T>, RecordError> {
        match self.byte(part)? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(RecordError::Invalid { part }),
        }
    }

    fn exception(&mut self) -> Result<Exception<'a>, RecordError> {
        let part = "exception";
        Ok(Exception {
            cause: ExceptionCause::from_byte(self.byte(part)?).ok_or(RecordError::Invalid { part })?,
            note: self.text(part)?,
        })
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
