//! The rollback guard: the newest signed head, kept apart from the data.
//!
//! A data folder that was put back from an older copy verifies in itself; it is only by a head from outside that its loss
//! shows. So a thread writes the newest head to a [`HeadFile`], on another disk where the operator gives one, and opening
//! refuses data that does not hold it. While the file cannot be brought up to date nothing new is decided.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use unefois_audit::{Checkpoint, TileNodes, VerifierKey, root_at};

use crate::committer::SignedHead;
use crate::engine::EngineParts;
use crate::error::EngineError;
use crate::halt::Halt;
use crate::shard::Shards;
use crate::store::{HeadFile, StoreError};
use crate::traces::Tiles;

/// How often the newest head is written, where it moved.
const WRITE_EVERY: Duration = Duration::from_millis(250);
/// A head that has waited so long for its writing holds up new steps, so that the file is never older than a second.
const HOLDS_UP_AFTER: Duration = Duration::from_millis(700);

/// Refuses data that does not hold the head that was kept apart.
pub(crate) fn check(parts: &EngineParts, head: &SignedHead, shards: &Shards) -> Result<(), EngineError> {
    let file = &*parts.head;
    match file.read()?.filter(|note| !note.is_empty()) {
        None if head.entries() > 0 => return Err(missing(file, head)),
        None => {}
        Some(note) => check_kept(parts, (head, shards), &note)?,
    }
    Ok(())
}

/// Brings the head that is kept apart up to date, once the start is accepted.
pub(crate) fn write(parts: &EngineParts, head: &SignedHead) -> Result<(), EngineError> {
    let file = &*parts.head;
    if head.entries() > 0 {
        // Twice: a file that keeps the head before the newest one does not fall back behind this start.
        file.write(&head.note)?;
        return Ok(file.write(&head.note)?);
    }
    // Signed too, before the first entry: a file that says nothing is one that was emptied.
    let key = parts.signer.verifier_key();
    let empty = Checkpoint { origin: key.name().to_owned(), size: 0, root: head.root };
    let signature = parts.signer.sign(empty.note_text().as_bytes())?;
    file.write(&empty.signed(&signature, key.id()))?;
    Ok(())
}

fn missing(file: &dyn HeadFile, head: &SignedHead) -> EngineError {
    EngineError::Log(format!(
        "there is no head in {}, and the data folder holds {} entries: whether it is the newest cannot be told. Put the \
         head file back. If it is lost and you know that this data folder is the newest, run `unefois audit accept-head`",
        file.name(),
        head.entries()
    ))
}

fn check_kept(parts: &EngineParts, (head, shards): (&SignedHead, &Shards), note: &str) -> Result<(), EngineError> {
    let name = parts.head.name();
    let key = parts.signer.verifier_key();
    // A process that died between the closing of a shard and the next head left a head of the closed one, and the next shard
    // with its first entry alone.
    let before = shards.closed().last().filter(|_| head.size == 1);
    let of_before = before.and_then(|(shard, last)| {
        let kept = Checkpoint::open(note, &shard.key, shard.key.name()).ok()?;
        Some((kept, &**last))
    });
    let (kept, head) = match of_before {
        Some(found) => found,
        None => {
            let kept = Checkpoint::open(note, key, key.name()).map_err(|error| {
                let (name, origin) = (&name, key.name());
                EngineError::Log(format!(
                    "the head file {name} holds no head of {origin}: {error}. Is it of another log? If it is of an older shard, \
                     or the data folder is older than the closing of one, put the newest of both back; if that is lost and \
                     you know that this data folder is the newest, `unefois audit accept-head` goes on from it"
                ))
            })?;
            (kept, head)
        }
    };
    if kept.size > head.size {
        return Err(EngineError::Log(format!(
            "the head file {name} says {} entries and the data folder holds {}: it is older than the log that was shown to \
             others. Put back the newest data folder. If it is lost for good, keep both as proof and tell those who hold \
             receipts of the entries from {} on; then `unefois audit accept-head` goes on from what is there",
            kept.size, head.size, head.size
        )));
    }
    let tiles = TileNodes(&Tiles { journal: &*parts.journal, shard: head.shard });
    let root = root_at(&tiles, kept.size).map_err(|error| EngineError::Log(error.to_string()))?;
    if root != kept.root {
        return Err(EngineError::Log(format!(
            "the data folder holds another history than the head file {name}: they differ before entry {}. Put back the \
             data folder that belongs to it",
            kept.size
        )));
    }
    Ok(())
}

