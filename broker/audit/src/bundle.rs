//! Entry bundles of tlog-tiles: up to 256 leaves in one file, each behind its length in two big-endian bytes.

use crate::error::{AuditError, Format};
use crate::leaf::Leaf;
use crate::tile::TILE_WIDTH;

const LENGTH_PREFIX: [u8; 2] = (Leaf::LEN as u16).to_be_bytes();
const ENTRY_LEN: usize = LENGTH_PREFIX.len() + Leaf::LEN;

/// The bundle of these leaves, in order. A bundle that is served has 1 to 256 of them.
pub fn encode_bundle(leaves: &[Leaf]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(leaves.len() * ENTRY_LEN);
    for leaf in leaves {
        bytes.extend_from_slice(&LENGTH_PREFIX);
        bytes.extend_from_slice(&leaf.encode());
    }
    bytes
}

/// Reads a bundle.
///
/// # Errors
/// [`AuditError::Malformed`] or [`AuditError::TooLarge`] unless it holds 1 to 256 whole leaves and nothing else.
pub fn decode_bundle(bytes: &[u8]) -> Result<Vec<Leaf>, AuditError> {
    Format::EntryBundle.limit(bytes.len(), TILE_WIDTH * ENTRY_LEN)?;
    if bytes.is_empty() {
        return Err(Format::EntryBundle.broken("it must hold at least one entry"));
    }
    let mut leaves = Vec::with_capacity(bytes.len() / ENTRY_LEN);
    for entry in bytes.chunks(ENTRY_LEN) {
        let leaf = entry
            .strip_prefix(&LENGTH_PREFIX)
            .ok_or(Format::EntryBundle.broken("each entry must be announced as 42 bytes long"))?;
        leaves.push(Leaf::decode(leaf)?);
    }
    Ok(leaves)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hash::Hash;

    fn leaves(count: u8) -> Vec<Leaf> {
        (0..count).map(|n| Leaf { kind: n, time_ms: u64::from(n), commitment: Hash([n; 32]) }).collect()
    }

    #[test]
    fn a_bundle_gives_back_its_leaves() {
        let bytes = encode_bundle(&leaves(3));
        assert_eq!(bytes.len(), 3 * 44);
        assert_eq!(bytes[..3], [0, 42, 1]);
        assert_eq!(decode_bundle(&bytes).unwrap(), leaves(3));
    }

    #[test]
    fn a_bundle_that_is_cut_empty_or_too_long_is_refused() {
        let bytes = encode_bundle(&leaves(3));
        for len in (0..bytes.len()).filter(|len| len % 44 != 0 || *len == 0) {
            assert!(decode_bundle(&bytes[..len]).is_err(), "{len}");
        }
        let full = encode_bundle(&vec![leaves(1)[0]; 256]);
        assert_eq!(decode_bundle(&full).unwrap().len(), 256);
        let over = encode_bundle(&vec![leaves(1)[0]; 257]);
        assert!(matches!(decode_bundle(&over), Err(AuditError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn a_bundle_parser_never_panics_and_prints_back(
            entries in proptest::collection::vec(any::<[u8; 32]>(), 0..4),
            cut in 0..60usize,
            byte: u8,
            position in 0..200usize,
        ) {
            let leaves: Vec<Leaf> =
                entries.iter().map(|bytes| Leaf { kind: 1, time_ms: 2, commitment: Hash(*bytes) }).collect();
            let mut bytes = encode_bundle(&leaves);
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Some(target) = bytes.get_mut(position) {
                *target = byte;
            }
            if let Ok(decoded) = decode_bundle(&bytes) {
                prop_assert_eq!(encode_bundle(&decoded), bytes);
            }
        }
    }
}
