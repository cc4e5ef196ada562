//! TLS: the certificate decides whether anything is sent at all.

use std::sync::Arc;

use keyfall_sdk::{
    AdminCredential, Connector, ConnectorKind, ErrorKind, InconclusiveWhy, ServerGrants, SystemSpec, TlsMode, Verdict,
};

use super::server::{ADMIN, ADMIN_PASSWORD, Keeps, Server, context, issue, probe, secret, spec, unrecorded};
use crate::redis::RedisKind;

const ONE: &str = "first-password-0123456789abcdef";

fn connect(spec: &SystemSpec) -> Arc<dyn Connector> {
    let admin = AdminCredential {
        username: ADMIN.to_owned(),
        secret: secret(ADMIN_PASSWORD),
    };
    RedisKind.connect(spec, Some(admin), &ServerGrants::default()).unwrap()
}

#[tokio::test]
async fn only_the_expected_certificate_sees_a_password() {
    let server = Server::start_with(Keeps::AclFileAndTls).await;
    let mut verified = spec(&[("primary", server.tls_port)]);
    verified.tls = TlsMode::Verify;
    verified.tls_ca = Some(server.certificate());
    let connector = connect(&verified);
    issue(&connector, unrecorded(), ONE).await;
    assert!(probe(&connector, "primary", ONE).await.is_accepted());
    assert!(probe(&connector, "primary", "another").await.is_refused());

    let mut strangers = verified.clone();
    strangers.tls_ca = Some(Server::start_with(Keeps::AclFileAndTls).await.certificate());
    let mut machine = verified.clone();
    machine.tls_ca = None;
    let mut other_name = verified;
    other_name.vantages[0].host = "localhost".to_owned();
    for (name, spec) in [
        ("another authority", strangers),
        ("the machine's own store", machine),
        ("another host name", other_name),
    ] {
        let connector = connect(&spec);
        let verdict = probe(&connector, "primary", ONE).await;
        assert!(
            matches!(
                verdict,
                Verdict::Inconclusive {
                    why: InconclusiveWhy::Unreachable,
                    ..
                }
            ),
            "{name}: {verdict:?}"
        );
        let error = connector.inventory().unwrap().list(&context()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{name}: {error}");
    }
}
