//! The files of a copy, in the layout of C2SP tlog-tiles, so that any web server can show them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use unefois_audit::tile::{TILE_HEIGHT, TILE_WIDTH, nodes_at};
use unefois_audit::{
    Hash, Leaf, TileHashes, TileKind, TilePath, decode_bundle, decode_tile, encode_bundle, encode_tile,
};

use super::source::read_at_most;
use super::{MAX_TILE, MirrorError};

/// Levels of hash tiles that a tree below 2^63 leaves can have.
const TILE_LEVELS: u8 = 8;

/// Writes a file whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), MirrorError> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let draft = path.with_extension("draft");
        let mut file = File::create(&draft)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|error| MirrorError::Copy { path: path.to_owned(), error })
}

/// Returns once all that was written below `folder`, names and contents, outlasts a power cut.
pub(super) fn sync(folder: &Path) -> Result<(), MirrorError> {
    let sync = || {
        fs::create_dir_all(folder)?;
        Ok(rustix::fs::syncfs(File::open(folder)?)?)
    };
    sync().map_err(|error: io::Error| MirrorError::Copy { path: folder.to_owned(), error })
}

/// The hash tiles that the tree of `after` leaves has and the tree of `before` leaves has not.
pub(super) fn new_hash_tiles(before: u64, after: u64) -> impl Iterator<Item = TilePath> {
    (0..TILE_LEVELS).flat_map(move |level| {
        let kind = TileKind::Hashes { level };
        let width = TILE_WIDTH as u64;
        let indexes = nodes_at(level, before) / width..nodes_at(level, after).div_ceil(width);
        indexes.filter_map(move |index| {
            let tile = TilePath::at_size(kind, index, after)?;
            (TilePath::at_size(kind, index, before) != Some(tile)).then_some(tile)
        })
    })
}

/// The tiles of a copy at one size.
pub(super) struct AtSize<'a> {
    pub(super) folder: &'a Path,
    pub(super) size: u64,
}

impl AtSize<'_> {
    pub(super) fn read(&self, tile: TilePath) -> Result<Vec<u8>, MirrorError> {
        let path = self.folder.join(tile.to_string());
        read_at_most(&path, MAX_TILE).map_err(|error| MirrorError::Copy { path, error })
    }

    fn read_hashes(&self, level: u8, index: u64) -> Result<Vec<Hash>, MirrorError> {
        let tile = TilePath::at_size(TileKind::Hashes { level }, index, self.size);
        tile.map_or(Ok(Vec::new()), |tile| self.read(tile).map(|bytes| decode_tile(&bytes)))
    }

    /// The leaves of the last bundle, full or partial, which must be those of the hash tile above them; none of an empty tree.
    fn last_leaves(&self) -> Result<Vec<Leaf>, MirrorError> {
        let Some(last) = self.size.checked_sub(1) else { return Ok(Vec::new()) };
        let index = last / TILE_WIDTH as u64;
        let Some(bundle) = TilePath::at_size(TileKind::Entries, index, self.size) else { return Ok(Vec::new()) };
        let changed = || MirrorError::Changed(self.folder.to_owned());
        let leaves = decode_bundle(&self.read(bundle)?).map_err(|_| changed())?;
        let hashes: Vec<Hash> = leaves.iter().map(Leaf::hash).collect();
        if hashes == self.read_hashes(0, index)? { Ok(leaves) } else { Err(changed()) }
    }
}

impl TileHashes for AtSize<'_> {
    type Error = MirrorError;

    fn hashes(&self, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, MirrorError> {
        let hashes = self.read_hashes(level, start >> TILE_HEIGHT)?;
        let within = (start % TILE_WIDTH as u64) as usize;
        Ok(hashes.get(within..within + count).unwrap_or_default().to_vec())
    }
}

/// Tiles that an update fills. Those that the copy's checkpoint needs are never touched.
pub(super) struct NewTiles<'a> {
    folder: &'a Path,
    /// Leaves of the bundle under way.
    leaves: Vec<Leaf>,
    bundle: u64,
    /// Hashes of the tile under way, and its index, by tile level.
    hashes: BTreeMap<u8, (u64, Vec<Hash>)>,
}

