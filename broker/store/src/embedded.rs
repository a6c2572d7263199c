//! The embedded store: one folder, one writing process.
//!
//! ```text
//! LOCK              held by the writing process; so are journal/ and the segment under way
//! journal/          segments of checksummed frames, named by their first index: the truth
//! tiles/            hashes of tile levels 0, 1, 2…, appended; derived
//! fold/             rows folded from the journal, in a tree or in sled; derived
//! keys/records/     one key a month, mode 0600; destroying one is the purge
//! keys/subject.key  the key under which identities become tags, mode 0600
//! ```
//!
//! Beside the folder, or where the options say, lies the head file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use unefois_engine::store::{Batch, Fold, StoreError};

mod files;
mod fold;
mod frame;
mod head;
mod in_place;
mod journal;
mod keys;
mod operation;
mod segment;
mod tiles;

pub use files::{check_private, try_hold};
use fold::LateFold;
pub use fold::{FoldEngine, open_fold};
pub use head::FileHead;
pub use journal::{FileJournal, JournalReader};
pub use keys::FileKeys;
pub use operation::Operation;
#[cfg(feature = "faults")]
pub use operation::faults;

/// The batch in the frame at the start of `bytes`; `None` where there is no whole one. For fuzzing the frame format.
pub fn decode_frame(bytes: &[u8]) -> Option<Batch> {
    frame::decode(bytes).ok().map(|(batch, _)| batch)
}

/// The frame of `batch` with its padding; `None` where a length does not fit. For fuzzing the frame format.
pub fn encode_frame(batch: &Batch) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    frame::encode(batch, &mut bytes)?;
    Some(bytes)
}

/// How an embedded store behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of a new segment in bytes.
    pub segment_bytes: u64,
    /// With less free space than this on the disk, nothing is decided any more.
    pub min_free_bytes: u64,
    /// What the fold is kept in.
    pub fold: FoldEngine,
    /// Memory of the fold's cache, in bytes.
    pub fold_cache_bytes: u64,
    /// With more bytes of rows in memory than this, the fold's tree writes a table of them; up to four times as many lie in
    /// memory. More of them means fewer merges.
    pub fold_memory_bytes: u64,
    /// The fold's tree merges its new tables when there are so many of them. More of them means fewer merges, and a look into
    /// the filter of each at every read.
    pub fold_merge_at: u8,
    /// A chunk of so many rows is written as a table at once: they come in order, and bringing them into order again in memory
    /// would take most of the time of a rebuild.
    pub fold_written_at_once: usize,
    /// At most so long a tree's files hold rows after they were removed.
    pub fold_forget_every: Duration,
    /// Where the newest head is kept, on another disk for choice; `FOLDER.head` beside the data folder where `None`.
    pub head: Option<PathBuf>,
    /// Names the boot of the machine; a fold that was not closed in this boot is rebuilt.
    pub boot: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            min_free_bytes: 64 << 20,
            fold: FoldEngine::default(),
            fold_cache_bytes: 128 << 20,
            fold_memory_bytes: 16 << 20,
            fold_merge_at: 8,
            fold_written_at_once: 50_000,
            fold_forget_every: Duration::from_secs(24 * 3600),
            head: None,
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
        }
    }
}

impl Options {
    /// For a fold that a replay builds and throws away: 256 MiB of what was read, and no merge before there are 255 tables, of a
    /// chunk each: merging would take more time than the few reads that look into many of them.
    pub fn scratch() -> Self {
        Self { fold_cache_bytes: 256 << 20, fold_memory_bytes: 256 << 20, fold_merge_at: u8::MAX, ..Self::default() }
    }

    /// The head file of the data folder `folder`.
    pub fn head_of(&self, folder: &Path) -> PathBuf {
        self.head.clone().unwrap_or_else(|| {
            let mut beside = folder.as_os_str().to_owned();
            beside.push(".head");
            beside.into()
        })
    }
}

/// An open embedded store.
#[derive(Debug)]
pub struct EmbeddedStore {
    /// The truth.
    pub journal: Arc<FileJournal>,
    /// The rows.
    pub fold: Arc<dyn Fold>,
    /// The keys.
    pub keys: Arc<FileKeys>,
    /// The newest head, kept apart.
    pub head: Arc<FileHead>,
    folder: PathBuf,
    _lock: Option<File>,
}

impl EmbeddedStore {
    /// Opens the store in `folder`, which is made where it does not exist. Refuses a folder that another process writes. What
    /// the folder holds is changed only once the journal's end is accepted; the fold is opened when it is first asked.
    pub fn open(folder: &Path, options: &Options) -> Result<Self, StoreError> {
        if !folder.exists() {
            files::make_private_folder(folder)?;
        }
        // The journal's own folder is locked too: where it is there, a file that was left out of a backup is not made.
        let path = folder.join("LOCK");
        let lock = if path.exists() || !folder.join("journal").exists() { Some(files::lock(&path)?) } else { None };
        let journal = FileJournal::open(folder, options)?;
        let fold: Arc<dyn Fold> = Arc::new(LateFold::new(&folder.join("fold"), options));
        let keys = FileKeys::open(&folder.join("keys"))?;
        Ok(Self {
            journal: Arc::new(journal),
            fold,
            keys: Arc::new(keys),
            head: Arc::new(FileHead::new(&options.head_of(folder))),
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // Others may still read from the journal. The right to write goes with the store, as the lock of its folder does.
        self.journal.let_go();
    }
}
