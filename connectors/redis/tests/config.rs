//! What a manifest may say.

use keyfall_sdk::{ConnectorKind, ServerGrants, TlsMode};
use serde_json::json;

use super::server::spec;
use crate::redis::RedisKind;

fn places(spec: &keyfall_sdk::SystemSpec, grants: &ServerGrants) -> Vec<String> {
    RedisKind
        .check(spec, grants)
        .into_iter()
        .map(|problem| problem.at)
        .collect()
}

#[test]
fn each_mistake_is_named_where_it_stands() {
    let none = ServerGrants::default();
    assert_eq!(places(&spec(&[("primary", 6379)]), &none), Vec::<String>::new());
    assert_eq!(places(&spec(&[]), &none), ["vantages"]);
    assert_eq!(places(&spec(&[("a", 1), ("a", 2)]), &none), ["vantages[1].name"]);
    assert_eq!(places(&spec(&[("a", 0)]), &none), ["vantages[0].port"]);

    let mut options = spec(&[("a", 1)]);
    options.options = json!({ "persist": false });
    assert_eq!(places(&options, &none), ["options"]);

    let mut ca = spec(&[("a", 1)]);
    ca.tls_ca = Some("no certificate".to_owned());
    assert_eq!(places(&ca, &none), ["tlsCa"]);
    ca.tls = TlsMode::Verify;
    assert_eq!(places(&ca, &none), ["tlsCa"]);
}

#[test]
fn plain_text_is_for_loopback_and_for_hosts_that_the_server_names() {
    let none = ServerGrants::default();
    for (host, allowed) in [
        ("127.0.0.1", true),
        ("127.9.9.9", true),
        ("::1", true),
        ("localhost", true),
        ("localhost.example.org", false),
        ("10.0.0.1", false),
        ("cache.example.org", false),
    ] {
        let mut spec = spec(&[("a", 6379)]);
        spec.vantages[0].host = host.to_owned();
        assert_eq!(places(&spec, &none).is_empty(), allowed, "{host}");
        spec.tls = TlsMode::Verify;
        assert!(places(&spec, &none).is_empty(), "{host}");
    }
    let granted = ServerGrants {
        plaintext_hosts: vec!["cache.example.org".to_owned()],
        ..ServerGrants::default()
    };
    let mut spec = spec(&[("a", 6379)]);
    spec.vantages[0].host = "cache.example.org".to_owned();
    assert!(places(&spec, &granted).is_empty());
}
