//! The portable SQL: one text per statement, one file per noun with its texts and the mapping between rows and types. Knows no database
//! and opens no connection.

pub(crate) mod coherence;
pub(crate) mod credential;
pub(crate) mod finding;
pub(crate) mod identity;
pub(crate) mod ledger;
pub(crate) mod log;
pub(crate) mod node;
mod op;
pub(crate) mod person;
pub(crate) mod plan;
pub(crate) mod receipt;
pub(crate) mod resource;
pub(crate) mod run;
pub(crate) mod secret;
mod statement;
mod table;
mod value;

pub(crate) use log::Leaf;
pub(crate) use op::Op;
use statement::statements;
pub(crate) use statement::{Bound, Listing, Statement};
#[cfg(test)]
pub(crate) use table::{GIVEN, LOCAL};
pub(crate) use table::{TABLES, Table};
pub(crate) use value::{Row, Value};

/// All statements by noun, for the tests that go through every one of them.
#[cfg(test)]
pub(crate) fn all() -> Vec<(&'static str, &'static str, &'static Statement)> {
    let nouns = [
        ("coherence", coherence::ALL),
        ("credential", credential::ALL),
        ("finding", finding::ALL),
        ("identity", identity::ALL),
        ("ledger", ledger::ALL),
        ("log", log::ALL),
        ("node", node::ALL),
        ("person", person::ALL),
        ("plan", plan::ALL),
        ("receipt", receipt::ALL),
        ("resource", resource::ALL),
        ("run", run::ALL),
        ("secret", secret::ALL),
    ];
    nouns
        .into_iter()
        .flat_map(|(noun, all)| all.iter().map(move |(name, statement)| (noun, *name, *statement)))
        .collect()
}
