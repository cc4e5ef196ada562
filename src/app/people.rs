//! People: who may ask, who may sign, and the bearer tokens that say who is asking. Nobody is made by one person alone: enrolment is a plan
//! that somebody already enrolled signs (P6).

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::SecretValue;
use serde_json::json;

use super::{App, AppError, Caller, Deed, PersonView, PlanView, Role, Verb, allow};
use crate::clock::{Chance, Environment};
use crate::domain::digest::Digest;
use crate::domain::ids::{PersonId, TokenId};
use crate::domain::plan::Action;
use crate::evidence::keys::VerifierKey;
use crate::store::{Commit, Fact, PersonRow, TokenRow};

/// How long a token lasts when nothing else is said.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);
const LONGEST_TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(24 * 366);
const TOKEN_PREFIX: &str = "kf_";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolAsk {
    pub name: String,
    pub roles: Vec<String>,
    /// The public half of the person's own key, made on the person's own machine.
    pub public_key: Option<String>,
    /// SHA-256 of a token that the person made on the person's own machine, as `sha256:<64 hexadecimal digits>`.
    pub token_digest: Option<String>,
    pub reason: String,
}

/// A token, shown once. Only its SHA-256 is stored.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    pub token: SecretValue,
    pub expires_at: Timestamp,
}

