//! The conformance kit: the laws that every connector keeps, as code that its author runs on a real server.
//!
//! It needs no runtime. The caller awaits [`conforms`] or [`destination_conforms`] and asserts on the [`Report`]. The kit
//! makes accounts whose names begin with the subject's prefix, and deletes them again. It knows no connector by name.

mod abilities;
mod accounts;
mod deaths;
mod delivery;
mod examiner;
mod lives;
mod outage;
mod report;
mod subject;

pub use report::{LawResult, Outcome, Report};
pub use subject::{DestinationSubject, Sleep, Subject};

use examiner::Examiner;

/// Judges each law in turn, and deletes after each what it made.
macro_rules! judge {
    ($report:ident, $examiner:ident, [$($module:ident :: $law:ident),+ $(,)?]) => {
        $(
            let outcome = $module::$law(&$examiner).await;
            $report.add(stringify!($law), outcome);
            $examiner.sweep().await;
        )+
    };
}

/// Judges a connector that issues and ends credentials.
pub async fn conforms(subject: &Subject) -> Report {
    let examiner = Examiner::new(subject);
    let mut report = Report::default();
    judge!(
        report,
        examiner,
        [
            abilities::descriptor_agrees_with_abilities,
            abilities::answers_are_listed_once,
            abilities::secrets_are_strong_and_quotable,
            abilities::wrong_access_is_named,
            lives::an_absent_account_reads_as_absent,
            lives::an_issue_is_observed_before_and_after,
            lives::issuing_twice_leaves_one_credential,
            lives::a_lost_reply_is_ambiguous_and_observable,
            lives::a_namesake_is_not_taken_over,
            lives::a_new_credential_is_accepted_everywhere,
            lives::a_secret_never_issued_is_refused_everywhere,
            lives::an_unknown_vantage_says_nothing,
            lives::an_account_has_what_access_names,
            lives::an_account_is_listed_and_read,
            lives::each_strategy_replaces_a_credential,
            deaths::a_revoked_secret_is_refused_everywhere,
            deaths::revoking_twice_is_success,
            deaths::a_foreign_key_id_harms_nothing,
            deaths::a_namesake_is_not_harmed,
            deaths::deleting_twice_is_success,
            accounts::suspending_is_reversible_and_idempotent,
            accounts::stripping_twice_is_success,
            accounts::ending_sessions_twice_is_success,
            outage::a_dead_endpoint_is_transient_and_inconclusive,
        ]
    );
    report.add("no_secret_is_ever_returned", examiner.no_leak());
    report
}

/// Judges a connector that delivers secrets.
pub async fn destination_conforms(subject: &DestinationSubject) -> Report {
    let mut report = Report::default();
    let leaks = delivery::Leaks::default();
    report.add(
        "descriptor_names_a_destination",
        delivery::descriptor_names_a_destination(subject),
    );
    report.add("wrong_targets_are_named", delivery::wrong_targets_are_named(subject));
    report.add(
        "a_delivery_lives_and_ends",
        delivery::a_delivery_lives_and_ends(subject, &leaks).await,
    );
    report.add(
        "a_dead_destination_never_succeeds",
        delivery::a_dead_destination_never_succeeds(subject, &leaks).await,
    );
    report.add("no_secret_is_ever_returned", leaks.none());
    report
}
