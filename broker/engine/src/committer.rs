//! The committer: makes batches durable, one after the other, and is the only point of no return.
//!
//! It grows the tree, signs the new head, appends to the journal and only then lets replies go. Any failure halts the
//! engine: trying again after an unknown write could give two heads of one size. The fold runs behind on a thread of its
//! own and gets only what is durable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use unefois_audit::{AuditError, BatchProofs, Checkpoint, EMPTY_ROOT, Frontier, Hash, Receipt, TlogProof, VerifierKey};

use crate::error::EngineError;
use crate::halt::Halt;
use crate::rows::Chunk;
use crate::sequencer::{BoxedReply, Written};
use crate::signer::Signer;
use crate::state::{Learner, MetIds, Sweeper, tie_rows};
use crate::store::{Batch, Fold, Journal, SealedEntry, StoreError};

/// A batch on its way to the journal.
pub(crate) struct ToCommit {
    pub(crate) first: u64,
    pub(crate) entries: Vec<SealedEntry>,
    pub(crate) replies: Vec<BoxedReply>,
    pub(crate) fold: Option<FoldChunk>,
}

/// Rows for the fold, valid once the batch they travel with is durable.
pub(crate) struct FoldChunk {
    pub(crate) rows: Chunk,
    pub(crate) position: u64,
}

/// What became of a batch.
pub(crate) type CommitResult = Result<Arc<Commit>, EngineError>;

/// A durable commit: enough to prove each of its entries without reading the store.
#[derive(Debug)]
pub struct Commit {
    first: u64,
    proofs: Option<BatchProofs>,
    checkpoint: Arc<SignedHead>,
}

/// A tree head with its signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// Index of the first entry of its shard.
    pub shard: u64,
    /// Size of the shard's tree.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The checkpoint: a signed note (C2SP tlog-checkpoint). Empty for the empty tree.
    pub note: String,
}

impl SignedHead {
    /// The head of an empty log.
    pub fn empty() -> Self {
        Self { shard: 0, size: 0, root: EMPTY_ROOT, note: String::new() }
    }

    /// The head of these `size` and `root` with a signature that was stored, where the shard's key made it.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    pub fn verified(
        key: &VerifierKey,
        shard: u64,
        (size, root): (u64, Hash),
        signature: &[u8; 64],
    ) -> Result<Self, AuditError> {
        let note = Checkpoint { origin: key.name().to_owned(), size, root }.signed(signature, key.id());
        Checkpoint::open(&note, key, key.name())?;
        Ok(Self { shard, size, root, note })
    }

    /// How many entries the log holds up to this head, in all its shards.
    pub fn entries(&self) -> u64 {
        self.shard.saturating_add(self.size)
    }
}

impl Commit {
    pub(crate) fn new(first: u64, proofs: BatchProofs, head: SignedHead) -> Self {
        Self { first, proofs: Some(proofs), checkpoint: Arc::new(head) }
    }

    /// The head that this commit made.
    pub fn head(&self) -> &Arc<SignedHead> {
        &self.checkpoint
    }

    /// The receipt of an entry of this commit.
    pub fn receipt(&self, written: Written) -> Result<Receipt, EngineError> {
        let position = written.index.checked_sub(self.first).and_then(|p| usize::try_from(p).ok());
        let hashes = position.zip(self.proofs.as_ref()).and_then(|(p, proofs)| proofs.inclusion(p));
        let hashes = hashes.ok_or_else(|| EngineError::Log("the entry is not in this commit".to_owned()))?;
        Ok(Receipt {
            record: written.record,
            salt: written.salt,
            retention_part: written.opening.parts().retention,
            links_part: written.opening.links,
            kind: written.leaf.kind,
            time_ms: written.leaf.time_ms,
            proof: TlogProof {
                extra: None,
                index: written.index.saturating_sub(self.checkpoint.shard),
                hashes,
                checkpoint: self.checkpoint.note.clone(),
            },
            answer_salt: None,
        })
    }
}

/// What the committer's thread works with.
pub(crate) struct Committer {
    pub(crate) batches: Receiver<ToCommit>,
    pub(crate) ready: Sender<()>,
    pub(crate) to_fold: Sender<FoldChunk>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) signer: Arc<dyn Signer>,
    /// Index of the first entry of the shard under way.
    pub(crate) shard: u64,
    /// Of that shard's tree.
    pub(crate) frontier: Frontier,
    pub(crate) head: Arc<ArcSwap<SignedHead>>,
    pub(crate) halt: Arc<Halt>,
    pub(crate) entries: metrics::Counter,
    pub(crate) seconds: metrics::Histogram,
}

