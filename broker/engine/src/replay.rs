//! Verification and replay of a log, from its journal alone.
//!
//! [`verify`] checks what the log is made of: frames in order, hashes, roots, signatures, and that each record is what its
//! leaf commits to. [`replay`] also derives every decision again from the records before it, with the same code that
//! decided, and names the first entry that does not follow. Both read batch by batch, beside a running broker, in memory
//! that does not grow with the log: all cores hash, open and parse batches, one thread puts them in order.

use std::sync::Arc;

use crate::purge::Past;
use crate::seal::Opener;
use crate::store::{Batch, Fold, StoreError, Visit};
use unefois_audit::{Frontier, VerifierKey};

mod derive;
mod digest;
mod folder;
mod ledger;
mod past;
mod prepare;

use derive::{Derivation, Derived};
pub use digest::fold_digest;
use prepare::{Depth, Prepared, PreparedEntry, Record, in_order};

/// Reads a journal's batches in order.
pub trait BatchSource: Sync {
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
    /// Decisions that rest on records that were purged, and are taken as they are.
    pub underived: u64,
    /// Exchanges under way at the end.
    pub open: u64,
    /// Digest of all rows of the state, zero where nothing was replayed or a record was purged (what it counted is gone);
    /// equal to [`fold_digest`] of a fold of this log.
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

/// Checks all that [`verify`] checks, and that every decision follows from the entries before it. `scratch` is an empty
/// fold that the state is built in; it holds references of persons, so throw it away afterwards.
pub fn replay(
    source: &dyn BatchSource,
    key: &VerifierKey,
    opener: &Opener,
    scratch: Arc<dyn Fold>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, LogFault> {
    let derivation = Derivation::new(key.clone(), scratch)?;
    walk(source, key, opener, Some(derivation), progress)
}

fn walk(
    source: &dyn BatchSource,
    key: &VerifierKey,
    opener: &Opener,
    derivation: Option<Derivation>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, LogFault> {
    let total = source.size();
    let depth = if derivation.is_some() { Depth::Events } else { Depth::Records };
    let (report, past) = (Report::default(), None);
    let mut walk = Walk { source, key, opener, frontier: Frontier::new(), time_ms: 0, report, past, derivation };
    in_order(source, key, opener, depth, &mut |batch| {
        walk.batch(batch)?;
        progress(walk.report.entries, total);
        Ok(())
    })?;
    if walk.report.entries != total {
        return fault(walk.report.entries, format!("is missing: the journal should hold {total} entries"));
    }
    if let Some(derivation) = &mut walk.derivation {
        walk.report.open = derivation.open();
        let state = derivation.digest()?;
        if walk.report.purged == 0 {
            walk.report.state = state;
        }
    }
    Ok(walk.report)
}

struct Walk<'a> {
    source: &'a dyn BatchSource,
    key: &'a VerifierKey,
    opener: &'a Opener,
    frontier: Frontier,
    time_ms: u64,
    report: Report,
    /// Read at the first record that was purged.
    past: Option<Past>,
    derivation: Option<Derivation>,
}

impl Walk<'_> {
    fn batch(&mut self, batch: Prepared) -> Result<(), LogFault> {
        if batch.first != self.frontier.size() {
            return fault(self.frontier.size(), format!("is missing: the next batch begins with {}", batch.first));
        }
        for (index, mut entry) in (batch.first..).zip(batch.entries) {
            if entry.leaf.time_ms < self.time_ms {
                return fault(index, "its time is before the time of the entry before it");
            }
            self.time_ms = entry.leaf.time_ms;
            self.frontier.append(entry.leaf_hash);
            let record = std::mem::replace(&mut entry.record, Ok(Record::Committed));
            self.record(index, &entry, record?)?;
            self.report.entries += 1;
        }
        let last = self.frontier.size().saturating_sub(1);
        if self.frontier.root() != batch.root {
            return fault(last, "the entries up to it do not lead to the root of its batch");
        }
        if !batch.signed {
            return fault(last, format!("the head of its batch is not signed by {}", self.key));
        }
        self.report.heads += 1;
        Ok(())
    }

    fn record(&mut self, index: u64, entry: &PreparedEntry, record: Record) -> Result<(), LogFault> {
        match record {
            Record::Purged => self.purged(index, entry),
            Record::Committed => {
                self.report.records += 1;
                Ok(())
            }
            Record::Event(event) => {
                self.report.records += 1;
                let Some(derivation) = &mut self.derivation else { return Ok(()) };
                match derivation.entry(index, entry, &event).map_err(|fault| at(index, fault))? {
                    Derived::Decision => self.report.decisions += 1,
                    Derived::Rests => self.report.underived += 1,
                    Derived::Nothing => {}
                }
                Ok(())
            }
        }
    }

    fn purged(&mut self, index: u64, entry: &PreparedEntry) -> Result<(), LogFault> {
        self.report.purged += 1;
        let past = match &mut self.past {
            Some(past) => past,
            None => self.past.insert(Past::read(|visit| self.source.read(visit), self.opener)?),
        };
        let kept = past.of(index, entry.period()).or_else(|error| fault(index, error.to_string()))?;
        match &mut self.derivation {
            None => Ok(()),
            Some(derivation) => derivation.purged(index, entry, kept).map_err(|fault| at(index, fault)),
        }
    }
}

fn at(index: u64, fault: derive::Fault) -> LogFault {
    match fault {
        derive::Fault::DoesNotFollow(what) => LogFault::Entry { index, what },
        derive::Fault::Store(error) => error.into(),
    }
}
