//! The head that witnesses have cosigned. Who asks them, and which of them are enough, lies outside: the engine is told
//! the result, shows it, and refuses service where it is told to.

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

    /// Shows `head` from now on. The caller has checked that it is one of this log, that the cosignatures in its note hold,
    /// and that it is not smaller than what was shown before: a log that shrinks looks like one that was rolled back.
    pub fn publish_head(&self, head: SignedHead) {
        self.shared_published().store(Some(Arc::new(head)));
    }

    /// Refuses everything new while `late`, and lets what is under way end. Unlike a halt it can be taken back.
    pub fn set_late_quorum(&self, late: bool) {
        self.halt().set_late_quorum(late);
    }

    /// Consistency proof from size `old` to size `new`, which the log has reached.
    pub async fn consistency_between(&self, old: u64, new: u64) -> Result<Vec<Hash>, EngineError> {
        if old > new || new > self.head().size {
            return Err(EngineError::NotFound("this tree size"));
        }
        let journal = Arc::clone(self.journal());
        blocking(move || {
            consistency_proof(&TileNodes(&Tiles(&*journal)), old, new)
                .map_err(|error| EngineError::Log(error.to_string()))
        })
        .await
    }

    /// Root of the tree of the first `size` entries, which the log has reached.
    pub async fn root_at(&self, size: u64) -> Result<Hash, EngineError> {
        if size > self.head().size {
            return Err(EngineError::NotFound("this tree size"));
        }
        let journal = Arc::clone(self.journal());
        blocking(move || {
            root_at(&TileNodes(&Tiles(&*journal)), size).map_err(|error| EngineError::Log(error.to_string()))
        })
        .await
    }
}
