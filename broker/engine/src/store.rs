//! The contract between the engine and whatever keeps its data.
//!
//! Three parts, because they promise different things: the [`Journal`] is the truth and durable, the [`Fold`] is derived
//! from it and may be thrown away, the [`RecordKeys`] are secret and can be destroyed. One process writes; many threads
//! read. A relational database shared by several nodes fits too: one node holds the right to append, and an append by
//! another fails with [`StoreError::Fenced`]. Every implementation runs the contract suite of `unefois-store`.

use std::fmt;

use unefois_audit::{Frontier, Hash, Leaf, Parts, Salt, retention_part};
use unefois_consent::{Digest, RecordPeriod, Retention, Timestamp};

/// One entry as it lies in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedEntry {
    /// The public leaf.
    pub leaf: Leaf,
    /// What of its commitment stays open when the record is destroyed.
    pub opening: Opening,
    /// Nonce (12 bytes) and AES-256-GCM ciphertext with tag of salts, links and record; see `FORMAT.md`.
    pub sealed: Vec<u8>,
}

/// The opening of the part of a commitment that says how long the record is kept, and the hashes of the other two parts. It
/// outlives the record, so that nobody can say later that a record was kept for another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// How long the record is kept; with the leaf's month it names the key.
    pub retention: Retention,
    /// The salt of that part.
    pub retention_salt: Salt,
    /// The part of the record.
    pub record: Hash,
    /// The part of the links to persons.
    pub links: Hash,
}

impl Opening {
    /// The three parts.
    pub fn parts(&self) -> Parts {
        let retention = retention_part(&self.retention_salt, self.retention.months());
        Parts { record: self.record, retention, links: self.links }
    }
}

impl SealedEntry {
    /// Which key seals the record.
    pub fn period(&self) -> RecordPeriod {
        RecordPeriod::new(Timestamp::from_millis(self.leaf.time_ms), self.opening.retention)
    }

    /// Whether the leaf commits to what the opening says.
    pub fn is_committed(&self) -> bool {
        self.opening.parts().commitment() == self.leaf.commitment
    }

    /// Fails where the leaf of this entry, of index `index`, does not commit to what the opening says.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub fn check_opening(&self, index: u64) -> Result<(), StoreError> {
        if self.is_committed() {
            return Ok(());
        }
        Err(StoreError::Corrupt(format!(
            "the leaf of entry {index} does not commit to how long its record is kept: that was changed"
        )))
    }
}

/// What one commit makes durable: entries, and the signed head of their shard's tree after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Index of the first entry. Indexes count through all shards of the log.
    pub first: u64,
    /// One entry at least.
    pub entries: Vec<SealedEntry>,
    /// Root of the tree after the last entry.
    pub root: Hash,
    /// Ed25519 signature of the checkpoint that names this root.
    pub signature: [u8; 64],
}

impl Batch {
    /// Index after the last entry. In the first shard that is the size of the tree that `root` heads.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.entries.len() as u64)
    }
}

/// Where the journal stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEnd {
    /// Index of the first entry of the last shard.
    pub shard: u64,
    /// The right edge of the tree of that shard's durable entries.
    pub frontier: Frontier,
    /// Signature of the checkpoint of that tree; absent in an empty journal.
    pub signature: Option<[u8; 64]>,
    /// Time of the last entry in milliseconds, 0 in an empty journal.
    pub last_time_ms: u64,
}

impl JournalEnd {
    /// Where a shard begins whose first entry comes after one of the time `last_time_ms`.
    pub fn of_new_shard(shard: u64, last_time_ms: u64) -> Self {
        Self { shard, frontier: Frontier::new(), signature: None, last_time_ms }
    }

    /// Number of durable entries of all shards: the index of the next one.
    pub fn entries(&self) -> u64 {
        self.shard.saturating_add(self.frontier.size())
    }

    /// The end after `batch`, which made `frontier` of this one's.
    pub fn after(&self, batch: &Batch, frontier: Frontier) -> Self {
        let last_time_ms = batch.entries.last().map_or(self.last_time_ms, |entry| entry.leaf.time_ms);
        Self { shard: self.shard, frontier, signature: Some(batch.signature), last_time_ms }
    }
}

