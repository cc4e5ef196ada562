//! Every Rust file is part of a program: one that no module names is read by people and by no compiler. It must not know what a file says.

use crate::source::Source;

/// What cargo finds by itself, or by `path` in a manifest.
const ROOTS: &[&str] = &["lib.rs", "main.rs", "build.rs", "tidy.rs"];

/// Files that no other file in their folder or above it names as its module.
pub(crate) fn are_all_compiled(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .filter(|source| !is_named(source, sources))
        .map(|source| source.complain(1, "no module names it, so nobody compiles it"))
        .collect()
}

fn is_named(source: &Source, sources: &[Source]) -> bool {
    let (folder, name) = split(&source.path);
    if ROOTS.contains(&name) {
        return true;
    }
    let (above, folder_name) = split(folder);
    let (stem, homes) = match name {
        "mod.rs" => (folder_name, [above, above]),
        _ => (name.trim_end_matches(".rs"), [folder, above]),
    };
    let (module, file) = (format!("mod {stem};"), format!("{name}\"]"));
    let is_home = |path: &str| homes.contains(&split(path).0) && path != source.path;
    let mut around = sources.iter().filter(|other| is_home(&other.path));
    around.any(|other| {
        let by_path = other
            .text
            .lines()
            .any(|line| line.starts_with("#[path") && line.ends_with(&file));
        by_path
            || other
                .code
                .lines()
                .any(|line| line.trim_end().ends_with(&module) && is_whole(line, &module))
    })
}

/// `mod sub_name;` does not name `name`.
fn is_whole(line: &str, module: &str) -> bool {
    let before = line.trim_end().strip_suffix(module).unwrap_or_default();
    before.is_empty() || before.ends_with(' ')
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
