//! Secrets that a person gives (an admin password), and the care for those that are sealed already.

use std::collections::BTreeSet;
use std::sync::Arc;

use keyfall_sdk::SecretValue;
use serde_json::json;

use super::applying::Application;
use super::landscape::reach_of;
use super::{App, AppError, Caller, Deed, SecretView, Verb, allow};
use crate::domain::digest::Digest;
use crate::domain::ids::SecretId;
use crate::domain::resource::{Kind, Spec};
use crate::engine::secrets::{OpenSecrets, SealAs, StoredSecrets, seal};
use crate::engine::{LAST_BACKUP, REGISTER_VERSION};
use crate::store::{Commit, Fact, Guard, SecretRow};

impl App {
    /// Stores a secret under a name, over an earlier one of that name.
    ///
    /// # Errors
    /// When the name or the secret cannot be taken; the secret is then not kept anywhere.
    pub async fn set_secret(&self, caller: &Caller, name: &str, secret: SecretValue) -> Result<SecretView, AppError> {
        allow(caller, Verb::SetSecret)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
            return Err(AppError::invalid(
                "a secret's name is 1 to 63 letters, digits, `-`, `_` or `.`",
            ));
        }
        if secret.is_empty() {
            return Err(AppError::invalid(
                "the secret is empty; nothing was stored. Give it on standard input",
            ));
        }
        let now = self.env.now();
        let register = self.store.setting(REGISTER_VERSION).await?;
        let reach = reach_of(&self.landscape().await?, name)?;
        let earlier = self.store.secret_named(name).await?;
        let version = earlier.as_ref().map_or(1, |row| row.version.saturating_add(1));
        let id = SecretId::from_uuid(self.env.draw_uuid());
        let seal_as = SealAs {
            id,
            name: Some(name.to_owned()),
            kind: "named".to_owned(),
            version,
            endpoints: reach,
            at: now,
        };
        let row = seal(&self.keys, seal_as, &secret, &*self.env.random)
            .map_err(|error| AppError::internal("the secret could not be sealed", &error))?;
        let destroyed = earlier.map(|row| row.id);
        let last_backup = self.store.setting(LAST_BACKUP).await?.filter(|_| destroyed.is_some());
        let details = json!({
            "name": name, "secret": id, "version": version, "destroyed": destroyed, "last_backup": last_backup,
        });
        let gone = destroyed.map(|id| Fact::SecretDestroyed { id, at: now });
        let facts = gone.into_iter().chain([Fact::Secret(row)]).collect();
        let log = vec![self.entry(caller, now, Deed::new("secret_set", details))];
        // The systems that name it are those that it was sealed for.
        let guards = vec![Guard::SettingIs {
            key: REGISTER_VERSION,
            value: register,
        }];
        let commit = Commit { guards, facts, log };
        self.store(
            commit,
            "what is registered changed meanwhile, and the secret was not stored; set it again",
        )
        .await?;
        self.forget_systems_with(name).await?;
        Ok(SecretView {
            name: name.to_owned(),
            version,
            set_at: now,
        })
    }

    /// Systems that are administered with this secret connect anew.
    async fn forget_systems_with(&self, secret: &str) -> Result<(), AppError> {
        for system in self.store.resources(Kind::System).await? {
            if matches!(&system.spec, Spec::System(manifest) if manifest.admin.as_ref().is_some_and(|admin| admin.secret_ref == secret))
            {
                self.systems.forget(&system.name);
            }
        }
        Ok(())
    }

    /// The approval of a plan is what allows a named secret to travel to the systems that name it from then on: it is sealed anew for exactly
    /// their endpoints, in the commit of the plan (P11).
    pub(super) async fn follow_references(&self, work: &mut Application<'_>) -> Result<(), AppError> {
        let specs = work
            .plan
            .changes
            .iter()
            .flat_map(|change| change.before.iter().chain([&change.after]));
        let names: BTreeSet<_> = specs
            .filter_map(|spec| match spec {
                Spec::System(system) => system.admin.as_ref().map(|admin| admin.secret_ref.as_str()),
                _ => None,
            })
            .collect();
        for name in names {
            let Some(row) = self.store.secret_named(name).await? else {
                continue;
            };
            let reach = reach_of(&work.landscape, name)?;
            if row.endpoint_digest != reach {
                self.reseal(row.id, reach, work).await?;
            }
        }
        Ok(())
    }

    /// Adds to the commit that the secret is sealed for other endpoints, under the same id; nothing when it was destroyed.
    pub(super) async fn reseal(
        &self,
        id: SecretId,
        endpoints: Digest,
        work: &mut Application<'_>,
    ) -> Result<(), AppError> {
        let Some(row) = self.store.secret(id).await?.filter(|row| row.destroyed_at.is_none()) else {
            return Ok(());
        };
        let failed = |error: &dyn std::fmt::Display| {
            AppError::internal("a secret could not be sealed for its new endpoints", error)
        };
        let opened = StoredSecrets::new(Arc::clone(&self.store), Arc::clone(&self.keys));
        let secret = opened
            .open(id, row.endpoint_digest)
            .await
            .map_err(|error| failed(&error))?;
        let version = row.version.saturating_add(1);
        let seal_as = SealAs {
            id,
            name: row.name,
            kind: row.kind,
            version,
            endpoints,
            at: work.now,
        };
        let sealed = seal(&self.keys, seal_as, &secret, &*self.env.random).map_err(|error| failed(&error))?;
        work.commit.guards.push(Guard::SecretWrapped {
            id,
            wrapped_key: row.wrapped_key,
        });
        work.commit.facts.push(Fact::SecretResealed(SecretRow {
            created_at: row.created_at,
            destroy_at: row.destroy_at,
            ..sealed
        }));
        Ok(())
    }
}
