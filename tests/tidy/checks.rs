//! Each rule on a bad example that it must catch and a good one that it must let pass: a check that has not failed is
//! not a check. It must not read the repository.

use crate::catalogue;
use crate::imports::{Rule, broken, named_paths, providers_apart};
use crate::modules;
use crate::promises;
use crate::rules;
use crate::source::Source;
use crate::tree::{Text, folders_without_readme};

fn source(path: &str, text: &str) -> Source {
    Source::new(path, text)
}

#[track_caller]
fn catches(complaints: &[String], at: &[&str]) {
    let places: Vec<String> = complaints
        .iter()
        .map(|complaint| complaint.split(": ").next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(places, at, "{complaints:?}");
}

#[test]
fn a_file_without_a_head_is_caught() {
    let check = rules::opens_with_its_purpose;
    catches(&check(&source("src/a.rs", "//! What it is, and more.\n")), &[]);
    catches(
        &check(&source("src/a.rs", "use std::fs;\n//! Too late to say.\n")),
        &["src/a.rs:1"],
    );
    catches(&check(&source("src/a.rs", "//!\n")), &["src/a.rs:1"]);
    catches(&check(&source("src/a.rs", "")), &["src/a.rs:1"]);
}

#[test]
fn long_files_are_caught_whatever_is_in_them() {
    let check = rules::stays_small;
    let code = "fn a() {}\n".repeat(400);
    catches(&check(&source("src/a.rs", &code)), &[]);
    let longer = code + "// why\n";
    catches(&check(&source("src/a.rs", &longer)), &["src/a.rs:401"]);
    catches(&check(&source("src/a/tests.rs", &longer)), &["src/a/tests.rs:401"]);
}

#[test]
fn long_functions_are_caught_where_they_begin() {
    let check = rules::has_short_functions;
    let function = |head: &str, lines: usize| format!("{head} {{\n{}}}\n", "    a(|| {});\n".repeat(lines));
    let short = function("pub(super) async fn a(b: B)", 58);
    let long = function("fn c<T: Into<D>>(\n    d: T,\n) -> E", 57);
    let other = "fn one() {}\ntrait T {\n    fn f(\n        &self,\n    );\n}\nconst F: fn() = a;\n";
    catches(&check(&source("src/a.rs", &(short.clone() + other))), &[]);
    catches(&check(&source("src/a.rs", &(short + &long))), &["src/a.rs:61"]);
}

#[test]
fn unfinished_work_is_caught() {
    let check = rules::leaves_nothing_for_later;
    let later = concat!("// TO", "DO: later\n");
    catches(&check(&source("src/a.rs", later)), &["src/a.rs:1"]);
    catches(
        &check(&source("src/a.rs", "fn a() {\n    dbg!(1);\n}\n")),
        &["src/a.rs:2"],
    );
    catches(
        &check(&source("src/a.rs", "#[allow(dead_code)]\nfn a() {}\n")),
        &["src/a.rs:1"],
    );
    catches(
        &check(&source("src/a.rs", "/* a */ fn a() { todo!() }\n")),
        &["src/a.rs:1"],
    );
    catches(
        &check(&source(
            "src/a.rs",
            "const A: &str = \"todo!\"; // dbg! is for others\n",
        )),
        &[],
    );
    catches(
        &check(&source(
            "src/a.rs",
            "#[expect(dead_code, reason = \"shown\")]\nfn a() {}\n",
        )),
        &[],
    );
}

#[test]
fn sleeping_tests_are_caught_and_sleeping_products_are_not() {
    let check = rules::does_not_sleep_in_tests;
    let sleep = "async fn a() {\n    tokio::time::sleep(LONG).await;\n}\n";
    catches(&check(&source("tests/it/a.rs", sleep)), &["tests/it/a.rs:2"]);
    catches(
        &check(&source("src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{sleep}}}\n"))),
        &["src/a.rs:4"],
    );
    catches(&check(&source("src/a.rs", sleep)), &[]);
    catches(&check(&source("tests/it/harness/poll.rs", sleep)), &[]);
    catches(&check(&source("tests/bench/a.rs", sleep)), &[]);
    let in_tests = format!("#[cfg(test)]\nmod tests {{\n{sleep}}}\n");
    catches(&check(&source("src/faults/sim/a.rs", &in_tests)), &[]);
    let thread = "fn a() {\n    std::thread::sleep(wait(1));\n}\n";
    catches(&check(&source("tests/it/a.rs", thread)), &["tests/it/a.rs:2"]);
    let handed_over = "fn a() {\n    kit(|time| Box::pin(tokio::time::sleep(time)));\n}\n";
    catches(&check(&source("tests/it/a.rs", handed_over)), &[]);
}

