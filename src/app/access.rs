//! Who may do what: one function, deny by default. A token stands for a person and never approves by itself: an approval is a signature.

use std::collections::BTreeSet;

use crate::domain::actor::Actor;
use crate::domain::ids::PersonId;

/// What a person may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Changes settings, keys and people (with another person's signature).
    Admin,
    /// Registers, plans, asks for runs.
    Operator,
    /// Signs plans.
    Approver,
    /// Reads everything, changes nothing.
    Auditor,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Admin, Self::Operator, Self::Approver, Self::Auditor];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub person: PersonId,
    pub name: String,
    pub roles: BTreeSet<Role>,
}

impl Caller {
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::Person {
            id: self.person,
            name: self.name.clone(),
        }
    }
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Read,
    /// Reads that cost: they log in at systems with their admin credentials, or read the whole store.
    Examine,
    Export,
    Plan,
    Approve,
    Reject,
    AskRun,
    HandleRun,
    SetSecret,
    Freeze,
    Unfreeze,
    Backup,
    ManagePeople,
    RotateKek,
}

impl Verb {
    /// In words, behind "may not".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read the register",
            Self::Examine => "look into systems and through the whole store",
            Self::Export => "export the audit log",
            Self::Plan => "plan changes",
            Self::Approve => "approve plans",
            Self::Reject => "reject plans",
            Self::AskRun => "ask for runs",
            Self::HandleRun => "retry, resume or cancel runs",
            Self::SetSecret => "store secrets",
            Self::Freeze => "freeze",
            Self::Unfreeze => "ask for the end of a freeze",
            Self::Backup => "make backups",
            Self::ManagePeople => "manage people",
            Self::RotateKek => "seal secrets under another key",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} may not {}: it takes one of the roles {needed}", verb.name())]
pub struct Refusal {
    pub name: String,
    pub verb: Verb,
    pub needed: String,
}

/// The policy.
///
/// # Errors
/// When none of the caller's roles allows the verb.
pub fn allow(caller: &Caller, verb: Verb) -> Result<(), Refusal> {
    use Role::{Admin, Approver, Auditor, Operator};
    let needed: &[Role] = match verb {
        Verb::Read => &[Admin, Operator, Approver, Auditor],
        Verb::Examine => &[Admin, Operator, Auditor],
        Verb::Export => &[Admin, Auditor],
        Verb::Plan | Verb::AskRun | Verb::HandleRun | Verb::SetSecret => &[Admin, Operator],
        Verb::Approve | Verb::Reject => &[Approver],
        // Stopping is everybody's right who runs things; going on is a plan that another person signs.
        Verb::Freeze => &[Admin, Operator, Approver],
        Verb::Unfreeze => &[Admin, Operator],
        Verb::Backup | Verb::ManagePeople | Verb::RotateKek => &[Admin],
    };
    if needed.iter().any(|role| caller.roles.contains(role)) {
        return Ok(());
    }
    let needed = needed.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ");
    Err(Refusal {
        name: caller.name.clone(),
        verb,
        needed,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Caller, Role, Verb, allow};
    use crate::domain::ids::PersonId;

    fn may(roles: &[Role], verb: Verb) -> bool {
        let caller = Caller {
            person: PersonId::from_uuid(uuid::Uuid::nil()),
            name: "carol".to_owned(),
            roles: roles.iter().copied().collect::<BTreeSet<_>>(),
        };
        allow(&caller, verb).is_ok()
    }

    /// One line per verb: admin, operator, approver, auditor. A new verb does not compile without a line.
    fn line(verb: Verb) -> [bool; 4] {
        match verb {
            Verb::Read => [true, true, true, true],
            Verb::Examine => [true, true, false, true],
            Verb::Export => [true, false, false, true],
            Verb::Plan | Verb::AskRun | Verb::HandleRun | Verb::SetSecret | Verb::Unfreeze => {
                [true, true, false, false]
            }
            Verb::Approve | Verb::Reject => [false, false, true, false],
            Verb::Freeze => [true, true, true, false],
            Verb::Backup | Verb::ManagePeople | Verb::RotateKek => [true, false, false, false],
        }
    }

    const VERBS: [Verb; 14] = [
        Verb::Read,
        Verb::Examine,
        Verb::Export,
        Verb::Plan,
        Verb::Approve,
        Verb::Reject,
        Verb::AskRun,
        Verb::HandleRun,
        Verb::SetSecret,
        Verb::Freeze,
        Verb::Unfreeze,
        Verb::Backup,
        Verb::ManagePeople,
        Verb::RotateKek,
    ];

    #[test]
    fn each_role_may_what_the_table_says_and_nothing_else() {
        for verb in VERBS {
            for (role, expected) in Role::ALL.into_iter().zip(line(verb)) {
                assert_eq!(may(&[role], verb), expected, "{} of {verb:?}", role.name());
            }
            assert!(!may(&[], verb), "somebody without a role may {}", verb.name());
        }
        assert!(may(&[Role::Auditor, Role::Operator], Verb::Plan), "roles add up");
    }

    #[test]
    fn a_refusal_speaks_to_people() {
        let caller = Caller {
            person: PersonId::from_uuid(uuid::Uuid::nil()),
            name: "carol".to_owned(),
            roles: BTreeSet::from([Role::Auditor]),
        };
        let refusal = allow(&caller, Verb::HandleRun).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "carol may not retry, resume or cancel runs: it takes one of the roles admin, operator"
        );
    }
}
