//! Accounts as the inventory shows them: one SELECT over the shared catalogs, and what its rows mean.
//!
//! Rights on single objects live in each database; the shared catalogs only say in which databases there are some, and
//! that is what a grant line says.

use keyfall_sdk::{ConnectorError, PrincipalState, PrincipalStatus, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::admin::Facts;
use super::link::Rows;
use super::quote::identifier;
use super::role::key_id;

/// From this version on a membership can be held from several grantors, and is taken back from each by name.
const GRANTORS_COUNT: u32 = 160_000;

/// Membership in these is as good as being superuser.
const POWERFUL: &str = "'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'";

const ADMIN_OPTION: &str = " with admin option";

#[derive(Debug, Clone, Deserialize)]
struct Membership {
    role: String,
    grantor: Option<String>,
    admin: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) state: PrincipalState,
    memberships: Vec<Membership>,
    attributes: Vec<String>,
}

impl Account {
    /// `condition` is SQL over the role `r`, made by the caller from quoted parts.
    pub(super) fn select(facts: &Facts, condition: &str) -> String {
        let (catalog, password) = if facts.reads_verifiers {
            ("pg_authid", "r.rolpassword")
        } else {
            ("pg_roles", "NULL::text")
        };
        format!(
            "SELECT r.rolname, r.oid, {password}, r.rolcanlogin, coalesce(r.rolvaliduntil < clock_timestamp(), false), \
             CASE WHEN isfinite(r.rolvaliduntil) THEN (extract(epoch FROM r.rolvaliduntil) * 1000000)::bigint END, \
             (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid AND a.backend_type = 'client backend'), \
             EXISTS (SELECT FROM pg_roles p WHERE pg_has_role(r.oid, p.oid, 'MEMBER') AND (p.rolsuper OR p.rolcreaterole \
              OR p.rolreplication OR p.rolbypassrls OR p.rolname IN ({POWERFUL}))), \
             array_to_json(array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'SUPERUSER' END, \
              CASE WHEN r.rolcreatedb THEN 'CREATEDB' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, \
              CASE WHEN r.rolreplication THEN 'REPLICATION' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END], NULL)), \
             (SELECT coalesce(json_agg(json_build_object('role', g.rolname, 'grantor', b.rolname, \
              'admin', m.admin_option) ORDER BY g.rolname), '[]') FROM pg_auth_members m \
              JOIN pg_roles g ON g.oid = m.roleid LEFT JOIN pg_roles b ON b.oid = m.grantor WHERE m.member = r.oid), \
             (SELECT coalesce(json_agg(DISTINCT coalesce(d.datname, '')), '[]') FROM pg_shdepend s \
              LEFT JOIN pg_database d ON d.oid = s.dbid \
              WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid AND s.deptype = 'a') \
             FROM {catalog} r WHERE {condition} ORDER BY r.rolname COLLATE \"C\""
        )
    }

    /// The accounts in the last result.
    pub(super) fn all(rows: &[Rows]) -> Result<Vec<Self>> {
        rows.last().into_iter().flatten().map(|row| Self::of(row)).collect()
    }

    fn of(row: &[Option<String>]) -> Result<Self> {
        let [
            name,
            oid,
            verifier,
            can_login,
            lapsed,
            expires,
            sessions,
            privileged,
            attributes,
            members,
            databases,
        ] = row
        else {
            return Err(garbled());
        };
        let oid = oid.clone().ok_or_else(garbled)?;
        let is_true = |flag: &Option<String>| flag.as_deref() == Some("t");
        let memberships: Vec<Membership> = json(members)?;
        let attributes: Vec<String> = json(attributes)?;
        let mut grants: Vec<String> = memberships.iter().map(Membership::line).collect();
        grants.extend(attributes.iter().map(|attribute| attribute_line(attribute)));
        grants.extend(
            json::<Vec<String>>(databases)?
                .iter()
                .map(|database| match database.as_str() {
                    "" => "direct privileges on the cluster's own objects".to_owned(),
                    database => format!("direct privileges in database {database}"),
                }),
        );
        grants.sort();
        grants.dedup();
        let status = match (is_true(can_login), is_true(lapsed)) {
            (false, _) => PrincipalStatus::Disabled,
            (true, true) => PrincipalStatus::Expired,
            (true, false) => PrincipalStatus::Enabled,
        };
        let state = PrincipalState {
            name: name.clone().ok_or_else(garbled)?,
            key_ids: verifier.iter().map(|verifier| key_id(&oid, verifier)).collect(),
            immutable_id: oid,
            status,
            grants,
            expires_at: expires.as_deref().and_then(|micros| micros.parse().ok()),
            sessions: sessions.as_deref().and_then(|count| count.parse().ok()),
            privileged: is_true(privileged),
        };
        Ok(Self {
            state,
            memberships,
            attributes,
        })
    }

    /// What stripping takes away: memberships and attributes. What hangs on objects goes when the account is deleted.
    pub(super) fn removable_grants(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.memberships.iter().map(Membership::line).collect();
        lines.extend(self.attributes.iter().map(|attribute| attribute_line(attribute)));
        lines.sort();
        lines.dedup();
        lines
    }

    /// The statements that take them away.
    pub(super) fn revocations(&self, facts: &Facts) -> Result<Vec<String>> {
        let account = identifier(&self.state.name)?;
        let mut statements = Vec::new();
        for membership in &self.memberships {
            let by = match &membership.grantor {
                Some(grantor) if facts.version >= GRANTORS_COUNT => format!(" GRANTED BY {}", identifier(grantor)?),
                _ => String::new(),
            };
            statements.push(format!("REVOKE {} FROM {account}{by}", identifier(&membership.role)?));
        }
        if !self.attributes.is_empty() {
            let none: Vec<String> = self
                .attributes
                .iter()
                .map(|attribute| format!("NO{attribute}"))
                .collect();
            statements.push(format!("ALTER ROLE {account} {}", none.join(" ")));
        }
        Ok(statements)
    }
}

impl Membership {
    fn line(&self) -> String {
        let admin = if self.admin { ADMIN_OPTION } else { "" };
        format!("member of {}{admin}", self.role)
    }
}

/// Whether a grant line is a membership in this role.
pub(super) fn is_membership(grant: &str, role: &str) -> bool {
    let rest = grant
        .strip_prefix("member of ")
        .and_then(|rest| rest.strip_prefix(role));
    rest.is_some_and(|rest| rest.is_empty() || rest == ADMIN_OPTION)
}

fn attribute_line(attribute: &str) -> String {
    format!("attribute {attribute}")
}

fn json<T: DeserializeOwned>(text: &Option<String>) -> Result<T> {
    serde_json::from_str(text.as_deref().ok_or_else(garbled)?).map_err(|_| garbled())
}

fn garbled() -> ConnectorError {
    ConnectorError::protocol("the server's answer about an account is not what was asked for")
}
