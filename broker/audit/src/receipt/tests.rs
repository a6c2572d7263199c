use proptest::prelude::*;

use super::*;
use crate::answer::{answer_digest, canonical_json};
use crate::hash::leaf_hash;
use crate::testing::{LogKey, naive_inclusion, naive_root};

const GOLDEN: &str = include_str!("../../testdata/receipt-v1.json");
const GOLDEN_VKEY: &str = include_str!("../../testdata/receipt-v1.vkey");

fn key() -> LogKey {
    LogKey::new("unefois.example/audit", 0x42)
}

/// A receipt for entry 3 of a log of 7, the same at every call.
fn receipt() -> Receipt {
    let answer_salt = Salt([0x33; 32]);
    let values = canonical_json(&serde_json::json!({ "dss.quotient_familial.valeur": 612 }));
    let record = format!(
        r#"{{"event":"answered","request":"r-1","answer":"{}","note":"é \" \\ \n \u0001"}}"#,
        answer_digest(&answer_salt, values.as_bytes())
    );
    let mut receipt = Receipt {
        record,
        salt: Salt([0x11; 32]),
        retention_part: Hash([0x22; 32]),
        links_part: Hash([0x44; 32]),
        kind: 2,
        time_ms: 1_767_225_600_000,
        proof: crate::tlog_proof::TlogProof { extra: None, index: 3, hashes: Vec::new(), checkpoint: String::new() },
        answer_salt: Some(answer_salt),
    };
    let leaves: Vec<_> = (0u8..7).map(|n| if n == 3 { receipt.leaf().hash() } else { leaf_hash(&[n; 42]) }).collect();
    let checkpoint = Checkpoint { origin: "unefois.example/audit".to_owned(), size: 7, root: naive_root(&leaves) };
    receipt.proof.hashes = naive_inclusion(3, &leaves);
    receipt.proof.checkpoint = key().sign(&checkpoint);
    receipt
}

fn check(text: &str) -> Result<VerifiedReceipt, AuditError> {
    Receipt::from_json(text)?.verify(key().verifier())
}

/// Every text that differs from the given one in one bit and is still UTF-8.
fn with_one_bit_changed(text: &str) -> impl Iterator<Item = String> + '_ {
    (0..text.len() * 8).filter_map(|bit| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        String::from_utf8(bytes).ok()
    })
}

#[test]
fn the_golden_receipt_of_version_1_is_read_written_and_verified() {
    let golden_key: VerifierKey = GOLDEN_VKEY.trim_end().parse().unwrap();
    assert_eq!(&golden_key, key().verifier());
    let golden = Receipt::from_json(GOLDEN).unwrap();
    assert_eq!(golden.to_json(), GOLDEN);
    let verified = golden.verify(&golden_key).unwrap();
    assert_eq!((verified.index, verified.checkpoint.size), (3, 7));
    assert_eq!((verified.leaf.kind, verified.leaf.time_ms), (2, 1_767_225_600_000));
    assert_eq!(verified.leaf, golden.leaf());
    // What was released as version 1 is what is written today.
    assert_eq!(receipt(), golden);
}

#[test]
fn each_altered_bit_of_a_receipt_is_refused() {
    // The salt of the answer is checked against the record's digest, not here; the last newline is white space.
    let receipt = Receipt { answer_salt: None, ..receipt() };
    let text = receipt.to_json();
    check(&text).unwrap();
    for changed in with_one_bit_changed(text.trim_end()) {
        assert!(check(&changed).is_err(), "{changed}");
    }
}

#[test]
fn each_altered_part_of_a_receipt_is_refused() {
    let receipt = receipt();
    let refused = |changed: Receipt| assert!(changed.verify(key().verifier()).is_err());
    for record in with_one_bit_changed(&receipt.record) {
        refused(Receipt { record, ..receipt.clone() });
    }
    for bit in 0..256 {
        let mut salt = receipt.salt;
        salt.0[bit / 8] ^= 1 << (bit % 8);
        refused(Receipt { salt, ..receipt.clone() });
        for part in [0, 1] {
            let mut changed = receipt.clone();
            let hash = if part == 0 { &mut changed.retention_part } else { &mut changed.links_part };
            hash.0[bit / 8] ^= 1 << (bit % 8);
            refused(changed);
        }
    }
    for bit in 0..8 {
        refused(Receipt { kind: receipt.kind ^ (1 << bit), ..receipt.clone() });
    }
    for bit in 0..64 {
        refused(Receipt { time_ms: receipt.time_ms ^ (1 << bit), ..receipt.clone() });
        let mut proof = receipt.proof.clone();
        proof.index ^= 1 << bit;
        refused(Receipt { proof, ..receipt.clone() });
    }
    for checkpoint in with_one_bit_changed(&receipt.proof.checkpoint) {
        let mut proof = receipt.proof.clone();
        proof.checkpoint = checkpoint;
        refused(Receipt { proof, ..receipt.clone() });
    }
    for record in ["", " ", &format!("{} ", receipt.record), &receipt.record[..receipt.record.len() - 1]] {
        refused(Receipt { record: record.to_owned(), ..receipt.clone() });
    }
}

