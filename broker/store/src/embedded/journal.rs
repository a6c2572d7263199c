//! The journal of the embedded store: segments in order, one `fdatasync` a batch.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use unefois_audit::{Frontier, Hash};
use unefois_engine::store::{Batch, Journal, JournalEnd, SealedEntry, ShardChange, StoreError, Visit};

use super::in_place::InPlace;
use super::operation::{Operation, perform};
use super::segment::{self, Pace};
use super::tiles::Tiles;
use super::{Options, files, frame};

mod accept;
mod open;
mod places;
mod reader;

use accept::Pending;
use open::{Found, Opened};
use places::Places;
pub use reader::JournalReader;

/// How often the free space is looked at.
const FREE_SPACE_EVERY: Duration = Duration::from_millis(200);

const SEGMENT_GONE: &str = "Entries that were acknowledged lie in it alone. Put that very file back; where it is lost, put back the \
                            newest copy of the data folder, keep it as proof, and tell those who hold receipts";

/// The journal, open for appending.
#[derive(Debug)]
pub struct FileJournal {
    folder: PathBuf,
    tiles_folder: PathBuf,
    options: Options,
    /// First entry and tiles of each shard, in order.
    shards: RwLock<Vec<(u64, Arc<Tiles>)>>,
    /// Where its entries lie. The last segment there is the one under way.
    places: Places,
    /// The durable end; readers look here.
    end: RwLock<JournalEnd>,
    /// Locked; `None` where there is no such folder yet.
    folder_lock: Mutex<Option<File>>,
    /// What opening found to do; `None` once the start is accepted.
    pending: Mutex<Option<Pending>>,
    /// Held while a batch is written and synced. `None` before the start is accepted.
    tail: Mutex<Option<Tail>>,
    /// The segment under way, for whoever looks without waiting for a commit.
    under_way: Mutex<Option<InPlace>>,
    /// Held for a look. `reserve` must never wait for a commit: the next batch is decided while this one is synced.
    room: Mutex<Room>,
    /// Bytes left in the segment under way, as of the last finished append.
    left: AtomicU64,
}

/// The segment under way.
#[derive(Debug)]
struct Tail {
    file: File,
    path: PathBuf,
    offset: u64,
    length: u64,
    buffer: Vec<u8>,
    /// Of the shard under way.
    tiles: Arc<Tiles>,
    /// After an unknown write nothing is appended any more.
    failed: Option<StoreError>,
}

/// What lies ready for the batches to come.
#[derive(Debug, Default)]
struct Room {
    free_space_at: Option<Instant>,
    /// Makes the next spare segment.
    maker: Option<std::thread::JoinHandle<Result<PathBuf, StoreError>>>,
    /// Of the maker.
    pace: Pace,
}

impl FileJournal {
    /// Opens the journal under `root` and verifies its last segment. Nothing is changed before [`Journal::accept_end`].
    pub fn open(root: &Path, options: &Options) -> Result<Self, StoreError> {
        let (folder, tiles_folder) = (root.join("journal"), root.join("tiles"));
        let folder_lock = if folder.exists() { Some(files::lock_folder(&folder)?) } else { None };
        let Opened { end, shards, places, pending } = open::open(&folder, &tiles_folder)?;
        Ok(Self {
            folder,
            tiles_folder,
            options: options.clone(),
            shards: RwLock::new(shards),
            places,
            end: RwLock::new(end),
            left: AtomicU64::new(0),
            folder_lock: Mutex::new(folder_lock),
            pending: Mutex::new(Some(pending)),
            tail: Mutex::new(None),
            under_way: Mutex::new(None),
            room: Mutex::default(),
        })
    }

    /// Lets the locks go: nothing is appended any more, and another process may write.
    pub(super) fn let_go(&self) {
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(tail) = self.tail().take()
            && let Err(error) = tail.tiles.catch_up()
        {
            tracing::warn!(%error, "hashes of tiles cannot be written; the next start derives them");
        }
        *self.under_way() = None;
        *self.folder_lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // The folder may be opened again at once; nothing must be made in it then.
        self.room().wait_for_maker();
    }

