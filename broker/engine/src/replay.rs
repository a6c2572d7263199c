//! Verification and replay of a log, from its journal alone.
//!
//! [`verify`] checks what the log is made of: frames in order, hashes, roots, signatures, and that each record is what its
//! leaf commits to. [`replay`] also derives every decision again from the records before it, with the same code that
//! decided, and names the first entry that does not follow. Both read batch by batch, beside a running broker.

use unefois_audit::{Checkpoint, Frontier, VerifierKey};
use unefois_consent::Timestamp;
use unefois_consent::event::Event;

use crate::seal::Opener;
use crate::store::{Batch, StoreError, Visit};

mod derive;
mod rows;

use derive::Derivation;
#[cfg(test)]
pub(crate) use rows::MemoryRows;

/// Reads a journal's batches in order.
pub trait BatchSource {
    /// How many entries there are to read.
    fn size(&self) -> u64;
    /// Calls `visit` with each batch from the first on.
    fn read(&self, visit: &mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError>;
}

/// What was found to be in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries read.
    pub entries: u64,
    /// Signed heads checked.
    pub heads: u64,
    /// Records opened and compared with what their leaves commit to.
    pub records: u64,
    /// Records whose key was destroyed; their leaves are checked all the same.
    pub purged: u64,
    /// Decisions derived again.
    pub decisions: u64,
    /// Exchanges under way at the end.
    pub open: u64,
    /// Digest of all rows of the state, zero where nothing was replayed; equal to [`fold_digest`] of a fold of this log.
    pub state: [u8; 32],
}

/// The first thing that is not in order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// An entry, or the head of its batch, does not hold.
    #[error("entry {index}: {what}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong.
        what: String,
    },
    /// The journal cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn fault<T>(index: u64, what: impl Into<String>) -> Result<T, LogFault> {
    Err(LogFault::Entry { index, what: what.into() })
}

/// Checks structure, hashes, signatures and commitments.
pub fn verify(
    source: &dyn BatchSource,
    key: &VerifierKey,
    opener: &Opener,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, LogFault> {
    walk(source, key, opener, None, progress)
}

/// Checks all that [`verify`] checks, and that every decision follows from the entries before it.
pub fn replay(
    source: &dyn BatchSource,
    key: &VerifierKey,
    opener: &Opener,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, LogFault> {
    let derivation = Derivation::new(key.clone())?;
    walk(source, key, opener, Some(derivation), progress)
}

pub use rows::fold_digest;

fn walk(
    source: &dyn BatchSource,
    key: &VerifierKey,
    opener: &Opener,
    derivation: Option<Derivation>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, LogFault> {
    let total = source.size();
    let mut walk = Walk { key, opener, frontier: Frontier::new(), time_ms: 0, report: Report::default(), derivation };
    let mut found = Ok(());
    source.read(&mut |batch| {
        found = walk.batch(&batch);
        progress(walk.report.entries, total);
        if found.is_ok() { Visit::Continue } else { Visit::Stop }
    })?;
    found?;
    if walk.report.entries != total {
        return fault(walk.report.entries, format!("is missing: the journal should hold {total} entries"));
    }
    if let Some(derivation) = &mut walk.derivation {
        walk.report.open = derivation.open();
        walk.report.state = derivation.digest()?;
    }
    Ok(walk.report)
}

struct Walk<'a> {
    key: &'a VerifierKey,
    opener: &'a Opener,
    frontier: Frontier,
    time_ms: u64,
    report: Report,
    derivation: Option<Derivation>,
}

impl Walk<'_> {
    fn batch(&mut self, batch: &Batch) -> Result<(), LogFault> {
        if batch.first != self.frontier.size() {
            return fault(self.frontier.size(), format!("is missing: the next batch begins with {}", batch.first));
        }
        for (index, entry) in (batch.first..).zip(&batch.entries) {
            if entry.leaf.time_ms < self.time_ms {
                return fault(index, "its time is before the time of the entry before it");
            }
            self.time_ms = entry.leaf.time_ms;
            self.frontier.append(entry.leaf.hash());
            self.record(index, entry)?;
            self.report.entries += 1;
        }
        self.head(batch)
    }

    fn head(&mut self, batch: &Batch) -> Result<(), LogFault> {
        let last = batch.end().saturating_sub(1);
        if self.frontier.root() != batch.root {
            return fault(last, "the entries up to it do not lead to the root of its batch");
        }
        let name = self.key.name();
        let checkpoint = Checkpoint { origin: name.to_owned(), size: batch.end(), root: batch.root };
        let note = checkpoint.signed(&batch.signature, self.key.id());
        if Checkpoint::open(&note, self.key, name).is_err() {
            return fault(last, format!("the head of its batch is not signed by {}", self.key));
        }
        self.report.heads += 1;
        Ok(())
    }

    fn record(&mut self, index: u64, entry: &crate::store::SealedEntry) -> Result<(), LogFault> {
        let opened = self.opener.open(index, entry).or_else(|error| match error {
            StoreError::Corrupt(what) => fault(index, what),
            StoreError::Full(_)
            | StoreError::NotWritten(_)
            | StoreError::Unknown(_)
            | StoreError::Fenced(_)
            | StoreError::Read(_) => Err(error.into()),
        })?;
        let Some(opened) = opened else {
            self.report.purged += 1;
            return match self.derivation {
                None => Ok(()),
                Some(_) => {
                    fault(index, "its record was purged, or its key is missing: decisions cannot be derived without it")
                }
            };
        };
        self.report.records += 1;
        let Some(derivation) = &mut self.derivation else { return Ok(()) };
        let event: Event = match serde_json::from_str(&opened.record) {
            Ok(event) => event,
            Err(error) => return fault(index, format!("its record does not parse: {error}")),
        };
        if event.kind() != entry.leaf.kind {
            return fault(index, "its leaf says another kind than its record");
        }
        let decided = derivation.entry(index, Timestamp::from_millis(entry.leaf.time_ms), &event);
        self.report.decisions += u64::from(decided.map_err(|what| match what {
            derive::Fault::DoesNotFollow(what) => LogFault::Entry { index, what },
            derive::Fault::Store(error) => error.into(),
        })?);
        Ok(())
    }
}
