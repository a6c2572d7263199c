//! A second opinion on the tree: `ct-merkle`, which shares no code with us and hashes with `sha2`, not `ring`, has the same
//! roots and proofs, byte for byte, and each of the two verifies what the other proves and refuses what was changed.

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
use proptest::prelude::*;
use sha2::Sha256;

use crate::batch::BatchProofs;
use crate::frontier::Frontier;
use crate::golden_logs::{SIZES, leaf};
use crate::hash::Hash;
use crate::proof::{consistency_proof, inclusion_proof, root_at};
use crate::testing::Nodes;
use crate::tile::{decode_tile, encode_tile};
use crate::verify::{verify_consistency, verify_inclusion};

/// The other implementation's tree; it hashes the leaves itself.
type Other = MemoryBackedTree<Sha256, [u8; 42]>;

fn other_tree(size: u64) -> Other {
    let mut tree = Other::new();
    for number in 0..size {
        tree.push(leaf(number).encode());
    }
    tree
}

fn our_tree(size: u64) -> Nodes {
    Nodes::of((0..size).map(|number| leaf(number).hash()))
}

fn as_ours(root: &RootHash<Sha256>) -> Hash {
    Hash(root.as_bytes()[..].try_into().unwrap())
}

fn as_other(root: Hash, size: u64) -> RootHash<Sha256> {
    RootHash::new(root.0.into(), size)
}

/// The proofs of one leaf are the same, and each side believes the other's.
fn check_inclusion(ours: &Nodes, other: &Other, index: u64) {
    let (size, root) = (other.len(), other.root());
    let (our_proof, other_proof) =
        (inclusion_proof(ours, index, size).unwrap(), other.prove_inclusion(usize::try_from(index).unwrap()));
    assert_eq!(encode_tile(&our_proof), other_proof.as_bytes(), "{index} of {size}");
    let theirs = decode_tile(other_proof.as_bytes());
    verify_inclusion(&leaf(index).hash(), index, size, &theirs, &as_ours(&root)).unwrap();
    let our_root = as_other(root_at(ours, size).unwrap(), size);
    let handed_over = InclusionProof::<Sha256>::try_from_bytes(encode_tile(&our_proof)).unwrap();
    our_root.verify_inclusion(&leaf(index).encode(), index, &handed_over).unwrap();
}

/// The proofs that the tree extends that of `old` leaves are the same, and each side believes the other's.
fn check_consistency(ours: &Nodes, other: &Other, old: u64) {
    let (new, new_root, old_root) = (other.len(), other.root(), root_at(ours, old).unwrap());
    let our_proof = consistency_proof(ours, old, new).unwrap();
    let other_proof = other.prove_consistency(usize::try_from(new - old).unwrap());
    assert_eq!(encode_tile(&our_proof), other_proof.as_bytes(), "{old} to {new}");
    verify_consistency(old, new, &decode_tile(other_proof.as_bytes()), &old_root, &as_ours(&new_root)).unwrap();
    let handed_over = ConsistencyProof::<Sha256>::try_from_bytes(encode_tile(&our_proof)).unwrap();
    new_root.verify_consistency(&as_other(old_root, old), &handed_over).unwrap();
}

#[test]
fn golden_logs_have_the_roots_and_proofs_of_another_implementation() {
    let ours = our_tree(SIZES[SIZES.len() - 1]);
    let mut other = Other::new();
    for size in SIZES.into_iter().filter(|size| *size > 0) {
        while other.len() < size {
            other.push(leaf(other.len()).encode());
        }
        assert_eq!(root_at(&ours, size).unwrap(), as_ours(&other.root()), "{size}");
        for index in SIZES.into_iter().filter(|index| *index < size).chain([size - 1]) {
            check_inclusion(&ours, &other, index);
        }
        for old in SIZES.into_iter().filter(|old| (1..=size).contains(old)) {
            check_consistency(&ours, &other, old);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn trees_of_any_size_have_the_roots_and_proofs_of_another_implementation(
        size in 1..1_500u64, index: u64, old: u64, cut: u64,
    ) {
        let (ours, other) = (our_tree(size), other_tree(size));
        let root = as_ours(&other.root());
        prop_assert_eq!(root_at(&ours, size).unwrap(), root);
        check_inclusion(&ours, &other, index % size);
        check_consistency(&ours, &other, 1 + old % size);
        // The committer's way: the rest as one batch on a frontier.
        let mut frontier = Frontier::new();
        for number in 0..cut % size {
            frontier.append(leaf(number).hash());
        }
        let batch: Vec<_> = (cut % size..size).map(|number| leaf(number).hash()).collect();
        let proofs = BatchProofs::new(&frontier, &batch);
        prop_assert_eq!(proofs.root(), root);
        let position = usize::try_from(index % batch.len() as u64).unwrap();
        let expected = other.prove_inclusion(position + usize::try_from(cut % size).unwrap());
        prop_assert_eq!(encode_tile(&proofs.inclusion(position).unwrap()), expected.as_bytes());
    }

    #[test]
    fn a_proof_with_a_changed_bit_is_refused_by_both(size in 2..600u64, index: u64, old: u64, bit: usize) {
        let (ours, other) = (our_tree(size), other_tree(size));
        let (index, old) = (index % size, 1 + old % (size - 1));
        let (root, old_root) = (root_at(&ours, size).unwrap(), root_at(&ours, old).unwrap());
        let changed = |proof: Vec<Hash>| {
            let mut bytes = encode_tile(&proof);
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        let inclusion = changed(inclusion_proof(&ours, index, size).unwrap());
        let ours_says = verify_inclusion(&leaf(index).hash(), index, size, &decode_tile(&inclusion), &root);
        prop_assert!(ours_says.is_err());
        let handed_over = InclusionProof::<Sha256>::try_from_bytes(inclusion).unwrap();
        prop_assert!(other.root().verify_inclusion(&leaf(index).encode(), index, &handed_over).is_err());
        let consistency = changed(consistency_proof(&ours, old, size).unwrap());
        prop_assert!(verify_consistency(old, size, &decode_tile(&consistency), &old_root, &root).is_err());
        let handed_over = ConsistencyProof::<Sha256>::try_from_bytes(consistency).unwrap();
        prop_assert!(other.root().verify_consistency(&as_other(old_root, old), &handed_over).is_err());
    }
}
