//! The landscape as the use cases ask for it: what is not there is told to a person.

use super::{App, AppError};
use crate::domain::digest::Digest;
use crate::domain::landscape::Landscape;
use crate::domain::resource::{Resource, SystemManifest};
use crate::engine::landscape;
use crate::engine::secrets::Reach;

impl App {
    pub(super) async fn landscape(&self) -> Result<Landscape, AppError> {
        Ok(landscape(&*self.store).await?)
    }
}

/// The system as a resource, and what its manifest says.
pub(super) fn system_in<'a>(
    landscape: &'a Landscape,
    name: &str,
) -> Result<(&'a Resource, &'a SystemManifest), AppError> {
    landscape.system(name).ok_or_else(|| AppError::NotFound {
        what: "system",
        name: name.to_owned(),
    })
}

/// What a secret that was given by name is sealed for: the endpoints of the systems that name it.
pub(super) fn reach_of(landscape: &Landscape, secret: &str) -> Result<Digest, AppError> {
    let systems = landscape.systems().map(|(_, manifest)| manifest);
    let reach = Reach::of(secret, systems).and_then(|reach| reach.digest());
    reach.map_err(|error| AppError::internal("endpoints could not be hashed", &error))
}
