//! The audit log of Unefois, without its storage: leaves, Merkle tree (RFC 6962), tiles, signed checkpoints, proofs
//! and receipts in the C2SP formats, and the verifier that needs no network.
//!
//! The crate is pure. It does no I/O, knows no clock and makes no randomness: salts, times and signatures are passed
//! in. It holds no private key either; a signer elsewhere signs [`Checkpoint::note_text`]. The byte formats are
//! written down in `FORMAT.md`.

pub mod add_checkpoint;
pub mod answer;
pub mod batch;
pub mod bundle;
pub mod checkpoint;
pub mod commitment;
pub mod cosignature;
pub mod error;
pub mod frontier;
pub mod hash;
mod json;
pub mod leaf;
pub mod note;
pub mod policy;
pub mod proof;
pub mod receipt;
mod text;
pub mod tile;
pub mod tlog_proof;
pub mod verify;
mod weak_key;

#[cfg(test)]
mod format_doc;
#[cfg(test)]
mod golden_logs;
#[cfg(test)]
mod second_opinion;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod vectors;

pub use add_checkpoint::AddCheckpoint;
pub use answer::{answer_digest, canonical_json};
pub use batch::BatchProofs;
pub use bundle::{decode_bundle, encode_bundle};
pub use checkpoint::Checkpoint;
pub use commitment::{Link, Parts, links_part, record_part, retention_part};
pub use cosignature::{Cosignature, WitnessKey};
pub use error::{AuditError, Format};
pub use frontier::{Frontier, subtrees};
pub use hash::{EMPTY_ROOT, Hash, empty_root, leaf_hash, node_hash};
pub use leaf::{Leaf, Salt};
pub use note::{NoteSignature, SignedNote, VerifierKey, key_id, signature_line};
pub use policy::{Policy, PolicyError, Verdict};
pub use proof::{NodeReader, ProofError, consistency_proof, frontier_at, inclusion_proof, root_at};
pub use receipt::{Receipt, VerifiedReceipt};
pub use tile::{TileHashes, TileKind, TileNodes, TilePath, TileReadError, decode_tile, encode_tile};
pub use tlog_proof::TlogProof;
pub use verify::{verify_consistency, verify_inclusion};
pub use weak_key::is_weak_key;

/// Largest tree size that any function here accepts: 2^63 - 1, as in the other implementations of the C2SP formats,
/// whose sizes are signed 64-bit integers. It also keeps all index arithmetic clear of overflow.
pub const MAX_TREE_SIZE: u64 = i64::MAX as u64;
