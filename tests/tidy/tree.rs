//! The files of the repository, as the rules see them. It must not know any rule.

use std::fs;
use std::path::{Path, PathBuf};

use crate::source::Source;

/// One readable file: its path from the root, with `/`, and its text.
pub(crate) struct Text {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Text {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }
}

/// What was built or fetched, not written. In a second work tree of git, `.git` is a file.
const NOT_OURS: &[&str] = &["target", ".git", "node_modules"];
/// Data of tests: the README of the folder above speaks for them.
const PARTS_OF_PARENT: &[&str] = &["fixtures", "snapshots", "testdata"];
/// What must explain itself, folder by folder.
const EXPLAINED: &[&str] = &["src", "connectors", "tests", "deploy", "migrations", ".ci"];

pub(crate) struct Tree {
    root: PathBuf,
    files: Vec<String>,
    folders: Vec<String>,
}

impl Tree {
    pub(crate) fn read() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut tree = Self {
            root: root.clone(),
            files: Vec::new(),
            folders: Vec::new(),
        };
        tree.walk(&root, "");
        tree.files.sort();
        tree.folders.sort();
        tree
    }

    fn walk(&mut self, folder: &Path, prefix: &str) {
        for entry in fs::read_dir(folder).expect("a folder of the repository can be read") {
            let entry = entry.expect("an entry of a folder can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().expect("an entry has a type");
            if NOT_OURS.contains(&name.as_str()) {
                continue;
            }
            if kind.is_dir() {
                self.walk(&entry.path(), &format!("{path}/"));
                self.folders.push(path);
            } else if kind.is_file() {
                self.files.push(path);
            }
        }
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// `None` where there is no such file, or where it is not text.
    pub(crate) fn text(&self, path: &str) -> Option<Text> {
        let text = fs::read_to_string(self.root.join(path)).ok()?;
        Some(Text::new(path, &text))
    }

    /// Every file that is text, but for the lock file, which no one writes.
    pub(crate) fn texts(&self) -> Vec<Text> {
        self.files
            .iter()
            .filter(|path| path.as_str() != "Cargo.lock")
            .filter_map(|path| self.text(path))
            .collect()
    }

    pub(crate) fn sources(&self) -> Vec<Source> {
        self.files
            .iter()
            .filter(|path| path.ends_with(".rs"))
            .filter_map(|path| self.text(path))
            .map(|file| Source::new(&file.path, &file.text))
            .collect()
    }

    pub(crate) fn packages(&self) -> Vec<Text> {
        self.texts()
            .into_iter()
            .filter(|file| file.path == "Cargo.toml" || file.path.ends_with("/Cargo.toml"))
            .filter(|file| file.text.lines().any(|line| line == "[package]"))
            .collect()
    }

    /// The names of the folders directly under `folder`.
    pub(crate) fn children(&self, folder: &str) -> Vec<String> {
        self.folders
            .iter()
            .filter_map(|path| path.strip_prefix(folder)?.strip_prefix('/'))
            .filter(|rest| !rest.contains('/'))
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn folders_without_readme(&self) -> Vec<String> {
        folders_without_readme(&self.folders, &self.files)
    }
}

pub(crate) fn folders_without_readme(folders: &[String], files: &[String]) -> Vec<String> {
    folders
        .iter()
        .filter(|path| EXPLAINED.contains(&path.split('/').next().unwrap_or_default()))
        .filter(|path| !path.split('/').skip(1).any(|part| PARTS_OF_PARENT.contains(&part)))
        .filter(|path| !files.contains(&format!("{path}/README.md")))
        .map(|path| format!("{path}/: it has no README.md"))
        .collect()
}
