//! Reading a journal, also beside the process that writes it.

use std::path::Path;

use unefois_audit::Hash;
use unefois_engine::replay::BatchSource;
use unefois_engine::store::{Batch, JournalEnd, SealedEntry, StoreError, Visit};

use super::open::{folder_of_tiles, follow, open_segment, shards_of};
use super::places::{Places, Unused};
use crate::embedded::segment::{self, Frames};
use crate::embedded::tiles::{Access, Tiles, count_at};

/// Each look finds another batch under way; so many of them one after the other do not happen.
const LOOKS: u32 = 1_000;

/// Reads a journal that another process may be writing: what was durable when it was opened.
#[derive(Debug)]
pub struct JournalReader {
    places: Places,
    /// First entries of the shards, with their tiles.
    shards: Vec<(u64, Tiles)>,
    /// First entry of the last segment: the tiles of all before it are durable.
    last_segment: u64,
    end: JournalEnd,
    torn_bytes: u64,
}

impl JournalReader {
    /// Opens the journal under `root` for reading. Nothing is written and no lock is taken.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let folder = root.join("journal");
        let firsts = segment::list(&folder)?;
        let last = firsts.last().ok_or_else(|| StoreError::Read(format!("{} holds no journal", folder.display())))?;
        let (file, path) = open_segment(&folder, *last, Access::Read)?;
        let mut end = segment::read_header(&file, &path)?;
        let mut frames = Frames::new(&file, &path)?;
        let places = Places::new(&folder, firsts.clone(), Unused::IsRead);
        let mut looks = 0;
        let torn_bytes = loop {
            let before = end.entries();
            let mut offset = frames.offset;
            while let Ok(batch) = frames.next()? {
                end = follow(end, &batch, &path, None)?;
                places.note(batch.first, offset);
                offset = frames.offset;
            }
            // ORDER: a look behind the frame comes before the next look at the frame itself. The writer begins a batch only when
            // the one before it is durable; so one that is not whole after a whole one was seen behind it is damaged, and
            // one that is whole now was being written.
            if looks > 0 && end.entries() == before {
                return Err(StoreError::Corrupt(format!("{} is damaged at byte {}", path.display(), frames.offset)));
            }
            let torn_bytes = frames.trailing_bytes()?;
            if torn_bytes == 0 || !frames.whole_frame_follows()? {
                break torn_bytes;
            }
            looks += 1;
            if looks > LOOKS {
                return Err(StoreError::Read(format!("{} is written faster than it is read", path.display())));
            }
        };
        let tiles = |shard| Tiles::open(&folder_of_tiles(&root.join("tiles"), shard), Access::Read);
        let shards = shards_of(&folder, &firsts)?.into_iter().map(|shard| Ok((shard, tiles(shard)?)));
        let shards = shards.collect::<Result<Vec<_>, StoreError>>()?;
        Ok(Self { places, shards, last_segment: *last, end, torn_bytes })
    }

    /// Where the journal stood when it was opened.
    pub fn end(&self) -> &JournalEnd {
        &self.end
    }

    /// Bytes behind the last whole batch: a commit under way, what a crash left, or a batch that somebody changed. The
    /// files alone do not tell these apart; a receipt or an older head does.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }
}

impl BatchSource for JournalReader {
    fn size(&self) -> u64 {
        self.end.entries()
    }

    fn shards(&self) -> Vec<u64> {
        self.shards.iter().map(|(first, _)| *first).collect()
    }

    fn read(&self, from: u64, visit: &mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError> {
        self.places.read(from, self.end.entries(), visit)
    }

    fn entry(&self, index: u64) -> Result<Option<SealedEntry>, StoreError> {
        self.places.entry(index, self.end.entries())
    }

    fn tile_hashes(&self, shard: u64, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        let tiles = self.shards.iter().find(|(first, _)| *first == shard).map(|(_, tiles)| tiles);
        let mut hashes = tiles.map_or(Ok(Vec::new()), |tiles| tiles.read_what_is_there(level, start, count))?;
        // What was not durable yet reads as zeros after a power cut, and is derived again before anybody is served it.
        let durable = count_at(level, self.last_segment.saturating_sub(shard)).saturating_sub(start);
        let durable = usize::try_from(durable).unwrap_or(usize::MAX);
        if let Some(lost) = hashes.iter().skip(durable).position(|hash| hash.0 == [0; 32]) {
            hashes.truncate(durable.saturating_add(lost));
        }
        Ok(hashes)
    }
}
