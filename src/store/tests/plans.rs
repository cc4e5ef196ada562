//! How the statements are carried out: by an index, whatever the size of the register; and what the migrations make.

use rusqlite::Connection;

use super::support::{at, opened, reopen};
use crate::domain::ids::{IdentityId, RunId};
use crate::domain::resource::IdentityKind;
use crate::domain::workflow::RunKind;
use crate::store::sql::{self, finding, identity, plan, receipt, run};
use crate::store::{FindingFilter, IdentityFilter, Page, PlanStatus, ReceiptFilter, RunFilter};
use uuid::Uuid;

/// Statements that read a whole table, and why they may.
const SCANS: [(&str, &str, &str); 7] = [
    ("log", "LAST", "begins at the end and reads one row"),
    ("run", "ALL_AFTER", "walks the primary key for the deep check"),
    (
        "run",
        "OF_LATER_WORKFLOWS",
        "walks the index of open runs, once in a sweep",
    ),
    ("run", "COUNT_OPEN", "counts inside the index of open runs"),
    ("finding", "COUNT_OPEN", "counts inside the index of open findings"),
    ("node", "EVERY", "nodes are few, and all are asked for"),
    ("person", "EVERYONE", "people are few, and all are asked for"),
];

/// What SQLite means to do, a line for each table; `sort` when it must put rows into order itself.
fn explain(connection: &Connection, text: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("explain query plan {text}")).unwrap();
    let count = statement.parameter_count();
    let values = vec![rusqlite::types::Value::Integer(1); count];
    let rows = statement
        .query_map(rusqlite::params_from_iter(values), |row| row.get(3))
        .unwrap();
    rows.map(|row| row.unwrap()).collect()
}

fn scans(plan: &[String]) -> bool {
    plan.iter()
        .any(|line| line.starts_with("SCAN") && !line.contains("CONSTANT ROW") && !is_derived(line))
}

/// A scan of what a subquery has already limited, or found step by step in an index.
fn is_derived(line: &str) -> bool {
    ["SCAN due", "SCAN expiring", "SCAN accounts", "SCAN free"].contains(&line)
}

async fn schema() -> (Connection, super::support::Opened) {
    let test = opened().await;
    test.store.close().await.unwrap();
    (Connection::open(test.path()).unwrap(), test)
}

#[tokio::test]
async fn no_hot_statement_scans_a_table() {
    let (connection, _folder) = schema().await;
    for (noun, name, statement) in sql::all() {
        let plan = explain(&connection, statement.text());
        let may_scan = noun == "coherence" || SCANS.iter().any(|(a, b, _)| (*a, *b) == (noun, name));
        assert!(may_scan || !scans(&plan), "{noun}::{name}: {plan:#?}");
        let sorts = plan.iter().any(|line| line.contains("TEMP B-TREE"));
        assert!(may_scan || !sorts, "{noun}::{name} sorts: {plan:#?}");
    }
}

/// Every combination of filters walks an index in the order of the list, so that a page costs the same wherever it begins.
#[tokio::test]
async fn no_list_scans_or_sorts_with_any_filter() {
    let (connection, _folder) = schema().await;
    let some = |bit: bool, text: &str| bit.then(|| text.to_owned());
    for bits in 0..256_u32 {
        let bit = |number: u32| bits & (1 << number) != 0;
        let page = Page {
            after: some(bit(0), "open:x"),
            limit: 10,
        };
        let identities = IdentityFilter {
            system: some(bit(1), "s"),
            environment: some(bit(2), "e"),
            owner: some(bit(3), "o"),
            kind: bit(4).then_some(IdentityKind::Agent),
            state: some(bit(5), "active"),
            name_prefix: some(bit(6), "n"),
            with_control: bit(7),
        };
        let runs = RunFilter {
            identity: bit(1).then(|| IdentityId::from_uuid(Uuid::nil())),
            kind: bit(2).then_some(RunKind::Rotate),
            status: some(bit(3), "open"),
            open_only: bit(4),
            opened_since: bit(5).then(|| at(0)),
        };
        let findings = FindingFilter {
            kind: some(bit(1), "k"),
            subject: some(bit(2), "s"),
            open_only: bit(3),
        };
        let receipts = ReceiptFilter {
            identity: runs.identity,
            run: bit(2).then(|| RunId::from_uuid(Uuid::nil())),
        };
        let status = bit(1).then_some(PlanStatus::Proposed);
        for bound in [
            identity::list(&identities, &page),
            run::list(&runs, &page),
            finding::list(&findings, &page),
            receipt::list(&receipts, &page),
            plan::list(status, &page),
        ] {
            walks_an_index(&connection, &bound.unwrap().text);
        }
    }
}

fn walks_an_index(connection: &Connection, text: &str) {
    let plan = explain(connection, text);
    // A page of everything walks the whole index in order, and ends with its limit: no more rows are read than shown.
    let conditions = text.rsplit(" from ").next().unwrap();
    let everything = !conditions.contains(" where ")
        || conditions.contains(" where is_control = 0 order")
        // The partial index holds exactly the open ones.
        || conditions.contains(" where closed_at is null order");
    let whole = everything
        && plan
            .iter()
            .any(|line| line.starts_with("SCAN") && line.contains("USING INDEX"));
    assert!(whole || !scans(&plan), "{text}: {plan:#?}");
    assert!(
        !plan.iter().any(|line| line.contains("TEMP B-TREE")),
        "{text}: {plan:#?}"
    );
}

/// Parameters are bound by position, in the order in which `Statement` finds their names.
#[tokio::test]
async fn sqlite_numbers_the_names_as_we_do() {
    let (connection, _folder) = schema().await;
    for (noun, name, statement) in sql::all() {
        let prepared = connection.prepare(statement.text()).unwrap();
        assert_eq!(prepared.parameter_count(), statement.names().len(), "{noun}::{name}");
        for (place, wanted) in statement.names().iter().enumerate() {
            let found = prepared.parameter_name(place + 1).unwrap();
            assert_eq!(found, format!("${wanted}"), "{noun}::{name}");
        }
    }
    assert_eq!(
        sql::log::APPEND.names(),
        ["position", "run", "seq", "at", "bytes", "mark"]
    );
}

fn objects(connection: &Connection) -> Vec<(String, String)> {
    let text = "select name, coalesce(sql, '') from sqlite_schema where name not like 'sqlite_stat%' order by name";
    let mut statement = connection.prepare(text).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

/// Opened again, a store is what it was: nothing is applied twice.
#[tokio::test]
async fn opening_again_changes_no_schema() {
    let (connection, test) = schema().await;
    let history = |connection: &Connection| -> i64 {
        let text = "select count(*) from refinery_schema_history";
        connection.query_row(text, [], |row| row.get(0)).unwrap()
    };
    let (before, applied) = (objects(&connection), history(&connection));
    drop(connection);
    reopen(&test.path()).await.unwrap().close().await.unwrap();
    let connection = Connection::open(test.path()).unwrap();
    assert_eq!((objects(&connection), history(&connection)), (before, applied));
}

/// Tables are strict, so that no column ever holds another type than the one that is read back.
#[tokio::test]
async fn every_table_is_strict() {
    let (connection, _folder) = schema().await;
    let loose: Vec<String> = {
        let text = "select name from pragma_table_list where schema = 'main' and type = 'table' and strict = 0 \
            and name not like 'sqlite_%' and name not like 'refinery_%'";
        let mut statement = connection.prepare(text).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(|row| row.unwrap()).collect()
    };
    assert_eq!(loose, Vec::<String>::new());
}
