//! Where the entries of a journal lie: its segments, and marks in those that were written or read here.
//!
//! Nothing of it is on the disk. A mark is the place of a frame whose head was read, or that was written, in this process. So
//! what a mark says is never believed of an entry: whoever reads goes on from it frame by frame, and each frame is checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use unefois_engine::store::{Batch, SealedEntry, StoreError, Visit};

use super::open::open_segment;
use crate::embedded::segment::{self, Frames};
use crate::embedded::tiles::Access;

/// Two marks of a segment are at least so many bytes apart: from one to the next there are few heads to read.
const APART: u64 = 32 << 10;
/// The marks of so many segments are kept: 16 bytes each 32 KiB, so 16 MiB for 32 GiB of journal.
const KEPT: usize = 512;

/// The first entry of a frame, and the frame's offset in its segment.
type Mark = (u64, u64);

/// The segments of a journal and the marks in them.
#[derive(Debug)]
pub(super) struct Places {
    folder: PathBuf,
    /// First entries of the segments, in order.
    firsts: RwLock<Vec<u64>>,
    marks: Mutex<Marks>,
    unused: Unused,
}

/// Whether the unused end of a segment that is full is read, too: by whoever verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unused {
    IsRead,
    IsLeft,
}

#[derive(Debug, Default)]
struct Marks {
    /// By the segment's first entry: when it was last used, and its marks in order.
    segments: BTreeMap<u64, (u64, Vec<Mark>)>,
    uses: u64,
}

impl Places {
    /// Of a journal whose segments begin with `firsts`, in order.
    pub(super) fn new(folder: &Path, firsts: Vec<u64>, unused: Unused) -> Self {
        Self { folder: folder.to_owned(), firsts: RwLock::new(firsts), marks: Mutex::default(), unused }
    }

    /// The journal goes on in the segment that begins with entry `first`.
    pub(super) fn begin(&self, first: u64) {
        let mut firsts = self.firsts.write().unwrap_or_else(PoisonError::into_inner);
        if firsts.last().is_none_or(|last| *last < first) {
            firsts.push(first);
        }
    }

    /// The frame that begins with entry `entry` lies at `offset` of the last segment.
    pub(super) fn note(&self, entry: u64, offset: u64) {
        let last = self.firsts.read().unwrap_or_else(PoisonError::into_inner).last().copied();
        if let Some(last) = last {
            self.marks().learn(last, &[(entry, offset)]);
        }
    }

