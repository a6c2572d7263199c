//! Inclusion proofs for the leaves of one batch at the size after the batch, from the frontier before it and the
//! leaf hashes alone: no storage is read.
//!
//! The interior nodes that the batch closes are hashed once; each proof is then one copy per level.

use crate::frontier::Frontier;
use crate::hash::{EMPTY_ROOT, Hash, node_hash};

/// The nodes that a batch adds to a tree, and the proofs that they make.
#[derive(Debug, Clone)]
pub struct BatchProofs {
    before_size: u64,
    after: Frontier,
    root: Hash,
    /// From the leaves up, as far as the size after the batch has bits.
    levels: Vec<Level>,
}

/// One level of the tree at the size after the batch, as far as the batch's leaves see it.
#[derive(Debug, Clone)]
struct Level {
    /// Index of the first of `closed`.
    first: u64,
    /// The complete subtrees that the batch closed, in order.
    closed: Vec<Hash>,
    /// The complete subtree at `first - 1`, if it is a left sibling that waited for the batch.
    older: Option<Hash>,
    /// The root over the leaves after the last complete subtree, if there are any.
    edge: Option<Hash>,
}

impl BatchProofs {
    /// Hashes what the batch adds to the tree.
    pub fn new(before: &Frontier, leaf_hashes: &[Hash]) -> Self {
        let before_size = before.size();
        let after_size = before_size + leaf_hashes.len() as u64;
        let mut waiting = before.nodes().iter().rev().copied();
        let mut levels = Vec::with_capacity(u64::BITS as usize);
        let mut after_nodes = Vec::with_capacity(u64::BITS as usize);
        let mut closed = leaf_hashes.to_vec();
        let mut edge = None;
        for level in 0..u64::BITS - after_size.leading_zeros() {
            let older = if (before_size >> level) & 1 == 1 { waiting.next() } else { None };
            let (parents, unpaired) = pair_up(older, &closed);
            levels.push(Level { first: before_size >> level, closed, older, edge });
            if let Some(unpaired) = unpaired {
                after_nodes.push(unpaired);
                edge = Some(edge.map_or(unpaired, |edge| node_hash(&unpaired, &edge)));
            }
            closed = parents;
        }
        after_nodes.reverse();
        let after = Frontier::of_nodes(after_size, after_nodes);
        // Above the highest subtree the edge is the whole tree.
        Self { before_size, after, root: edge.unwrap_or(EMPTY_ROOT), levels }
    }

    /// The frontier after the batch.
    pub fn after(&self) -> &Frontier {
        &self.after
    }

    /// The root after the batch.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The inclusion proof of the leaf at this position in the batch, at the size after the batch; `None` if the
    /// batch has no such leaf.
    pub fn inclusion(&self, position_in_batch: usize) -> Option<Vec<Hash>> {
        let in_batch = position_in_batch < self.levels.first()?.closed.len();
        if !in_batch {
            return None;
        }
        let mut index = self.before_size + position_in_batch as u64;
        let mut proof = Vec::with_capacity(self.levels.len());
        for level in &self.levels {
            if let Some(sibling) = level.node(index ^ 1) {
                proof.push(sibling);
            }
            index >>= 1;
        }
        Some(proof)
    }

    /// All complete subtrees that the batch closed, as (level, index, hash): the leaves first, then level by level.
    pub fn closed(&self) -> impl Iterator<Item = (u8, u64, Hash)> + '_ {
        (0u8..).zip(&self.levels).flat_map(|(number, level)| {
            (level.first..).zip(&level.closed).map(move |(index, hash)| (number, index, *hash))
        })
    }
}

impl Level {
    /// The node at this index, be it complete or the incomplete right edge; `None` right of the edge.
    ///
    /// A sibling on the path of a leaf of the batch is never left of `older`: its parent holds that leaf.
    fn node(&self, index: u64) -> Option<Hash> {
        let Some(position) = index.checked_sub(self.first) else {
            return self.older;
        };
        let position = usize::try_from(position).ok()?;
        if position == self.closed.len() { self.edge } else { self.closed.get(position).copied() }
    }
}

/// Joins the complete subtrees of one level in pairs, the waiting left sibling before them; gives the parents and the
/// subtree that is left without a right sibling.
fn pair_up(older: Option<Hash>, closed: &[Hash]) -> (Vec<Hash>, Option<Hash>) {
    let mut parents = Vec::with_capacity(closed.len() / 2 + 1);
    let mut rest = closed;
    if let Some(left) = older {
        let Some((right, after)) = closed.split_first() else {
            return (parents, Some(left));
        };
        parents.push(node_hash(&left, right));
        rest = after;
    }
    let (pairs, unpaired) = rest.as_chunks::<2>();
    parents.extend(pairs.iter().map(|[left, right]| node_hash(left, right)));
    (parents, unpaired.first().copied())
}

#[cfg(test)]
mod tests;
