//! What a Redis system's manifest may say. Pure: it looks at the text only, never at the network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use keyfall_sdk::{ConfigProblem, ServerGrants, SystemSpec, TlsMode, Vantage, VantageRole};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::Error as _;

pub(super) fn check(spec: &SystemSpec, grants: &ServerGrants) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    check_vantages(spec, grants, &mut problems);
    check_tls(spec, &mut problems);
    match spec.options.as_object() {
        Some(options) => problems.extend(options.keys().map(|key| {
            let unknown = serde_json::Error::unknown_field(key, &[]);
            problem("options", &unknown.to_string())
        })),
        None if spec.options.is_null() => {}
        None => problems.push(problem("options", "Redis has no options; remove this key")),
    }
    problems
}

fn check_vantages(spec: &SystemSpec, grants: &ServerGrants, problems: &mut Vec<ConfigProblem>) {
    if !spec.vantages.iter().any(|v| v.role == VantageRole::Control) {
        problems.push(problem(
            "vantages",
            "list every node of the deployment, each with role `control`: nodes do not pass ACL changes on to each other",
        ));
    }
    let mut names = BTreeSet::new();
    for (index, vantage) in spec.vantages.iter().enumerate() {
        let at = format!("vantages[{index}]");
        if vantage.name.is_empty() || !names.insert(vantage.name.as_str()) {
            problems.push(problem(&format!("{at}.name"), "give every vantage a name of its own"));
        }
        if vantage.host.is_empty() || vantage.host.chars().any(|c| c.is_whitespace() || c.is_control()) {
            problems.push(problem(&format!("{at}.host"), "write a host name or an address"));
        }
        if vantage.port == 0 {
            problems.push(problem(
                &format!("{at}.port"),
                "write the port that the node listens on, for example 6379",
            ));
        }
        if spec.tls == TlsMode::Off && !may_be_plain(vantage, grants) {
            problems.push(problem(
                &format!("{at}.host"),
                "`tls: off` is accepted for loopback addresses only; use `tls: verify`, or have the server's own \
                 configuration list this host under its plain-text hosts",
            ));
        }
    }
}

fn check_tls(spec: &SystemSpec, problems: &mut Vec<ConfigProblem>) {
    let Some(pem) = &spec.tls_ca else { return };
    if spec.tls == TlsMode::Off {
        problems.push(problem(
            "tlsCa",
            "has no meaning with `tls: off`; remove one of the two",
        ));
        return;
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    if !certificates.is_ok_and(|list| !list.is_empty()) {
        problems.push(problem("tlsCa", "must be one or more certificates in PEM"));
    }
}

/// `localhost` counts as loopback; any other name may resolve to anywhere and does not.
fn may_be_plain(vantage: &Vantage, grants: &ServerGrants) -> bool {
    let host = vantage.host.as_str();
    host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || grants.plaintext_hosts.iter().any(|allowed| allowed == host)
}

fn problem(at: &str, message: &str) -> ConfigProblem {
    ConfigProblem {
        at: at.to_owned(),
        message: message.to_owned(),
    }
}