/// Whether the head file has a head that `key` signed.
pub(crate) fn is_of(parts: &EngineParts, key: &VerifierKey) -> bool {
    let note = parts.head.read().ok().flatten();
    note.is_some_and(|note| Checkpoint::open(&note, key, key.name()).is_ok())
}

/// Keeps the head file up to date.
#[derive(Debug)]
pub(crate) struct Keeper {
    file: Arc<dyn HeadFile>,
    head: Arc<ArcSwap<SignedHead>>,
    halt: Arc<Halt>,
    begun: Instant,
    /// Since when a head waits for its writing, in milliseconds since `begun`, and one more; 0 while none waits.
    waits_since: AtomicU64,
    state: Mutex<KeeperState>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct KeeperState {
    closing: bool,
    fault: Option<StoreError>,
}

impl Keeper {
    pub(crate) fn new(file: Arc<dyn HeadFile>, head: Arc<ArcSwap<SignedHead>>, halt: Arc<Halt>) -> Self {
        let (state, wake) = Default::default();
        Self { file, head, halt, begun: Instant::now(), waits_since: AtomicU64::new(0), state, wake }
    }

    fn state(&self) -> MutexGuard<'_, KeeperState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's work, until [`Keeper::close`].
    pub(crate) fn run(&self) {
        let mut written = self.head.load().entries();
        loop {
            let closing = self.wait();
            let head = self.head.load_full();
            if head.entries() != written {
                let waits_since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
                // Kept while writing fails, so that its age grows.
                let _ = self.waits_since.compare_exchange(0, waits_since, Ordering::Release, Ordering::Relaxed);
                let outcome = self.file.write(&head.note);
                if outcome.is_ok() {
                    written = head.entries();
                    self.waits_since.store(0, Ordering::Release);
                }
                self.tell(outcome.err());
            }
            if closing {
                return;
            }
        }
    }

    /// Waits for the next turn; says whether it is the last one.
    fn wait(&self) -> bool {
        let state = self.state();
        let (state, _) = self
            .wake
            .wait_timeout_while(state, WRITE_EVERY, |state| !state.closing)
            .unwrap_or_else(PoisonError::into_inner);
        state.closing
    }

    fn tell(&self, fault: Option<StoreError>) {
        let mut state = self.state();
        match (&state.fault, &fault) {
            (None, Some(error)) => tracing::error!(%error, "the head file cannot be written"),
            (Some(_), None) => tracing::info!("the head file is up to date again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        state.fault = fault;
        drop(state);
        self.wake.notify_all();
    }

    /// Returns once the head file is young enough for the next step. Waits for a slow disk; fails where writing fails.
    pub(crate) fn until_fresh(&self) -> Result<(), StoreError> {
        while self.is_late() {
            if let Some(fault) = &self.state().fault {
                return Err(StoreError::NotWritten(format!("the head file is not up to date: {fault}")));
            }
            if self.halt.check().is_err() {
                // The next look at the halt says why.
                return Ok(());
            }
            let state = self.state();
            drop(self.wake.wait_timeout(state, WRITE_EVERY));
        }
        Ok(())
    }

    fn is_late(&self) -> bool {
        match self.waits_since.load(Ordering::Acquire) {
            0 => false,
            since => self.begun.elapsed().saturating_sub(Duration::from_millis(since)) > HOLDS_UP_AFTER,
        }
    }

    /// Writes the last head and ends the thread.
    pub(crate) fn close(&self) {
        self.state().closing = true;
        self.wake.notify_all();
    }
}
