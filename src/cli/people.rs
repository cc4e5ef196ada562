//! People, their tokens and their keys. A key is made where its owner sits; only its public half is enrolled.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ring::rand::SystemRandom;
use serde_json::{Value, json};

use super::approve::show_plan;
use super::output::{note, print};
use super::read::whole;
use super::watch::follow_plan;
use super::{CliError, Exit, Session};
use crate::app::{AppError, PlanView, make_token};
use crate::clock::Environment;
use crate::domain::digest::Digest;
use crate::evidence::keys::{SigningKey, VerifierKey};
use crate::owner_only::{self, PRIVATE};

#[derive(Debug, Args)]
/// List the people who may ask and approve
#[command(after_help = "Example:\n  keyfall people")]
pub struct PeopleArgs {}

#[derive(Debug, Args)]
/// Ask for another person to be enrolled; somebody already enrolled approves it
#[command(
    after_help = "Example:\n  keyfall enrol carol --role operator --role approver --public-key carol.pub --token-digest sha256:DIGEST"
)]
pub struct EnrolArgs {
    /// The person's name
    name: String,
    /// admin, operator, approver or auditor; can be repeated
    #[arg(long = "role", required = true)]
    roles: Vec<String>,
    /// The verifier key that `keyfall key new` printed, or a file that holds it; needed to approve
    #[arg(long)]
    public_key: Option<String>,
    /// The digest that `keyfall token make` printed on the person's own machine: how the person signs in at first
    #[arg(long)]
    token_digest: Option<String>,
    /// Why, for whoever approves it
    #[arg(long, default_value = "")]
    reason: String,
    /// Wait until another person has approved it
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
/// Ask for a person's tokens and signatures to count no longer; another person approves it
#[command(after_help = "Example:\n  keyfall retire carol --reason 'left the company'")]
pub struct RetireArgs {
    /// The person's name
    name: String,
    /// Why, for whoever approves it
    #[arg(long)]
    reason: String,
    /// Wait until another person has approved it
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token on your own machine and print its digest, for whoever asks for your enrolment
    #[command(after_help = "Example:\n  keyfall token make ~/.config/keyfall/carol.token")]
    Make {
        /// The file, which must not exist yet
        file: PathBuf,
    },
    /// End a token at once, whoever holds a copy of it
    #[command(after_help = "Example:\n  keyfall token revoke carol ~/.config/keyfall/carol.token")]
    Revoke {
        /// Whose token it is; your own name, or anybody's for an administrator
        person: String,
        /// The file that holds the token, or its digest, `sha256:…`
        token: String,
    },
    /// Issue another bearer token to yourself and write it to a file that only you can read
    #[command(after_help = "Example:\n  keyfall token new alice ci.token --label ci --ttl 30d")]
    New {
        /// Your own name
        person: String,
        /// The file, which must not exist yet
        file: PathBuf,
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
        /// How long it lasts
        #[arg(long, default_value = "90d")]
        ttl: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a signing key and print its public half
    #[command(after_help = "Example:\n  keyfall key new ~/.config/keyfall/carol.key --name carol > carol.pub")]
    New {
        /// The file, which must not exist yet
        file: PathBuf,
        /// Whose key it is
        #[arg(long)]
        name: String,
    },
}

impl PeopleArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let columns = [
            ("NAME", "name"),
            ("ROLES", "roles"),
            ("CAN APPROVE", "can_approve"),
            ("ENROLLED BY", "enrolled_by"),
            ("ENROLLED", "enrolled_at"),
            ("RETIRED", "retired_at"),
        ];
        whole(session, &["people"], &columns).await?;
        Ok(Exit::Ok)
    }
}

impl EnrolArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let public_key = self.public_key.as_deref().map(verifier_key).transpose()?;
        let body = json!({
            "name": self.name,
            "roles": self.roles,
            "public_key": public_key.map(|key| key.to_string()),
            "token_digest": self.token_digest,
            "reason": self.reason,
        });
        let plan: PlanView = session.client()?.post(&["people"], &body).await?;
        proposed(session, &plan, self.wait).await
    }
}

impl RetireArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let body = json!({ "reason": self.reason });
        let plan: PlanView = session.client()?.post(&["people", &self.name, "retire"], &body).await?;
        proposed(session, &plan, self.wait).await
    }
}

