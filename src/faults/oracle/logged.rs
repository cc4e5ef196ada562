//! I5 to I9: one writer at a time, nothing done that the log does not say, no secret in it, nobody approved for themselves, and one run spends
//! one of its budget.

use jiff::Timestamp;

use super::{Case, Slate, secrets_of};
use crate::domain::ids::RunId;
use crate::domain::workflow::{EventBody, Run, RunStatus};
use crate::evidence::audit::event_of;
use crate::evidence::receipt::{ReceiptBody, proof_holds};
use crate::store::{FindingFilter, LogPage, Page, ReceiptFilter, Store, StoredRun};

/// Entries that are read at once.
const PAGE: u32 = 1000;

pub(super) async fn faults(case: &Case<'_>, id: RunId, before: &Slate) -> Vec<String> {
    let stored = case.store.run(id).await.unwrap().unwrap();
    let run = Run::replay(&stored.events).unwrap();
    let log = log_of(case, id, before.logged).await;
    let mut wrong = writers(&stored);
    wrong.extend(audited(&stored, &log));
    wrong.extend(secrets_in(case, &stored, &log).await);
    if run.plan().approved_by_who_asked().is_some() {
        wrong.push("I8: who asked for the run approved it".to_owned());
    }
    wrong.extend(overspent(case, &run, before).await);
    wrong.extend(receipts(case, id, &run).await);
    wrong
}

async fn log_of(case: &Case<'_>, id: RunId, mut from: u64) -> Vec<LogPage> {
    let mut all = Vec::new();
    loop {
        let page = case.store.log(from, PAGE).await.unwrap();
        let Some(last) = page.last() else { return all };
        from = last.position + 1;
        all.extend(
            page.into_iter()
                .filter(|entry| entry.run.is_some_and(|(run, _)| run == id)),
        );
    }
}

/// I5: numbers without a gap, epochs that never fall, and no attempt begun under an older epoch behind a newer one.
fn writers(stored: &StoredRun) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, event) in stored.events.iter().enumerate() {
        if usize::try_from(event.seq).ok() != Some(index) {
            wrong.push(format!("I5: event {index} of the run has the number {}", event.seq));
        }
    }
    let engine_wrote = |body: &EventBody| !matches!(body, EventBody::Retried { .. } | EventBody::Resumed { .. });
    let epochs: Vec<u64> = stored
        .events
        .iter()
        .filter(|event| engine_wrote(&event.body))
        .map(|event| event.epoch)
        .collect();
    if !epochs.is_sorted() {
        wrong.push(format!(
            "I5: a write of an older epoch stands behind a newer one: {epochs:?}"
        ));
    }
    wrong
}

/// I6: the run's events and the audit log are the same lines.
fn audited(stored: &StoredRun, log: &[LogPage]) -> Vec<String> {
    let told: Vec<_> = log
        .iter()
        .filter_map(|entry| event_of(&entry.bytes).ok().flatten())
        .collect();
    let is_same = told.len() == stored.events.len() && told.iter().all(|event| stored.events.contains(event));
    Vec::from_iter((!is_same).then(|| format!("I6: {} events, and {} are in the log", stored.events.len(), told.len())))
}

/// I7: in the log, the findings and the receipts of the run.
async fn secrets_in(case: &Case<'_>, stored: &StoredRun, log: &[LogPage]) -> Vec<String> {
    let mut texts: Vec<Vec<u8>> = log.iter().map(|entry| entry.bytes.clone()).collect();
    let id = stored.row.id;
    let filter = FindingFilter {
        subject: Some(id.to_string()),
        ..FindingFilter::default()
    };
    let findings = case.store.findings(&filter, Page::first(100)).await.unwrap();
    texts.extend(findings.into_iter().map(|finding| finding.text.into_bytes()));
    let filter = ReceiptFilter {
        run: Some(id),
        ..ReceiptFilter::default()
    };
    let receipts = case.store.receipts(&filter, Page::first(10)).await.unwrap();
    texts.extend(receipts.into_iter().map(|receipt| receipt.body));
    let mut wrong = Vec::new();
    for (credential, secret) in secrets_of(case).await {
        let Some(secret) = secret else { continue };
        let bytes = secret.expose_secret();
        if texts
            .iter()
            .any(|text| text.windows(bytes.len()).any(|part| part == bytes))
        {
            wrong.push(format!(
                "I7: the secret of {} stands in the log, a finding or a receipt",
                credential.id
            ));
        }
    }
    wrong
}

/// I9: whatever was repeated, one run spends one.
async fn overspent(case: &Case<'_>, run: &Run, before: &Slate) -> Vec<String> {
    let plan = run.plan();
    let scope = plan
        .policy
        .clone()
        .unwrap_or_else(|| format!("system/{}", plan.system_name));
    let spent = spent(case.store, &scope).await.saturating_sub(before.spent);
    Vec::from_iter((spent > 1).then(|| format!("I9: the run spent {spent} of its budget")))
}

pub(super) async fn spent(store: &dyn Store, scope: &str) -> u32 {
    let mut spent = 0;
    for class in ["destructive", "emergency"] {
        spent += store
            .spent(&format!("{class}:{scope}"), Timestamp::UNIX_EPOCH)
            .await
            .unwrap();
    }
    spent
}

/// A receipt holds by the rule of whoever verifies it, and the closing event names it.
async fn receipts(case: &Case<'_>, id: RunId, run: &Run) -> Vec<String> {
    if !matches!(run.status(), RunStatus::Closed { .. }) {
        return Vec::new();
    }
    let filter = ReceiptFilter {
        run: Some(id),
        ..ReceiptFilter::default()
    };
    let rows = case.store.receipts(&filter, Page::first(10)).await.unwrap();
    let mut wrong = Vec::new();
    if rows.len() > 1 {
        wrong.push(format!("the run has {} receipts", rows.len()));
    }
    for row in rows {
        let body: ReceiptBody = serde_json::from_slice(&row.body).unwrap();
        if let Err(why) = proof_holds(&body) {
            wrong.push(format!("the receipt does not hold: {}", why.join("; ")));
        }
    }
    wrong
}
