//! The way to a server on this machine, where nothing is encrypted: the password is never given to whoever asks for it in clear or as MD5. The
//! client library would answer; so the server's first word is looked at before the library hears it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NearError {
    #[error("nobody answers there")]
    Unreachable(#[source] io::Error),
    #[error("it refused the connection")]
    Refused(#[source] Error),
    #[error("it takes no writes: it is a standby")]
    Standby,
    #[error("the address names no server")]
    NoHost,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The first server of the address that takes writes.
pub(super) async fn connect(config: &Config) -> Result<Client, NearError> {
    let ports = config.get_ports();
    let mut last = NearError::NoHost;
    for (place, host) in config.get_hosts().iter().enumerate() {
        let port = ports.get(place).or(ports.first()).copied().unwrap_or(5432);
        match writer(config, host, port).await {
            Ok(client) => return Ok(client),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn writer(config: &Config, host: &Host, port: u16) -> Result<Client, NearError> {
    let io = reach(host, port).await.map_err(NearError::Unreachable)?;
    let (client, link) = config
        .connect_raw(Wary::new(io), NoTls)
        .await
        .map_err(NearError::Refused)?;
    tokio::spawn(link);
    let answers = client
        .simple_query("show transaction_read_only")
        .await
        .map_err(NearError::Refused)?;
    let is_standby = answers
        .iter()
        .any(|answer| matches!(answer, SimpleQueryMessage::Row(row) if row.get(0) == Some("on")));
    if is_standby {
        Err(NearError::Standby)
    } else {
        Ok(client)
    }
}

async fn reach(host: &Host, port: u16) -> io::Result<Box<dyn Io>> {
    Ok(match host {
        Host::Tcp(name) => {
            let stream = TcpStream::connect((name.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Host::Unix(folder) => Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?),
    })
}

/// A message's kind, its length, and what is asked for: `AuthenticationCleartextPassword` is 3, `AuthenticationMD5Password` is 5
/// (PostgreSQL 15 documentation, 55.7 "Message Formats").
const FIRST_WORD: usize = 9;

struct Wary {
    io: Box<dyn Io>,
    /// The beginning of what the server said, as far as it is not judged.
    heard: Vec<u8>,
    is_judged: bool,
}

impl Wary {
    fn new(io: Box<dyn Io>) -> Self {
        Self {
            io,
            heard: Vec::with_capacity(FIRST_WORD),
            is_judged: false,
        }
    }

    fn judge(&mut self, bytes: &[u8]) -> io::Result<()> {
        let missing = FIRST_WORD.saturating_sub(self.heard.len());
        self.heard.extend(bytes.iter().take(missing));
        self.is_judged = self.heard.len() >= FIRST_WORD;
        if matches!(*self.heard, [b'R', _, _, _, _, 0, 0, 0, 3 | 5]) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the server asks for the password in clear or as MD5, and only SCRAM is answered: give the user a SCRAM password and a `scram-sha-256` line in pg_hba.conf",
            ));
        }
        Ok(())
    }
}

impl AsyncRead for Wary {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if !self.is_judged && matches!(read, Poll::Ready(Ok(()))) {
            let said = buffer.filled().get(before..).unwrap_or_default();
            self.judge(said)?;
        }
        read
    }
}

impl AsyncWrite for Wary {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::Wary;

    /// What the server says, in pieces of one byte and whole.
    fn is_heard(words: &[u8]) -> bool {
        let wary = || Wary::new(Box::new(tokio::io::empty()));
        let mut whole = wary();
        let at_once = whole.judge(words).is_ok();
        let mut slow = wary();
        let in_pieces = words.iter().all(|byte| slow.judge(&[*byte]).is_ok());
        assert_eq!(at_once, in_pieces);
        at_once
    }

    #[test]
    fn only_scram_is_answered() {
        for (code, name) in [(3_u8, "clear"), (5, "MD5")] {
            assert!(!is_heard(&[b'R', 0, 0, 0, 12, 0, 0, 0, code, 1, 2, 3, 4]), "{name}");
        }
        // SASL, no password at all, an error, and a row that looks like a question.
        assert!(is_heard(&[b'R', 0, 0, 0, 23, 0, 0, 0, 10, b'S']));
        assert!(is_heard(&[b'R', 0, 0, 0, 8, 0, 0, 0, 0]));
        assert!(is_heard(b"E\0\0\0\x0cSFATAL\0\0"));
        assert!(is_heard(&[b'R', 0, 0, 0, 8, 0, 0, 0, 0, b'R', 0, 0, 0, 8, 0, 0, 0, 3]));
    }
}
