//! Real Redis servers of a test's own: started on a free port, killed when the test ends, however it ends.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use keyfall_sdk::{
    AdminCredential, CallContext, Connector, ConnectorKind, IssueCall, Issued, Placement, PrincipalReading,
    PrincipalRef, ProbeCall, ProbePurpose, RevokeCall, Revoked, SecretValue, ServerGrants, SystemSpec, Verdict,
};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::redis::RedisKind;

pub(super) const ADMIN: &str = "keyfall-admin";
pub(super) const ADMIN_PASSWORD: &str = "the-admin-password-of-these-tests";

/// Where a server keeps its users.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    AclFile,
    ConfigFile,
    Nothing,
    /// In the ACL file, and the server speaks TLS on a second port.
    AclFileAndTls,
}

pub(super) struct Server {
    child: Child,
    folder: tempfile::TempDir,
    pub(super) port: u16,
    pub(super) tls_port: u16,
    keeps: Keeps,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::start_with(Keeps::AclFile).await
    }

    pub(super) async fn start_with(keeps: Keeps) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let admin = format!("user {ADMIN} on >{ADMIN_PASSWORD} ~* &* +@all\n");
        let mut config = format!(
            "bind 127.0.0.1\nport {port}\nsave \"\"\ndir {}\n",
            folder.path().display()
        );
        match keeps {
            Keeps::AclFile | Keeps::AclFileAndTls => {
                std::fs::write(path("users.acl"), format!("{admin}user default off -@all\n")).unwrap();
                config.push_str(&format!("aclfile {}\n", path("users.acl")));
            }
            Keeps::ConfigFile => config.push_str(&format!("{admin}user default off -@all\n")),
            Keeps::Nothing => {}
        }
        let tls_port = free_port();
        if keeps == Keeps::AclFileAndTls {
            make_certificate(&path("tls.key"), &path("tls.crt"));
            config.push_str(&format!(
                "tls-port {tls_port}\ntls-auth-clients no\ntls-key-file {key}\ntls-cert-file {certificate}\n",
                key = path("tls.key"),
                certificate = path("tls.crt")
            ));
        }
        std::fs::write(path("redis.conf"), config).unwrap();
        let child = spawn(&folder, port, keeps);
        let server = Self {
            child,
            folder,
            port,
            tls_port,
            keeps,
        };
        if keeps == Keeps::Nothing {
            let mut bare = server.connection(None).await;
            let words = [
                "SETUSER",
                ADMIN,
                "on",
                &format!(">{ADMIN_PASSWORD}"),
                "~*",
                "&*",
                "+@all",
            ];
            redis::cmd("ACL").arg(&words).exec_async(&mut bare).await.unwrap();
        }
        server.admin().await;
        server
    }

    /// The certificate that the TLS port shows, in PEM.
    pub(super) fn certificate(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("tls.crt")).unwrap()
    }

    /// Kills the server and starts it again on the same files.
    pub(super) async fn restart(&mut self) {
        self.stop();
        self.child = spawn(&self.folder, self.port, self.keeps);
        self.admin().await;
    }

    pub(super) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(super) async fn admin(&self) -> MultiplexedConnection {
        self.connection(Some((ADMIN, ADMIN_PASSWORD))).await
    }

    /// Waits, with a bound, until the server takes a connection.
    pub(super) async fn connection(&self, login: Option<(&str, &str)>) -> MultiplexedConnection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        for _ in 0..500 {
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await {
                let Some((user, password)) = login else {
                    return connection;
                };
                let auth = redis::cmd("AUTH")
                    .arg(user)
                    .arg(password)
                    .exec_async(&mut connection)
                    .await;
                if auth.is_ok() {
                    return connection;
                }
            }
            crate::poll::wait(Duration::from_millis(10)).await;
        }
        panic!("no Redis answers on port {}", self.port);
    }

    /// One command as the administrator.
    pub(super) async fn ask(&self, words: &[&str]) -> redis::Value {
        let (command, arguments) = words.split_first().unwrap();
        let mut connection = self.admin().await;
        redis::cmd(command)
            .arg(arguments)
            .query_async(&mut connection)
            .await
            .unwrap()
    }
}

fn spawn(folder: &tempfile::TempDir, port: u16, keeps: Keeps) -> Child {
    let mut command = Command::new(program());
    match keeps {
        Keeps::Nothing => command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]),
        _ => command.arg(folder.path().join("redis.conf")),
    };
    command
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join("redis-server"))
        .find(|file| file.exists())
        .unwrap_or_else(|| {
            let cli = PathBuf::from(crate::testing::servers().text("KEYFALL_REDIS_CLI"));
            cli.with_file_name("redis-server")
        })
}

