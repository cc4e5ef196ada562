//! The file, the keys, the log and the approval that a receipt must stand on.

use super::*;

#[test]
fn an_honest_receipt_verifies_and_says_what_is_dead() {
    let world = world();
    let verified = world.verify().unwrap();
    assert_eq!(verified.body, world.body);
    assert_eq!(verified.dead, [CredentialId::from_uuid(uuid(3))]);
    assert_eq!((verified.position, verified.checkpoint.size), (3, 5));
    assert_eq!(verified.notes, ["exception (human_override): consumer gone"]);
    let mut whole_event = world.closing_record(&world.body.to_bytes().unwrap());
    whole_event.details = format!(r#"{{"seq":40,"at":"x","epoch":1,"body":{}}}"#, whole_event.details).into();
    let file = world.file_with(&world.body.to_bytes().unwrap(), &whole_event.encode());
    verify_receipt(&file, &world.keys(), None).unwrap();
}

/// A receipt is read for years: this one must verify for as long as its format is read.
#[test]
fn the_committed_receipt_verifies() {
    let mut keys = include_str!("../../testdata/receipt-v1.keys")
        .lines()
        .map(|line| line.parse().unwrap());
    let keys = VerifierKeys {
        origin: ORIGIN.to_owned(),
        server: vec![keys.next().unwrap()],
        approvers: Some(keys.collect()),
    };
    let verified = verify_receipt(include_bytes!("../../testdata/receipt-v1.json"), &keys, None).unwrap();
    assert_eq!(verified.dead, [CredentialId::from_uuid(uuid(3))]);
}

#[test]
fn every_flipped_byte_of_the_file_is_seen() {
    let world = world();
    let (file, keys) = (world.file(), world.keys());
    verify_receipt(&file, &keys, None).unwrap();
    for position in 0..file.len() {
        for mask in [0x01, 0x20] {
            let mut changed = file.clone();
            changed[position] ^= mask;
            assert!(
                verify_receipt(&changed, &keys, None).is_err(),
                "byte {position} with mask {mask:#x}"
            );
        }
    }
    for end in [0, 1, file.len() / 2, file.len() - 1] {
        assert!(verify_receipt(&file[..end], &keys, None).is_err(), "cut at {end}");
    }
    let longer = [file.as_slice(), b"\n"].concat();
    assert!(matches!(
        verify_receipt(&longer, &keys, None),
        Err(VerifyError::File { .. })
    ));
}

#[test]
fn only_the_keys_and_the_log_that_were_asked_for_are_believed() {
    let world = world();
    let with = |change: fn(&mut VerifierKeys)| {
        let mut keys = world.keys();
        change(&mut keys);
        verify_receipt(&world.file(), &keys, None)
    };
    assert!(matches!(
        with(|keys| keys.server = vec![key(ORIGIN).verifier().clone()]),
        Err(VerifyError::Signature { .. })
    ));
    assert!(matches!(
        with(|keys| keys.origin = "other".to_owned()),
        Err(VerifyError::Checkpoint { .. })
    ));
    let strangers = with(|keys| keys.approvers = Some(vec![key("zoe").verifier().clone()]));
    assert!(matches!(strangers, Err(VerifyError::Approval { .. })));
    assert!(
        with(|keys| keys.approvers = None)
            .unwrap()
            .notes
            .iter()
            .any(|note| note.contains("server's word"))
    );
    let early = verify_receipt(&world.file(), &world.keys(), Some(at(-1000)));
    assert!(matches!(early, Err(VerifyError::Future { .. })));
}

#[test]
fn the_log_must_commit_to_this_receipt() {
    let world = world();
    let body = world.body.to_bytes().unwrap();
    let changes: [Change<AuditRecord<'static>>; 6] = [
        (|record| record.run = None, "another run"),
        (|record| record.outcome = Some("unprovable".into()), "another outcome"),
        (|record| record.plan_digest = None, "approved plan"),
        (
            |record| record.details = record.details.replace("closed", "opened").into(),
            "closing event",
        ),
        (
            |record| record.details = r#"{"event":"closed"}"#.into(),
            "another receipt",
        ),
        (|record| record.details = "{}".into(), "not those of a closing event"),
    ];
    for (change, why) in changes {
        let mut record = world.closing_record(&body);
        change(&mut record);
        let error = verify_receipt(&world.file_with(&body, &record.encode()), &world.keys(), None).unwrap_err();
        assert!(
            matches!(error, VerifyError::Mismatch { .. }) && error.to_string().contains(why),
            "{error}"
        );
    }
    // A second body for the same run, signed by the same server, beside the record of the first.
    let mut second = world.body.clone();
    second.identity.owner = "somebody else".to_owned();
    let file = world.file_with(&second.to_bytes().unwrap(), &world.closing_record(&body).encode());
    assert!(matches!(
        verify_receipt(&file, &world.keys(), None),
        Err(VerifyError::Mismatch { .. })
    ));
    let file = world.file_with(&body, b"not a record");
    assert!(matches!(
        verify_receipt(&file, &world.keys(), None),
        Err(VerifyError::Record { .. })
    ));
}

#[test]
fn an_approval_that_does_not_hold_is_named() {
    let cases: [Lie; 7] = [
        ("is not over this plan", |body| {
            body.approval.plan_digest = Digest([8; 32])
        }),
        ("is not over this plan", |body| {
            body.approval.approvers[0].expires_at_micros += 1
        }),
        ("had expired", |body| body.run.opened_at = at(7200)),
        ("approved what he or she asked for", |body| {
            body.approval.approvers[0].person = PersonId::from_uuid(uuid(10))
        }),
        ("approved what he or she asked for", |body| {
            body.approval.standing = true;
            body.run.initiator = Actor::Person {
                id: body.approval.approvers[0].person,
                name: "Zoe".to_owned(),
            };
        }),
        ("nobody signed", |body| body.approval.approvers.clear()),
        ("stands for two approvers", |body| {
            let mut again = body.approval.approvers[0].clone();
            again.person = PersonId::from_uuid(uuid(12));
            body.approval.approvers.push(again);
        }),
    ];
    for (why, change) in cases {
        let error = lie(change);
        assert!(error.contains(why), "{error}");
    }
}
