//! What earlier runs saw of credentials whose death they could not prove. The logs of the runs tell it, so that a later run can prove a death
//! though the credential was cut off by hand meanwhile and will never be accepted again.

use std::collections::BTreeMap;

use super::landscape::system_in;
use super::{App, AppError};
use crate::domain::identity::{Credential, Identity};
use crate::domain::ids::{CredentialId, SecretId};
use crate::domain::landscape::Landscape;
use crate::domain::planner::Lives;
use crate::domain::revoking::was_ended;
use crate::domain::workflow::Run;
use crate::store::{Page, RunFilter};

const AT_ONCE: u32 = 50;

impl App {
    /// Only what was seen at the present endpoints counts: elsewhere, nobody knows what the same bytes were worth.
    pub(super) async fn lives_of(
        &self,
        identity: &Identity,
        credentials: &[Credential],
        landscape: &Landscape,
    ) -> Result<Lives, AppError> {
        let ended = credentials.iter().filter(|one| was_ended(&one.state));
        let mut wanted: BTreeMap<CredentialId, SecretId> =
            ended.filter_map(|one| Some((one.id, one.secret?))).collect();
        let mut lives = Lives::new();
        let (_, system) = system_in(landscape, &identity.spec.system)?;
        let endpoints = system
            .endpoint_digest()
            .map_err(|error| AppError::internal("endpoints could not be hashed", &error))?;
        let filter = RunFilter {
            identity: Some(identity.id),
            ..RunFilter::default()
        };
        let mut page = Page::first(AT_ONCE);
        while !wanted.is_empty() {
            let rows = self.store.runs(&filter, page.clone()).await?;
            let Some(last) = rows.last() else { break };
            page.after = Some(last.id.to_string());
            for row in &rows {
                let Some(stored) = self.store.run(row.id).await? else {
                    continue;
                };
                let run = Run::replay(&stored.events)
                    .map_err(|error| AppError::internal("the log of an earlier run does not fold", &error))?;
                if run.plan().endpoint_digest == endpoints {
                    for (credential, secret) in &wanted {
                        let life = run.life_of(*credential, *secret);
                        lives.entry(*credential).or_default().extend(life);
                    }
                }
                // The run that issued it is the first one that can have seen it.
                if let Some(new) = &run.plan().new {
                    wanted.remove(&new.id);
                }
            }
        }
        Ok(lives)
    }
}
