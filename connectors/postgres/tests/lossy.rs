//! A proxy that loses the reply to a change after the server has made it.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Listens in front of a server. A message that holds every one of `marks` is passed on, its reply is awaited, and then
/// both connections are cut instead of passing the reply back.
pub(super) async fn proxy(server: u16, marks: &'static [&'static str]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            tokio::spawn(carry(client, server, marks));
        }
    });
    port
}

/// Ends when either side does, or after the reply that is lost.
async fn carry(mut client: TcpStream, mut server: TcpStream, marks: &[&str]) {
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            Ok(length) = client.read(&mut up) => {
                let message = &up[..length];
                if length == 0 || server.write_all(message).await.is_err() {
                    return;
                }
                let text = String::from_utf8_lossy(message);
                if marks.iter().all(|mark| text.contains(mark)) {
                    let made = server.read(&mut down).await;
                    assert!(made.is_ok_and(|length| length > 0), "the server did not answer the change");
                    return;
                }
            }
            Ok(length) = server.read(&mut down) => {
                if length == 0 || client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
}
