//! Reading of traces and proofs. Who reads records leaves an entry; proofs and checkpoints hold nothing personal.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use tokio::sync::Semaphore;
use unefois_audit::{Hash, Leaf, Receipt, TileHashes, TileNodes, TlogProof, inclusion_proof};
use unefois_consent::Siret;
use unefois_consent::event::{Event, TraceScope, TracesRead};
use unefois_consent::registry::Role;

use crate::caller::VerifiedParticipant;
use crate::committer::SignedHead;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::seal::OpenRecord;
use crate::sequencer::Turn;
use crate::store::{Journal, Opening, SealedEntry, StoreError, Visit};

/// Most entries on one page of a list.
pub const MAX_ENTRIES: u64 = 1_000;
/// A page ends with the entry that brings its records to so many bytes.
pub const MAX_PAGE_BYTES: usize = 2 << 20;

/// One entry as an auditor sees it.
#[derive(Debug, Clone)]
pub struct EntryView {
    /// Its index.
    pub index: u64,
    /// Its public leaf.
    pub leaf: Leaf,
    /// What of its commitment stays open.
    pub opening: Opening,
    /// Its record; absent where it was purged.
    pub record: Option<OpenRecord>,
}

/// The tiles of one shard as nodes of its tree.
#[derive(Debug)]
pub(crate) struct Tiles<'a> {
    pub(crate) journal: &'a dyn Journal,
    /// Index of the shard's first entry.
    pub(crate) shard: u64,
}

impl TileHashes for Tiles<'_> {
    type Error = StoreError;

    fn hashes(&self, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        self.journal.tile_hashes(self.shard, level, start, count)
    }
}

/// That an entry is in the tree of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// The head.
    pub head: Arc<SignedHead>,
    /// Index of the entry's leaf in that tree.
    pub index: u64,
    /// From the leaf's sibling to the root's child.
    pub hashes: Vec<Hash>,
}

impl Engine {
    /// The newest signed head.
    pub fn head(&self) -> Arc<SignedHead> {
        self.shared_head().load_full()
    }

    /// Up to `limit` entries from index `from`, for an auditor: at most [`MAX_ENTRIES`], and not many more than
    /// [`MAX_PAGE_BYTES`] of records. The reading is an entry too, durable before this returns; where there is nothing to
    /// read yet, there is no entry.
    pub async fn entries(
        &self,
        caller: &VerifiedParticipant,
        from: u64,
        limit: u64,
        deadline: Instant,
    ) -> Result<Vec<EntryView>, EngineError> {
        let limit = limit.clamp(1, MAX_ENTRIES);
        let page = self.read_entries(from, from.saturating_add(limit)).await?;
        let to = from.saturating_add(page.len() as u64);
        self.log_reading(caller, Role::Audit, TraceScope::Entries { from, to }, deadline).await?;
        Ok(page)
    }

    /// The receipt of an entry, against the published head where that covers it, else against the newest one. An auditor
    /// may have any; a consumer those of the answers that it got.
    pub async fn receipt(
        &self,
        caller: &VerifiedParticipant,
        role: Role,
        index: u64,
        deadline: Instant,
    ) -> Result<Receipt, EngineError> {
        let not_found = EngineError::NotFound("this receipt");
        if index >= self.head().entries() {
            return Err(not_found);
        }
        let entry = self.read_entry(index).await?;
        let record = entry.record.ok_or(EngineError::NotFound("this record; it was purged"))?;
        match role {
            Role::Exchange if !is_answer_to(&record.record, caller.participant()) => return Err(not_found),
            Role::Exchange | Role::Audit => {}
            Role::Registry | Role::Portal => {
                return Err(EngineError::NotAllowed("receipts are for the roles exchange and audit"));
            }
        }
        self.log_reading(caller, role, TraceScope::Receipt { index }, deadline).await?;
        self.receipt_at(index).await
    }

    /// The receipt of an entry whose record is there. The reading is logged already.
    pub(crate) async fn receipt_at(&self, index: u64) -> Result<Receipt, EngineError> {
        let entry = self.read_entry(index).await?;
        let record = entry.record.ok_or(EngineError::NotFound("this record; it was purged"))?;
        let Inclusion { head, index, hashes } = self.inclusion_in(self.head_for(index), index).await?;
        let proof = TlogProof { extra: None, index, hashes, checkpoint: head.note.clone() };
        Ok(Receipt {
            record: record.record,
            salt: record.salt,
            retention_part: entry.opening.parts().retention,
            links_part: entry.opening.links,
            kind: entry.leaf.kind,
            time_ms: entry.leaf.time_ms,
            proof,
            answer_salt: None,
        })
    }

    /// The head that a receipt of entry `index` is given against: the one that was published, where it holds the entry, else
    /// the newest one; in a closed shard its last one.
    fn head_for(&self, index: u64) -> Arc<SignedHead> {
        if let Some(last) = self.closed_head(index) {
            return last;
        }
        let published = self.published_head();
        if index < published.entries() { published } else { self.head() }
    }

    /// Inclusion proof of an entry against the newest head of its shard.
    pub async fn inclusion(&self, index: u64) -> Result<Inclusion, EngineError> {
        let head = self.closed_head(index).unwrap_or_else(|| self.head());
        self.inclusion_in(head, index).await
    }