async fn proposed(session: &Session, plan: &PlanView, wait: bool) -> Result<Exit, CliError> {
    show_plan(session.output, plan)?;
    if wait {
        return follow_plan(session, &plan.id).await;
    }
    Ok(Exit::Ok)
}

impl TokenCommand {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let (person, file, label, ttl) = match self {
            Self::Make { file } => return make_token_file(&file),
            Self::Revoke { person, token } => return revoke_token(session, &person, &token).await,
            Self::New {
                person,
                file,
                label,
                ttl,
            } => (person, file, label, ttl),
        };
        let life = crate::domain::length::parse(&ttl).map_err(|why| CliError::Usage(format!("--ttl: {why}")))?;
        let failed = |source| CliError::File {
            doing: "write the token to a file that does not exist yet,",
            path: file.clone(),
            source,
        };
        // Opened before the token is made: a token that cannot be kept would live on unseen.
        let mut opened = owner_only::create(&file, PRIVATE).map_err(failed)?;
        let body = json!({ "label": label, "ttl": format!("{life:#}") });
        let view: Result<Value, CliError> = session.client()?.post(&["people", &person, "tokens"], &body).await;
        let view = match view {
            Ok(view) => view,
            Err(error) => {
                // Empty and of no use; when it cannot be removed, the error that matters is still the server's.
                let _ = std::fs::remove_file(&file);
                return Err(error);
            }
        };
        let token = view
            .get("token")
            .and_then(Value::as_str)
            .ok_or_else(|| CliError::Answer {
                what: "it holds no token".to_owned(),
            })?;
        owner_only::fill(&mut opened, &[token.as_bytes(), b"\n"]).map_err(failed)?;
        note(&format!(
            "{} holds a token for {person}; it is shown nowhere else",
            file.display()
        ));
        Ok(Exit::Ok)
    }
}

/// Needs no server: only the digest leaves this machine.
fn make_token_file(file: &Path) -> Result<Exit, CliError> {
    let failed = |source| CliError::File {
        doing: "write the token to a file that does not exist yet,",
        path: file.to_owned(),
        source,
    };
    let unlucky = |error: AppError| CliError::Usage(error.to_string());
    let (token, digest) = make_token(&*Environment::of_this_machine().random).map_err(unlucky)?;
    let mut opened = owner_only::create(file, PRIVATE).map_err(failed)?;
    owner_only::fill(&mut opened, &[token.expose_secret(), b"\n"]).map_err(failed)?;
    print(&format!("{digest}\n"))?;
    note(&format!(
        "{} is yours alone; the line above goes to whoever asks for your enrolment",
        file.display()
    ));
    Ok(Exit::Ok)
}

async fn revoke_token(session: &Session, person: &str, token: &str) -> Result<Exit, CliError> {
    let digest = if token.parse::<Digest>().is_ok() {
        token.to_owned()
    } else {
        let held = std::fs::read(token).map(zeroize::Zeroizing::new);
        let held = held.map_err(|source| CliError::File {
            doing: "read the token in",
            path: token.into(),
            source,
        })?;
        Digest::of(held.trim_ascii()).to_string()
    };
    let body = json!({ "token_digest": digest });
    let _: Value = session
        .client()?
        .post(&["people", person, "tokens", "revoke"], &body)
        .await?;
    note(&format!("the token {digest} of {person} is accepted no longer"));
    Ok(Exit::Ok)
}

impl KeyCommand {
    pub(super) fn run(self, _session: &Session) -> Result<Exit, CliError> {
        let Self::New { file, name } = self;
        let key = SigningKey::create(&file, &name, &SystemRandom::new())?;
        print(&format!("{}\n", key.verifier()))?;
        note(&format!(
            "{} is yours alone; the line above is what others verify with",
            file.display()
        ));
        Ok(Exit::Ok)
    }
}

/// A verifier key as text, or as a file that holds it.
pub(super) fn verifier_key(text: &str) -> Result<VerifierKey, CliError> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let held = std::fs::read_to_string(text).map_err(|source| CliError::File {
        doing: "read as a verifier key, nor as a file that holds one,",
        path: text.into(),
        source,
    })?;
    Ok(held.parse()?)
}