/// What went wrong in a store, told apart by what the caller may still believe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no room. Nothing was written; trying again later is right.
    #[error("no room for the audit log: {0}. Free or add disk space; the broker goes on by itself")]
    Full(String),
    /// Nothing was written.
    #[error("the store failed before writing: {0}")]
    NotWritten(String),
    /// The write may or may not be durable. The process must stop, reopen and look.
    #[error(
        "the store failed while writing and what is durable is unknown: {0}. Restart the broker; it recovers on opening"
    )]
    Unknown(String),
    /// Another process has taken over the right to append.
    #[error("another process writes this log: {0}")]
    Fenced(String),
    /// What was read is not what was written.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// What was read is of a newer format than this program has. Nothing is wrong with it.
    #[error(
        "the data folder is of a newer format than this program reads: {0}. Use the program that wrote it, or a newer one"
    )]
    Newer(String),
    /// A read failed.
    #[error("the store cannot be read: {0}")]
    Read(String),
}

/// The format of the data folder that this program writes and reads: that of journal, records and keys. `FORMAT.md` has it.
pub const DATA_FORMAT: u32 = 1;

impl StoreError {
    /// Stable code for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full(_) => "STORE_FULL",
            Self::NotWritten(_) => "STORE_NOT_WRITTEN",
            Self::Unknown(_) => "STORE_UNKNOWN",
            Self::Fenced(_) => "STORE_FENCED",
            Self::Corrupt(_) => "STORE_CORRUPT",
            Self::Newer(_) => "STORE_NEWER",
            Self::Read(_) => "STORE_READ",
        }
    }
}

/// What a reader of the journal does after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Read on.
    Continue,
    /// Enough.
    Stop,
}

/// The last batch of a shard and the first one of the next.
#[derive(Debug, Clone, Copy)]
pub struct ShardChange<'a> {
    /// Closes the shard.
    pub last: &'a Batch,
    /// The closed shard's frontier.
    pub after: &'a Frontier,
    /// The subtrees that the last batch completed.
    pub closed: &'a [(u8, u64, Hash)],
    /// Opens the next shard; its tree has the leaves of this batch alone.
    pub next: &'a Batch,
}

/// The truth: an append-only sequence of batches, in shards. Each shard has a tree of its own.
///
/// - **Durability.** When `append` returns `Ok`, the batch survives the death of the process and a power cut.
/// - **Atomicity.** After any failure, opening again finds the whole of a batch or nothing of it.
/// - **Order.** A batch's `first` is the number of entries before it; anything else is `NotWritten`. Readers see
///   batches in order and never one that is not durable.
/// - **Errors.** `Full` and `NotWritten` mean that the journal is as before; after `Unknown` or `Fenced` every later
///   call of `append` fails too.
/// - **Concurrency.** Reads run beside an append and see the journal as of some finished append.
pub trait Journal: Send + Sync + fmt::Debug {
    /// Where the journal stands.
    fn end(&self) -> JournalEnd;

