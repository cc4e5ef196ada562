//! The encoding pinned by a committed vector, and shown to be one-to-one.

use proptest::option;
use proptest::prelude::*;

use super::*;

/// Bytes of [`sample`] in hexadecimal, then the leaf hash: what a second implementation must reproduce.
const VECTOR: &str = include_str!("testdata/record-v1.txt");

fn sample() -> AuditRecord {
    AuditRecord {
        id: "run_01/7".to_owned(),
        at_micros: 1_795_000_000_123_456,
        run: Some("run_01".to_owned()),
        step: Some("revoke_old".to_owned()),
        action: "succeeded".to_owned(),
        trigger: "schedule".to_owned(),
        initiator: Party {
            kind: PartyKind::Person,
            id: "per_1".to_owned(),
            name: "Zoë".to_owned(),
        },
        approvers: vec!["per_2".to_owned(), "per_3".to_owned()],
        plan_digest: Some([0xab; 32]),
        rule: Some("max_age".to_owned()),
        identity: Some("idn_1".to_owned()),
        system: None,
        permissions_before: Some(vec!["SELECT ON orders".to_owned()]),
        permissions_after: Some(Vec::new()),
        attempt: 2,
        exception: Some(Exception {
            cause: ExceptionCause::HumanOverride,
            note: "late consumer".to_owned(),
        }),
        outcome: None,
        details: r#"{"event":"succeeded"}"#.to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_committed_vector_holds() {
    let mut lines = VECTOR.lines();
    assert_eq!(Some(hex(&sample().encode()).as_str()), lines.next());
    assert_eq!(Some(hex(&sample().leaf()).as_str()), lines.next());
}

#[test]
fn a_record_cut_anywhere_or_with_more_behind_it_is_refused() {
    let bytes = sample().encode();
    for end in 0..bytes.len() {
        let error = AuditRecord::decode(&bytes[..end]).expect_err("it was cut");
        assert_eq!(AuditRecord::check(&bytes[..end]), Err(error), "cut at {end}");
    }
    let longer = [bytes.as_slice(), b"\0"].concat();
    assert_eq!(AuditRecord::decode(&longer), Err(RecordError::Long { extra: 1 }));
    assert_eq!(AuditRecord::decode(&[2]), Err(RecordError::Version { version: 2 }));
}

#[test]
fn names_and_bytes_of_the_closed_lists_are_read_back() {
    for cause in ExceptionCause::ALL {
        assert_eq!(ExceptionCause::from_name(cause.name()), Some(*cause));
        assert_eq!(ExceptionCause::from_byte(cause.byte()), Some(*cause));
        assert_eq!(serde_json::to_value(cause).unwrap(), cause.name());
    }
    for kind in PartyKind::ALL {
        assert_eq!(PartyKind::from_name(kind.name()), Some(*kind));
        assert_eq!(PartyKind::from_byte(kind.byte()), Some(*kind));
    }
}

proptest! {
    #[test]
    fn a_record_reads_back_as_itself(
        texts in proptest::collection::vec(".{0,12}", 8), some in option::of(".{0,8}"),
        lists in (option::of(proptest::collection::vec(".{0,5}", 0..4)), proptest::collection::vec(".{0,5}", 0..4)),
        at_micros: i64, attempt: u32, plan_digest: Option<[u8; 32]>, cause in option::of(prop::sample::select(ExceptionCause::ALL)),
    ) {
        let record = AuditRecord {
            id: texts[0].clone(), action: texts[1].clone(), trigger: texts[2].clone(), details: texts[3].clone(),
            initiator: Party { kind: PartyKind::Agent, id: texts[4].clone(), name: texts[5].clone() },
            rule: some.clone(), outcome: some.clone(), run: Some(texts[6].clone()), step: some,
            permissions_before: lists.0, approvers: lists.1, at_micros, attempt, plan_digest,
            exception: cause.map(|cause| Exception { cause, note: texts[7].clone() }),
            ..sample()
        };
        prop_assert_eq!(AuditRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn bytes_that_decode_encode_to_themselves(at: prop::sample::Index, byte: u8) {
        let mut bytes = sample().encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let decoded = AuditRecord::decode(&bytes);
        prop_assert_eq!(AuditRecord::check(&bytes), decoded.clone().map(drop));
        if let Ok(record) = decoded {
            prop_assert_eq!(record.encode(), bytes);
        }
    }
}
