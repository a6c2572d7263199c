//! Tile geometry of tlog-tiles: which nodes of the tree are kept, under which paths, and how to find the others.
//!
//! A tile is 256 consecutive nodes of a tree level that is a multiple of 8. A store keeps those levels only (0, 8,
//! 16, …); [`TileNodes`] hashes the levels between them when a proof asks.

use std::fmt;
use std::str::FromStr;

use crate::error::{AuditError, Format};
use crate::hash::{Hash, node_hash};
use crate::proof::NodeReader;

/// Tree levels from one tile level to the next.
pub const TILE_HEIGHT: u8 = 8;

/// Hashes in a full tile, leaves in a full entry bundle.
pub const TILE_WIDTH: usize = 256;

/// Highest tile level that a path may name. Trees below 2^63 leaves use levels 0 to 7.
pub const MAX_TILE_LEVEL: u8 = 63;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of tree level `8 * level`.
    Hashes {
        /// The tile level, 0 to 63.
        level: u8,
    },
    /// The leaves themselves.
    Entries,
}

/// The path of a tile below the log's prefix: `tile/0/x001/x234/067`, `tile/entries/000.p/5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    // INVARIANT: 1 to 256.
    width: u16,
}

impl TilePath {
    /// A tile of this width, 256 if it is full.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] if the width is not 1 to 256, the level is above 63, or the tile ends at 2^64 nodes
    /// or more.
    pub fn new(kind: TileKind, index: u64, width: u16) -> Result<Self, AuditError> {
        if width == 0 || usize::from(width) > TILE_WIDTH {
            return Err(Format::TilePath.broken("its width must be 1 to 256"));
        }
        if let TileKind::Hashes { level } = kind
            && level > MAX_TILE_LEVEL
        {
            return Err(Format::TilePath.broken("its level must be 0 to 63"));
        }
        if index >= u64::MAX >> TILE_HEIGHT {
            return Err(Format::TilePath.broken("its index is too large"));
        }
        Ok(Self { kind, index, width })
    }

    /// The tile as the tree of `size` leaves has it, full or partial; `None` if it has no node yet.
    pub fn at_size(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let start = index.checked_mul(TILE_WIDTH as u64)?;
        let count = nodes_at(kind.level(), size).checked_sub(start)?;
        let width = count.min(TILE_WIDTH as u64) as u16;
        Self::new(kind, index, width).ok()
    }

    /// Hashes or entries, and of which level.
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// Number of the tile in its level.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Number of hashes or entries in the tile, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether the tile has fewer than 256 hashes or entries.
    pub fn is_partial(&self) -> bool {
        usize::from(self.width) < TILE_WIDTH
    }

    /// Index in the tile's level of its first node; with [`TilePath::width`], what to read from the store.
    pub fn start(&self) -> u64 {
        self.index << TILE_HEIGHT
    }

    /// Index after the last leaf that a full tile in this place stands for: the *end index* of tlog-tiles.
    pub fn end_index(&self) -> u64 {
        let level = match self.kind {
            TileKind::Hashes { level } => level,
            TileKind::Entries => 0,
        };
        let leaves = 1_u64.checked_shl((u32::from(level) + 1) * u32::from(TILE_HEIGHT)).unwrap_or(u64::MAX);
        self.index.saturating_add(1).saturating_mul(leaves)
    }

    /// Whether a tree of `size` leaves has all the nodes of the tile. A server checks it against the size of its
    /// published checkpoint before it answers.
    pub fn is_within(&self, size: u64) -> bool {
        self.start() + u64::from(self.width) <= nodes_at(self.kind.level(), size)
    }
}

impl TileKind {
    fn level(self) -> u8 {
        match self {
            Self::Hashes { level } => level,
            Self::Entries => 0,
        }
    }
}

/// Complete nodes of a tile level in a tree of `size` leaves.
pub fn nodes_at(tile_level: u8, size: u64) -> u64 {
    size.checked_shr(u32::from(tile_level) * u32::from(TILE_HEIGHT)).unwrap_or(0)
}

