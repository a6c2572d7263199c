//! Verification and replay of a log, from its journal alone.
//!
//! [`verify`] checks what the log is made of: frames in order, hashes, roots, signatures, and that each record is what its
//! leaf commits to. [`replay`] also derives every decision again from the records before it, with the same code that
//! decided, and names each entry that does not follow. Both read batch by batch, beside a running broker, in memory
//! that does not grow with the log: all cores hash, open and parse batches, one thread puts them in order.

use std::sync::Arc;

use crate::leaves::{Span, SpanEnd, check_kind};
use crate::purge::{Contents, Past};
use crate::seal::Opener;
use crate::shard::{Shard, Shards};
use crate::store::{Batch, Fold, Journal, SealedEntry, StoreError, Visit};
use unefois_audit::{Frontier, Hash, VerifierKey};
use unefois_consent::Timestamp;
use unefois_consent::event::{Event, LogOpened, Purged};

mod derive;
mod folder;
mod kept;
mod ledger;
mod past;
mod prepare;
mod questions;
mod report;
mod tiles;

pub use crate::state::live_rows;
use derive::{At, Derivation, Derived};
use kept::KeptAsLaw;
use past::Destroyed;
use prepare::{Depth, Prepared, PreparedEntry, Record, in_order};
pub use report::{Examined, Faults, Report, ShardReport, Taken};
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

/// A thing that is not in order.
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
            | StoreError::Newer(_)
            | StoreError::Read(_) => error.into(),
        }
    }
}

pub(crate) fn fault<T>(index: u64, what: impl Into<String>) -> Result<T, LogFault> {
    Err(LogFault::Entry { index, what: what.into() })
}

/// A log to look at, and with what.
pub struct Look<'a> {
    /// Its journal.
    pub source: &'a dyn BatchSource,
    /// The key of its last shard; the shards before it are found by what they say of each other.
    pub key: &'a VerifierKey,
    /// Opens its records.
    pub opener: &'a Opener,
    /// No entry may be later than a day after it.
    pub now: Timestamp,
    /// After which fault to stop.
    pub faults: Faults,
}

/// How much later than the clock of whoever looks an entry may be: clocks differ.
const AHEAD: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

impl Look<'_> {
    /// Checks structure, hashes, signatures, commitments, how long records are kept, purges and tiles.
    ///
    /// # Errors
    /// [`LogFault`] where nothing more can be looked at. Other faults are in what is given.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Examined, LogFault> {
        self.walk(None, progress)
    }

    /// Checks all that [`Look::verify`] checks, and that every decision follows from the entries before it. `scratch` is an empty
    /// fold that the state is built in, and has all its rows in the end; it holds references of persons, so throw it away
    /// afterwards.
    ///
    /// # Errors
    /// Those of [`Look::verify`].
    pub fn replay(&self, scratch: Arc<dyn Fold>, progress: &mut dyn FnMut(u64, u64)) -> Result<Examined, LogFault> {
        self.walk(Some(scratch), progress)
    }

    fn walk(&self, scratch: Option<Arc<dyn Fold>>, progress: &mut dyn FnMut(u64, u64)) -> Result<Examined, LogFault> {
        let total = self.source.size();
        let derivation = scratch.map(|fold| Derivation::new(fold, total)).transpose()?;
        let depth = if derivation.is_some() { Depth::Events } else { Depth::Records };
        let shards = &Shards::read(self.source, self.key, self.opener)?;
        let mut walk = Walk::new(self, shards, derivation, total);
        let walked = in_order(self.source, shards, self.opener, depth, &mut |batch| {
            walk.batch(batch)?;
            progress(walk.examined.report.entries, total);
            Ok(())
        });
        match (walked, self.faults) {
            (Ok(()), _) => walk.end(),
            // What was found before is told, too.
            (Err(fault @ LogFault::Store(_)), Faults::All) => Ok(walk.broken(fault)),
            (Err(fault), _) => Err(fault),
        }
    }
}

