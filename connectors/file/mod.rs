//! A file that a workload reads its secret from: replaced whole, with owner and mode, read back, and followed by a command
//! or a signal that the server's own configuration allows.
//!
//! It must not know which system a secret belongs to. A manifest names roots and commands; it never brings any of its own.

mod acknowledge;
mod after;
mod config;
mod escape;
mod layout;
mod owner;
mod place;
mod replace;
mod target;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use keyfall_sdk::{
    Acknowledgement, AdminCredential, BoxFuture, CallContext, ConfigProblem, Confirmation, Connector, ConnectorError,
    ConnectorKind, Deliver, DeliverCall, Delivered, Descriptor, ErrorKind, IssueClass, Result, Revoked, SecretShape,
    ServerGrants, SettlingWindow, SystemSpec,
};
use serde_json::Value;

use place::Place;
use replace::Wanted;
use target::Target;

static DESCRIPTOR: Descriptor = Descriptor {
    kind: "file",
    about: "A file under a directory that the server's configuration allows.",
    strategies: &[],
    issue_class: IssueClass::Repeatable,
    secret_shape: SecretShape::STRONG,
    settling: SettlingWindow {
        documented: Duration::ZERO,
        source: "rename(2): a reader sees the old file or the new one",
    },
    lockout: None,
    sessions_survive: false,
    answers: &[],
};

/// Checks a file destination's configuration and builds its connector.
pub struct FileKind;

impl ConnectorKind for FileKind {
    fn descriptor(&self) -> &Descriptor {
        &DESCRIPTOR
    }

    fn check(&self, spec: &SystemSpec, grants: &ServerGrants) -> Vec<ConfigProblem> {
        config::check(spec, grants)
    }

    fn connect(
        &self,
        spec: &SystemSpec,
        _admin: Option<AdminCredential>,
        grants: &ServerGrants,
    ) -> Result<Arc<dyn Connector>> {
        if let Some(problem) = config::check(spec, grants).into_iter().next() {
            return Err(problem.refused(&DESCRIPTOR));
        }
        Ok(Arc::new(FileConnector { grants: grants.clone() }))
    }
}

/// Every file destination of this server. What differs between them is the target that each call brings.
struct FileConnector {
    grants: ServerGrants,
}

impl Connector for FileConnector {
    fn descriptor(&self) -> &Descriptor {
        &DESCRIPTOR
    }
    fn deliver(&self) -> Option<&dyn Deliver> {
        Some(self)
    }
}

impl Deliver for FileConnector {
    fn check_target(&self, target: &Value) -> Vec<String> {
        Target::parse(target, &self.grants).err().unwrap_or_default()
    }

    fn check_defaults(&self, defaults: &Value) -> Vec<String> {
        target::check_defaults(defaults, &self.grants)
    }

    /// Two roots may overlap, so a place is the file's whole path.
    fn place(&self, target: &Value) -> Option<String> {
        let target = Target::parse(target, &self.grants).ok()?;
        Some(target.root.join(target.path).display().to_string())
    }

    fn deliver<'a>(&'a self, ctx: &'a CallContext, call: &'a DeliverCall) -> BoxFuture<'a, Result<Delivered>> {
        Box::pin(self.put(ctx, call))
    }

    fn confirm<'a>(&'a self, ctx: &'a CallContext, call: &'a DeliverCall) -> BoxFuture<'a, Result<Confirmation>> {
        Box::pin(async move {
            let target = self.target(&call.target)?;
            let wanted = Wanted::of(&target, call)?;
            blocking(
                ctx.answer_within(),
                "reading the file back",
                move || match Place::open(&target.root, &target.path) {
                    Ok(place) => wanted.compare(&place),
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(Confirmation::Absent),
                    Err(error) => Err(error),
                },
            )
            .await
        })
    }

    fn acknowledged<'a>(
        &'a self,
        ctx: &'a CallContext,
        target: &'a Value,
        consumer: &'a str,
    ) -> BoxFuture<'a, Result<Acknowledgement>> {
        Box::pin(async move {
            let target = self.target(target)?;
            let name = consumer.to_owned();
            let version = blocking(ctx.answer_within(), "reading acknowledgements", move || {
                Ok(acknowledge::version_of(&target, &name))
            })
            .await?;
            Ok(Acknowledgement {
                consumer: consumer.to_owned(),
                version,
            })
        })
    }

    fn withdraw<'a>(&'a self, ctx: &'a CallContext, target: &'a Value) -> BoxFuture<'a, Result<Revoked>> {
        Box::pin(async move {
            let target = self.target(target)?;
            blocking(ctx.answer_within(), "removing the file", move || {
                match Place::open(&target.root, &target.path) {
                    Ok(place) => replace::remove(&place),
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(Revoked::AlreadyGone),
                    Err(error) => Err(error),
                }
            })
            .await
        })
    }
}

impl FileConnector {
    fn target(&self, target: &Value) -> Result<Target> {
        Target::parse(target, &self.grants).map_err(|problems| ConnectorError::unsupported(problems.join("; ")))
    }

    /// Replaces the file if it differs. The command or signal follows a change, and it follows every repeated attempt too: a
    /// crash may have fallen between the replacement and what was to come after it.
    async fn put(&self, ctx: &CallContext, call: &DeliverCall) -> Result<Delivered> {
        let deadline = tokio::time::Instant::now() + ctx.answer_within();
        let target = self.target(&call.target)?;
        let wanted = Wanted::of(&target, call)?;
        let (root, path) = (target.root.clone(), target.path.clone());
        let changed = blocking(ctx.answer_within(), "replacing the file", move || {
            let place = Place::open(&root, &path)?;
            wanted.put(&place)
        })
        .await?;
        if changed || ctx.attempt > 1 {
            after::run(&target, &call.secret, deadline).await?;
        }
        Ok(Delivered {
            changed,
            place: target.shown(),
        })
    }
}

/// Runs file work off the async threads. A disk that hangs is an unknown outcome.
async fn blocking<T: Send + 'static>(
    limit: Duration,
    what: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::time::timeout(limit, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(ConnectorError::ambiguous(format!(
            "The thread that was {what} ended early."
        ))),
        Err(_) => Err(ConnectorError::ambiguous(format!(
            "The disk gave no answer in time while {what}."
        ))),
    }
}
