//! What a manifest may say about a PostgreSQL system and about an identity on it, checked without any I/O.

use std::net::IpAddr;

use keyfall_sdk::{ConfigProblem, ServerGrants, SystemSpec, TlsMode, VantageRole};
use serde::Deserialize;
use serde_json::Value;

use super::quote::name_problem;
use super::tls;

/// `options` of a system.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Options {
    /// Where credentials are tried.
    pub(super) database: String,
    /// Where Keyfall's own account works. Roles belong to the whole cluster, so any database will do.
    pub(super) admin_database: Option<String>,
    /// Vantages that are poolers: they show no sessions of their own, and the admin account does not log in there.
    pub(super) poolers: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            database: "postgres".to_owned(),
            admin_database: None,
            poolers: Vec::new(),
        }
    }
}

impl Options {
    pub(super) fn parse(options: &Value) -> Result<Self, String> {
        match options {
            Value::Null => Ok(Self::default()),
            options => Self::deserialize(options).map_err(|error| error.to_string()),
        }
    }

    pub(super) fn admin_database(&self) -> &str {
        self.admin_database.as_deref().unwrap_or(&self.database)
    }
}

/// `access` of an identity: what its accounts can do. Empty for an account that can log in and nothing else.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Access {
    /// The group role that all accounts of the identity act as, and that owns what they create.
    pub(super) owner: Option<String>,
    /// Roles whose rights the identity has.
    pub(super) member_of: Vec<String>,
}

impl Access {
    pub(super) fn parse(access: &Value) -> Result<Self, String> {
        match access {
            Value::Null => Ok(Self::default()),
            access => Self::deserialize(access).map_err(|error| error.to_string()),
        }
    }
}

/// One line for each thing that is wrong with an identity's `access`.
pub(super) fn access_problems(access: &Value) -> Vec<String> {
    let access = match Access::parse(access) {
        Ok(access) => access,
        Err(error) => return vec![format!("access: {error}")],
    };
    let mut problems: Vec<String> = access
        .owner
        .iter()
        .filter_map(|owner| name_problem(owner).map(|problem| format!("access.owner: {problem}")))
        .collect();
    if access.owner.as_deref().is_some_and(|owner| owner.starts_with("pg_")) {
        problems.push("access.owner: names that begin with pg_ belong to PostgreSQL; choose another".to_owned());
    }
    for (index, role) in access.member_of.iter().enumerate() {
        if let Some(problem) = name_problem(role) {
            problems.push(format!("access.memberOf[{index}]: {problem}"));
        }
        if access.owner.as_ref() == Some(role) {
            problems.push(format!(
                "access.memberOf[{index}]: the owner cannot be a member of itself; leave it out"
            ));
        }
    }
    problems
}

/// Everything that is wrong with a system's configuration.
pub(super) fn problems(spec: &SystemSpec, grants: &ServerGrants) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    check_vantages(spec, grants, &mut problems);
    check_tls(spec, &mut problems);
    match Options::parse(&spec.options) {
        Ok(options) => check_options(spec, &options, &mut problems),
        Err(error) => add(&mut problems, "options", error),
    }
    problems
}

fn add(problems: &mut Vec<ConfigProblem>, at: impl Into<String>, message: impl Into<String>) {
    problems.push(ConfigProblem {
        at: at.into(),
        message: message.into(),
    });
}

