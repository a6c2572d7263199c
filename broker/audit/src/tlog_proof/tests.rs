use proptest::prelude::*;

use super::*;
use crate::testing::{LogKey, naive_inclusion, naive_root, numbered_leaves};

const ORIGIN: &str = "log.example/audit";

fn key() -> LogKey {
    LogKey::new(ORIGIN, 5)
}

/// The proof of leaf `index` in a log of `size` numbered leaves.
fn proof(index: usize, size: usize) -> TlogProof {
    let leaves = numbered_leaves(size);
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: size as u64, root: naive_root(&leaves) };
    TlogProof {
        extra: None,
        index: index as u64,
        hashes: naive_inclusion(index, &leaves),
        checkpoint: key().sign(&checkpoint),
    }
}

#[test]
fn a_proof_is_laid_out_as_in_the_specification() {
    let mut proof = proof(2, 5);
    proof.extra = Some(b"hello".to_vec());
    let expected = format!(
        "c2sp.org/tlog-proof@v1\nextra aGVsbG8=\nindex 2\n{}\n{}\n{}\n\n{}",
        proof.hashes[0].to_base64(),
        proof.hashes[1].to_base64(),
        proof.hashes[2].to_base64(),
        proof.checkpoint
    );
    assert_eq!(proof.to_string(), expected);
    assert_eq!(TlogProof::parse(&expected).unwrap(), proof);
}

#[test]
fn a_proof_verifies_with_the_key_of_its_log_alone() {
    for (index, size) in [(0, 1), (0, 2), (2, 5), (4, 5), (63, 64)] {
        let leaf = numbered_leaves(size)[index];
        let proof = TlogProof::parse(&proof(index, size).to_string()).unwrap();
        let checkpoint = proof.verify(&leaf, key().verifier()).unwrap();
        assert_eq!(checkpoint.size, size as u64);
        assert!(proof.hashes.len() < size);
        let stranger = LogKey::new(ORIGIN, 6);
        assert_eq!(proof.verify(&leaf, stranger.verifier()), Err(AuditError::NoKnownKey));
        assert_eq!(proof.verify(&crate::hash::EMPTY_ROOT, key().verifier()), Err(AuditError::NotIncluded));
    }
}

#[test]
fn the_key_of_one_log_does_not_vouch_for_another() {
    let leaves = numbered_leaves(1);
    let foreign = Checkpoint { origin: "other.example".to_owned(), size: 1, root: naive_root(&leaves) };
    let signature = key().signature(&foreign.note_text());
    let line = crate::note::signature_line(ORIGIN, key().verifier().id(), &signature);
    let mut proof = proof(0, 1);
    proof.checkpoint = format!("{}\n{line}", foreign.note_text());
    assert_eq!(proof.verify(&leaves[0], key().verifier()), Err(AuditError::OtherLog));
}

#[test]
fn every_changed_bit_of_a_proof_is_refused() {
    let leaf = numbered_leaves(5)[2];
    let text = proof(2, 5).to_string();
    for position in 0..text.len() {
        for bit in 0..8 {
            let mut bytes = text.as_bytes().to_vec();
            bytes[position] ^= 1 << bit;
            let Ok(changed) = String::from_utf8(bytes) else {
                continue;
            };
            let outcome = TlogProof::parse(&changed).and_then(|proof| proof.verify(&leaf, key().verifier()));
            assert!(outcome.is_err(), "bit {bit} of byte {position}");
        }
    }
}

#[test]
fn a_proof_in_any_other_form_is_refused() {
    let text = proof(2, 5).to_string();
    let hash_line = format!("{}\n", proof(2, 5).hashes[0].to_base64());
    let refused = [
        String::new(),
        format!("\n{text}"),
        format!(" {text}"),
        format!("{text}\n"),
        text.trim_end().to_owned(),
        text.replace("@v1", "@v2"),
        text.replace("index 2", "index 02"),
        text.replace("index 2", "index  2"),
        text.replace("index 2", "index -2"),
        text.replace("index 2", "index 2 "),
        text.replace("index 2\n", ""),
        text.replace("index 2", "index 5"),
        text.replace("index 2", "extra \nindex 2"),
        text.replace("index 2", "extra\nindex 2"),
        text.replace("index 2", "extra aGVsbG8\nindex 2"),
        text.replace("index 2", "extra aGVsbG8=\nextra aGVsbG8=\nindex 2"),
        text.replace("index 2", "index 2\nextra aGVsbG8="),
        text.replace("index 2", "index 2\nindex 2"),
        text.replace(&hash_line, &hash_line.repeat(64)),
        text.replace(&hash_line, "AAAA\n"),
        text.replace('\n', "\r\n"),
    ];
    for proof in refused {
        assert!(TlogProof::parse(&proof).is_err(), "{proof:?}");
    }
    for len in (0..text.len()).filter(|len| text.is_char_boundary(*len)) {
        assert!(TlogProof::parse(&text[..len]).is_err(), "{len}");
    }
    let long = text.replace("index 2", &format!("extra {}\nindex 2", "A".repeat(MAX_PROOF_BYTES)));
    assert!(matches!(TlogProof::parse(&long), Err(AuditError::TooLarge { .. })));
    assert_eq!(TlogProof::parse(&text.replace("index 2", "index 5")), Err(AuditError::OutsideTree));
}

#[test]
fn empty_extra_data_is_not_written() {
    let plain = proof(2, 5);
    let empty = TlogProof { extra: Some(Vec::new()), ..plain.clone() };
    assert_eq!(empty.to_string(), plain.to_string());
}

proptest! {
    #[test]
    fn a_proof_parser_never_panics_and_prints_back(
        text in "(\\PC|\n){0,80}",
        head in "(c2sp\\.org/tlog-proof@v1\n)?(extra [A-Za-z0-9+/]{4}\n)?(index [0-6]{1,2}\n)?([A-Za-z0-9+/]{42}A=\n){0,3}\n?",
        index in 0..5usize,
        position: usize,
        byte: u8,
    ) {
        let whole = proof(index, 5);
        let mut bytes = whole.to_string().into_bytes();
        let position = position % bytes.len();
        bytes[position] = byte;
        let damaged = String::from_utf8_lossy(&bytes).into_owned();
        for text in [text, format!("{head}{}", whole.checkpoint), damaged] {
            if let Ok(parsed) = TlogProof::parse(&text) {
                prop_assert_eq!(parsed.to_string(), text);
            }
        }
    }
}
