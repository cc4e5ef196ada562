//! What a fact comes to: statements with their values, ready before the writer sees them, and the few steps that must look first.

use super::super::driver::Tx;
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
    /// The short form where it changes a row; else as `Must`.
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
    pub(crate) async fn run<T: Tx>(&self, tx: &mut T) -> Result<()> {
        match self {
            Self::Do(bound) => tx.execute(bound).await.map(drop),
            Self::Must { bound, what, id } => must(tx, bound, what, id).await,
            Self::Either { short, bound, what, id } => match tx.execute(short).await? {
                0 => must(tx, bound, what, id).await,
                _ => Ok(()),
            },
            Self::Merge { update, insert } => {
                if tx.execute(update).await? == 0 {
                    tx.execute(insert).await?;
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
                    tx.execute(insert).await?;
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

async fn must<T: Tx>(tx: &mut T, bound: &Bound, what: &'static str, id: &str) -> Result<()> {
    match tx.execute(bound).await? {
        0 => Err(absent(what, id)),
        _ => Ok(()),
    }
}

fn absent(what: &'static str, id: &str) -> StoreError {
    StoreError::Absent {
        what,
        id: id.to_owned(),
    }
}

/// A state that holds already is kept, so that an event which is recorded for a second attempt changes nothing.
async fn move_identity<T: Tx>(tx: &mut T, id: &str, read: &Bound, to: IdentityState, write: &Bound) -> Result<()> {
    let row = tx.query(read).await?.into_iter().next();
    let from = identity::state(row.ok_or_else(|| absent("identity", id))?)?;
    if from == to {
        return Ok(());
    }
    from.to(to).map_err(|source| StoreError::IllegalTransition {
        id: id.to_owned(),
        source: Box::new(source),
    })?;
    tx.execute(write).await?;
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
    let row = tx.query(read).await?.into_iter().next();
    let from = credential::life(row.ok_or_else(|| absent("credential", id))?)?;
    if from == *to || (only_intended && from != CredentialState::Intended) {
        return Ok(());
    }
    from.to(to.clone()).map_err(|source| StoreError::IllegalTransition {
        id: id.to_owned(),
        source: Box::new(source),
    })?;
    tx.execute(write).await?;
    tx.count(credential::SUBJECT, from.name(), -1);
    tx.count(credential::SUBJECT, to.name(), 1);
    Ok(())
}

/// Zeros of the same length go over the bytes, so that they are replaced where they lie.
async fn destroy_secret<T: Tx>(tx: &mut T, id: &str, read: &Bound, at: &Value) -> Result<()> {
    let row = tx.query(read).await?.into_iter().next();
    let lengths = secret::lengths(row.ok_or_else(|| absent("secret", id))?)?;
    let Some((wrapped_key, ciphertext)) = lengths else {
        return Ok(());
    };
    tx.execute(&secret::overwrite(id, wrapped_key, ciphertext, at.clone())?)
        .await?;
    tx.execute(&credential::without_secret(id)?).await?;
    Ok(())
}
