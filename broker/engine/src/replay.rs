//! Verification and replay of a log, from its journal alone.
//!
//! [`verify`] checks what the log is made of: frames in order, hashes, roots, signatures, and that each record is what its
//! leaf commits to. [`replay`] also derives every decision again from the records before it, with the same code that
//! decided, and names the first entry that does not follow. Both read batch by batch, beside a running broker, in memory
//! that does not grow with the log: all cores hash, open and parse batches, one thread puts them in order.

use std::ops::Range;
use std::sync::Arc;

use crate::purge::Past;
use crate::seal::Opener;
use crate::shard::{Shard, Shards};
use crate::store::{Batch, Fold, Journal, SealedEntry, StoreError, Visit};
use unefois_audit::{Frontier, Hash, VerifierKey};
use unefois_consent::event::Event;

mod derive;
mod folder;
mod ledger;
mod past;
mod prepare;
mod tiles;

use derive::{Derivation, Derived};
use prepare::{Depth, Prepared, PreparedEntry, Record, in_order};
use tiles::TileHash;

/// Reads a journal's batches in order.
pub trait BatchSource: Sync {
    /// How many entries there are to read, in all shards.
    fn size(&self) -> u64;
    /// Indexes of the first entries of the shards, in order.
    fn shards(&self) -> Vec<u64>;
    /// Calls `visit` with each batch from the one that holds entry `from` on.
    fn read(&self, from: u64, visit: &mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError>;
    /// Entry `index`; `None` beyond the end. As quick wherever the entry lies.
    fn entry(&self, index: u64) -> Result<Option<SealedEntry>, StoreError>;
    /// `count` hashes of tile level `level` from `start` on, in the shard that begins with entry `shard`; fewer where those behind
    /// them were lost, or may have been and are not what anybody was served.
    fn tile_hashes(&self, shard: u64, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError>;
}

/// A journal that is open in this process.
#[derive(Debug)]
pub struct JournalSource<'a>(pub &'a dyn Journal);

impl BatchSource for JournalSource<'_> {
    fn size(&self) -> u64 {
        self.0.end().entries()
    }

    fn shards(&self) -> Vec<u64> {
        self.0.shards()
    }

