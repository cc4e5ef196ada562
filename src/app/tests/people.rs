//! P6: one person stays one person.

use super::identities::MANIFESTS;
use super::world::World;
use crate::app::{AppError, EnrolAsk, make_token};
use crate::domain::resource::Kind;
use crate::store::{Fact, PersonRow};

fn enrolment(world: &World, token_digest: Option<String>) -> EnrolAsk {
    EnrolAsk {
        name: "carol".to_owned(),
        roles: vec!["operator".to_owned(), "approver".to_owned()],
        public_key: Some(world.new_key("carol").verifier().to_string()),
        token_digest,
        reason: String::new(),
    }
}

#[tokio::test]
async fn nobody_gets_the_token_of_somebody_else() {
    let world = World::new().await;
    let ada = world.caller("ada").await;
    let refused = world.app.issue_token(&ada, "bo", String::new(), None).await;
    assert!(matches!(refused, Err(AppError::Conflict { .. })), "{refused:?}");
    let own = world.app.issue_token(&ada, "ada", String::new(), None).await.unwrap();
    let token = own.token.expose_secret_str().unwrap();
    assert_eq!(world.app.caller(token).await.unwrap(), Some(ada));
}

#[tokio::test]
async fn an_enrolment_brings_the_token_that_its_person_made() {
    let world = World::new().await;
    let (token, digest) = make_token(&*world.env.random).unwrap();
    let token = token.expose_secret_str().unwrap();
    let ask = enrolment(&world, Some(digest.to_string()));
    let plan = world.app.enrol(&world.caller("ada").await, ask).await.unwrap();
    assert_eq!(world.app.caller(token).await.unwrap(), None, "nobody has signed yet");
    world.approve("bo", &plan).await.unwrap();
    let carol = world.app.caller(token).await.unwrap().unwrap();
    assert_eq!(carol.name, "carol");
}

#[tokio::test]
async fn an_enrolment_with_somebody_elses_token_is_refused() {
    let world = World::new().await;
    let ada = world.caller("ada").await;
    let own = world.app.issue_token(&ada, "ada", String::new(), None).await.unwrap();
    let digest = crate::domain::digest::Digest::of(own.token.expose_secret());
    for wrong in [digest.to_string(), "sha256:12".to_owned()] {
        let refused = world.app.enrol(&ada, enrolment_without_key(wrong)).await;
        assert!(matches!(refused, Err(AppError::Invalid { .. })), "{refused:?}");
    }
}

fn enrolment_without_key(token_digest: String) -> EnrolAsk {
    EnrolAsk {
        name: "carol".to_owned(),
        roles: vec!["operator".to_owned()],
        public_key: None,
        token_digest: Some(token_digest),
        reason: String::new(),
    }
}

#[tokio::test]
async fn a_stolen_token_is_ended_by_its_digest() {
    let world = World::new().await;
    let ada = world.caller("ada").await;
    let own = world.app.issue_token(&ada, "ada", String::new(), None).await.unwrap();
    let token = own.token.expose_secret_str().unwrap();
    let digest = crate::domain::digest::Digest::of(token.as_bytes()).to_string();
    let wrong = world.app.revoke_token(&ada, "bo", &digest).await;
    assert!(matches!(wrong, Err(AppError::NotFound { .. })), "{wrong:?}");
    world.app.revoke_token(&ada, "ada", &digest).await.unwrap();
    assert_eq!(world.app.caller(token).await.unwrap(), None);
}

#[tokio::test]
async fn a_key_stands_for_one_person_only() {
    let world = World::new().await;
    let ada = world.caller("ada").await;
    let people = world.store.people().await.unwrap();
    let hers = people.iter().find(|one| one.name == "ada").unwrap();
    // Under another name it is the same key.
    let renamed = hers.public_key.clone().unwrap().replacen("ada", "carol", 1);
    for key in [hers.public_key.clone().unwrap(), renamed] {
        let ask = EnrolAsk {
            name: "carol".to_owned(),
            roles: vec!["approver".to_owned()],
            public_key: Some(key),
            token_digest: None,
            reason: String::new(),
        };
        let refused = world.app.enrol(&ada, ask).await;
        assert!(matches!(refused, Err(AppError::Invalid { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn two_who_can_sign_are_left() {
    let world = World::new().await;
    let ada = world.caller("ada").await;
    let last = world.app.retire(&ada, "bo", "leaves".to_owned()).await;
    assert!(matches!(last, Err(AppError::Conflict { .. })), "{last:?}");
    let plan = world.app.enrol(&ada, enrolment(&world, None)).await.unwrap();
    world.approve("bo", &plan).await.unwrap();
    world.app.retire(&ada, "bo", "leaves".to_owned()).await.unwrap();
}

#[tokio::test]
async fn who_was_enrolled_without_a_signature_allows_nothing() {
    let mut world = World::new().await;
    world.enrol("cy").await;
    world.apply(MANIFESTS).await;
    let approval = async || {
        let system = world.store.resource(Kind::System, "cache").await.unwrap().unwrap();
        system.approved.unwrap()
    };
    let changed = MANIFESTS.replace(
        "metadata: { name: cache }",
        "metadata: { name: cache, labels: { tier: one } }",
    );
    let plan = world.plan(&changed).await.unwrap();
    world.approve("cy", &plan).await.unwrap();
    let approval = approval().await;
    let holds = async || world.app.prepare.check_approval(&approval).await;
    assert_eq!(holds().await, Ok(()));
    let people = world.store.people().await.unwrap();
    let cy = people.iter().find(|one| one.name == "cy").unwrap();
    let enrolment = cy.enrolment.clone().unwrap();
    let mut by_another = enrolment.clone();
    by_another.approvers[0].signature = approval.approvers[0].signature.clone();
    let mut of_another = enrolment.clone();
    (of_another.plan, of_another.plan_digest) = (approval.plan, approval.plan_digest);
    for (enrolled_by, enrolment) in [
        (cy.enrolled_by, None),
        (None, Some(enrolment.clone())),
        (cy.enrolled_by, Some(by_another)),
        (cy.enrolled_by, Some(of_another)),
    ] {
        let row = PersonRow {
            enrolled_by,
            enrolment,
            ..cy.clone()
        };
        world.put(vec![Fact::Person(row)]).await;
        let refused = holds().await.unwrap_err();
        assert!(refused.contains("stands behind cy's enrolment"), "{refused}");
    }
    world.put(vec![Fact::Person(cy.clone())]).await;
    assert_eq!(holds().await, Ok(()));
}
