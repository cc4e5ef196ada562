//! Plans and the approvals on them: texts, and rows to types and back.

use jiff::Timestamp;

use super::super::question::Page;
use super::super::row::{ApprovalRow, PlanRow, PlanStatus, PlanTerms};
use super::super::{Result, StoreError};
use super::{Bound, Listing, Op, Row, Value, statements};
use crate::domain::ids::PlanId;

macro_rules! columns {
    () => {
        "id, status, digest, requester, approvals_needed, content, created_at, expires_at, decided_at"
    };
}

const SELECT: &str = concat!("select ", columns!(), " from plans");

statements! {
    BY_ID = concat!("select ", columns!(), " from plans where id = $id");
    TERMS = "select digest, requester, approvals_needed from plans where id = $id";
    STATUS = "select status from plans where id = $id and status = $status";
    INSERT = "insert into plans (id, status, digest, requester, approvals_needed, content, created_at, expires_at, decided_at) \
        values ($id, $status, $digest, $requester, $approvals_needed, $content, $created_at, $expires_at, $decided_at)";
    SET_STATUS = "update plans set status = $status, decided_at = $at where id = $id";
    APPROVALS = "select id, plan, person, approve, reason, expires_at, signature, at from approvals where plan = $plan \
        order by at, id";
    APPROVE = "insert into approvals (id, plan, person, approve, reason, expires_at, signature, at) \
        values ($id, $plan, $person, $approve, $reason, $expires_at, $signature, $at)";
}

pub(crate) fn list(status: Option<PlanStatus>, page: &Page) -> Result<Bound> {
    let mut listing = Listing::new(SELECT);
    listing
        .and_maybe("status = $status", "status", status.map(PlanStatus::name))
        .and_maybe(
            "(created_at, id) < (select created_at, id from plans where id = $after)",
            "after",
            page.after.as_deref(),
        );
    listing.end(" order by created_at desc, id desc limit $limit", page.limit)
}

pub(crate) fn insert(plan: &PlanRow) -> Result<Op> {
    Ok(Op::Do(INSERT.with([
        ("id", Value::shown(&plan.id)),
        ("status", Value::Name(plan.status.name())),
        ("digest", Value::shown(&plan.digest)),
        ("requester", Value::shown(&plan.requester)),
        ("approvals_needed", plan.approvals_needed.into()),
        ("content", plan.content.clone().into()),
        ("created_at", plan.created_at.into()),
        ("expires_at", plan.expires_at.into()),
        ("decided_at", plan.decided_at.into()),
    ])?))
}

pub(crate) fn set_status(plan: PlanId, to: PlanStatus, at: Timestamp) -> Result<Op> {
    Ok(Op::Must {
        bound: SET_STATUS.with([
            ("id", Value::shown(&plan)),
            ("status", Value::Name(to.name())),
            ("at", at.into()),
        ])?,
        what: "plan",
        id: plan.to_string(),
    })
}

pub(crate) fn approve(approval: &ApprovalRow) -> Result<Op> {
    Ok(Op::Do(APPROVE.with([
        ("id", Value::shown(&approval.id)),
        ("plan", Value::shown(&approval.plan)),
        ("person", Value::shown(&approval.person)),
        ("approve", approval.approve.into()),
        ("reason", approval.reason.as_str().into()),
        ("expires_at", approval.expires_at.into()),
        ("signature", approval.signature.clone().into()),
        ("at", approval.at.into()),
    ])?))
}

pub(crate) fn read(row: Row) -> Result<PlanRow> {
    let mut columns = row.read("plan");
    Ok(PlanRow {
        id: columns.shown()?,
        status: status(&columns.text()?)?,
        digest: columns.shown()?,
        requester: columns.shown()?,
        approvals_needed: columns.number()?,
        content: columns.bytes()?,
        created_at: columns.time()?,
        expires_at: columns.time()?,
        decided_at: columns.maybe_time()?,
    })
}

pub(crate) fn read_terms(row: Row) -> Result<PlanTerms> {
    let mut columns = row.read("plan");
    Ok(PlanTerms {
        digest: columns.shown()?,
        requester: columns.shown()?,
        approvals_needed: columns.number()?,
    })
}

fn status(name: &str) -> Result<PlanStatus> {
    let found = PlanStatus::ALL.into_iter().find(|status| status.name() == name);
    found.ok_or_else(|| StoreError::Unreadable {
        what: "plan",
        why: format!("`{name}` is not a status"),
    })
}

pub(crate) fn read_approval(row: Row) -> Result<ApprovalRow> {
    let mut columns = row.read("approval");
    Ok(ApprovalRow {
        id: columns.shown()?,
        plan: columns.shown()?,
        person: columns.shown()?,
        approve: columns.flag()?,
        reason: columns.text()?,
        expires_at: columns.time()?,
        signature: columns.bytes()?,
        at: columns.time()?,
    })
}
