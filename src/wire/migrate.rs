//! `keyfall migrate-store`: the store into another database. What a move is, and why it is safe to interrupt, is said in the store's `copy`;
//! here it is begun, shown and ended.

use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};
use keyfall::cli::{MigrateStoreArgs, Output, ServeFlags, note};
use keyfall::clock::Environment;
use keyfall::config::StoreAddress;
use keyfall::domain::ids::ActId;
use keyfall::engine::freeze::{self, FREEZE};
use keyfall::evidence::audit::Act;
use keyfall::store::{Begun, Closing, End, Guard, LogEntry, Move, MoveError, Progress, Purpose, TableReport, abandon};
use serde_json::json;

use super::{open_end, settings, usable};

/// A server that was silent for longer is dead.
const BELIEVED_FOR: SignedDuration = SignedDuration::from_mins(1);

/// Between two lines of progress.
const EVERY: SignedDuration = SignedDuration::from_secs(2);

pub(crate) async fn migrate_store(args: &MigrateStoreArgs, output: Output) -> anyhow::Result<()> {
    let env = Environment::of_this_machine();
    let from = source(args)?;
    let Some(to) = args.to.as_deref().filter(|_| !args.abandon) else {
        return give_up(&from, output, &env).await;
    };
    let to = named(to).context("--to")?;
    two(&from, &to)?;
    let source = open_end(&from, Purpose::MoveFrom, &env).await?;
    let target = match open_end(&to, Purpose::MoveTo, &env).await {
        Ok(target) => target,
        Err(error) => {
            source.store().close().await?;
            return Err(error);
        }
    };
    let moved = carry(&source, &target, &env).await;
    // Both are closed whatever became of the move; its own error is the one that matters.
    let closed = [source.store().close().await, target.store().close().await];
    let carried = moved?;
    for ended in closed {
        ended.context("a store could not be closed")?;
    }
    tell(&source, &target, carried, output)
}

/// What was done, and how long that took.
struct Carried {
    tables: Vec<TableReport>,
    records: u64,
    root: String,
    copied: SignedDuration,
}

async fn carry(source: &End, target: &End, env: &Environment) -> anyhow::Result<Option<Carried>> {
    let guards = may_be_closed(source).await?;
    let mut one = match Move::begin(source, target, closing(source, target, guards, env)).await? {
        Begun::Move(one) => one,
        Begun::Done => return Ok(None),
    };
    let mut lines = Lines::new("copying", env);
    one.copy(&mut |progress| lines.show(progress)).await?;
    let copied = lines.took();
    let mut lines = Lines::new("comparing", env);
    let tables = match one.verify(&mut |progress| lines.show(progress)).await {
        Ok(tables) => tables,
        Err(error @ MoveError::Differs { .. }) => {
            let advice = format!(
                "{} is not opened for work. Give this move up with `keyfall migrate-store --from … --abandon` and begin one into an empty target",
                target.name()
            );
            return Err(anyhow::Error::new(error).context(advice));
        }
        Err(error) => return Err(error.into()),
    };
    let state = target.store().log_state().await?;
    one.finish().await?;
    Ok(Some(Carried {
        tables,
        records: state.size,
        root: keyfall::domain::digest::Digest(state.root).to_string(),
        copied,
    }))
}

/// A store that servers share is closed only while it is frozen and none of them lives. Answers what must still hold when it is closed.
async fn may_be_closed(source: &End) -> anyhow::Result<Vec<Guard>> {
    let store = source.store();
    if !source.is_shared() || source.moved().await?.is_some() {
        return Ok(Vec::new());
    }
    let Some(freeze) = store.setting(FREEZE).await? else {
        bail!(
            "a store that servers share is moved only while it is frozen: `keyfall freeze --reason \"the store is moved\"`, then stop them"
        );
    };
    let now = store.now().await?;
    let nodes = store.nodes().await?;
    let living: Vec<_> = nodes
        .iter()
        .filter(|node| node.is_alive(now, BELIEVED_FOR))
        .map(|node| node.name.as_str())
        .collect();
    if !living.is_empty() {
        bail!(
            "these servers have the store open: {}. Stop them; one that was killed is believed to be gone a minute after it was seen last",
            living.join(", ")
        );
    }
    Ok(vec![freeze::still(Some(freeze))])
}

fn closing(source: &End, target: &End, guards: Vec<Guard>, env: &Environment) -> Closing {
    let details = json!({ "from": source.name(), "to": target.name() });
    Closing {
        attempt: env.draw_uuid().to_string(),
        at: env.now(),
        guards,
        record: record(env, "store_moved", details),
    }
}

fn record(env: &Environment, action: &str, details: serde_json::Value) -> LogEntry {
    let id = ActId::from_uuid(env.draw_uuid());
    LogEntry::of_act(Act {
        trigger: "request",
        ..Act::of_engine(id, env.now(), action, details)
    })
}

