//! Looking at what is registered, and at what exists downstream that is not.

use std::collections::BTreeMap;

use keyfall_sdk::PrincipalState;
use serde::Deserialize;

use super::credentials::credential_view;
use super::landscape::system_in;
use super::{AccountView, App, AppError, Caller, FindingView, IdentityView, ResourceView, StatusView, Verb, allow};
use crate::domain::identity::{Identity, IdentityState};
use crate::domain::landscape::Landscape;
use crate::domain::resource::{IdentityKind, Kind, Resource, Spec};
use crate::engine::breaker::{BREAKER, Tripped};
use crate::engine::findings::{KINDS, credential_subject};
use crate::engine::freeze::{FREEZE, Freeze};
use crate::nearest::did_you_mean;
use crate::store::{FindingFilter, FindingRow, IdentityFilter, Page};

/// Behind `after`, at most `limit` (100 when not given, 1,000 at the most).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageQuery {
    pub after: Option<String>,
    pub limit: Option<u32>,
}

pub(super) fn page(query: PageQuery) -> Page {
    Page {
        after: query.after,
        limit: query.limit.unwrap_or(100).clamp(1, 1000),
    }
}

/// All that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityQuery {
    pub system: Option<String>,
    pub environment: Option<String>,
    pub owner: Option<String>,
    pub kind: Option<String>,
    pub state: Option<String>,
    pub prefix: Option<String>,
    pub with_control: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FindingQuery {
    pub kind: Option<String>,
    pub subject: Option<String>,
    pub open_only: bool,
}

