//! `keyfall init`: a directory with everything that a server needs. What is there already is never touched. What failed before the store knows of
//! it is taken away again; what was cut off is gone on with by the same command (`unfinished.rs`).

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use keyfall::app::{IssuedToken, first_people};
use keyfall::cli::{InitArgs, Output};
use keyfall::clock::Environment;
use keyfall::config::{Config, FILE_NAME, StoreAddress};
use keyfall::domain::ids::ActId;
use keyfall::evidence::audit::Act;
use keyfall::evidence::keys::{SigningKey, VerifierKey};
use keyfall::owner_only::{self, PRIVATE};
use keyfall::sealing::{Kek, Keyring};
use keyfall::store::{Commit, Committed, Creation, Fact, Guard, LogEntry, Purpose, Store};
use ring::rand::SystemRandom;
use serde_json::json;

use super::anchor::Anchor;
use super::unfinished::Unfinished;
use super::{keys, open_store, usable};

pub(crate) async fn init(args: &InitArgs, output: Output) -> anyhow::Result<()> {
    let people = people(args)?;
    usable(&address(args))?;
    let dir = std::path::absolute(&args.dir)?;
    let asked = asked(args, &people);
    let existed = dir.exists();
    let verifier = match Unfinished::find(&dir, &asked)? {
        Some(unfinished) => go_on(args, &dir, &people, unfinished).await?,
        None => {
            let unfinished = begin(&dir, existed, &asked)?;
            make(args, &dir, &people, unfinished, Creation::Always, existed).await?
        }
    };
    let view = json!({
        "directory": dir,
        "settings": dir.join(FILE_NAME),
        "verifier_key": verifier.to_string(),
        "people": people.iter().map(|name| json!({ "name": name, "context": context_of(&dir, name) })).collect::<Vec<_>>(),
    });
    output.say(&view, next_steps(&dir, &people, &verifier).trim_end())?;
    Ok(())
}

/// What is asked for: only the same goes on where it was cut off.
fn asked(args: &InitArgs, people: &[String]) -> String {
    let solo = if args.solo { " --solo" } else { "" };
    format!(
        "keyfall init --name {} --people {}{solo} --listen {} --store {}",
        args.name,
        people.join(","),
        args.listen,
        address(args)
    )
}

fn address(args: &InitArgs) -> StoreAddress {
    args.store.clone().unwrap_or(Config::default().store)
}

fn begin(dir: &Path, existed: bool, asked: &str) -> anyhow::Result<Unfinished> {
    let is_empty = !existed
        || fs::read_dir(dir)
            .with_context(|| format!("{} cannot be read", dir.display()))?
            .next()
            .is_none();
    if !is_empty {
        bail!("{} is not empty: name a new directory, or an empty one", dir.display());
    }
    folder(dir)?;
    Unfinished::begin(dir, asked)
}

fn folder(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("{} cannot be made", path.display()))
}

/// An init that was cut off: behind its first record it is brought to its end, and before that it begins anew. The store says which, by the key
/// that it was made under.
async fn go_on(args: &InitArgs, dir: &Path, people: &[String], unfinished: Unfinished) -> anyhow::Result<VerifierKey> {
    let address = address(args).from_here(dir);
    let is_there = address.file().is_none_or(Path::exists);
    if let Ok(kek) = Kek::load(&dir.join("kek"))
        && is_there
    {
        let env = Environment::of_this_machine();
        let store = open_store(&address, "init", Creation::IfMissing, Purpose::Work, &env).await?;
        let made_under = store.setting(keys::KEK_CHECK).await?;
        if made_under.as_ref() == Some(&keys::check_value(&Keyring::new(kek, Vec::new()))) {
            let signing = SigningKey::load(&dir.join("signing.key"), None)?;
            return finish(args, dir, &*store, signing, unfinished).await;
        }
        store.close().await.context("the store could not be closed")?;
        if made_under.is_some() {
            bail!("{address} is another server's store by now: name an empty one, and another directory");
        }
    }
    unfinished.clear()?;
    make(args, dir, people, unfinished, Creation::IfMissing, true).await
}

