//! Messages of a client: decoding and the validation of every field, and that Debug of what was accepted is possible.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use unefois_proto::v1;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = v1::ExchangeRequest::decode(bytes) {
        let _ = unefois_proto::exchange::question(message).map(|question| format!("{question:?}"));
    }
    if let Ok(message) = v1::RecordConsentRequest::decode(bytes) {
        let _ = unefois_proto::consent::record(&message).map(|grant| format!("{grant:?}"));
    }
});