    /// Accepts the end that [`Journal::end`] says: whoever opened the journal has asked everybody who may know more of it. Only now
    /// is anything changed: what a crash left behind the end is kept aside and cut off, what it interrupted is finished or
    /// dropped, an empty journal begins. Before it opening and reading change nothing, so that a start that is refused leaves all
    /// as it was. `reserve`, `append` and `close_shard` accept the end too.
    fn accept_end(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Makes sure that the next append of up to `bytes` of sealed entries finds room, or says `Full` now, when nothing
    /// depends on it yet.
    fn reserve(&self, bytes: usize) -> Result<(), StoreError>;

    /// Makes `batch` durable. `after` is the frontier after it; `closed` are the subtrees that its leaves completed.
    fn append(&self, batch: &Batch, after: &Frontier, closed: &[(u8, u64, Hash)]) -> Result<(), StoreError>;

    /// Closes the last shard and opens the next one: makes both batches durable. After any failure, opening again finds both
    /// of them or neither.
    fn close_shard(&self, change: ShardChange<'_>) -> Result<(), StoreError>;

    /// Indexes of the first entries of all shards, in order; the first is 0.
    fn shards(&self) -> Vec<u64>;

    /// Calls `visit` with the batches that hold the entries from index `from`, in order, to the end of the journal.
    fn read(&self, from: u64, visit: &mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError>;

    /// Entry `index`; `None` beyond the journal's end. Takes about the same time wherever the entry lies: O(log n) in the number of
    /// entries, beside what a segment that was never read takes once.
    fn entry(&self, index: u64) -> Result<Option<SealedEntry>, StoreError>;

    /// Fails with `Corrupt` where what is being written is not where it was opened any more. Cheap: it is asked all the time, and
    /// waits for no commit. A store whose files cannot go away has nothing to look at.
    fn check_in_place(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// `count` consecutive hashes of tile level `level` from `start` (C2SP tlog-tiles: level 0 holds leaf hashes), of the shard
    /// whose first entry is `shard`.
    fn tile_hashes(&self, shard: u64, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError>;
}

/// The newest signed head, kept apart from the data, so that data put back from an older copy is noticed.
///
/// - **Durability.** When `write` returns `Ok`, the head survives a power cut.
/// - **Atomicity.** After any failure `read` gives the head of before or the new one.
pub trait HeadFile: Send + Sync + fmt::Debug {
    /// What an operator calls it: its path.
    fn name(&self) -> String;

    /// The head: a signed note, empty where the file says nothing; `None` where there is no such file.
    fn read(&self) -> Result<Option<String>, StoreError>;

    /// Fails with `Corrupt` where the file that was written is not in its place any more.
    fn check_in_place(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Replaces the head.
    fn write(&self, note: &str) -> Result<(), StoreError>;
}

/// One row of the fold: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// A change of one row of the fold: key and value; `None` removes it.
pub type RowChange<'a> = (&'a [u8], Option<&'a [u8]>);

/// The fold: ordered rows derived from the journal. Losing it costs time, not data.
///
/// - **Atomicity.** `apply` changes all rows and the position, or none.
/// - **Durability.** None is promised: after a crash the fold may be older than what was applied, never a mixture.
/// - **Order.** `scan` gives keys in the order of their bytes.
/// - **Concurrency.** One thread applies; reads run beside it and see a row before or after, never in between.
pub trait Fold: Send + Sync + fmt::Debug {
    /// Says that the start is accepted; looking at the fold before changes nothing in it. `apply` and `clear` say it too.
    fn accept(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// How many entries of the journal the rows reflect.
    fn folded(&self) -> Result<u64, StoreError>;

    /// The row of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` rows whose key starts with `prefix` and comes after `after`.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// Applies `changes`, which are in the order of their keys and have each key once, and moves the position to `folded`.
    fn apply(&self, changes: &[RowChange<'_>], folded: u64) -> Result<(), StoreError>;

    /// Removes every row and moves the position to 0.
    fn clear(&self) -> Result<(), StoreError>;
}

const KEY_CHECK_LABEL: &[u8] = b"unefois/key-check/v1\0";

/// 32 secret bytes; wiped when dropped, never printed.
#[derive(Clone)]
pub struct SecretKey(zeroize::Zeroizing<[u8; 32]>);

impl SecretKey {
    /// Wraps secret bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(zeroize::Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// By which the log knows the key again: SHA-256("unefois/key-check/v1" ‖ 0x00 ‖ key). It says nothing of the key, which is
    /// random.
    pub fn check(&self) -> Digest {
        let mut bytes = zeroize::Zeroizing::new(KEY_CHECK_LABEL.to_vec());
        bytes.extend_from_slice(self.expose());
        Digest::of(&bytes)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret key]")
    }
}

/// The keys that seal records, one a period, and the key that names subjects.
pub trait RecordKeys: Send + Sync + fmt::Debug {
    /// The key of `period`; `None` where it was never made or was destroyed.
    fn get(&self, period: RecordPeriod) -> Result<Option<SecretKey>, StoreError>;

    /// The key of `period`, made and durable before this returns where it did not exist.
    fn get_or_create(&self, period: RecordPeriod) -> Result<SecretKey, StoreError>;

    /// The periods that have a key, in no order.
    fn periods(&self) -> Result<Vec<RecordPeriod>, StoreError>;

    /// Destroys the key of `period` for good; durable when this returns. One that is not there is no fault.
    fn destroy(&self, period: RecordPeriod) -> Result<(), StoreError>;

    /// Fails with `Corrupt` where a key that was given is not in its place any more, and was not destroyed. A key that is in memory
    /// alone seals records that nobody opens after the next start.
    fn check_in_place(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Ends what a crash in `destroy` left half done. Called once a start is accepted; opening and reading change nothing.
    fn finish_destruction(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// The key under which identities become tags; `None` where it was never made.
    fn subject_key(&self) -> Result<Option<SecretKey>, StoreError>;

    /// The same, made and durable before this returns where it did not exist. For a log that begins, and no other.
    fn make_subject_key(&self) -> Result<SecretKey, StoreError>;
}
