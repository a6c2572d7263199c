use proptest::prelude::*;

use super::*;
use crate::proof::inclusion_proof;
use crate::testing::{MemoryTree, naive_root, numbered_leaves};
use crate::verify::verify_inclusion;

fn frontier_of(leaves: &[Hash]) -> Frontier {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.append(*leaf);
    }
    frontier
}

/// Checks a batch against the tree read from its nodes and against appending leaf by leaf.
fn check(tree: &MemoryTree, before: usize, batch: usize) {
    let after = before + batch;
    let leaves = &tree.0[before..after];
    let frontier = frontier_of(&tree.0[..before]);
    let proofs = BatchProofs::new(&frontier, leaves);

    let mut appended = frontier;
    let mut closed = Vec::new();
    for leaf in leaves {
        appended.append_with(*leaf, |level, index, hash| closed.push((level, index, hash)));
    }
    closed.sort_unstable();
    assert_eq!(proofs.after(), &appended, "{before} + {batch}");
    assert_eq!(proofs.root(), appended.root(), "{before} + {batch}");
    assert_eq!(proofs.closed().collect::<Vec<_>>(), closed, "{before} + {batch}");

    for position in 0..batch {
        let expected = inclusion_proof(tree, (before + position) as u64, after as u64).unwrap();
        assert_eq!(proofs.inclusion(position), Some(expected), "{position} of {before} + {batch}");
    }
    assert_eq!(proofs.inclusion(batch), None);
    assert_eq!(proofs.inclusion(usize::MAX), None);
}

#[test]
fn batch_proofs_are_those_read_from_the_tree_for_every_small_pair() {
    let tree = MemoryTree(numbered_leaves(72));
    for before in 0..=36 {
        for batch in 0..=36 {
            check(&tree, before, batch);
        }
    }
}

#[test]
fn batch_proofs_are_those_read_from_the_tree_around_powers_of_two() {
    let tree = MemoryTree(numbered_leaves(520));
    let around = |power: usize| [power - 1, power, power + 1];
    for before in [0].into_iter().chain([2, 4, 8, 64, 128, 256].into_iter().flat_map(around)) {
        for batch in [2, 8, 64].into_iter().flat_map(around) {
            check(&tree, before, batch);
        }
    }
}

#[test]
fn the_first_batch_has_the_root_of_its_leaves() {
    let leaves = numbered_leaves(5000);
    let proofs = BatchProofs::new(&Frontier::new(), &leaves);
    let root = naive_root(&leaves);
    assert_eq!(proofs.root(), root);
    for (position, leaf) in leaves.iter().enumerate() {
        let proof = proofs.inclusion(position).unwrap();
        verify_inclusion(leaf, position as u64, 5000, &proof, &root).unwrap();
    }
}

#[test]
fn an_empty_batch_changes_nothing() {
    for size in [0, 1, 7, 8] {
        let frontier = frontier_of(&numbered_leaves(size));
        let proofs = BatchProofs::new(&frontier, &[]);
        assert_eq!(proofs.after(), &frontier);
        assert_eq!(proofs.root(), frontier.root());
        assert_eq!(proofs.closed().count(), 0);
        assert_eq!(proofs.inclusion(0), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn batch_proofs_on_large_trees_verify(before in 0..1u64 << 40, batch in 1..600usize, near_power in 0..41u32) {
        for before in [before, 1 << near_power, (1 << near_power) - 1, (1 << near_power) - batch as u64 % (1 << near_power)] {
            // The nodes of the old tree are opaque to the batch: any will do.
            let nodes = numbered_leaves(before.count_ones() as usize);
            let frontier = Frontier::from_parts(before, nodes).unwrap();
            let leaves = numbered_leaves(batch);
            let proofs = BatchProofs::new(&frontier, &leaves);
            let mut appended = frontier;
            for leaf in &leaves {
                appended.append(*leaf);
            }
            prop_assert_eq!(proofs.after(), &appended);
            let (size, root) = (appended.size(), appended.root());
            prop_assert_eq!(proofs.root(), root);
            for (position, leaf) in leaves.iter().enumerate() {
                let proof = proofs.inclusion(position).unwrap();
                prop_assert!(verify_inclusion(leaf, before + position as u64, size, &proof, &root).is_ok());
            }
        }
    }
}
