//! The tiles, which the public log is served from, have the hashes of the journal. One that is not there is no fault: tiles are
//! derived, and the broker makes it again. What lies behind the end of the journal is not looked at.

use unefois_audit::Hash;
use unefois_audit::tile::TILE_HEIGHT;

use super::{BatchSource, LogFault, fault};

/// A hash that tiles hold: tile level, its number there, and the hash.
pub(super) type TileHash = (u8, u64, Hash);

/// Keeps of the complete subtrees that are reported those that tiles hold.
pub(super) fn keep(kept: &mut Vec<TileHash>) -> impl FnMut(u8, u64, Hash) {
    |level, number, hash| {
        if level.is_multiple_of(TILE_HEIGHT) {
            kept.push((level / TILE_HEIGHT, number, hash));
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
    fault(
        shard.saturating_add(number << (level * TILE_HEIGHT)),
        format!(
            "hash {number} of tile level {level} is not that of the journal, so the public log does not show what was signed. Stop \
             the broker, move its folder tiles/ away and start it: tiles are derived again"
        ),
    )
}