impl App {
    /// # Errors
    /// When the store does not answer.
    pub async fn status(&self, caller: &Caller) -> Result<StatusView, AppError> {
        allow(caller, Verb::Read)?;
        let overview = self.store.overview(self.env.now()).await?;
        Ok(StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.settings.node.clone(),
            frozen: self
                .store
                .setting(FREEZE)
                .await?
                .map(|value| Freeze::of_setting(&value).reason),
            breaker: self
                .store
                .setting(BREAKER)
                .await?
                .map(|value| Tripped::of_setting(&value).why),
            open_runs: overview.open_runs.iter().map(|(_, count)| count).sum(),
            log_size: self.store.log_state().await?.size,
            last_pass_at: self.bell.last_pass_at(),
            solo: self.store.setting(super::approving::SOLO).await?.is_some(),
        })
    }

    /// Sorted by name.
    ///
    /// # Errors
    /// When the kind is none.
    pub async fn identities(
        &self,
        caller: &Caller,
        query: IdentityQuery,
        page_query: PageQuery,
    ) -> Result<Vec<IdentityView>, AppError> {
        allow(caller, Verb::Read)?;
        let kind = query.kind.as_deref().map(identity_kind).transpose()?;
        let filter = IdentityFilter {
            system: query.system,
            environment: query.environment,
            owner: query.owner,
            kind,
            state: query.state,
            name_prefix: query.prefix,
            with_control: query.with_control,
        };
        let landscape = self.landscape().await?;
        let found = self.store.identities(&filter, page(page_query)).await?;
        Ok(found
            .iter()
            .map(|identity| identity_view(identity, &landscape))
            .collect())
    }

    /// Everything about one identity.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn identity(&self, caller: &Caller, name: &str) -> Result<IdentityView, AppError> {
        allow(caller, Verb::Read)?;
        let identity = self.named(name).await?;
        let landscape = self.landscape().await?;
        let mut view = identity_view(&identity, &landscape);
        let credentials = self.store.credentials_in_play(identity.id).await?;
        view.current = credentials
            .iter()
            .find(|one| Some(one.id) == identity.current)
            .map(credential_view);
        view.credentials = self.history(identity.id, &credentials).await?;
        view.open_run = self.store.open_run_of(identity.id).await?.map(|run| run.to_string());
        // What is wrong with it stands under its name, under those of its credentials, and under the run that is stuck.
        let living = credentials.iter().filter(|one| one.state.may_be_live());
        let mut subjects = vec![name.to_owned()];
        subjects.extend(living.map(|one| credential_subject(name, one.id)));
        subjects.extend(view.open_run.clone());
        for subject in subjects {
            let filter = FindingFilter {
                kind: None,
                subject: Some(subject),
                open_only: true,
            };
            let found = self.store.findings(&filter, Page::first(100)).await?;
            view.findings.extend(found.into_iter().map(finding_view));
        }
        view.spec = serde_json::to_value(&identity.spec).ok();
        Ok(view)
    }

    /// # Errors
    /// When the kind is none of System, Policy, Destination, Owner.
    pub async fn resources(&self, caller: &Caller, kind: &str) -> Result<Vec<ResourceView>, AppError> {
        allow(caller, Verb::Read)?;
        let found = self.store.resources(resource_kind(kind)?).await?;
        Ok(found.into_iter().map(resource_view).collect())
    }

    /// # Errors
    /// When there is none of this name.
    pub async fn resource(&self, caller: &Caller, kind: &str, name: &str) -> Result<ResourceView, AppError> {
        allow(caller, Verb::Read)?;
        let kind = resource_kind(kind)?;
        let found = self.store.resource(kind, name).await?;
        found.map(resource_view).ok_or_else(|| AppError::NotFound {
            what: match kind {
                Kind::Owner => "owner",
                Kind::System => "system",
                Kind::Destination => "destination",
                Kind::Policy => "policy",
                Kind::Identity => "identity",
            },
            name: name.to_owned(),
        })
    }

    /// Open ones first, the latest first.
    ///
    /// # Errors
    /// When the kind is none.
    pub async fn findings(
        &self,
        caller: &Caller,
        query: FindingQuery,
        page_query: PageQuery,
    ) -> Result<Vec<FindingView>, AppError> {
        allow(caller, Verb::Read)?;
        if let Some(kind) = query.kind.as_deref().filter(|kind| !KINDS.contains(kind)) {
            return Err(AppError::invalid(format!(
                "`{kind}` is no kind of finding{}; known are {}",
                did_you_mean(kind, KINDS),
                KINDS.join(", ")
            )));
        }
        let filter = FindingFilter {
            kind: query.kind,
            subject: query.subject,
            open_only: query.open_only,
        };
        Ok(self
            .store
            .findings(&filter, page(page_query))
            .await?
            .into_iter()
            .map(finding_view)
            .collect())
    }

    /// The accounts that exist in a system, each with the identity that it belongs to. Reads only.
    ///
    /// # Errors
    /// When the system does not answer.
    pub async fn discover(&self, caller: &Caller, system: &str) -> Result<Vec<AccountView>, AppError> {
        allow(caller, Verb::Examine)?;
        system_in(&self.landscape().await?, system)?;
        let registered = self.accounts_registered(system).await?;
        let found = self.accounts_downstream(system).await?;
        Ok(found
            .into_iter()
            .map(|state| account_view(state, &registered))
            .collect())
    }

    pub(super) async fn accounts_downstream(&self, system: &str) -> Result<Vec<PrincipalState>, AppError> {
        let failed = |why: String| AppError::Downstream {
            system: system.to_owned(),
            why,
        };
        let (connector, _) = self
            .systems
            .connected(system)
            .await
            .map_err(|error| failed(error.to_string()))?;
        connector
            .list(super::doctor::context("discover"))
            .await
            .map_err(|error| failed(error.to_string()))
    }

    /// Account names of a system, with the identity that each belongs to.
    pub(super) async fn accounts_registered(&self, system: &str) -> Result<BTreeMap<String, String>, AppError> {
        let mut accounts = BTreeMap::new();
        if let Some(Spec::System(manifest)) = self.store.resource(Kind::System, system).await?.map(|one| one.spec)
            && let Some(admin) = manifest.admin
        {
            accounts.insert(admin.username, "keyfall's own admin account".to_owned());
        }
        let mut identities = self.identities_of_system(system).await?;
        identities.retain(|identity| identity.state != IdentityState::Decommissioned);
        for some in identities.chunks(1000) {
            let ids: Vec<_> = some.iter().map(|identity| identity.id).collect();
            let names: BTreeMap<_, _> = some.iter().map(|identity| (identity.id, &identity.name)).collect();
            for identity in some {
                accounts.insert(identity.spec.account.clone(), identity.name.clone());
            }
            for credential in self.store.credentials_of_many(&ids).await? {
                if let Some(name) = names.get(&credential.identity) {
                    accounts.insert(credential.principal.name, (*name).clone());
                }
            }
        }
        Ok(accounts)
    }

    pub(super) async fn identities_of_system(&self, system: &str) -> Result<Vec<Identity>, AppError> {
        let filter = IdentityFilter {
            system: Some(system.to_owned()),
            with_control: true,
            ..IdentityFilter::default()
        };
        let mut all = Vec::new();
        let mut next = Page::first(1000);
        loop {
            let found = self.store.identities(&filter, next.clone()).await?;
            let Some(last) = found.last() else { return Ok(all) };
            next.after = Some(last.name.clone());
            all.extend(found);
        }
    }
}

