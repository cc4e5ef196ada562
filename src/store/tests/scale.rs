//! A full register on PostgreSQL, with the planner's own choice: no statement of a start or of a pass reads a table, or many more rows than it
//! answers. The rows are made by the database, as many as an organisation has.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::support::{On, Opened};
use crate::store::postgres::translated;
use crate::store::sql::{self, Statement};

const MANY: u32 = 100_000;
/// What a statement may read beside what it answers.
const FEW: u64 = 2_000;

/// A tenth is due, a tenth has an open run; a hundred runs are held by nodes, and half of the open ones have woken.
const ROWS: &str = "
    insert into resources (id, kind, name, version, labels, spec)
        select 'r' || n, (array['owner', 'system', 'policy', 'destination'])[n % 4 + 1], 'n' || n, 1, '{}', '{}' from generate_series(1, 400) n;
    insert into identities (id, name, version, labels, spec, state, current_credential, due_at, due_reason, is_control, created_at, kind, system,
            environment, owner, expires_at, is_active, open_run)
        select 'i' || n, 'name-' || n, 1, '{}', repeat('x', 200), 'active', 'c' || n,
            case when n % 10 = 0 then n else 1000000 + n end, 'max_age', (n % 1000 = 0)::int, n, 'database_user', 's' || n % 100,
            'e' || n % 5, 'o' || n % 300, 2000000 + n, 1, case when n % 10 = 1 then 'run' || n end
        from generate_series(1, MANY) n;
    insert into credentials (id, identity, principal, principal_id, key_id, secret, state, life, created_at)
        select 'c' || n || '-' || k, 'i' || n, 'p' || n, 'x', 'k', 's' || n, case k when 1 then 'dead' else 'active' end, '{}', n + k
        from generate_series(1, MANY) n, generate_series(1, 2) k;
    insert into secrets (id, kind, version, endpoint_digest, algorithm, kek_id, wrapped_key, wrap_nonce, nonce, ciphertext, created_at, destroy_at)
        select 's' || n, 'password', 1, '', '', 'kek-1', '', '', '', '', n, case when n % 100 = 0 then n + 5000000 end
        from generate_series(1, MANY) n;
    insert into runs (id, kind, identity, identity_name, system_name, status, next_seq, epoch, node, lease_until, wake_at, opened_at, closed_at,
            workflow)
        select 'run' || n, 'rotate', 'i' || n, 'name-' || n, 's1', case when n % 10 = 1 then 'open' else 'completed' end, 9, 1,
            case when n % 1000 = 1 then 'node-1' end, case when n % 1000 = 1 then 3000000 end, case when n % 10 = 1 then n end, n,
            case when n % 10 <> 1 then n + 1 end, 1
        from generate_series(1, MANY) n;
    insert into findings (id, kind, subject, severity, text, owner, raised_at, resolved_at, is_open)
        select 'f' || n, 'kind-' || n % 20, 'name-' || n, 'high', 'text', 'o', n, case when n % 2 = 0 then n end, n % 2
        from generate_series(1, MANY) n;
    insert into receipts (id, run, identity, body, body_digest, closing_seq, at)
        select 'rc' || n, 'run' || n, 'i' || n, '', '', 9, n from generate_series(1, MANY) n;
    insert into spends (scope, at, amount) select 'scope-' || n % 50, n, 1 from generate_series(1, MANY) n;
    insert into settling (system, vantage, micros, at) select 's' || n % 100, 'v', n, n from generate_series(1, MANY) n;
    insert into plans (id, status, digest, requester, approvals_needed, content, created_at, expires_at)
        select 'pl' || n, case when n % 100 = 0 then 'waiting' else 'done' end, '', '', 1, '', n, n from generate_series(1, MANY) n;
    insert into log (run, seq, at, bytes, mark, position)
        select 'run' || n, 0, n, '\\x00', '\\x0000000000000000', n - 1 from generate_series(1, MANY) n;
    update log_frontier set size = MANY;
";

