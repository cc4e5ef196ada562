//! The TLS side of the store: whose certificate is believed, and which one is shown.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::super::Result;
use super::address::{read, unusable};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The certificate itself is not looked at: a login with channel binding shows that no one is in between.
    WhoeverBindsTheLogin,
    /// Signed by an authority, whatever name is in it.
    Authority,
    AuthorityAndName,
}

pub(super) struct Certificates<'a> {
    /// Authorities that are believed instead of the machine's.
    pub(super) roots: Option<&'a Path>,
    /// A certificate to show, and its key.
    pub(super) own: Option<(&'a Path, &'a Path)>,
}

pub(super) fn config(trust: Trust, certificates: &Certificates<'_>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::WhoeverBindsTheLogin => Arc::new(Lenient {
            chain: None,
            provider: Arc::clone(&provider),
        }),
        Trust::Authority => Arc::new(Lenient {
            chain: Some(chain(&provider, certificates.roots)?),
            provider: Arc::clone(&provider),
        }),
        Trust::AuthorityAndName => chain(&provider, certificates.roots)?,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = certificates.own else {
        return Ok(builder.with_no_client_auth());
    };
    let shown = pem(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| unusable("sslkey holds no readable PEM key"))?;
    builder.with_client_auth_cert(shown, key).map_err(unusable)
}

fn pem(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path)?;
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unusable(format!(
            "{} holds no readable PEM certificate",
            path.display()
        ))),
    }
}

/// Checks the chain and the name.
fn chain(provider: &Arc<CryptoProvider>, roots: Option<&Path>) -> Result<Arc<dyn ServerCertVerifier>> {
    let Some(path) = roots else {
        let verifier = rustls_platform_verifier::Verifier::new(Arc::clone(provider)).map_err(unusable)?;
        return Ok(Arc::new(verifier));
    };
    let mut store = RootCertStore::empty();
    for certificate in pem(path)? {
        store.add(certificate).map_err(unusable)?;
    }
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
    Ok(builder.build().map_err(unusable)?)
}

/// Forgives a certificate that is made out to another name; without a chain to check, any certificate.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<dyn ServerCertVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last, when everything else was found right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