    fn under_way(&self) -> MutexGuard<'_, Option<InPlace>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_on_in(&self, tail: &Tail) -> Result<(), StoreError> {
        *self.under_way() = Some(InPlace::of(&tail.file, &tail.path)?);
        Ok(())
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail(&self) -> MutexGuard<'_, Option<Tail>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on in a new segment.
    fn rotate(&self, tail: &mut Tail, needed: u64, end: &JournalEnd) -> Result<(), StoreError> {
        let mut room = self.room();
        let spare = self.spare(&mut room, needed)?;
        // ORDER: a segment that can be seen promises that the tiles of all before it are durable.
        tail.tiles.sync()?;
        let (file, path) = segment::begin(&self.folder, &spare, end)?;
        tail.length = file.metadata().map_err(|error| files::unknown(&path, &error))?.len();
        (tail.file, tail.path, tail.offset) = (file, path, segment::FRAMES);
        self.places.begin(end.entries());
        self.goes_on_in(tail)?;
        // ORDER: while `room` is held, or `reserve` sees the old segment without room, and waits for the next spare.
        self.left.store(tail.left(), Ordering::Release);
        self.make_spare_behind(&mut room);
        Ok(())
    }

    /// Lays the first segment of the next shard ready, with its first batch in it.
    fn draft_next(&self, next: &Batch, end: &JournalEnd) -> Result<(), StoreError> {
        let mut buffer = Vec::new();
        frame::encode(next, &mut buffer).ok_or_else(|| StoreError::NotWritten("the batch is too large".to_owned()))?;
        let needed = buffer.len() as u64 + segment::FRAMES;
        let mut room = self.room();
        let spare = self.spare(&mut room, needed)?;
        segment::draft_next(&self.folder, &spare, end, &buffer)
    }

    /// Goes on in the shard that was laid ready.
    fn enter_next(&self, tail: &mut Tail, next: &Batch, end: JournalEnd) -> Result<(), StoreError> {
        // ORDER: a segment that can be seen promises that the tiles of all before it are durable.
        tail.tiles.sync()?;
        segment::enter_next(&self.folder, &end)?;
        let tiles = open::tiles_of(&self.tiles_folder, end.shard)?;
        self.shards.write().unwrap_or_else(PoisonError::into_inner).push((end.shard, Arc::clone(&tiles)));
        self.places.begin(next.first);
        let Found { tail: fresh, end, .. } = open::recover(&self.folder, tiles, (next.first, &self.places))?;
        *tail = fresh;
        self.goes_on_in(tail)?;
        self.left.store(tail.left(), Ordering::Release);
        *self.end.write().unwrap_or_else(PoisonError::into_inner) = end;
        Ok(())
    }

    /// Drops the next shard's first segment where `error` says that this shard was not closed; else opening finds out.
    fn drop_draft(&self, error: &StoreError) {
        match error {
            StoreError::Full(_) | StoreError::NotWritten(_) => {
                if segment::has_next(&self.folder)
                    && let Err(error) = segment::drop_next(&self.folder)
                {
                    tracing::warn!(%error, "the next shard's first segment stays until the journal is opened again");
                }
            }
            StoreError::Unknown(_)
            | StoreError::Fenced(_)
            | StoreError::Corrupt(_)
            | StoreError::Newer(_)
            | StoreError::Read(_) => {}
        }
    }

    /// A spare segment of at least `needed` bytes, made where there is none; waits for the one under way.
    fn spare(&self, room: &mut Room, needed: u64) -> Result<PathBuf, StoreError> {
        room.wait_for_maker();
        match segment::find_spare(&self.folder, needed) {
            Some(spare) => Ok(spare),
            None => segment::make_spare(&self.folder, needed.max(self.options.segment_bytes), &Pace::now()),
        }
    }

    /// Makes the next spare segment beside the work.
    fn make_spare_behind(&self, room: &mut Room) {
        let (folder, bytes, pace) = (self.folder.clone(), self.options.segment_bytes, Pace::default());
        room.pace = pace.clone();
        let make = move || segment::make_spare(&folder, bytes, &pace);
        room.maker = std::thread::Builder::new().name("unefois-spare".to_owned()).spawn(make).ok();
    }

