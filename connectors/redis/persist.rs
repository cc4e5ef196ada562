//! Making an ACL change survive a restart, in the way that the server is configured for.

use keyfall_sdk::{ConnectorError, ErrorKind, Result};

use super::node::Session;

/// Where a node keeps its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Persistence {
    AclFile,
    ConfigFile,
    /// Nowhere: a restart loses every change.
    Nowhere,
}

impl Session<'_> {
    /// Saves the ACL. Called after every change and on every repetition of one, because a crash between a change and its
    /// saving would otherwise bring a revoked password back at the next restart of the server.
    pub(super) async fn persist(&mut self) -> Result<Persistence> {
        match self.write::<()>(redis::cmd("ACL").arg("SAVE"), "ACL SAVE").await {
            Ok(()) => return Ok(Persistence::AclFile),
            Err(error) if error.message().contains("not configured to use an ACL file") => {}
            Err(error) => return Err(self.unsaved(&error)),
        }
        match self
            .write::<()>(redis::cmd("CONFIG").arg("REWRITE"), "CONFIG REWRITE")
            .await
        {
            Ok(()) => Ok(Persistence::ConfigFile),
            Err(error) if error.message().contains("without a config file") => Ok(Persistence::Nowhere),
            Err(error) => Err(self.unsaved(&error)),
        }
    }

    /// The change holds in memory, so this is not a failure after which nothing happened.
    fn unsaved(&self, error: &ConnectorError) -> ConnectorError {
        ConnectorError::new(
            ErrorKind::Ambiguous,
            format!(
                "The change holds on Redis node `{}` but could not be saved and would be lost at its restart; correct \
                 this and repeat: {}",
                self.vantage_name(),
                error.message()
            ),
        )
        .with_code(error.code().unwrap_or("unsaved"))
    }

    /// Reads where the node keeps its users, without saving anything.
    pub(super) async fn persistence(&mut self) -> Result<Persistence> {
        let aclfile: Vec<String> = self
            .read(redis::cmd("CONFIG").arg("GET").arg("aclfile"), "CONFIG GET aclfile")
            .await?;
        if aclfile.get(1).is_some_and(|path| !path.is_empty()) {
            return Ok(Persistence::AclFile);
        }
        let info: String = self.read(redis::cmd("INFO").arg("server"), "INFO server").await?;
        let has_config = info.lines().any(|line| {
            line.strip_prefix("config_file:")
                .is_some_and(|path| !path.trim().is_empty())
        });
        Ok(if has_config {
            Persistence::ConfigFile
        } else {
            Persistence::Nowhere
        })
    }
}
