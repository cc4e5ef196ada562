//! Planning and applying manifests. The files are read here and judged by the server, so that a plan means the same from every machine.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::output::note;
use super::watch::follow_plan;
use super::{CliError, Exit, Session, approve};
use crate::app::PlanView;
use crate::app::manifest::{LARGEST_FILE, ManifestFile};

#[derive(Debug, Args)]
/// Propose what manifests describe: show the changes, what they do downstream and who must approve
#[command(after_help = "Example:\n  keyfall plan -f deploy/examples --detailed-exitcode")]
pub struct PlanArgs {
    #[command(flatten)]
    files: Files,
    /// Exit with 2 when there are changes
    #[arg(long)]
    detailed_exitcode: bool,
}

#[derive(Debug, Args)]
/// Propose what manifests describe and, with --wait, follow it until it holds downstream
#[command(after_help = "Example:\n  keyfall apply -f deploy/examples --reason 'onboard orders' --wait")]
pub struct ApplyArgs {
    #[command(flatten)]
    files: Files,
    /// Wait until another person has approved it and every run has ended
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
struct Files {
    /// Manifest file or directory (its *.yaml and *.yml); `-` is standard input; can be repeated
    #[arg(short, long = "file", required = true, value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Why, for whoever approves it
    #[arg(long, default_value = "")]
    reason: String,
}

impl PlanArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let plan = propose(session, self.files).await?;
        approve::show_plan(session.output, &plan)?;
        let changes = self.detailed_exitcode && !plan.empty;
        Ok(if changes { Exit::Changes } else { Exit::Ok })
    }
}

impl ApplyArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let plan = propose(session, self.files).await?;
        approve::show_plan(session.output, &plan)?;
        if self.wait && !plan.empty {
            return follow_plan(session, &plan.id).await;
        }
        Ok(Exit::Ok)
    }
}

async fn propose(session: &Session, files: Files) -> Result<PlanView, CliError> {
    let mut manifests = Vec::new();
    for path in &files.files {
        read(path, &mut manifests)?;
    }
    if manifests.is_empty() {
        return Err(CliError::Usage(
            "no manifest found: a directory is searched for *.yaml and *.yml".to_owned(),
        ));
    }
    let body = json!({ "reason": files.reason, "files": manifests });
    session.client()?.post(&["plans"], &body).await
}

fn read(path: &Path, into: &mut Vec<ManifestFile>) -> Result<(), CliError> {
    let failed = |source| CliError::File {
        doing: "read",
        path: path.to_owned(),
        source,
    };
    if path == Path::new("-") {
        let text = std::io::read_to_string(std::io::stdin()).map_err(failed)?;
        into.push(ManifestFile {
            name: "standard input".to_owned(),
            text,
        });
        return Ok(());
    }
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?.path();
            let is_manifest = entry.extension().is_some_and(|one| one == "yaml" || one == "yml");
            if is_manifest || entry.is_dir() {
                found.push(entry);
            }
        }
        found.sort();
        return found.iter().try_for_each(|entry| read(entry, into));
    }
    if metadata.len() > LARGEST_FILE as u64 {
        return Err(CliError::Usage(format!(
            "{} is larger than {LARGEST_FILE} bytes; split it",
            path.display()
        )));
    }
    into.push(ManifestFile {
        name: path.display().to_string(),
        text: std::fs::read_to_string(path).map_err(failed)?,
    });
    Ok(())
}

/// Says what is to be done with a proposed plan.
pub(super) fn advise(plan: &PlanView) {
    if plan.empty {
        note("nothing to change");
    } else if plan.status == "proposed" {
        note(&format!("another person approves it with: keyfall approve {}", plan.id));
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_directory_is_read_in_order_and_only_for_manifests() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["c.yml", "a.yaml", "notes.txt", "b/x.yaml"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let mut found = Vec::new();
        read(folder.path(), &mut found).unwrap();
        let texts: Vec<_> = found.iter().map(|file| file.text.as_str()).collect();
        assert_eq!(texts, ["a.yaml", "b/x.yaml", "c.yml"]);
        assert!(read(&folder.path().join("absent"), &mut found).is_err());
    }
}
