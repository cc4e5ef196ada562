//! Which server is spoken to, with whose token and key: flags over `KEYFALL_*` over a context file. A token or a key is always a file, so
//! that neither stands in a process list, a shell's history or an environment.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use super::error::CliError;

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub struct ContextArgs {
    /// URL of the server
    #[arg(long, global = true, env = "KEYFALL_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// File that holds your bearer token
    #[arg(long, global = true, env = "KEYFALL_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM file of the authority that signed the server's certificate
    #[arg(long, global = true, env = "KEYFALL_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// File with server, token_file, key_file and ca_file (default: ~/.config/keyfall/context.toml)
    #[arg(long, global = true, env = "KEYFALL_CONTEXT", value_name = "FILE")]
    pub context: Option<PathBuf>,
}

/// Everything that a command needs to reach a server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Context {
    pub server: Option<String>,
    pub token_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
}

/// Where a server listens that was started as it comes.
const DEFAULT_SERVER: &str = "http://127.0.0.1:7411";

impl Context {
    /// # Errors
    /// The context file was named and cannot be read, or holds an unknown key.
    pub(super) fn load(args: &ContextArgs) -> Result<Self, CliError> {
        let file = args.context.clone().or_else(default_file);
        let mut context = match file {
            Some(file) => Self::read(&file)?,
            None => Self::default(),
        };
        let ContextArgs {
            server,
            token_file,
            ca_file,
            ..
        } = args.clone();
        context.server = server.or(context.server);
        context.token_file = token_file.or(context.token_file);
        context.ca_file = ca_file.or(context.ca_file);
        Ok(context)
    }

    fn read(file: &Path) -> Result<Self, CliError> {
        let text = std::fs::read_to_string(file).map_err(|source| CliError::File {
            doing: "read the context file",
            path: file.to_owned(),
            source,
        })?;
        let mut context: Self = toml::from_str(&text).map_err(|error| {
            CliError::Usage(format!(
                "{}: {}; known keys are server, token_file, key_file, ca_file",
                file.display(),
                error.message()
            ))
        })?;
        let base = file.parent().unwrap_or(Path::new("."));
        for path in [&mut context.token_file, &mut context.key_file, &mut context.ca_file]
            .into_iter()
            .flatten()
        {
            *path = base.join(&*path);
        }
        Ok(context)
    }

    #[must_use]
    pub(super) fn server(&self) -> &str {
        self.server.as_deref().unwrap_or(DEFAULT_SERVER)
    }

    /// The signing key: the flag's, else the context's.
    ///
    /// # Errors
    /// Neither names one.
    pub(super) fn key_file(&self, flag: Option<&Path>) -> Result<PathBuf, CliError> {
        flag.map(Path::to_owned)
            .or_else(|| self.key_file.clone())
            .ok_or_else(|| {
                CliError::Usage(
                    "no signing key: give --key FILE, set KEYFALL_KEY_FILE, or write key_file into the context file"
                        .to_owned(),
                )
            })
    }
}

fn default_file() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))?;
    let file = base.join("keyfall/context.toml");
    file.is_file().then_some(file)
}

#[cfg(test)]
mod tests {
    use super::{Context, ContextArgs};

    #[test]
    fn flags_beat_the_context_file_and_its_paths_start_where_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("alice.toml");
        std::fs::write(
            &file,
            "server = 'http://127.0.0.1:9'\ntoken_file = 'alice.token'\nkey_file = '/k'\n",
        )
        .unwrap();
        let mut args = ContextArgs {
            server: None,
            token_file: None,
            ca_file: None,
            context: Some(file.clone()),
        };
        let context = Context::load(&args).unwrap();
        assert_eq!(context.server(), "http://127.0.0.1:9");
        assert_eq!(context.token_file, Some(folder.path().join("alice.token")));
        args.server = Some("https://kf".to_owned());
        assert_eq!(Context::load(&args).unwrap().server(), "https://kf");
        std::fs::write(&file, "token = 'kf_abc'\n").unwrap();
        let error = Context::load(&args).unwrap_err().to_string();
        assert!(error.contains("known keys are server"), "{error}");
    }
}