    /// The segment will change soon, and no segment follows on one whose tiles are not durable. Better to say so now, when nothing
    /// depends on it, than when a batch waits. It also bounds what waits in memory.
    fn check_tiles(&self) -> Result<(), StoreError> {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        let Some(tiles) = shards.last().map(|(_, tiles)| Arc::clone(tiles)) else { return Ok(()) };
        drop(shards);
        if !tiles.is_behind() {
            return Ok(());
        }
        tiles.catch_up().map_err(|error| StoreError::Full(format!("tiles are behind the journal: {error}")))
    }

    fn check_free_space(&self, room: &mut Room) -> Result<(), StoreError> {
        if room.free_space_at.is_some_and(|at| at.elapsed() < FREE_SPACE_EVERY) {
            return Ok(());
        }
        let disk =
            rustix::fs::statvfs(&self.folder).map_err(|error| files::not_written(&self.folder, &error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.options.min_free_bytes {
            return Err(StoreError::Full(format!(
                "{} has {} MB free and {} MB must stay free",
                self.folder.display(),
                free >> 20,
                self.options.min_free_bytes >> 20
            )));
        }
        room.free_space_at = Some(Instant::now());
        Ok(())
    }
}

impl Journal for FileJournal {
    fn end(&self) -> JournalEnd {
        self.end.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn accept_end(&self) -> Result<(), StoreError> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = pending.take() else { return Ok(()) };
        let mut folder_lock = self.folder_lock.lock().unwrap_or_else(PoisonError::into_inner);
        if folder_lock.is_none() {
            files::make_private_folder(&self.folder)?;
            *folder_lock = Some(files::lock_folder(&self.folder)?);
        }
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner).clone();
        let tail = found.carry_out(&self.folder, &shards, (&self.places, &self.options))?;
        self.left.store(tail.left(), Ordering::Release);
        self.goes_on_in(&tail)?;
        *self.tail() = Some(tail);
        if segment::find_spare(&self.folder, 0).is_none() {
            self.make_spare_behind(&mut self.room());
        }
        Ok(())
    }

    fn reserve(&self, bytes: usize) -> Result<(), StoreError> {
        self.accept_end()?;
        let mut room = self.room();
        self.check_free_space(&mut room)?;
        if self.left.load(Ordering::Acquire) < self.options.segment_bytes / 2 {
            room.pace.hurry();
        }
        // A batch of this size may be on its way already, beside the one that is asked about.
        if self.left.load(Ordering::Acquire) >= 2 * bytes as u64 {
            return Ok(());
        }
        self.check_tiles()?;
        let needed = bytes as u64 + segment::FRAMES;
        if room.maker.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
            && segment::has_spare(&self.folder, needed)
        {
            return Ok(());
        }
        self.spare(&mut room, needed).map(drop)
    }

    fn append(&self, batch: &Batch, after: &Frontier, closed: &[(u8, u64, Hash)]) -> Result<(), StoreError> {
        self.accept_end()?;
        let mut tail = self.tail();
        let tail = tail.as_mut().ok_or_else(not_accepted)?;
        tail.failed.clone().map_or(Ok(()), Err)?;
        let end = self.end();
        if batch.first != end.entries() || batch.entries.is_empty() || batch.end() != end.shard + after.size() {
            let expected = end.entries();
            return Err(StoreError::NotWritten(format!("a batch from {} does not go on at {expected}", batch.first)));
        }
        let mut buffer = std::mem::take(&mut tail.buffer);
        buffer.clear();
        frame::encode(batch, &mut buffer).ok_or_else(|| StoreError::NotWritten("the batch is too large".to_owned()))?;
        if tail.left() < buffer.len() as u64 {
            let rotated = self.rotate(tail, buffer.len() as u64 + segment::FRAMES, &end);
            rotated.inspect_err(|error| tail.fail_if_unknown(error))?;
        }
        let offset = tail.offset;
        let written = tail.commit(&buffer).inspect(|()| tail.tiles.write(closed));
        tail.buffer = buffer;
        self.left.store(tail.left(), Ordering::Release);
        written.inspect_err(|error| tail.fail_if_unknown(error))?;
        self.places.note(batch.first, offset);
        *self.end.write().unwrap_or_else(PoisonError::into_inner) = end.after(batch, after.clone());
        Ok(())
    }

    fn close_shard(&self, change: ShardChange<'_>) -> Result<(), StoreError> {
        self.accept_end()?;
        let first = change.last.end();
        if change.next.first != first || change.next.entries.is_empty() {
            return Err(StoreError::NotWritten(format!("no shard can begin with {}", change.next.first)));
        }
        let end = JournalEnd::of_new_shard(first, self.end().after(change.last, change.after.clone()).last_time_ms);
        // The next shard first, under a name that nobody reads: the last batch of this one is the point of no return, and
        // opening finishes from there.
        let drafted = self.draft_next(change.next, &end);
        let closed = drafted.and_then(|()| self.append(change.last, change.after, change.closed));
        closed.inspect_err(|error| self.drop_draft(error))?;
        let mut tail = self.tail();
        let tail = tail.as_mut().ok_or_else(not_accepted)?;
        let entered = self.enter_next(tail, change.next, end);
        entered.map_err(|error| {
            let unknown = StoreError::Unknown(error.to_string());
            tail.failed = Some(unknown.clone());
            unknown
        })
    }

    fn shards(&self) -> Vec<u64> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).iter().map(|(first, _)| *first).collect()
    }

    fn read(&self, from: u64, visit: &mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError> {
        self.places.read(from, self.end().entries(), visit)
    }

    fn entry(&self, index: u64) -> Result<Option<SealedEntry>, StoreError> {
        self.places.entry(index, self.end().entries())
    }

    fn check_in_place(&self) -> Result<(), StoreError> {
        let Some(under_way) = self.under_way().clone() else { return Ok(()) };
        under_way.check("the segment that entries are written to", SEGMENT_GONE)?;
        self.tail().as_ref().map_or(Ok(()), Tail::check_last)
    }

    fn tile_hashes(&self, shard: u64, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        let tiles = shards.iter().find(|(first, _)| *first == shard).map(|(_, tiles)| Arc::clone(tiles));
        drop(shards);
        tiles.ok_or_else(|| StoreError::Read(format!("no shard begins with entry {shard}")))?.read(level, start, count)
    }
}