fn people(args: &InitArgs) -> anyhow::Result<Vec<String>> {
    let mut people = args.people.clone();
    if args.solo {
        people.truncate(1);
    }
    let mut names = people.clone();
    names.sort();
    names.dedup();
    if names.len() < people.len() {
        bail!("--people: a name stands twice");
    }
    if people.len() < 2 && !args.solo {
        bail!("--people: name at least two, since nobody approves what they asked for; --solo is for trials");
    }
    let plain = |name: &String| {
        name.chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && !name.starts_with('.')
            && !name.is_empty()
    };
    match people.iter().find(|name| !plain(name)) {
        Some(bad) => bail!("--people: `{bad}` is no name; use letters, digits, `-`, `_` and `.`"),
        None => Ok(people),
    }
}

/// Answers the server's verifier key.
async fn make(
    args: &InitArgs,
    dir: &Path,
    people: &[String],
    unfinished: Unfinished,
    creation: Creation,
    existed: bool,
) -> anyhow::Result<VerifierKey> {
    let env = Environment::of_this_machine();
    let opened = async {
        let (signing, commit) = write_files(args, dir, people, &env)?;
        let address = address(args).from_here(dir);
        let store = open_store(&address, "init", creation, Purpose::Work, &env).await?;
        anyhow::Ok((signing, commit, store))
    };
    let (signing, commit, store) = match opened.await {
        Ok(opened) => opened,
        Err(error) => {
            // Half a server is none, and a second try must find the directory as the first one did. The first error is the one that matters.
            let _ = fs::remove_dir_all(dir);
            if existed {
                let _ = fs::create_dir(dir);
            }
            return Err(error);
        }
    };
    // From here on the store may know this server: its keys stay where they are.
    let again = "run the very same command again: it goes on where it stopped";
    let committed = store.commit(commit).await;
    if committed.with_context(|| format!("the first record could not be stored; {again}"))? != Committed::Stored {
        bail!("somebody else has made a store there meanwhile: name an empty one, and another directory");
    }
    finish(args, dir, &*store, signing, unfinished).await.context(again)
}

/// Everything that lies in the directory, and the first commit.
fn write_files(
    args: &InitArgs,
    dir: &Path,
    people: &[String],
    env: &Environment,
) -> anyhow::Result<(SigningKey, Commit)> {
    for name in ["people", "backups"] {
        folder(&dir.join(name))?;
    }
    let ring = Keyring::new(Kek::create(&dir.join("kek"), &*env.random)?, Vec::new());
    let signing = SigningKey::create(&dir.join("signing.key"), &args.name, &SystemRandom::new())?;
    let verifier = signing.verifier().clone();
    let public = [verifier.to_string().as_bytes(), b"\n"].concat();
    write(&dir.join("keyfall.pub"), &[&public], 0o644)?;
    write(&dir.join(FILE_NAME), &[config_text(args).as_bytes()], 0o644)?;
    let keys = make_keys(dir, people)?;
    let (mut facts, tokens) = first_people(env, &keys)?;
    facts.extend(keys::mark(&ring));
    if args.solo {
        let value = Some("since init".to_owned());
        facts.push(Fact::Setting { key: "solo", value });
    }
    for (name, issued) in people.iter().zip(&tokens) {
        write_person(dir, name, issued, args)?;
    }
    let commit = Commit {
        guards: vec![Guard::SettingIs {
            key: keys::KEK_CHECK,
            value: None,
        }],
        facts,
        log: vec![entry(env, args, &verifier, &keys)],
    };
    Ok((signing, commit))
}

/// Behind the first record.
async fn finish(
    args: &InitArgs,
    dir: &Path,
    store: &dyn Store,
    signing: SigningKey,
    unfinished: Unfinished,
) -> anyhow::Result<VerifierKey> {
    let verifier = signing.verifier().clone();
    let config = Config {
        anchor_file: dir.join(Config::default().anchor_file),
        origin: args.name.clone(),
        ..Config::default()
    };
    // One that is there knows what became of the store since.
    if !config.anchor_file.exists() {
        Anchor::new(&config, Arc::new(signing)).write(store).await?;
    }
    store.close().await.context("the store could not be closed")?;
    unfinished.done()?;
    Ok(verifier)
}

