//! Names that try to be more than names, against the real server's catalog.

use keyfall_sdk::{Connector, Verdict};
use proptest::prelude::{Strategy as _, any, prop};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::super::quote::name_problem;
use super::{ctx, issue, postgres, probe, secret, sql};

const ROUNDS: usize = 200;

/// All that a statement could have changed by breaking out of its quotes.
const CATALOG: &str = "SELECT (SELECT json_agg(rolname ORDER BY oid) FROM pg_roles)::text, \
    (SELECT count(*) FROM pg_database)::text, (SELECT count(*) FROM pg_namespace)::text, (SELECT count(*) FROM pg_class)::text";

#[tokio::test]
async fn odd_names_make_exactly_one_role() {
    let connector = postgres();
    let odd = prop::collection::vec(
        prop::sample::select(vec![
            "\"",
            "'",
            "\\",
            ";",
            "--",
            "$$",
            " ",
            "/*",
            "*/",
            "é",
            "\u{202e}",
            "%",
            "{}",
            "\n",
            "DROP ROLE x",
            "E'",
            "U&\"",
            ":p",
        ]),
        1..8,
    );
    let names = (odd, any::<u16>()).prop_map(|(parts, number)| format!("kfq{number}{}", parts.concat()));
    let mut runner = TestRunner::deterministic();
    let mut tried = 0;
    let mut verdicts = 0;
    while tried < ROUNDS {
        let name = names.new_tree(&mut runner).unwrap().current();
        if name_problem(&name).is_some() {
            continue;
        }
        tried += 1;
        let before = roles(&connector).await;
        let issued = issue(&connector, &name, &secret("odd"), json!({})).await;
        let added: Vec<String> = roles(&connector)
            .await
            .into_iter()
            .filter(|role| !before.contains(role))
            .collect();
        assert_eq!(
            added.iter().filter(|role| role.starts_with("kfq")).collect::<Vec<_>>(),
            [&name]
        );
        if tried % 20 == 0 {
            let verdict = probe(&connector, "primary", &name, &secret("odd")).await;
            assert_eq!(
                verdict,
                Verdict::Accepted {
                    principal: name.clone()
                }
            );
            verdicts += 1;
        }
        connector
            .revoke()
            .unwrap()
            .delete_principal(&ctx(), &issued.principal)
            .await
            .unwrap();
        assert!(!roles(&connector).await.contains(&name));
    }
    assert_eq!(verdicts, ROUNDS / 20);
}

async fn roles(connector: &super::Postgres) -> Vec<String> {
    let rows = sql(connector, CATALOG).await;
    serde_json::from_str(rows[0][0][0].as_deref().unwrap()).unwrap()
}
