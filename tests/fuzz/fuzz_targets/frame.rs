//! A frame of the journal. What decodes encodes back to the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use unefois_store::embedded::{decode_frame, encode_frame};

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    check(&framed(bytes));
});

fn check(bytes: &[u8]) {
    let Some(batch) = decode_frame(bytes) else { return };
    let encoded = encode_frame(&batch).expect("a decoded batch fits into a frame");
    let length = u32::from_be_bytes(encoded[4..8].try_into().expect("four bytes")) as usize;
    assert_eq!(encoded[..length], bytes[..length]);
    assert!(encoded[length..].iter().all(|byte| *byte == 0), "padding is of zeros");
    assert_eq!(decode_frame(&encoded), Some(batch));
}

/// `body` with the magic, length and checksum that let a decoder look at it: chance does not find a checksum.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = b"UFR1".to_vec();
    let length = u32::try_from(body.len() + 12).expect("inputs are small");
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(body);
    let checksum = crc32c::crc32c(&frame);
    frame.extend_from_slice(&checksum.to_be_bytes());
    frame
}