    /// Visits the batches that hold the entries `from..size`.
    ///
    /// # Errors
    /// `Corrupt` where one of them is missing or damaged, `Read` where a file cannot be read.
    pub(super) fn read(&self, from: u64, size: u64, visit: &mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError> {
        if from >= size {
            return Ok(());
        }
        let mut next = from;
        let firsts = self.segments_from(from);
        for (number, first) in firsts.iter().copied().enumerate() {
            let (file, path) = open_segment(&self.folder, first, Access::Read)?;
            let mut frames = Frames::new(&file, &path)?;
            self.seek(first, &mut frames, next)?;
            while next < size {
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
            if self.unused == Unused::IsRead && firsts.get(number + 1) == Some(&next) && frames.trailing_bytes()? > 0 {
                return Err(StoreError::Corrupt(format!(
                    "{}: bytes behind its last frame, from byte {} on, are not zero",
                    path.display(),
                    frames.offset
                )));
            }
            if next >= size {
                return Ok(());
            }
        }
        Err(StoreError::Corrupt(format!("entry {next} of {size} is missing or damaged in {}", self.folder.display())))
    }

    /// Entry `index` of a journal of `size` entries; `None` beyond its end. Reads few heads and one frame, once the segment has
    /// its marks.
    pub(super) fn entry(&self, index: u64, size: u64) -> Result<Option<SealedEntry>, StoreError> {
        let mut found = None;
        self.read(index, size, &mut |batch| {
            let place = index.checked_sub(batch.first).and_then(|place| usize::try_from(place).ok());
            found = place.and_then(|place| batch.entries.into_iter().nth(place));
            Visit::Stop
        })?;
        Ok(found)
    }

    /// First entries of the segment that holds entry `from` and of those behind it.
    fn segments_from(&self, from: u64) -> Vec<u64> {
        let firsts = self.firsts.read().unwrap_or_else(PoisonError::into_inner);
        let start = firsts.partition_point(|first| *first <= from).saturating_sub(1);
        firsts.get(start..).unwrap_or_default().to_vec()
    }

    /// Moves `frames`, of the segment that begins with `segment`, to the frame that holds `entry`, or to the end.
    fn seek(&self, segment: u64, frames: &mut Frames<'_>, entry: u64) -> Result<(), StoreError> {
        let (mut expected, offset) = self.marks().before(segment, entry);
        frames.offset = offset;
        // The lock is not held: the writer never waits for a reader.
        let mut passed: Vec<Mark> = Vec::new();
        while let Ok(head) = frames.head()? {
            // Behind a frame that does not follow, the segment is damaged, and nothing is remembered.
            let follows = head.first == expected;
            expected = if follows { head.end() } else { u64::MAX };
            if follows && passed.last().is_none_or(|(_, at)| at.saturating_add(APART) <= frames.offset) {
                passed.push((head.first, frames.offset));
            }
            if head.end() > entry {
                break;
            }
            frames.skip(&head);
        }
        self.marks().learn(segment, &passed);
        Ok(())
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marks {
    /// The last mark in the segment at or before `entry`.
    fn before(&mut self, segment: u64, entry: u64) -> Mark {
        self.uses += 1;
        let found = self.segments.get_mut(&segment).and_then(|(used, marks)| {
            *used = self.uses;
            let behind = marks.partition_point(|(first, _)| *first <= entry);
            marks.get(..behind)?.last().copied()
        });
        found.unwrap_or((segment, segment::FRAMES))
    }

    /// Keeps those of `marks` that are far enough from others of their segment.
    fn learn(&mut self, segment: u64, marks: &[Mark]) {
        self.uses += 1;
        let (used, known) = self.segments.entry(segment).or_default();
        *used = self.uses;
        for (entry, offset) in marks {
            let place = known.partition_point(|(_, at)| at < offset);
            let before = place.checked_sub(1).and_then(|before| known.get(before));
            let is_behind = before.is_none_or(|(_, at)| at.saturating_add(APART) <= *offset);
            if is_behind && known.get(place).is_none_or(|(_, at)| offset.saturating_add(APART) <= *at) {
                known.insert(place, (*entry, *offset));
            }
        }
        if self.segments.len() > KEPT
            && let Some(oldest) = self.segments.iter().min_by_key(|(_, (used, _))| *used).map(|(first, _)| *first)
        {
            self.segments.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_apart_and_in_order_whatever_comes_first() {
        let mut marks = Marks::default();
        marks.learn(7, &[(7, 4096), (20, 4096 + 3 * APART)]);
        marks.learn(7, &[(8, 4096 + APART - 8), (9, 4096 + APART), (15, 4096 + 2 * APART + 8), (30, 4096 + 5 * APART)]);
        let kept = vec![(7, 4096), (9, 4096 + APART), (20, 4096 + 3 * APART), (30, 4096 + 5 * APART)];
        assert_eq!(marks.segments[&7].1, kept);
        for (entry, mark) in [(7, kept[0]), (8, kept[0]), (9, kept[1]), (19, kept[1]), (29, kept[2]), (99, kept[3])] {
            assert_eq!(marks.before(7, entry), mark);
        }
        assert_eq!(marks.before(50, 60), (50, segment::FRAMES));
    }

    #[test]
    fn marks_of_the_segments_used_last_are_kept() {
        let mut marks = Marks::default();
        for segment in 0..KEPT as u64 {
            marks.learn(segment, &[(segment, 4096)]);
        }
        marks.before(0, 0);
        marks.learn(9_999, &[(9_999, 4096)]);
        assert_eq!(marks.segments.len(), KEPT);
        assert!(marks.segments.contains_key(&0) && !marks.segments.contains_key(&1));
    }
}