/// A certificate for 127.0.0.1 that is its own authority.
fn make_certificate(key: &str, certificate: &str) {
    let arguments = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=keyfall-test \
         -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -keyout {key} -out {certificate}"
    );
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

pub(super) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A system of these nodes, by name and port.
pub(super) fn spec(nodes: &[(&str, u16)]) -> SystemSpec {
    let vantages: Vec<Value> = nodes
        .iter()
        .map(|(name, port)| json!({ "name": name, "host": "127.0.0.1", "port": port }))
        .collect();
    serde_json::from_value(json!({ "connector": "redis", "tls": "off", "vantages": vantages })).unwrap()
}

pub(super) fn connector(nodes: &[(&str, u16)]) -> Arc<dyn Connector> {
    connector_as(nodes, ADMIN, ADMIN_PASSWORD)
}

pub(super) fn connector_as(nodes: &[(&str, u16)], user: &str, password: &str) -> Arc<dyn Connector> {
    let admin = AdminCredential {
        username: user.to_owned(),
        secret: secret(password),
    };
    RedisKind
        .connect(&spec(nodes), Some(admin), &ServerGrants::default())
        .unwrap()
}

pub(super) fn secret(text: &str) -> SecretValue {
    SecretValue::from(text.to_owned())
}

pub(super) fn context() -> CallContext {
    CallContext {
        run: "run_test".to_owned(),
        step: "step".to_owned(),
        attempt: 1,
        idempotency_key: "key".to_owned(),
        time_left: Duration::from_secs(10),
    }
}

/// The user `app`, before it is recorded.
pub(super) fn unrecorded() -> PrincipalRef {
    PrincipalRef {
        name: "app".to_owned(),
        immutable_id: None,
    }
}

pub(super) fn recorded() -> PrincipalRef {
    PrincipalRef {
        name: "app".to_owned(),
        immutable_id: Some("app".to_owned()),
    }
}

pub(super) fn issue_call(principal: PrincipalRef, password: &str) -> IssueCall {
    IssueCall {
        principal,
        secret: secret(password),
        placement: Placement::Alongside,
        replaces: Vec::new(),
        marker: "keyfall run_test".to_owned(),
        access: json!({ "rules": ["~cache:*", "+@read"] }),
    }
}

/// Issues to the user `app`, whatever is there.
pub(super) async fn issue(connector: &Arc<dyn Connector>, principal: PrincipalRef, password: &str) -> Issued {
    let call = issue_call(principal, password);
    connector.issue().unwrap().issue(&context(), &call).await.unwrap()
}

pub(super) async fn revoke(connector: &Arc<dyn Connector>, issued: &Issued) -> keyfall_sdk::Result<Revoked> {
    let call = RevokeCall {
        principal: issued.principal.clone(),
        key_id: issued.key_id.clone(),
    };
    connector.revoke().unwrap().revoke(&context(), &call).await
}

pub(super) async fn read(connector: &Arc<dyn Connector>) -> PrincipalReading {
    let inventory = connector.inventory().unwrap();
    inventory.read(&context(), &recorded()).await.unwrap()
}

pub(super) async fn probe(connector: &Arc<dyn Connector>, vantage: &str, password: &str) -> Verdict {
    let call = ProbeCall {
        principal: recorded(),
        secret: secret(password),
        vantage: vantage.to_owned(),
        purpose: ProbePurpose::OldCredential,
    };
    let reading = connector.probe().unwrap().probe(&context(), &call).await;
    assert!(
        !format!("{reading:?}").contains(password),
        "the reading shows the secret"
    );
    reading.verdict
}

/// A port that passes everything on, until a request holds `needle`: the server gets it and answers, and the answer is lost.
pub(super) async fn losing_proxy(to: u16, needle: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let (mut question, mut answer) = (vec![0; 65_536], vec![0; 65_536]);
                loop {
                    tokio::select! {
                        Ok(length) = client.read(&mut question) => {
                            if length == 0 || server.write_all(&question[..length]).await.is_err() { return }
                            if String::from_utf8_lossy(&question[..length]).contains(needle) {
                                let _ = server.read(&mut answer).await;
                                return;
                            }
                        }
                        Ok(length) = server.read(&mut answer) => {
                            if length == 0 || client.write_all(&answer[..length]).await.is_err() { return }
                        }
                        else => return,
                    }
                }
            });
        }
    });
    port
}
