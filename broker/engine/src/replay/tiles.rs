//! The tiles, which the public log is served from, have the hashes of the journal.

use unefois_audit::Hash;

use super::{BatchSource, LogFault, fault};

/// Levels of the tree in a level of tiles.
const TILE_LEVELS: u8 = 8;

/// A hash that tiles hold: tile level, its number there, and the hash.
pub(super) type TileHash = (u8, u64, Hash);

/// Keeps of the complete subtrees that are reported those that tiles hold.
pub(super) fn keep(kept: &mut Vec<TileHash>) -> impl FnMut(u8, u64, Hash) {
    |level, number, hash| {
        if level % TILE_LEVELS == 0 {
            kept.push((level / TILE_LEVELS, number, hash));
        }
    }
}

/// How many of `hashes`, which begin with number `start` of tile level `level`, the tiles of the shard that begins with entry
/// `shard` have; those that they have must be the same.
pub(super) fn compare(
    source: &dyn BatchSource,
    shard: u64,
    (level, start): (u8, u64),
    hashes: &[Hash],
) -> Result<u64, LogFault> {
    let found = source.tile_hashes(shard, level, start, hashes.len())?;
    let Some(other) = found.iter().zip(hashes).position(|(found, hash)| found != hash) else {
        return Ok(found.len() as u64);
    };
    let number = start.saturating_add(other as u64);
    let entry = shard.saturating_add(number << (level * TILE_LEVELS));
    let folder = if shard == 0 { "tiles/".to_owned() } else { format!("tiles/{shard:020}/") };
    fault(
        entry,
        format!(
            "hash {number} in {folder}{level} is not that of the journal, so the public log does not show what was signed. Stop \
             the broker, move {folder} away and start it: tiles are derived again"
        ),
    )
}
