//! One ACL user as a node lists it (`ACL GETUSER`, Redis 6 to 8), and its translation into the contract's words.

use std::collections::HashMap;

use keyfall_sdk::{ConnectorError, PrincipalState, PrincipalStatus, Result};
use redis::Value;

use super::key::{KeyIds, StoredHash};
use super::node::Session;

/// A right with which an account can take over the server or read everything.
const POWERFUL: [&str; 11] = [
    "+@all",
    "+@admin",
    "+@dangerous",
    "+acl",
    "+acl|setuser",
    "+config",
    "+config|set",
    "+module",
    "+debug",
    "+replicaof",
    "+slaveof",
];

/// `ACL GETUSER`, read into types.
#[derive(Clone)]
pub(super) struct AclUser {
    pub(super) name: String,
    pub(super) enabled: bool,
    /// Any password is accepted.
    pub(super) nopass: bool,
    pub(super) hashes: Vec<StoredHash>,
    commands: String,
    keys: String,
    channels: String,
    pub(super) selectors: Vec<String>,
}

impl AclUser {
    pub(super) fn holds(&self, hash: &StoredHash) -> bool {
        self.hashes.contains(hash)
    }

    /// What the account may do, one line each, sorted. Redis normalises commands when it lists them.
    pub(super) fn grants(&self) -> Vec<String> {
        let mut grants: Vec<String> = [&self.commands, &self.keys, &self.channels]
            .into_iter()
            .flat_map(|list| list.split_whitespace())
            .filter(|token| *token != "-@all")
            .map(str::to_owned)
            .collect();
        grants.extend(self.selectors.iter().map(|selector| format!("({selector})")));
        if self.nopass {
            grants.push("nopass".to_owned());
        }
        grants.sort();
        grants.dedup();
        grants
    }

    pub(super) fn state(&self, key_ids: &KeyIds, sessions: Option<u32>) -> PrincipalState {
        let mut ids: Vec<_> = self.hashes.iter().map(|hash| key_ids.of(&self.name, hash)).collect();
        ids.sort();
        let grants = self.grants();
        PrincipalState {
            name: self.name.clone(),
            immutable_id: self.name.clone(),
            status: if self.enabled {
                PrincipalStatus::Enabled
            } else {
                PrincipalStatus::Disabled
            },
            key_ids: ids,
            privileged: self.nopass || grants.iter().any(|grant| POWERFUL.contains(&grant.as_str())),
            grants,
            expires_at: None,
            sessions,
        }
    }
}

impl Session<'_> {
    /// One user on this node; `None` where it does not exist.
    pub(super) async fn user(&mut self, name: &str) -> Result<Option<AclUser>> {
        let value: Value = self
            .read(redis::cmd("ACL").arg("GETUSER").arg(name), "ACL GETUSER")
            .await?;
        parse(name, value)
    }

    /// Every user on this node, in one more round trip.
    pub(super) async fn users(&mut self) -> Result<Vec<AclUser>> {
        let names: Vec<String> = self.read(redis::cmd("ACL").arg("USERS"), "ACL USERS").await?;
        let mut pipeline = redis::pipe();
        for name in &names {
            pipeline.cmd("ACL").arg("GETUSER").arg(name);
        }
        let values: Vec<Value> = self.read_all(&pipeline, "ACL GETUSER").await?;
        let mut users = Vec::new();
        for (name, value) in names.iter().zip(values) {
            users.extend(parse(name, value)?);
        }
        Ok(users)
    }
}

fn parse(name: &str, value: Value) -> Result<Option<AclUser>> {
    let fields: Option<HashMap<String, Value>> = redis::from_redis_value(value).map_err(|_| unreadable(name))?;
    let Some(fields) = fields else { return Ok(None) };
    let flags = texts(fields.get("flags")).ok_or_else(|| unreadable(name))?;
    let hashes = texts(fields.get("passwords")).ok_or_else(|| unreadable(name))?;
    let commands = texts(fields.get("commands")).ok_or_else(|| unreadable(name))?;
    Ok(Some(AclUser {
        name: name.to_owned(),
        enabled: flags.iter().any(|flag| flag == "on"),
        nopass: flags.iter().any(|flag| flag == "nopass"),
        hashes: hashes.into_iter().map(StoredHash).collect(),
        commands: commands.join(" "),
        keys: patterns(fields.get("keys"), '~'),
        channels: patterns(fields.get("channels"), '&'),
        selectors: selectors(fields.get("selectors")),
    }))
}

fn unreadable(name: &str) -> ConnectorError {
    ConnectorError::protocol(format!(
        "The server's description of ACL user `{name}` could not be understood"
    ))
}

/// A list, or a single string as a list of one; `None` for anything else.
fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    match value? {
        Value::Array(items) | Value::Set(items) => items.iter().map(text).collect(),
        single => Some(vec![text(single)?]),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// Redis 7 lists `~a &b` as one string with the marks, Redis 6 as a list of bare patterns.
fn patterns(value: Option<&Value>, mark: char) -> String {
    match value {
        Some(Value::Array(_)) => texts(value)
            .unwrap_or_default()
            .iter()
            .map(|pattern| format!("{mark}{pattern}"))
            .collect::<Vec<_>>()
            .join(" "),
        _ => texts(value).unwrap_or_default().join(" "),
    }
}

/// Further permission sets (Redis 7), each flattened to one line.
fn selectors(value: Option<&Value>) -> Vec<String> {
    let Some(Value::Array(items)) = value else {
        return Vec::new();
    };
    items
        .iter()
        .map(|item| {
            let Value::Array(pairs) = item else {
                return "unreadable selector".to_owned();
            };
            let lines: Vec<String> = pairs.iter().skip(1).step_by(2).filter_map(text).collect();
            lines.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect()
}
