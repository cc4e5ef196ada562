//! A line between one node and the database that can be cut: either both ends learn of it, or nothing arrives any more and nobody says so.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::time::Duration;

const OPEN: u8 = 0;
const SILENT: u8 = 1;
const CLOSED: u8 = 2;
/// How soon a connection learns that the line was cut or healed.
const LOOK: Duration = Duration::from_millis(20);

/// How a line is cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cut {
    /// What is sent waits on the way.
    Silent,
    /// Connections end, and new ones are refused.
    Closed,
}

#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) port: u16,
    line: Arc<Line>,
}

struct Line {
    state: AtomicU8,
    target: AtomicU16,
}

impl Proxy {
    pub(super) fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let line = Arc::new(Line {
            state: AtomicU8::new(OPEN),
            target: AtomicU16::new(target),
        });
        let accepting = Arc::clone(&line);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let line = Arc::clone(&accepting);
                std::thread::spawn(move || carry(&stream, &line));
            }
        });
        Self { port, line }
    }

    pub(super) fn cut(&self, cut: Cut) {
        let state = match cut {
            Cut::Silent => SILENT,
            Cut::Closed => CLOSED,
        };
        self.line.state.store(state, Ordering::SeqCst);
    }

    pub(super) fn heal(&self) {
        self.line.state.store(OPEN, Ordering::SeqCst);
    }

    /// From here on it leads there. Connections that lead elsewhere end by themselves, with their server.
    pub(super) fn lead_to(&self, target: u16) {
        self.line.target.store(target, Ordering::SeqCst);
    }
}

fn carry(near: &TcpStream, line: &Arc<Line>) {
    if !line.is_open_before_long() {
        return;
    }
    let Ok(far) = TcpStream::connect(("127.0.0.1", line.target.load(Ordering::SeqCst))) else {
        return;
    };
    std::thread::scope(|scope| {
        scope.spawn(|| copy(near, &far, line));
        copy(&far, near, line);
    });
}

impl Line {
    /// Waits while the line is silent; whether it is open then.
    fn is_open_before_long(&self) -> bool {
        loop {
            match self.state.load(Ordering::SeqCst) {
                OPEN => return true,
                CLOSED => return false,
                _ => std::thread::park_timeout(LOOK),
            }
        }
    }
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, line: &Line) {
    from.set_read_timeout(Some(LOOK)).unwrap();
    let mut bytes = [0; 16 * 1024];
    while line.is_open_before_long() {
        match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => {
                // What was read when the line was cut arrives when it is healed, or never.
                if !line.is_open_before_long() || to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
