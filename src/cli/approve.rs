//! Approving and rejecting a plan. The exact bytes that will be carried out are fetched, hashed and shown here, and signed here: the server's
//! own summary is not believed, and the key never leaves this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::manifests::advise;
use super::output::{confirm, note, print};
use super::watch::follow_runs;
use super::{CliError, Exit, Output, Session};
use crate::app::PlanView;
use crate::domain::plan::{Change, Plan};
use crate::evidence::approval::{ApprovalStatement, Decision};
use crate::evidence::keys::SigningKey;

#[derive(Debug, Args)]
/// Show exactly what a plan does, and sign it with your own key
#[command(
    after_help = "Example:\n  keyfall approve pln_… --key ~/.config/keyfall/bob.key --reason 'agreed with payments'"
)]
pub struct ApproveArgs {
    /// The plan
    plan: String,
    /// Your signing key (default: key_file of the context)
    #[arg(long, env = "KEYFALL_KEY_FILE", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Why; it goes into the audit log
    #[arg(long, default_value = "")]
    reason: String,
    /// Sign without asking; what is signed is still shown
    #[arg(long)]
    yes: bool,
    /// Follow the runs that it opens to their end
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
/// Refuse a plan
#[command(after_help = "Example:\n  keyfall reject pln_… --reason 'not before the release'")]
pub struct RejectArgs {
    /// The plan
    plan: String,
    /// Why; it goes into the audit log
    #[arg(long)]
    reason: String,
}

impl ApproveArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let key = SigningKey::load(&session.context.key_file(self.key.as_deref())?, None)?;
        let client = session.client()?;
        let bytes = client.get_bytes(&["plans", &self.plan, "content"], &[]).await?;
        let plan: Plan = serde_json::from_slice(&bytes).map_err(|error| CliError::Answer {
            what: error.to_string(),
        })?;
        if plan.id.to_string() != self.plan {
            return Err(CliError::NotProven(format!(
                "the server sent the plan {} when {} was asked for; nothing was signed",
                plan.id, self.plan
            )));
        }
        let digest = Plan::digest_of(&bytes);
        let text = content(&plan, &digest.to_string());
        if session.output.is_json() {
            note(text.trim_end());
        } else {
            print(&text)?;
        }
        if !self.yes && !confirm("Sign this with your key?")? {
            note("nothing was signed");
            return Ok(Exit::Error);
        }
        let statement = ApprovalStatement {
            plan_id: self.plan.clone(),
            plan_digest: digest.0,
            decision: Decision::Approve,
            expires_at_micros: plan.expires_at.as_microsecond(),
        };
        let body = json!({
            "signature": statement.sign(&key),
            "expires_at_micros": statement.expires_at_micros,
            "reason": self.reason,
        });
        let view: PlanView = client.post(&["plans", &self.plan, "approve"], &body).await?;
        decided(session.output, &view)?;
        if self.wait {
            return follow_runs(session, &view.runs).await;
        }
        Ok(Exit::Ok)
    }
}

impl RejectArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let body = json!({ "reason": self.reason });
        let view: PlanView = session.client()?.post(&["plans", &self.plan, "reject"], &body).await?;
        decided(session.output, &view)?;
        Ok(Exit::Ok)
    }
}

fn decided(output: Output, view: &PlanView) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(view);
    }
    let mut text = format!("{} is {}\n", view.id, view.status);
    for run in &view.runs {
        text.push_str(&format!("opened {run}\n"));
    }
    print(&text)
}

/// A plan as the server tells it, for whoever asked for it.
pub(super) fn show_plan(output: Output, view: &PlanView) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(view);
    }
    let mut text = String::new();
    section(&mut text, "Changes", &view.diff);
    section(&mut text, "Actions", &view.actions);
    section(&mut text, "What will happen", &view.consequences);
    section(&mut text, "Look twice", &view.warnings);
    if !view.empty {
        text.push_str(&format!("Plan {} ({}), digest {}\n", view.id, view.status, view.digest));
        text.push_str(&format!(
            "Needs the approval of somebody other than {}\n",
            view.requester
        ));
    }
    print(&text)?;
    advise(view);
    Ok(())
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        text.push_str(&format!("{title}:\n"));
        lines
            .iter()
            .for_each(|line| text.push_str(&format!("  {}\n", harmless(line))));
    }
}

