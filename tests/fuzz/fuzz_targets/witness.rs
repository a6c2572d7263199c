//! Requests to a witness, its answers, and trust policies come from anyone: each request has one text, and a policy that
//! reads can be judged by.

#![no_main]

use libfuzzer_sys::fuzz_target;
use unefois_audit::{AddCheckpoint, Cosignature, Policy, WitnessKey};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(policy) = Policy::parse(bytes) {
        assert!(policy.is_met(|_| true), "a quorum that all witnesses together are not");
    }
    if let Ok(cosignature) = Cosignature::decode(bytes) {
        assert_eq!(cosignature.encode().as_slice(), bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok((request, checkpoint)) = AddCheckpoint::parse(text) {
        assert_eq!(request.to_string(), text);
        assert!(request.note.text.starts_with(&checkpoint.note_text()));
    }
    if let Ok(key) = text.parse::<WitnessKey>() {
        assert_eq!(key.to_string(), text);
    }
});
