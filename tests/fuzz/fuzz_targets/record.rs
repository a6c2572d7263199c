//! The record of an entry: what parses is written in one way, and that way parses back equal. A version of a consent has one digest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use unefois_consent::{Consent, Event};

fuzz_target!(|text: &str| {
    let Ok(event) = serde_json::from_str::<Event>(text) else { return };
    let written = serde_json::to_string(&event).expect("an event is written as JSON");
    let again: Event = serde_json::from_str(&written).expect("a record does not parse back");
    assert!(again == event, "a record parses back to another event");
    assert_eq!(serde_json::to_string(&again).expect("an event is written as JSON"), written);
    if let (Some(consent), Some(same)) = (consent(&event), consent(&again)) {
        assert_eq!(consent.version_digest(), same.version_digest());
    }
});

fn consent(event: &Event) -> Option<&Consent> {
    match event {
        Event::ConsentRequested(recorded) | Event::ConsentGranted(recorded) | Event::ConsentRenewed(recorded) => {
            Some(&recorded.consent)
        }
        _ => None,
    }
}
