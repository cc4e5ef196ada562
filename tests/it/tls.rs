//! Serving with a certificate: the command line over https, and nothing in clear.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::harness::{Keyfall, Person, keyfall, ran};

/// A server whose certificate for 127.0.0.1 is signed by an authority of its own, whose certificate lies at `ca.crt`.
fn with_certificate(listen: &str) -> Keyfall {
    let kf = Keyfall::init(&[]);
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| fs::write(kf.dir().join(name), text).unwrap();
    write("ca.crt", authority.pem());
    write("tls.crt", leaf.pem());
    write("tls.key", key.serialize_pem());
    let settings = fs::read_to_string(kf.config()).unwrap();
    let settings = settings.replace("127.0.0.1:0", listen);
    assert!(settings.contains(listen), "{settings}");
    fs::write(
        kf.config(),
        format!("{settings}\ntls_cert = \"tls.crt\"\ntls_key = \"tls.key\"\n"),
    )
    .unwrap();
    kf.resume();
    kf
}

/// Alice at this URL, with or without the authority.
fn status(kf: &Keyfall, url: &str, authority: bool) -> crate::harness::Ran {
    let alice = Person {
        url: url.to_owned(),
        ..kf.alice()
    };
    let mut command = alice.command();
    if authority {
        command.arg("--ca-file").arg(kf.dir().join("ca.crt"));
    }
    ran(command.arg("status"), b"")
}

#[test]
fn the_command_line_speaks_https_to_the_authority_it_was_given_only() {
    let kf = with_certificate("127.0.0.1:0");
    let url = kf.url();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let well = status(&kf, &url, true);
    assert!(well.code == 0 && well.stdout.contains("log_size"), "{well:?}");
    let unknown = status(&kf, &url, false);
    assert_eq!(unknown.code, 5, "{unknown:?}");
    let plain = status(&kf, &url.replace("https:", "http:"), true);
    assert_eq!(plain.code, 5, "{plain:?}");
    let renamed = status(&kf, &url.replace("127.0.0.1", "localhost"), true);
    assert_eq!(renamed.code, 5, "the certificate is for another name: {renamed:?}");
}

#[test]
fn with_tls_other_addresses_than_loopback_are_served() {
    let kf = with_certificate("0.0.0.0:0");
    let url = kf.url();
    assert!(url.starts_with("https://0.0.0.0:"), "{url}");
    let well = status(&kf, &url.replace("0.0.0.0", "127.0.0.1"), true);
    assert_eq!(well.code, 0, "{well:?}");
}

#[test]
fn a_key_that_does_not_fit_its_certificate_is_named_before_anything_is_served() {
    let kf = Keyfall::init(&[]);
    let pair = || {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (certificate.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let ((certificate, _), (_, key)) = (pair(), pair());
    fs::write(kf.dir().join("tls.crt"), certificate).unwrap();
    fs::write(kf.dir().join("tls.key"), key).unwrap();
    kf.add_settings("tls_cert = \"tls.crt\"\ntls_key = \"tls.key\"");
    let refused = ran(&mut kf.serve_command(), b"");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("does not fit the certificate"), "{refused:?}");
    fs::write(kf.dir().join("tls.key"), "rubbish").unwrap();
    let refused = ran(&mut kf.serve_command(), b"");
    assert!(refused.stderr.contains("holds no usable PEM"), "{refused:?}");
    // A client that is to trust rubbish is told so.
    let rubbish = kf.dir().join("tls.key").display().to_string();
    let refused = ran(
        keyfall().args(["--server", "https://127.0.0.1:9", "--ca-file", &rubbish, "status"]),
        b"",
    );
    assert!(
        refused.code != 0 && refused.stderr.contains("no certificate in PEM"),
        "{refused:?}"
    );
}
