//! Laws on what a connector says of itself, before any call.

use std::collections::BTreeSet;

use super::examiner::Examiner;
use super::report::{Judgement, Why};

/// What can be issued can be tried, found and ended.
pub(super) async fn descriptor_agrees_with_abilities(examiner: &Examiner<'_>) -> Judgement {
    let connector = &*examiner.subject.connector;
    let descriptor = connector.descriptor();
    if descriptor.kind.is_empty() || descriptor.about.is_empty() || descriptor.settling.source.is_empty() {
        return broken("kind, about and the source of the settling window must be filled in");
    }
    if descriptor.strategies.is_empty() {
        return if connector.deliver().is_some() {
            Ok(())
        } else {
            broken("neither a strategy nor a destination")
        };
    }
    let strategies: BTreeSet<String> = descriptor
        .strategies
        .iter()
        .map(|strategy| format!("{strategy:?}"))
        .collect();
    if strategies.len() != descriptor.strategies.len() {
        return broken("a strategy is listed twice");
    }
    let abilities = [
        ("inventory", connector.inventory().is_some()),
        ("issue", connector.issue().is_some()),
        ("revoke", connector.revoke().is_some()),
        ("probe", connector.probe().is_some()),
        (
            "sessions",
            connector.sessions().is_some() || !descriptor.sessions_survive,
        ),
    ];
    let missing: Vec<&str> = abilities
        .iter()
        .filter(|(_, has)| !has)
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        broken(&format!("the descriptor needs the abilities {missing:?}"))
    }
}

/// Some answer refuses a credential, and no answer is listed twice.
pub(super) async fn answers_are_listed_once(examiner: &Examiner<'_>) -> Judgement {
    let descriptor = examiner.subject.connector.descriptor();
    let codes: BTreeSet<&str> = descriptor.answers.iter().map(|answer| answer.code).collect();
    if codes.len() != descriptor.answers.len() {
        return broken("a code is listed twice in the table of answers");
    }
    if descriptor.answers.iter().any(|answer| answer.meaning.is_empty()) {
        return broken("an answer has no meaning");
    }
    if !descriptor.answers.iter().any(|answer| answer.refuses_credential) {
        return broken("no answer refuses a credential, so nothing could ever be proven dead");
    }
    Ok(())
}

/// 128 bits at least, of characters that need no quoting anywhere.
pub(super) async fn secrets_are_strong_and_quotable(examiner: &Examiner<'_>) -> Judgement {
    let shape = examiner.subject.connector.descriptor().secret_shape;
    let characters: BTreeSet<char> = shape.alphabet.chars().collect();
    if characters.len() != shape.alphabet.len() {
        return broken("a character is twice in the alphabet, or is not ASCII");
    }
    if let Some(odd) = characters
        .iter()
        .find(|&&c| !c.is_ascii_alphanumeric() && !"-_.~".contains(c))
    {
        return broken(&format!(
            "the alphabet holds {odd:?}, which does not survive a DSN, a shell and a JSON string"
        ));
    }
    let bits = (shape.length as f64) * (characters.len() as f64).log2();
    if bits < 128.0 {
        broken(&format!("a secret has {bits:.0} bits, fewer than 128"))
    } else {
        Ok(())
    }
}

/// The subject's access is accepted; a key that no connector knows is named.
pub(super) async fn wrong_access_is_named(examiner: &Examiner<'_>) -> Judgement {
    let issue = examiner.issuer()?;
    let problems = issue.check_access(&examiner.subject.access);
    if !problems.is_empty() {
        return broken(&format!("the subject's own access has problems: {problems:?}"));
    }
    let mut wrong = examiner.subject.access.clone();
    match wrong.as_object_mut() {
        Some(keys) => drop(keys.insert("keyfallTestkitUnknown".to_owned(), true.into())),
        None => wrong = serde_json::json!({ "keyfallTestkitUnknown": true }),
    }
    if issue.check_access(&wrong).is_empty() {
        return broken("an unknown key in access is passed over in silence");
    }
    Ok(())
}

fn broken(what: &str) -> Judgement {
    Err(Why::Broken(what.to_owned()))
}
