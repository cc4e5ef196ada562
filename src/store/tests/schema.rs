//! The two schemas are one: the same tables, columns and indexes under the same names. What only one of them has is listed with its reason.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::support::{On, opened};

/// Columns of PostgreSQL alone, or that are nullable there alone.
const OWN: [(&str, &str, &str); 2] = [
    (
        "log",
        "arrival",
        "entries wait in the order of arrival until they get a position",
    ),
    ("log", "position", "null until it is given"),
];
/// Indexes of PostgreSQL alone. On SQLite the position is the row's place.
const OWN_INDEXES: [&str; 2] = ["log_position", "log_waiting"];

/// Columns by table and name, and whether they may be null.
type Columns = BTreeMap<(String, String), bool>;
/// Indexes by name: whether they are unique, and their columns.
type Indexes = BTreeMap<String, (bool, Vec<String>)>;

fn of_sqlite(connection: &Connection) -> (Columns, Indexes) {
    let mut columns = Columns::new();
    let mut indexes = Indexes::new();
    let text = "select name from sqlite_schema where type = 'table' and name not like 'sqlite_%' and name not like 'refinery_%'";
    let names = |text: &str| -> Vec<String> {
        let mut statement = connection.prepare(text).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(|row| row.unwrap()).collect()
    };
    for table in names(text) {
        let mut statement = connection
            .prepare(&format!(
                "select name, \"notnull\", pk from pragma_table_info('{table}')"
            ))
            .unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let is_required = row.get::<_, bool>(1).unwrap() || row.get::<_, i64>(2).unwrap() > 0;
            columns.insert((table.clone(), row.get(0).unwrap()), !is_required);
        }
        for index in names(&format!(
            "select name from pragma_index_list('{table}') where origin = 'c'"
        )) {
            let unique = names(&format!(
                "select name from pragma_index_list('{table}') where \"unique\" = 1 and name = '{index}'"
            ));
            let of = names(&format!("select name from pragma_index_info('{index}') order by seqno"));
            indexes.insert(index, (!unique.is_empty(), of));
        }
    }
    (columns, indexes)
}

async fn of_postgres() -> (Columns, Indexes) {
    let test = On::Postgres.opened().await;
    let bare = test.database().client().await;
    let text = "select table_name::text, column_name::text, is_nullable = 'YES' from information_schema.columns \
        where table_schema = current_schema() and table_name not like 'refinery_%'";
    let rows = bare.query(text, &[]).await.unwrap();
    let columns = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
    let text = "select c.relname::text, i.indisunique, array_agg(a.attname::text order by k.place) from pg_index i \
        join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid \
        join unnest(i.indkey) with ordinality as k (number, place) on true \
        join pg_attribute a on a.attrelid = t.oid and a.attnum = k.number \
        where c.relnamespace = current_schema()::regnamespace and not i.indisprimary and t.relname not like 'refinery_%' \
        group by 1, 2";
    let rows = bare.query(text, &[]).await.unwrap();
    let indexes = rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    (columns, indexes)
}

#[tokio::test]
async fn both_databases_have_one_schema() {
    let test = opened().await;
    test.store.close().await.unwrap();
    let (ours, our_indexes) = of_sqlite(&Connection::open(test.path()).unwrap());
    let (mut theirs, mut their_indexes) = of_postgres().await;
    for (table, column, reason) in OWN {
        let key = (table.to_owned(), column.to_owned());
        assert_ne!(
            ours.get(&key),
            theirs.get(&key),
            "{table}.{column} is not particular any more: {reason}"
        );
        match ours.get(&key) {
            Some(known) => theirs.insert(key, *known),
            None => theirs.remove(&key),
        };
    }
    for index in OWN_INDEXES {
        assert!(their_indexes.remove(index).is_some(), "{index}");
    }
    assert!(ours.len() > 100 && our_indexes.len() > 30);
    let differ: BTreeSet<_> = ours
        .iter()
        .filter(|(key, null)| theirs.get(*key) != Some(null))
        .collect();
    assert!(differ.is_empty(), "other on PostgreSQL: {differ:?}");
    let more: Vec<_> = theirs.keys().filter(|key| !ours.contains_key(*key)).collect();
    assert!(more.is_empty(), "only on PostgreSQL: {more:?}");
    assert_eq!(our_indexes, their_indexes);
}

/// Statements that read a whole table, and why they may: as on SQLite.
const MAY_SCAN: [(&str, &str); 2] = [("person", "EVERYONE"), ("node", "EVERY")];

/// With scans forbidden as far as PostgreSQL can, none is left: each hot statement finds an index. What is in the log that waits is short.
#[tokio::test]
async fn no_hot_statement_scans_a_table_of_postgresql() {
    let test = On::Postgres.opened().await;
    let bare = test.database().client().await;
    bare.batch_execute("set enable_seqscan = off; set plan_cache_mode = force_generic_plan")
        .await
        .unwrap();
    for (number, (noun, name, statement)) in crate::store::sql::all().into_iter().enumerate() {
        if noun == "coherence" || MAY_SCAN.contains(&(noun, name)) || statement.text().starts_with("insert") {
            continue;
        }
        let text = crate::store::postgres::translated(statement.text());
        bare.batch_execute(&format!("prepare s{number} as {text}"))
            .await
            .unwrap();
        let nulls = vec!["null"; statement.names().len()].join(", ");
        let given = if nulls.is_empty() {
            String::new()
        } else {
            format!("({nulls})")
        };
        let plan = bare
            .query(&format!("explain execute s{number}{given}"), &[])
            .await
            .unwrap();
        let lines: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        let scans = lines.iter().any(|line| line.contains("Seq Scan on"));
        assert!(!scans, "{noun}::{name}: {lines:#?}");
    }
}
