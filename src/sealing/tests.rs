//! Tests of sealing with the machine's own randomness.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use keyfall_sdk::{SecretShape, SecretValue};
use proptest::prelude::*;
use ring::rand::SystemRandom;

use super::*;

fn kek(byte: u8) -> Kek {
    Kek::from_bytes(&[byte; 32]).unwrap()
}

fn context() -> SealContext {
    SealContext {
        secret_id: "sec_1".to_owned(),
        kind: "password".to_owned(),
        version: 3,
        endpoint_digest: [7; 32],
    }
}

fn secret(text: &str) -> SecretValue {
    SecretValue::from(text.to_owned())
}

fn sealed() -> (Keyring, Sealed) {
    let ring = Keyring::new(kek(1), Vec::new());
    let sealed = ring.seal(&context(), &secret("hunter2"), &SystemRandom::new()).unwrap();
    (ring, sealed)
}

#[test]
fn a_secret_opens_for_its_own_context_only() {
    let (ring, sealed) = sealed();
    assert!(ring.open(&context(), &sealed).unwrap().matches(&secret("hunter2")));
    let others = [
        SealContext {
            secret_id: "sec_2".to_owned(),
            ..context()
        },
        SealContext {
            kind: "admin".to_owned(),
            ..context()
        },
        SealContext {
            version: 4,
            ..context()
        },
        SealContext {
            endpoint_digest: [8; 32],
            ..context()
        },
        // The same letters, cut elsewhere.
        SealContext {
            secret_id: "sec_1p".to_owned(),
            kind: "assword".to_owned(),
            ..context()
        },
    ];
    for other in others {
        assert_eq!(
            ring.open(&other, &sealed).unwrap_err(),
            SealError::Tampered,
            "{other:?}"
        );
    }
}

#[test]
fn parts_of_two_rows_do_not_make_a_third() {
    let (ring, one) = sealed();
    let two = ring.seal(&context(), &secret("hunter3"), &SystemRandom::new()).unwrap();
    assert_ne!(one.ciphertext, two.ciphertext);
    let mixed = Sealed {
        ciphertext: two.ciphertext,
        nonce: two.nonce,
        ..one
    };
    assert_eq!(ring.open(&context(), &mixed).unwrap_err(), SealError::Tampered);
}

#[test]
fn every_flipped_byte_of_a_row_is_seen() {
    let (ring, sealed) = sealed();
    let parts: [fn(&mut Sealed) -> &mut Vec<u8>; 4] = [
        |s| &mut s.wrapped_key,
        |s| &mut s.wrap_nonce,
        |s| &mut s.nonce,
        |s| &mut s.ciphertext,
    ];
    for part in parts {
        let length = part(&mut sealed.clone()).len();
        for at in 0..length {
            let mut bad = sealed.clone();
            part(&mut bad)[at] ^= 1;
            assert_eq!(ring.open(&context(), &bad).unwrap_err(), SealError::Tampered);
        }
        let mut short = sealed.clone();
        part(&mut short).pop();
        assert_eq!(ring.open(&context(), &short).unwrap_err(), SealError::Tampered);
    }
}

#[test]
fn rows_move_to_another_kek_without_touching_the_ciphertext() {
    let (_, row) = sealed();
    let both = Keyring::new(kek(2), vec![kek(1)]);
    assert!(both.open(&context(), &row).unwrap().matches(&secret("hunter2")));
    let moved = both.rewrap(&row, &SystemRandom::new()).unwrap();
    assert_eq!(moved.ciphertext, row.ciphertext);
    assert_eq!(both.rewrap(&moved, &SystemRandom::new()).unwrap(), moved);
    let only_new = Keyring::new(kek(2), Vec::new());
    assert!(only_new.open(&context(), &moved).unwrap().matches(&secret("hunter2")));
    let error = only_new.open(&context(), &row).unwrap_err();
    assert_eq!(
        error,
        SealError::UnknownKek {
            row: kek(1).id().clone(),
            given: kek(2).id().clone()
        }
    );
    assert!(error.to_string().contains(&kek(1).id().0) && error.to_string().contains(&kek(2).id().0));
}

