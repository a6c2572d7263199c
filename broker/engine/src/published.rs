//! The public side of the log: checkpoint, tiles and entry bundles (C2SP tlog-tiles). Leaves hold nothing personal, so
//! reading them needs no caller and leaves no entry.

use std::sync::Arc;

use unefois_audit::{TileKind, TilePath, encode_bundle, encode_tile};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::store::{Journal, StoreError, Visit};
use crate::traces::{blocking, visit_entries};

impl Engine {
    /// The bytes of a tile or entry bundle, full or partial. `None` where the log at its newest signed head has no such
    /// tile. A tile that exists never changes.
    pub async fn tile(&self, path: TilePath) -> Result<Option<Vec<u8>>, EngineError> {
        if !path.is_within(self.head().size) {
            return Ok(None);
        }
        let journal = Arc::clone(self.journal());
        blocking(move || Ok(Some(read_tile(&*journal, path)?))).await
    }
}

fn read_tile(journal: &dyn Journal, path: TilePath) -> Result<Vec<u8>, StoreError> {
    let (start, width) = (path.start(), usize::from(path.width()));
    match path.kind() {
        TileKind::Hashes { level } => {
            let hashes = journal.tile_hashes(level, start, width)?;
            Ok(encode_tile(&hashes))
        }
        TileKind::Entries => {
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