impl Committer {
    pub(crate) fn run(mut self) {
        while let Ok(ToCommit { first, entries, replies, fold }) = self.batches.recv() {
            let outcome = self.commit(first, entries);
            match &outcome {
                Ok(_) => {
                    if let Some(mut chunk) = fold {
                        chunk.rows.extend(tie_rows(&self.frontier.root()));
                        // The folder ends only with this thread.
                        let _ = self.to_fold.send(chunk);
                    }
                }
                Err(error) => self.halt.halt(error.to_string()),
            }
            // ORDER: the sequencer closes the next batch while the replies of this one go out.
            let _ = self.ready.send(());
            for reply in replies {
                reply(&outcome);
            }
        }
    }

    fn commit(&mut self, first: u64, entries: Vec<SealedEntry>) -> CommitResult {
        self.halt.check()?;
        if entries.is_empty() {
            return Ok(Arc::new(Commit { first, proofs: None, checkpoint: self.head.load_full() }));
        }
        let begun = Instant::now();
        let leaf_hashes: Vec<Hash> = entries.iter().map(|entry| entry.leaf.hash()).collect();
        let proofs = BatchProofs::new(&self.frontier, &leaf_hashes);
        let root = proofs.root();
        let size = proofs.after().size();
        let key = self.signer.verifier_key();
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size, root };
        let signature = self.signer.sign(checkpoint.note_text().as_bytes())?;
        let batch = Batch { first, entries, root, signature };
        let closed: Vec<_> = proofs.closed().collect();
        self.journal.append(&batch, proofs.after(), &closed).map_err(|error| EngineError::Halted(error.to_string()))?;
        // INVARIANT: nothing below can fail. The batch is durable and its head may be shown.
        self.frontier = proofs.after().clone();
        let note = checkpoint.signed(&signature, key.id());
        let head = Arc::new(SignedHead { shard: self.shard, size, root, note });
        self.head.store(Arc::clone(&head));
        self.entries.increment(batch.entries.len() as u64);
        self.seconds.record(begun.elapsed().as_secs_f64());
        Ok(Arc::new(Commit { first, proofs: Some(proofs), checkpoint: head }))
    }
}

/// The thread of the fold.
pub(crate) struct FoldWriter {
    pub(crate) chunks: Receiver<FoldChunk>,
    pub(crate) folded: Sender<u64>,
    pub(crate) fold: Arc<dyn Fold>,
    pub(crate) met: Arc<MetIds>,
    pub(crate) sweeper: Sweeper,
    /// How many entries the fold reflects.
    pub(crate) position: u64,
    pub(crate) halt: Arc<Halt>,
}

impl FoldWriter {
    /// Applies chunks to the fold. Between them it learns the request ids of earlier runs, and removes rows of purged
    /// records. A fold that fails halts the engine: decisions read it, and opening rebuilds it.
    pub(crate) fn run(mut self) {
        let mut learner = Learner::default();
        // As long as the last page of a sweep took: a sweep takes half of a processor at most.
        let mut rest = Duration::ZERO;
        loop {
            let chunk = if learner.is_done() && self.sweeper.is_done() {
                self.chunks.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.chunks.recv_timeout(rest)
            };
            let begun = Instant::now();
            rest = Duration::ZERO;
            let done = match chunk {
                Ok(chunk) => self.apply(chunk),
                Err(RecvTimeoutError::Timeout) if !learner.is_done() => learner.learn(&*self.fold, &self.met),
                Err(RecvTimeoutError::Timeout) => {
                    let swept = self.sweep();
                    rest = begun.elapsed();
                    swept
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Err(error) = done {
                self.halt.halt(error.to_string());
                return;
            }
        }
    }

    fn sweep(&mut self) -> Result<(), StoreError> {
        let gone = self.sweeper.sweep(&*self.fold)?;
        if gone.is_empty() {
            return Ok(());
        }
        let changes: Vec<_> = gone.iter().map(|key| (&**key, None)).collect();
        self.fold.apply(&changes, self.position)
    }

    fn apply(&mut self, chunk: FoldChunk) -> Result<(), StoreError> {
        self.fold.apply(&chunk.rows.changes(), chunk.position)?;
        self.position = chunk.position;
        // The sequencer may have ended.
        let _ = self.folded.send(chunk.position);
        Ok(())
    }
}