#[test]
fn a_wrong_kek_is_known_at_start() {
    let value = Keyring::new(kek(1), Vec::new()).check_value();
    assert_eq!(Keyring::new(kek(2), vec![kek(1)]).verify_check_value(&value), Ok(()));
    assert!(matches!(
        Keyring::new(kek(2), Vec::new()).verify_check_value(&value),
        Err(SealError::WrongKek { .. })
    ));
    let odd = Sealed {
        algorithm: "rot13/v1".to_owned(),
        ..sealed().1
    };
    assert!(matches!(
        sealed().0.open(&context(), &odd),
        Err(SealError::UnknownAlgorithm { .. })
    ));
}

#[test]
fn a_key_file_is_read_in_three_forms_and_refused_when_others_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kek");
    let write = |bytes: &[u8], mode| {
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Kek::load(&path)
    };
    let hex = "0b".repeat(32) + "\n";
    let base64 = "CwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCws=\n";
    for form in [[11; 32].as_slice(), hex.as_bytes(), base64.as_bytes()] {
        assert_eq!(write(form, 0o600).unwrap().id(), kek(11).id());
    }
    for mode in [0o640, 0o604, 0o660] {
        let error = write(hex.as_bytes(), mode).unwrap_err();
        assert!(matches!(error, KekError::Exposed { .. }) && error.to_string().contains("chmod 600"));
    }
    for bad in [
        b"".as_slice(),
        b"short",
        &[0; 33],
        "+f".repeat(32).as_bytes(),
        &[b'a'; 300],
    ] {
        assert!(matches!(write(bad, 0o600), Err(KekError::Malformed { .. })));
    }
}

#[test]
fn a_made_key_file_is_private_loads_again_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kek");
    let made = Kek::create(&path, &SystemRandom::new()).unwrap();
    assert_eq!(Kek::load(&path).unwrap().id(), made.id());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(
        Kek::create(&path, &SystemRandom::new()),
        Err(KekError::Create { .. })
    ));
}

#[test]
fn drawn_secrets_have_the_shape_and_use_the_alphabet_evenly() {
    // Of 3 letters, 256 % 3 = 1: a remainder taken of every byte would favour the first letter by 1 in 256.
    let shape = SecretShape {
        length: 30_000,
        alphabet: "abc",
    };
    let drawn = SecretGenerator::new(shape).unwrap().draw(&SystemRandom::new()).unwrap();
    assert_eq!(drawn.len(), 30_000);
    for letter in *b"abc" {
        let count = drawn.expose_secret().iter().filter(|byte| **byte == letter).count();
        // Six standard deviations (82) on each side.
        assert!((9_500..=10_500).contains(&count), "{count}");
    }
    let tiny = SecretGenerator::new(SecretShape {
        length: 1,
        alphabet: "ab",
    })
    .unwrap();
    for _ in 0..64 {
        assert!(
            tiny.draw_wrong(&secret("a"), &SystemRandom::new())
                .unwrap()
                .matches(&secret("b"))
        );
    }
    for (length, alphabet) in [(0, "abc"), (5, "a"), (5, "aab"), (5, "aé")] {
        assert_eq!(
            SecretGenerator::new(SecretShape { length, alphabet }).unwrap_err(),
            GenerateError::Shape
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..200), id in ".*", version: u32) {
        let ring = Keyring::new(kek(1), Vec::new());
        let context = SealContext { secret_id: id, version, ..context() };
        let sealed = ring.seal(&context, &SecretValue::new(bytes.clone()), &SystemRandom::new()).unwrap();
        let opened = ring.open(&context, &sealed).unwrap();
        prop_assert_eq!(opened.expose_secret(), bytes.as_slice());
    }
}
