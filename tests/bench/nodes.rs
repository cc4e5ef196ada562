//! Row 13: what three servers on one PostgreSQL rotate in a second, beside one. Real processes on a `demo` system whose provider takes its time, so
//! that one server with 32 runs leaves most of the machine idle; what is counted is what the store says is completed.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

use super::register::scratch;
use super::servers::Servers;

const PROGRAM: &str = env!("CARGO_BIN_EXE_keyfall");
/// Each call of the provider takes so long.
const DELAY_MS: u32 = 150;
/// Runs that one server drives at once.
const RUNS: u32 = 32;
const WARM: Duration = Duration::from_secs(6);
const WATCHED: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn three_beside_one(identities: usize) -> Result<()> {
    let folder = scratch()?;
    let servers = Servers::these(folder.path(), &["postgres"])?;
    let mut figures = Vec::new();
    for nodes in [1, 3] {
        let figure = some(&servers, folder.path(), nodes, identities).await?;
        println!(
            "nodes count={nodes} identities={identities} runs={RUNS} delay_ms={DELAY_MS} rotations_s={:.1} machine_busy_percent={:.0}",
            figure.per_second, figure.busy
        );
        figures.push(figure.per_second);
    }
    if let [one, three] = figures.as_slice() {
        println!("nodes_ratio three_per_one={:.2}", three / one);
    }
    Ok(())
}

struct Figure {
    per_second: f64,
    /// Of both cores, in percent.
    busy: f64,
}

/// Stopped when it is dropped, however the figure ends.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn some(servers: &Servers, under: &Path, nodes: usize, identities: usize) -> Result<Figure> {
    let home = under.join(format!("nodes-{nodes}"));
    fs::create_dir(&home)?;
    let database = format!("nodes_{nodes}");
    let admin = connect(&servers.url("postgres")?).await?;
    admin.batch_execute(&format!("create database {database}")).await?;
    let url = servers.url(&database)?;
    made(&home, &url)?;
    let mut running = Vec::new();
    for number in 1..=nodes {
        running.push(serve(&home, number)?);
    }
    let mut url_of_first = String::new();
    for number in 1..=nodes {
        url_of_first = answers(&home, nodes + 1 - number).await?;
    }
    apply(&home, &url_of_first, identities)?;
    let client = connect(&url).await?;
    let provisioned = "select count(*) from runs where kind = 'provision' and status = 'completed'";
    let began = Instant::now();
    while usize::try_from(count(&client, provisioned).await?)? < identities {
        ensure!(began.elapsed() < PATIENCE, "the identities are not provisioned");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(WARM).await;
    let completed = "select count(*) from runs where kind = 'rotate' and status = 'completed'";
    let (before, busy_before, began) = (count(&client, completed).await?, busy()?, Instant::now());
    tokio::time::sleep(WATCHED).await;
    let (after, busy_after, seconds) = (count(&client, completed).await?, busy()?, began.elapsed().as_secs_f64());
    let stuck = count(&client, "select count(*) from runs where status = 'needs_operator'").await?;
    ensure!(stuck == 0, "{stuck} runs need a person");
    drop(running);
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench are small")]
    let rotated = (after - before) as f64;
    Ok(Figure {
        per_second: rotated / seconds,
        busy: (busy_after.0 - busy_before.0) / (busy_after.1 - busy_before.1) * 100.0,
    })
}

/// A store that `init` made, and what every node's settings say beyond that.
fn made(home: &Path, url: &str) -> Result<()> {
    let address = home.join("store.url");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&address)?;
    writeln!(file, "{url}")?;
    let kf = home.join("kf");
    let status = Command::new(PROGRAM)
        .arg("init")
        .arg(&kf)
        .args(["--listen", "127.0.0.1:0", "--store"])
        .arg(format!("file:{}", address.display()))
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "`keyfall init DIR --store …` failed: {status}");
    fs::create_dir(home.join("state"))?;
    let settings = kf.join("keyfall.toml");
    let text = fs::read_to_string(&settings)?;
    let more = format!(
        "\n[file_roots]\nstate = \"{}\"\n\n[engine]\nmax_runs = {RUNS}\nbreaker_at_least = 1000000\n",
        home.join("state").display()
    );
    fs::write(&settings, text + &more)?;
    Ok(())
}