#[test]
fn a_receipt_says_which_rule_it_breaks() {
    let receipt = receipt();
    let verify = |receipt: &Receipt| receipt.verify(key().verifier()).map(|_| ());
    let changed = Receipt { record: "{}".to_owned(), ..receipt.clone() };
    assert_eq!(verify(&changed), Err(AuditError::NotIncluded));
    let stranger = LogKey::new("unefois.example/audit", 1);
    assert_eq!(receipt.verify(stranger.verifier()), Err(AuditError::NoKnownKey));
    let mut changed = receipt.clone();
    changed.proof.checkpoint = changed.proof.checkpoint.replace("\n7\n", "\n8\n");
    assert_eq!(verify(&changed), Err(AuditError::FalseSignature));
}

#[test]
fn a_receipt_in_any_other_form_is_refused() {
    let text = receipt().to_json();
    let refused = [
        String::new(),
        "{}".to_owned(),
        "[]".to_owned(),
        format!("{text}{{}}"),
        format!("{text}\0"),
        format!("\u{feff}{text}"),
        text.replace("receipt/v1", "receipt/v2"),
        text.replace("\"kind\":2", "\"kind\":256"),
        text.replace("\"kind\":2", "\"kind\":-1"),
        text.replace("\"kind\":2", "\"kind\":2.0"),
        text.replace("\"kind\":2", "\"kind\":\"2\""),
        text.replace("\"kind\":2", "\"kind\":02"),
        text.replace("\"kind\":2", "\"kind\":2,\"kind\":2"),
        text.replace("\"kind\":2", "\"kind\":2,\"more\":2"),
        text.replace("\"kind\":2,", ""),
        text.replace(&"11".repeat(32), &"11".repeat(31)),
        text.replace(&"11".repeat(32), &"1A".repeat(32)),
        text.replace(&"33".repeat(32), &"33".repeat(33)),
        text.replace(&format!("\"{}\"", "33".repeat(32)), "null"),
        text.replace("index 3", "index 7"),
    ];
    for receipt in refused {
        assert!(Receipt::from_json(&receipt).is_err(), "{receipt}");
    }
    for len in (0..text.len() - 1).filter(|len| text.is_char_boundary(*len)) {
        assert!(Receipt::from_json(&text[..len]).is_err(), "{len}");
    }
    let long = format!("{}{text}", " ".repeat(MAX_RECEIPT_BYTES));
    assert!(matches!(Receipt::from_json(&long), Err(AuditError::TooLarge { .. })));
}

#[test]
fn a_reformatted_receipt_is_the_same_receipt() {
    let value: serde_json::Value = serde_json::from_str(&receipt().to_json()).unwrap();
    let pretty = serde_json::to_string_pretty(&value).unwrap();
    assert_eq!(Receipt::from_json(&pretty).unwrap(), receipt());
    assert!(check(&pretty).is_ok());
}

#[test]
fn the_salt_of_the_answer_opens_the_digest_in_the_record() {
    let receipt = receipt();
    let record: serde_json::Value = serde_json::from_str(receipt.record()).unwrap();
    let digest = |valeur: u32| {
        let values = canonical_json(&serde_json::json!({ "dss.quotient_familial.valeur": valeur }));
        answer_digest(&receipt.answer_salt.unwrap(), values.as_bytes()).to_hex()
    };
    assert_eq!(record["answer"], digest(612));
    assert_ne!(record["answer"], digest(613));
}

#[test]
fn a_record_and_its_salts_do_not_appear_in_debug_output() {
    let shown = format!("{:?}", receipt());
    assert!(!shown.contains("answered") && !shown.contains("1111") && !shown.contains("3333"), "{shown}");
    assert_eq!(shown, "Receipt { kind: 2, time_ms: 1767225600000, index: 3, .. }");
}

proptest! {
    #[test]
    fn a_receipt_that_is_written_reads_back(
        record in "(\\PC|[\\x00-\\x1f\"\\\\]){0,40}", salt: [u8; 32], kind: u8, time_ms: u64, answer_salt: Option<[u8; 32]>,
    ) {
        let written = Receipt {
            record, salt: Salt(salt), kind, time_ms, answer_salt: answer_salt.map(Salt), ..receipt()
        };
        let text = written.to_json();
        prop_assert_eq!(text.lines().count(), 1);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        prop_assert_eq!(Receipt::from_json(&text).unwrap(), written);
    }

    #[test]
    fn a_receipt_parser_never_panics_and_what_it_reads_keeps_its_meaning(
        text in "\\PC{0,60}|\\{(\"(format|record|salt|retention_part|links_part|kind|time_ms|proof)\":(\"[a-z]{0,3}\"|[0-9]{1,3}),?){0,7}\\}",
        position: usize,
        byte: u8,
    ) {
        let mut bytes = receipt().to_json().into_bytes();
        let position = position % bytes.len();
        bytes[position] = byte;
        let damaged = String::from_utf8_lossy(&bytes).into_owned();
        for text in [text, damaged] {
            if let Ok(read) = Receipt::from_json(&text) {
                prop_assert_eq!(Receipt::from_json(&read.to_json()).unwrap(), read);
            }
        }
    }
}
