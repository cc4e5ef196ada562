//! What is printed: the server's view as it is for machines, tables and plain lines for people. Progress goes to standard error, so that
//! output can be piped. No colour is used anywhere, so `NO_COLOR` holds by itself.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

use super::error::CliError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// Heading and JSON pointer (without its first slash) of one column.
pub(super) type Column = (&'static str, &'static str);

#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub format: Format,
}

impl Output {
    /// One list: every row as JSON, or a table of some columns.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn list(&self, rows: &[Value], columns: &[Column]) -> Result<(), CliError> {
        match self.format {
            Format::Json => self.json(rows),
            Format::Table if rows.is_empty() => {
                note("nothing found");
                Ok(())
            }
            Format::Table => print(&format!("{}\n", table(rows, columns))),
        }
    }

    /// One thing: as JSON, or as lines and tables.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn describe(&self, value: &Value) -> Result<(), CliError> {
        match self.format {
            Format::Json => self.json(value),
            Format::Table => {
                let mut text = String::new();
                outline(value, 0, &mut text);
                print(&text)
            }
        }
    }

    /// # Errors
    /// Standard output cannot be written.
    pub fn json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).map_err(|error| CliError::Answer {
            what: error.to_string(),
        })?;
        print(&format!("{text}\n"))
    }

    /// A sentence for people; machines read the view instead.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn say(&self, value: &Value, text: &str) -> Result<(), CliError> {
        match self.format {
            Format::Json => self.json(value),
            Format::Table => print(&format!("{text}\n")),
        }
    }

    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }
}

/// Writes to standard output; a reader that has gone away is no error of ours.
///
/// # Errors
/// It cannot be written.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// One line of progress or advice.
pub fn note(text: &str) {
    // With standard error closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Asks a person. Without a terminal there is nobody to ask.
///
/// # Errors
/// Standard input is no terminal, or cannot be read.
pub(super) fn confirm(question: &str) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(
            "there is no terminal to ask on: read what is shown and give --yes".to_owned(),
        ));
    }
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// Rows as aligned columns.
#[must_use]
pub(super) fn table(rows: &[Value], columns: &[Column]) -> String {
    let cells = rows.iter().map(|row| {
        let cell = |(_, pointer): &Column| cell(row.pointer(&format!("/{pointer}")).unwrap_or(&Value::Null));
        columns.iter().map(cell).collect::<Vec<_>>()
    });
    plain_table(
        columns.iter().map(|(heading, _)| (*heading).to_owned()).collect(),
        cells,
    )
}

fn plain_table(headings: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if !headings.is_empty() {
        table.set_header(headings);
    }
    table.add_rows(rows);
    let arrangement = if io::stdout().is_terminal() {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    };
    table.set_content_arrangement(arrangement);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// One value in one cell.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => {
            let between = if items.iter().any(is_sentence) { "\n" } else { ", " };
            items.iter().map(cell).collect::<Vec<_>>().join(between)
        }
        Value::Object(fields) if fields.is_empty() => "-".to_owned(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", cell(value)))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    }
}

/// Instants to the second; control characters, which a name downstream may hold, cannot move the cursor.
fn plain(text: &str) -> String {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return format!("{}", instant.strftime("%Y-%m-%dT%H:%M:%SZ"));
    }
    text.chars()
        .map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c })
        .collect()
}

/// Fields as lines, lists of things as tables, the rest indented.
fn outline(value: &Value, depth: usize, text: &mut String) {
    let Value::Object(fields) = value else {
        text.push_str(&format!("{}{}\n", "  ".repeat(depth), cell(value)));
        return;
    };
    let indent = "  ".repeat(depth);
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    let (scalars, blocks): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| stands_on_its_line(value));
    for (name, value) in scalars.into_iter().chain(blocks) {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push_str(&format!("{indent}{name}:\n"));
                outline(value, depth.saturating_add(1), text);
            }
            Value::Array(items) if !items.is_empty() && items.iter().all(|item| !is_scalar(item)) => {
                text.push_str(&format!("{indent}{name}:\n"));
                for line in of_items(items).lines() {
                    text.push_str(&format!("{indent}  {line}\n"));
                }
            }
            Value::Array(items) if items.iter().any(is_sentence) => {
                text.push_str(&format!("{indent}{name}:\n"));
                for item in items {
                    text.push_str(&format!("{indent}  {}\n", cell(item)));
                }
            }
            scalar => {
                let label = format!("{name}:");
                let width = width.saturating_add(2);
                text.push_str(&format!("{indent}{label:width$}{}\n", cell(scalar)));
            }
        }
    }
}

fn stands_on_its_line(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.iter().all(|item| is_scalar(item) && !is_sentence(item)),
        _ => true,
    }
}

/// Too long to stand beside others.
fn is_sentence(item: &Value) -> bool {
    item.as_str().is_some_and(|line| line.len() > 30)
}

fn is_scalar(value: &Value) -> bool {
    !matches!(value, Value::Object(_) | Value::Array(_))
}

fn of_items(items: &[Value]) -> String {
    let mut headings: Vec<String> = Vec::new();
    for key in items
        .iter()
        .filter_map(Value::as_object)
        .flat_map(|fields| fields.keys())
    {
        if !headings.contains(key) {
            headings.push(key.clone());
        }
    }
    let rows = items.iter().map(|item| match item {
        Value::Object(fields) => headings
            .iter()
            .map(|key| fields.get(key).map_or_else(|| "-".to_owned(), cell))
            .collect(),
        Value::Array(cells) => cells.iter().map(cell).collect(),
        other => vec![cell(other)],
    });
    let titles = headings.iter().map(|key| key.to_uppercase()).collect();
    plain_table(titles, rows)
}

#[cfg(test)]
mod tests {
    use super::{outline, table};
    use serde_json::json;

    #[test]
    fn a_table_is_aligned_and_holds_no_control_characters() {
        let rows = [
            json!({"name": "orders-api", "owner": "payments", "due_at": "2026-07-01T12:00:00.123456Z"}),
            json!({"name": "a\u{1b}[31m", "owner": null, "current": {"state": "active"}}),
        ];
        let columns = [
            ("NAME", "name"),
            ("STATE", "current/state"),
            ("DUE", "due_at"),
            ("OWNER", "owner"),
        ];
        let lines = [
            "NAME        STATE   DUE                   OWNER",
            "orders-api  -       2026-07-01T12:00:00Z  payments",
            "a\u{fffd}[31m      active  -                     -",
        ];
        assert_eq!(table(&rows, &columns).lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn a_thing_is_outlined() {
        let mut text = String::new();
        let run = json!({
            "id": "run_1",
            "steps": [["precheck", "done"], ["issue_new", "started"]],
            "events": [
                {"seq": 1, "event": "opened"},
                {"seq": 2, "event": "waiting", "seen": ["one: old refused (28P01), live control accepted", "two: untestable"]},
            ],
            "warnings": ["this sentence is far too long to stand beside its name"],
            "labels": {"team": "orders"},
            "receipts": [],
        });
        outline(&run, 0, &mut text);
        let lines = [
            "id:       run_1",
            "receipts: -",
            "events:",
            "  EVENT    SEQ  SEEN",
            "  opened   1    -",
            "  waiting  2    one: old refused (28P01), live control accepted",
            "                two: untestable",
            "labels:",
            "  team: orders",
            "steps:",
            "  precheck   done",
            "  issue_new  started",
            "warnings:",
            "  this sentence is far too long to stand beside its name",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }
}
