//! Where in its file each key of a manifest stands, for problems that are found behind the reading of it. Looked up only when there is a
//! problem to tell. It knows no key by name.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::manifest::{ManifestFile, documents, place};
use crate::domain::plan::Manifest;
use crate::nearest::did_you_mean;

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `file:line` of the manifest.
    origin: String,
    manifest: String,
    /// As a path inside of `spec`, or of `metadata`: `vantages[1].host`.
    at: String,
    text: String,
}

impl Problem {
    pub(super) fn new(manifest: &Manifest, at: &str, text: &str) -> Self {
        Self {
            origin: manifest.origin.clone(),
            manifest: format!("{} `{}`", manifest.spec.kind().name(), manifest.name),
            at: at.to_owned(),
            text: text.to_owned(),
        }
    }

    fn told(&self, file: &str, first_line: usize, keys: &Keys) -> String {
        let unknown = Unknown::read(&self.text);
        let found = unknown.as_ref().and_then(|unknown| keys.unknown(&self.at, unknown));
        let line = found.or_else(|| keys.nearest(&self.at));
        let origin = line.map_or_else(|| self.origin.clone(), |line| place(file, first_line, line));
        self.at_place(&origin, unknown.as_ref())
    }

    fn at_place(&self, origin: &str, unknown: Option<&Unknown<'_>>) -> String {
        let text = unknown.map_or_else(|| self.text.clone(), Unknown::told);
        format!("{origin}: {}: {}: {text}", self.manifest, self.at)
    }
}

/// Each problem in one line, with its file and the line of what it is about.
pub(super) fn told(files: &[ManifestFile], problems: &[Problem]) -> Vec<String> {
    let mut texts = BTreeMap::new();
    for file in files {
        for (first_line, text) in documents(&file.text) {
            texts.insert(place(&file.name, first_line, 1), (file.name.as_str(), first_line, text));
        }
    }
    let mut read = BTreeMap::new();
    let mut lines = Vec::new();
    for problem in problems {
        let Some((file, first_line, text)) = texts.get(&problem.origin) else {
            lines.push(problem.at_place(&problem.origin, Unknown::read(&problem.text).as_ref()));
            continue;
        };
        let keys = read.entry(&problem.origin).or_insert_with(|| Keys::read(text));
        lines.push(problem.told(file, *first_line, keys));
    }
    lines
}

/// A key that a connector does not know, as `serde` says it: the connectors read what is theirs with it.
struct Unknown<'t> {
    key: &'t str,
    known: Vec<&'t str>,
}

impl<'t> Unknown<'t> {
    fn read(text: &'t str) -> Option<Self> {
        let (_, after) = text.split_once("unknown field `")?;
        let (key, after) = after.split_once('`')?;
        // What a connector adds behind it may name words too.
        let said = after.split(';').next().unwrap_or_default();
        let known = said.split('`').skip(1).step_by(2).collect();
        Some(Self { key, known })
    }

    fn told(&self) -> String {
        let key = self.key;
        if self.known.is_empty() {
            return format!("unknown key `{key}`; nothing is known here, remove it");
        }
        let meant = did_you_mean(key, self.known.iter().copied());
        format!("unknown key `{key}`{meant}; known here are {}", self.known.join(", "))
    }
}

/// The keys of one document with their lines, the first line being 1.
struct Keys(Vec<(String, u64)>);

impl Keys {
    /// Nothing of a document that is no YAML: that was told when it was read.
    fn read(text: &str) -> Self {
        let mut keys = Vec::new();
        if let Ok(node) = serde_saphyr::from_str::<Node>(text) {
            node.list("", &mut keys);
        }
        Self(keys)
    }

    fn line(&self, path: &str) -> Option<u64> {
        let found = self.0.iter().find(|(known, _)| known == path);
        found.map(|(_, line)| *line)
    }

    /// The line of the key, or of what it would stand in.
    fn nearest(&self, at: &str) -> Option<u64> {
        let mut path = format!("spec.{at}");
        if let Some(line) = self
            .line(&format!("metadata.{at}"))
            .filter(|_| self.line(&path).is_none())
        {
            return Some(line);
        }
        loop {
            if let Some(line) = self.line(&path) {
                return Some(line);
            }
            path.truncate(path.rfind(['.', '['])?);
        }
    }

