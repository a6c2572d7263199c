//! The right edge of a tree: enough to append to it and to know its root, in O(log n) memory.

use crate::MAX_TREE_SIZE;
use crate::error::{AuditError, Format};
use crate::hash::{EMPTY_ROOT, Hash, node_hash};

/// The complete subtrees that a tree of some size decomposes into, one per set bit of the size, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    // INVARIANT: nodes.len() == size.count_ones().
    size: u64,
    nodes: Vec<Hash>,
}

impl Frontier {
    /// The frontier of the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// A frontier that was stored: the number of leaves and the [`Frontier::nodes`].
    ///
    /// # Errors
    /// [`AuditError::Malformed`] if there is not one node per set bit of the size, or the size is above
    /// [`MAX_TREE_SIZE`].
    pub fn from_parts(size: u64, nodes: Vec<Hash>) -> Result<Self, AuditError> {
        if size > MAX_TREE_SIZE {
            return Err(Format::Frontier.broken("its size must be below 2^63"));
        }
        if nodes.len() != size.count_ones() as usize {
            return Err(Format::Frontier.broken("it must have one node per set bit of its size"));
        }
        Ok(Self { size, nodes })
    }

    /// A frontier that this crate computed, where the caller keeps the invariant.
    pub(crate) fn of_nodes(size: u64, nodes: Vec<Hash>) -> Self {
        debug_assert_eq!(nodes.len(), size.count_ones() as usize);
        Self { size, nodes }
    }

    /// Number of leaves of the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// One node per set bit of the size, largest subtree first.
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// Appends one leaf.
    pub fn append(&mut self, leaf_hash: Hash) {
        self.append_with(leaf_hash, |_level, _index, _hash| {});
    }

    /// Appends one leaf and reports the complete subtrees that end with it.
    ///
    /// Calls `closed(level, index, hash)` for each, level 0 first; the subtree holds the leaves
    /// `index << level .. (index + 1) << level`.
    pub fn append_with(&mut self, leaf_hash: Hash, mut closed: impl FnMut(u8, u64, Hash)) {
        let mut hash = leaf_hash;
        closed(0, self.size, hash);
        // Each trailing set bit of the size is a complete left sibling that waits for this subtree.
        let mut level = 0;
        while (self.size >> level) & 1 == 1 {
            let Some(left) = self.nodes.pop() else { break };
            hash = node_hash(&left, &hash);
            level += 1;
            closed(level, self.size >> level, hash);
        }
        self.nodes.push(hash);
        self.size += 1;
    }

    /// Appends a complete subtree, as [`subtrees`] gives it: of 2^`level` leaves, where as many leaves or a multiple of that are
    /// there already. Reports the larger complete subtrees that end with it, as [`Frontier::append_with`] does.
    pub fn append_subtree(&mut self, level: u8, root: Hash, mut closed: impl FnMut(u8, u64, Hash)) {
        debug_assert_eq!(self.size % (1 << level), 0);
        let (mut hash, mut at) = (root, level);
        while (self.size >> at) & 1 == 1 {
            let Some(left) = self.nodes.pop() else { break };
            hash = node_hash(&left, &hash);
            at += 1;
            closed(at, self.size >> at, hash);
        }
        self.nodes.push(hash);
        self.size += 1 << level;
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        fold_right(&self.nodes)
    }
}

/// The complete subtrees that `leaves`, from index `first` on, fall into, from left to right: level and root of each. Leaves can
/// so be hashed together before those in front of them are known. Reports the complete subtrees on the way, larger than a leaf, as
/// [`Frontier::append_with`] does.
pub fn subtrees(
    first: u64,
    leaves: impl IntoIterator<Item = Hash>,
    mut closed: impl FnMut(u8, u64, Hash),
) -> Vec<(u8, Hash)> {
    let mut found: Vec<(u8, Hash)> = Vec::new();
    for (index, leaf) in (first..).zip(leaves) {
        let (mut level, mut hash) = (0, leaf);
        while (index >> level) & 1 == 1
            && let Some((_, left)) = found.pop_if(|(of, _)| *of == level)
        {
            hash = node_hash(&left, &hash);
            level += 1;
            closed(level, index >> level, hash);
        }
        found.push((level, hash));
    }
    found
}

