//! Golden logs: what a log of these leaves shows to the world at sizes around its edges, kept by hash. A change of any byte
//! of a checkpoint, a tile, a bundle or a proof is a change of the format.

use std::fmt::Write as _;

use crate::bundle::encode_bundle;
use crate::checkpoint::Checkpoint;
use crate::hash::{Hash, digest_parts};
use crate::leaf::Leaf;
use crate::proof::{consistency_proof, inclusion_proof, root_at};
use crate::testing::{LogKey, Nodes};
use crate::tile::{TileKind, TilePath, encode_tile};

const GOLDEN: &str = include_str!("../testdata/golden-logs-v1.txt");

pub(crate) const SIZES: [u64; 9] = [0, 1, 2, 255, 256, 257, 65_535, 65_537, 70_000];

pub(crate) fn leaf(number: u64) -> Leaf {
    let kind = [1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 18, 19, 20, 32][(number % 14) as usize];
    Leaf { kind, time_ms: 1_767_225_600_000 + 37 * number, commitment: digest_parts(&[&number.to_be_bytes()]) }
}

/// The paths and bytes of all tiles and bundles at a size, in the order of levels and indexes.
fn tiles(nodes: &Nodes, size: u64) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let kinds = (0..8).map(|level| TileKind::Hashes { level }).chain([TileKind::Entries]);
    for kind in kinds {
        for path in (0..).map_while(|index| TilePath::at_size(kind, index, size)) {
            let within = path.start()..path.start() + u64::from(path.width());
            let bytes = match kind {
                TileKind::Hashes { level } => {
                    encode_tile(&within.map(|index| nodes.0[&(level * 8, index)]).collect::<Vec<_>>())
                }
                TileKind::Entries => encode_bundle(&within.map(leaf).collect::<Vec<_>>()),
            };
            found.push((path.to_string(), bytes));
        }
    }
    found
}

/// Inclusion proofs of leaves around the edges, and consistency proofs from each smaller golden size.
fn proofs(nodes: &Nodes, size: u64) -> Vec<Hash> {
    let mut hashes = Vec::new();
    for index in SIZES.into_iter().filter(|index| *index < size).chain(size.checked_sub(1)) {
        hashes.extend(inclusion_proof(nodes, index, size).unwrap());
    }
    for old in SIZES.into_iter().filter(|old| *old <= size) {
        hashes.extend(consistency_proof(nodes, old, size).unwrap());
    }
    hashes
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Hash {
    let lengthened: Vec<_> =
        parts.into_iter().flat_map(|part| [&part.len().to_be_bytes()[..], part].concat()).collect();
    digest_parts(&[&lengthened])
}

#[test]
fn logs_at_the_edges_of_tiles_show_the_bytes_they_were_released_with() {
    let nodes = Nodes::of((0..SIZES[SIZES.len() - 1]).map(|number| leaf(number).hash()));
    let key = LogKey::new("golden.example/log", 7);
    let mut text = format!("{}\n", key.verifier());
    for size in SIZES {
        let root = root_at(&nodes, size).unwrap();
        let checkpoint = key.sign(&Checkpoint { origin: "golden.example/log".to_owned(), size, root });
        let tiles = tiles(&nodes, size);
        let tile_bytes = digest(tiles.iter().flat_map(|(path, bytes)| [path.as_bytes(), bytes]));
        let proofs = proofs(&nodes, size);
        let proof_bytes = digest(proofs.iter().map(|hash| &hash.0[..]));
        let checkpoint = digest([checkpoint.as_bytes()]);
        writeln!(text, "{size} {root} {checkpoint} {} {tile_bytes} {} {proof_bytes}", tiles.len(), proofs.len())
            .unwrap();
    }
    assert!(text == GOLDEN, "a golden log changed:\n{text}");
}
