//! The life of a password and of a user on one deployment.

use keyfall_sdk::{ErrorKind, Placement, PrincipalStatus, RevokeCall, Revoked};
use serde_json::json;

use super::server::{
    ADMIN, ADMIN_PASSWORD, Keeps, Server, connector, connector_as, context, issue, issue_call, probe, read, recorded,
    revoke, unrecorded,
};

const ONE: &str = "first-password-0123456789abcdef";
const TWO: &str = "second-password-0123456789abcdef";

#[tokio::test]
async fn two_passwords_overlap_and_only_the_named_one_dies() {
    let server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    let one = issue(&connector, unrecorded(), ONE).await;
    assert!(one.created_principal);
    assert_eq!(one.principal, recorded());
    assert_eq!(
        issue(&connector, unrecorded(), ONE).await,
        one,
        "a repetition finds its own account"
    );
    let two = issue(&connector, recorded(), TWO).await;
    assert!(!two.created_principal);
    assert!(probe(&connector, "primary", ONE).await.is_accepted());
    assert!(probe(&connector, "primary", TWO).await.is_accepted());

    assert_eq!(revoke(&connector, &one).await.unwrap(), Revoked::Revoked);
    assert!(probe(&connector, "primary", ONE).await.is_refused());
    assert!(probe(&connector, "primary", TWO).await.is_accepted());
    assert_eq!(revoke(&connector, &one).await.unwrap(), Revoked::AlreadyGone);
    let state = read(&connector).await.places[0].state.clone().unwrap();
    assert_eq!(state.key_ids, std::slice::from_ref(&two.key_id));
    assert!(
        state.grants.contains(&"~cache:*".to_owned()) && !state.privileged,
        "{state:?}"
    );

    let mut replace = issue_call(recorded(), ONE);
    replace.placement = Placement::Replace;
    replace.replaces = state.key_ids;
    let issued = connector.issue().unwrap().issue(&context(), &replace).await.unwrap();
    assert_eq!(
        read(&connector).await.places[0].state.clone().unwrap().key_ids,
        [issued.key_id]
    );
    assert!(probe(&connector, "primary", TWO).await.is_refused());
}

#[tokio::test]
async fn a_password_that_somebody_added_is_not_replaced_with_the_recorded_one() {
    let server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    let one = issue(&connector, unrecorded(), ONE).await;
    server
        .ask(&["ACL", "SETUSER", "app", ">by-hand-0123456789abcdef0123456789"])
        .await;
    let mut replace = issue_call(recorded(), TWO);
    replace.placement = Placement::Replace;
    replace.replaces = vec![one.key_id];
    let refusal = connector
        .issue()
        .unwrap()
        .issue(&context(), &replace)
        .await
        .unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Conflict, "{refusal}");
    assert!(refusal.message().contains("`app`"), "{refusal}");
    for password in [ONE, "by-hand-0123456789abcdef0123456789"] {
        assert!(probe(&connector, "primary", password).await.is_accepted());
    }
    assert!(probe(&connector, "primary", TWO).await.is_refused());
}

#[tokio::test]
async fn no_password_travels_in_clear_but_in_a_login() {
    let server = Server::start().await;
    server
        .ask(&[
            "CONFIG",
            "SET",
            "slowlog-log-slower-than",
            "0",
            "slowlog-max-len",
            "1000",
        ])
        .await;
    let connector = connector(&[("primary", server.port)]);
    let issued = issue(&connector, unrecorded(), ONE).await;
    probe(&connector, "primary", ONE).await;
    revoke(&connector, &issued).await.unwrap();
    let log = format!("{:?}", server.ask(&["SLOWLOG", "GET", "1000"]).await);
    assert!(
        log.contains("getuser") || log.contains("GETUSER"),
        "the log is on: {log}"
    );
    assert!(!log.contains(ONE) && !log.contains(ADMIN_PASSWORD));
    let file = format!("{:?}", server.ask(&["ACL", "LIST"]).await);
    assert!(!file.contains(ONE));
}