impl App {
    /// Whose token this is; `None` for one that is unknown, revoked or over, or whose person has retired.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn caller(&self, token: &str) -> Result<Option<Caller>, AppError> {
        let Some(row) = self.store.token(Digest::of(token.as_bytes()).0).await? else {
            return Ok(None);
        };
        if row.revoked_at.is_some() || row.expires_at <= self.env.now() {
            return Ok(None);
        }
        let person = self
            .store
            .person(row.person)
            .await?
            .filter(|person| person.retired_at.is_none());
        Ok(person.map(|person| {
            let roles: BTreeSet<_> = person.roles.iter().filter_map(|name| Role::named(name)).collect();
            Caller {
                person: person.id,
                name: person.name,
                roles,
            }
        }))
    }

    /// # Errors
    /// When the store does not answer.
    pub async fn people(&self, caller: &Caller) -> Result<Vec<PersonView>, AppError> {
        allow(caller, Verb::Read)?;
        let people = self.store.people().await?;
        let name = |id| people.iter().find(|one| Some(one.id) == id).map(|one| one.name.clone());
        Ok(people
            .iter()
            .map(|one| person_view(one, name(one.enrolled_by)))
            .collect())
    }

    /// Asks for another person to be enrolled; somebody already enrolled signs.
    ///
    /// # Errors
    /// When the name is taken, a role is none, or the key cannot be read.
    pub async fn enrol(&self, caller: &Caller, ask: EnrolAsk) -> Result<PlanView, AppError> {
        allow(caller, Verb::ManagePeople)?;
        let mut problems = Vec::new();
        if self
            .store
            .people()
            .await?
            .iter()
            .any(|one| one.name == ask.name && one.retired_at.is_none())
        {
            problems.push(format!("name: `{}` is enrolled already", ask.name));
        }
        if ask.roles.is_empty() {
            problems.push("roles: name at least one".to_owned());
        }
        for role in ask.roles.iter().filter(|role| Role::named(role).is_none()) {
            problems.push(format!(
                "roles: `{role}` is none of {}",
                Role::ALL.map(Role::name).join(", ")
            ));
        }
        match ask.public_key.as_deref().map(str::parse::<VerifierKey>) {
            Some(Err(error)) => problems.push(format!("public key: {error}")),
            Some(Ok(key)) => problems.extend(self.holder_of(&key).await?),
            None => {}
        }
        let token_digest = ask.token_digest.as_deref().map(str::parse::<Digest>).transpose();
        let token_digest = token_digest.unwrap_or_else(|error| {
            problems.push(format!("token: {error}; `keyfall token make FILE` prints it"));
            None
        });
        if let Some(digest) = token_digest
            && self.store.token(digest.0).await?.is_some()
        {
            problems.push("token: it is somebody's already; make another with `keyfall token make FILE`".to_owned());
        }
        if !problems.is_empty() {
            return Err(AppError::Invalid { problems });
        }
        let consequences = vec![format!("{} may act here as {}", ask.name, ask.roles.join(", "))];
        let person = PersonId::from_uuid(self.env.draw_uuid());
        let action = Action::Enrol {
            person,
            name: ask.name,
            roles: ask.roles,
            public_key: ask.public_key,
            token_digest,
        };
        self.propose_only(caller, ask.reason, action, consequences, Vec::new())
            .await
    }

    /// Asks for a person to be retired: tokens and signatures stop counting.
    ///
    /// # Errors
    /// When there is no such person.
    pub async fn retire(&self, caller: &Caller, name: &str, reason: String) -> Result<PlanView, AppError> {
        allow(caller, Verb::ManagePeople)?;
        let person = self.person_named(name).await?;
        self.check_who_is_left(&person).await?;
        let consequences = vec![format!("{name}'s tokens and signatures no longer count")];
        let action = Action::Retire {
            person: person.id,
            name: person.name,
        };
        self.propose_only(caller, reason, action, consequences, Vec::new())
            .await
    }

    /// A new token for oneself. Nobody gets another person's token, an administrator neither: with it one person would ask as the other and
    /// approve as himself (P6). Somebody who has none makes one offline, and the enrolment carries its digest.
    ///
    /// # Errors
    /// When it is somebody else's, or is to last longer than a year.
    pub async fn issue_token(
        &self,
        caller: &Caller,
        name: &str,
        label: String,
        life: Option<SignedDuration>,
    ) -> Result<IssuedToken, AppError> {
        if caller.name != name {
            let why = format!(
                "a token is issued to its own person only; {name} runs `keyfall token make FILE`, and the enrolment carries the digest that it prints"
            );
            return Err(AppError::Conflict { why });
        }
        if life.is_some_and(|life| life > LONGEST_TOKEN_LIFE) {
            return Err(AppError::invalid("a token lasts 366 days at most"));
        }
        let now = self.env.now();
        let (token, row) = draw_token(&self.env, caller.person, label, now, life.unwrap_or(TOKEN_LIFE))?;
        let details = json!({ "person": caller.person, "token": row.id, "label": row.label });
        let log = vec![self.entry(caller, now, Deed::new("token_issued", details))];
        let expires_at = row.expires_at;
        self.store(
            Commit {
                guards: Vec::new(),
                facts: vec![Fact::Token(row)],
                log,
            },
            "the token could not be stored",
        )
        .await?;
        Ok(IssuedToken { token, expires_at })
    }

    /// One key never stands for two people, not even for one who has retired.
    async fn holder_of(&self, key: &VerifierKey) -> Result<Option<String>, AppError> {
        let same = |person: &PersonRow| {
            let enrolled = person
                .public_key
                .as_deref()
                .and_then(|key| key.parse::<VerifierKey>().ok());
            enrolled.is_some_and(|enrolled| enrolled.public() == key.public())
        };
        let holder = self.store.people().await?.into_iter().find(same);
        Ok(holder.map(|holder| {
            format!(
                "public key: it is {}'s already; every person has a key of their own",
                holder.name
            )
        }))
    }

    /// Without enough people who can sign, nothing could ever be approved again.
    async fn check_who_is_left(&self, leaving: &PersonRow) -> Result<(), AppError> {
        let signs = |person: &&PersonRow| {
            person.retired_at.is_none()
                && person.id != leaving.id
                && person.public_key.is_some()
                && person.roles.iter().any(|role| role == Role::Approver.name())
        };
        let left = self.store.people().await?.iter().filter(signs).count();
        let needed = if self.store.setting(super::SOLO).await?.is_some() {
            1
        } else {
            2
        };
        if left >= needed {
            return Ok(());
        }
        let why = format!("then only {left} could approve, and {needed} are needed; enrol another approver first");
        Err(AppError::Conflict { why })
    }

    /// Ends a token, known by its digest: one's own, or, for an administrator, anybody's. It only takes away, so nobody signs.
    ///
    /// # Errors
    /// When the person has no such token, or it is somebody else's and the caller is no administrator.
    pub async fn revoke_token(&self, caller: &Caller, name: &str, digest: &str) -> Result<(), AppError> {
        if caller.name != name {
            allow(caller, Verb::ManagePeople)?;
        }
        let digest: Digest = digest.parse().map_err(|error| AppError::invalid(format!("{error}")))?;
        let person = self.person_named(name).await?;
        let missing = || AppError::NotFound {
            what: "token",
            name: digest.to_string(),
        };
        let token = self.store.token(digest.0).await?;
        let token = token.filter(|token| token.person == person.id).ok_or_else(missing)?;
        let now = self.env.now();
        let details = json!({ "person": person.id, "token": token.id, "label": token.label });
        let commit = Commit {
            guards: Vec::new(),
            facts: vec![Fact::TokenRevoked { id: token.id, at: now }],
            log: vec![self.entry(caller, now, Deed::new("token_revoked", details))],
        };
        self.store(commit, "the token could not be revoked").await
    }

    async fn person_named(&self, name: &str) -> Result<PersonRow, AppError> {
        let people = self.store.people().await?;
        let found = people
            .into_iter()
            .find(|one| one.name == name && one.retired_at.is_none());
        found.ok_or_else(|| AppError::NotFound {
            what: "person",
            name: name.to_owned(),
        })
    }
}

