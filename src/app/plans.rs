//! Making plans and looking at them. A plan is stored as the bytes that its digest was taken over, and a person signs that digest.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::controls::control_name;
use super::manifest::{ManifestFile, read};
use super::planning::{Draft, Means, PLAN_LIFE, Present, draft, draw_plan_id};
use super::positions::told;
use super::register::{PageQuery, page};
use super::wording::{action_line, diff_lines};
use super::{App, AppError, ApprovalView, Caller, Deed, PlanView, Verb, allow};
use crate::domain::identity::IdentityState;
use crate::domain::ids::PlanId;
use crate::domain::plan::{Action, ChangeTarget, Manifest, Plan};
use crate::domain::resource::{DeliverySpec, Kind, Spec};
use crate::store::{Commit, Fact, IdentityFilter, Page, PlanRow, PlanStatus, RunFilter};

impl App {
    /// Compares manifests with what is registered and stores the plan, unless there is nothing to do: then the plan is empty and has no id.
    ///
    /// # Errors
    /// All problems of all manifests at once, each with its file and line.
    pub async fn plan_manifests(
        &self,
        caller: &Caller,
        reason: String,
        files: Vec<ManifestFile>,
    ) -> Result<PlanView, AppError> {
        allow(caller, Verb::Plan)?;
        let manifests = read(&files).map_err(|problems| AppError::Invalid { problems })?;
        let present = self.present(&manifests).await?;
        let now = self.env.now();
        let means = Means {
            kinds: &self.kinds,
            grants: &self.settings.grants,
            env: &self.env,
            now,
        };
        let draft = draft(manifests, &present, &means).map_err(|problems| AppError::Invalid {
            problems: told(&files, &problems),
        })?;
        let landscape = self.landscape().await?.with(&draft.changes, None);
        let problems = self.occupied(&landscape, &draft.changes, &draft.actions).await?;
        if !problems.is_empty() {
            return Err(AppError::Invalid { problems });
        }
        self.propose(caller, reason, draft, now, Vec::new()).await
    }

    /// Stores a plan with what must be stored beside it (a secret for a takeover).
    pub(super) async fn propose(
        &self,
        caller: &Caller,
        reason: String,
        draft: Draft,
        now: Timestamp,
        mut facts: Vec<Fact>,
    ) -> Result<PlanView, AppError> {
        let plan = Plan {
            id: draw_plan_id(&self.env),
            requester: caller.person,
            requester_name: caller.name.clone(),
            reason,
            created_at: now,
            expires_at: now.saturating_add(PLAN_LIFE).unwrap_or(Timestamp::MAX),
            changes: draft.changes,
            actions: draft.actions,
            consequences: draft.consequences,
            warnings: draft.warnings,
            approvals_needed: 1,
        };
        let content = plan
            .to_bytes()
            .map_err(|error| AppError::internal("the plan could not be written", &error))?;
        let row = PlanRow {
            id: plan.id,
            status: PlanStatus::Proposed,
            digest: Plan::digest_of(&content),
            requester: caller.person,
            approvals_needed: plan.approvals_needed,
            content,
            created_at: now,
            expires_at: plan.expires_at,
            decided_at: None,
        };
        if plan.is_empty() {
            return Ok(view(&row, &plan, Vec::new(), Vec::new()));
        }
        if facts.is_empty()
            && let Some((row, plan)) = self.proposed_already(&plan, now).await?
        {
            return Ok(view(&row, &plan, Vec::new(), Vec::new()));
        }
        let details = json!({ "plan": plan.id, "digest": row.digest, "reason": plan.reason });
        facts.push(Fact::Plan(row.clone()));
        let log = vec![self.entry(caller, now, Deed::new("plan_proposed", details))];
        self.store(
            Commit {
                guards: Vec::new(),
                facts,
                log,
            },
            "the plan could not be stored",
        )
        .await?;
        Ok(view(&row, &plan, Vec::new(), Vec::new()))
    }

    /// The same plan, asked for by the same person and waiting for a signature with most of its time left: who approves sees it once.
    async fn proposed_already(&self, plan: &Plan, now: Timestamp) -> Result<Option<(PlanRow, Plan)>, AppError> {
        let wanted = without_ids(plan)?;
        for row in self.store.plans(Some(PlanStatus::Proposed), Page::first(100)).await? {
            let half = row.expires_at.saturating_sub(PLAN_LIFE / 2).unwrap_or(Timestamp::MIN);
            if row.requester != plan.requester || half <= now {
                continue;
            }
            let known = parse(&row)?;
            if without_ids(&known)? == wanted {
                return Ok(Some((row, known)));
            }
        }
        Ok(None)
    }

