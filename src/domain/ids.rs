//! Every id that Keyfall gives, in one alphabetical, append-only list. An id is a version 7 UUID behind a type of its own, with a prefix
//! outside the program (`run_…`), so that one kind can never be taken for another. A prefix may never change: ids stand in receipts.
//!
//! This file draws no ids: drawing needs a clock and randomness (`crate::clock`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A text that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind} id: it must look like {prefix}_<32 hexadecimal digits>")]
pub struct BadId {
    pub kind: &'static str,
    pub prefix: &'static str,
    pub text: String,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            #[must_use]
            pub fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            #[must_use]
            pub fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut buffer = Uuid::encode_buffer();
                write!(f, "{}_{}", $prefix, self.0.simple().encode_lower(&mut buffer))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                text.strip_prefix($prefix)
                    .and_then(|rest| rest.strip_prefix('_'))
                    .filter(|rest| rest.len() == 32)
                    .and_then(|rest| Uuid::try_parse(rest).ok())
                    .map(Self)
                    .ok_or_else(|| BadId { kind: stringify!($name), prefix: $prefix, text: text.to_owned() })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// Something done outside of a run, in the audit log.
    ActId = "act";
    ApprovalId = "apr";
    CredentialId = "cred";
    FindingId = "fnd";
    IdentityId = "idn";
    PersonId = "per";
    PlanId = "pln";
    ReceiptId = "rcp";
    /// A System, Policy, Destination or Owner: what manifests describe besides identities.
    ResourceId = "res";
    RunId = "run";
    SecretId = "sec";
    TokenId = "tok";
}

#[cfg(test)]
mod tests {
    use super::{CredentialId, RunId};
    use uuid::Uuid;

    #[test]
    fn an_id_reads_back_as_itself_and_as_no_other_kind() {
        let id = RunId::from_uuid(Uuid::from_u128(7));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().parse::<CredentialId>().is_err());
        assert!("run_7".parse::<RunId>().is_err());
    }
}
