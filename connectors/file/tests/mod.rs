//! Tests of the file destination on a real file system: the set-up that they share.

mod after;
mod consumer;
mod layout;
mod place;
mod replace;
mod target;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyfall_sdk::{
    CallContext, Confirmation, Connector, ConnectorKind, DeliverCall, Delivered, Result, Revoked, SecretValue,
    ServerGrants, SystemSpec,
};
use serde_json::{Value, json};

use crate::file::FileKind;

/// Shows up nowhere but in files that are meant to hold it.
const SECRET: &str = "s3cret-Value_that-must-not-leak";

struct Setup {
    folder: tempfile::TempDir,
    connector: Arc<dyn Connector>,
}

impl Setup {
    fn new() -> Self {
        Self::with_commands(&[])
    }

    fn with_commands(commands: &[(&str, &[&str])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("root")).unwrap();
        let grants = ServerGrants {
            file_roots: BTreeMap::from([("apps".to_owned(), folder.path().join("root"))]),
            reload_commands: commands
                .iter()
                .map(|(name, argv)| ((*name).to_owned(), argv.iter().map(|a| (*a).to_owned()).collect()))
                .collect(),
            plaintext_hosts: Vec::new(),
        };
        let connector = FileKind.connect(&spec(), None, &grants).unwrap();
        Self { folder, connector }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn problems(&self, target: &Value) -> Vec<String> {
        self.connector.deliver().unwrap().check_target(target)
    }

    async fn deliver(&self, target: Value, secret: &str) -> Result<Delivered> {
        self.deliver_again(target, secret, 1).await
    }

    async fn deliver_again(&self, target: Value, secret: &str, attempt: u32) -> Result<Delivered> {
        let outcome = self
            .connector
            .deliver()
            .unwrap()
            .deliver(&context(attempt), &call(target, secret))
            .await;
        if let Err(error) = &outcome {
            let shown = format!("{error} {error:?}");
            assert!(
                secret.is_empty() || !shown.contains(secret),
                "the error shows the secret"
            );
        }
        outcome
    }

    async fn confirm(&self, target: Value, secret: &str) -> Confirmation {
        let deliver = self.connector.deliver().unwrap();
        deliver.confirm(&context(1), &call(target, secret)).await.unwrap()
    }

    async fn acknowledged(&self, target: &Value, consumer: &str) -> Option<String> {
        let deliver = self.connector.deliver().unwrap();
        deliver
            .acknowledged(&context(1), target, consumer)
            .await
            .unwrap()
            .version
    }

    async fn withdraw(&self, target: &Value) -> Result<Revoked> {
        self.connector.deliver().unwrap().withdraw(&context(1), target).await
    }

    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).unwrap()
    }
}

fn spec() -> SystemSpec {
    serde_json::from_value(json!({ "connector": "file" })).unwrap()
}

fn context(attempt: u32) -> CallContext {
    CallContext {
        run: "run_test".to_owned(),
        step: "deliver".to_owned(),
        attempt,
        idempotency_key: "key".to_owned(),
        time_left: Duration::from_secs(20),
    }
}

fn call(target: Value, secret: &str) -> DeliverCall {
    let fields = [
        ("username", "app"),
        ("host", "db.example.org"),
        ("port", "5432"),
        ("database", "bill"),
    ];
    DeliverCall {
        target,
        secret: SecretValue::from(secret.to_owned()),
        fields: fields.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        version: "v7".to_owned(),
    }
}

fn raw(path: &str) -> Value {
    json!({ "root": "apps", "path": path, "layout": "raw" })
}

fn template(text: &str) -> Value {
    json!({ "root": "apps", "path": "t", "layout": "template", "template": text })
}

/// What stands in a directory, hidden files too.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