fn identity_kind(name: &str) -> Result<IdentityKind, AppError> {
    serde_json::from_value(serde_json::Value::String(name.to_owned()))
        .map_err(|error| AppError::invalid(format!("kind: {error}")))
}

/// `systems`, `system` and `System` are the same.
fn resource_kind(name: &str) -> Result<Kind, AppError> {
    let wanted = name.to_lowercase();
    let fits = |kind: &Kind| {
        let plain = kind.name().to_lowercase();
        let plural = if plain == "policy" {
            "policies".to_owned()
        } else {
            format!("{plain}s")
        };
        wanted == plain || wanted == plural
    };
    let found = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Identity).find(fits);
    found.ok_or_else(|| {
        AppError::invalid(format!(
            "`{name}` is no kind; known are systems, policies, destinations, owners"
        ))
    })
}

fn identity_view(identity: &Identity, landscape: &Landscape) -> IdentityView {
    let spec = &identity.spec;
    let kind = serde_json::to_value(spec.kind)
        .ok()
        .and_then(|kind| kind.as_str().map(str::to_owned));
    IdentityView {
        id: identity.id.to_string(),
        name: identity.name.clone(),
        kind: kind.unwrap_or_default(),
        state: identity.state.name().to_owned(),
        system: spec.system.clone(),
        environment: spec.environment.clone(),
        owner: spec.owner.clone(),
        expires: spec.expires,
        version: identity.version,
        labels: identity.labels.clone(),
        policy: landscape.policy_of(identity).map(|holding| holding.name.to_owned()),
        due_at: identity.due.map(|(at, _)| at),
        due_reason: identity.due.map(|(_, reason)| reason.name().to_owned()),
        current: None,
        credentials: Vec::new(),
        open_run: None,
        findings: Vec::new(),
        spec: None,
    }
}

fn resource_view(resource: Resource) -> ResourceView {
    let approved_by = resource
        .approved
        .map(|one| one.approvers.into_iter().map(|one| one.name).collect());
    let spec = serde_json::to_value(&resource.spec)
        .ok()
        .and_then(|spec| spec.get("spec").cloned());
    ResourceView {
        id: resource.id.to_string(),
        kind: resource.spec.kind().name().to_owned(),
        name: resource.name,
        version: resource.version,
        labels: resource.labels,
        spec: spec.unwrap_or_default(),
        approved_by: approved_by.unwrap_or_default(),
    }
}

pub(super) fn finding_view(row: FindingRow) -> FindingView {
    FindingView {
        id: row.id.to_string(),
        kind: row.kind,
        subject: row.subject,
        severity: row.severity,
        text: row.text,
        owner: row.owner,
        raised_at: row.raised_at,
        resolved_at: row.resolved_at,
    }
}

fn account_view(state: PrincipalState, registered: &BTreeMap<String, String>) -> AccountView {
    AccountView {
        identity: registered.get(&state.name).cloned(),
        name: state.name,
        immutable_id: state.immutable_id,
        status: state.status.name().to_owned(),
        privileged: state.privileged,
        credentials: state.key_ids.len(),
        sessions: state.sessions,
        grants: state.grants,
    }
}