    fn read(&self, from: u64, visit: &mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError> {
        self.0.read(from, visit)
    }

    fn entry(&self, index: u64) -> Result<Option<SealedEntry>, StoreError> {
        self.0.entry(index)
    }

    fn tile_hashes(&self, shard: u64, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        self.0.tile_hashes(shard, level, start, count)
    }
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
    /// Hashes in the tiles that are those of the journal.
    pub tile_hashes: u64,
    /// Hashes that the tiles should have and have not; the next start of the broker derives them.
    pub tile_hashes_missing: u64,
    /// Decisions derived again.
    pub decisions: u64,
    /// Decisions that rest on records that were purged, and are taken as they are.
    pub underived: u64,
    /// Exchanges under way at the end.
    pub open: u64,
    /// SHA-256 over all changes of the state's rows in the order of the log, and what of it lies in memory at the end; zero where
    /// nothing was replayed or a record was purged (what it counted is gone). Equal in all replays of one log by one version of
    /// this code; a digest of how the state came about, not of its rows at the end.
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

impl LogFault {
    /// What is wrong with entry `index`, where `error` says that it is damaged.
    pub(crate) fn at(index: u64, error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(what) => Self::Entry { index, what },
            StoreError::Full(_)
            | StoreError::NotWritten(_)
            | StoreError::Unknown(_)
            | StoreError::Fenced(_)
            | StoreError::Read(_) => error.into(),
        }
    }
}

pub(crate) fn fault<T>(index: u64, what: impl Into<String>) -> Result<T, LogFault> {
    Err(LogFault::Entry { index, what: what.into() })
}

/// Checks structure, hashes, signatures, commitments and tiles. `key` is that of the last shard; the shards before it are found by
/// what they say of each other.
pub fn verify(
    source: &dyn BatchSource,
    key: &VerifierKey,
    opener: &Opener,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, LogFault> {
    walk(source, key, opener, None, progress)
}

/// Checks all that [`verify`] checks, and that every decision follows from the entries before it. `scratch` is an empty
/// fold that the state is built in, and has all its rows in the end; it holds references of persons, so throw it away afterwards.
pub fn replay(
    source: &dyn BatchSource,
    key: &VerifierKey,
    opener: &Opener,
    scratch: Arc<dyn Fold>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, LogFault> {
    walk(source, key, opener, Some(scratch), progress)
}

fn walk(
    source: &dyn BatchSource,
    key: &VerifierKey,
    opener: &Opener,
    scratch: Option<Arc<dyn Fold>>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, LogFault> {
    let total = source.size();
    let derivation = scratch.map(|fold| Derivation::new(fold, total)).transpose()?;
    let depth = if derivation.is_some() { Depth::Events } else { Depth::Records };
    let shards = &Shards::read(source, key, opener)?;
    let (report, past, tree) = (Report::default(), None, Tree::default());
    let mut walk = Walk { source, total, shards, opener, tree, time_ms: 0, report, past, derivation };
    in_order(source, shards, opener, depth, &mut |batch| {
        walk.batch(batch)?;
        progress(walk.report.entries, total);
        Ok(())
    })?;
    if walk.report.entries != total {
        return fault(walk.report.entries, format!("is missing: the journal should hold {total} entries"));
    }
    if let Some(derivation) = walk.derivation {
        walk.report.open = derivation.open();
        let state = derivation.end()?;
        if walk.report.purged == 0 {
            walk.report.state = state;
        }
    }
    Ok(walk.report)
}

/// The tree of the shard that is being walked.
#[derive(Default)]
struct Tree {
    shard: u64,
    frontier: Frontier,
    /// Size and root after the last batch.
    head: Option<(u64, Hash)>,
    /// The same before it.
    before: Option<(u64, Hash)>,
}

struct Walk<'a> {
    source: &'a dyn BatchSource,
    /// How many entries there are to walk.
    total: u64,
    shards: &'a Shards,
    opener: &'a Opener,
    tree: Tree,
    time_ms: u64,
    report: Report,
    /// Read at the first record that was purged.
    past: Option<Past>,
    derivation: Option<Derivation>,
}

impl<'a> Walk<'a> {
    fn batch(&mut self, batch: &Prepared) -> Result<(), LogFault> {
        let shard = self.enter_shard(batch)?;
        let mut closed = Vec::new();
        for (level, root) in &batch.subtrees {
            self.tree.frontier.append_subtree(*level, *root, tiles::keep(&mut closed));
        }
        let end = self.shards.after(batch.first).map_or(self.total, |next| next.first);
        for (index, entry) in (batch.first..).zip(&batch.entries) {
            if entry.leaf.time_ms < self.time_ms {
                return fault(index, "its time is before the time of the entry before it");
            }
            self.time_ms = entry.leaf.time_ms;
            self.place(index, entry.leaf.kind, shard.first..end)?;
            self.record(index, entry, &shard.key)?;
            self.report.entries += 1;
        }
        let last = self.report.entries.saturating_sub(1);
        let root = self.tree.frontier.root();
        if root != batch.root {
            return fault(last, "the entries up to it do not lead to the root of its batch");
        }
        if !batch.signed {
            return fault(last, format!("the head of its batch is not signed by {}", shard.key));
        }
        self.report.heads += 1;
        self.tiles(batch, &closed, shard.first)?;
        self.tree.head = Some((self.tree.frontier.size(), root));
        Ok(())
    }

    /// The leaves of `batch` and the larger subtrees that it completed, some of them on its own, are in the tiles as they are.
    fn tiles(&mut self, batch: &Prepared, closed: &[TileHash], shard: u64) -> Result<(), LogFault> {
        let mut found = batch.leaves_in_tiles.clone()?;
        for (level, number, hash) in batch.closed.iter().chain(closed) {
            found += tiles::compare(self.source, shard, (*level, *number), &[*hash])?;
        }
        let wanted = batch.entries.len() + batch.closed.len() + closed.len();
        self.report.tile_hashes += found;
        self.report.tile_hashes_missing += (wanted as u64).saturating_sub(found);
        Ok(())
    }

    /// The shard that `batch` is in, with its tree as it was before the batch.
    fn enter_shard(&mut self, batch: &Prepared) -> Result<&'a Shard, LogFault> {
        if batch.first != self.report.entries {
            return fault(self.report.entries, format!("is missing: the next batch begins with {}", batch.first));
        }
        let shards = self.shards;
        let shard = shards.of(batch.first);
        if shards.of(batch.first.saturating_add(batch.entries.len() as u64).saturating_sub(1)) != shard {
            return fault(batch.first, "its batch goes on into the next shard");
        }
        if shard.first != self.tree.shard {
            if shard.previous != self.tree.before {
                return fault(shard.first, "names another tree of the shard before it than that shard has");
            }
            self.tree = Tree { shard: shard.first, ..Tree::default() };
        }
        self.tree.before = self.tree.head;
        Ok(shard)
    }

    /// The ends of shards are where the journal has them.
    fn place(&self, index: u64, kind: u8, shard: Range<u64>) -> Result<(), LogFault> {
        if (kind == Event::LOG_OPENED) != (index == shard.start) {
            return fault(index, "a shard opens with its first entry and no other");
        }
        let is_last = index.saturating_add(1) == shard.end;
        match kind == Event::SHARD_CLOSED {
            true if !is_last => fault(index, "closes its shard, which goes on"),
            false if is_last && shard.end != self.total => fault(index, "ends its shard and does not close it"),
            true | false => Ok(()),
        }
    }

    fn record(&mut self, index: u64, entry: &PreparedEntry, key: &VerifierKey) -> Result<(), LogFault> {
        match entry.record.as_ref().map_err(LogFault::clone)? {
            Record::Purged => self.purged(index, entry),
            Record::Committed => {
                self.report.records += 1;
                Ok(())
            }
            Record::Event(event) => {
                self.report.records += 1;
                let Some(derivation) = &mut self.derivation else { return Ok(()) };
                match derivation.entry(index, (entry, key), event).map_err(|fault| at(index, fault))? {
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
            None => self.past.insert(Past::read(|visit| self.source.read(0, visit), self.opener)?),
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