fn serve(home: &Path, number: usize) -> Result<Node> {
    let kf = home.join("kf");
    // Each server keeps one of its own; it goes on from what `init` wrote.
    let anchor = kf.join(format!("anchor-{number}"));
    fs::copy(kf.join("anchor"), &anchor)?;
    let log = fs::File::create(home.join(format!("node-{number}.log")))?;
    let child = Command::new(PROGRAM)
        .arg("serve")
        .arg("--config")
        .arg(kf.join("keyfall.toml"))
        .arg("--ready-file")
        .arg(ready(home, number))
        .env("KEYFALL_NODE", format!("node-{number}"))
        .env("KEYFALL_ANCHOR_FILE", anchor)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(Node(child))
}

fn ready(home: &Path, number: usize) -> PathBuf {
    home.join(format!("ready-{number}"))
}

async fn answers(home: &Path, number: usize) -> Result<String> {
    let began = Instant::now();
    loop {
        if let Ok(url) = fs::read_to_string(ready(home, number))
            && url.ends_with('\n')
        {
            return Ok(url.trim().to_owned());
        }
        ensure!(
            began.elapsed() < Duration::from_secs(30),
            "node {number} does not answer: {}",
            fs::read_to_string(home.join(format!("node-{number}.log"))).unwrap_or_default()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One person applies the manifests, another one approves.
fn apply(home: &Path, url: &str, identities: usize) -> Result<()> {
    let file = home.join("manifests.yaml");
    fs::write(
        &file,
        manifests(identities)
            .map(|one| format!("{one}\n"))
            .collect::<Vec<_>>()
            .join("---\n"),
    )?;
    let plan = person(
        home,
        url,
        "alice",
        &[
            "apply",
            "-f",
            &file.display().to_string(),
            "--reason",
            "bench",
            "-o",
            "json",
        ],
    )?;
    let plan: Value = serde_json::from_str(&plan)?;
    let id = plan.get("id").and_then(Value::as_str).context("the plan has an id")?;
    person(home, url, "bob", &["approve", id, "--yes", "--reason", "bench"])?;
    Ok(())
}

fn person(home: &Path, url: &str, name: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(PROGRAM)
        .args(["--server", url, "--context"])
        .arg(home.join(format!("kf/people/{name}.toml")))
        .args(args)
        .output()?;
    ensure!(
        output.status.success(),
        "keyfall {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn manifests(identities: usize) -> impl Iterator<Item = Value> {
    let one = |kind: &str, name: String, spec: Value| json!({ "apiVersion": "keyfall.dev/v1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    let system = json!({
        "connector": "demo", "environment": "bench", "owner": "bench",
        "vantages": [{ "name": "primary", "role": "control", "host": "127.0.0.1", "port": 1 },
                     { "name": "replica", "role": "probe", "host": "127.0.0.1", "port": 2 }],
        "options": { "provider": "bench", "stateFolder": { "root": "state", "folder": "bench" },
                     "faults": { "latencyMs": { "any": DELAY_MS } } },
        "limits": { "concurrency": 1024, "callsPerSecond": 100_000, "refusedLoginsPerMinute": 1_000_000 },
    });
    let policy = json!({
        "owner": "bench", "selector": { "systems": ["sys"] }, "rotation": { "every": "1s" }, "autonomy": "automatic", "overlap": "0s",
        "proof": { "refusals": 3, "interval": "0s", "giveUpAfter": "5m", "keepDeadSecret": "1h" },
        "budget": { "destructive": 10_000_000, "per": "1h" },
    });
    let fixed = [
        one("Owner", "bench".to_owned(), json!({ "contact": "bench@example.org" })),
        one("System", "sys".to_owned(), system),
        one("Policy", "pol".to_owned(), policy),
    ];
    let identity = move |number: usize| {
        let spec = json!({
            "kind": "api_key", "system": "sys", "environment": "bench", "owner": "bench", "expires": "2099-01-01T00:00:00Z",
            "account": format!("app_{number}"), "strategy": "dual_slot",
        });
        one("Identity", format!("app-{number}"), spec)
    };
    fixed.into_iter().chain((0..identities).map(identity))
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn count(client: &Client, question: &str) -> Result<i64> {
    Ok(client.query_one(question, &[]).await?.get(0))
}

/// What the machine's processors have worked, and all there was, in ticks.
fn busy() -> Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("stat begins with all processors")?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let all: f64 = ticks.iter().take(8).sum();
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    Ok((all - idle, all))
}
