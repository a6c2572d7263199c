//! The public leaf of an entry, and the salts that hide what it commits to.
//!
//! A leaf holds no personal data, so tiles, entries and checkpoints may be published. What its commitment is made of stands
//! in [`crate::commitment`].

use std::fmt;

use crate::error::{AuditError, Format};
use crate::hash::{Hash, leaf_hash};
use crate::text;

const VERSION: u8 = 1;

/// One entry of the log as the tree sees it: 42 bytes.
///
/// | bytes | content |
/// |---|---|
/// | 0 | version, 1 |
/// | 1 | kind |
/// | 2..10 | time, unsigned big-endian, milliseconds since 1970-01-01T00:00:00Z |
/// | 10..42 | commitment |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// What the record is about; the engine gives the numbers their meaning.
    pub kind: u8,
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// [`crate::Parts::commitment`] of the entry.
    pub commitment: Hash,
}

impl Leaf {
    /// Bytes of an encoded leaf.
    pub const LEN: usize = 42;

    /// The bytes that the tree hashes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (head, commitment) = bytes.split_at_mut(10);
        let (version_and_kind, time) = head.split_at_mut(2);
        version_and_kind.copy_from_slice(&[VERSION, self.kind]);
        time.copy_from_slice(&self.time_ms.to_be_bytes());
        commitment.copy_from_slice(&self.commitment.0);
        bytes
    }

    /// Reads the bytes of one leaf.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] if there are not exactly 42 bytes, or the version is unknown.
    pub fn decode(bytes: &[u8]) -> Result<Self, AuditError> {
        let wrong_length = Format::Leaf.broken("it must be 42 bytes long");
        let (&[version, kind], rest) = bytes.split_first_chunk().ok_or(wrong_length)?;
        let (time, rest) = rest.split_first_chunk().ok_or(wrong_length)?;
        let commitment = rest.try_into().map_err(|_| wrong_length)?;
        if version != VERSION {
            return Err(Format::Leaf.broken("its version must be 1"));
        }
        Ok(Leaf { kind, time_ms: u64::from_be_bytes(*time), commitment: Hash(commitment) })
    }

    /// The hash of the leaf in the tree.
    pub fn hash(&self) -> Hash {
        leaf_hash(&self.encode())
    }
}

/// 32 random bytes that hide one part of an entry behind its hash, or an answer behind its digest.
///
/// Who has the salt can test guesses of the content, hence no Display and a Debug without content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 32]);

impl Salt {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Lowercase hexadecimal: 64 characters.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads 64 lowercase hexadecimal digits.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] for anything that [`Salt::to_hex`] does not print.
    pub fn from_hex(encoded: &str) -> Result<Self, AuditError> {
        text::lower_hex_array(encoded)
            .map(Salt)
            .ok_or(Format::Salt.broken("it must be 64 lowercase hexadecimal digits"))
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_leaf_is_laid_out_as_written_down() {
        let leaf = Leaf { kind: 7, time_ms: 0x0102_0304_0506_0708, commitment: Hash([0xab; 32]) };
        let bytes = leaf.encode();
        assert_eq!(hex::encode(bytes), format!("01070102030405060708{}", "ab".repeat(32)));
        assert_eq!(leaf.hash(), leaf_hash(&bytes));
        assert_eq!(Leaf::decode(&bytes).unwrap(), leaf);
    }

    #[test]
    fn another_version_or_length_is_refused() {
        let bytes = Leaf { kind: 1, time_ms: 2, commitment: Hash([3; 32]) }.encode();
        for len in 0..bytes.len() {
            assert!(Leaf::decode(&bytes[..len]).is_err());
        }
        assert!(Leaf::decode(&[&bytes[..], &[0]].concat()).is_err());
        for version in [0, 2, 255] {
            let mut other = bytes;
            other[0] = version;
            assert!(Leaf::decode(&other).is_err());
        }
    }

    #[test]
    fn a_salt_does_not_appear_in_debug_output() {
        let salt = Salt([0xcd; 32]);
        assert_eq!(format!("{salt:?}"), "Salt(redacted)");
        assert_eq!(Salt::from_hex(&salt.to_hex()).unwrap(), salt);
        assert!(Salt::from_hex(&salt.to_hex().to_uppercase()).is_err());
        assert!(Salt::from_hex(&salt.to_hex()[1..]).is_err());
    }

    proptest! {
        #[test]
        fn a_leaf_parser_never_panics_and_prints_back(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..60).boxed()
                .prop_union(proptest::collection::vec(any::<u8>(), 42..=42).boxed()),
            valid_version: bool,
        ) {
            if let (true, Some(version)) = (valid_version, bytes.first_mut()) {
                *version = VERSION;
            }
            if let Ok(leaf) = Leaf::decode(&bytes) {
                prop_assert_eq!(leaf.encode().to_vec(), bytes);
            }
        }
    }
}