/// What is signed, from the very bytes that are signed.
fn content(plan: &Plan, digest: &str) -> String {
    let mut text = format!(
        "Plan {} by {}, until {:.0}\n",
        plan.id,
        harmless(&plan.requester_name),
        plan.expires_at
    );
    if !plan.reason.is_empty() {
        text.push_str(&format!("Reason: {}\n", harmless(&plan.reason)));
    }
    let changes: Vec<String> = plan.changes.iter().flat_map(change_lines).collect();
    let actions: Vec<String> = plan
        .actions
        .iter()
        .map(|action| {
            let fields = serde_json::to_value(action).unwrap_or_default();
            let name = fields
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            format!("{} {name}  {}", action.verb(), without(&fields, &["action", "name"]))
        })
        .collect();
    section(&mut text, "Changes", &changes);
    section(&mut text, "Actions", &actions);
    section(&mut text, "What will happen", &plan.consequences);
    section(&mut text, "Look twice", &plan.warnings);
    text.push_str(&format!("Digest: {digest}\n"));
    text
}

fn without(fields: &Value, names: &[&str]) -> String {
    let rest: Map<String, Value> = fields
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| !names.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    rest.iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn change_lines(change: &Change) -> Vec<String> {
    let flat = |spec: Option<&crate::domain::resource::Spec>| {
        let mut fields = Map::new();
        if let Some(Ok(spec)) = spec.map(serde_json::to_value) {
            flatten(&spec, "", &mut fields);
        }
        fields
    };
    let (before, after) = (flat(change.before.as_ref()), flat(Some(&change.after)));
    let mark = if change.before.is_some() { '~' } else { '+' };
    let control = if change.is_control {
        " (Keyfall's own control identity)"
    } else {
        ""
    };
    let mut lines = vec![format!("{mark} {} {}{control}", change.kind.name(), change.name)];
    for (path, value) in &after {
        match before.get(path) {
            Some(was) if was == value => {}
            Some(was) => lines.push(format!("    {path}: {was} -> {value}")),
            None if !value.is_null() => lines.push(format!("    {path}: {value}")),
            None => {}
        }
    }
    for (path, was) in before
        .iter()
        .filter(|(path, was)| !was.is_null() && !after.contains_key(*path))
    {
        lines.push(format!("    {path}: {was} -> nothing"));
    }
    let names: BTreeSet<_> = change.labels_before.keys().chain(change.labels.keys()).collect();
    for name in names {
        let show = |labels: &BTreeMap<String, String>| {
            labels
                .get(name)
                .map_or_else(|| "nothing".to_owned(), |value| format!("{value:?}"))
        };
        let (before, after) = (show(&change.labels_before), show(&change.labels));
        if before != after {
            lines.push(format!("    labels.{name}: {before} -> {after}"));
        }
    }
    lines
}

fn flatten(value: &Value, path: &str, into: &mut Map<String, Value>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                flatten(value, &path, into);
            }
        }
        leaf => drop(into.insert(path.to_owned(), leaf.clone())),
    }
}

/// A line break or an escape sequence in a name could show an approver something else than is signed.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{flatten, harmless};
    use serde_json::{Map, json};

    #[test]
    fn nothing_in_a_plan_can_move_the_cursor_of_who_reads_it() {
        assert_eq!(harmless("orders\u{1b}[2K\r\nok"), "orders\u{fffd}[2K\u{fffd}\u{fffd}ok");
    }

    #[test]
    fn a_nested_field_is_named_by_its_path() {
        let mut flat = Map::new();
        flatten(&json!({"a": {"b": 1, "c": [1]}, "d": {}}), "", &mut flat);
        assert_eq!(serde_json::Value::Object(flat), json!({"a.b": 1, "a.c": [1], "d": {}}));
    }
}