fn check_vantages(spec: &SystemSpec, grants: &ServerGrants, problems: &mut Vec<ConfigProblem>) {
    if !spec.vantages.iter().any(|vantage| vantage.role == VantageRole::Control) {
        add(
            problems,
            "vantages",
            "no vantage has the role `control`; name the primary server",
        );
    }
    for (index, vantage) in spec.vantages.iter().enumerate() {
        let at = |field: &str| format!("vantages[{index}].{field}");
        if vantage.name.is_empty() {
            add(problems, at("name"), "the name is empty");
        }
        if spec.vantages.iter().take(index).any(|other| other.name == vantage.name) {
            add(
                problems,
                at("name"),
                format!("the name {:?} is used twice", vantage.name),
            );
        }
        if vantage.host.is_empty() || vantage.host.starts_with('/') {
            add(
                problems,
                at("host"),
                "write a host name or an address; sockets in the file system are not supported",
            );
        }
        if vantage.port == 0 {
            add(
                problems,
                at("port"),
                "port 0 cannot be connected to; PostgreSQL usually listens on 5432",
            );
        }
        if spec.tls == TlsMode::Off && !is_loopback(&vantage.host) && !grants.plaintext_hosts.contains(&vantage.host) {
            add(
                problems,
                at("host"),
                format!(
                    "{:?} is not a loopback address: set `tls: verify`, or allow the host by name in the server's own configuration",
                    vantage.host
                ),
            );
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn check_tls(spec: &SystemSpec, problems: &mut Vec<ConfigProblem>) {
    match (&spec.tls_ca, spec.tls) {
        (Some(_), TlsMode::Off) => add(
            problems,
            "tlsCa",
            "`tlsCa` has no meaning with `tls: off`; remove one of them",
        ),
        (Some(pem), TlsMode::Verify) => {
            if let Err(error) = tls::authorities(pem) {
                add(problems, "tlsCa", error.to_string());
            }
        }
        (None, _) => {}
    }
}

fn check_options(spec: &SystemSpec, options: &Options, problems: &mut Vec<ConfigProblem>) {
    for (at, name) in [
        ("options.database", Some(&options.database)),
        ("options.adminDatabase", options.admin_database.as_ref()),
    ] {
        if let Some(problem) = name.and_then(|name| name_problem(name)) {
            add(problems, at, problem);
        }
    }
    let control = spec
        .vantages
        .iter()
        .find(|vantage| vantage.role == VantageRole::Control);
    for (index, pooler) in options.poolers.iter().enumerate() {
        let at = format!("options.poolers[{index}]");
        if !spec.vantages.iter().any(|vantage| &vantage.name == pooler) {
            add(problems, at, format!("no vantage has the name {pooler:?}"));
        } else if control.is_some_and(|control| &control.name == pooler) {
            add(
                problems,
                at,
                "changes cannot be made through a pooler; name the primary as `control`",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use keyfall_sdk::{ServerGrants, SystemSpec};
    use serde_json::json;

    use super::{access_problems, problems};

    fn places(spec: serde_json::Value) -> Vec<String> {
        let spec: SystemSpec = serde_json::from_value(spec).unwrap();
        let grants = ServerGrants {
            plaintext_hosts: vec!["db.lab".to_owned()],
            ..ServerGrants::default()
        };
        problems(&spec, &grants).into_iter().map(|problem| problem.at).collect()
    }

    #[test]
    fn clear_text_stays_on_the_machine_unless_the_server_allows_the_host() {
        let spec = |host: &str| json!({"connector": "postgres", "tls": "off", "vantages": [{"name": "primary", "host": host, "port": 5432}]});
        for host in ["127.0.0.1", "::1", "localhost", "db.lab"] {
            assert_eq!(places(spec(host)), Vec::<String>::new(), "{host}");
        }
        assert_eq!(places(spec("db.example.org")), ["vantages[0].host"]);
        assert_eq!(places(spec("127.0.0.1.example.org")), ["vantages[0].host"]);
    }

    #[test]
    fn each_problem_is_named_with_its_place() {
        let spec = json!({"connector": "postgres", "tlsCa": "no pem", "options": {"poolers": ["x", "a"], "database": ""},
            "vantages": [{"name": "a", "host": "h", "port": 0}, {"name": "a", "role": "probe", "host": "/tmp", "port": 1}]});
        assert_eq!(
            places(spec),
            [
                "vantages[0].port",
                "vantages[1].name",
                "vantages[1].host",
                "tlsCa",
                "options.database",
                "options.poolers[0]",
                "options.poolers[1]"
            ]
        );
        assert_eq!(
            places(json!({"connector": "postgres", "options": {"databse": "x"}})),
            ["vantages", "options"]
        );
    }

    #[test]
    fn access_is_checked_by_word_and_name() {
        assert!(access_problems(&json!(null)).is_empty());
        assert!(access_problems(&json!({"owner": "app", "memberOf": ["reader"]})).is_empty());
        assert_eq!(access_problems(&json!({"owners": "app"})).len(), 1);
        assert_eq!(
            access_problems(&json!({"owner": "pg_app", "memberOf": ["", "pg_app"]})).len(),
            3
        );
    }
}
