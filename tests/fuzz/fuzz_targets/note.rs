//! Notes, proofs, checkpoints, tile paths and verifier keys in the C2SP formats: each text has one meaning, so what
//! parses prints the same text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use unefois_audit::{Checkpoint, SignedNote, TilePath, TlogProof, VerifierKey};

fuzz_target!(|text: &str| {
    if let Ok(note) = SignedNote::parse(text) {
        assert_eq!(note.to_string(), text);
    }
    if let Ok(proof) = TlogProof::parse(text) {
        assert_eq!(proof.to_string(), text);
    }
    if let Ok(checkpoint) = Checkpoint::parse_text(text) {
        assert_eq!(checkpoint.note_text(), text);
    }
    if let Ok(path) = text.parse::<TilePath>() {
        assert_eq!(path.to_string(), text);
    }
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text);
    }
});
