//! The tables as they are copied from one database into another: every column as it is, in pages by key. What a value means is not known
//! here; what belongs to one database, and must not be copied, is.

use super::super::{ARRIVING, DATABASE, MOVED, SCRUB_OWED};
use super::{Bound, Value};
use std::borrow::Cow;
use std::fmt::Write as _;

/// Rows of one `insert`: few enough that the parameters of the widest table stay far below what a statement may have.
const ROWS_OF_A_STATEMENT: usize = 50;

/// One table that is copied.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// What tells its rows apart, and gives them their order.
    pub(crate) key: &'static [&'static str],
    /// What is copied. A key that is not among them is given by the database: rows keep their order then, not their numbers.
    pub(crate) columns: &'static [&'static str],
    /// Rows that are read at once; fewer where one row may be large.
    pub(crate) page: u32,
    /// Where a new store holds a row already, the copied one takes its place.
    replaces: bool,
    /// Values of the first key column whose rows belong to the database and not to the store.
    local: &'static [&'static str],
    /// What is read instead of the table itself.
    from: Option<&'static str>,
}

const fn table(name: &'static str, key: &'static [&'static str], columns: &'static [&'static str]) -> Table {
    Table {
        name,
        key,
        columns,
        page: 1_000,
        replaces: false,
        local: &[],
        from: None,
    }
}

/// In an order in which no row names one of a later table.
pub(crate) static TABLES: &[Table] = &[
    Table {
        replaces: true,
        local: &[MOVED, ARRIVING, SCRUB_OWED, DATABASE],
        ..table("settings", &["key"], &["key", "value"])
    },
    Table {
        // Each writer of the source counts in a shard of its own; what arrives is their sum.
        from: Some(
            "(select subject, state, cast(0 as bigint) as shard, cast(sum(amount) as bigint) as amount \
            from counters group by subject, state) as summed",
        ),
        ..table(
            "counters",
            &["subject", "state"],
            &["subject", "state", "shard", "amount"],
        )
    },
    table(
        "resources",
        &["id"],
        &["id", "kind", "name", "version", "labels", "spec", "approved"],
    ),
    table(
        "identities",
        &["id"],
        &[
            "id",
            "name",
            "version",
            "labels",
            "spec",
            "state",
            "current_credential",
            "due_at",
            "due_reason",
            "is_control",
            "approved",
            "created_at",
            "kind",
            "system",
            "environment",
            "owner",
            "expires_at",
            "is_active",
            "open_run",
        ],
    ),
    table(
        "credentials",
        &["id"],
        &[
            "id",
            "identity",
            "principal",
            "principal_id",
            "key_id",
            "secret",
            "state",
            "life",
            "created_at",
            "proven_at",
            "expires_at",
        ],
    ),
    table(
        "secrets",
        &["id"],
        &[
            "id",
            "name",
            "kind",
            "version",
            "endpoint_digest",
            "algorithm",
            "kek_id",
            "wrapped_key",
            "wrap_nonce",
            "nonce",
            "ciphertext",
            "created_at",
            "destroy_at",
            "destroyed_at",
        ],
    ),
    table(
        "runs",
        &["id"],
        &[
            "id",
            "kind",
            "identity",
            "identity_name",
            "system_name",
            "status",
            "step",
            "next_seq",
            "epoch",
            "node",
            "lease_until",
            "wake_at",
            "opened_at",
            "closed_at",
            "workflow",
        ],
    ),
    Table {
        page: 20,
        ..table(
            "plans",
            &["id"],
            &[
                "id",
                "status",
                "digest",
                "requester",
                "approvals_needed",
                "content",
                "created_at",
                "expires_at",
                "decided_at",
            ],
        )
    },
    table(
        "approvals",
        &["id"],
        &[
            "id",
            "plan",
            "person",
            "approve",
            "reason",
            "expires_at",
            "signature",
            "at",
        ],
    ),
    table(
        "findings",
        &["id"],
        &[
            "id",
            "kind",
            "subject",
            "severity",
            "text",
            "owner",
            "raised_at",
            "resolved_at",
            "is_open",
        ],
    ),
    Table {
        page: 100,
        ..table(
            "receipts",
            &["id"],
            &["id", "run", "identity", "body", "body_digest", "closing_seq", "at"],
        )
    },
    table(
        "people",
        &["id"],
        &[
            "id",
            "name",
            "roles",
            "public_key",
            "enrolled_by",
            "enrolment",
            "enrolled_at",
            "retired_at",
        ],
    ),
    table(
        "tokens",
        &["id"],
        &[
            "id",
            "person",
            "hash",
            "label",
            "created_at",
            "expires_at",
            "revoked_at",
        ],
    ),
    table("spends", &["id"], &["scope", "at", "amount"]),
    table("settling", &["id"], &["system", "vantage", "micros", "at"]),
    table("log", &["position"], &["position", "run", "seq", "at", "bytes", "mark"]),
    table("log_nodes", &["level", "place"], &["level", "place", "hash"]),
    Table {
        replaces: true,
        ..table("log_frontier", &["one"], &["one", "size", "peaks"])
    },
];

/// Tables that belong to one database: its schema's history, and who is alive on it.
#[cfg(test)]
pub(crate) static LOCAL: &[&str] = &["refinery_schema_history", "nodes", "system_paces", "system_slots"];

/// Columns that a database gives by itself or that have one value in every copy, by table.
#[cfg(test)]
pub(crate) static GIVEN: &[(&str, &str)] = &[("spends", "id"), ("settling", "id")];

impl Table {
    fn from(&self) -> &'static str {
        self.from.unwrap_or(self.name)
    }

    /// The next rows behind `after`: the key's columns first, then those that are copied.
    pub(crate) fn page(&self, after: Option<&[Value]>, limit: u32) -> Bound {
        let key = self.key.join(", ");
        let mut text = format!("select {key}, {} from {}", self.columns.join(", "), self.from());
        let mut values = Vec::with_capacity(self.key.len() + 1);
        if let Some(after) = after {
            let _ = write!(text, " where ({key}) > ({})", parameters(0, after.len()));
            values.extend_from_slice(after);
        }
        let _ = write!(text, " order by {key} limit {}", parameters(values.len(), 1));
        values.push(limit.into());
        Bound {
            text: Cow::Owned(text),
            values,
        }
    }

    /// Whether the row of this key belongs to the database that it was read from.
    pub(crate) fn is_local(&self, key: &[Value]) -> bool {
        match key.first() {
            Some(Value::Text(text)) => self.local.contains(&text.as_str()),
            _ => false,
        }
    }

    /// The statements that add rows of [`Table::columns`].
    pub(crate) fn insert(&self, rows: &[Vec<Value>]) -> Vec<Bound> {
        let head = format!("insert into {} ({}) values ", self.name, self.columns.join(", "));
        let tail = if self.replaces { self.replacing() } else { String::new() };
        rows.chunks(ROWS_OF_A_STATEMENT)
            .map(|chunk| {
                let width = self.columns.len();
                let places: Vec<String> = (0..chunk.len())
                    .map(|row| format!("({})", parameters(row * width, width)))
                    .collect();
                Bound {
                    text: Cow::Owned(format!("{head}{}{tail}", places.join(", "))),
                    values: chunk.concat(),
                }
            })
            .collect()
    }

    fn replacing(&self) -> String {
        let others = self.columns.iter().filter(|column| !self.key.contains(column));
        let set: Vec<String> = others.map(|column| format!("{column} = excluded.{column}")).collect();
        format!(
            " on conflict ({}) do update set {}",
            self.key.join(", "),
            set.join(", ")
        )
    }

    pub(crate) fn count(&self) -> Bound {
        Bound {
            text: Cow::Owned(format!("select count(*) from {}", self.from())),
            values: Vec::new(),
        }
    }
}

/// `$p0, $p1, …`
fn parameters(from: usize, count: usize) -> String {
    let names: Vec<String> = (from..from + count).map(|place| format!("$p{place}")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::{TABLES, Value};

    fn named(name: &str) -> &'static super::Table {
        TABLES.iter().find(|table| table.name == name).unwrap()
    }

    #[test]
    fn a_page_goes_on_behind_the_last_key() {
        let nodes = named("log_nodes");
        let first = nodes.page(None, 7);
        assert_eq!(
            first.text,
            "select level, place, level, place, hash from log_nodes order by level, place limit $p0"
        );
        let next = nodes.page(Some(&[Value::Integer(8), Value::Integer(1)]), 7);
        assert_eq!(
            next.text,
            "select level, place, level, place, hash from log_nodes where (level, place) > ($p0, $p1) order by level, place limit $p2"
        );
        assert!(next.values == [Value::Integer(8), Value::Integer(1), Value::Integer(7)]);
    }

    #[test]
    fn rows_are_added_in_statements_of_a_bounded_width() {
        let row = vec![Value::Null; 3];
        let statements = named("spends").insert(&vec![row; 120]);
        let widths: Vec<usize> = statements.iter().map(|statement| statement.values.len()).collect();
        assert_eq!(widths, [150, 150, 60]);
        let last = &statements[2].text;
        assert!(last.starts_with("insert into spends (scope, at, amount) values ($p0, $p1, $p2), ($p3"));
        assert!(!last.contains("conflict"));
    }

    #[test]
    fn what_a_new_store_holds_is_replaced() {
        let text = &named("log_frontier").insert(&[vec![Value::Null; 3]])[0].text;
        assert!(
            text.ends_with(" on conflict (one) do update set size = excluded.size, peaks = excluded.peaks"),
            "{text}"
        );
    }
}
