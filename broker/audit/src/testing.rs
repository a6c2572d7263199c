//! What the tests share: RFC 6962 written as it is defined, a log in memory, keys from fixed seeds.

use std::collections::BTreeMap;
use std::convert::Infallible;

use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::checkpoint::Checkpoint;
use crate::cosignature::{Cosignature, WitnessKey};
use crate::frontier::Frontier;
use crate::hash::{EMPTY_ROOT, Hash, leaf_hash, node_hash};
use crate::note::VerifierKey;
use crate::proof::NodeReader;
use crate::tile::TileHashes;

/// Leaf hashes that all differ.
pub(crate) fn numbered_leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|number| leaf_hash(number.to_string().as_bytes())).collect()
}

fn split(count: usize) -> usize {
    count.next_power_of_two() / 2
}

/// MTH of RFC 6962, section 2.1.
pub(crate) fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => EMPTY_ROOT,
        [leaf] => *leaf,
        several => {
            let (left, right) = several.split_at(split(several.len()));
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

/// PATH of RFC 6962, section 2.1.1.
pub(crate) fn naive_inclusion(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, sibling) = if index < left.len() {
        (naive_inclusion(index, left), naive_root(right))
    } else {
        (naive_inclusion(index - left.len(), right), naive_root(left))
    };
    path.push(sibling);
    path
}

/// PROOF of RFC 6962, section 2.1.2, for 0 < old < leaves.len().
pub(crate) fn naive_consistency(old: usize, leaves: &[Hash]) -> Vec<Hash> {
    fn subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if old == leaves.len() {
            return if whole { Vec::new() } else { vec![naive_root(leaves)] };
        }
        let (left, right) = leaves.split_at(split(leaves.len()));
        let (mut proof, other) = if old <= left.len() {
            (subproof(old, left, whole), naive_root(right))
        } else {
            (subproof(old - left.len(), right, false), naive_root(left))
        };
        proof.push(other);
        proof
    }
    subproof(old, leaves, true)
}

/// The nodes of a tree, hashed anew at each call.
pub(crate) struct MemoryTree(pub(crate) Vec<Hash>);

impl NodeReader for MemoryTree {
    type Error = Infallible;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        let range = (index << level) as usize..((index + 1) << level) as usize;
        Ok(naive_root(&self.0[range]))
    }
}

impl TileHashes for MemoryTree {
    type Error = Infallible;

    fn hashes(&self, tile_level: u8, start: u64, count: usize) -> Result<Vec<Hash>, Infallible> {
        assert!((1..=128).contains(&count));
        assert_eq!(start / 256, (start + count as u64 - 1) / 256, "the range must lie within one tile");
        (start..start + count as u64).map(|index| self.node(tile_level * 8, index)).collect()
    }
}

/// The nodes of a tree, kept as its frontier closed them.
pub(crate) struct Nodes(pub(crate) BTreeMap<(u8, u64), Hash>);

impl Nodes {
    pub(crate) fn of(leaves: impl IntoIterator<Item = Hash>) -> Self {
        let (mut frontier, mut nodes) = (Frontier::new(), BTreeMap::new());
        for leaf in leaves {
            frontier.append_with(leaf, |level, index, hash| {
                nodes.insert((level, index), hash);
            });
        }
        Self(nodes)
    }
}

impl NodeReader for Nodes {
    type Error = Infallible;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        Ok(self.0[&(level, index)])
    }
}

/// A signer with a fixed seed.
pub(crate) struct LogKey {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl LogKey {
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public_key = pair.public_key().as_ref().try_into().unwrap();
        Self { verifier: VerifierKey::new(name, public_key).unwrap(), pair }
    }

    pub(crate) fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    pub(crate) fn signature(&self, text: &str) -> [u8; 64] {
        self.pair.sign(text.as_bytes()).as_ref().try_into().unwrap()
    }

    pub(crate) fn sign(&self, checkpoint: &Checkpoint) -> String {
        checkpoint.signed(&self.signature(&checkpoint.note_text()), self.verifier.id())
    }
}

/// A witness with a fixed seed.
pub(crate) struct Witness {
    pair: Ed25519KeyPair,
    key: WitnessKey,
}

impl Witness {
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public_key = pair.public_key().as_ref().try_into().unwrap();
        Self { key: WitnessKey::new(name, public_key).unwrap(), pair }
    }

    pub(crate) fn key(&self) -> &WitnessKey {
        &self.key
    }

    pub(crate) fn cosign(&self, timestamp_s: u64, checkpoint_text: &str) -> Cosignature {
        let sign = |message: &[u8]| Ok::<_, Infallible>(self.pair.sign(message).as_ref().try_into().unwrap());
        Cosignature::make(timestamp_s, checkpoint_text, sign).unwrap()
    }

    /// The line of a cosignature.
    pub(crate) fn line(&self, timestamp_s: u64, checkpoint_text: &str) -> String {
        self.key.line(&self.cosign(timestamp_s, checkpoint_text))
    }
}