/// Width of the partial tile at the right edge of a tile level in a tree of `size` leaves; 0 if there is none.
pub fn partial_width(tile_level: u8, size: u64) -> u16 {
    (nodes_at(tile_level, size) % TILE_WIDTH as u64) as u16
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut unit = 1;
        while self.index / unit >= 1000 {
            unit *= 1000;
        }
        while unit > 1 {
            write!(f, "x{:03}/", self.index / unit % 1000)?;
            unit /= 1000;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if self.is_partial() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for TilePath {
    type Err = AuditError;

    /// Reads a path as [`TilePath`] prints it, without a leading slash.
    fn from_str(path: &str) -> Result<Self, AuditError> {
        let broken = Format::TilePath.broken("it must be like tile/0/x001/234.p/5");
        // tile/entries/ + 7 groups + .p/255: the longest path that an honest client asks for.
        Format::TilePath.limit(path.len(), 64)?;
        let (kind, rest) = path.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(broken)?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes {
                level: crate::text::decimal(level).and_then(|level| u8::try_from(level).ok()).ok_or(broken)?,
            },
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => {
                let width = crate::text::decimal(width).and_then(|width| u16::try_from(width).ok());
                // A full tile has no suffix.
                (index, width.filter(|width| usize::from(*width) < TILE_WIDTH).ok_or(broken)?)
            }
            None => (rest, TILE_WIDTH as u16),
        };
        Self::new(kind, parse_index(index).ok_or(broken)?, width)
    }
}

/// Reads `x001/x234/067`.
fn parse_index(text: &str) -> Option<u64> {
    let (above, last) = text.rsplit_once('/').map_or((None, text), |(above, last)| (Some(above), last));
    let mut index = 0u64;
    if let Some(above) = above {
        for group in above.split('/') {
            index = index.checked_mul(1000)?.checked_add(parse_group(group.strip_prefix('x')?)?)?;
            // A leading x000 would give the tile a second path.
            if index == 0 {
                return None;
            }
        }
    }
    index.checked_mul(1000)?.checked_add(parse_group(last)?)
}

fn parse_group(digits: &str) -> Option<u64> {
    if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The bytes of these hashes, one after the other, as a tile holds them.
pub fn encode_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes that these bytes hold; a last one that is not whole is left out.
pub fn decode_tile(bytes: &[u8]) -> Vec<Hash> {
    let (hashes, _) = bytes.as_chunks::<32>();
    hashes.iter().map(|hash| Hash(*hash)).collect()
}

/// The stored levels of a tree: 0, 8, 16, …
pub trait TileHashes {
    /// Why hashes could not be read.
    type Error;

    /// `count` consecutive hashes of tile level `tile_level` (tree level `8 * tile_level`), from index `start`.
    ///
    /// `count` is 1 to 128 and the range lies within one tile.
    ///
    /// # Errors
    /// The store's own; the proof is given up.
    fn hashes(&self, tile_level: u8, start: u64, count: usize) -> Result<Vec<Hash>, Self::Error>;
}

/// Why a node could not be found from tiles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileReadError<E> {
    /// The store failed.
    #[error("{0}")]
    Store(#[source] E),
    /// The store gave another number of hashes than it was asked for.
    #[error("the store gave another number of hashes than it was asked for")]
    WrongCount,
    /// The node would lie beyond 2^64 leaves.
    #[error("the node is outside any tree")]
    OutsideTree,
}

/// Every complete node of a tree, hashed within one tile from the stored levels.
#[derive(Debug)]
pub struct TileNodes<'a, T>(pub &'a T);

impl<T: TileHashes> NodeReader for TileNodes<'_, T> {
    type Error = TileReadError<T::Error>;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error> {
        let count = 1 << (level % TILE_HEIGHT);
        let start = index.checked_mul(count as u64).ok_or(TileReadError::OutsideTree)?;
        let mut hashes = self.0.hashes(level / TILE_HEIGHT, start, count).map_err(TileReadError::Store)?;
        if hashes.len() != count {
            return Err(TileReadError::WrongCount);
        }
        while hashes.len() > 1 {
            hashes = hashes.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
        }
        hashes.pop().ok_or(TileReadError::WrongCount)
    }
}

#[cfg(test)]
mod tests;
