//! `keyfall restore`: a verified backup in the place of the store. The server then starts at a standstill: what was rotated since the backup is
//! dead downstream and looks alive in it, and a person has to look before anything is sent to a system (P9).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use keyfall::cli::{Output, RestoreArgs, ServeFlags};
use keyfall::clock::Environment;
use keyfall::config::StoreAddress;
use keyfall::engine::standstill::{Cause, stand_still};
use keyfall::store::{Commit, Creation, Purpose, Store, unmoved};
use serde_json::json;

use super::{keys, open_store, settings};

pub(crate) async fn restore(args: &RestoreArgs, output: Output) -> anyhow::Result<()> {
    let (config, _) = settings(&args.config, &ServeFlags::default())?;
    let Some(at) = config.store.file() else {
        bail!(
            "the store {} is a database: put back a copy with the database's own tools (pg_restore, point-in-time recovery), start one server and freeze it (`keyfall freeze --reason …`) before anything else",
            config.store
        );
    };
    for path in [at.to_owned(), beside(at, "-wal")] {
        if path.exists() {
            bail!(
                "{} exists: stop the server and move it away first; nothing was changed",
                path.display()
            );
        }
    }
    let keys = keys::load(&config)?;
    let env = Environment::of_this_machine();
    // A copy is looked at and changed, never the backup itself; the name it is given at the end is the store's.
    let copy = beside(at, ".restoring");
    let ended = async {
        fs::copy(&args.backup, &copy).with_context(|| format!("{} cannot be copied", args.backup.display()))?;
        let store = open_store(
            &StoreAddress::File(copy.clone()),
            &config.node,
            Creation::Never,
            Purpose::Restore,
            &env,
        )
        .await?;
        let size = frozen(&*store, &keys, &config, args, &env).await;
        store.close().await.context("the copy could not be closed")?;
        let size = size?;
        fs::File::open(&copy)?.sync_all()?;
        fs::rename(&copy, at).with_context(|| format!("{} cannot be written", at.display()))?;
        if let Some(parent) = at.parent() {
            fs::File::open(parent)?.sync_all()?;
        }
        anyhow::Ok(size)
    }
    .await;
    for suffix in ["", "-wal", "-shm", "-reserve", ".lock"] {
        // Most of them are not there.
        let _ = fs::remove_file(beside(&copy, suffix));
    }
    let size = ended?;
    let view = json!({ "store": config.store, "backup": args.backup, "records": size, "standstill": true });
    let text = format!(
        "{} is restored from {} ({size} records). The server starts at a standstill and sends nothing to any system. People who were retired and tokens that were revoked after the backup was made count again: end them again first (`keyfall retire NAME --reason …`, `keyfall token revoke NAME TOKEN`). `keyfall review` and `keyfall doctor` show what to look at, `keyfall unfreeze --reason …` asks for the end of it.",
        at.display(),
        args.backup.display()
    );
    output.say(&view, &text)?;
    Ok(())
}

/// Checks everything about the copy, then brings it to a standstill.
async fn frozen(
    store: &dyn Store,
    keys: &keys::Keys,
    config: &keyfall::config::Config,
    args: &RestoreArgs,
    env: &Environment,
) -> anyhow::Result<u64> {
    let problems = store.check().await.context("the backup could not be checked")?;
    if !problems.is_empty() {
        bail!(
            "the backup is damaged; restore an older one:\n  {}",
            problems.join("\n  ")
        );
    }
    keys::check(&keys.ring, store, config).await?;
    let size = store.log_state().await?.size;
    let backup = args
        .backup
        .file_name()
        .unwrap_or(args.backup.as_os_str())
        .to_string_lossy();
    let cause = Cause {
        reason: format!("restored from backup {backup}: what was rotated since then must be looked at first"),
        action: "restored",
        trigger: "request",
        details: json!({ "backup": backup, "log_size": size }),
    };
    stand_still(store, env, cause)
        .await
        .context("the copy could not be brought to a standstill")?;
    // A copy of a store that was moved away is an old copy like any other, and stands still as one.
    let commit = Commit {
        facts: vec![unmoved()],
        ..Commit::default()
    };
    store
        .commit(commit)
        .await
        .context("the copy could not be opened for work")?;
    Ok(size)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
