//! Opening a journal: each segment leads to the next, and the last one is verified. Nothing is changed; what a crash
//! interrupted is finished or dropped once the start is accepted, see `accept.rs`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use unefois_consent::Event;
use unefois_engine::store::{Batch, JournalEnd, StoreError, Visit};

use super::Tail;
use super::accept::{Next, Pending, Torn};
use super::places::{Places, Unused};
use crate::embedded::segment::{self, Frames};
use crate::embedded::tiles::{Access, Tiles};

/// Of tiles that were lost, so many hashes at most wait in memory until the start is accepted, 50 MB of them; more are written at
/// once.
const DERIVED_IN_MEMORY: u64 = 1 << 19;

/// A journal as it was found.
pub(super) struct Opened {
    pub(super) end: JournalEnd,
    pub(super) shards: Vec<(u64, Arc<Tiles>)>,
    pub(super) places: Places,
    pub(super) pending: Pending,
}

/// Verifies the last segment of the journal in `folder`, and finds what a crash left half written or half done.
pub(super) fn open(folder: &Path, tiles_folder: &Path) -> Result<Opened, StoreError> {
    let firsts = if folder.exists() { segment::list(folder)? } else { Vec::new() };
    let mut pending = Pending::default();
    let Some(last) = firsts.last() else {
        let shards = vec![(0, tiles_of(tiles_folder, 0)?)];
        let places = Places::new(folder, Vec::new(), Unused::IsLeft);
        return Ok(Opened { end: JournalEnd::of_new_shard(0, 0), shards, places, pending });
    };
    check_order(folder, &firsts)?;
    let mut shards = open_shards(folder, tiles_folder, &firsts, &mut pending)?;
    let tiles = shards.last().map(|(_, tiles)| Arc::clone(tiles));
    let tiles = tiles.ok_or_else(|| StoreError::Corrupt(format!("{} holds no shard", folder.display())))?;
    let places = Places::new(folder, firsts.clone(), Unused::IsLeft);
    let mut found = recover(folder, tiles, (*last, &places))?;
    pending.torn.extend(found.torn);
    if segment::has_next(folder) {
        if is_closed(&places, &found.end)? {
            let next = segment::read_next(folder)?;
            if next.entries() != found.end.entries() || next.shard != next.entries() {
                return Err(StoreError::Corrupt(format!("{} holds the next shard of another log", folder.display())));
            }
            let tiles = tiles_of(tiles_folder, next.shard)?;
            pending.derived.push(found.tail.tiles);
            shards.push((next.shard, Arc::clone(&tiles)));
            places.begin(next.shard);
            found = recover(folder, tiles, (next.shard, &places))?;
            pending.torn.extend(found.torn);
            pending.next = Some(Next::Enter(next));
        } else {
            pending.next = Some(Next::Drop);
        }
    }
    // The last segment is locked since; who wrote before may have begun another one meanwhile.
    if segment::list(folder)? != firsts {
        return Err(StoreError::Fenced(format!("{} is being written; is a broker running on it?", folder.display())));
    }
    pending.tail = Some(found.tail);
    Ok(Opened { end: found.end, shards, places, pending })
}

/// Each segment leads to the next one, and the first one begins a shard: none was taken out. That this is the first shard is
/// told by what the shards say of each other.
fn check_order(folder: &Path, firsts: &[u64]) -> Result<(), StoreError> {
    let mut before: Option<(File, PathBuf)> = None;
    for first in firsts {
        let (file, path) = open_segment(folder, *first, Access::Read)?;
        let begin = segment::read_header(&file, &path)?;
        let fits = match &before {
            None => begin.shard == *first,
            Some((file, path)) => segment::leads_to(file, path, &begin)?,
        };
        if begin.entries() != *first || !fits {
            return Err(StoreError::Corrupt(format!(
                "{} does not go on where the segment before it ends: one is missing, cut or damaged, and `unefois audit verify` says \
                 with which entry. Put the newest copy of journal/ back",
                path.display()
            )));
        }
        before = Some((file, path));
    }
    Ok(())
}

/// Where the tiles of the shard lie that begins with entry `shard`: those of the first one in `tiles` itself.
pub(super) fn folder_of_tiles(tiles: &Path, shard: u64) -> PathBuf {
    if shard == 0 { tiles.to_owned() } else { tiles.join(format!("{shard:020}")) }
}

/// The tiles of that shard. Their folder is made with the first of them.
pub(super) fn tiles_of(tiles: &Path, shard: u64) -> Result<Arc<Tiles>, StoreError> {
    Ok(Arc::new(Tiles::open(&folder_of_tiles(tiles, shard), Access::Write)?))
}

/// Each shard with its tiles, which are derived again where some are missing; those of the last segment are not looked at.
fn open_shards(
    folder: &Path,
    tiles_folder: &Path,
    firsts: &[u64],
    pending: &mut Pending,
) -> Result<Vec<(u64, Arc<Tiles>)>, StoreError> {
    let shards = shards_of(folder, firsts)?;
    let ends = shards.iter().skip(1).chain(firsts.last()).copied();
    let mut opened = Vec::with_capacity(shards.len());
    for (shard, end) in shards.iter().copied().zip(ends) {
        let tiles = tiles_of(tiles_folder, shard)?;
        if !tiles.cover(end.saturating_sub(shard))? {
            tracing::warn!(shard, "tile hashes are missing and are derived from the journal");
            derive_tiles(folder, &tiles, (shard, firsts), end)?;
            pending.derived.push(Arc::clone(&tiles));
        }
        opened.push((shard, tiles));
    }
    Ok(opened)
}

