//! The house rules as tests: who may import whom, the size and the head of files, words that do not belong, READMEs.
//! Each check is shown to fail on a bad example (`checks.rs`). It reads files and must not know what Keyfall does.
//! A failure names file and line and says what to do. To add a rule: a function over `Source` or `Tree`, a bad example.
#![cfg(test)]

#[path = "tidy/catalogue.rs"]
mod catalogue;
#[path = "tidy/checks.rs"]
mod checks;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/promises.rs"]
mod promises;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;

use source::Source;
use tree::Tree;

/// Fails with every complaint, one per line, and what the rule is for.
#[track_caller]
fn hold(rule: &str, complaints: Vec<String>) {
    assert!(
        complaints.is_empty(),
        "{} place(s) break a rule of the house: {rule}\n  {}\n",
        complaints.len(),
        complaints.join("\n  ")
    );
}

fn each_source(check: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    let sources = Tree::read().sources();
    assert!(
        sources.len() > 20,
        "only {} Rust files were found: the scanner looks in the wrong place",
        sources.len()
    );
    sources.iter().flat_map(check).collect()
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    hold(
        "the first line of a .rs file is `//!`: what it is and what it must not know",
        each_source(rules::opens_with_its_purpose),
    );
}

#[test]
fn files_stay_small_enough_to_read() {
    hold("at most 400 lines; split by noun", each_source(rules::stays_small));
}

#[test]
fn functions_stay_small_enough_to_read() {
    hold(
        "at most 60 lines; give a part of it a name",
        each_source(rules::has_short_functions),
    );
}

#[test]
fn nothing_is_left_for_later() {
    hold(
        "finish it, or leave it out and say so in the README; use #[expect] with a reason instead of #[allow]",
        each_source(rules::leaves_nothing_for_later),
    );
}

#[test]
fn tests_do_not_sleep() {
    hold(
        "wait on a value with a bound; the only sleep of a test program is in its `poll.rs`",
        each_source(rules::does_not_sleep_in_tests),
    );
}

#[test]
fn only_the_clock_reads_the_clock() {
    hold(
        "time is a parameter; it is read in src/clock.rs alone (whoever does I/O may bound it by a monotonic Instant)",
        each_source(rules::leaves_the_clock_alone),
    );
}

#[test]
fn every_file_is_compiled() {
    hold(
        "name it in its folder's module, or delete it",
        modules::are_all_compiled(&Tree::read().sources()),
    );
}

#[test]
fn modules_import_only_what_they_may_know() {
    let rules = imports::rules(&Tree::read());
    hold(
        "who may import whom: src/README.md",
        each_source(|source| imports::broken(source, &rules)),
    );
}

#[test]
fn the_import_rules_name_modules_that_exist() {
    let tree = Tree::read();
    let missing = imports::rules(&tree)
        .into_iter()
        .filter(|rule| !tree.has(rule.under))
        .map(|rule| format!("{}: an import rule names it, but it is not there", rule.under))
        .collect();
    hold(
        "a rule about nothing holds nothing: correct tests/tidy/imports.rs",
        missing,
    );
}

#[test]
fn every_folder_explains_itself() {
    hold(
        "a folder has a README.md: what is here, its rules, how to add one more of its kind",
        Tree::read().folders_without_readme(),
    );
}

#[test]
fn every_package_carries_the_licence() {
    let tree = Tree::read();
    let packages = tree.packages();
    assert!(packages.len() >= 3, "only {} packages were found", packages.len());
    hold(
        "a package states `license.workspace = true`, and LICENSE is the Apache License 2.0",
        packages
            .iter()
            .chain(tree.text("LICENSE").iter())
            .flat_map(rules::carries_the_licence)
            .collect(),
    );
    assert!(tree.text("LICENSE").is_some(), "LICENSE is missing");
}

#[test]
fn the_tree_is_free_of_one_machine_and_of_process() {
    let texts = Tree::read().texts();
    assert!(texts.len() > 40, "only {} text files were found", texts.len());
    hold(
        "say what the thing is; paths of one machine and words about how it was made help no reader",
        texts.iter().flat_map(rules::belongs_in_the_tree).collect(),
    );
}

#[test]
fn every_promise_is_explained_and_has_tests() {
    let tree = Tree::read();
    let map = tree.text("src/README.md").expect("src/README.md is missing");
    let sources = tree.sources();
    hold(
        "the map explains each promise that is cited, and names tests that try to break it",
        promises::have_tests(&map, &sources)
            .into_iter()
            .chain(promises::are_explained(&map, &sources))
            .collect(),
    );
}

#[test]
fn every_row_of_the_catalogue_has_tests_that_show_its_rule() {
    let tree = Tree::read();
    let catalogue = tree.text("tests/README.md").expect("tests/README.md is missing");
    hold(
        "the table of tests/README.md and the lines `/// Row 7.` above tests say the same",
        catalogue::differences(&catalogue, &tree.sources()),
    );
}

#[test]
fn the_changelog_has_a_place_for_what_comes() {
    let changelog = Tree::read().text("CHANGELOG.md").expect("CHANGELOG.md is missing");
    hold("users read CHANGELOG.md", rules::has_unreleased(&changelog));
}
