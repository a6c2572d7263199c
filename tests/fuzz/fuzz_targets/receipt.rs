//! A receipt comes from anyone. What parses prints and parses back equal; verifying never panics.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use unefois_audit::{Receipt, VerifierKey};

static KEY: LazyLock<VerifierKey> = LazyLock::new(|| {
    let key = include_str!("../../../broker/audit/testdata/receipt-v1.vkey");
    key.trim().parse().expect("the golden receipt's key")
});

fuzz_target!(|text: &str| {
    let Ok(receipt) = Receipt::from_json(text) else { return };
    assert!(Receipt::from_json(&receipt.to_json()).as_ref() == Ok(&receipt), "a receipt does not parse back");
    let _ = receipt.verify(&KEY);
});
