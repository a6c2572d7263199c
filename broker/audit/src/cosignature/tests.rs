use proptest::prelude::*;

use super::*;
use crate::testing::{LogKey, Witness};

const TEXT: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
/// The cosigned checkpoint of tlog-cosignature.
const EXAMPLE_LINE: &str = "— witness.example.com/w1 \
    jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

/// A checkpoint of the example's log with these lines.
fn note(lines: &str) -> SignedNote {
    SignedNote::parse(&format!("{TEXT}\n{lines}")).unwrap()
}

#[test]
fn the_message_and_the_line_are_those_of_the_specification() {
    assert_eq!(Cosignature::message(1_679_315_147, TEXT), format!("cosignature/v1\ntime 1679315147\n{TEXT}"));
    let example = note(EXAMPLE_LINE);
    let cosignature = Cosignature::decode(&example.signatures[0].signature).unwrap();
    assert_eq!(cosignature.timestamp_s, 1_679_315_147);
    assert_eq!(cosignature.encode().as_slice(), example.signatures[0].signature);
}

#[test]
fn the_type_of_a_key_is_part_of_its_id() {
    let (log, witness) = (LogKey::new("w.example/1", 7), Witness::new("w.example/1", 7));
    assert_eq!(log.verifier().public_key(), witness.key().public_key());
    assert_ne!(log.verifier().id(), witness.key().id());
    let vkey = witness.key().to_string();
    assert_eq!(vkey.parse::<WitnessKey>().as_ref(), Ok(witness.key()));
    // 0x04 begins the base64 with "BA" to "BP", 0x01 with "AQ" to "Af".
    assert!(vkey.split('+').nth(2).unwrap().starts_with('B'), "{vkey}");
    assert!(vkey.parse::<crate::VerifierKey>().is_err());
    assert!(log.verifier().to_string().parse::<WitnessKey>().is_err());
}

#[test]
fn a_cosignature_verifies_for_its_text_its_time_and_its_key_alone() {
    let witness = Witness::new("w.example/1", 7);
    let line = witness.line(1_679_315_147, TEXT);
    let read = witness.key().cosignature_on(&note(&line)).unwrap().unwrap();
    assert_eq!(read, witness.cosign(1_679_315_147, TEXT));
    assert_eq!(witness.key().verify(TEXT, &read), Ok(()));
    let later = Cosignature { timestamp_s: read.timestamp_s + 1, ..read };
    assert_eq!(witness.key().verify(TEXT, &later), Err(AuditError::FalseSignature));
    assert_eq!(witness.key().verify(&TEXT.replace('3', "4"), &read), Err(AuditError::FalseSignature));
    let other = Witness::new("w.example/1", 8);
    assert_eq!(other.key().verify(TEXT, &read), Err(AuditError::FalseSignature));
    assert_eq!(other.key().cosignature_on(&note(&line)), Ok(None));
}

#[test]
fn a_line_in_the_name_of_a_witness_that_does_not_verify_spoils_the_note() {
    let witness = Witness::new("w.example/1", 7);
    let good = witness.line(5, TEXT);
    let forged = signature_line_of(&witness, &[1; 72]);
    let short = signature_line_of(&witness, &[1; 64]);
    let timeless = witness.line(0, TEXT);
    for bad in [forged, short, timeless] {
        let spoiled = note(&format!("{good}{bad}"));
        assert_eq!(witness.key().cosignature_on(&spoiled), Err(AuditError::FalseSignature), "{bad}");
    }
    let stranger = Witness::new("w.example/2", 9).line(5, TEXT);
    let both = note(&format!("{stranger}{good}{}", witness.line(9, TEXT)));
    assert_eq!(witness.key().cosignature_on(&both).unwrap().unwrap().timestamp_s, 9, "the newest counts");
}

fn signature_line_of(witness: &Witness, bytes: &[u8]) -> String {
    crate::note::signature_line(witness.key().name(), witness.key().id(), bytes)
}

#[test]
fn a_time_of_nothing_or_beyond_the_calendar_is_refused() {
    let with_time = |timestamp_s: u64| Cosignature { timestamp_s, signature: [3; 64] }.encode();
    for timestamp_s in [1, MAX_TIMESTAMP_S] {
        assert_eq!(Cosignature::decode(&with_time(timestamp_s)).unwrap().timestamp_s, timestamp_s);
    }
    for timestamp_s in [0, MAX_TIMESTAMP_S + 1, u64::MAX] {
        assert!(Cosignature::decode(&with_time(timestamp_s)).is_err(), "{timestamp_s}");
    }
}

proptest! {
    #[test]
    fn decoding_never_panics_and_encodes_back(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(cosignature) = Cosignature::decode(&bytes) {
            prop_assert_eq!(cosignature.encode().to_vec(), bytes);
        }
    }
}