impl<'a> NewTiles<'a> {
    /// Goes on from the partial tiles of the copy at `size`, and gives its last leaf, if it has one.
    pub(super) fn after(folder: &'a Path, size: u64) -> Result<(Self, Option<Leaf>), MirrorError> {
        let width = TILE_WIDTH as u64;
        let edge = AtSize { folder, size };
        let mut hashes = BTreeMap::new();
        for level in (0..TILE_LEVELS).take_while(|level| nodes_at(*level, size) > 0) {
            let count = nodes_at(level, size);
            let index = count / width;
            let partial = edge.hashes(level, index * width, (count % width) as usize)?;
            if partial.len() as u64 != count % width {
                return Err(MirrorError::Changed(folder.to_owned()));
            }
            hashes.insert(level, (index, partial));
        }
        let mut leaves = edge.last_leaves()?;
        let last = leaves.last().copied();
        if leaves.len() == TILE_WIDTH {
            leaves.clear();
        }
        Ok((Self { folder, leaves, bundle: size / width, hashes }, last))
    }

    /// The leaves of the bundle under way.
    pub(super) fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// Keeps the next leaf.
    pub(super) fn push(&mut self, leaf: Leaf) {
        self.leaves.push(leaf);
    }

    /// Keeps a complete subtree if it is one of those that tiles hold.
    pub(super) fn closed(&mut self, level: u8, index: u64, hash: Hash) {
        if level.is_multiple_of(TILE_HEIGHT) {
            let tile = index / TILE_WIDTH as u64;
            self.hashes.entry(level / TILE_HEIGHT).or_insert((tile, Vec::new())).1.push(hash);
        }
    }

    /// Writes the tiles that are full.
    pub(super) fn write_full(&mut self) -> Result<(), MirrorError> {
        if self.leaves.len() == TILE_WIDTH {
            self.write(TileKind::Entries, self.bundle, &encode_bundle(&self.leaves), TILE_WIDTH)?;
            self.leaves.clear();
            self.bundle += 1;
        }
        let full: Vec<u8> =
            self.hashes.iter().filter(|(_, (_, hashes))| hashes.len() == TILE_WIDTH).map(|(level, _)| *level).collect();
        for level in full {
            if let Some((index, hashes)) = self.hashes.remove(&level) {
                self.write(TileKind::Hashes { level }, index, &encode_tile(&hashes), TILE_WIDTH)?;
                self.hashes.insert(level, (index + 1, Vec::new()));
            }
        }
        Ok(())
    }

    /// Writes the tiles at the right edge.
    pub(super) fn write_partial(&self) -> Result<(), MirrorError> {
        if !self.leaves.is_empty() {
            self.write(TileKind::Entries, self.bundle, &encode_bundle(&self.leaves), self.leaves.len())?;
        }
        for (level, (index, hashes)) in self.hashes.iter().filter(|(_, (_, hashes))| !hashes.is_empty()) {
            self.write(TileKind::Hashes { level: *level }, *index, &encode_tile(hashes), hashes.len())?;
        }
        Ok(())
    }

    fn write(&self, kind: TileKind, index: u64, bytes: &[u8], width: usize) -> Result<(), MirrorError> {
        let path = TilePath::new(kind, index, width as u16)
            .map_err(|error| MirrorError::Unsound("a tile".to_owned(), error))?;
        write(&self.folder.join(path.to_string()), bytes)
    }
}

/// Removes the partial tiles whose full ones came between the trees of `before` and of `after` leaves. Whoever reads by an older
/// checkpoint takes the full one instead; one that is not full yet is the only one that he has. They cost only room, so a
/// failure is of no account.
pub(super) fn remove_partial(folder: &Path, before: u64, after: u64) {
    let width = TILE_WIDTH as u64;
    let hashes = (0..TILE_LEVELS).map(|level| (level, TileKind::Hashes { level }));
    for (level, kind) in hashes.chain([(0, TileKind::Entries)]) {
        let index = nodes_at(level, before) / width;
        if index < nodes_at(level, after) / width
            && let Ok(partial) = TilePath::new(kind, index, 1)
            && let Some(partial) = folder.join(partial.to_string()).parent().map(PathBuf::from)
        {
            let _ = fs::remove_dir_all(partial);
        }
    }
}
