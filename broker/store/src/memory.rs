//! A store in memory for tests, with a hook that makes operations fail.
//!
//! It keeps the promises of the contract as far as memory can, and its "disk" can be opened again after a failure, so a
//! test sees what a broker would find after a crash.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};
use unefois_audit::{Frontier, Hash};
use unefois_consent::RecordPeriod;
use unefois_engine::store::{
    Batch, Fold, HeadFile, Journal, JournalEnd, RecordKeys, Row, RowChange, SealedEntry, SecretKey, ShardChange,
    StoreError, Visit,
};

/// An operation that the hook may disturb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// [`Journal::reserve`].
    Reserve,
    /// [`Journal::append`].
    Append,
    /// [`Fold::apply`].
    FoldApply,
    /// [`Fold::get`] and [`Fold::scan`].
    FoldRead,
    /// [`RecordKeys::get_or_create`].
    KeyCreate,
    /// [`RecordKeys::destroy`].
    KeyDestroy,
    /// [`HeadFile::write`].
    HeadWrite,
}

/// What the hook does to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// There is no room; nothing is written.
    Full,
    /// It fails, and what is durable is unknown; in truth nothing was written.
    Fails,
    /// It fails, and what is durable is unknown; in truth all of it was written.
    FailsButPersists,
    /// It does not return until [`MemoryStore::release`].
    Hangs,
}

type Hook = Box<dyn FnMut(Operation) -> Fault + Send>;

#[derive(Default)]
struct Disk {
    batches: Vec<Batch>,
    end: Option<JournalEnd>,
    /// First entries of the shards behind the first one.
    shards: Vec<u64>,
    tiles: BTreeMap<(u64, u8, u64), Hash>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    folded: u64,
    keys: BTreeMap<String, [u8; 32]>,
    head: Option<String>,
    hook: Option<Hook>,
    hung: bool,
    failed: bool,
}

impl Disk {
    fn end(&self) -> JournalEnd {
        self.end.clone().unwrap_or_else(|| JournalEnd::of_new_shard(0, 0))
    }

    fn append(&mut self, batch: &Batch, after: &Frontier, closed: &[(u8, u64, Hash)]) -> Result<(), StoreError> {
        let end = self.end();
        if batch.first != end.entries() || batch.entries.is_empty() || batch.end() != end.shard + after.size() {
            let expected = end.entries();
            return Err(StoreError::NotWritten(format!("a batch from {} does not go on at {expected}", batch.first)));
        }
        let tiles = closed.iter().filter(|(level, ..)| level % 8 == 0);
        self.tiles.extend(tiles.map(|(level, index, hash)| ((end.shard, level / 8, *index), *hash)));
        self.end = Some(end.after(batch, after.clone()));
        self.batches.push(batch.clone());
        Ok(())
    }
}

/// A store in memory. Clones share one disk.
#[derive(Clone, Default)]
pub struct MemoryStore {
    disk: Arc<(Mutex<Disk>, Condvar)>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks `hook` before each operation.
    pub fn disturb(&self, hook: impl FnMut(Operation) -> Fault + Send + 'static) {
        self.disk().hook = Some(Box::new(hook));
    }

    /// Lets every operation pass and lets those that hang go on.
    pub fn release(&self) {
        let mut disk = self.disk();
        disk.hook = None;
        disk.hung = false;
        self.disk.1.notify_all();
    }

    /// The same disk as a new process would find it.
    pub fn reopen(&self) {
        self.release();
        self.disk().failed = false;
    }

    /// Changes a stored batch, as an intruder would.
    pub fn tamper(&self, change: impl FnOnce(&mut Vec<Batch>)) {
        change(&mut self.disk().batches);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk, and whether the operation fails after it is done.
    fn enter(&self, operation: Operation) -> Result<(MutexGuard<'_, Disk>, bool), StoreError> {
        let mut disk = self.disk();
        let fault = disk.hook.as_mut().map_or(Fault::None, |hook| hook(operation));
        match fault {
            Fault::None => Ok((disk, false)),
            Fault::Full => Err(StoreError::Full("the test says so".to_owned())),
            Fault::Fails => {
                disk.failed |= operation == Operation::Append;
                Err(StoreError::Unknown("the test says so".to_owned()))
            }
            Fault::FailsButPersists => Ok((disk, true)),
            Fault::Hangs => {
                disk.hung = true;
                while disk.hung {
                    disk = self.disk.1.wait(disk).unwrap_or_else(PoisonError::into_inner);
                }
                Ok((disk, false))
            }
        }
    }
}

fn end_of(fails: bool) -> Result<(), StoreError> {
    if fails { Err(StoreError::Unknown("the test says so".to_owned())) } else { Ok(()) }
}

impl Journal for MemoryStore {
    fn end(&self) -> JournalEnd {
        self.disk().end()
    }

    fn reserve(&self, _bytes: usize) -> Result<(), StoreError> {
        let (disk, fails) = self.enter(Operation::Reserve)?;
        end_of(fails || disk.failed)
    }

    fn append(&self, batch: &Batch, after: &Frontier, closed: &[(u8, u64, Hash)]) -> Result<(), StoreError> {
        let (mut disk, fails) = self.enter(Operation::Append)?;
        end_of(disk.failed)?;
        disk.append(batch, after, closed)?;
        disk.failed = fails;
        end_of(fails)
    }

