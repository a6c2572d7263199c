//! Verification of inclusion and consistency proofs (RFC 9162, sections 2.1.3.2 and 2.1.4.2), without any storage.

use crate::MAX_TREE_SIZE;
use crate::error::AuditError;
use crate::hash::{EMPTY_ROOT, Hash, node_hash};

/// Checks that the leaf is at `index` in the tree of `size` leaves that has this root.
///
/// # Errors
/// [`AuditError::OutsideTree`] unless `index < size`; [`AuditError::NotIncluded`] if the proof is of another length or
/// leads to another root.
pub fn verify_inclusion(
    leaf_hash: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), AuditError> {
    if size > MAX_TREE_SIZE || index >= size {
        return Err(AuditError::OutsideTree);
    }
    let shape = PathShape::new(index, size);
    if proof.len() != shape.inner + shape.border {
        return Err(AuditError::NotIncluded);
    }
    if climb(*leaf_hash, index, proof, shape.inner) != *root {
        return Err(AuditError::NotIncluded);
    }
    Ok(())
}

/// Checks that the tree of `new` leaves begins with the tree of `old` leaves.
///
/// Every tree extends the empty one: with `old` zero the proof must be empty and `old_root` the empty root, and
/// nothing is said about `new_root` (as tlog-witness has it).
///
/// # Errors
/// [`AuditError::OutsideTree`] unless `old <= new`; [`AuditError::NotConsistent`] if the proof is of another length or
/// leads to other roots.
pub fn verify_consistency(
    old: u64,
    new: u64,
    proof: &[Hash],
    old_root: &Hash,
    new_root: &Hash,
) -> Result<(), AuditError> {
    if new > MAX_TREE_SIZE || old > new {
        return Err(AuditError::OutsideTree);
    }
    if consistency_holds(old, new, proof, old_root, new_root) { Ok(()) } else { Err(AuditError::NotConsistent) }
}

fn consistency_holds(old: u64, new: u64, proof: &[Hash], old_root: &Hash, new_root: &Hash) -> bool {
    if old == 0 && *old_root != EMPTY_ROOT {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty();
    }
    // Both roots are reached from the last complete subtree of the old tree. The proof names it, unless it is the
    // whole old tree.
    let level = old.trailing_zeros();
    let (seed, path) = if old.is_power_of_two() {
        (*old_root, proof)
    } else {
        let Some((seed, path)) = proof.split_first() else {
            return false;
        };
        (*seed, path)
    };
    let index = (old - 1) >> level;
    let shape = PathShape::of_node(level, index, new);
    if path.len() != shape.inner + shape.border {
        return false;
    }
    climb_left_only(seed, index, path, shape.inner) == *old_root && climb(seed, index, path, shape.inner) == *new_root
}

/// How many siblings a path has below and above the point where it joins the right edge of the tree.
struct PathShape {
    inner: usize,
    border: usize,
}

impl PathShape {
    fn new(index: u64, size: u64) -> Self {
        Self::of_node(0, index, size)
    }

    fn of_node(level: u32, index: u64, size: u64) -> Self {
        let last = (size - 1) >> level;
        let inner = u64::BITS - (index ^ last).leading_zeros();
        // INVARIANT: sizes are below 2^63, so `inner` is at most 63 and the shift defined.
        let border = (index >> inner).count_ones();
        Self { inner: inner as usize, border: border as usize }
    }
}

/// The root that a path leads to. Above the first `inner` siblings all are to the left.
fn climb(seed: Hash, index: u64, path: &[Hash], inner: usize) -> Hash {
    let mut hash = seed;
    for (level, sibling) in path.iter().enumerate() {
        let from_left = level >= inner || (index >> level) & 1 == 1;
        hash = if from_left { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) };
    }
    hash
}

/// The same with the siblings to the left alone: the root of the tree that ends with the seed.
fn climb_left_only(seed: Hash, index: u64, path: &[Hash], inner: usize) -> Hash {
    let mut hash = seed;
    for (level, sibling) in path.iter().enumerate() {
        if level >= inner || (index >> level) & 1 == 1 {
            hash = node_hash(sibling, &hash);
        }
    }
    hash
}
