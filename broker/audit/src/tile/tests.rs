use proptest::prelude::*;

use super::*;
use crate::proof::{consistency_proof, inclusion_proof, root_at};
use crate::testing::{MemoryTree, naive_consistency, naive_inclusion, naive_root, numbered_leaves};

fn hashes(level: u8) -> TileKind {
    TileKind::Hashes { level }
}

#[test]
fn paths_are_those_of_the_specification() {
    let cases = [
        ("tile/0/x001/x234/067", hashes(0), 1_234_067, 256),
        ("tile/0/x001/x234/067.p/5", hashes(0), 1_234_067, 5),
        ("tile/63/000.p/255", hashes(63), 0, 255),
        ("tile/1/999", hashes(1), 999, 256),
        ("tile/1/x001/000", hashes(1), 1000, 256),
        ("tile/entries/000", TileKind::Entries, 0, 256),
        ("tile/entries/x001/x234/067.p/1", TileKind::Entries, 1_234_067, 1),
    ];
    for (text, kind, index, width) in cases {
        let path = TilePath::new(kind, index, width).unwrap();
        assert_eq!(path.to_string(), text);
        assert_eq!(text.parse::<TilePath>().unwrap(), path);
    }
}

#[test]
fn a_tile_has_one_path_only() {
    let refused = [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "/tile/0/000",
        "tile/0/000/",
        "tile/00/000",
        "tile/01/000",
        "tile/64/000",
        "tile/256/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000",
        "tile/0/x000/001",
        "tile/0/x000/x001/002",
        "tile/0/001/002",
        "tile/0/x001/x002",
        "tile/0/x001//002",
        "tile/0/+01",
        "tile/0/00a",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/05",
        "tile/0/000.p/256",
        "tile/0/000.p/1/",
        "tile/0/000.p/1.p/1",
        "tile/0/000.q/1",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        "tile/0/\u{661}\u{661}\u{661}",
    ];
    for path in refused {
        assert!(path.parse::<TilePath>().is_err(), "{path}");
    }
    let long = format!("tile/0/{}001", "x001/".repeat(100));
    assert!(matches!(long.parse::<TilePath>(), Err(AuditError::TooLarge { .. })));
    assert!(TilePath::new(hashes(0), 0, 0).is_err());
    assert!(TilePath::new(hashes(0), 0, 257).is_err());
    assert!(TilePath::new(hashes(64), 0, 1).is_err());
    assert!(TilePath::new(hashes(0), u64::MAX, 1).is_err());
}

#[test]
fn the_tiles_of_a_tree_of_70000_are_those_of_the_specification() {
    let width = |level, index| TilePath::at_size(hashes(level), index, 70_000).map(|tile| tile.width());
    assert_eq!((width(0, 272), width(0, 273), width(0, 274)), (Some(256), Some(112), None));
    assert_eq!((width(1, 0), width(1, 1), width(1, 2)), (Some(256), Some(17), None));
    assert_eq!((width(2, 0), width(2, 1), width(3, 0)), (Some(1), None, None));
    assert_eq!([0, 1, 2, 3, 63].map(|level| partial_width(level, 70_000)), [112, 17, 1, 0, 0]);
    assert_eq!(TilePath::at_size(TileKind::Entries, 273, 70_000).unwrap().to_string(), "tile/entries/273.p/112");
    // A tree of 256 has a full tile and the first node above it.
    assert_eq!(partial_width(0, 256), 0);
    assert_eq!(partial_width(1, 256), 1);
    assert_eq!(TilePath::at_size(hashes(0), 0, 0), None);
    assert_eq!(TilePath::at_size(hashes(0), u64::MAX, u64::MAX), None);
}

#[test]
fn a_tile_is_served_only_when_the_tree_has_all_of_it() {
    let tile = |text: &str| text.parse::<TilePath>().unwrap();
    assert!(tile("tile/0/273.p/112").is_within(70_000));
    assert!(tile("tile/0/273.p/5").is_within(70_000));
    assert!(!tile("tile/0/273.p/113").is_within(70_000));
    assert!(!tile("tile/0/273").is_within(70_000));
    assert!(tile("tile/1/001.p/17").is_within(70_000));
    assert!(!tile("tile/1/001.p/18").is_within(70_000));
    assert!(!tile("tile/63/000.p/1").is_within(u64::MAX));
    assert_eq!(tile("tile/1/001.p/17").start(), 256);
}

#[test]
fn proofs_from_tiles_are_those_of_the_definition() {
    let size = 66_000;
    let tree = MemoryTree(numbered_leaves(size));
    let nodes = TileNodes(&tree);
    assert_eq!(root_at(&nodes, size as u64).unwrap(), naive_root(&tree.0));
    for index in [0, 255, 256, 65_535, 65_536, 65_999] {
        assert_eq!(inclusion_proof(&nodes, index as u64, size as u64).unwrap(), naive_inclusion(index, &tree.0));
    }
    for old in [1, 255, 256, 257, 65_535, 65_536, 65_537] {
        assert_eq!(consistency_proof(&nodes, old as u64, size as u64).unwrap(), naive_consistency(old, &tree.0));
    }
}

#[test]
fn a_store_that_gives_too_few_or_too_many_hashes_is_refused() {
    struct Wrong(isize);
    impl TileHashes for Wrong {
        type Error = std::convert::Infallible;
        fn hashes(&self, _tile_level: u8, _start: u64, count: usize) -> Result<Vec<Hash>, Self::Error> {
            Ok(numbered_leaves(count.saturating_add_signed(self.0)))
        }
    }
    for level in 0..8 {
        assert!(TileNodes(&Wrong(0)).node(level, 0).is_ok());
        assert_eq!(TileNodes(&Wrong(1)).node(level, 0), Err(TileReadError::WrongCount));
        assert_eq!(TileNodes(&Wrong(-1)).node(level, 0), Err(TileReadError::WrongCount));
    }
    assert_eq!(TileNodes(&Wrong(0)).node(7, u64::MAX), Err(TileReadError::OutsideTree));
}

proptest! {
    #[test]
    fn a_path_that_is_made_reads_back(level in 0..=63u8, entries: bool, index in 0..u64::MAX >> 8, width in 1..=256u16) {
        let kind = if entries { TileKind::Entries } else { hashes(level) };
        let path = TilePath::new(kind, index, width).unwrap();
        prop_assert_eq!(path.to_string().parse::<TilePath>().unwrap(), path);
        prop_assert!(!path.is_within(0));
    }

    #[test]
    fn a_path_parser_never_panics_and_prints_back(
        text in "\\PC{0,40}|tile/([0-9]{1,3}|entries)/(x[0-9]{3}/){0,8}[0-9]{3}(\\.p/[0-9]{1,3})?",
    ) {
        if let Ok(path) = text.parse::<TilePath>() {
            prop_assert_eq!(path.to_string(), text);
        }
    }
}
