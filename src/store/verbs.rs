//! Verbs of more than one statement, besides the commit.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use super::driver::{Read, Tx, Verb};
use super::sql::{Row, Value, credential, log, run};
use super::{Result, RunRow, StoreError};
use crate::domain::identity::{Credential, CredentialState};
use crate::domain::ids::{IdentityId, RunId};
use crate::evidence::merkle::{Hash, leaf_hash, node_hash};

/// The entries of runs, run by run, on one state of the store.
pub(super) struct Events {
    pub(super) runs: Vec<RunId>,
}

impl Verb for Events {
    type Output = Vec<Vec<Vec<u8>>>;
    const DOING: &'static str = "reading events";

    async fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> Result<Self::Output> {
        let mut all = Vec::with_capacity(self.runs.len());
        let reads = self.runs.iter().map(|run| log::events(*run));
        let reads = reads.collect::<Result<Vec<_>>>()?;
        tx.ahead(reads.iter().map(Read::Plain)).await?;
        for read in &reads {
            let rows = tx.query(read).await?;
            all.push(rows.into_iter().map(log::read_bytes).collect::<Result<_>>()?);
        }
        Ok(all)
    }
}

/// A history that is not longer is read whole: that costs less than finding in it what is in play.
const SHORT: u32 = 16;

/// What is in play of identities. A credential may be in it more than once.
pub(super) struct InPlay {
    pub(super) identities: Vec<IdentityId>,
}

impl Verb for InPlay {
    type Output = Vec<Credential>;
    const DOING: &'static str = "reading credentials in play";

    async fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> Result<Self::Output> {
        let read = |rows: Vec<Row>| rows.into_iter().map(credential::read).collect::<Result<Vec<_>>>();
        let mut found = Vec::new();
        for identity in &self.identities {
            found.extend(read(tx.query(&credential::current(*identity)?).await?)?);
            let latest = read(tx.query(&credential::latest(*identity, SHORT)?).await?)?;
            if latest.len() < SHORT as usize {
                found.extend(in_play_of(latest));
                continue;
            }
            for bound in credential::in_play(*identity)? {
                found.extend(read(tx.query(&bound).await?)?);
            }
        }
        Ok(found)
    }
}

/// Of a whole history, the latest first: what may be alive, and of each account the last that knows its immutable id.
fn in_play_of(history: Vec<Credential>) -> impl Iterator<Item = Credential> {
    let mut accounts = HashSet::new();
    history.into_iter().filter(move |one| {
        let is_last = one.principal.immutable_id.is_some() && accounts.insert(one.principal.name.clone());
        is_last || !matches!(one.state, CredentialState::Dead { .. } | CredentialState::NeverIssued)
    })
}

/// Takes runs, each with the epoch that fences those who held it before.
pub(super) struct Claim {
    pub(super) node: String,
    pub(super) lease: SignedDuration,
    pub(super) limit: u32,
}

impl Verb for Claim {
    type Output = Vec<RunRow>;
    const DOING: &'static str = "claiming runs";

    async fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> Result<Vec<RunRow>> {
        let claim = run::claim(&self.node, tx.now().await?, self.lease, self.limit)?;
        tx.query(&claim).await?.into_iter().map(run::read).collect()
    }
}

pub(super) struct Renew {
    pub(super) node: String,
    pub(super) runs: Vec<(RunId, u64)>,
    pub(super) length: SignedDuration,
}

impl Verb for Renew {
    type Output = Vec<RunId>;
    const DOING: &'static str = "renewing leases";

    /// A result is stored only as long as its lease stands.
    fn takes_reserve(&self) -> bool {
        true
    }

    async fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> Result<Vec<RunId>> {
        let mut lost = Vec::new();
        let now = tx.now().await?;
        let until = now.saturating_add(self.length).unwrap_or(Timestamp::MAX);
        for (id, epoch) in &self.runs {
            let bound = run::RENEW.with([
                ("id", Value::shown(id)),
                ("node", self.node.as_str().into()),
                ("epoch", (*epoch).into()),
                ("until", until.into()),
                ("now", now.into()),
            ])?;
            if tx.execute(&bound).await? == 0 {
                lost.push(*id);
            }
        }
        Ok(lost)
    }
}

pub(super) struct Nodes {
    pub(super) wanted: Vec<(u8, u64)>,
}

impl Verb for Nodes {
    type Output = Vec<Hash>;
    const DOING: &'static str = "reading the log's tree";

    async fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> Result<Vec<Hash>> {
        let mut found = Vec::with_capacity(self.wanted.len());
        for (level, place) in &self.wanted {
            let absent = || StoreError::Absent {
                what: "node of the log's tree",
                id: format!("{level}/{place}"),
            };
            let hash = if *level >= log::LOWEST_STORED {
                let row = tx.query(&log::node(*level, *place)?).await?.into_iter().next();
                log::read_hash(row.ok_or_else(absent)?)?
            } else {
                let count = 1_u32 << level;
                let rows = tx.query(&log::from(place << level, count)?).await?;
                let entries = rows.into_iter().map(log::read).collect::<Result<Vec<_>>>()?;
                let leaves = entries.iter().map(|entry| leaf_hash(&entry.bytes)).collect();
                root_of_complete(leaves, count as usize).ok_or_else(absent)?
            };
            found.push(hash);
        }
        Ok(found)
    }
}

/// The root over `count` leaves, a power of two; `None` when some are missing.
fn root_of_complete(mut hashes: Vec<Hash>, count: usize) -> Option<Hash> {
    if hashes.len() != count {
        return None;
    }
    while hashes.len() > 1 {
        let pairs = hashes.chunks_exact(2);
        hashes = pairs
            .filter_map(|pair| match pair {
                [left, right] => Some(node_hash(left, right)),
                _ => None,
            })
            .collect();
    }
    hashes.into_iter().next()
}
