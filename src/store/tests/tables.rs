//! The list of what a move copies is the schema, on both databases: no table and no column can be forgotten.

use rusqlite::Connection;

use super::support::{On, opened};
use crate::store::sql::{GIVEN, LOCAL, TABLES};

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
    let mut known: Vec<_> = TABLES
        .iter()
        .map(|table| table.name)
        .chain(LOCAL.iter().copied())
        .collect();
    known.sort_unstable();
    let there = texts("select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'");
    assert_eq!(
        there, known,
        "a table is neither copied nor known to belong to one database"
    );
    for table in TABLES {
        let given = GIVEN
            .iter()
            .filter(|(of, _)| *of == table.name)
            .map(|(_, column)| *column);
        let mut columns: Vec<_> = table.columns.iter().copied().chain(given).collect();
        columns.sort_unstable();
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
    let mut known: Vec<_> = TABLES
        .iter()
        .map(|table| table.name)
        .chain(LOCAL.iter().copied())
        .collect();
    known.sort_unstable();
    let there = "select table_name::text from information_schema.tables where table_schema = current_schema()";
    assert_eq!(texts(there).await, known);
    for table in TABLES {
        let mut given: Vec<_> = GIVEN
            .iter()
            .filter(|(of, _)| *of == table.name)
            .map(|(_, column)| *column)
            .collect();
        // The order in which entries came, until they have their positions.
        given.extend((table.name == "log").then_some("arrival"));
        let mut columns: Vec<_> = table.columns.iter().copied().chain(given).collect();
        columns.sort_unstable();
        let there = format!(
            "select column_name::text from information_schema.columns where table_schema = current_schema() and table_name = '{}'",
            table.name
        );
        assert_eq!(texts(&there).await, columns, "{}", table.name);
    }
}
