use proptest::prelude::*;

use super::*;
use crate::error::AuditError;
use crate::hash::{EMPTY_ROOT, node_hash};
use crate::testing::{MemoryTree, naive_consistency, naive_inclusion, naive_root, numbered_leaves};
use crate::verify::{verify_consistency, verify_inclusion};

const SIZES: usize = 130;

/// A bit of every hash flipped, hashes removed, added and swapped.
fn damaged(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = vec![[proof, &[EMPTY_ROOT]].concat(), [&[EMPTY_ROOT], proof].concat()];
    for position in 0..proof.len() {
        let mut flipped = proof.to_vec();
        flipped[position].0[31] ^= 0x80;
        all.push(flipped);
        let mut removed = proof.to_vec();
        removed.remove(position);
        all.push(removed);
        if position > 0 && proof[position] != proof[position - 1] {
            let mut swapped = proof.to_vec();
            swapped.swap(position, position - 1);
            all.push(swapped);
        }
    }
    all
}

#[test]
fn the_root_at_every_size_is_that_of_the_definition() {
    let tree = MemoryTree(numbered_leaves(SIZES));
    for size in 0..=SIZES {
        assert_eq!(root_at(&tree, size as u64).unwrap(), naive_root(&tree.0[..size]), "{size}");
    }
}

#[test]
fn the_frontier_at_every_size_is_the_one_that_grew_there() {
    let tree = MemoryTree(numbered_leaves(SIZES));
    let mut grown = Frontier::new();
    for size in 0..=SIZES {
        assert_eq!(frontier_at(&tree, size as u64).unwrap(), grown, "{size}");
        if let Some(leaf) = tree.0.get(size) {
            grown.append(*leaf);
        }
    }
    assert_eq!(frontier_at(&tree, u64::MAX), Err(ProofError::OutsideTree));
}

#[test]
fn every_inclusion_proof_is_that_of_the_definition_and_verifies() {
    let tree = MemoryTree(numbered_leaves(SIZES));
    for size in 1..=SIZES {
        let root = naive_root(&tree.0[..size]);
        for index in 0..size {
            let proof = inclusion_proof(&tree, index as u64, size as u64).unwrap();
            assert_eq!(proof, naive_inclusion(index, &tree.0[..size]), "{index} of {size}");
            verify_inclusion(&tree.0[index], index as u64, size as u64, &proof, &root).unwrap();
        }
    }
}

#[test]
fn every_consistency_proof_is_that_of_the_definition_and_verifies() {
    let tree = MemoryTree(numbered_leaves(SIZES));
    for new in 1..=SIZES {
        let new_root = naive_root(&tree.0[..new]);
        for old in 1..new {
            let proof = consistency_proof(&tree, old as u64, new as u64).unwrap();
            assert_eq!(proof, naive_consistency(old, &tree.0[..new]), "{old} to {new}");
            let old_root = naive_root(&tree.0[..old]);
            verify_consistency(old as u64, new as u64, &proof, &old_root, &new_root).unwrap();
        }
    }
}

#[test]
fn a_damaged_inclusion_proof_is_refused() {
    let tree = MemoryTree(numbered_leaves(21));
    for size in 1..=21 {
        let root = naive_root(&tree.0[..size]);
        for index in 0..size {
            let proof = naive_inclusion(index, &tree.0[..size]);
            let verify = |leaf, index: usize, proof: &[Hash], root| {
                verify_inclusion(leaf, index as u64, size as u64, proof, root)
            };
            for damaged in damaged(&proof) {
                assert_eq!(verify(&tree.0[index], index, &damaged, &root), Err(AuditError::NotIncluded));
            }
            assert_eq!(verify(&EMPTY_ROOT, index, &proof, &root), Err(AuditError::NotIncluded));
            assert_eq!(verify(&tree.0[index], index, &proof, &EMPTY_ROOT), Err(AuditError::NotIncluded));
            for other in (0..size).filter(|other| *other != index) {
                assert_eq!(verify(&tree.0[index], other, &proof, &root), Err(AuditError::NotIncluded));
            }
            assert_eq!(verify(&tree.0[index], size, &proof, &root), Err(AuditError::OutsideTree));
        }
    }
}

#[test]
fn a_damaged_consistency_proof_is_refused() {
    let tree = MemoryTree(numbered_leaves(21));
    for new in 2..=21usize {
        let new_root = naive_root(&tree.0[..new]);
        for old in 1..new {
            let old_root = naive_root(&tree.0[..old]);
            let (old_size, new_size) = (old as u64, new as u64);
            let proof = naive_consistency(old, &tree.0[..new]);
            for damaged in damaged(&proof) {
                let outcome = verify_consistency(old_size, new_size, &damaged, &old_root, &new_root);
                assert_eq!(outcome, Err(AuditError::NotConsistent));
            }
            for (wrong_old, wrong_new) in [(EMPTY_ROOT, new_root), (old_root, EMPTY_ROOT), (new_root, old_root)] {
                let outcome = verify_consistency(old_size, new_size, &proof, &wrong_old, &wrong_new);
                assert_eq!(outcome, Err(AuditError::NotConsistent));
            }
        }
    }
}