    async fn inclusion_in(&self, head: Arc<SignedHead>, index: u64) -> Result<Inclusion, EngineError> {
        if index >= head.entries() {
            return Err(EngineError::NotFound("this entry"));
        }
        let (shard, size, index) = (head.shard, head.size, index.saturating_sub(head.shard));
        let journal = Arc::clone(self.journal());
        let hashes = blocking(move || {
            inclusion_proof(&TileNodes(&Tiles { journal: &*journal, shard }), index, size)
                .map_err(|error| EngineError::Log(error.to_string()))
        })
        .await?;
        Ok(Inclusion { head, index, hashes })
    }

    /// Consistency proof from size `old` of the shard under way to its newest head.
    pub async fn consistency(&self, old: u64) -> Result<(Arc<SignedHead>, Vec<Hash>), EngineError> {
        let head = self.head();
        let hashes = self.consistency_between(old, &head).await?;
        Ok((head, hashes))
    }

    /// The entry of a reading, by the caller's right at this place in the log.
    async fn log_reading(
        &self,
        caller: &VerifiedParticipant,
        role: Role,
        scope: TraceScope,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        let caller = caller.clone();
        let step = move |turn: &mut Turn<'_>| {
            turn.judge_caller(&caller, role)?;
            let nothing = matches!(scope, TraceScope::Entries { from, to } if from >= to);
            if !nothing {
                turn.append(&Event::TracesRead(TracesRead { by: caller.actor(), scope }))?;
            }
            Ok(())
        };
        self.sequencer().submit(deadline, step).await?;
        Ok(())
    }

    async fn read_entry(&self, index: u64) -> Result<EntryView, EngineError> {
        let (journal, opener) = (Arc::clone(self.journal()), Arc::clone(self.opener()));
        blocking(move || {
            let entry = journal.entry(index)?.ok_or(EngineError::NotFound("this entry"))?;
            Ok(EntryView { index, leaf: entry.leaf, opening: entry.opening, record: opener.open(index, &entry)? })
        })
        .await
    }

    pub(crate) async fn read_entries(&self, from: u64, to: u64) -> Result<Vec<EntryView>, EngineError> {
        let journal = Arc::clone(self.journal());
        let opener = Arc::clone(self.opener());
        blocking(move || {
            let (mut views, mut bytes) = (Vec::new(), 0);
            visit_entries(&*journal, from, to, |index, entry| {
                bytes += entry.sealed.len();
                let record = opener.open(index, entry)?;
                views.push(EntryView { index, leaf: entry.leaf, opening: entry.opening, record });
                Ok(if bytes < MAX_PAGE_BYTES { Visit::Continue } else { Visit::Stop })
            })?;
            Ok(views)
        })
        .await
    }
}

/// Calls `visit` with each of the entries `from..to` that the journal has, in order, until it fails or stops.
pub(crate) fn visit_entries(
    journal: &dyn Journal,
    from: u64,
    to: u64,
    mut visit: impl FnMut(u64, &SealedEntry) -> Result<Visit, StoreError>,
) -> Result<(), StoreError> {
    let mut failed = Ok(());
    journal.read(from, &mut |batch| {
        for (index, entry) in (batch.first..).zip(&batch.entries).filter(|(index, _)| (from..to).contains(index)) {
            match visit(index, entry) {
                Ok(Visit::Continue) => {}
                Ok(Visit::Stop) => return Visit::Stop,
                Err(error) => {
                    failed = Err(error);
                    return Visit::Stop;
                }
            }
        }
        if batch.end() >= to { Visit::Stop } else { Visit::Continue }
    })?;
    failed
}

/// Whether a record is an answer that `consumer` got. Its questions and refusals are for auditors: their records say
/// whether the person was met before, by whomever.
fn is_answer_to(record: &str, consumer: Siret) -> bool {
    matches!(serde_json::from_str(record), Ok(Event::Answered(answered)) if answered.consumer == consumer)
}

/// How many of [`blocking`]'s tasks run at once: a disk gives no more to more of them, and each has a thread.
static READS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(reads_at_once()));

fn reads_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).saturating_mul(2).max(4)
}

/// Runs `work`, which reads the store, beside the tasks of the runtime; waits in a queue while too many do.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    const INTERRUPTED: EngineError = EngineError::Internal("a read was interrupted");
    let place = READS.acquire().await.map_err(|_| INTERRUPTED)?;
    // The place goes with the work: a caller that goes away does not end its thread.
    let work = move || {
        let _place = place;
        work()
    };
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(INTERRUPTED))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_crowd_of_readers_does_not_get_a_thread_each() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        runtime.block_on(async {
            let read = || {
                blocking(|| {
                    MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    RUNNING.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                })
            };
            // Some callers go away while they wait or while their work runs.
            let crowd: Vec<_> = (0..2_000).map(|_| tokio::spawn(read())).collect();
            for (number, caller) in crowd.into_iter().enumerate() {
                if number % 5 == 0 {
                    caller.abort();
                } else {
                    caller.await.unwrap().unwrap();
                }
            }
        });
        let most = MOST.load(Ordering::SeqCst);
        assert!((1..=reads_at_once()).contains(&most), "{most} at once");
        // Who went away may have work that still runs; its place comes back with its end.
        let all = u32::try_from(reads_at_once()).unwrap();
        let returned = async { tokio::time::timeout(Duration::from_secs(30), READS.acquire_many(all)).await.is_ok() };
        assert!(runtime.block_on(returned), "a place was lost");
    }
}
