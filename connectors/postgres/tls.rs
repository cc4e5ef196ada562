//! TLS towards a server: the configuration, the handshake, and the certificate hash that SCRAM binds to. There is no mode
//! between "verified" and "off", and nothing here falls back.

use std::sync::{Arc, OnceLock};

use ring::digest;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_cert::der::Decode as _;

use super::scram::ChannelBinding;

/// Why TLS was not established, or cannot carry a login.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("`tlsCa` holds no readable PEM certificate")]
    NoAuthority,
    #[error("the TLS configuration is unusable")]
    Configuration(#[source] rustls::Error),
    #[error("the machine's trust store cannot be used: {0}")]
    TrustStore(String),
    #[error("{0:?} is no host name that a certificate can be checked against")]
    HostName(String),
    #[error("the TLS handshake failed")]
    Handshake(#[source] std::io::Error),
    #[error("the server's certificate is signed in a way that no channel binding is defined for (Ed25519, RSA-PSS)")]
    Unbindable,
}

/// The TLS side of a system. The trust store is read at the first connection, because building a connector does no I/O.
#[derive(Debug)]
pub(super) struct Tls {
    authorities: Option<String>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    pub(super) fn new(authorities: Option<String>) -> Self {
        Self {
            authorities,
            config: OnceLock::new(),
        }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(client_config(self.authorities.as_deref())?);
        Ok(Arc::clone(self.config.get_or_init(|| config)))
    }

    /// Encrypts the connection and checks the certificate against the host.
    pub(super) async fn establish(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, ChannelBinding), TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::HostName(host.to_owned()))?;
        let stream = TlsConnector::from(self.config()?)
            .connect(name, stream)
            .await
            .map_err(TlsError::Handshake)?;
        let (_, connection) = stream.get_ref();
        let binding = connection
            .peer_certificates()
            .and_then(<[_]>::first)
            .and_then(|certificate| end_point_hash(certificate))
            .ok_or(TlsError::Unbindable)?;
        Ok((stream, binding))
    }
}

/// Certificates of a PEM text.
pub(super) fn authorities(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| TlsError::NoAuthority)?;
        roots.add(certificate).map_err(TlsError::Configuration)?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoAuthority);
    }
    Ok(roots)
}

fn client_config(pem: Option<&str>) -> Result<ClientConfig, TlsError> {
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Configuration)?;
    if let Some(pem) = pem {
        return Ok(builder.with_root_certificates(authorities(pem)?).with_no_client_auth());
    }
    let verifier =
        rustls_platform_verifier::Verifier::new(provider).map_err(|error| TlsError::TrustStore(error.to_string()))?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// RFC 5929 §4.1: the hash of the certificate's own signature, with MD5 and SHA-1 raised to SHA-256.
fn end_point_hash(certificate: &CertificateDer<'_>) -> Option<ChannelBinding> {
    let parsed = x509_cert::Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.oid.to_string().as_str() {
        // md5/sha1/sha256WithRSAEncryption, ecdsa-with-SHA1/SHA256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => &digest::SHA256,
        // sha384WithRSAEncryption, ecdsa-with-SHA384.
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        // sha512WithRSAEncryption, ecdsa-with-SHA512.
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}
