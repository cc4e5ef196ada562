//! The command line as a whole: every command parses, explains itself and shows an example.

use clap::{CommandFactory, Parser};

use super::Cli;

#[test]
fn the_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_shows_an_example() {
    fn check(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        if command.has_subcommands() {
            command.get_subcommands().for_each(|sub| check(sub, &path, missing));
        }
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !help.contains("Example") || !help.contains("keyfall ") {
            missing.push(path);
        }
    }
    let mut missing = Vec::new();
    check(&Cli::command(), "", &mut missing);
    assert!(missing.is_empty(), "without an example: {missing:?}");
}

#[test]
fn a_secret_cannot_be_given_on_the_command_line() {
    for line in [
        "keyfall secret set db hunter2",
        "keyfall adopt x --system s --account a --owner o --environment e --expires 2030-01-01 --secret hunter2",
        "keyfall status --token kf_x",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}