/// Read once in a while, or by people, and allowed to: people and nodes are few, and counts walk an index that holds what they count.
const MAY_READ_MUCH: [(&str, &str); 6] = [
    ("person", "EVERYONE"),
    ("node", "EVERY"),
    ("run", "COUNT_OPEN"),
    ("finding", "COUNT_OPEN"),
    // Walks the open runs, once in a sweep.
    ("run", "OF_LATER_WORKFLOWS"),
    // What a person asks for.
    ("run", "ALL_AFTER"),
];

async fn filled() -> (Opened, Client) {
    let test = On::Postgres.opened().await;
    let bare = test.database().client().await;
    let rows = ROWS.replace("MANY", &MANY.to_string());
    bare.batch_execute(&rows).await.unwrap();
    bare.batch_execute("analyze; set plan_cache_mode = force_generic_plan; set jit = off")
        .await
        .unwrap();
    (test, bare)
}

/// A value of each parameter that finds something.
fn value(name: &str) -> &'static str {
    match name {
        "limit" => "200",
        "now" | "before" | "until" | "at" => "50000",
        "since" | "after_at" | "oldest" | "from" | "first" => "0",
        "newest" | "workflow" | "is_open" | "was_open" | "version" | "level" | "lowest" => "1",
        "id" | "identity" => "'i500'",
        "run" => "'run501'",
        "name" => "'name-500'",
        "system" => "'s1'",
        "owner" => "'o1'",
        "kind" => "'kind-1'",
        "subject" => "'name-501'",
        "scope" => "'scope-1'",
        "kek" => "'kek-1'",
        "node" => "'node-1'",
        "after" | "after_id" => "''",
        _ => "null",
    }
}

/// Rows that a plan read and threw away, and whether it read a whole table that is not small.
#[derive(Debug, Default)]
struct Read {
    thrown_away: u64,
    scanned: Vec<String>,
}

fn read_of(plan: &[String]) -> Read {
    let mut read = Read::default();
    for line in plan {
        if let Some((_, count)) = line.split_once("Rows Removed by") {
            let digits: String = count.chars().filter(char::is_ascii_digit).collect();
            read.thrown_away += digits.parse::<u64>().unwrap_or(0);
        }
        let small = [
            "resources",
            "settings",
            "counters",
            "log_frontier",
            "people",
            "nodes",
            "tokens",
            "approvals",
            // A row for each system.
            "system_paces",
            "system_slots",
            "log_nodes",
        ];
        if let Some((_, of)) = line.split_once("Seq Scan on ")
            && !small.contains(&of.split(' ').next().unwrap_or_default())
        {
            read.scanned.push(line.trim().to_owned());
        }
    }
    read
}

async fn carried_out(
    bare: &Client,
    number: usize,
    statement: &Statement,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let text = translated(statement.text());
    bare.batch_execute(&format!("prepare s{number} as {text}")).await?;
    let given: Vec<_> = statement.names().iter().map(|name| value(name)).collect();
    let given = if given.is_empty() {
        String::new()
    } else {
        format!("({})", given.join(", "))
    };
    bare.batch_execute("begin").await?;
    let asked = format!("explain (analyze, timing off, costs off) execute s{number}{given}");
    let answers = bare.simple_query(&asked).await;
    bare.batch_execute("rollback").await?;
    let lines = answers?.into_iter().filter_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(lines.collect())
}

#[tokio::test]
async fn nothing_of_a_pass_grows_with_the_register() {
    let (_test, bare) = filled().await;
    let (mut looked_at, mut problems) = (0, Vec::new());
    for (number, (noun, name, statement)) in sql::all().into_iter().enumerate() {
        // What writes by its key is looked at by its plan alone (`schema.rs`): its values must fit together.
        let reads = statement.text().starts_with("select") || name == "CLAIM";
        if !reads || noun == "coherence" || MAY_READ_MUCH.contains(&(noun, name)) {
            continue;
        }
        let plan = carried_out(&bare, number, statement).await;
        let plan = plan.unwrap_or_else(|error| panic!("{noun}::{name}: {error:?}"));
        let read = read_of(&plan);
        looked_at += 1;
        if !read.scanned.is_empty() || read.thrown_away > FEW {
            problems.push(format!("{noun}::{name}: {read:?}\n{}", plan.join("\n")));
        }
    }
    assert!(looked_at > 50, "{looked_at}");
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}
