//! SHA-256 as RFC 6962 uses it: leaves and nodes are hashed under different first bytes, so that no leaf can pass for
//! a node (section 2.1).

use std::fmt;

use ring::digest;

use crate::error::{AuditError, Format};
use crate::text;

/// A SHA-256 value: a node of the tree, a commitment or a digest. Printed in lowercase hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

/// The root of the tree without leaves, SHA-256 of nothing.
pub const EMPTY_ROOT: Hash = Hash([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// [`EMPTY_ROOT`].
pub const fn empty_root() -> Hash {
    EMPTY_ROOT
}

/// The hash of a leaf: SHA-256(0x00 ‖ leaf).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    digest_parts(&[&[0x00], leaf])
}

/// The hash of an interior node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // One buffer and one call: twice as fast as three updates of a context.
    let mut block = [0x01; 65];
    let (head, right_half) = block.split_at_mut(33);
    let (_prefix, left_half) = head.split_at_mut(1);
    left_half.copy_from_slice(&left.0);
    right_half.copy_from_slice(&right.0);
    Hash::from_digest(&digest::digest(&digest::SHA256, &block))
}

/// SHA-256 of the concatenated parts.
pub(crate) fn digest_parts(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    Hash::from_digest(&context.finish())
}

impl Hash {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Standard base64 with padding: 44 characters.
    pub fn to_base64(&self) -> String {
        let mut out = String::with_capacity(text::HASH_BASE64_LEN);
        text::push_base64(&mut out, &self.0);
        out
    }

    /// Reads canonical standard base64 of 32 bytes.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] for anything that [`Hash::to_base64`] does not print.
    pub fn from_base64(encoded: &str) -> Result<Self, AuditError> {
        text::base64_array(encoded).map(Hash).ok_or(Format::Hash.broken("it must be canonical base64 of 32 bytes"))
    }

    /// Lowercase hexadecimal: 64 characters.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads 64 lowercase hexadecimal digits.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] for anything that [`Hash::to_hex`] does not print.
    pub fn from_hex(encoded: &str) -> Result<Self, AuditError> {
        text::lower_hex_array(encoded)
            .map(Hash)
            .ok_or(Format::Hash.broken("it must be 64 lowercase hexadecimal digits"))
    }

    fn from_digest(digest: &digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Hash(bytes)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hashes_are_those_of_rfc_6962() {
        assert_eq!(EMPTY_ROOT, digest_parts(&[]));
        // The empty leaf and the node of the published test vectors of Certificate Transparency.
        assert_eq!(leaf_hash(b"").to_hex(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        let left = leaf_hash(b"");
        let right = leaf_hash(&[0x00]);
        assert_eq!(right.to_hex(), "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7");
        assert_eq!(
            node_hash(&left, &right).to_hex(),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
    }

    #[test]
    fn a_leaf_never_hashes_like_a_node() {
        let (left, right) = (leaf_hash(b"l"), leaf_hash(b"r"));
        let joined = [left.0, right.0].concat();
        assert_ne!(leaf_hash(&joined), node_hash(&left, &right));
    }

    #[test]
    fn only_the_canonical_text_of_a_hash_is_read() {
        let hash = leaf_hash(b"x");
        assert_eq!(Hash::from_base64(&hash.to_base64()).unwrap(), hash);
        assert_eq!(Hash::from_hex(&hash.to_hex()).unwrap(), hash);
        assert_eq!(format!("{hash}"), hash.to_hex());
        assert!(Hash::from_hex(&hash.to_hex().to_uppercase()).is_err());
        // 'B' would leave bits set after the last byte.
        assert!(Hash::from_base64(&format!("{}A=", "A".repeat(42))).is_ok());
        assert!(Hash::from_base64(&format!("{}B=", "A".repeat(42))).is_err());
        assert!(Hash::from_base64(&"A".repeat(43)).is_err());
        assert!(Hash::from_base64("").is_err());
    }

    proptest! {
        #[test]
        fn a_hash_parser_never_panics_and_prints_back(input in "\\PC*|[A-Za-z0-9+/]{42}[A-Za-z0-9+/]=|[0-9a-fA-F]{64}") {
            if let Ok(hash) = Hash::from_base64(&input) {
                prop_assert_eq!(hash.to_base64(), input.clone());
            }
            if let Ok(hash) = Hash::from_hex(&input) {
                prop_assert_eq!(hash.to_hex(), input);
            }
        }
    }
}
