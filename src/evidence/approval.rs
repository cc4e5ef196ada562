//! What a person signs with a key of his own, and the exact bytes of it: an approval of a plan, and the enrolment of another person.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::keys::{SigningKey, VerifierKey};

/// What the approver decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Approve,
    Reject,
}

impl Decision {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
}

/// A decision on exactly one plan, until an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalStatement {
    pub plan_id: String,
    pub plan_digest: [u8; 32],
    pub decision: Decision,
    /// Microseconds since the Unix epoch, UTC.
    pub expires_at_micros: i64,
}

impl ApprovalStatement {
    /// ```text
    /// keyfall-approval/v1
    /// plan pln_…
    /// digest sha256:<64 hexadecimal digits>
    /// decision approve
    /// expires 1795000000000000
    /// ```
    /// with a newline behind each line.
    #[must_use]
    pub fn signing_bytes(&self) -> Vec<u8> {
        let digest = hex(&self.plan_digest);
        format!(
            "keyfall-approval/v1\nplan {}\ndigest sha256:{digest}\ndecision {}\nexpires {}\n",
            one_line(&self.plan_id),
            self.decision.name(),
            self.expires_at_micros
        )
        .into_bytes()
    }

    /// Base64 of the signature.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> String {
        STANDARD.encode(key.sign(&self.signing_bytes()))
    }

    /// Whether this key signed this statement. Expiry is the caller's to compare: this module has no clock.
    #[must_use]
    pub fn verifies(&self, key: &VerifierKey, signature: &str) -> bool {
        STANDARD
            .decode(signature)
            .is_ok_and(|signature| key.verifies(&self.signing_bytes(), &signature))
    }
}

/// A value with a line break could pose as the lines behind it.
fn one_line(text: &str) -> String {
    text.escape_debug().to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::keys::tests::key;
    use super::*;

    fn statement() -> ApprovalStatement {
        ApprovalStatement {
            plan_id: "pln_1".to_owned(),
            plan_digest: [0x0f; 32],
            decision: Decision::Approve,
            expires_at_micros: 1_795_000_000_000_000,
        }
    }

    #[test]
    fn the_signed_bytes_are_pinned() {
        let text = String::from_utf8(statement().signing_bytes()).unwrap();
        let digest = "0f".repeat(32);
        assert_eq!(
            text,
            format!(
                "keyfall-approval/v1\nplan pln_1\ndigest sha256:{digest}\ndecision approve\nexpires 1795000000000000\n"
            )
        );
    }

    #[test]
    fn an_approval_holds_for_this_statement_and_this_key_only() {
        let zoe = key("zoe");
        let signature = statement().sign(&zoe);
        assert!(statement().verifies(zoe.verifier(), &signature));
        assert!(!statement().verifies(key("zoe").verifier(), &signature));
        assert!(!statement().verifies(zoe.verifier(), "rubbish"));
        let others = [
            ApprovalStatement {
                plan_id: "pln_2".to_owned(),
                ..statement()
            },
            ApprovalStatement {
                plan_digest: [0x0e; 32],
                ..statement()
            },
            ApprovalStatement {
                decision: Decision::Reject,
                ..statement()
            },
            ApprovalStatement {
                expires_at_micros: i64::MAX,
                ..statement()
            },
        ];
        for other in others {
            assert!(!other.verifies(zoe.verifier(), &signature), "{other:?}");
        }
    }

    #[test]
    fn a_value_cannot_pose_as_another_line() {
        let named = |plan_id: &str| ApprovalStatement {
            plan_id: plan_id.to_owned(),
            ..statement()
        };
        let lines = |bytes: Vec<u8>| bytes.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(
            lines(named("plan_1\ndecision reject").signing_bytes()),
            lines(named("plan_1").signing_bytes())
        );
    }
}
