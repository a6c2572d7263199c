//! The worked example of FORMAT.md, computed anew: the document cannot drift from the code.

use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::testing::{LogKey, naive_inclusion, naive_root};
use crate::{
    Checkpoint, EMPTY_ROOT, Hash, Leaf, Parts, Receipt, Salt, TlogProof, VerifierKey, answer_digest, canonical_json,
    leaf_hash, links_part, record_part, retention_part,
};

const DOCUMENT: &str = include_str!("../../../FORMAT.md");

/// The value of the line `name = value` of the worked example.
fn value(name: &str) -> &'static str {
    let prefix = format!("{name} = ");
    let mut values = DOCUMENT.lines().filter_map(|line| line.strip_prefix(prefix.as_str()));
    let value = values.next().unwrap_or_else(|| panic!("the document has no line {prefix:?}"));
    assert_eq!(values.next(), None, "{name} must be there once");
    value
}

/// The text of the fenced block that follows the heading.
fn block(heading: &str) -> &'static str {
    let after = DOCUMENT.split_once(&format!("\n{heading}\n")).unwrap().1;
    let body = after.split_once("```text\n").unwrap().1;
    body.split_once("```").unwrap().0
}

fn key() -> LogKey {
    LogKey::new("unefois.example/audit", 0x42)
}

#[test]
fn the_worked_example_of_the_format_document_is_what_the_code_computes() {
    let answer_salt = Salt::from_hex(value("answer_salt")).unwrap();
    let values: serde_json::Value = serde_json::from_str(value("values")).unwrap();
    let canonical = canonical_json(&values);
    assert_eq!(canonical, value("canonical"));
    assert_eq!(answer_digest(&answer_salt, canonical.as_bytes()).to_hex(), value("answer_digest"));

    let record = value("record");
    assert!(record.contains(value("answer_digest")));
    let salt = Salt::from_hex(value("salt")).unwrap();
    let (retention_salt, links_salt) = (value("retention_salt"), value("links_salt"));
    let parts = Parts {
        record: record_part(&salt, record.as_bytes()),
        retention: retention_part(&Salt::from_hex(retention_salt).unwrap(), value("months").parse().unwrap()),
        links: links_part(&Salt::from_hex(links_salt).unwrap(), &[]),
    };
    assert_eq!(parts.record.to_hex(), value("record_part"));
    assert_eq!(parts.retention.to_hex(), value("retention_part"));
    assert_eq!(parts.links.to_hex(), value("links_part"));
    assert_eq!(parts.commitment().to_hex(), value("commitment"));

    let leaf = Leaf { kind: 2, time_ms: 1_767_225_600_000, commitment: parts.commitment() };
    assert_eq!(hex::encode(leaf.encode()), value("leaf_2"));
    assert_eq!(leaf.hash().to_hex(), value("hash_2"));

    let leaves: Vec<Hash> = (0..3)
        .map(|number| {
            let bytes = hex::decode(value(&format!("leaf_{number}"))).unwrap();
            let hash = leaf_hash(&bytes);
            assert_eq!(hash.to_hex(), value(&format!("hash_{number}")));
            assert_eq!(Leaf::decode(&bytes).unwrap().hash(), hash);
            hash
        })
        .collect();
    assert_eq!(naive_root(&leaves[..2]).to_hex(), value("node_01"));
    let checkpoint = Checkpoint { origin: "unefois.example/audit".to_owned(), size: 3, root: naive_root(&leaves) };
    assert_eq!(checkpoint.root.to_hex(), value("root"));

    let pair = Ed25519KeyPair::from_seed_unchecked(&hex::decode(value("seed")).unwrap()).unwrap();
    assert_eq!(hex::encode(pair.public_key()), value("public_key"));
    assert_eq!(format!("{:08x}", key().verifier().id()), value("key_id"));
    let vkey: VerifierKey = value("vkey").parse().unwrap();
    assert_eq!(&vkey, key().verifier());
    let signature = key().signature(&checkpoint.note_text());
    assert_eq!(hex::encode(signature), value("signature"));
    assert_eq!(key().sign(&checkpoint), block("#### The checkpoint"));

    let proof =
        TlogProof { extra: None, index: 2, hashes: naive_inclusion(2, &leaves), checkpoint: key().sign(&checkpoint) };
    assert_eq!(proof.to_string(), block("#### The proof"));

    let receipt = Receipt {
        record: record.to_owned(),
        salt,
        retention_part: parts.retention,
        links_part: parts.links,
        kind: 2,
        time_ms: 1_767_225_600_000,
        proof,
        answer_salt: Some(answer_salt),
    };
    assert_eq!(receipt.to_json(), block("#### The receipt"));
    assert_eq!(receipt.verify(&vkey).unwrap().leaf, leaf);
    assert_eq!(EMPTY_ROOT.to_hex(), value("empty_root"));
}
