use proptest::prelude::*;

use super::*;
use crate::testing::LogKey;

const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const NOTE: &str = "This is an example message.\n\n\
    — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
const QUASIMODO: &str = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n\
    — quasimodo.example/salvatore \
    NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";

fn vkey() -> VerifierKey {
    VKEY.parse().unwrap()
}

/// A line by a key that no one knows.
fn stranger_line() -> String {
    signature_line("stranger.example", 7, &[1, 2, 3])
}

#[test]
fn the_example_of_the_specification_verifies() {
    assert_eq!(vkey().to_string(), VKEY);
    assert_eq!(key_id("example.com/foo", vkey().public_key()), 0x530d_903a);
    let note = SignedNote::parse(NOTE).unwrap();
    assert_eq!(note.text, "This is an example message.\n");
    assert_eq!(note.verify(&[vkey()]), Ok(()));
    assert_eq!(note.to_string(), NOTE);
}

#[test]
fn the_poem_of_the_specification_is_read_with_its_empty_line() {
    let note = SignedNote::parse(QUASIMODO).unwrap();
    assert!(note.text.contains("sole:\n\ned"));
    assert!(note.text.ends_with("sera.\n"));
    assert_eq!(note.signatures.len(), 1);
    assert_eq!(note.signatures[0].name, "quasimodo.example/salvatore");
    assert_eq!(note.signatures[0].signature.len(), 64);
    assert_eq!(note.to_string(), QUASIMODO);
}

#[test]
fn every_changed_bit_of_a_note_is_refused() {
    for position in 0..NOTE.len() {
        for bit in 0..8 {
            let mut bytes = NOTE.as_bytes().to_vec();
            bytes[position] ^= 1 << bit;
            let Ok(changed) = String::from_utf8(bytes) else {
                continue;
            };
            let outcome = SignedNote::parse(&changed).and_then(|note| note.verify(&[vkey()]));
            assert!(outcome.is_err(), "bit {bit} of byte {position}");
        }
    }
}

#[test]
fn signatures_by_unknown_keys_are_ignored_even_under_a_known_name_or_id() {
    let id = vkey().id();
    for stranger in [
        stranger_line(),
        signature_line("example.com/foo", id ^ 1, &[0; 64]),
        signature_line("example.com/bar", id, &[0; 64]),
    ] {
        let both = SignedNote::parse(&format!("{NOTE}{stranger}")).unwrap();
        assert_eq!(both.verify(&[vkey()]), Ok(()));
        let alone = SignedNote::parse(&format!("This is an example message.\n\n{stranger}")).unwrap();
        assert_eq!(alone.verify(&[vkey()]), Err(AuditError::NoKnownKey));
    }
    assert_eq!(SignedNote::parse(NOTE).unwrap().verify(&[]), Err(AuditError::NoKnownKey));
}

#[test]
fn one_false_signature_by_a_known_key_condemns_the_note() {
    let other = LogKey::new("other.example", 1);
    let false_line = signature_line("other.example", other.verifier().id(), &[0; 64]);
    for note in [format!("{NOTE}{false_line}"), NOTE.replace("\n\n", &format!("\n\n{false_line}"))] {
        let note = SignedNote::parse(&note).unwrap();
        assert_eq!(note.verify(&[vkey(), other.verifier().clone()]), Err(AuditError::FalseSignature));
        assert_eq!(note.verify(&[vkey()]), Ok(()), "it is ignored while its key is unknown");
    }
    let true_line =
        signature_line("other.example", other.verifier().id(), &other.signature("This is an example message.\n"));
    let note = SignedNote::parse(&format!("{NOTE}{true_line}")).unwrap();
    assert_eq!(note.verify(&[vkey(), other.verifier().clone()]), Ok(()));
}