#[tokio::test]
async fn accounts_that_are_not_ours_are_left_alone() {
    let server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    server
        .ask(&["ACL", "SETUSER", "app", "on", ">foreign", "+get", "~*"])
        .await;
    let issuer = connector.issue().unwrap();
    let error = issuer
        .issue(&context(), &issue_call(unrecorded(), ONE))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(probe(&connector, "primary", "foreign").await.is_accepted());

    // Adopted, with no rules stated: it gets a second password and keeps its rights.
    let mut adopted = issue_call(recorded(), ONE);
    adopted.access = json!({});
    let before = read(&connector).await.places[0].state.clone().unwrap();
    issuer.issue(&context(), &adopted).await.unwrap();
    let after = read(&connector).await.places[0].state.clone().unwrap();
    assert_eq!(after.grants, before.grants);
    assert_eq!(after.key_ids.len(), 2);

    server.ask(&["ACL", "SETUSER", "app", "nopass"]).await;
    let error = issuer.issue(&context(), &adopted).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "nopass takes any password");
    let call = RevokeCall {
        principal: recorded(),
        key_id: before.key_ids[0].clone(),
    };
    let error = connector.revoke().unwrap().revoke(&context(), &call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(read(&connector).await.places[0].state.clone().unwrap().privileged);

    server.ask(&["ACL", "DELUSER", "app"]).await;
    let error = issuer
        .issue(&context(), &issue_call(recorded(), ONE))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "a recorded account is not made anew");
}

#[tokio::test]
async fn rights_are_exactly_the_stated_ones_and_can_be_stripped() {
    let server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    issue(&connector, unrecorded(), ONE).await;
    server
        .ask(&["ACL", "SETUSER", "app", "~other:*", "+flushall", "(+set ~k)"])
        .await;
    issue(&connector, recorded(), ONE).await;
    let grants = read(&connector).await.places[0].state.clone().unwrap().grants;
    assert_eq!(grants, ["+@read", "~cache:*"]);

    server.ask(&["ACL", "SETUSER", "app", "(+set ~k)"]).await;
    let entitle = connector.entitle().unwrap();
    let taken = entitle.strip(&context(), &recorded()).await.unwrap();
    assert_eq!(taken.len(), 3, "{taken:?}");
    assert!(
        read(&connector).await.places[0]
            .state
            .clone()
            .unwrap()
            .grants
            .is_empty()
    );
    assert!(entitle.strip(&context(), &recorded()).await.unwrap().is_empty());
    assert!(
        probe(&connector, "primary", ONE).await.is_accepted(),
        "a user without rights still logs in"
    );
}

#[tokio::test]
async fn a_disabled_user_refuses_like_a_wrong_password_and_reads_as_disabled() {
    let server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    issue(&connector, unrecorded(), ONE).await;
    let suspend = connector.suspend().unwrap();
    suspend.suspend(&context(), &recorded()).await.unwrap();
    assert!(probe(&connector, "primary", ONE).await.is_refused());
    let state = read(&connector).await.places[0].state.clone().unwrap();
    assert_eq!(state.status, PrincipalStatus::Disabled);
    assert_eq!(state.key_ids.len(), 1, "the password is still there");
    suspend.resume(&context(), &recorded()).await.unwrap();
    assert!(probe(&connector, "primary", ONE).await.is_accepted());
}

