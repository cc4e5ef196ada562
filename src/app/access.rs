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

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} may not {verb:?}: it takes one of the roles {needed}")]
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
