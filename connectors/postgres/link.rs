//! One connection to a server: messages in and out, queries as text and prepared ones. It knows no SQL, no account and no verdict.
//!
//! The codec is `postgres_protocol`; what drives it is ours, because the drivers built on it answer a request for a clear
//! or MD5 password with the password, and do not say whether a statement had been sent when a connection broke.

use std::pin::Pin;
use std::task::Poll;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{DataRowBody, ErrorResponseBody, Header, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::ask::{Ask, Prepared};
use super::scram::ScramError;
use super::tls::TlsError;

/// No message of a login is near this size, and no row that this connector asks for.
const LONGEST_MESSAGE: usize = 16 << 20;
const LONGEST_LOGIN_MESSAGE: usize = 64 << 10;

/// A byte stream, encrypted or not.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// How far a login had come. A refusal means something only after the secret's proof was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    BeforeProof,
    ProofShown,
    Authenticated,
}

/// An error that the server itself reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerError {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) detail: Option<String>,
    /// The server ends the connection with it (`FATAL`, `PANIC`).
    pub(super) fatal: bool,
    pub(super) phase: Phase,
}

/// What can happen to a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("connecting failed")]
    Connect(#[source] std::io::Error),
    #[error("the server does not speak TLS, and nothing is sent in clear")]
    NoTls,
    #[error("TLS could not be established")]
    Tls(#[source] TlsError),
    #[error("no answer in time")]
    TimedOut,
    #[error("the connection broke")]
    Broken(#[source] std::io::Error),
    #[error("the server answered {}: {}", .0.code, .0.message)]
    Server(ServerError),
    #[error("the server asks for {0}; only SCRAM-SHA-256 is ever answered, so nothing was sent")]
    Downgrade(&'static str),
    #[error("the server offers no channel binding (SCRAM-SHA-256-PLUS) over TLS, so nothing was sent")]
    NoChannelBinding,
    #[error("the login exchange failed")]
    Scram(#[source] ScramError),
    #[error("the server's answer could not be understood: {0}")]
    Garbled(String),
}

/// Rows of one statement, as text; `None` is NULL.
pub(super) type Rows = Vec<Vec<Option<String>>>;

/// A connection that is past its login.
pub(super) struct Link {
    io: Box<dyn Io>,
    inbox: BytesMut,
    prepared: Prepared,
    longest: usize,
    phase: Phase,
    /// The server's transaction status: `I` idle, `T` in a transaction, `E` in a failed one.
    status: u8,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(io: Box<dyn Io>) -> Self {
        Self {
            io,
            inbox: BytesMut::new(),
            prepared: Prepared::default(),
            longest: LONGEST_LOGIN_MESSAGE,
            phase: Phase::BeforeProof,
            status: 0,
        }
    }

    pub(super) fn proof_shown(&mut self) {
        self.phase = Phase::ProofShown;
    }

    pub(super) fn authenticated(&mut self) {
        self.phase = Phase::Authenticated;
        self.longest = LONGEST_MESSAGE;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.status == b'I'
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.io.write_all(bytes).await.map_err(LinkError::Broken)?;
        self.io.flush().await.map_err(LinkError::Broken)
    }

    /// The next message that is no notice. An error that the server reports is an `Err`.
    pub(super) async fn receive(&mut self) -> Result<Message, LinkError> {
        loop {
            match self.receive_any().await? {
                Message::NoticeResponse(_) | Message::ParameterStatus(_) | Message::NotificationResponse(_) => {}
                Message::ErrorResponse(body) => return Err(LinkError::Server(server_error(&body, self.phase)?)),
                message => return Ok(message),
            }
        }
    }

    async fn receive_any(&mut self) -> Result<Message, LinkError> {
        loop {
            let header = Header::parse(&self.inbox).map_err(garbled)?;
            if header.is_some_and(|header| usize::try_from(header.len()).is_ok_and(|length| length > self.longest)) {
                return Err(LinkError::Garbled("a message is longer than any real one".to_owned()));
            }
            if let Some(message) = Message::parse(&mut self.inbox).map_err(garbled)? {
                return Ok(message);
            }
            if self.io.read_buf(&mut self.inbox).await.map_err(LinkError::Broken)? == 0 {
                let end = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(LinkError::Broken(end));
            }
        }
    }

    /// Waits for the end of the start-up or of a query.
    pub(super) async fn receive_ready(&mut self) -> Result<(), LinkError> {
        loop {
            match self.receive().await? {
                Message::ReadyForQuery(body) => {
                    self.status = body.status();
                    return Ok(());
                }
                Message::BackendKeyData(_) => {}
                _ => return Err(LinkError::Garbled("an unexpected message at the start-up".to_owned())),
            }
        }
    }

    /// Runs a batch of statements in one round trip. Answers the rows of each query in it; what changes something has none.
    ///
    /// After an error the connection is only good for being dropped, and the server rolls back what was open.
    pub(super) async fn batch(&mut self, sql: &str) -> Result<Vec<Rows>, LinkError> {
        let mut outbox = BytesMut::new();
        frontend::query(sql, &mut outbox).map_err(garbled)?;
        self.send(&outbox).await?;
        self.receive_results().await
    }

    /// The same with prepared statements. Without a BEGIN among them they are one transaction.
    pub(super) async fn ask(&mut self, asks: &[Ask]) -> Result<Vec<Rows>, LinkError> {
        let mut outbox = BytesMut::new();
        for ask in asks {
            self.prepared.write(ask, &mut outbox).map_err(garbled)?;
        }
        frontend::sync(&mut outbox);
        self.send(&outbox).await?;
        self.receive_results().await
    }

    async fn receive_results(&mut self) -> Result<Vec<Rows>, LinkError> {
        let mut results = Vec::new();
        let mut rows = Rows::new();
        loop {
            match self.receive().await? {
                Message::DataRow(body) => rows.push(row(&body)?),
                Message::CommandComplete(body) => {
                    if !rows.is_empty() || body.tag().map_err(garbled)?.starts_with("SELECT ") {
                        results.push(std::mem::take(&mut rows));
                    }
                }
                Message::RowDescription(_)
                | Message::ParseComplete
                | Message::BindComplete
                | Message::EmptyQueryResponse => {}
                Message::ReadyForQuery(body) => {
                    self.status = body.status();
                    return Ok(results);
                }
                _ => {
                    return Err(LinkError::Garbled(
                        "an unexpected message in a query's answer".to_owned(),
                    ));
                }
            }
        }
    }

    /// True while the server has neither closed an idle connection nor sent anything on it.
    pub(super) async fn is_quiet(&mut self) -> bool {
        let mut byte = [0_u8; 1];
        let io = &mut self.io;
        std::future::poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut byte);
            Poll::Ready(Pin::new(&mut *io).poll_read(context, &mut buffer).is_pending())
        })
        .await
    }

    /// Says good-bye, so that the server's log holds no broken connection. What goes wrong here does not matter.
    pub(super) async fn close(mut self) {
        let mut outbox = BytesMut::new();
        frontend::terminate(&mut outbox);
        drop(self.send(&outbox).await);
        drop(self.io.shutdown().await);
    }
}

pub(super) fn garbled(error: std::io::Error) -> LinkError {
    LinkError::Garbled(error.to_string())
}

fn row(body: &DataRowBody) -> Result<Vec<Option<String>>, LinkError> {
    let mut ranges = body.ranges();
    let mut columns = Vec::new();
    while let Some(range) = ranges.next().map_err(garbled)? {
        columns.push(match range {
            None => None,
            Some(range) => {
                let bytes = body.buffer().get(range).unwrap_or_default();
                let text = std::str::from_utf8(bytes).map_err(|_| LinkError::Garbled("a value is not UTF-8".into()))?;
                Some(text.to_owned())
            }
        });
    }
    Ok(columns)
}

fn server_error(body: &ErrorResponseBody, phase: Phase) -> Result<ServerError, LinkError> {
    let mut error = ServerError {
        code: String::new(),
        message: String::new(),
        detail: None,
        fatal: false,
        phase,
    };
    let mut fields = body.fields();
    while let Some(field) = fields.next().map_err(garbled)? {
        // The message is in the server's language and encoding; nothing is decided by it.
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => error.code = value,
            b'M' => error.message = value,
            b'D' => error.detail = Some(value),
            // `V` is the severity that is never translated.
            b'V' => error.fatal = value == "FATAL" || value == "PANIC",
            _ => {}
        }
    }
    Ok(error)
}