/// Checks a log like [`Look::verify`], and stops at the first fault.
///
/// # Errors
/// [`LogFault`], the first.
pub fn verify(
    source: &dyn BatchSource,
    key: &VerifierKey,
    opener: &Opener,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, LogFault> {
    let look = Look { source, key, opener, now: Timestamp::from_millis(u64::MAX), faults: Faults::First };
    look.verify(progress).map(|examined| examined.report)
}

/// Derives a log like [`Look::replay`], and stops at the first fault.
///
/// # Errors
/// [`LogFault`], the first.
pub fn replay(
    source: &dyn BatchSource,
    key: &VerifierKey,
    opener: &Opener,
    scratch: Arc<dyn Fold>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, LogFault> {
    let look = Look { source, key, opener, now: Timestamp::from_millis(u64::MAX), faults: Faults::First };
    look.replay(scratch, progress).map(|examined| examined.report)
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
    /// A batch did not lead to its root: no later one can.
    is_broken: bool,
}

struct Walk<'a> {
    look: &'a Look<'a>,
    /// How many entries there are to walk.
    total: u64,
    shards: &'a Shards,
    tree: Tree,
    time: Timestamp,
    examined: Examined,
    contents: Contents,
    kept: KeptAsLaw,
    /// Read at the first record that was purged, or the first entry that says so.
    past: Option<Past>,
    derivation: Option<Derivation>,
}

impl<'a> Walk<'a> {
    fn new(look: &'a Look<'a>, shards: &'a Shards, derivation: Option<Derivation>, total: u64) -> Self {
        Self {
            look,
            total,
            shards,
            tree: Tree::default(),
            time: Timestamp::default(),
            examined: Examined::default(),
            contents: Contents::default(),
            kept: KeptAsLaw::default(),
            past: None,
            derivation,
        }
    }

    fn end(mut self) -> Result<Examined, LogFault> {
        let entries = self.examined.report.entries;
        if entries != self.total {
            let what = format!("is missing: the journal should hold {} entries", self.total);
            self.note(LogFault::Entry { index: entries, what })?;
        }
        self.registry_is_changed()?;
        self.end_shard();
        let end = self.time;
        let never_ended: Vec<u64> = self.derivation.iter().flat_map(|derivation| derivation.never_ended(end)).collect();
        for index in never_ended {
            let what = "began an exchange that has no end, and no deadline is as long".to_owned();
            self.note(LogFault::Entry { index, what })?;
        }
        if let Some(derivation) = self.derivation {
            self.examined.report.open = derivation.open();
            let state = derivation.end()?;
            if self.examined.report.purged == 0 && self.examined.faults.is_empty() {
                self.examined.report.state = state;
            }
        }
        Ok(self.examined)
    }

    /// Nothing more can be read, because of `fault`.
    fn broken(mut self, fault: LogFault) -> Examined {
        self.examined.note(fault);
        self.end_shard();
        self.examined
    }

    /// Notes a fault and goes on; or stops, where the first is enough or nothing more can be read.
    fn note(&mut self, fault: LogFault) -> Result<(), LogFault> {
        match (&fault, self.look.faults) {
            (LogFault::Store(_), _) | (_, Faults::First) => Err(fault),
            (LogFault::Entry { .. }, Faults::All) => {
                self.examined.note(fault);
                Ok(())
            }
        }
    }

    fn check(&mut self, checked: Result<(), LogFault>) -> Result<(), LogFault> {
        checked.or_else(|fault| self.note(fault))
    }

    fn batch(&mut self, batch: &Prepared) -> Result<(), LogFault> {
        let shard = self.enter_shard(batch)?;
        let mut closed = Vec::new();
        for (level, root) in &batch.subtrees {
            self.tree.frontier.append_subtree(*level, *root, tiles::keep(&mut closed));
        }
        let span = self.span(shard);
        for (index, entry) in (batch.first..).zip(&batch.entries) {
            let timed = self.time(index, entry.leaf.time_ms, shard);
            self.check(timed)?;
            let placed = check_kind(index, entry.leaf.kind, &span);
            self.check(placed.or_else(|what| fault(index, what)))?;
            let recorded = self.record(index, entry, &shard.key);
            self.check(recorded)?;
            self.contents.add_leaf(index, entry.period(), entry.leaf.kind, &entry.leaf_hash);
            self.examined.report.entries += 1;
        }
        let last = self.examined.report.entries.saturating_sub(1);
        let root = self.tree.frontier.root();
        if root != batch.root && !std::mem::replace(&mut self.tree.is_broken, true) {
            let what = "the entries up to it do not lead to the root of its batch".to_owned();
            self.note(LogFault::Entry { index: last, what })?;
        }
        if !batch.signed {
            let what = format!("the head of its batch is not signed by {}", shard.key);
            self.note(LogFault::Entry { index: last, what })?;
        }
        self.examined.report.heads += 1;
        let tiled = self.tiles(batch, &closed, shard.first);
        self.check(tiled)?;
        self.tree.head = Some((self.tree.frontier.size(), root));
        Ok(())
    }

    /// Times do not go back but where a shard opens by a clock that an operator accepted, and none is of the future but those
    /// that an operator took back like that.
    fn time(&mut self, index: u64, time_ms: u64, shard: &Shard) -> Result<(), LogFault> {
        let time = Timestamp::from_millis(time_ms);
        let before = self.time;
        self.time = if shard.accepts_clock(index) { time } else { before.max(time) };
        if let Err(what) = shard.check_time(index, before, time) {
            return fault(index, what);
        }
        if time.since(self.look.now) > AHEAD && !self.shards.is_of_wrong_clock(index, time) {
            return fault(index, "its time is more than a day in the future");
        }
        Ok(())
    }

    /// The leaves of `batch` and the larger subtrees that it completed, some of them on its own, are in the tiles as they are.
    fn tiles(&mut self, batch: &Prepared, closed: &[TileHash], shard: u64) -> Result<(), LogFault> {
        let mut found = batch.leaves_in_tiles.clone()?;
        for (level, number, hash) in batch.closed.iter().chain(closed) {
            found += tiles::compare(self.look.source, shard, (*level, *number), &[*hash])?;
        }
        let wanted = batch.entries.len() + batch.closed.len() + closed.len();
        self.examined.report.tile_hashes += found;
        self.examined.report.tile_hashes_missing += (wanted as u64).saturating_sub(found);
        Ok(())
    }

    /// The shard that `batch` is in, with its tree as it was before the batch.
    fn enter_shard(&mut self, batch: &Prepared) -> Result<&'a Shard, LogFault> {
        let entries = self.examined.report.entries;
        if batch.first != entries {
            return fault(entries, format!("is missing: the next batch begins with {}", batch.first));
        }
        let shards = self.shards;
        let shard = shards.of(batch.first);
        if shards.of(batch.first.saturating_add(batch.entries.len() as u64).saturating_sub(1)) != shard {
            return fault(batch.first, "its batch goes on into the next shard");
        }
        if shard.first != self.tree.shard {
            if shard.previous != self.tree.before {
                let what = "names another tree of the shard before it than that shard has".to_owned();
                self.note(LogFault::Entry { index: shard.first, what })?;
            }
            self.end_shard();
            self.tree = Tree { shard: shard.first, ..Tree::default() };
        }
        self.tree.before = self.tree.head;
        Ok(shard)
    }

    fn end_shard(&mut self) {
        let key = self.shards.of(self.tree.shard).key.clone();
        let (size, root) = (self.tree.frontier.size(), self.tree.frontier.root());
        self.examined.shards.push(ShardReport { first: self.tree.shard, key, size, root });
    }

    fn span(&self, shard: &Shard) -> Span {
        match self.shards.after(shard.first) {
            Some(next) => Span { entries: shard.first..next.first, end: SpanEnd::NextShard },
            None => Span { entries: shard.first..self.total, end: SpanEnd::Unknown },
        }
    }

    fn record(&mut self, index: u64, entry: &PreparedEntry, key: &VerifierKey) -> Result<(), LogFault> {
        let record = match &entry.record {
            Ok(record) => record,
            Err(fault) => {
                if let Some(derivation) = &mut self.derivation {
                    derivation.skip(index, entry)?;
                }
                return Err(fault.clone());
            }
        };
        self.examined.report.records += u64::from(!matches!(record, Record::Purged));
        match record {
            Record::Purged => self.purged(index, entry),
            Record::Committed => {
                let committed = self.kept.committed(index, entry, self.look);
                self.check(committed)
            }
            Record::Event(event) => {
                if let Event::Purged(purged) = &**event {
                    self.purge(index, entry.time(), purged)?;
                }
                if let Event::LogOpened(opened) = &**event {
                    let key = self.subject_key(index, opened);
                    self.check(key)?;
                }
                if self.derivation.is_none() {
                    let kept = self.kept.event(index, entry, event);
                    return self.check(kept);
                }
                self.derive(index, entry, key, event)
            }
        }
    }

    /// The key of subjects, where it is there, is the one that the log knows.
    fn subject_key(&self, index: u64, opened: &LogOpened) -> Result<(), LogFault> {
        let there = self.look.opener.keys().subject_key()?.map(|key| key.check());
        if there.is_none_or(|there| there == opened.subject_key) {
            return Ok(());
        }
        fault(index, "names another key of subjects than keys/subject.key")
    }

    /// A purge covers what its record says, and nothing before its time.
    fn purge(&mut self, index: u64, time: Timestamp, purged: &Purged) -> Result<(), LogFault> {
        self.past()?;
        for covered in &purged.periods {
            if !self.contents.are(covered) {
                let what = format!("says that other entries of {} were purged than the journal has", covered.period);
                self.note(LogFault::Entry { index, what })?;
            }
            if !covered.period.is_over(time.month()) {
                let what = format!("purges the records of {} before their time", covered.period);
                self.note(LogFault::Entry { index, what })?;
            }
        }
        self.examined.purges.push((index, purged.clone()));
        Ok(())
    }

    fn past(&mut self) -> Result<&Past, LogFault> {
        let past = match self.past.take() {
            Some(past) => past,
            None => Past::read(|visit| self.look.source.read(0, visit), self.look.opener)?,
        };
        Ok(self.past.insert(past))
    }

    fn derive(&mut self, index: u64, entry: &PreparedEntry, key: &VerifierKey, event: &Event) -> Result<(), LogFault> {
        if !matches!(event, Event::RegistryChanged(_) | Event::KeyMade(_)) {
            self.registry_is_changed()?;
        }
        let Some(derivation) = &mut self.derivation else { return Ok(()) };
        let destroyed = Destroyed { source: self.look.source, past: self.past.as_ref() };
        let (time, retention, opener) = (entry.time(), entry.retention, self.look.opener);
        let derived = derivation.entry(At { index, time, retention, key, destroyed, opener }, event);
        self.examined.taken.count(event);
        match derived.map_err(|fault| at(index, fault))? {
            Derived::Decision => self.examined.report.decisions += 1,
            Derived::Rests => self.examined.report.underived += 1,
            Derived::Nothing => {}
        }
        Ok(())
    }

    fn registry_is_changed(&mut self) -> Result<(), LogFault> {
        let broken = self.derivation.as_mut().and_then(Derivation::registry_is_changed);
        broken.map_or(Ok(()), |(index, what)| self.note(LogFault::Entry { index, what }))
    }

    fn purged(&mut self, index: u64, entry: &PreparedEntry) -> Result<(), LogFault> {
        self.examined.report.purged += 1;
        let period = entry.period();
        let kept = self.past()?.of(index, period).map(<[_]>::to_vec);
        self.kept.purged(index, entry);
        let Some(derivation) = &mut self.derivation else {
            return kept.map(drop).or_else(|error| fault(index, error.to_string()));
        };
        let (kept, missing) = match kept {
            Ok(kept) => (kept, Ok(())),
            Err(error) => (Vec::new(), fault(index, error.to_string())),
        };
        derivation.purged(index, entry, &kept).map_err(|fault| at(index, fault))?;
        missing
    }
}

fn at(index: u64, fault: derive::Fault) -> LogFault {
    match fault {
        derive::Fault::DoesNotFollow(what) => LogFault::Entry { index, what },
        derive::Fault::Store(error) => error.into(),
    }
}
