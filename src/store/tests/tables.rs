//! The list of what a move copies is the schema, on both databases: no table and no column can be forgotten.

use rusqlite::Connection;

use super::support::{On, opened};
use crate::store::sql::{GIVEN, LOCAL, TABLES, Table};

/// What is copied, and what is known to belong to one database.
fn known() -> Vec<&'static str> {
    let mut known: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    known.extend(LOCAL);
    known.sort_unstable();
    known
}

/// What is copied, what the database gives by itself, and what is one database's `own`.
fn columns(table: &Table, own: &[&'static str]) -> Vec<&'static str> {
    let given = GIVEN.iter().filter(|(of, _)| *of == table.name);
    let mut columns: Vec<_> = table
        .columns
        .iter()
        .copied()
        .chain(given.map(|(_, column)| *column))
        .collect();
    columns.extend(own);
    columns.sort_unstable();
    columns
}

#[tokio::test]
async fn the_list_of_tables_is_the_schema() {
    let test = opened().await;
    test.store.close().await.unwrap();
    let connection = Connection::open(test.path()).unwrap();
    let texts = |sql: &str| {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let mut found: Vec<String> = rows.map(|row| row.unwrap()).collect();
        found.sort();
        found
    };
    let there = texts("select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'");
    assert_eq!(
        there,
        known(),
        "a table is neither copied nor known to belong to one database"
    );
    for table in TABLES {
        let columns = columns(table, &[]);
        let there = texts(&format!("select name from pragma_table_info('{}')", table.name));
        assert_eq!(there, columns, "{}", table.name);
    }
}

#[tokio::test]
async fn the_list_of_tables_is_the_schema_of_the_other_database_too() {
    let test = On::Postgres.opened().await;
    let client = test.database().client().await;
    let texts = async |sql: &str| {
        let rows = client.query(sql, &[]).await.unwrap();
        let mut found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        found.sort();
        found
    };
    let there = "select table_name::text from information_schema.tables where table_schema = current_schema()";
    assert_eq!(texts(there).await, known());
    for table in TABLES {
        // The order in which entries came, until they have their positions.
        let own: &[_] = if table.name == "log" { &["arrival"] } else { &[] };
        let columns = columns(table, own);
        let there = format!(
            "select column_name::text from information_schema.columns where table_schema = current_schema() and table_name = '{}'",
            table.name
        );
        assert_eq!(texts(&there).await, columns, "{}", table.name);
    }
}