#[test]
fn a_clock_that_is_read_elsewhere_is_caught() {
    let check = rules::leaves_the_clock_alone;
    let wall = "fn a() {\n    jiff::Timestamp::now();\n}\n";
    let monotonic = "fn a() {\n    Instant::now();\n}\n";
    catches(&check(&source("src/engine/a.rs", wall)), &["src/engine/a.rs:2"]);
    catches(
        &check(&source("connectors/redis/a.rs", wall)),
        &["connectors/redis/a.rs:2"],
    );
    catches(&check(&source("src/domain/a.rs", monotonic)), &["src/domain/a.rs:2"]);
    catches(&check(&source("src/engine/a.rs", monotonic)), &[]);
    catches(&check(&source("src/clock.rs", wall)), &[]);
    catches(&check(&source("tests/it/a.rs", monotonic)), &[]);
    catches(
        &check(&source("src/engine/a.rs", "// Timestamp::now is for src/clock.rs.\n")),
        &[],
    );
}

fn store_rule() -> Vec<Rule> {
    vec![Rule {
        under: "src/store",
        except: &["src/store/wiring.rs"],
        never: vec!["crate::engine".to_owned(), "axum".to_owned()],
    }]
}

#[test]
fn a_forbidden_import_is_caught_however_it_is_written() {
    for bad in [
        "use crate::engine::Pass;",
        "use crate::{clock::Clock, engine};",
        "use crate::{domain::{run, ids}, engine::{pass::Pass, claim}};",
        "pub(crate) use super::engine::Pass;",
        "fn a() -> crate::engine::Pass {}",
        "use axum as web;",
        "use axum;",
        "use ::axum::Router;",
        "use crate::\n    engine::Pass;",
    ] {
        let complaints = broken(&source("src/store/mod.rs", bad), &store_rule());
        assert!(!complaints.is_empty(), "{bad}");
    }
    let deep = broken(
        &source("src/store/a/b.rs", "use super::super::super::engine::Pass;"),
        &store_rule(),
    );
    assert_eq!(deep.len(), 1, "{deep:?}");
}

#[test]
fn an_allowed_import_passes() {
    for good in [
        "use crate::domain::engine::Name;",
        "use crate::engineering::Plan;",
        "// use crate::engine::Pass;\n",
        "const A: &str = \"crate::engine\";",
        "const A: &str = r#\"use \"axum\"; \"#;",
        "#[cfg(test)]\nmod tests {\n    use crate::engine::Pass;\n}",
        "use super::store::engine::Row;",
        "fn a<'a>(b: &'a str) -> char { 'a' }",
    ] {
        let complaints = broken(&source("src/store/mod.rs", good), &store_rule());
        assert_eq!(complaints, Vec::<String>::new(), "{good}");
    }
    let bad = "use crate::engine::Pass;";
    for path in [
        "src/store/wiring.rs",
        "src/storehouse.rs",
        "src/store/tests.rs",
        "src/main.rs",
    ] {
        assert_eq!(
            broken(&source(path, bad), &store_rule()),
            Vec::<String>::new(),
            "{path}"
        );
    }
}

#[test]
fn a_connector_that_names_another_is_caught() {
    let rules = providers_apart(&[
        "demo".to_owned(),
        "redis".to_owned(),
        "sdk".to_owned(),
        "declarative".to_owned(),
    ]);
    let check = |path, text| broken(&source(path, text), &rules);
    catches(
        &check("connectors/redis/mod.rs", "use crate::demo::Faults;"),
        &["connectors/redis/mod.rs:1"],
    );
    catches(
        &check("connectors/redis/a.rs", "use super::super::demo::Faults;"),
        &["connectors/redis/a.rs:1"],
    );
    catches(
        &check(
            "connectors/redis/mod.rs",
            "use crate::{redis::acl, declarative::Template};",
        ),
        &[],
    );
    catches(
        &check("connectors/lib.rs", "use crate::{demo::Demo, redis::Redis};"),
        &[],
    );
}

#[test]
fn every_branch_of_a_use_is_read() {
    let paths = named_paths(&source(
        "src/store/mod.rs",
        "use a::{b, c::{d as e, self}, f::*};\nlet x: g::H<i::J> = k.l::<m::N>();",
    ));
    let paths: Vec<String> = paths.into_iter().map(|(line, path)| format!("{line} {path}")).collect();
    for path in [
        "1 a::b",
        "1 a::c::d",
        "1 a::c::self",
        "1 a::f",
        "2 g::H",
        "2 i::J",
        "2 m::N",
    ] {
        assert!(paths.iter().any(|found| found == path), "{path} is not in {paths:?}");
    }
}

#[test]
fn a_folder_without_readme_is_caught() {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let folders = owned(&["src", "src/a", "src/a/fixtures", "src/a/tests", "target/b", ".ci"]);
    let files = owned(&["src/README.md", "src/a/mod.rs"]);
    let caught = folders_without_readme(&folders, &files);
    catches(&caught, &["src/a/", "src/a/tests/", ".ci/"]);
}

