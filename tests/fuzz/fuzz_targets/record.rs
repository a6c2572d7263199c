//! The record of an entry: what parses is written in one way, and that way parses back equal. The terms of a consent have one digest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use unefois_consent::Event;

fuzz_target!(|text: &str| {
    let Ok(event) = serde_json::from_str::<Event>(text) else { return };
    let written = serde_json::to_string(&event).expect("an event is written as JSON");
    let again: Event = serde_json::from_str(&written).expect("a record does not parse back");
    assert!(again == event, "a record parses back to another event");
    assert_eq!(serde_json::to_string(&again).expect("an event is written as JSON"), written);
    if let Event::ConsentGranted(recorded) = &event {
        let _ = recorded.consent.version_digest();
    }
});