    fn close_shard(&self, change: ShardChange<'_>) -> Result<(), StoreError> {
        let (mut disk, fails) = self.enter(Operation::Append)?;
        end_of(disk.failed)?;
        let first = change.last.end();
        if change.next.first != first || change.next.entries.is_empty() {
            return Err(StoreError::NotWritten(format!("no shard can begin with {}", change.next.first)));
        }
        disk.append(change.last, change.after, change.closed)?;
        disk.end = Some(JournalEnd::of_new_shard(first, disk.end().last_time_ms));
        disk.shards.push(first);
        let (mut frontier, mut closed) = (Frontier::new(), Vec::new());
        for entry in &change.next.entries {
            frontier.append_with(entry.leaf.hash(), |level, index, hash| closed.push((level, index, hash)));
        }
        disk.append(change.next, &frontier, &closed)?;
        disk.failed = fails;
        end_of(fails)
    }

    fn shards(&self) -> Vec<u64> {
        std::iter::once(0).chain(self.disk().shards.iter().copied()).collect()
    }

    fn read(&self, from: u64, visit: &mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError> {
        let batches: Vec<Batch> = self.disk().batches.iter().filter(|batch| batch.end() > from).cloned().collect();
        for batch in batches {
            if visit(batch) == Visit::Stop {
                break;
            }
        }
        Ok(())
    }

    fn entry(&self, index: u64) -> Result<Option<SealedEntry>, StoreError> {
        let disk = self.disk();
        let batch = disk.batches.get(disk.batches.partition_point(|batch| batch.end() <= index));
        let place = batch.and_then(|batch| usize::try_from(index.checked_sub(batch.first)?).ok());
        Ok(batch.zip(place).and_then(|(batch, place)| batch.entries.get(place)).cloned())
    }

    fn tile_hashes(&self, shard: u64, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        let disk = self.disk();
        let indexes = start..start.saturating_add(count as u64);
        let hashes = indexes.map(|index| disk.tiles.get(&(shard, level, index)).copied());
        hashes.collect::<Option<_>>().ok_or_else(|| StoreError::Read("there is no such hash".to_owned()))
    }
}

impl Fold for MemoryStore {
    fn folded(&self) -> Result<u64, StoreError> {
        Ok(self.disk().folded)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let (disk, fails) = self.enter(Operation::FoldRead)?;
        end_of(fails)?;
        Ok(disk.rows.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let (disk, fails) = self.enter(Operation::FoldRead)?;
        end_of(fails)?;
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let rows = disk.rows.range::<[u8], _>((start, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
        Ok(rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn apply(&self, changes: &[RowChange<'_>], folded: u64) -> Result<(), StoreError> {
        debug_assert!(changes.is_sorted_by(|(before, _), (key, _)| before < key), "not in order, or a key twice");
        let (mut disk, fails) = self.enter(Operation::FoldApply)?;
        for (key, value) in changes {
            match value {
                Some(value) => disk.rows.insert(key.to_vec(), value.to_vec()),
                None => disk.rows.remove(*key),
            };
        }
        disk.folded = folded;
        end_of(fails)
    }

    fn clear(&self) -> Result<(), StoreError> {
        let mut disk = self.disk();
        disk.rows.clear();
        disk.folded = 0;
        Ok(())
    }
}

impl HeadFile for MemoryStore {
    fn name(&self) -> String {
        "in memory".to_owned()
    }

    fn read(&self) -> Result<Option<String>, StoreError> {
        Ok(self.disk().head.clone())
    }

    fn write(&self, note: &str) -> Result<(), StoreError> {
        let (mut disk, fails) = self.enter(Operation::HeadWrite)?;
        disk.head = Some(note.to_owned());
        end_of(fails)
    }
}

impl MemoryStore {
    fn key(&self, name: String) -> Result<SecretKey, StoreError> {
        let (mut disk, fails) = self.enter(Operation::KeyCreate)?;
        let mut drawn = [0; 32];
        let filled = SystemRandom::new().fill(&mut drawn);
        filled.map_err(|_| StoreError::NotWritten("the system gives no randomness".to_owned()))?;
        let key = SecretKey::new(*disk.keys.entry(name).or_insert(drawn));
        end_of(fails)?;
        Ok(key)
    }
}

impl RecordKeys for MemoryStore {
    fn get(&self, period: RecordPeriod) -> Result<Option<SecretKey>, StoreError> {
        Ok(self.disk().keys.get(&period.to_string()).copied().map(SecretKey::new))
    }

    fn get_or_create(&self, period: RecordPeriod) -> Result<SecretKey, StoreError> {
        self.key(period.to_string())
    }

    fn periods(&self) -> Result<Vec<RecordPeriod>, StoreError> {
        Ok(self.disk().keys.keys().filter_map(|name| name.parse().ok()).collect())
    }

    fn destroy(&self, period: RecordPeriod) -> Result<(), StoreError> {
        let (mut disk, fails) = self.enter(Operation::KeyDestroy)?;
        disk.keys.remove(&period.to_string());
        end_of(fails)
    }

    fn has_subject_key(&self) -> Result<bool, StoreError> {
        Ok(self.disk().keys.contains_key("subject"))
    }

    fn subject_key(&self) -> Result<SecretKey, StoreError> {
        self.key("subject".to_owned())
    }
}
