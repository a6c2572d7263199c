//! Reading and writing of the small parts of the text formats: decimals, base64, hexadecimal, lines, key names.
//!
//! Each reader accepts exactly what the writer beside it prints, so that a text has one form and comparing texts
//! compares contents.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Characters of a hash in base64.
pub(crate) const HASH_BASE64_LEN: usize = 44;

/// Appends the number in decimal.
pub(crate) fn push_decimal(out: &mut String, number: u64) {
    let mut unit = 1;
    while number / unit >= 10 {
        unit *= 10;
    }
    while unit > 0 {
        // A remainder by ten fits one byte.
        out.push(char::from(b'0' + (number / unit % 10) as u8));
        unit /= 10;
    }
}

/// Reads ASCII digits without sign or leading zero.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if !canonical {
        return None;
    }
    text.parse().ok()
}

/// Appends the bytes in standard base64 with padding.
pub(crate) fn push_base64(out: &mut String, bytes: &[u8]) {
    STANDARD.encode_string(bytes, out);
}

/// Reads canonical standard base64: padded, no bits set after the last byte, no white space.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Reads canonical standard base64 of exactly `N` bytes.
pub(crate) fn base64_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    // The length first: it bounds the work, and decoding into a buffer of the wrong size would be an error anyway.
    if text.len() != N.div_ceil(3) * 4 {
        return None;
    }
    base64(text)?.try_into().ok()
}

/// Reads exactly `2 * N` lowercase hexadecimal digits.
pub(crate) fn lower_hex_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

/// Takes the next line, without its newline, from the front of `rest`.
pub(crate) fn take_line<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let (line, after) = rest.split_once('\n')?;
    *rest = after;
    Some(line)
}

/// Whether the text is a key name of signed-note: not empty, no Unicode space, no plus, no ASCII control character.
pub(crate) fn is_key_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c == '+' || c < ' ')
}

/// Whether the text may stand in a signed note: no ASCII control character but the newline.
pub(crate) fn is_note_text(text: &str) -> bool {
    !text.bytes().any(|byte| byte < b' ' && byte != b'\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_have_one_form() {
        for number in [0, 1, 9, 10, 99, 100, 20_852_163, u64::MAX] {
            let mut text = String::new();
            push_decimal(&mut text, number);
            assert_eq!(text, number.to_string());
            assert_eq!(decimal(&text), Some(number));
        }
        for refused in ["", "00", "01", "+1", "-1", " 1", "1 ", "1_0", "18446744073709551616", "١"] {
            assert_eq!(decimal(refused), None, "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn decimals_print_back(number: u64) {
            let mut text = String::new();
            push_decimal(&mut text, number);
            prop_assert_eq!(text, number.to_string());
        }
    }
}
