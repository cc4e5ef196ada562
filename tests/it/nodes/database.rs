//! The database that the nodes share: a primary that acknowledges nothing before its standby has it, and the standby, which takes its place. What
//! it holds is read behind Keyfall's back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use keyfall::domain::workflow::Event;
use keyfall::evidence::audit::event_of;
use tokio_postgres::{NoTls, Row};

use super::register::PATIENCE;
use crate::harness::{Servers, wait_for};

const PASSWORD: &str = "keyfall-nodes-share-this";

pub(super) struct Database {
    servers: &'static Servers,
    failed_over: AtomicBool,
}

impl Database {
    pub(super) fn start() -> Self {
        let servers = Servers::own(&["postgres", "replica"]);
        let database = Self {
            servers,
            failed_over: AtomicBool::new(false),
        };
        for text in [
            format!("create role keyfall login password '{PASSWORD}'"),
            "create database keyfall owner keyfall".to_owned(),
            "alter system set synchronous_standby_names = '*'".to_owned(),
            "select pg_reload_conf()".to_owned(),
        ] {
            database.admin("postgres", &text, &[]);
        }
        wait_for("the standby is synchronous", PATIENCE, || {
            let rows = database.admin("postgres", "select sync_state from pg_stat_replication", &[]);
            rows.iter().any(|row| row.get::<_, &str>(0) == "sync").then_some(())
        });
        database
    }

    /// Where the database answers now.
    pub(super) fn port(&self) -> u16 {
        let name = match self.failed_over.load(Ordering::SeqCst) {
            false => "KEYFALL_PG_PRIMARY_PORT",
            true => "KEYFALL_PG_REPLICA_PORT",
        };
        self.servers.text(name).parse().unwrap()
    }

    pub(super) fn url(port: u16) -> String {
        format!("postgres://keyfall:{PASSWORD}@127.0.0.1:{port}/keyfall?sslmode=disable")
    }

    /// The address of the store through this port, in a file of its own.
    pub(super) fn address(file: &Path, port: u16) {
        std::fs::write(file, format!("{}\n", Self::url(port))).unwrap();
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(file, owner_only).unwrap();
    }

    /// The primary dies, and the standby takes its place.
    pub(super) fn fail_over(&self) {
        self.servers.order("stop", "postgres");
        self.failed_over.store(true, Ordering::SeqCst);
        self.admin("postgres", "select pg_promote(true, 60)", &[]);
    }

    /// Rotations that were completed.
    pub(super) fn rotations(&self) -> usize {
        let text = "select count(*) from runs where kind = 'rotate' and status = 'completed'";
        let count: i64 = self.ask(text, &[])[0].get(0);
        usize::try_from(count).unwrap()
    }

    pub(super) fn active(&self) -> usize {
        let text = "select count(*) from identities where state = 'active'";
        usize::try_from(self.ask(text, &[])[0].get::<_, i64>(0)).unwrap()
    }

    /// No run is open, and none will be within an hour.
    pub(super) fn is_at_rest(&self) -> bool {
        let text = "select count(*) from identities where open_run is not null \
                    or due_at < (extract(epoch from now()) * 1000000)::bigint + 3600000000";
        self.ask(text, &[])[0].get::<_, i64>(0) == 0
    }

    pub(super) fn runs(&self) -> Vec<String> {
        let rows = self.ask("select id from runs order by id", &[]);
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// These runs' events, in the order in which they stand in its log.
    pub(super) fn events(&self, of: &[String]) -> BTreeMap<String, Vec<Event>> {
        let text = "select run, bytes from log where run = any($1) order by run, seq";
        let mut runs: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for row in self.ask(text, &[&of]) {
            let event = event_of(row.get::<_, &[u8]>(1)).unwrap().expect("an event of a run");
            runs.entry(row.get(0)).or_default().push(event);
        }
        runs
    }

    /// The store's own tables.
    pub(super) fn ask(&self, text: &str, values: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> Vec<Row> {
        self.admin("keyfall", text, values)
    }

    fn admin(&self, database: &str, text: &str, values: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> Vec<Row> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::Config::new()
                .host(self.servers.text("KEYFALL_PG_HOST"))
                .port(self.port())
                .user(self.servers.text("KEYFALL_PG_ADMIN_USER"))
                .password(self.servers.file("KEYFALL_PG_ADMIN_PASSWORD_FILE"))
                .dbname(database)
                .connect(NoTls)
                .await
                .unwrap();
            let serving = tokio::spawn(connection);
            let rows = client.query(text, values).await.unwrap();
            drop(client);
            let _ = serving.await;
            rows
        })
    }
}
