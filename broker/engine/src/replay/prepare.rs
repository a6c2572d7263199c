//! What of a batch can be looked at without those before it, done on all cores.
//!
//! One thread reads, one for each core prepares, and the caller's gets the batches in the order of the log. Queues are
//! short, so memory does not grow with the log.

use crossbeam_channel::{Receiver, Sender, bounded};
use unefois_audit::{Hash, Leaf, subtrees};
use unefois_consent::event::Event;
use unefois_consent::{RecordPeriod, Retention, Timestamp};

use super::tiles::{self, TileHash};
use super::{BatchSource, LogFault, fault};
use crate::committer::SignedHead;
use crate::seal::Opener;
use crate::shard::Shards;
use crate::store::{Batch, SealedEntry, StoreError, Visit};

/// How much is done to each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Opened, and compared with what its leaf commits to. Parsed where that says how long it is kept.
    Records,
    /// Parsed, and compared with the text that its writer writes.
    Events,
}

/// A record as far as it was looked at.
pub(super) enum Record {
    /// Its key was destroyed.
    Purged,
    /// It is what its leaf commits to.
    Committed,
    /// The same, and what it says.
    Event(Box<Event>),
}

pub(super) struct PreparedEntry {
    pub(super) leaf: Leaf,
    pub(super) leaf_hash: Hash,
    /// How long its record is kept, as the leaf commits to where the record is no fault.
    pub(super) retention: Retention,
    pub(super) record: Result<Record, LogFault>,
}

impl PreparedEntry {
    pub(super) fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.leaf.time_ms)
    }

    pub(super) fn period(&self) -> RecordPeriod {
        RecordPeriod::new(self.time(), self.retention)
    }
}

/// A batch, hashed and opened.
pub(super) struct Prepared {
    pub(super) first: u64,
    pub(super) entries: Vec<PreparedEntry>,
    /// What the leaves add to the tree of their shard.
    pub(super) subtrees: Vec<(u8, Hash)>,
    /// Hashes of tiles above the leaves that they complete on their own.
    pub(super) closed: Vec<TileHash>,
    /// How many of the leaves' hashes are in the tiles.
    pub(super) leaves_in_tiles: Result<u64, LogFault>,
    pub(super) root: Hash,
    /// Whether the checkpoint that names `root` is signed by the log.
    pub(super) signed: bool,
}

/// A batch on its way to be prepared, and where it is waited for.
type Job = (Batch, Sender<Prepared>);

/// Calls `visit` with every batch of `source`, in order, until it fails.
pub(super) fn in_order(
    source: &dyn BatchSource,
    shards: &Shards,
    opener: &Opener,
    depth: Depth,
    visit: &mut dyn FnMut(&Prepared) -> Result<(), LogFault>,
) -> Result<(), LogFault> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let (to_workers, jobs) = bounded::<Job>(workers);
    let (to_caller, waited_for) = bounded::<Receiver<Prepared>>(2 * workers);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let jobs = jobs.clone();
            scope.spawn(move || {
                for (batch, reply) in jobs {
                    // Whoever found a fault does not wait any more.
                    let _ = reply.send(prepare(source, &batch, shards, opener, depth));
                }
            });
        }
        drop(jobs);
        let reader = scope.spawn(move || {
            source.read(0, &mut |batch| {
                let (reply, prepared) = bounded(1);
                let goes_on = to_caller.send(prepared).is_ok() && to_workers.send((batch, reply)).is_ok();
                if goes_on { Visit::Continue } else { Visit::Stop }
            })
        });
        // What was looked at is given back by another thread: the caller's has enough to do.
        let (done, looked_at) = bounded::<Prepared>(2 * workers);
        scope.spawn(move || looked_at.into_iter().for_each(drop));
        let visited = visit_all(waited_for, visit, &done);
        drop(done);
        let read = reader.join().unwrap_or_else(|_| Err(StoreError::Read("the reading thread panicked".to_owned())));
        visited?;
        Ok(read?)
    })
}

