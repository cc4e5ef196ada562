//! A private PostgreSQL primary with a streaming replica, made and removed by `deploy/servers`; fsync is on, as in earnest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

pub(crate) struct Servers {
    folder: PathBuf,
    values: BTreeMap<String, String>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/servers")
}

impl Servers {
    /// A primary and its replica.
    pub(crate) fn up(under: &Path) -> Result<Self> {
        Self::these(under, &["postgres", "replica"])
    }

    pub(crate) fn these(under: &Path, servers: &[&str]) -> Result<Self> {
        let folder = under.join("servers");
        let status = Command::new(script())
            .arg("up")
            .arg(&folder)
            .args(servers)
            .env("KEYFALL_SERVERS_FSYNC", "on")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        ensure!(status.success(), "`deploy/servers up` failed: {status}");
        let text = std::fs::read_to_string(folder.join("servers.env"))?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Ok(Self {
            folder,
            values: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        })
    }

    pub(crate) fn text(&self, name: &str) -> Result<&str> {
        let value = self.values.get(name).map(String::as_str);
        value.with_context(|| format!("{name} is not in servers.env"))
    }

    pub(crate) fn port(&self, name: &str) -> Result<u16> {
        Ok(self.text(name)?.parse()?)
    }

    /// The address of one of the primary's databases, with the administrator's password.
    pub(crate) fn url(&self, database: &str) -> Result<String> {
        Ok(format!(
            "postgres://{}:{}@{}:{}/{database}?sslmode=disable",
            self.text("KEYFALL_PG_ADMIN_USER")?,
            self.admin_password()?,
            self.text("KEYFALL_PG_HOST")?,
            self.port("KEYFALL_PG_PRIMARY_PORT")?,
        ))
    }

    pub(crate) fn admin_password(&self) -> Result<String> {
        let file = self.text("KEYFALL_PG_ADMIN_PASSWORD_FILE")?;
        Ok(std::fs::read_to_string(file)?.trim_end().to_owned())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let down = Command::new(script()).arg("down").arg(&self.folder).status();
        if !down.as_ref().is_ok_and(std::process::ExitStatus::success) {
            println!("servers_left_at={}", self.folder.display());
        }
    }
}