#[test]
fn a_package_without_licence_is_caught() {
    let check = |path, text| rules::carries_the_licence(&Text::new(path, text));
    catches(&check("a/Cargo.toml", "[package]\nname = \"a\"\n"), &["a/Cargo.toml"]);
    catches(
        &check("a/Cargo.toml", "[package]\nlicense = \"MIT\"\n"),
        &["a/Cargo.toml"],
    );
    catches(&check("a/Cargo.toml", "[package]\nlicense.workspace = true\n"), &[]);
    catches(&check("LICENSE", "MIT License\n"), &["LICENSE"]);
}

#[test]
fn machine_paths_and_words_of_process_are_caught() {
    let check = |text: &str| rules::belongs_in_the_tree(&Text::new("README.md", text));
    catches(&check(concat!("a\nsee /wo", "rk/main\n")), &["README.md:2"]);
    catches(&check(concat!("cd \"/ro", "ot/keyfall\"\n")), &["README.md:1"]);
    catches(&check(concat!("Made by Cla", "ude.\n")), &["README.md:1"]);
    catches(
        &check(concat!(
            "https://example.org/net/wo",
            "rk/ src/wo",
            "rk/a.rs included ~/wo",
            "rk/\n"
        )),
        &[],
    );
    catches(&check(concat!("inCLA", "UDEd\n")), &[]);
}

#[test]
fn a_changelog_without_unreleased_is_caught() {
    let check = |text| rules::has_unreleased(&Text::new("CHANGELOG.md", text));
    catches(&check("# Changes\n\n## 0.1.0\n"), &["CHANGELOG.md"]);
    catches(&check("# Changes\n\n## Unreleased\n\n- It runs.\n"), &[]);
}

#[test]
fn a_promise_without_its_test_or_its_place_in_the_map_is_caught() {
    let map = Text::new(
        "src/README.md",
        "| P1 First | what | `holds` |\n| P2 Second | what | nobody |\n",
    );
    let sources = [
        source("src/a.rs", "//! Keeps P1.\nfn holds() {}\n"),
        source("src/b.rs", "//! Keeps P3.\nconst P4: u8 = 1; // 53300 is no promise\n"),
    ];
    catches(&promises::have_tests(&map, &sources), &["src/README.md"]);
    catches(&promises::are_explained(&map, &sources), &["src/b.rs:1"]);
    let renamed = [source("src/a.rs", "fn held() {}\n")];
    catches(
        &promises::have_tests(&map, &renamed),
        &["src/README.md", "src/README.md"],
    );
}

#[test]
fn a_file_that_nobody_compiles_is_caught() {
    let check = |text: &str| {
        let sources = [
            source("src/main.rs", text),
            source("src/a.rs", "//! A.\n"),
            source("src/b/mod.rs", "//! B.\npub mod c;\n"),
            source("src/b/c.rs", "//! C.\n"),
        ];
        modules::are_all_compiled(&sources)
    };
    catches(&check("mod a;\npub(crate) mod b;\n"), &[]);
    catches(&check("#[path = \"a.rs\"]\nmod z;\nmod b;\n"), &[]);
    catches(&check("mod a;\n"), &["src/b/mod.rs:1"]);
    catches(&check("// mod a;\nmod data;\nmod b;\n"), &["src/a.rs:1"]);
}

#[test]
fn a_catalogue_that_does_not_say_what_the_tests_say_is_caught() {
    let whole = |tests: &str| {
        let rows = 2..=catalogue::ROWS;
        let rest: Vec<String> = rows.map(|row| format!("| {row} | `src/b.rs::all` |")).collect();
        Text::new(
            "tests/README.md",
            &format!("| 1 | x | {tests} |\n{}\n", rest.join("\n")),
        )
    };
    let rest: Vec<String> = (2..=catalogue::ROWS).map(|row| row.to_string()).collect();
    let all = format!("/// Rows {}.\n#[test]\nfn all() {{}}\n", rest.join(", "));
    let check = |tests: &str, text: &str| {
        let sources = [source("src/a.rs", text), source("src/b.rs", &all)];
        catalogue::differences(&whole(tests), &sources)
    };
    let good = "    /// What it shows.\n    /// Row 1. And why.\n    #[tokio::test]\n    async fn one() {}\n";
    assert_eq!(check("`src/a.rs::one`", good), Vec::<String>::new());
    catches(&check("none", good), &["tests/README.md", "tests/README.md"]);
    catches(
        &check("`src/a.rs::one`", "#[test]\nfn one() {}\n"),
        &["tests/README.md"],
    );
    catches(&check("`src/a.rs::one`, `src/a.rs::two`", good), &["tests/README.md"]);
    let another = good.replace("Row 1", "Rows 1, 2");
    catches(&check("`src/a.rs::one`", &another), &["tests/README.md"]);
    let stray = format!("{good}/// Row 1.\nconst A: u8 = 1;\n");
    catches(&check("`src/a.rs::one`", &stray), &["src/a.rs:5"]);
    let twice = Text::new(
        "tests/README.md",
        &format!("{}| 1 | `src/a.rs::one` |\n", whole("`src/a.rs::one`").text),
    );
    catches(
        &catalogue::differences(&twice, &[source("src/a.rs", good), source("src/b.rs", &all)]),
        &["tests/README.md"],
    );
}
