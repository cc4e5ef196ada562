//! Approving and rejecting. An approval is a signature over the plan's digest by the approver's own key; the bearer token that carries it
//! proves nothing but who is asked to be believed (P6).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{App, AppError, Caller, Deed, PlanView, Verb, allow};
use crate::domain::actor::{Approval, Approver};
use crate::domain::ids::{ApprovalId, PersonId};
use crate::domain::plan::{Action, Plan};
use crate::evidence::approval::{ApprovalStatement, Decision};
use crate::evidence::keys::VerifierKey;
use crate::store::{ApprovalRow, Commit, Fact, Guard, PersonRow, PlanRow, PlanStatus};

/// What the approver sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// Base64 of the Ed25519 signature over the approval statement.
    pub signature: String,
    /// Microseconds since the Unix epoch, UTC: until when the approval may be acted on.
    pub expires_at_micros: i64,
    #[serde(default)]
    pub reason: String,
}

/// The setting that `init --solo` makes; its presence lets requester and approver be one person, and every receipt names it.
pub const SOLO: &str = "solo";

impl App {
    /// Takes the signature of another person than the requester, and carries the plan out. One is what every plan needs.
    ///
    /// # Errors
    /// When the caller asked for the plan himself, the signature does not hold, or the plan is not open for decision.
    pub async fn approve(&self, caller: &Caller, id: &str, signed: Signed) -> Result<PlanView, AppError> {
        allow(caller, Verb::Approve)?;
        let now = self.env.now();
        let (row, plan) = self.stored_plan(id).await?;
        self.check_open(caller, &row, now).await?;
        let approval = self.signed_by(caller, &row, &signed, now).await?;
        let fact = Fact::Approval(approval_row(self, caller, &row, &signed, true, now)?);
        let details =
            json!({ "plan": row.id, "digest": row.digest, "reason": signed.reason, "signature": signed.signature });
        let mut deed = Deed::new("plan_approved", details);
        deed.approval = Some(&approval);
        let entry = self.entry(caller, now, deed);
        let runs = self
            .apply(
                caller,
                &row,
                &plan,
                &approval,
                Commit {
                    guards: Vec::new(),
                    facts: vec![fact],
                    log: vec![entry],
                },
            )
            .await?;
        let (row, plan) = self.stored_plan(id).await?;
        self.plan_view(&row, &plan, runs).await
    }

    /// The approval as it stands with this signature.
    async fn signed_by(
        &self,
        caller: &Caller,
        row: &PlanRow,
        signed: &Signed,
        now: Timestamp,
    ) -> Result<Approval, AppError> {
        let solo = self.store.setting(SOLO).await?.is_some();
        if row.requester == caller.person && !solo {
            let why = "you asked for this plan, so another person must approve it (`keyfall people` lists who can)";
            return Err(AppError::Conflict { why: why.to_owned() });
        }
        let person = self
            .store
            .person(caller.person)
            .await?
            .filter(|person| person.retired_at.is_none());
        let approver = check_signature(row, person, signed, now)?;
        Ok(Approval {
            plan: row.id,
            plan_digest: row.digest,
            requester: row.requester,
            approvers: vec![approver],
            standing: false,
            solo,
        })
    }

    /// # Errors
    /// When the plan is not open for decision.
    pub async fn reject(&self, caller: &Caller, id: &str, reason: String) -> Result<PlanView, AppError> {
        allow(caller, Verb::Reject)?;
        let now = self.env.now();
        let (row, plan) = self.stored_plan(id).await?;
        self.check_open(caller, &row, now).await?;
        let details = json!({ "plan": row.id, "digest": row.digest, "reason": reason });
        let mut facts = vec![Fact::PlanStatus {
            plan: row.id,
            to: PlanStatus::Rejected,
            at: now,
        }];
        let given = plan.actions.iter().filter_map(|action| match action {
            Action::TakeOver { secret, .. } => *secret,
            _ => None,
        });
        facts.extend(given.map(|id| Fact::SecretDestroyAt { id, at: now }));
        let commit = Commit {
            guards: vec![Guard::PlanIs {
                plan: row.id,
                status: PlanStatus::Proposed,
            }],
            facts,
            log: vec![self.entry(caller, now, Deed::new("plan_rejected", details))],
        };
        self.store(commit, "the plan was decided meanwhile").await?;
        self.plan(caller, id).await
    }

    async fn check_open(&self, caller: &Caller, row: &PlanRow, now: Timestamp) -> Result<(), AppError> {
        let id = row.id;
        if row.status != PlanStatus::Proposed {
            return Err(AppError::Conflict {
                why: format!("plan {id} is {} already", row.status.name()),
            });
        }
        if row.expires_at <= now {
            let details = json!({ "plan": id, "digest": row.digest, "expired_at": row.expires_at });
            let commit = Commit {
                guards: vec![Guard::PlanIs {
                    plan: id,
                    status: PlanStatus::Proposed,
                }],
                facts: vec![Fact::PlanStatus {
                    plan: id,
                    to: PlanStatus::Expired,
                    at: now,
                }],
                log: vec![self.entry(caller, now, Deed::new("plan_expired", details))],
            };
            self.store(commit, "the plan was decided meanwhile").await?;
            return Err(AppError::Conflict {
                why: format!("plan {id} ran out at {:.0}; plan again", row.expires_at),
            });
        }
        Ok(())
    }
}

fn check_signature(
    row: &PlanRow,
    person: Option<PersonRow>,
    signed: &Signed,
    now: Timestamp,
) -> Result<Approver, AppError> {
    if Plan::digest_of(&row.content) != row.digest {
        return Err(AppError::Internal {
            what: format!("plan {} does not have the digest that it was stored with", row.id),
        });
    }
    let no_key = || {
        AppError::Conflict {
        why: "you have no approval key enrolled here; another person can enrol it with `keyfall enrol NAME --role ROLE --public-key KEY`".to_owned(),
    }
    };
    let person = person.ok_or_else(no_key)?;
    let public_key = person.public_key.ok_or_else(no_key)?;
    let key: VerifierKey = public_key
        .parse()
        .map_err(|error| AppError::internal("an enrolled key could not be read", &error))?;
    if signed.expires_at_micros <= now.as_microsecond() {
        return Err(AppError::Conflict {
            why: "the approval has run out; sign again".to_owned(),
        });
    }
    let statement = ApprovalStatement {
        plan_id: row.id.to_string(),
        plan_digest: row.digest.0,
        decision: Decision::Approve,
        expires_at_micros: signed.expires_at_micros,
    };
    if !statement.verifies(&key, &signed.signature) {
        let why = format!(
            "the signature is not {}'s over this plan; sign with the enrolled key",
            person.name
        );
        return Err(AppError::Conflict { why });
    }
    Ok(Approver {
        person: person.id,
        name: person.name,
        public_key,
        expires_at_micros: signed.expires_at_micros,
        signature: signed.signature.clone(),
    })
}

fn approval_row(
    app: &App,
    caller: &Caller,
    row: &PlanRow,
    signed: &Signed,
    approve: bool,
    now: Timestamp,
) -> Result<ApprovalRow, AppError> {
    let person: PersonId = caller.person;
    Ok(ApprovalRow {
        id: ApprovalId::from_uuid(app.env.draw_uuid()),
        plan: row.id,
        person,
        approve,
        reason: signed.reason.clone(),
        expires_at: Timestamp::from_microsecond(signed.expires_at_micros).unwrap_or(Timestamp::MAX),
        signature: STANDARD
            .decode(&signed.signature)
            .map_err(|_| AppError::invalid("the signature is not base64"))?,
        at: now,
    })
}