#[test]
fn every_tree_extends_the_empty_one_and_itself() {
    let root = naive_root(&numbered_leaves(5));
    assert_eq!(verify_consistency(0, 0, &[], &EMPTY_ROOT, &EMPTY_ROOT), Ok(()));
    assert_eq!(verify_consistency(0, 5, &[], &EMPTY_ROOT, &root), Ok(()));
    assert_eq!(verify_consistency(5, 5, &[], &root, &root), Ok(()));
    assert_eq!(verify_consistency(0, 5, &[root], &EMPTY_ROOT, &root), Err(AuditError::NotConsistent));
    assert_eq!(verify_consistency(0, 5, &[], &root, &root), Err(AuditError::NotConsistent));
    assert_eq!(verify_consistency(0, 0, &[], &root, &root), Err(AuditError::NotConsistent));
    assert_eq!(verify_consistency(0, 0, &[], &EMPTY_ROOT, &root), Err(AuditError::NotConsistent));
    assert_eq!(verify_consistency(5, 5, &[root], &root, &root), Err(AuditError::NotConsistent));
    assert_eq!(verify_consistency(5, 5, &[], &root, &EMPTY_ROOT), Err(AuditError::NotConsistent));
    let tree = MemoryTree(numbered_leaves(5));
    assert_eq!(consistency_proof(&tree, 0, 5), Ok(Vec::new()));
    assert_eq!(consistency_proof(&tree, 5, 5), Ok(Vec::new()));
}

#[test]
fn indexes_and_sizes_outside_the_tree_are_refused() {
    let tree = MemoryTree(numbered_leaves(5));
    assert_eq!(inclusion_proof(&tree, 5, 5), Err(ProofError::OutsideTree));
    assert_eq!(inclusion_proof(&tree, 0, 0), Err(ProofError::OutsideTree));
    assert_eq!(inclusion_proof(&tree, 0, u64::MAX), Err(ProofError::OutsideTree));
    assert_eq!(consistency_proof(&tree, 5, 4), Err(ProofError::OutsideTree));
    assert_eq!(consistency_proof(&tree, 1, u64::MAX), Err(ProofError::OutsideTree));
    assert_eq!(root_at(&tree, u64::MAX), Err(ProofError::OutsideTree));
    assert_eq!(verify_consistency(5, 4, &[], &EMPTY_ROOT, &EMPTY_ROOT), Err(AuditError::OutsideTree));
}

#[test]
fn a_reader_that_fails_gives_its_own_error() {
    struct Broken;
    impl NodeReader for Broken {
        type Error = &'static str;
        fn node(&self, _level: u8, _index: u64) -> Result<Hash, &'static str> {
            Err("disk")
        }
    }
    assert_eq!(inclusion_proof(&Broken, 0, 2), Err(ProofError::Read("disk")));
    assert_eq!(consistency_proof(&Broken, 1, 2), Err(ProofError::Read("disk")));
    assert_eq!(root_at(&Broken, 2), Err(ProofError::Read("disk")));
}

/// A tree of any size whose subtrees are all alike: every leaf has the same hash.
struct UniformTree(Vec<Hash>);

impl UniformTree {
    fn new() -> Self {
        let mut nodes = vec![EMPTY_ROOT];
        for level in 0..63 {
            nodes.push(node_hash(&nodes[level], &nodes[level]));
        }
        Self(nodes)
    }
}

impl NodeReader for UniformTree {
    type Error = std::convert::Infallible;

    fn node(&self, level: u8, _index: u64) -> Result<Hash, Self::Error> {
        Ok(self.0[usize::from(level)])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn proofs_of_larger_trees_are_those_of_the_definition(size in 131..1500usize, index: usize, old: usize) {
        let (index, old) = (index % size, 1 + old % (size - 1));
        let tree = MemoryTree(numbered_leaves(size));
        let root = naive_root(&tree.0);
        prop_assert_eq!(root_at(&tree, size as u64).unwrap(), root);
        let inclusion = inclusion_proof(&tree, index as u64, size as u64).unwrap();
        prop_assert_eq!(&inclusion, &naive_inclusion(index, &tree.0));
        prop_assert!(verify_inclusion(&tree.0[index], index as u64, size as u64, &inclusion, &root).is_ok());
        let consistency = consistency_proof(&tree, old as u64, size as u64).unwrap();
        prop_assert_eq!(&consistency, &naive_consistency(old, &tree.0));
        let old_root = naive_root(&tree.0[..old]);
        prop_assert!(verify_consistency(old as u64, size as u64, &consistency, &old_root, &root).is_ok());
    }
}

proptest! {
    #[test]
    fn proofs_of_the_largest_trees_verify(size in 1..=MAX_TREE_SIZE, index: u64, old: u64) {
        let (index, old) = (index % size, 1 + old % size);
        let tree = UniformTree::new();
        let root = root_at(&tree, size).unwrap();
        let inclusion = inclusion_proof(&tree, index, size).unwrap();
        prop_assert!(verify_inclusion(&EMPTY_ROOT, index, size, &inclusion, &root).is_ok());
        let consistency = consistency_proof(&tree, old, size).unwrap();
        let old_root = root_at(&tree, old).unwrap();
        prop_assert!(verify_consistency(old, size, &consistency, &old_root, &root).is_ok());
    }

    #[test]
    fn verification_never_panics_on_arbitrary_input(
        a: u64, b: u64, hashes in proptest::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let hashes: Vec<Hash> = hashes.into_iter().map(Hash).collect();
        for (a, b) in [(a, b), (a % 64, b % 64), (a, u64::MAX), (a, MAX_TREE_SIZE)] {
            let _ = verify_inclusion(&EMPTY_ROOT, a, b, &hashes, &EMPTY_ROOT);
            let _ = verify_consistency(a, b, &hashes, &EMPTY_ROOT, &EMPTY_ROOT);
        }
    }
}
