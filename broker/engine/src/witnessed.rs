//! The head that witnesses have cosigned. Who asks them, and which of them are enough, lies outside: the engine is told
//! the result, shows it, and refuses service where it is told to.

use std::collections::BTreeMap;
use std::sync::Arc;

use unefois_audit::{Hash, TileNodes, consistency_proof, root_at};

use crate::committer::SignedHead;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::traces::{Tiles, blocking};

impl Engine {
    /// The head for the world: the one that was published last, or the newest signed one where none was.
    pub fn published_head(&self) -> Arc<SignedHead> {
        self.shared_published().load_full().unwrap_or_else(|| self.head())
    }

    /// The last head of the closed shard that entry `index` is in, as it was published last; `None` in the open one.
    pub fn closed_head(&self, index: u64) -> Option<Arc<SignedHead>> {
        let own = self.shards().closed_head(index)?;
        Some(self.shared_published_closed().load().get(&own.shard).unwrap_or(own).clone())
    }

    /// The newest head of the shard that begins with entry `shard`.
    fn newest_of(&self, shard: u64) -> Arc<SignedHead> {
        self.closed_head(shard).unwrap_or_else(|| self.head())
    }

    /// Shows `head` for the closed shard that it is of: its last head, with cosignatures that the caller has checked.
    pub fn publish_closed_head(&self, head: SignedHead) {
        let head = Arc::new(head);
        self.shared_published_closed().rcu(|known| {
            let mut known = BTreeMap::clone(known);
            known.insert(head.shard, Arc::clone(&head));
            known
        });
    }

    /// Shows `head` from now on. The caller has checked that it is one of this log, that the cosignatures in its note hold,
    /// and that it is not smaller than what was shown before: a log that shrinks looks like one that was rolled back.
    pub fn publish_head(&self, head: SignedHead) {
        self.shared_published().store(Some(Arc::new(head)));
    }

    /// Refuses everything new while `late`, and lets what is under way end. Unlike a halt it can be taken back.
    pub fn set_late_quorum(&self, late: bool) {
        self.halt().set_late_quorum(late);
    }

    /// Consistency proof from size `old` to `head`, of one shard of this log.
    pub async fn consistency_between(&self, old: u64, head: &SignedHead) -> Result<Vec<Hash>, EngineError> {
        let (shard, new) = (head.shard, head.size);
        if old > new || new > self.newest_of(shard).size {
            return Err(EngineError::NotFound("this tree size"));
        }
        let journal = Arc::clone(self.journal());
        blocking(move || {
            consistency_proof(&TileNodes(&Tiles { journal: &*journal, shard }), old, new)
                .map_err(|error| EngineError::Log(error.to_string()))
        })
        .await
    }

    /// Root of the tree of the first `size` entries of the shard that begins with entry `shard`, which it has reached.
    pub async fn root_at(&self, shard: u64, size: u64) -> Result<Hash, EngineError> {
        if size > self.newest_of(shard).size {
            return Err(EngineError::NotFound("this tree size"));
        }
        let journal = Arc::clone(self.journal());
        blocking(move || {
            root_at(&TileNodes(&Tiles { journal: &*journal, shard }), size)
                .map_err(|error| EngineError::Log(error.to_string()))
        })
        .await
    }
}
