//! What texts tell people to type, tried with the parser that they will meet: every back-quoted `keyfall …` of sources and documents, every
//! line of a document that is a command, and the examples of the help texts. It knows no use case.

use std::fs;
use std::path::Path;

use clap::{CommandFactory, Parser};

use super::Cli;

/// A text that names a command, where it stands, and whether it may be a mention: a command's name without what it needs to run.
struct Told {
    place: String,
    command: String,
    mention: bool,
}

const ROOTS: &[&str] = &[
    "src",
    "connectors",
    "deploy",
    "migrations",
    "tests",
    "README.md",
    "CHANGELOG.md",
];

fn files(path: &Path, found: &mut Vec<std::path::PathBuf>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        let inside = entries.map(|entry| entry.unwrap().path());
        inside
            .filter(|path| !path.ends_with("node_modules") && !path.ends_with("texts_tests.rs"))
            .for_each(|path| files(&path, found));
    } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "md") {
        found.push(path.to_owned());
    }
}

/// In comments and documents a command may be spoken of by its name; what is printed is what people type.
fn told_in(place: &str, text: &str) -> Vec<Told> {
    let joined = text.replace("\\\n", "\u{0}\n");
    let mut found = Vec::new();
    let mut carried = String::new();
    for (index, line) in joined.lines().enumerate() {
        let line = format!("{carried}{}", if carried.is_empty() { line } else { line.trim_start() });
        if let Some(open) = line.strip_suffix('\u{0}') {
            carried = open.to_owned();
            continue;
        }
        carried.clear();
        let rust = place.ends_with(".rs");
        let told = |command: &str, mention| Told {
            place: format!("{place}:{}", index + 1),
            command: command.to_owned(),
            mention,
        };
        let mention = !rust || line.trim_start().starts_with("//");
        found.extend(
            line.split('`')
                .skip(1)
                .step_by(2)
                .filter(|quoted| quoted.starts_with("keyfall ") && !quoted.ends_with(".toml"))
                .map(|quoted| told(quoted, mention)),
        );
        if !rust && line.trim_start().starts_with("keyfall ") && !line.contains("::") {
            found.push(told(line.trim(), false));
        }
    }
    found
}

fn examples(command: &clap::Command, found: &mut Vec<Told>) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    found.extend(help.lines().filter(|line| line.contains("keyfall ")).map(|line| Told {
        place: format!("help of {}", command.get_name()),
        command: line.trim().to_owned(),
        mention: false,
    }));
    command.get_subcommands().for_each(|sub| examples(sub, found));
}

/// The words of each `keyfall` in a line of shell: quotation marks and placeholders resolved, comments and redirections gone.
fn command_lines(line: &str) -> Vec<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    let words = words.into_iter().filter(|word| !word.is_empty()).map(filled);
    let words: Vec<String> = words.take_while(|word| word != "#").collect();
    let lines = words.split(|word| ["&&", "||", "|", "&", ";"].contains(&word.as_str()));
    lines
        .filter_map(|line| {
            let start = line.iter().position(|word| word == "keyfall")?;
            let end = line.iter().position(|word| ["<", ">"].contains(&word.as_str()));
            line.get(start..end.unwrap_or(line.len())).map(<[String]>::to_vec)
        })
        .collect()
}

/// `{run}` and `…` stand for whatever fits.
fn filled(word: String) -> String {
    let mut filled = word.replace('…', "x");
    while let (Some(open), Some(close)) = (filled.find('{'), filled.find('}')) {
        filled.replace_range(open..=close, "1");
    }
    filled
}

fn is_a_name(words: &[String]) -> bool {
    let mut command = Cli::command();
    words
        .iter()
        .skip(1)
        .all(|word| match command.find_subcommand(word).cloned() {
            Some(sub) => {
                command = sub;
                true
            }
            None => false,
        })
}

/// `keyfall adopt NAME --take-over …`: what is there is right, and `--help` names the rest.
fn goes_on(command: &str, words: &[String]) -> bool {
    let Some((_, given)) = words.split_last().filter(|_| command.ends_with(" …")) else {
        return false;
    };
    let error = Cli::try_parse_from(given).err();
    error.is_some_and(|error| error.kind() == clap::error::ErrorKind::MissingRequiredArgument)
}

fn may_stand(told: &Told, words: &[String]) -> bool {
    told.mention && is_a_name(words) || goes_on(&told.command, words)
}

fn wrong(told: &Told) -> Vec<String> {
    let lines = command_lines(&told.command);
    lines
        .into_iter()
        .filter(|words| !may_stand(told, words))
        .filter_map(|words| {
            let error = Cli::try_parse_from(&words).err()?;
            let help = [
                clap::error::ErrorKind::DisplayHelp,
                clap::error::ErrorKind::DisplayVersion,
            ];
            let why = error.to_string().lines().take(3).collect::<Vec<_>>().join(" ");
            (!help.contains(&error.kind())).then(|| format!("{}: {}: {why}", told.place, words.join(" ")))
        })
        .collect()
}

#[test]
fn what_texts_tell_people_to_type_parses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    ROOTS.iter().for_each(|place| files(&root.join(place), &mut paths));
    let mut told = Vec::new();
    for path in paths {
        let place = path.strip_prefix(root).unwrap().display().to_string();
        told.extend(told_in(&place, &fs::read_to_string(&path).unwrap()));
    }
    assert!(told.len() > 60, "only {} were found in files", told.len());
    examples(&Cli::command(), &mut told);
    let complaints: Vec<String> = told.iter().flat_map(wrong).collect();
    assert!(
        complaints.is_empty(),
        "{} command(s) that nobody can type:\n  {}",
        complaints.len(),
        complaints.join("\n  ")
    );
}

#[test]
fn a_command_that_cannot_be_typed_is_caught() {
    let check = |place: &str, text: &str| told_in(place, text).iter().flat_map(wrong).count();
    for wrong in [
        "\"look at it with `keyfall retry {run}`\"",
        "\"`keyfall look`\"",
        "\"go on with \\\n    `keyfall resume {run}`\"",
        "// `keyfall retry RUN` does it.",
        "\"`keyfall unfreeze`\"",
        "\"`keyfall adopt NAME --take-it …`\"",
    ] {
        assert_eq!(check("src/a.rs", wrong), 1, "{wrong}");
    }
    for right in [
        "\"`keyfall retry {run} --reason '…'`\"",
        "// What `keyfall retry` asks for.",
        "\"`keyfall secret set NAME < FILE`\"",
        "\"`keyfall adopt NAME --take-over …`\"",
    ] {
        assert_eq!(check("src/a.rs", right), 0, "{right}");
    }
    assert_eq!(check("a.md", "keyfall status && keyfall look # no\n"), 1);
    assert_eq!(check("a.md", "keyfall serve --config kf/keyfall.toml &   # yes\n"), 0);
}