async fn give_up(from: &StoreAddress, output: Output, env: &Environment) -> anyhow::Result<()> {
    let source = open_end(from, Purpose::MoveFrom, env).await?;
    let given_up = abandon(
        &source,
        record(env, "store_move_abandoned", json!({ "from": source.name() })),
    )
    .await;
    source.store().close().await.context("the store could not be closed")?;
    let moved = given_up?;
    let view = json!({ "store": source.name(), "abandoned": moved.to });
    let text = format!(
        "The move of {} to {} is given up: the first opens for work again, and what was copied to the second can be deleted.",
        source.name(),
        moved.to
    );
    output.say(&view, &text)?;
    Ok(())
}

/// Where the store is: as it was said, or as the settings say.
fn source(args: &MigrateStoreArgs) -> anyhow::Result<StoreAddress> {
    match &args.from {
        Some(from) => named(from).context("--from"),
        None => {
            let (config, _) = settings(&args.config, &ServeFlags::default())?;
            Ok(config.store)
        }
    }
}

fn two(from: &StoreAddress, to: &StoreAddress) -> anyhow::Result<()> {
    if from == to {
        bail!("--from and --to are the same store");
    }
    Ok(())
}

/// A path starts where the person is.
fn named(store: &str) -> anyhow::Result<StoreAddress> {
    let here = std::env::current_dir().context("the current directory cannot be told")?;
    let address = StoreAddress::from(store.to_owned()).from_here(&here);
    usable(&address)?;
    Ok(address)
}

fn tell(source: &End, target: &End, carried: Option<Carried>, output: Output) -> anyhow::Result<()> {
    let advice = format!(
        "Set `store = \"{to}\"` in the settings and start `keyfall serve`. {from} is closed for good and still holds every sealed secret: \
         keep it until the server works, then destroy it (`deploy/README.md` says how).",
        to = target.name(),
        from = source.name(),
    );
    let Some(carried) = carried else {
        let view = json!({ "from": source.name(), "to": target.name(), "already": true });
        let text = format!("{} was moved to {} before. {advice}", source.name(), target.name());
        return Ok(output.say(&view, &text)?);
    };
    let rows: u64 = carried.tables.iter().map(|table| table.source).sum();
    let rate = per_second(rows, carried.copied);
    let view = json!({
        "from": source.name(), "to": target.name(), "already": false, "tables": carried.tables, "rows": rows,
        "records": carried.records, "root": carried.root, "rows_per_second": rate,
    });
    if output.is_json() {
        return Ok(output.json(&view)?);
    }
    let tables: Vec<_> = carried
        .tables
        .iter()
        .map(|table| json!({ "table": table.table, "rows": table.target, "compared": "equal" }))
        .collect();
    output.list(
        &tables,
        &[("TABLE", "table"), ("ROWS", "rows"), ("COMPARED", "compared")],
    )?;
    let text = format!(
        "\n{rows} rows were copied in {took:#} ({rate} rows/s) and compared; the log's {records} records have the same root {root}.\n{advice}",
        took = carried.copied,
        records = carried.records,
        root = carried.root,
    );
    Ok(output.say(&view, &text)?)
}

fn per_second(rows: u64, took: SignedDuration) -> u64 {
    let millis = u64::try_from(took.as_millis()).unwrap_or(0).max(1);
    rows.saturating_mul(1_000) / millis
}

/// Lines of progress on standard error, for what takes longer than a moment.
struct Lines<'a> {
    doing: &'static str,
    env: &'a Environment,
    began: Timestamp,
    last: Timestamp,
}

impl<'a> Lines<'a> {
    fn new(doing: &'static str, env: &'a Environment) -> Self {
        let began = env.now();
        Self {
            doing,
            env,
            began,
            last: began,
        }
    }

    fn took(&self) -> SignedDuration {
        self.env.now().duration_since(self.began)
    }

    fn show(&mut self, progress: Progress) {
        let now = self.env.now();
        if now.duration_since(self.last) < EVERY {
            return;
        }
        self.last = now;
        let Progress { table, rows, of } = progress;
        note(&format!(
            "{} {table}: {rows} of {of} rows after {} s",
            self.doing,
            self.took().as_secs()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::{two, usable};
    use keyfall::config::StoreAddress;

    fn address(text: &str) -> StoreAddress {
        StoreAddress::from(text.to_owned())
    }

    #[test]
    fn the_refusal_of_an_address_says_what_is_wrong_with_it() {
        let one = address("postgres://u:hidden@h/one");
        let refused = format!("{:#}", super::named("postgres://u:hidden@h/one").unwrap_err());
        assert!(
            refused.contains("holds a password") && refused.contains("file:PATH"),
            "{refused}"
        );
        assert!(!refused.contains("hidden") && usable(&one).is_err(), "{refused}");
    }

    #[test]
    fn only_equal_addresses_are_the_same_store() {
        // Both are shown as the same text, since both hold a password.
        assert!(
            two(
                &address("postgres://u:hidden@h/one"),
                &address("postgres://u:hidden@h/two")
            )
            .is_ok()
        );
        assert!(two(&address("postgres://u@h/one"), &address("postgres://u@h/one")).is_err());
    }
}
