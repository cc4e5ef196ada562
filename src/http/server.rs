//! Listening, with TLS or on loopback, and stopping gracefully: no new connection, requests under way are answered, event streams end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use super::GRACE;

/// A request's head must have come by then; an idle connection is closed.
const HEAD_LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "{address} is no loopback address, and nothing but loopback is served without TLS: give tls_cert and tls_key, or listen on 127.0.0.1"
    )]
    PlainText { address: SocketAddr },
    #[error("cannot listen on {address}: choose another port with listen, or stop who has it")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("{} holds no usable PEM", path.display())]
    Pem {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("the TLS key does not fit the certificate")]
    Tls(#[source] rustls::Error),
    #[error("the server stopped")]
    Serve(#[source] io::Error),
}

/// PEM files of the server's certificate (with its chain) and key.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A bound address, not yet served.
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<RustlsConfig>,
}

impl Listening {
    /// Binds, so that an address in use is found before anything is started.
    ///
    /// # Errors
    /// The address is open to others and there is no TLS; it is in use; the TLS files cannot be used.
    pub fn bind(address: SocketAddr, tls: Option<&TlsFiles>) -> Result<Self, ServeError> {
        if tls.is_none() && !address.ip().is_loopback() {
            return Err(ServeError::PlainText { address });
        }
        let tls = tls.map(tls_config).transpose()?;
        let failed = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls })
    }

    /// With the port that was taken.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}

fn tls_config(files: &TlsFiles) -> Result<RustlsConfig, ServeError> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| ServeError::Pem { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(pem(&files.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(pem(&files.key))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(ServeError::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

/// Serves until it is told to stop; then waits for what is under way, no longer than a grace.
///
/// # Errors
/// The listener fails.
pub async fn serve(listening: Listening, router: Router, stopping: CancellationToken) -> Result<(), ServeError> {
    let handle = Handle::new();
    let stopper = handle.clone();
    tokio::spawn(async move {
        stopping.cancelled().await;
        stopper.graceful_shutdown(Some(GRACE));
    });
    let service = router.into_make_service();
    let Listening { listener, tls, .. } = listening;
    match tls {
        Some(tls) => {
            let mut server = axum_server::from_tcp_rustls(listener, tls).map_err(ServeError::Serve)?;
            limit(&mut server);
            server.handle(handle).serve(service).await
        }
        None => {
            let mut server = axum_server::from_tcp(listener).map_err(ServeError::Serve)?;
            limit(&mut server);
            server.handle(handle).serve(service).await
        }
    }
    .map_err(ServeError::Serve)
}

fn limit<A>(server: &mut axum_server::Server<SocketAddr, A>) {
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT);
}
