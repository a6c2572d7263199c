//! The characters of a file, as UTF-8.

use std::borrow::Cow;

use super::Encoding;
use super::strict::Lines;

/// Bytes that are control characters in ISO-8859-15 and letters in Windows-1252: `œ` is one of them.
const C1: std::ops::RangeInclusive<u8> = 0x80..=0x9f;
/// Bytes to which Windows-1252 gives no character.
const UNUSED: [u8; 5] = [0x81, 0x8d, 0x8f, 0x90, 0x9d];

impl Encoding {
    /// The content in UTF-8. Whether UTF-8 is well formed shows when it is read; a byte that the encoding does not use is
    /// refused by its line, since the names around it would be wrong too.
    pub(super) fn read(self, bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
        let (encoding, is_unused): (_, fn(u8) -> bool) = match self {
            // A spreadsheet writes the mark.
            Self::Utf8 => return Ok(Cow::Borrowed(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))),
            Self::Latin9 => (encoding_rs::ISO_8859_15, |byte| C1.contains(&byte)),
            Self::Windows1252 => (encoding_rs::WINDOWS_1252, |byte| UNUSED.contains(&byte)),
        };
        // Text of another encoding is next to never well-formed UTF-8: every accented letter would need its own like.
        if !bytes.is_ascii() && std::str::from_utf8(bytes).is_ok() {
            return Err("the file is in UTF-8; leave the key encoding out".to_owned());
        }
        if let Some(place) = bytes.iter().position(|&byte| is_unused(byte)) {
            let line = {
                let mut lines = Lines::default();
                bytes.iter().take(place).for_each(|byte| lines.see(*byte));
                lines.number
            };
            let other = if self == Self::Latin9 { "windows-1252" } else { "another one" };
            return Err(format!("line {line}: a byte that the encoding does not use; the file may be in {other}"));
        }
        Ok(match encoding.decode_without_bom_handling(bytes).0 {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
    }
}