/// A signing key for each of them, with the public half beside it for auditors, who name the approvers whose signatures they believe.
fn make_keys(dir: &Path, people: &[String]) -> anyhow::Result<Vec<(String, VerifierKey)>> {
    let mut keys = Vec::new();
    for name in people {
        let key = SigningKey::create(&dir.join(format!("people/{name}.key")), name, &SystemRandom::new())?;
        write(
            &dir.join(format!("people/{name}.pub")),
            &[key.verifier().to_string().as_bytes(), b"\n"],
            0o644,
        )?;
        keys.push((name.clone(), key.verifier().clone()));
    }
    Ok(keys)
}

/// The first record of the log: with whom everything began.
fn entry(env: &Environment, args: &InitArgs, verifier: &VerifierKey, people: &[(String, VerifierKey)]) -> LogEntry {
    let people: Vec<_> = people
        .iter()
        .map(|(name, key)| json!({ "name": name, "key": key.to_string() }))
        .collect();
    let at = env.now();
    let id = ActId::from_uuid(env.draw_uuid());
    let details = json!({ "server_key": verifier.to_string(), "people": people, "solo": args.solo });
    LogEntry::of_act(Act {
        trigger: "request",
        ..Act::of_engine(id, at, "initialised", details)
    })
}

fn write_person(dir: &Path, name: &str, issued: &IssuedToken, args: &InitArgs) -> anyhow::Result<()> {
    let token = issued.token.expose_secret_str().context("the token is no text")?;
    let file = dir.join(format!("people/{name}.token"));
    write(&file, &[token.as_bytes(), b"\n"], PRIVATE)?;
    let server = if args.listen.port() == 0 {
        // Known only once the server runs: `--server`, or the ready file.
        String::new()
    } else {
        format!("server = \"http://{}\"\n", args.listen)
    };
    let text = format!("{server}token_file = \"{name}.token\"\nkey_file = \"{name}.key\"\n");
    write(&context_of(dir, name), &[text.as_bytes()], PRIVATE)
}

fn context_of(dir: &Path, person: &str) -> PathBuf {
    dir.join(format!("people/{person}.toml"))
}

fn config_text(args: &InitArgs) -> String {
    format!(
        "# Settings of `keyfall serve`. Paths start at this file's directory. `keyfall config print` shows everything with its defaults.\n\
         listen = \"{listen}\"\n\
         # Needed to listen on anything but loopback:\n\
         # tls_cert = \"server.pem\"\n\
         # tls_key = \"server.key\"\n\
         store = {store}\n\
         # Keep these two outside of the store's disk and of its backups where you can.\n\
         kek_file = \"kek\"\n\
         signing_key_file = \"signing.key\"\n\
         anchor_file = \"anchor\"\n\
         backup_directory = \"backups\"\n\
         # The log's name in its checkpoints, for ever; the signing key has the same.\n\
         origin = \"{name}\"\n\
         \n\
         # Directories that file destinations may write to, by the name that manifests use:\n\
         # [file_roots]\n\
         # apps = \"/run/secrets/apps\"\n",
        listen = args.listen,
        name = args.name,
        store = toml::Value::from(address(args).to_string()),
    )
}

fn write(path: &Path, parts: &[&[u8]], mode: u32) -> anyhow::Result<()> {
    owner_only::create(path, mode)
        .and_then(|mut file| owner_only::fill(&mut file, parts))
        .with_context(|| format!("{} cannot be written", path.display()))
}

fn next_steps(dir: &Path, people: &[String], verifier: &VerifierKey) -> String {
    let here = |name: &str| -> PathBuf { dir.join(name) };
    let first = people.first().map_or("", String::as_str);
    let second = people.get(1).map_or(first, String::as_str);
    format!(
        "Made {dir}.\n\
         The server's verifier key, for whoever checks receipts (also in {public}):\n  {verifier}\n\n\
         Next:\n  \
           keyfall serve --config {config}\n  \
           keyfall --context {asks} status\n  \
           keyfall --context {asks} apply -f MANIFESTS\n  \
           keyfall --context {signs} approve PLAN\n\n\
         Give each file of {people} to its owner and take it away from here: {first} asks, {second} approves.\n\
         Keep {kek} and {signing} in a safe place as well: without the first the stored secrets are lost.\n",
        dir = dir.display(),
        public = here("keyfall.pub").display(),
        config = here(FILE_NAME).display(),
        asks = context_of(dir, first).display(),
        signs = context_of(dir, second).display(),
        people = here("people").display(),
        kek = here("kek").display(),
        signing = here("signing.key").display(),
    )
}
