//! The way to the store's server: encrypted as it was asked for, or refused. With certificates of the server's and of our own, by addresses in
//! files, on a PostgreSQL that this scenario has to itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::harness::{Keyfall, LIMIT, Ran, Servers, keyfall, ran, sql, wait_for};

const PORT: &str = "KEYFALL_PG_PRIMARY_PORT";
const PASSWORD: &str = "for-the-store-alone";
/// A name that is in no certificate of the server's.
const ELSEWHERE: &str = "db.example.com";

struct Server {
    servers: &'static Servers,
    folder: TempDir,
}

/// An authority that the server believes, or that nobody knows.
type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Server {
    /// With a user for each way of logging in: by password, by certificate, by both.
    fn start(clients: &Authority) -> Self {
        let server = Self {
            servers: Servers::own(&["postgres"]),
            folder: tempfile::tempdir().unwrap(),
        };
        let data = PathBuf::from(server.sql("show data_directory"));
        let clients_file = data.join("clients.crt");
        fs::write(&clients_file, clients.pem()).unwrap();
        fs::set_permissions(&clients_file, fs::Permissions::from_mode(0o644)).unwrap();
        let rules = server.sql("show hba_file");
        let before = fs::read_to_string(&rules).unwrap();
        let ours = "hostssl all kf_cert 127.0.0.1/32 cert\n\
            hostssl all kf_both 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n\
            hostnossl all kf_both 127.0.0.1/32 reject\n";
        fs::write(&rules, format!("{ours}{before}")).unwrap();
        for statement in [
            format!("create role kf_password login password '{PASSWORD}'"),
            "create role kf_cert login".to_owned(),
            format!("create role kf_both login password '{PASSWORD}'"),
            "create role keyfall_ask_clear login".to_owned(),
            "alter system set ssl_ca_file = 'clients.crt'".to_owned(),
        ] {
            server.sql(&statement);
        }
        server.reload(|| server.sql("show ssl_ca_file") == "clients.crt");
        server
    }

    fn sql(&self, statement: &str) -> String {
        let rows = sql(self.servers, PORT, statement);
        rows.first().and_then(|row| row.first()).cloned().unwrap_or_default()
    }

    fn reload(&self, is_in_force: impl Fn() -> bool) {
        self.sql("select pg_reload_conf()");
        wait_for("the server has read its settings", LIMIT, || {
            is_in_force().then_some(())
        });
    }

    /// A database of this user's, for one store.
    fn database(&self, user: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("tls_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql(&format!("create database {name} owner {user}"));
        name
    }

    /// The address of a fresh store in a file. A host that no name server knows leads here all the same.
    fn address(&self, user: &str, host: &str, options: &str) -> String {
        let password = if user == "kf_cert" {
            String::new()
        } else {
            format!(":{PASSWORD}")
        };
        let (port, database) = (self.servers.text(PORT), self.database(user));
        let here = if host == ELSEWHERE { "&hostaddr=127.0.0.1" } else { "" };
        let file = self.file(&format!("{database}.address"));
        let address = format!("postgres://{user}{password}@{host}:{port}/{database}?{options}{here}\n");
        fs::write(&file, address).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        format!("file:{}", file.display())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The options that believe this authority.
    fn believing(&self, name: &str, pem: &str) -> String {
        let file = self.file(name);
        fs::write(&file, pem).unwrap();
        format!("sslrootcert={}", file.display())
    }

    fn own_authority(&self) -> String {
        format!("sslrootcert={}", self.servers.text("KEYFALL_PG_CA_FILE"))
    }

    /// The options that show a certificate of this authority for this user.
    fn showing(&self, authority: &Authority, name: &str, user: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        let certificate = params.signed_by(&key, authority).unwrap();
        let (shown, kept) = (self.file(&format!("{name}.crt")), self.file(&format!("{name}.key")));
        fs::write(&shown, certificate.pem()).unwrap();
        fs::write(&kept, key.serialize_pem()).unwrap();
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
        format!("sslcert={}&sslkey={}", shown.display(), kept.display())
    }

    fn init(&self, store: &str) -> Ran {
        let dir = store.replace("file:", "").replace(".address", "");
        let made = ran(keyfall().args(["init", &dir, "--store", store]), b"");
        assert!(!made.stderr.contains(PASSWORD), "{made:?}");
        assert_eq!(
            Path::new(&dir).exists(),
            made.code == 0,
            "half a server was left: {made:?}"
        );
        made
    }

    fn is_taken(&self, user: &str, host: &str, options: &str) {
        let made = self.init(&self.address(user, host, options));
        assert_eq!(made.code, 0, "{user}@{host} {options}: {made:?}");
    }

    fn is_refused(&self, user: &str, host: &str, options: &str, why: &str) {
        let made = self.init(&self.address(user, host, options));
        assert!(
            made.code == 1 && made.stderr.contains(why),
            "{user}@{host} {options}, {why}: {made:?}"
        );
    }
}

#[test]
fn a_server_must_be_whom_the_mode_asks_for() {
    let server = Server::start(&authority());
    let (known, unknown) = (
        server.own_authority(),
        server.believing("unknown.crt", &authority().pem()),
    );
    let user = "kf_password";
    for host in ["localhost", "127.0.0.1"] {
        server.is_taken(user, host, &format!("sslmode=verify-full&{known}"));
    }
    server.is_taken(user, ELSEWHERE, &format!("sslmode=verify-ca&{known}"));
    server.is_taken(user, ELSEWHERE, "sslmode=require");
    server.is_taken(user, ELSEWHERE, &format!("sslmode=require&{known}"));
    server.is_taken(user, "127.0.0.1", "sslmode=disable");

    // The name: asked for by `verify-full`, and without being asked wherever the server is not on this machine.
    let another_name = "not valid for name";
    server.is_refused(user, ELSEWHERE, &format!("sslmode=verify-full&{known}"), another_name);
    server.is_refused(user, ELSEWHERE, &known, another_name);
    for mode in ["verify-full", "verify-ca", "require"] {
        server.is_refused(user, "localhost", &format!("sslmode={mode}&{unknown}"), "UnknownIssuer");
    }
    // Not the machine's authorities either.
    server.is_refused(user, "localhost", "sslmode=verify-full", "certificate");
    for mode in ["prefer", "allow"] {
        let option = format!("sslmode={mode}");
        server.is_refused(user, "127.0.0.1", &option, "would speak without TLS");
    }
    server.is_refused(user, ELSEWHERE, "sslmode=disable", "only a server on this machine");
    // Behind TLS too a password is given to nobody who asks for it in clear.
    let clear = format!("sslmode=verify-full&{known}");
    server.is_refused("keyfall_ask_clear", "localhost", &clear, "channel binding");

    server.sql("alter system set ssl = off");
    server.reload(|| server.sql("show ssl") == "off");
    for mode in ["require", "verify-ca", "verify-full"] {
        let options = format!("sslmode={mode}&{known}");
        server.is_refused(user, "localhost", &options, "does not support TLS");
    }
    server.is_refused(user, ELSEWHERE, "sslmode=require", "does not support TLS");
    server.is_taken(user, "127.0.0.1", "sslmode=disable");
}

#[test]
fn a_server_that_wants_a_certificate_gets_it_and_no_other_opens_the_store() {
    let (clients, strangers) = (authority(), authority());
    let server = Server::start(&clients);
    let way = format!("sslmode=verify-full&{}", server.own_authority());
    let with = |shown: &str| format!("{way}&{shown}");
    let cert = server.showing(&clients, "cert", "kf_cert");
    let both = server.showing(&clients, "both", "kf_both");

    server.is_refused("kf_cert", "localhost", &way, "certificate");
    server.is_refused(
        "kf_cert",
        "localhost",
        &with(&both),
        "certificate authentication failed",
    );
    let forged = server.showing(&strangers, "forged", "kf_cert");
    server.is_refused("kf_cert", "localhost", &with(&forged), "connecting to the database");
    server.is_refused("kf_both", "localhost", &way, "certificate");
    server.is_refused("kf_both", "localhost", &with(&cert), "kf_both");
    server.is_taken("kf_both", "localhost", &with(&both));
    let half = cert.split('&').next().unwrap();
    server.is_refused("kf_cert", "localhost", &with(half), "belong together");

    // And a whole server, without any password.
    let store = server.address("kf_cert", "localhost", &with(&cert));
    let kf = Keyfall::init(&["--store", &store]);
    kf.resume();
    kf.alice().secret("some-admin", "s3cret");
    let lines = "select string_agg(distinct s.ssl::text || ' ' || coalesce(s.client_dn, ''), ',') from pg_stat_ssl s \
        join pg_stat_activity a using (pid) where a.application_name like 'keyfall/%'";
    assert_eq!(server.sql(lines), "true /CN=kf_cert");
}