/// The people whom `init` enrols, each with a token that is shown once. They vouch for one another by being made together.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn first_people(
    env: &Environment,
    people: &[(String, VerifierKey)],
) -> Result<(Vec<Fact>, Vec<IssuedToken>), AppError> {
    let now = env.now();
    let mut facts = Vec::new();
    let mut tokens = Vec::new();
    for (name, key) in people {
        let id = PersonId::from_uuid(env.draw_uuid());
        let roles = [Role::Admin, Role::Operator, Role::Approver]
            .map(|role| role.name().to_owned())
            .to_vec();
        facts.push(Fact::Person(PersonRow {
            id,
            name: name.clone(),
            roles,
            public_key: Some(key.to_string()),
            enrolled_by: None,
            enrolment: None,
            enrolled_at: now,
            retired_at: None,
        }));
        let (token, row) = draw_token(env, id, "init".to_owned(), now, TOKEN_LIFE)?;
        tokens.push(IssuedToken {
            token,
            expires_at: row.expires_at,
        });
        facts.push(Fact::Token(row));
    }
    Ok((facts, tokens))
}

fn draw_token(
    env: &Environment,
    person: PersonId,
    label: String,
    now: Timestamp,
    life: SignedDuration,
) -> Result<(SecretValue, TokenRow), AppError> {
    let (token, digest) = make_token(&*env.random)?;
    Ok((token, token_row(env, person, digest, label, now, life)))
}

/// A token with the digest by which the server knows it. Nothing but randomness is needed, so its person can make it anywhere.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn make_token(random: &dyn Chance) -> Result<(SecretValue, Digest), AppError> {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    let unlucky = |_| AppError::Internal {
        what: "the operating system gave no randomness".to_owned(),
    };
    random.fill(bytes.as_mut_slice()).map_err(unlucky)?;
    let token = SecretValue::from(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())));
    let digest = Digest::of(token.expose_secret());
    Ok((token, digest))
}

/// The token that came with an enrolment.
pub(super) fn enrolled_token(env: &Environment, person: PersonId, digest: Digest, now: Timestamp) -> TokenRow {
    token_row(env, person, digest, "enrolment".to_owned(), now, TOKEN_LIFE)
}

fn token_row(
    env: &Environment,
    person: PersonId,
    digest: Digest,
    label: String,
    now: Timestamp,
    life: SignedDuration,
) -> TokenRow {
    TokenRow {
        id: TokenId::from_uuid(env.draw_uuid()),
        person,
        hash: digest.0,
        label,
        created_at: now,
        expires_at: now.saturating_add(life).unwrap_or(Timestamp::MAX),
        revoked_at: None,
    }
}

fn person_view(person: &PersonRow, enrolled_by: Option<String>) -> PersonView {
    PersonView {
        id: person.id.to_string(),
        name: person.name.clone(),
        roles: person.roles.clone(),
        can_approve: person.public_key.is_some() && person.roles.iter().any(|role| role == Role::Approver.name()),
        enrolled_by,
        enrolled_at: person.enrolled_at,
        retired_at: person.retired_at,
    }
}
