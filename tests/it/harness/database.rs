//! An empty database of the shared PostgreSQL for a store, gone when the test ends.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::logins::{sql, sql_in};
use super::servers::Servers;

const PORT: &str = "KEYFALL_PG_PRIMARY_PORT";

/// Declared before the server that uses it, so that it goes behind it.
pub(crate) struct Database {
    name: String,
    folder: TempDir,
}

impl Database {
    pub(crate) fn fresh() -> Self {
        let servers = Servers::get();
        let name = format!("keyfall_store_{:016x}", RandomState::new().build_hasher().finish());
        sql(servers, PORT, &format!("create database {name}"));
        let folder = tempfile::tempdir().unwrap();
        let address = format!(
            "postgres://{}:{}@{}:{}/{name}?sslmode=disable\n",
            servers.text("KEYFALL_PG_ADMIN_USER"),
            servers.file("KEYFALL_PG_ADMIN_PASSWORD_FILE"),
            servers.text("KEYFALL_PG_HOST"),
            servers.text(PORT),
        );
        let file = folder.path().join("store.url");
        fs::write(&file, address).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        Self { name, folder }
    }

    /// What a statement in it answers first, behind Keyfall's back.
    pub(crate) fn sql(&self, statement: &str) -> String {
        let rows = sql_in(Servers::get(), PORT, &self.name, statement);
        rows.first().and_then(|row| row.first()).cloned().unwrap_or_default()
    }

    /// What `--store` is given: the file that holds the address with its password.
    pub(crate) fn store(&self) -> String {
        format!("file:{}", self.folder.path().join("store.url").display())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            sql(
                Servers::get(),
                PORT,
                &format!("drop database {} with (force)", self.name),
            );
        }
    }
}
