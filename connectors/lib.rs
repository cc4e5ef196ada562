//! Every connector that ships with Keyfall, and the one list that registers them.
//!
//! A connector knows the contract (`keyfall_sdk`) and its own client library. It knows no other connector, and nothing of
//! Keyfall's store, engine or API.

pub mod demo;
pub mod file;
#[cfg(test)]
mod poll;
pub mod postgres;
pub mod redis;
#[cfg(test)]
mod registry_tests;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use keyfall_sdk::ConnectorKind;

/// Every kind of connector, sorted by the name that manifests use.
#[must_use]
pub fn registry() -> Vec<Arc<dyn ConnectorKind>> {
    vec![
        Arc::new(demo::DemoKind),
        Arc::new(demo::DestinationKind),
        Arc::new(file::FileKind),
        Arc::new(postgres::PostgresKind),
        Arc::new(redis::RedisKind),
    ]
}
