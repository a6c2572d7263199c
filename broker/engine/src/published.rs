//! The public side of the log: checkpoint, tiles and entry bundles (C2SP tlog-tiles). Leaves hold nothing personal, so
//! reading them needs no caller and leaves no entry.

use std::sync::Arc;

use unefois_audit::{TileKind, TilePath, encode_bundle, encode_tile};
use unefois_consent::Timestamp;

use crate::by_time::first_not_before;
use crate::committer::SignedHead;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::store::{Journal, SealedEntry, StoreError, Visit};
use crate::traces::{blocking, visit_entries};

impl Engine {
    /// The bytes of a tile or entry bundle, full or partial, of the shard that `head` is of. `None` where the tree of `head` has
    /// no such tile. A tile that exists never changes.
    pub async fn tile(&self, head: &SignedHead, path: TilePath) -> Result<Option<Vec<u8>>, EngineError> {
        if !path.is_within(head.size) {
            return Ok(None);
        }
        let (journal, shard) = (Arc::clone(self.journal()), head.shard);
        blocking(move || Ok(Some(read_tile(&*journal, shard, path)?))).await
    }

    /// Index of the first entry that was not written more than `months` whole months ago.
    pub async fn first_within(&self, months: u32) -> Result<u64, EngineError> {
        let (journal, now) = (Arc::clone(self.journal()), self.now().month());
        let is_older =
            move |entry: &SealedEntry| now.since(Timestamp::from_millis(entry.leaf.time_ms).month()) > months;
        blocking(move || Ok(first_not_before(&*journal, is_older)?)).await
    }
}

fn read_tile(journal: &dyn Journal, shard: u64, path: TilePath) -> Result<Vec<u8>, StoreError> {
    let (start, width) = (path.start(), usize::from(path.width()));
    match path.kind() {
        TileKind::Hashes { level } => {
            let hashes = journal.tile_hashes(shard, level, start, width)?;
            Ok(encode_tile(&hashes))
        }
        TileKind::Entries => {
            let start = shard + start;
            let end = start + width as u64;
            let mut leaves = Vec::with_capacity(width);
            visit_entries(journal, start, end, |_, entry| {
                leaves.push(entry.leaf);
                Ok(Visit::Continue)
            })?;
            if leaves.len() != width {
                return Err(StoreError::Corrupt(format!("entries {start} to {end} are not all in the journal")));
            }
            Ok(encode_bundle(&leaves))
        }
    }
}