    /// # Errors
    /// When there is no such plan.
    pub async fn plan(&self, caller: &Caller, id: &str) -> Result<PlanView, AppError> {
        allow(caller, Verb::Read)?;
        let (row, plan) = self.stored_plan(id).await?;
        let runs = self.runs_opened_by(&row, &plan).await?;
        self.plan_view(&row, &plan, runs).await
    }

    /// The runs that the plan opened, or hastened, when it was applied: those of its identities that opened in that very commit. An identity's runs are
    /// looked at as far back as a page reaches.
    async fn runs_opened_by(&self, row: &PlanRow, plan: &Plan) -> Result<Vec<String>, AppError> {
        let (PlanStatus::Applied, Some(applied_at)) = (row.status, row.decided_at) else {
            return Ok(Vec::new());
        };
        let mut runs = Vec::new();
        for action in &plan.actions {
            // It was under way before.
            if let Action::EmergencyRotate { run: Some(run), .. } = action {
                runs.push(run.to_string());
                continue;
            }
            let Some(identity) = action.identity() else { continue };
            let filter = RunFilter {
                identity: Some(identity),
                opened_since: Some(applied_at),
                ..RunFilter::default()
            };
            let found = self.store.runs(&filter, Page::first(1000)).await?;
            runs.extend(
                found
                    .iter()
                    .find(|run| run.opened_at == applied_at)
                    .map(|run| run.id.to_string()),
            );
        }
        Ok(runs)
    }

    /// The latest first.
    ///
    /// # Errors
    /// When the status is none.
    pub async fn plans(
        &self,
        caller: &Caller,
        status: Option<&str>,
        query: PageQuery,
    ) -> Result<Vec<PlanView>, AppError> {
        allow(caller, Verb::Read)?;
        let known = |name: &str| {
            let names = PlanStatus::ALL.map(PlanStatus::name).join(", ");
            let found = PlanStatus::ALL.into_iter().find(|status| status.name() == name);
            found.ok_or_else(|| AppError::invalid(format!("`{name}` is no status of a plan; known are {names}")))
        };
        let status = status.map(known).transpose()?;
        let mut views = Vec::new();
        for row in self.store.plans(status, page(query)).await? {
            let plan = parse(&row)?;
            views.push(self.plan_view(&row, &plan, Vec::new()).await?);
        }
        Ok(views)
    }

    /// Exactly the bytes whose digest is signed.
    ///
    /// # Errors
    /// When there is no such plan.
    pub async fn plan_content(&self, caller: &Caller, id: &str) -> Result<Vec<u8>, AppError> {
        allow(caller, Verb::Read)?;
        Ok(self.stored_plan(id).await?.0.content)
    }

    pub(super) async fn stored_plan(&self, id: &str) -> Result<(PlanRow, Plan), AppError> {
        let missing = || AppError::NotFound {
            what: "plan",
            name: id.to_owned(),
        };
        let id: PlanId = id.parse().map_err(|_| missing())?;
        let row = self.store.plan(id).await?.ok_or_else(missing)?;
        let plan = parse(&row)?;
        Ok((row, plan))
    }

    pub(super) async fn plan_view(&self, row: &PlanRow, plan: &Plan, runs: Vec<String>) -> Result<PlanView, AppError> {
        let people = self.store.people().await?;
        let name = |id| {
            people
                .iter()
                .find(|one| one.id == id)
                .map_or_else(|| "?".to_owned(), |one| one.name.clone())
        };
        let approvals = self.store.approvals(row.id).await?;
        let approvals = approvals.into_iter().map(|one| ApprovalView {
            person: name(one.person),
            approve: one.approve,
            reason: one.reason,
            at: one.at,
        });
        Ok(view(row, plan, approvals.collect(), runs))
    }

    /// What stands for later runs: a policy for those of its identities, a system for those of its control identity.
    async fn lapsed(&self, present: &Present) -> Result<BTreeMap<(Kind, String), String>, AppError> {
        let mut lapsed = BTreeMap::new();
        for ((kind, name), resource) in &present.resources {
            let stands = matches!(kind, Kind::Policy | Kind::System);
            let approved = resource.approved.iter().filter(|_| stands);
            for approver in approved.flat_map(|approved| &approved.approvers) {
                let person = self.store.person(approver.person).await?;
                if person.is_none_or(|person| person.retired_at.is_some()) {
                    lapsed.insert((*kind, name.clone()), approver.name.clone());
                }
            }
        }
        Ok(lapsed)
    }

