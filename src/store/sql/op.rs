//! What a fact comes to: statements with their values, ready before the writer sees them, and the few steps that must look first.

use super::super::driver::{Tx, Unchanged, absent};
use super::super::{Result, StoreError};
use super::statement::Bound;
use super::value::Value;
use super::{credential, identity, secret};
use crate::domain::identity::{CredentialState, IdentityState};

/// One step of a commit.
pub(crate) enum Op {
    /// Any number of rows may change.
    Do(Bound),
    /// At least one row must change.
    Must {
        bound: Bound,
        what: &'static str,
        id: String,
    },
    /// The short form where it changes a row; else as `Must`, perhaps behind the other steps of the commit.
    Either {
        short: Bound,
        bound: Bound,
        what: &'static str,
        id: String,
    },
    /// Inserted where there is nothing to update.
    Merge {
        update: Bound,
        insert: Bound,
    },
    /// Replaced where it exists, keeping its state; else inserted and counted.
    Put {
        update: Bound,
        insert: Bound,
        subject: &'static str,
        state: &'static str,
    },
    MoveIdentity {
        id: String,
        read: Bound,
        to: IdentityState,
        write: Bound,
    },
    MoveCredential {
        id: String,
        read: Bound,
        to: CredentialState,
        write: Bound,
        /// Leaves a credential that is further on as it is.
        only_intended: bool,
    },
    DestroySecret {
        id: String,
        read: Bound,
        at: Value,
    },
}

impl Op {
    /// What the step is about, where a step before it in the same commit may change what it reads.
    pub(crate) fn about(&self) -> Option<&Value> {
        match self {
            Self::Put { insert, .. } => insert.values.first(),
            Self::MoveIdentity { read, .. } | Self::MoveCredential { read, .. } | Self::DestroySecret { read, .. } => {
                read.values.first()
            }
            _ => None,
        }
    }

    /// The question with which the step begins.
    pub(crate) fn reads_first(&self) -> Option<&Bound> {
        match self {
            Self::MoveIdentity { read, .. } | Self::MoveCredential { read, .. } | Self::DestroySecret { read, .. } => {
                Some(read)
            }
            _ => None,
        }
    }

    pub(crate) async fn run<T: Tx>(&self, tx: &mut T) -> Result<()> {
        match self {
            Self::Do(bound) => tx.send(bound, Unchanged::Fine).await,
            Self::Must { bound, what, id } => tx.send(bound, Unchanged::Absent(what, id)).await,
            Self::Either { short, bound, what, id } => tx.send(short, Unchanged::Instead(bound, what, id)).await,
            Self::Merge { update, insert } => {
                if tx.execute(update).await? == 0 {
                    tx.send(insert, Unchanged::Fine).await?;
                }
                Ok(())
            }
            Self::Put {
                update,
                insert,
                subject,
                state,
            } => {
                if tx.execute(update).await? == 0 {
                    tx.send(insert, Unchanged::Fine).await?;
                    tx.count(subject, state, 1);
                }
                Ok(())
            }
            Self::MoveIdentity { id, read, to, write } => move_identity(tx, id, read, *to, write).await,
            Self::MoveCredential {
                id,
                read,
                to,
                write,
                only_intended,
            } => move_credential(tx, id, read, to, write, *only_intended).await,
            Self::DestroySecret { id, read, at } => destroy_secret(tx, id, read, at).await,
        }
    }
}

/// A state that holds already is kept, so that an event which is recorded for a second attempt changes nothing.
async fn move_identity<T: Tx>(tx: &mut T, id: &str, read: &Bound, to: IdentityState, write: &Bound) -> Result<()> {
    let row = tx.query_locked(read).await?.into_iter().next();
    let from = identity::state(row.ok_or_else(|| absent("identity", id))?)?;
    if from == to {
        return Ok(());
    }
    from.to(to).map_err(|source| StoreError::IllegalTransition {
        id: id.to_owned(),
        source: Box::new(source),
    })?;
    tx.send(write, Unchanged::Fine).await?;
    tx.count(identity::SUBJECT, from.name(), -1);
    tx.count(identity::SUBJECT, to.name(), 1);
    Ok(())
}

async fn move_credential<T: Tx>(
    tx: &mut T,
    id: &str,
    read: &Bound,
    to: &CredentialState,
    write: &Bound,
    only_intended: bool,
) -> Result<()> {
    let row = tx.query_locked(read).await?.into_iter().next();
    let from = credential::life(row.ok_or_else(|| absent("credential", id))?)?;
    if from == *to || (only_intended && from != CredentialState::Intended) {
        return Ok(());
    }
    from.to(to.clone()).map_err(|source| StoreError::IllegalTransition {
        id: id.to_owned(),
        source: Box::new(source),
    })?;
    tx.send(write, Unchanged::Fine).await?;
    tx.count(credential::SUBJECT, from.name(), -1);
    tx.count(credential::SUBJECT, to.name(), 1);
    Ok(())
}

/// Zeros of the same length go over the bytes, so that they are replaced where they lie.
async fn destroy_secret<T: Tx>(tx: &mut T, id: &str, read: &Bound, at: &Value) -> Result<()> {
    let row = tx.query_locked(read).await?.into_iter().next();
    let lengths = secret::lengths(row.ok_or_else(|| absent("secret", id))?)?;
    let Some((wrapped_key, ciphertext)) = lengths else {
        return Ok(());
    };
    let overwrite = secret::overwrite(id, wrapped_key, ciphertext, at.clone())?;
    tx.send(&overwrite, Unchanged::Fine).await?;
    tx.send(&credential::without_secret(id)?, Unchanged::Fine).await
}