/// First entries of the shards of a journal whose segments begin with `firsts`, in order.
pub(super) fn shards_of(folder: &Path, firsts: &[u64]) -> Result<Vec<u64>, StoreError> {
    let mut shards = Vec::new();
    let mut before = firsts.len();
    while let Some(last) = firsts.get(..before).and_then(<[u64]>::last) {
        let (file, path) = open_segment(folder, *last, Access::Read)?;
        let shard = segment::read_header(&file, &path)?.shard;
        shards.push(shard);
        before = firsts.partition_point(|first| *first < shard);
    }
    shards.reverse();
    Ok(shards)
}

/// Whether the last entry of the journal, alone in its batch, closes its shard.
fn is_closed(places: &Places, end: &JournalEnd) -> Result<bool, StoreError> {
    let mut closed = false;
    places.read(end.entries().saturating_sub(1), end.entries(), &mut |batch| {
        closed = matches!(batch.entries.as_slice(), [only] if only.leaf.kind == Event::SHARD_CLOSED);
        Visit::Continue
    })?;
    Ok(closed)
}

pub(super) fn open_segment(folder: &Path, first: u64, access: Access) -> Result<(File, PathBuf), StoreError> {
    segment::open(folder, first, access == Access::Write)
}

/// The segment under way as it was found.
pub(super) struct Found {
    pub(super) tail: Tail,
    pub(super) end: JournalEnd,
    pub(super) torn: Option<Torn>,
}

/// Reads the last segment, which begins with entry `last`, checks every frame against the tree, notes its place, and finds a torn
/// end. The tiles keep its hashes in memory.
pub(super) fn recover(folder: &Path, tiles: Arc<Tiles>, (last, places): (u64, &Places)) -> Result<Found, StoreError> {
    let (file, path) = open_segment(folder, last, Access::Write)?;
    let mut end = segment::read_header(&file, &path)?;
    if end.entries() != last {
        return Err(StoreError::Corrupt(format!("{} begins with another entry than its name says", path.display())));
    }
    let mut frames = Frames::new(&file, &path)?;
    let stop = loop {
        let offset = frames.offset;
        match frames.next()? {
            Ok(batch) => {
                end = follow(end, &batch, &path, Some(&tiles))?;
                places.note(batch.first, offset);
            }
            Err(none) => break none,
        }
    };
    let offset = frames.offset;
    let torn = frames.trailing_bytes()?;
    if torn > 0 && frames.whole_frame_follows()? {
        return Err(StoreError::Corrupt(format!(
            "{} is damaged at byte {offset} and goes on behind it: not what a crash leaves. Restore the folder from a backup",
            path.display()
        )));
    }
    let torn = (torn > 0).then_some(Torn { segment: last, offset, bytes: torn, stop });
    Ok(Found { tail: Tail::new(file, path, offset, tiles)?, end, torn })
}

/// The journal's end after `batch`, which must go on where `end` stops and lead to the root that it says.
pub(super) fn follow(
    end: JournalEnd,
    batch: &Batch,
    path: &Path,
    tiles: Option<&Tiles>,
) -> Result<JournalEnd, StoreError> {
    if batch.first != end.entries() {
        return Err(StoreError::Corrupt(format!(
            "{}: entry {} does not follow {}",
            path.display(),
            batch.first,
            end.entries()
        )));
    }
    let mut frontier = end.frontier.clone();
    let mut closed = Vec::new();
    for entry in &batch.entries {
        frontier.append_with(entry.leaf.hash(), |level, index, hash| closed.push((level, index, hash)));
    }
    if frontier.root() != batch.root {
        return Err(StoreError::Corrupt(format!(
            "{}: the entries from {} do not lead to their root",
            path.display(),
            batch.first
        )));
    }
    if let Some(tiles) = tiles {
        tiles.keep(&closed);
    }
    Ok(end.after(batch, frontier))
}

/// Derives the tiles of a shard from all its segments before the one that begins with `before`, in memory where they fit there.
fn derive_tiles(folder: &Path, tiles: &Tiles, (shard, firsts): (u64, &[u64]), before: u64) -> Result<(), StoreError> {
    let mut end = JournalEnd::of_new_shard(shard, 0);
    for first in firsts.iter().filter(|first| (shard..before).contains(first)) {
        let (file, path) = open_segment(folder, *first, Access::Read)?;
        let mut frames = Frames::new(&file, &path)?;
        while let Ok(batch) = frames.next()? {
            end = follow(end, &batch, &path, Some(tiles))?;
            if before.saturating_sub(shard) > DERIVED_IN_MEMORY {
                tiles.catch_up()?;
            }
        }
    }
    if end.entries() != before {
        return Err(StoreError::Corrupt(format!(
            "entries {} to {before} are missing from {}",
            end.entries(),
            folder.display()
        )));
    }
    Ok(())
}