/// Ends the queue when it returns, so that reader and workers end too.
fn visit_all(
    waited_for: Receiver<Receiver<Prepared>>,
    visit: &mut dyn FnMut(&Prepared) -> Result<(), LogFault>,
    done: &Sender<Prepared>,
) -> Result<(), LogFault> {
    for prepared in &waited_for {
        let prepared = prepared.recv().map_err(|_| StoreError::Read("a verifying thread panicked".to_owned()))?;
        visit(&prepared)?;
        // The thread behind it ends with this sender.
        let _ = done.send(prepared);
    }
    Ok(())
}

fn prepare(source: &dyn BatchSource, batch: &Batch, shards: &Shards, opener: &Opener, depth: Depth) -> Prepared {
    let entries = (batch.first..).zip(&batch.entries).map(|(index, entry)| PreparedEntry {
        leaf: entry.leaf,
        leaf_hash: entry.leaf.hash(),
        retention: entry.opening.retention,
        record: open(index, entry, opener, depth),
    });
    let entries: Vec<_> = entries.collect();
    let shard = shards.of(batch.first);
    let leaves: Vec<_> = entries.iter().map(|entry| entry.leaf_hash).collect();
    let place = batch.first.saturating_sub(shard.first);
    let mut closed = Vec::new();
    let subtrees = subtrees(place, leaves.iter().copied(), tiles::keep(&mut closed));
    let leaves_in_tiles = tiles::compare(source, shard.first, (0, place), &leaves);
    let tree = (batch.end().saturating_sub(shard.first), batch.root);
    let signed = SignedHead::verified(&shard.key, shard.first, tree, &batch.signature).is_ok();
    Prepared { first: batch.first, entries, subtrees, closed, leaves_in_tiles, root: batch.root, signed }
}

/// Kinds of which nothing but the kind says how long they are kept, as long as no procedure is kept shorter than others: those
/// of exchanges, and of reading.
fn is_of_traces(kind: u8) -> bool {
    [Event::REQUESTED, Event::REFUSED, Event::ANSWERED, Event::DROPPED, Event::FAILED].contains(&kind)
}

fn open(index: u64, entry: &SealedEntry, opener: &Opener, depth: Depth) -> Result<Record, LogFault> {
    let is_plain = is_of_traces(entry.leaf.kind) && entry.opening.retention == Retention::TRACES;
    let read = |_, record: &str| {
        if depth == Depth::Records && is_plain {
            return Ok(if is_named(entry.leaf.kind, record) { Ok(Record::Committed) } else { other_kind(index) });
        }
        Ok(parse(index, entry.leaf.kind, record, depth))
    };
    opener.read(index, entry, read).map_err(|error| LogFault::at(index, error))?.unwrap_or(Ok(Record::Purged))
}

/// Whether a record of the traces begins with the name of its kind.
fn is_named(kind: u8, record: &str) -> bool {
    let rest = record.strip_prefix("{\"").and_then(|rest| rest.strip_prefix(Event::kind_name(kind)));
    rest.is_some_and(|rest| rest.starts_with("\":"))
}

fn other_kind(index: u64) -> Result<Record, LogFault> {
    fault(index, "its leaf says another kind than its record")
}

fn parse(index: u64, kind: u8, record: &str, depth: Depth) -> Result<Record, LogFault> {
    let event = match serde_json::from_str::<Event>(record) {
        Ok(event) if event.kind() == kind => Box::new(event),
        Ok(_) => return other_kind(index),
        Err(error) => return fault(index, format!("its record does not parse: {error}")),
    };
    // Doubled members, white space and defaults that are written out: no writer of this version leaves them.
    let mut same = SameText(record.as_bytes());
    if depth == Depth::Events && !(serde_json::to_writer(&mut same, &event).is_ok() && same.0.is_empty()) {
        return fault(index, "its record is not the text that its writer writes");
    }
    Ok(Record::Event(event))
}

/// What of a text is not written to it yet; another text fails.
struct SameText<'a>(&'a [u8]);

impl std::io::Write for SameText<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or(std::io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