/// The root over complete subtrees that shrink from left to right; [`EMPTY_ROOT`] over none.
pub(crate) fn fold_right(subtrees: &[Hash]) -> Hash {
    let mut from_right = subtrees.iter().rev();
    let Some(smallest) = from_right.next() else {
        return EMPTY_ROOT;
    };
    let mut root = *smallest;
    for left in from_right {
        root = node_hash(left, &root);
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{naive_root, numbered_leaves};

    #[test]
    fn the_root_is_that_of_the_whole_tree_at_every_size() {
        let leaves = numbered_leaves(300);
        let mut frontier = Frontier::new();
        assert_eq!(frontier.root(), EMPTY_ROOT);
        for size in 1..=leaves.len() {
            frontier.append(leaves[size - 1]);
            assert_eq!(frontier.size(), size as u64);
            assert_eq!(frontier.root(), naive_root(&leaves[..size]), "{size}");
        }
    }

    #[test]
    fn leaves_that_are_hashed_together_lead_to_the_same_tree() {
        let leaves = numbered_leaves(200);
        for first in 0..70 {
            for end in first..leaves.len() {
                let mut frontier = Frontier::new();
                leaves[..first].iter().for_each(|leaf| frontier.append(*leaf));
                let mut expected = Vec::new();
                let mut one_by_one = frontier.clone();
                for leaf in &leaves[first..end] {
                    one_by_one.append_with(*leaf, |level, index, hash| expected.push((level, index, hash)));
                }
                let mut closed = Vec::new();
                let added = leaves[first..end].iter().copied();
                for (level, hash) in
                    subtrees(first as u64, added, |level, index, hash| closed.push((level, index, hash)))
                {
                    frontier.append_subtree(level, hash, |level, index, hash| closed.push((level, index, hash)));
                }
                assert_eq!((frontier.size(), frontier.root()), (end as u64, naive_root(&leaves[..end])));
                expected.retain(|(level, ..)| *level > 0);
                expected.sort_unstable();
                closed.sort_unstable();
                assert_eq!(closed, expected, "{first} to {end}");
            }
        }
    }

    #[test]
    fn appending_reports_each_complete_subtree_once_with_its_hash() {
        let leaves = numbered_leaves(130);
        let mut frontier = Frontier::new();
        let mut count = 0;
        for leaf in &leaves {
            let before = frontier.size();
            let mut next_level = 0;
            frontier.append_with(*leaf, |level, index, hash| {
                assert_eq!(level, next_level);
                next_level += 1;
                count += 1;
                let (from, to) = (index << level, (index + 1) << level);
                assert_eq!(to, before + 1);
                assert_eq!(hash, naive_root(&leaves[from as usize..to as usize]));
            });
            assert_eq!(u32::from(next_level), (before + 1).trailing_zeros() + 1);
        }
        assert_eq!(count, (0..8).map(|level| 130 >> level).sum::<u64>());
    }

    #[test]
    fn a_stored_frontier_goes_on_as_if_it_had_never_stopped() {
        let leaves = numbered_leaves(70);
        let mut straight = Frontier::new();
        let mut stored = Frontier::new();
        for leaf in &leaves {
            straight.append(*leaf);
            stored = Frontier::from_parts(stored.size(), stored.nodes().to_vec()).unwrap();
            stored.append(*leaf);
            assert_eq!(stored, straight);
        }
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let node = EMPTY_ROOT;
        assert!(Frontier::from_parts(0, vec![node]).is_err());
        assert!(Frontier::from_parts(3, vec![node]).is_err());
        assert!(Frontier::from_parts(3, vec![node; 2]).is_ok());
        assert!(Frontier::from_parts(MAX_TREE_SIZE, vec![node; 63]).is_ok());
        assert!(Frontier::from_parts(MAX_TREE_SIZE + 1, vec![node]).is_err());
    }

    #[test]
    fn the_largest_tree_can_still_be_appended_to() {
        let mut frontier = Frontier::from_parts(MAX_TREE_SIZE, vec![EMPTY_ROOT; 63]).unwrap();
        frontier.append(EMPTY_ROOT);
        assert_eq!(frontier.nodes().len(), 1);
    }
}
