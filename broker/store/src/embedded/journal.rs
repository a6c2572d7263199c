//! The journal of the embedded store: segments in order, one `fdatasync` a batch.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use unefois_audit::{Frontier, Hash};
use unefois_engine::replay::BatchSource;
use unefois_engine::store::{Batch, Journal, JournalEnd, StoreError, Visit};

use super::frame::{self, NoFrame};
use super::operation::{Operation, perform};
use super::segment::{self, Frames, Pace};
use super::tiles::{Access, Tiles};
use super::{Options, files};

/// How often the free space is looked at.
const FREE_SPACE_EVERY: Duration = Duration::from_millis(200);

/// The journal, open for appending.
#[derive(Debug)]
pub struct FileJournal {
    folder: PathBuf,
    options: Options,
    tiles: Tiles,
    /// The durable end; readers look here.
    end: RwLock<JournalEnd>,
    /// Held while a batch is written and synced.
    tail: Mutex<Tail>,
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
    /// Opens the journal under `root`, verifies its last segment and cuts off what a crash left half written.
    pub fn open(root: &Path, options: &Options) -> Result<Self, StoreError> {
        let folder = root.join("journal");
        let tiles_folder = root.join("tiles");
        files::make_private_folder(&folder)?;
        files::make_private_folder(&tiles_folder)?;
        let tiles = Tiles::open(&tiles_folder, Access::Write)?;
        let firsts = segment::list(&folder)?;
        let (tail, end) = match firsts.last() {
            None => begin_empty(&folder, options)?,
            Some(last) => {
                if !tiles.cover(*last)? {
                    tracing::warn!("tile hashes are missing and are derived from the journal");
                    derive_tiles(&folder, &tiles, &firsts, *last)?;
                }
                recover(&folder, &tiles, *last)?
            }
        };
        let journal = Self {
            folder,
            options: options.clone(),
            tiles,
            end: RwLock::new(end),
            left: AtomicU64::new(tail.left()),
            tail: Mutex::new(tail),
            room: Mutex::default(),
        };
        if segment::find_spare(&journal.folder, 0).is_none() {
            journal.make_spare_behind(&mut journal.room());
        }
        Ok(journal)
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on in a new segment.
    fn rotate(&self, tail: &mut Tail, needed: u64, end: &JournalEnd) -> Result<(), StoreError> {
        let mut room = self.room();
        self.ensure_spare(&mut room, needed)?;
        let spare = segment::find_spare(&self.folder, needed)
            .ok_or_else(|| StoreError::NotWritten("the spare segment has gone".to_owned()))?;
        // ORDER: a segment that can be seen promises that the tiles of all before it are durable.
        self.tiles.sync()?;
        let (file, path) = segment::begin(&self.folder, &spare, end)?;
        tail.length = file.metadata().map_err(|error| files::unknown(&path, &error))?.len();
        (tail.file, tail.path, tail.offset) = (file, path, segment::FRAMES);
        // ORDER: while `room` is held, or `reserve` sees the old segment without room, and waits for the next spare.
        self.left.store(tail.left(), Ordering::Release);
        self.make_spare_behind(&mut room);
        Ok(())
    }

    /// A spare segment of at least `needed` bytes is there; waits for the one under way.
    fn ensure_spare(&self, room: &mut Room, needed: u64) -> Result<(), StoreError> {
        room.wait_for_maker();
        if segment::find_spare(&self.folder, needed).is_none() {
            segment::make_spare(&self.folder, needed.max(self.options.segment_bytes), &Pace::now())?;
        }
        Ok(())
    }

    /// Makes the next spare segment beside the work.
    fn make_spare_behind(&self, room: &mut Room) {
        let (folder, bytes, pace) = (self.folder.clone(), self.options.segment_bytes, Pace::default());
        room.pace = pace.clone();
        let make = move || segment::make_spare(&folder, bytes, &pace);
        room.maker = std::thread::Builder::new().name("unefois-spare".to_owned()).spawn(make).ok();
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

    fn reserve(&self, bytes: usize) -> Result<(), StoreError> {
        let mut room = self.room();
        self.check_free_space(&mut room)?;
        if self.left.load(Ordering::Acquire) < self.options.segment_bytes / 2 {
            room.pace.hurry();
        }
        // A batch of this size may be on its way already, beside the one that is asked about.
        if self.left.load(Ordering::Acquire) >= 2 * bytes as u64 {
            return Ok(());
        }
        let needed = bytes as u64 + segment::FRAMES;
        if room.maker.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
            && segment::find_spare(&self.folder, needed).is_some()
        {
            return Ok(());
        }
        self.ensure_spare(&mut room, needed)
    }

    fn append(&self, batch: &Batch, after: &Frontier, closed: &[(u8, u64, Hash)]) -> Result<(), StoreError> {
        let mut tail = self.tail();
        tail.failed.clone().map_or(Ok(()), Err)?;
        let end = self.end();
        if batch.first != end.frontier.size() || batch.entries.is_empty() || batch.end() != after.size() {
            return Err(StoreError::NotWritten(format!(
                "a batch from {} does not go on at {}",
                batch.first,
                end.frontier.size()
            )));
        }
        let mut buffer = std::mem::take(&mut tail.buffer);
        buffer.clear();
        frame::encode(batch, &mut buffer).ok_or_else(|| StoreError::NotWritten("the batch is too large".to_owned()))?;
        if tail.left() < buffer.len() as u64 {
            let rotated = self.rotate(&mut tail, buffer.len() as u64 + segment::FRAMES, &end);
            rotated.inspect_err(|error| tail.fail_if_unknown(error))?;
        }
        let written = tail.commit(&buffer).and_then(|()| self.tiles.write(closed));
        tail.buffer = buffer;
        self.left.store(tail.left(), Ordering::Release);
        written.inspect_err(|error| tail.fail_if_unknown(error))?;
        let last_time_ms = batch.entries.last().map_or(end.last_time_ms, |entry| entry.leaf.time_ms);
        let end = JournalEnd { frontier: after.clone(), signature: Some(batch.signature), last_time_ms };
        *self.end.write().unwrap_or_else(PoisonError::into_inner) = end;
        Ok(())
    }

    fn read(&self, from: u64, visit: &mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError> {
        read_segments(&self.folder, from, self.end().frontier.size(), visit)
    }

    fn tile_hashes(&self, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        self.tiles.read(level, start, count)
    }
}

impl Tail {
    /// Bytes that the segment still takes.
    fn left(&self) -> u64 {
        self.length.saturating_sub(self.offset)
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
            StoreError::Full(_) | StoreError::NotWritten(_) | StoreError::Corrupt(_) | StoreError::Read(_) => {}
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

fn new_tail(file: File, path: PathBuf, offset: u64) -> Result<Tail, StoreError> {
    let length = file.metadata().map_err(|error| files::read_error(&path, &error))?.len();
    Ok(Tail { file, path, offset, length, buffer: Vec::new(), failed: None })
}

fn begin_empty(folder: &Path, options: &Options) -> Result<(Tail, JournalEnd), StoreError> {
    let end = JournalEnd { frontier: Frontier::new(), signature: None, last_time_ms: 0 };
    let spare = segment::make_spare(folder, options.segment_bytes, &Pace::now())?;
    let (file, path) = segment::begin(folder, &spare, &end)?;
    Ok((new_tail(file, path, segment::FRAMES)?, end))
}

fn open_segment(folder: &Path, first: u64, access: Access) -> Result<(File, PathBuf), StoreError> {
    let path = segment::path(folder, first);
    let file = File::options().read(true).write(access == Access::Write).open(&path);
    file.map(|file| (file, path.clone())).map_err(|error| files::read_error(&path, &error))
}

/// Reads the last segment, checks every frame against the tree, and cuts off a torn end.
fn recover(folder: &Path, tiles: &Tiles, last: u64) -> Result<(Tail, JournalEnd), StoreError> {
    let (file, path) = open_segment(folder, last, Access::Write)?;
    let mut end = segment::read_header(&file, &path)?;
    if end.frontier.size() != last {
        return Err(StoreError::Corrupt(format!("{} begins with another entry than its name says", path.display())));
    }
    let mut frames = Frames::new(&file, &path)?;
    let stop = loop {
        match frames.next()? {
            Ok(batch) => end = follow(end, &batch, &path, Some(tiles))?,
            Err(none) => break none,
        }
    };
    let offset = frames.offset;
    let torn = frames.trailing_bytes()?;
    if torn > 0 {
        if frames.whole_frame_follows()? {
            return Err(StoreError::Corrupt(format!(
                "{} is damaged at byte {offset} and goes on behind it: not what a crash leaves. Restore the folder from a backup",
                path.display()
            )));
        }
        tracing::warn!(bytes = torn, blank = stop == NoFrame::Blank, "a batch that was never acknowledged is cut off");
        cut_off(&file, offset, torn).map_err(|error| files::not_written(&path, &error))?;
    }
    Ok((new_tail(file, path, offset)?, end))
}

/// Zeros what a crash left, so that it can never be taken for a frame later.
fn cut_off(file: &File, offset: u64, count: u64) -> std::io::Result<()> {
    let zeros = vec![0; usize::try_from(count).unwrap_or(0)];
    perform(Operation::TornEndCut, || file.write_all_at(&zeros, offset).and_then(|()| file.sync_data()))
}

/// The journal's end after `batch`, which must go on where `end` stops and lead to the root that it says.
fn follow(end: JournalEnd, batch: &Batch, path: &Path, tiles: Option<&Tiles>) -> Result<JournalEnd, StoreError> {
    let mut frontier = end.frontier;
    if batch.first != frontier.size() {
        return Err(StoreError::Corrupt(format!(
            "{}: entry {} does not follow {}",
            path.display(),
            batch.first,
            frontier.size()
        )));
    }
    let mut closed = Vec::new();
    for entry in &batch.entries {
        frontier.append_with(entry.leaf.hash(), |level, index, hash| closed.push((level, index, hash)));
    }
    if frontier.root() != batch.root {
        return Err(StoreError::Corrupt(format!(
            "{}: the entries from {} do not lead to their root",
            path.display(),
            batch.first
        )));
    }
    if let Some(tiles) = tiles {
        tiles.write(&closed)?;
    }
    let last_time_ms = batch.entries.last().map_or(end.last_time_ms, |entry| entry.leaf.time_ms);
    Ok(JournalEnd { frontier, signature: Some(batch.signature), last_time_ms })
}

/// Derives the tiles of all segments before the one that begins with `before`.
fn derive_tiles(folder: &Path, tiles: &Tiles, firsts: &[u64], before: u64) -> Result<(), StoreError> {
    let mut end = JournalEnd { frontier: Frontier::new(), signature: None, last_time_ms: 0 };
    for first in firsts.iter().filter(|first| **first < before) {
        let (file, path) = open_segment(folder, *first, Access::Read)?;
        let mut frames = Frames::new(&file, &path)?;
        while let Ok(batch) = frames.next()? {
            end = follow(end, &batch, &path, Some(tiles))?;
        }
    }
    if end.frontier.size() != before {
        return Err(StoreError::Corrupt(format!(
            "entries {} to {before} are missing from {}",
            end.frontier.size(),
            folder.display()
        )));
    }
    tiles.sync()
}

/// Visits the batches that hold the entries `from..size`.
fn read_segments(folder: &Path, from: u64, size: u64, visit: &mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError> {
    if from >= size {
        return Ok(());
    }
    let firsts = segment::list(folder)?;
    let start = firsts.partition_point(|first| *first <= from).saturating_sub(1);
    let mut next = from;
    for first in firsts.iter().skip(start) {
        let (file, path) = open_segment(folder, *first, Access::Read)?;
        let mut frames = Frames::new(&file, &path)?;
        while next < size {
            let Ok(head) = frames.head()? else { break };
            if head.first + u64::from(head.count) <= next {
                frames.skip(&head);
                continue;
            }
            let Ok(batch) = frames.next()? else { break };
            if batch.first > next {
                return Err(StoreError::Corrupt(format!(
                    "{}: entries {next} to {} are missing",
                    path.display(),
                    batch.first
                )));
            }
            next = batch.end();
            if visit(batch) == Visit::Stop {
                return Ok(());
            }
        }
    }
    if next < size {
        return Err(StoreError::Corrupt(format!(
            "entry {next} of {size} is missing or damaged in {}",
            folder.display()
        )));
    }
    Ok(())
}

/// Reads a journal that another process may be writing: what was durable when it was opened.
#[derive(Debug)]
pub struct JournalReader {
    folder: PathBuf,
    end: JournalEnd,
    torn_bytes: u64,
}

impl JournalReader {
    /// Opens the journal under `root` for reading. Nothing is written and no lock is taken.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let folder = root.join("journal");
        let firsts = segment::list(&folder)?;
        let last = firsts.last().ok_or_else(|| StoreError::Read(format!("{} holds no journal", folder.display())))?;
        let (file, path) = open_segment(&folder, *last, Access::Read)?;
        let mut end = segment::read_header(&file, &path)?;
        let mut frames = Frames::new(&file, &path)?;
        while let Ok(batch) = frames.next()? {
            end = follow(end, &batch, &path, None)?;
        }
        let torn_bytes = frames.trailing_bytes()?;
        if torn_bytes > 0 && frames.whole_frame_follows()? {
            return Err(StoreError::Corrupt(format!("{} is damaged at byte {}", path.display(), frames.offset)));
        }
        Ok(Self { folder, end, torn_bytes })
    }

    /// Where the journal stood when it was opened.
    pub fn end(&self) -> &JournalEnd {
        &self.end
    }

    /// Bytes behind the last whole batch: a commit under way, what a crash left, or a batch that somebody changed. The
    /// files alone do not tell these apart; a receipt or an older head does.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Visits the batches from index `from` on.
    pub fn read(&self, from: u64, visit: &mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError> {
        read_segments(&self.folder, from, self.end.frontier.size(), visit)
    }
}

impl BatchSource for JournalReader {
    fn size(&self) -> u64 {
        self.end.frontier.size()
    }

    fn read(&self, visit: &mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError> {
        self.read(0, visit)
    }
}
