//! Opening a connection: TCP, TLS where the system demands it, start-up, SCRAM. The only code that shows a secret to a
//! server, and it shows a SCRAM proof or nothing.
//!
//! | server asks for                     | without TLS     | over TLS                |
//! |-------------------------------------|-----------------|-------------------------|
//! | SCRAM-SHA-256-PLUS                  | not offered     | SCRAM, bound to the TLS |
//! | SCRAM-SHA-256                       | SCRAM, unbound  | refused                 |
//! | nothing (`trust`), clear text, MD5, GSS… | refused    | refused                 |

use std::sync::Arc;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use keyfall_sdk::SecretValue;
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::keys::SaltedKeys;
use super::link::{Io, Link, LinkError, garbled};
use super::scram::{ChannelBinding, Exchange};
use super::tls::Tls;

/// Where to connect, and how the connection is protected. `tls: None` is plain text, which the configuration allowed.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) vantage: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) keys: Arc<SaltedKeys>,
}

impl Target {
    /// The address as people write it.
    pub(super) fn endpoint(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Who logs in, and into what.
#[derive(Debug)]
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) secret: &'a SecretValue,
    pub(super) database: &'a str,
    /// What the server's log and `pg_stat_activity` show.
    pub(super) application: &'a str,
}

/// A fresh, authenticated connection.
pub(super) async fn open(target: &Target, login: &Login<'_>) -> Result<Link, LinkError> {
    let (io, binding) = connect(target).await?;
    let mut link = Link::new(io);
    let mut outbox = BytesMut::new();
    let parameters = [
        ("user", login.user),
        ("database", login.database),
        ("application_name", login.application),
        ("client_encoding", "UTF8"),
    ];
    frontend::startup_message(parameters, &mut outbox).map_err(garbled)?;
    link.send(&outbox).await?;
    authenticate(&mut link, binding, login.secret, &target.keys).await?;
    link.receive_ready().await?;
    Ok(link)
}

async fn connect(target: &Target) -> Result<(Box<dyn Io>, Option<ChannelBinding>), LinkError> {
    let mut stream = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(LinkError::Connect)?;
    stream.set_nodelay(true).map_err(LinkError::Connect)?;
    let Some(tls) = &target.tls else {
        return Ok((Box::new(stream), None));
    };
    let mut outbox = BytesMut::new();
    frontend::ssl_request(&mut outbox);
    stream.write_all(&outbox).await.map_err(LinkError::Broken)?;
    if stream.read_u8().await.map_err(LinkError::Broken)? != b'S' {
        return Err(LinkError::NoTls);
    }
    let (stream, binding) = tls.establish(&target.host, stream).await.map_err(LinkError::Tls)?;
    Ok((Box::new(stream), Some(binding)))
}

async fn authenticate(
    link: &mut Link,
    binding: Option<ChannelBinding>,
    secret: &SecretValue,
    keys: &SaltedKeys,
) -> Result<(), LinkError> {
    match link.receive().await? {
        Message::AuthenticationSasl(body) => check_mechanism(&body, binding.is_some())?,
        Message::AuthenticationOk => return Err(LinkError::Downgrade("no password at all (`trust`)")),
        Message::AuthenticationCleartextPassword => return Err(LinkError::Downgrade("the password in clear text")),
        Message::AuthenticationMd5Password(_) => return Err(LinkError::Downgrade("an MD5 hash of the password")),
        Message::AuthenticationGss | Message::AuthenticationSspi | Message::AuthenticationKerberosV5 => {
            return Err(LinkError::Downgrade("a Kerberos ticket"));
        }
        _ => {
            return Err(LinkError::Garbled(
                "an unexpected message instead of a login request".to_owned(),
            ));
        }
    }
    let exchange = Exchange::new(binding).map_err(LinkError::Scram)?;
    let mut outbox = BytesMut::new();
    frontend::sasl_initial_response(exchange.mechanism(), exchange.first().as_bytes(), &mut outbox).map_err(garbled)?;
    link.send(&outbox).await?;

    let Message::AuthenticationSaslContinue(body) = link.receive().await? else {
        return Err(LinkError::Garbled("no SCRAM challenge".to_owned()));
    };
    let challenge = exchange.challenge(body.data()).map_err(LinkError::Scram)?;
    let key = keys.derive(secret, &challenge.salt, challenge.iterations).await;
    let proof = exchange.prove(&challenge, &key);
    outbox.clear();
    frontend::sasl_response(proof.message.as_bytes(), &mut outbox).map_err(garbled)?;
    link.proof_shown();
    link.send(&outbox).await?;

    let Message::AuthenticationSaslFinal(body) = link.receive().await? else {
        return Err(LinkError::Garbled("no SCRAM outcome".to_owned()));
    };
    proof.check_server(body.data()).map_err(LinkError::Scram)?;
    // Only who accepted the proof can sign: what goes wrong from here on is not about the secret.
    link.authenticated();
    match link.receive().await? {
        Message::AuthenticationOk => Ok(()),
        _ => Err(LinkError::Garbled("no end of the login".to_owned())),
    }
}

fn check_mechanism(body: &AuthenticationSaslBody, over_tls: bool) -> Result<(), LinkError> {
    let mut mechanisms = body.mechanisms();
    let (mut plain, mut bound) = (false, false);
    while let Some(mechanism) = mechanisms.next().map_err(garbled)? {
        plain |= mechanism == "SCRAM-SHA-256";
        bound |= mechanism == "SCRAM-SHA-256-PLUS";
    }
    match (over_tls, bound, plain) {
        (true, true, _) | (false, _, true) => Ok(()),
        (true, false, true) => Err(LinkError::NoChannelBinding),
        _ => Err(LinkError::Downgrade("a SASL mechanism other than SCRAM-SHA-256")),
    }
}