    /// What is registered under the names that these manifests use.
    async fn present(&self, manifests: &[Manifest]) -> Result<Present, AppError> {
        let mut present = Present::default();
        for kind in [Kind::Owner, Kind::System, Kind::Destination, Kind::Policy] {
            for resource in self.store.resources(kind).await? {
                present.resources.insert((kind, resource.name.clone()), resource);
            }
        }
        present.lapsed = self.lapsed(&present).await?;
        let mut names = BTreeSet::new();
        for manifest in manifests {
            match &manifest.spec {
                Spec::Identity(_) => drop(names.insert(manifest.name.clone())),
                Spec::System(system) => {
                    names.insert(control_name(&manifest.name));
                    if let Some(admin) = &system.admin
                        && self.store.secret_named(&admin.secret_ref).await?.is_some()
                    {
                        present.secrets.insert(admin.secret_ref.clone());
                    }
                }
                _ => {}
            }
        }
        let identities = manifests.iter().filter_map(Manifest::identity);
        let systems: BTreeSet<_> = identities.map(|spec| spec.system.clone()).collect();
        for system in systems {
            for (account, identity) in self.accounts_registered(&system).await? {
                present.accounts.insert((system.clone(), account), identity);
            }
        }
        let names: Vec<_> = names.into_iter().collect();
        for identity in self.store.identities_named(&names).await? {
            if self.store.open_run_of(identity.id).await?.is_some() {
                present.busy.insert(identity.name.clone());
            }
            present.identities.insert(identity.name.clone(), identity);
        }
        if delivers(manifests, &present) {
            present.deliveries = self.deliveries().await?;
        }
        Ok(present)
    }

    /// Where the secrets of all living identities are delivered.
    async fn deliveries(&self) -> Result<Vec<(String, Vec<DeliverySpec>)>, AppError> {
        let mut all = Vec::new();
        let mut next = Page::first(1000);
        loop {
            let found = self.store.identities(&IdentityFilter::default(), next.clone()).await?;
            let Some(last) = found.last() else { return Ok(all) };
            next.after = Some(last.name.clone());
            let living = found
                .into_iter()
                .filter(|one| one.state != IdentityState::Decommissioned && !one.spec.deliver_to.is_empty());
            all.extend(living.map(|one| (one.name, one.spec.deliver_to)));
        }
    }
}

/// Whether these manifests lead any delivery to another place than the one where it is.
fn delivers(manifests: &[Manifest], present: &Present) -> bool {
    manifests.iter().any(|manifest| match &manifest.spec {
        Spec::Identity(spec) => {
            let before = present.identities.get(&manifest.name);
            let known = before.map_or(&[][..], |before| before.spec.deliver_to.as_slice());
            spec.deliver_to != known
        }
        Spec::Destination(_) => {
            let before = present.resources.get(&(Kind::Destination, manifest.name.clone()));
            before.is_some_and(|before| before.spec != manifest.spec)
        }
        _ => false,
    })
}

/// What a plan says, without what is drawn anew each time that it is made: its own id and times, and the ids of what it registers.
fn without_ids(plan: &Plan) -> Result<String, AppError> {
    let mut same = plan.clone();
    same.id = PlanId::from_uuid(Uuid::nil());
    (same.created_at, same.expires_at) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    let text = same.to_bytes().ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let mut text = text.ok_or_else(|| AppError::Internal {
        what: "the plan could not be written".to_owned(),
    })?;
    let made = plan.changes.iter().filter(|change| change.before.is_none());
    let registered = made.map(|change| match change.target {
        ChangeTarget::Resource(id) => id.to_string(),
        ChangeTarget::Identity(id) => id.to_string(),
    });
    let enrolled = plan.actions.iter().filter_map(|action| match action {
        Action::Enrol { person, .. } => Some(person.to_string()),
        Action::Adopt { identity, .. } => Some(identity.to_string()),
        _ => None,
    });
    for (number, id) in registered.chain(enrolled).enumerate() {
        text = text.replace(&id, &format!("#{number}"));
    }
    Ok(text)
}

fn parse(row: &PlanRow) -> Result<Plan, AppError> {
    serde_json::from_slice(&row.content).map_err(|error| AppError::internal("a stored plan could not be read", &error))
}

fn view(row: &PlanRow, plan: &Plan, approvals: Vec<ApprovalView>, runs: Vec<String>) -> PlanView {
    let empty = plan.is_empty();
    PlanView {
        id: if empty { String::new() } else { row.id.to_string() },
        status: row.status.name().to_owned(),
        digest: row.digest.to_string(),
        requester: plan.requester_name.clone(),
        reason: plan.reason.clone(),
        created_at: row.created_at,
        expires_at: row.expires_at,
        approvals_needed: row.approvals_needed,
        approvals,
        diff: plan.changes.iter().flat_map(diff_lines).collect(),
        actions: plan.actions.iter().map(action_line).collect(),
        consequences: plan.consequences.clone(),
        warnings: plan.warnings.clone(),
        runs,
        empty,
    }
}