#[tokio::test]
async fn keyfalls_own_account_is_not_taken_away() {
    let server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    let own = keyfall_sdk::PrincipalRef {
        name: ADMIN.to_owned(),
        immutable_id: Some(ADMIN.to_owned()),
    };
    let state = connector.inventory().unwrap().read(&context(), &own).await.unwrap();
    let call = RevokeCall {
        principal: own.clone(),
        key_id: state.places[0].state.as_ref().unwrap().key_ids[0].clone(),
    };
    let revoker = connector.revoke().unwrap();
    assert_eq!(
        revoker.revoke(&context(), &call).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    let deleted = revoker.delete_principal(&context(), &own).await;
    assert_eq!(deleted.unwrap_err().kind(), ErrorKind::Conflict);
    let suspended = connector.suspend().unwrap().suspend(&context(), &own).await;
    assert_eq!(suspended.unwrap_err().kind(), ErrorKind::Conflict);
    let stripped = connector.entitle().unwrap().strip(&context(), &own).await;
    assert_eq!(stripped.unwrap_err().kind(), ErrorKind::Conflict);
    server.admin().await;
}

#[tokio::test]
async fn changes_survive_a_restart_where_the_server_keeps_them() {
    for keeps in [Keeps::AclFile, Keeps::ConfigFile] {
        let mut server = Server::start_with(keeps).await;
        let connector = connector(&[("primary", server.port)]);
        let one = issue(&connector, unrecorded(), ONE).await;
        let two = issue(&connector, recorded(), TWO).await;
        revoke(&connector, &one).await.unwrap();
        server.restart().await;
        assert!(probe(&connector, "primary", ONE).await.is_refused());
        assert!(probe(&connector, "primary", TWO).await.is_accepted());
        assert_eq!(
            read(&connector).await.places[0].state.clone().unwrap().key_ids,
            [two.key_id]
        );
        let preflight = connector.inventory().unwrap().preflight(&context()).await.unwrap();
        assert_eq!(preflight, Vec::<String>::new());
    }
    let server = Server::start_with(Keeps::Nothing).await;
    let connector = connector(&[("primary", server.port)]);
    issue(&connector, unrecorded(), ONE).await;
    let preflight = connector.inventory().unwrap().preflight(&context()).await.unwrap();
    assert_eq!(preflight.len(), 1);
    assert!(preflight[0].contains("a restart loses every change"), "{preflight:?}");
}

#[tokio::test]
async fn a_change_that_was_not_saved_is_saved_by_the_repetition() {
    let mut server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    let one = issue(&connector, unrecorded(), ONE).await;
    // As if we had died between the change and its saving.
    let hash = crate::redis::key::StoredHash::of(&super::server::secret(ONE)).0;
    server.ask(&["ACL", "SETUSER", "app", &format!("!{hash}")]).await;
    assert_eq!(revoke(&connector, &one).await.unwrap(), Revoked::AlreadyGone);
    server.restart().await;
    assert!(
        probe(&connector, "primary", ONE).await.is_refused(),
        "the restart brought the password back"
    );
}

#[tokio::test]
async fn preflight_names_each_missing_right_and_a_wrong_password_is_ours_to_correct() {
    let server = Server::start().await;
    server
        .ask(&[
            "ACL",
            "SETUSER",
            "weak",
            "on",
            ">weak-password",
            "+acl|dryrun",
            "+acl|getuser",
            "+ping",
        ])
        .await;
    let weak = connector_as(&[("primary", server.port)], "weak", "weak-password");
    let problems = weak.inventory().unwrap().preflight(&context()).await.unwrap();
    for command in ["ACL SETUSER", "ACL DELUSER", "ACL SAVE", "CLIENT KILL", "CLIENT LIST"] {
        assert!(
            problems.iter().any(|line| line.contains(command)),
            "{command} in {problems:?}"
        );
    }
    assert!(
        !problems.iter().any(|line| line.contains("ACL GETUSER")),
        "{problems:?}"
    );
    let issued = weak
        .issue()
        .unwrap()
        .issue(&context(), &issue_call(unrecorded(), ONE))
        .await;
    assert_eq!(issued.unwrap_err().kind(), ErrorKind::Denied);
    let wrong = connector_as(&[("primary", server.port)], ADMIN, "a-wrong-password-of-the-admin");
    let error = wrong.inventory().unwrap().list(&context()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Denied, Some("WRONGPASS")));
    assert!(!error.to_string().contains("a-wrong-password"));
}

#[tokio::test]
async fn every_user_is_listed_with_its_power() {
    let server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    issue(&connector, unrecorded(), ONE).await;
    let listed = connector.inventory().unwrap().list(&context()).await.unwrap();
    let facts: Vec<_> = listed
        .iter()
        .map(|state| (state.name.as_str(), state.status, state.privileged))
        .collect();
    assert_eq!(
        facts,
        [
            ("app", PrincipalStatus::Enabled, false),
            ("default", PrincipalStatus::Disabled, false),
            (ADMIN, PrincipalStatus::Enabled, true),
        ]
    );
    assert_eq!(listed[0].sessions, Some(0));
}
