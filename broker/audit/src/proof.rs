//! Inclusion and consistency proofs of RFC 6962 (sections 2.1.1 and 2.1.2), read from the stored nodes of a tree.
//!
//! Only complete subtrees are ever asked for, since only they never change. What a proof needs of an incomplete right
//! edge is hashed here.

use crate::MAX_TREE_SIZE;
use crate::frontier::{Frontier, fold_right};
use crate::hash::Hash;

/// The complete subtrees of a tree.
pub trait NodeReader {
    /// Why a node could not be read.
    type Error;

    /// The hash of the subtree of the leaves `index << level .. (index + 1) << level`.
    ///
    /// It is asked only for subtrees that are complete at the size that the proof is for.
    ///
    /// # Errors
    /// The reader's own; the proof is given up.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// Why a proof was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError<E> {
    /// The index is not in the tree, the sizes are in the wrong order, or a size is above [`MAX_TREE_SIZE`].
    #[error("the index or size is outside the tree")]
    OutsideTree,
    /// A node could not be read.
    #[error("a node of the tree could not be read: {0}")]
    Read(#[source] E),
}

/// The proof that the leaf `index` is in the tree of the first `size` leaves: siblings from the leaf upwards.
///
/// # Errors
/// [`ProofError::OutsideTree`] unless `index < size`; [`ProofError::Read`].
pub fn inclusion_proof<R: NodeReader>(reader: &R, index: u64, size: u64) -> Result<Vec<Hash>, ProofError<R::Error>> {
    if size > MAX_TREE_SIZE || index >= size {
        return Err(ProofError::OutsideTree);
    }
    let mut proof = Vec::with_capacity(levels(size));
    push_path(reader, 0, index, size, &mut proof).map_err(ProofError::Read)?;
    Ok(proof)
}

/// The proof that the tree of the first `new` leaves begins with the tree of the first `old` leaves.
///
/// It is empty when `old` is zero or equals `new`.
///
/// # Errors
/// [`ProofError::OutsideTree`] unless `old <= new`; [`ProofError::Read`].
pub fn consistency_proof<R: NodeReader>(reader: &R, old: u64, new: u64) -> Result<Vec<Hash>, ProofError<R::Error>> {
    if new > MAX_TREE_SIZE || old > new {
        return Err(ProofError::OutsideTree);
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    // The proof leads from the last complete subtree of the old tree up to the new root; it names that subtree first,
    // unless the subtree is the whole old tree, whose root the verifier has.
    let level = old.trailing_zeros() as u8;
    let index = (old - 1) >> level;
    let mut proof = Vec::with_capacity(levels(new) + 1);
    if index != 0 {
        proof.push(reader.node(level, index).map_err(ProofError::Read)?);
    }
    push_path(reader, level, index, new, &mut proof).map_err(ProofError::Read)?;
    Ok(proof)
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// [`ProofError::OutsideTree`] if the size is above [`MAX_TREE_SIZE`]; [`ProofError::Read`].
pub fn root_at<R: NodeReader>(reader: &R, size: u64) -> Result<Hash, ProofError<R::Error>> {
    if size > MAX_TREE_SIZE {
        return Err(ProofError::OutsideTree);
    }
    range_root(reader, 0, size).map_err(ProofError::Read)
}

/// The frontier of the tree of the first `size` leaves.
///
/// # Errors
/// [`ProofError::OutsideTree`] if the size is above [`MAX_TREE_SIZE`]; [`ProofError::Read`].
pub fn frontier_at<R: NodeReader>(reader: &R, size: u64) -> Result<Frontier, ProofError<R::Error>> {
    if size > MAX_TREE_SIZE {
        return Err(ProofError::OutsideTree);
    }
    let nodes = range_subtrees(reader, 0, size).map_err(ProofError::Read)?;
    Ok(Frontier::of_nodes(size, nodes))
}

/// Pushes the siblings on the way from the node (`level`, `index`) to the root of the tree of `size` leaves.
fn push_path<R: NodeReader>(
    reader: &R,
    level: u8,
    index: u64,
    size: u64,
    proof: &mut Vec<Hash>,
) -> Result<(), R::Error> {
    let (mut level, mut index) = (level, index);
    while (size - 1) >> level > 0 {
        let sibling = index ^ 1;
        if sibling < size >> level {
            proof.push(reader.node(level, sibling)?);
        } else if sibling << level < size {
            proof.push(range_root(reader, sibling << level, size)?);
        }
        // Otherwise nothing is to the right: the node stands for its parent too.
        level += 1;
        index >>= 1;
    }
    Ok(())
}

/// The root over the leaves `from..to`, where `from` is a multiple of a power of two that is at least `to - from`.
fn range_root<R: NodeReader>(reader: &R, from: u64, to: u64) -> Result<Hash, R::Error> {
    Ok(fold_right(&range_subtrees(reader, from, to)?))
}

/// The largest complete subtrees that such leaves make, from the left.
fn range_subtrees<R: NodeReader>(reader: &R, from: u64, to: u64) -> Result<Vec<Hash>, R::Error> {
    let mut subtrees = Vec::with_capacity(64);
    let mut start = from;
    while start < to {
        let level = (to - start).ilog2() as u8;
        subtrees.push(reader.node(level, start >> level)?);
        start += 1 << level;
    }
    Ok(subtrees)
}

/// Levels below the root of a tree that is not empty: the most siblings that a path has.
fn levels(size: u64) -> usize {
    (u64::BITS - (size - 1).leading_zeros()) as usize
}

#[cfg(test)]
mod tests;
