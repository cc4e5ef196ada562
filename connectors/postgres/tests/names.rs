//! Names that try to be more than names, against the real server's catalog.

use keyfall_sdk::{Revoke as _, Verdict};
use proptest::prelude::{Strategy as _, any, prop};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::super::quote::name_problem;
use super::{Postgres, ctx, issue, postgres, probe, secret, value};

const ROUNDS: usize = 200;

/// Pieces that end a quote, a statement or a comment somewhere.
const PIECES: &[&str] = &[
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
];

#[tokio::test]
async fn odd_names_make_exactly_one_role() {
    let connector = postgres();
    let pieces = prop::collection::vec(prop::sample::select(PIECES), 1..8);
    let names = (pieces, any::<u16>()).prop_map(|(parts, number)| format!("kfq{number}{}", parts.concat()));
    let mut runner = TestRunner::deterministic();
    let before = roles(&connector, &[]).await;
    let mut tried = 0;
    while tried < ROUNDS {
        let name = names.new_tree(&mut runner).unwrap().current();
        if name_problem(&name).is_some() {
            continue;
        }
        tried += 1;
        one_role(&connector, &before, &name, tried % 20 == 0).await;
    }
}

/// Makes and deletes one account, and looks at the catalog each time. Other tests make roles of other names meanwhile.
async fn one_role(connector: &Postgres, before: &[String], name: &str, log_in: bool) {
    assert_eq!(roles(connector, before).await, [""; 0]);
    let issued = issue(connector, name, &secret("odd"), json!({})).await;
    assert_eq!(roles(connector, before).await, [name]);
    if log_in {
        let verdict = probe(connector, "primary", name, &secret("odd")).await;
        assert_eq!(
            verdict,
            Verdict::Accepted {
                principal: name.to_owned()
            }
        );
    }
    connector.delete_principal(&ctx(), &issued.principal).await.unwrap();
    assert_eq!(roles(connector, before).await, [""; 0]);
}

/// Every role that was not there before and that no other test of this package makes.
async fn roles(connector: &Postgres, before: &[String]) -> Vec<String> {
    let query = "SELECT coalesce(json_agg(rolname), '[]') FROM pg_roles \
                 WHERE rolname !~ '^(pg_|keyfall_|kf_|kit_)' AND rolname <> current_user";
    let mut all: Vec<String> = serde_json::from_str(value(connector, query).await.unwrap().as_str()).unwrap();
    all.retain(|name| !before.contains(name));
    all
}