#[test]
fn a_note_in_any_other_form_is_refused() {
    let line = stranger_line();
    let refused = [
        String::new(),
        "\n\n".to_owned(),
        "text\n".to_owned(),
        "text\n\n".to_owned(),
        format!("text\n{line}"),
        format!("\n{line}"),
        format!("text\n\n{}", line.trim_end()),
        format!("text\n\n{line}\n"),
        format!("text\n\n{line}trailing"),
        format!("te\rxt\n\n{line}"),
        format!("te\txt\n\n{line}"),
        format!("te\0xt\n\n{line}"),
        format!("text\r\n\r\n{line}"),
        format!("text\n\n{}", line.replace('—', "-")),
        format!("text\n\n{}", line.replace("— ", "—")),
        format!("text\n\n{}", line.replace("— ", "—  ")),
        format!("text\n\n{}", line.replace("stranger", "stran+ger")),
        format!("text\n\n{}", line.replace("stranger", "stran\u{a0}ger")),
        format!("text\n\n{}", line.replace("AAAA", "AAA")),
        format!("text\n\n{}", line.replace('\n', " \n")),
        "text\n\n— name \n".to_owned(),
        "text\n\n— name AAAABw==\n".to_owned(),
        "text\n\n— name AAAABwE\n".to_owned(),
        "text\n\n— name AAAABwF=\n".to_owned(),
    ];
    for note in refused {
        assert!(SignedNote::parse(&note).is_err(), "{note:?}");
    }
    assert!(SignedNote::parse(&format!("text\n\n{line}")).is_ok());
    assert!(SignedNote::parse(&format!("\n\n{line}")).is_ok());
    assert!(SignedNote::parse("text\n\n— name AAAABwE=\n").is_ok());
}

#[test]
fn sixteen_signatures_of_five_kilobytes_are_read_and_limits_hold() {
    let large = signature_line("large.example", 1, &[7; 5000]);
    assert!(SignedNote::parse(&format!("text\n\n{}", large.repeat(16))).is_ok());
    let small = stranger_line();
    assert!(SignedNote::parse(&format!("text\n\n{}", small.repeat(64))).is_ok());
    assert!(SignedNote::parse(&format!("text\n\n{}", small.repeat(65))).is_err());
    let long = format!("{}\n\n{small}", "x".repeat(MAX_NOTE_BYTES));
    assert!(matches!(SignedNote::parse(&long), Err(AuditError::TooLarge { .. })));
}

#[test]
fn a_verifier_key_in_any_other_form_is_refused() {
    let refused = [
        "",
        "example.com/foo",
        "example.com/foo+530d903a",
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/fo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+0530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+BOkyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k\n",
        " example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    ];
    for vkey in refused {
        assert!(vkey.parse::<VerifierKey>().is_err(), "{vkey:?}");
    }
    for name in ["", "a b", "a+b", "a\u{2003}b", "a\nb", "a\u{1}b"] {
        assert!(VerifierKey::new(name, *vkey().public_key()).is_err(), "{name:?}");
    }
}

proptest! {
    #[test]
    fn a_note_parser_never_panics_and_prints_back(
        note in "(\\PC|\n){0,60}|(\\PC|\n){0,20}\n\n(— [a-z]{1,3} [A-Za-z0-9+/]{8}([A-Za-z0-9+/]{2}(==|[A-Za-z0-9+/]=))?\n){1,3}",
    ) {
        if let Ok(parsed) = SignedNote::parse(&note) {
            prop_assert_eq!(parsed.to_string(), note);
        }
    }

    #[test]
    fn a_verifier_key_parser_never_panics_and_prints_back(
        text in "\\PC{0,80}|[a-z]{1,5}\\+[0-9a-f]{8}\\+A[Q-Z][A-Za-z0-9+/]{42}",
        name in "[a-z./é]{1,20}",
        key: [u8; 32],
    ) {
        if let Ok(parsed) = text.parse::<VerifierKey>() {
            prop_assert_eq!(parsed.to_string(), text);
        }
        if let Ok(made) = VerifierKey::new(&name, key) {
            prop_assert_eq!(made.to_string().parse::<VerifierKey>().unwrap(), made);
        }
    }
}