    /// The line of an unknown key somewhere in a block. Where the name stands more than once, its neighbours tell which of them is unknown:
    /// they are among what is known there.
    fn unknown(&self, block: &str, unknown: &Unknown<'_>) -> Option<u64> {
        let inside = format!("spec.{block}");
        let parent_of = |path: &str| {
            path.rfind('.')
                .map(|end| path.get(..end).unwrap_or_default().to_owned())
        };
        let neighbours = |parent: &str| {
            let known = |key: &&&str| self.line(&format!("{parent}.{key}")).is_some();
            unknown.known.iter().filter(known).count()
        };
        let named = self.0.iter().filter_map(|(path, line)| {
            let parent = parent_of(path)?;
            let is_inside = parent
                .strip_prefix(&inside)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
            (is_inside && path.get(parent.len().saturating_add(1)..) == Some(unknown.key)).then_some((parent, *line))
        });
        let best = named.rev().max_by_key(|(parent, _)| neighbours(parent));
        best.map(|(_, line)| line)
    }
}

/// A document's shape: its keys with their places, and nothing of its values.
#[derive(Default)]
struct Node {
    keys: Vec<(Spanned<String>, Node)>,
    items: Vec<Node>,
}

impl Node {
    fn list(&self, path: &str, keys: &mut Vec<(String, u64)>) {
        for (key, node) in &self.keys {
            let dot = if path.is_empty() { "" } else { "." };
            let inner = format!("{path}{dot}{}", key.value);
            keys.push((inner.clone(), key.referenced.line()));
            node.list(&inner, keys);
        }
        for (index, node) in self.items.iter().enumerate() {
            node.list(&format!("{path}[{index}]"), keys);
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shape)
    }
}

struct Shape;

/// A value without a shape of its own.
macro_rules! leaf {
    ($($visit:ident($type:ty)),+ $(,)?) => {
        $(fn $visit<E>(self, _value: $type) -> Result<Node, E> {
            Ok(Node::default())
        })+
    };
}

impl<'de> Visitor<'de> for Shape {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    leaf!(
        visit_bool(bool),
        visit_i64(i64),
        visit_u64(u64),
        visit_i128(i128),
        visit_u128(u128),
        visit_f64(f64),
        visit_str(&str)
    );

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::default())
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut node = Node::default();
        while let Some(key) = map.next_key()? {
            node.keys.push((key, map.next_value()?));
        }
        Ok(node)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut node = Node::default();
        while let Some(item) = list.next_element()? {
            node.items.push(item);
        }
        Ok(node)
    }
}

#[cfg(test)]
mod tests {
    use super::{Keys, Unknown};

    const TEXT: &str = "\
metadata: { name: orders }
spec:
  vantages:
    - { name: a, host: h }
    - name: b
      host: h
  target:
    root: apps
    name: x
    after:
      signal:
        pidFile: p
        name: HUP
";

    #[test]
    fn a_key_is_found_by_its_path_and_what_is_missing_by_what_it_belongs_in() {
        let keys = Keys::read(TEXT);
        for (at, line) in [
            ("vantages[1].host", 6),
            ("vantages[1].port", 3),
            ("target.after.signal", 11),
            ("target.after.command", 10),
            ("vantages", 3),
            ("name", 1),
            ("owner", 2),
        ] {
            assert_eq!(keys.nearest(at), Some(line), "{at}");
        }
    }

    #[test]
    fn of_two_keys_of_one_name_the_unknown_one_is_told_by_its_neighbours() {
        let keys = Keys::read(TEXT);
        let of_target = "The file target is wrong: unknown field `name`, expected one of `root`, `path`, `after`";
        let of_signal = "unknown field `name`, expected `pidFile` or `kind`; `root` is another matter";
        for (text, line) in [(of_target, 9), (of_signal, 13)] {
            let unknown = Unknown::read(text).unwrap();
            assert_eq!(keys.unknown("target", &unknown), Some(line), "{text}");
        }
        assert_eq!(Unknown::read(of_signal).unwrap().known, ["pidFile", "kind"]);
    }
}
