//! The encoding pinned by a committed vector, and shown to be one-to-one.

use proptest::option;
use proptest::prelude::*;

use super::*;

/// Bytes of [`sample`] in hexadecimal, then the leaf hash: what a second implementation must reproduce.
const VECTOR: &str = include_str!("testdata/record-v1.txt");

fn sample() -> AuditRecord<'static> {
    AuditRecord {
        id: "run_01/7".into(),
        at_micros: 1_795_000_000_123_456,
        run: Some("run_01".into()),
        step: Some("revoke_old".into()),
        action: "succeeded".into(),
        trigger: "schedule".into(),
        initiator: Party {
            kind: PartyKind::Person,
            id: "per_1".into(),
            name: "Zoë".into(),
        },
        approvers: vec!["per_2".into(), "per_3".into()],
        plan_digest: Some([0xab; 32]),
        rule: Some("max_age".into()),
        identity: Some("idn_1".into()),
        system: None,
        permissions_before: Some(vec!["SELECT ON orders".into()]),
        permissions_after: Some(Vec::new()),
        attempt: 2,
        exception: Some(Exception {
            cause: ExceptionCause::HumanOverride,
            note: "late consumer".into(),
        }),
        outcome: None,
        details: r#"{"event":"succeeded"}"#.into(),
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
        let text = |place: usize| Cow::Borrowed(texts[place].as_str());
        let listed = |list: &Vec<String>| -> Vec<_> { list.iter().cloned().map(Cow::Owned).collect() };
        let some = some.map(Cow::Owned);
        let record = AuditRecord {
            id: text(0), action: text(1), trigger: text(2), details: text(3),
            initiator: Party { kind: PartyKind::Agent, id: text(4), name: text(5) },
            rule: some.clone(), outcome: some.clone(), run: Some(text(6)), step: some,
            permissions_before: lists.0.as_ref().map(listed), approvers: listed(&lists.1), at_micros, attempt, plan_digest,
            exception: cause.map(|cause| Exception { cause, note: text(7) }),
            ..sample()
        };
        let bytes = record.encode();
        prop_assert_eq!(AuditRecord::decode(&bytes), Ok(record));
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
