//! What libpq reaches, driven by `pgbench`: the bare statement, and a bare login. It knows nothing of Keyfall but the servers.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::servers::Servers;

/// How long each of the two is measured, in seconds.
const SECONDS: &str = "3";

/// Bare cut-overs a second, `concurrency` at once: a statement on a connection that stays open, and a login on a fresh one.
///
/// `pgbench` either keeps its connections or makes all of them anew, so the two are measured one behind the other. Both saturate the
/// machine, and what takes a-th and b-th parts of a second of it takes their sum together.
pub(crate) fn cut_overs_a_second(
    servers: &Servers,
    folder: &Path,
    statements: &[String],
    concurrency: usize,
) -> Result<f64> {
    let pgbench = Pgbench {
        servers,
        folder,
        clients: concurrency.to_string(),
    };
    let altered = pgbench.a_second("statement", &one_of(statements, concurrency), &[])?;
    let logged_in = pgbench.a_second("login", "SELECT session_user;\n", &["--connect"])?;
    Ok(1.0 / (1.0 / altered + 1.0 / logged_in))
}

/// A script that runs one of the statements, never one that another client may be running.
fn one_of(statements: &[String], concurrency: usize) -> String {
    let own = statements.len() / concurrency.max(1);
    let mut script = format!(
        "\\set which :client_id * {own} + random(0, {})\n",
        own.saturating_sub(1)
    );
    for (index, statement) in statements.iter().enumerate() {
        let word = if index == 0 { "if" } else { "elif" };
        script.push_str(&format!("\\{word} :which = {index}\n{statement};\n"));
    }
    script.push_str("\\endif\n");
    script
}

struct Pgbench<'a> {
    servers: &'a Servers,
    folder: &'a Path,
    clients: String,
}

impl Pgbench<'_> {
    fn a_second(&self, name: &str, script: &str, how: &[&str]) -> Result<f64> {
        let file = self.folder.join(format!("{name}.pgbench"));
        std::fs::write(&file, script)?;
        let program = Path::new(self.servers.text("KEYFALL_PG_BIN")?).join("pgbench");
        let output = Command::new(&program)
            .env("PGPASSFILE", self.servers.text("KEYFALL_PG_PASSFILE")?)
            .args(["--host", self.servers.text("KEYFALL_PG_HOST")?])
            .args(["--port", self.servers.text("KEYFALL_PG_PRIMARY_PORT")?])
            .args(["--username", self.servers.text("KEYFALL_PG_ADMIN_USER")?])
            .args(["--no-vacuum", "--time", SECONDS])
            .args(["--client", &self.clients, "--jobs", &self.clients])
            .args(how)
            .arg("--file")
            .arg(&file)
            .arg("postgres")
            .output()
            .with_context(|| format!("{} cannot be run", program.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "pgbench failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = "));
        let rate = rate.and_then(|rest| rest.split(' ').next());
        Ok(rate.context("pgbench says how many a second")?.parse()?)
    }
}
