//! The thread that brings a replay's rows to its fold, while the replay goes on.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use ring::digest::{Context, SHA256};

use crate::rows::Chunk;
use crate::store::{Fold, StoreError};

/// One chunk at a time is on its way.
pub(super) struct Folder {
    chunks: Option<Sender<(Chunk, u64)>>,
    folded: Receiver<Result<u64, StoreError>>,
    is_busy: bool,
    /// Gives the digest of all changes.
    thread: Option<JoinHandle<Context>>,
}

impl Folder {
    pub(super) fn start(fold: Arc<dyn Fold>) -> Result<Self, StoreError> {
        let (chunks, to_fold) = bounded::<(Chunk, u64)>(1);
        let (told, folded) = bounded(1);
        let run = move || {
            let mut changes = Context::new(&SHA256);
            for (chunk, position) in to_fold {
                changes.update(chunk.appended());
                let applied = fold.apply(&chunk.changes(), position).map(|()| position);
                if told.send(applied).is_err() {
                    break;
                }
            }
            changes
        };
        let thread = std::thread::Builder::new().name("unefois-replay-f".to_owned()).spawn(run);
        let thread = thread.map_err(|error| StoreError::NotWritten(format!("no thread for the fold: {error}")))?;
        Ok(Self { chunks: Some(chunks), folded, is_busy: false, thread: Some(thread) })
    }

    /// Waits for the chunk on its way: the position that the fold is at since then; `None` where none was.
    pub(super) fn wait(&mut self) -> Result<Option<u64>, StoreError> {
        if !std::mem::take(&mut self.is_busy) {
            return Ok(None);
        }
        self.folded.recv().unwrap_or_else(|_| Err(gone())).map(Some)
    }

    /// Sends a chunk on its way. The last one must have been waited for.
    pub(super) fn send(&mut self, chunk: Chunk, position: u64) -> Result<(), StoreError> {
        self.is_busy = true;
        let sent = self.chunks.as_ref().map(|chunks| chunks.send((chunk, position)));
        if matches!(sent, Some(Ok(()))) { Ok(()) } else { Err(gone()) }
    }

    /// Waits for the last chunk: the digest of all changes, in the order in which they came.
    pub(super) fn end(mut self) -> Result<Context, StoreError> {
        self.wait()?;
        self.chunks = None;
        let changes = self.thread.take().map(JoinHandle::join);
        changes.and_then(Result::ok).ok_or_else(gone)
    }
}

fn gone() -> StoreError {
    StoreError::NotWritten("the thread of the fold ended".to_owned())
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.chunks = None;
        if let Some(thread) = self.thread.take() {
            // Where it panicked, nobody is left to be told.
            let _ = thread.join();
        }
    }
}