fn not_accepted() -> StoreError {
    StoreError::NotWritten("the journal is not open for appending".to_owned())
}

impl Tail {
    /// Locks the file: whoever writes holds what is written, whatever becomes of other files.
    fn new(file: File, path: PathBuf, offset: u64, tiles: Arc<Tiles>) -> Result<Self, StoreError> {
        files::hold(&file, &path)?;
        let length = file.metadata().map_err(|error| files::read_error(&path, &error))?.len();
        Ok(Self { file, path, offset, length, buffer: Vec::new(), tiles, failed: None })
    }

    /// Bytes that the segment still takes.
    fn left(&self) -> u64 {
        self.length.saturating_sub(self.offset)
    }

    /// Fails where the last batch is not in the file any more.
    fn check_last(&self) -> Result<(), StoreError> {
        let mut there = vec![0; self.buffer.len()];
        let start = self.offset.saturating_sub(there.len() as u64);
        let read = self.file.read_exact_at(&mut there, start);
        if read.is_ok() && there == self.buffer {
            return Ok(());
        }
        Err(StoreError::Corrupt(format!(
            "{} was overwritten while the broker ran: the last entries are not in it any more. {SEGMENT_GONE}",
            self.path.display()
        )))
    }

    /// The point of no return.
    fn commit(&mut self, frame: &[u8]) -> Result<(), StoreError> {
        let written = perform(Operation::FrameWrite, || self.file.write_all_at(frame, self.offset));
        let synced = written.and_then(|()| perform(Operation::FrameSync, || self.file.sync_data()));
        synced.map_err(|error| files::unknown(&self.path, &error))?;
        self.offset += frame.len() as u64;
        Ok(())
    }

    fn fail_if_unknown(&mut self, error: &StoreError) {
        match error {
            StoreError::Unknown(_) | StoreError::Fenced(_) => self.failed = Some(error.clone()),
            StoreError::Full(_)
            | StoreError::NotWritten(_)
            | StoreError::Corrupt(_)
            | StoreError::Newer(_)
            | StoreError::Read(_) => {}
        }
    }
}

impl Room {
    /// A maker that failed is tried again by whoever needs the segment, where its error reaches the caller.
    fn wait_for_maker(&mut self) {
        if let Some(maker) = self.maker.take() {
            self.pace.hurry();
            let _ = maker.join();
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // The folder may be opened again at once; the maker must not be writing into it then.
        self.wait_for_maker();
    }
}
