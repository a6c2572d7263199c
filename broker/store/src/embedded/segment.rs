//! The segment: a file of frames, of fixed size from its birth so that a commit never has to grow it.
//!
//! ```text
//! "UNEFSEG1" ‖ first u64 ‖ time u64 ‖ signed u8 ‖ signature 64 ‖ nodes u8 ‖ nodes × hash 32 ‖ CRC-32C u32
//!   ‖ zeros to 4096 ‖ frames ‖ zeros
//! ```
//! In a later shard than the first one it begins with `"UNEFSEG2"`, and the shard's first entry, u64, comes behind `first`.
//! The header repeats the tree's right edge and signed head at its beginning, so that opening reads one segment alone, and of the
//! others where they begin and end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use unefois_audit::{Frontier, Hash};
use unefois_engine::store::{JournalEnd, StoreError};

use super::files;
use super::frame::{self, FrameHead, NoFrame, Reader};
use super::operation::{Operation, perform};

/// Of the segments of the first shard.
const MAGIC: [u8; 8] = *b"UNEFSEG1";
/// Of the segments of later shards.
const MAGIC_LATER: [u8; 8] = *b"UNEFSEG2";
/// Where the frames begin.
pub(super) const FRAMES: u64 = 4096;
/// The end of a segment is read in pieces of so many bytes.
const PIECE: u64 = 64 << 10;
const SPARE: &str = "spare.seg";
/// The first segment of the next shard, while the one before it is being closed.
const NEXT: &str = "next.seg";

/// Path of the segment that begins with entry `first`.
pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.seg"))
}

/// Opens the segment that begins with entry `first`. The first one of a shard may still lie where it was laid ready.
///
/// # Errors
/// `Read` where there is none.
pub(super) fn open(folder: &Path, first: u64, write: bool) -> Result<(File, PathBuf), StoreError> {
    let path = path(folder, first);
    let open = |path: &Path| OpenOptions::new().read(true).write(write).open(path);
    let opened = open(&path).or_else(|error| {
        let is_ready = error.kind() == io::ErrorKind::NotFound
            && has_next(folder)
            && read_next(folder).is_ok_and(|next| next.entries() == first);
        if is_ready { open(&folder.join(NEXT)) } else { Err(error) }
    });
    opened.map(|file| (file, path.clone())).map_err(|error| files::read_error(&path, &error))
}

/// First indexes of the segments in `folder`, in order. The spare one is not counted.
pub(super) fn list(folder: &Path) -> Result<Vec<u64>, StoreError> {
    let mut firsts = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| files::read_error(folder, &error))? {
        let name = entry.map_err(|error| files::read_error(folder, &error))?.file_name();
        let Some(digits) = name.to_str().and_then(|name| name.strip_suffix(".seg")) else { continue };
        if digits.len() == 20
            && let Ok(first) = digits.parse()
        {
            firsts.push(first);
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

fn encode_header(end: &JournalEnd) -> Option<Vec<u8>> {
    let mut header = Vec::with_capacity(FRAMES as usize);
    header.extend_from_slice(if end.shard == 0 { &MAGIC } else { &MAGIC_LATER });
    header.extend_from_slice(&end.entries().to_be_bytes());
    if end.shard > 0 {
        header.extend_from_slice(&end.shard.to_be_bytes());
    }
    header.extend_from_slice(&end.last_time_ms.to_be_bytes());
    header.push(u8::from(end.signature.is_some()));
    header.extend_from_slice(&end.signature.unwrap_or([0; 64]));
    header.push(u8::try_from(end.frontier.nodes().len()).ok()?);
    for node in end.frontier.nodes() {
        header.extend_from_slice(&node.0);
    }
    header.extend_from_slice(&crc32c::crc32c(&header).to_be_bytes());
    header.resize(FRAMES as usize, 0);
    Some(header)
}

/// Whether nothing was ever written here.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn decode_header(bytes: &[u8]) -> Option<JournalEnd> {
    let mut reader = Reader(bytes);
    let magic = reader.array::<8>()?;
    let first = reader.u64()?;
    let shard = match magic {
        MAGIC => 0,
        MAGIC_LATER => reader.u64().filter(|shard| *shard > 0)?,
        _ => return None,
    };
    let last_time_ms = reader.u64()?;
    let [signed] = reader.array::<1>()?;
    let signature = reader.array::<64>()?;
    let [count] = reader.array::<1>()?;
    let nodes = (0..count).map(|_| reader.array().map(Hash)).collect::<Option<Vec<_>>>()?;
    let covered = bytes.len() - reader.0.len();
    if crc32c::crc32c(bytes.get(..covered)?) != reader.u32()? || !is_blank(reader.0) {
        return None;
    }
    let frontier = Frontier::from_parts(first.checked_sub(shard)?, nodes).ok()?;
    // Only a tree without leaves has no signed head.
    let signature = match signed {
        0 if is_blank(&signature) && frontier.size() == 0 => None,
        1 if frontier.size() > 0 => Some(signature),
        _ => return None,
    };
    Some(JournalEnd { shard, frontier, signature, last_time_ms })
}

/// The state of the journal at the beginning of the segment in `file`.
pub(super) fn read_header(file: &File, path: &Path) -> Result<JournalEnd, StoreError> {
    let mut bytes = vec![0; FRAMES as usize];
    file.read_exact_at(&mut bytes, 0).map_err(|error| files::read_error(path, &error))?;
    if matches!(bytes.strip_prefix(b"UNEFSEG"), Some([digit, ..]) if digit.is_ascii_digit() && *digit > b'2') {
        return Err(StoreError::Newer(format!("{} has a header of a later version", path.display())));
    }
    decode_header(&bytes).ok_or_else(|| StoreError::Corrupt(format!("{} has no valid header", path.display())))
}

/// How fast a spare segment is made.
///
/// Its blocks are written, gently, beside commits that a burst of writes would hold up: later commits into written blocks
/// change no metadata, which halves their time. When somebody needs the segment soon, commits are large and many; then the
/// blocks that are left are only allocated, which takes a moment, since writing them would take the disk from the commits.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace(Arc<AtomicBool>);

impl Pace {
    /// Somebody waits for the segment.
    pub(super) fn now() -> Self {
        let pace = Self::default();
        pace.hurry();
        pace
    }

    /// Somebody needs the segment soon.
    pub(super) fn hurry(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_gentle(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// Allocates the blocks from `offset` on without writing them; `false` where the file system cannot.
fn allocate(file: &File, offset: u64, bytes: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::empty(), offset, bytes) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes the spare segment.
pub(super) fn make_spare(folder: &Path, bytes: u64, pace: &Pace) -> Result<PathBuf, StoreError> {
    let path = folder.join(SPARE);
    let draft = folder.join("spare.draft");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        let zeros = vec![0; 256 << 10];
        let (mut left, mut can_allocate) = (bytes, true);
        while left > 0 {
            if !pace.is_gentle() && can_allocate {
                can_allocate = perform(Operation::SpareAllocate, || allocate(&file, bytes - left, left))?;
                if can_allocate {
                    break;
                }
            }
            let count = left.min(zeros.len() as u64);
            let some = zeros.get(..usize::try_from(count).unwrap_or(0)).unwrap_or_default();
            perform(Operation::SpareWrite, || file.write_all(some))?;
            left -= count;
            if pace.is_gentle() {
                perform(Operation::SpareSync, || file.sync_data())?;
                std::thread::sleep(Duration::from_millis(4));
            }
        }
        perform(Operation::SpareSync, || file.sync_all())?;
        perform(Operation::SpareRename, || std::fs::rename(&draft, &path))?;
        files::sync_folder(folder)
    };
    write().map_err(|error| {
        // What was half made only takes room.
        let _ = std::fs::remove_file(&draft);
        files::not_written(&path, &error)
    })?;
    Ok(path)
}

/// Whether a spare segment of at least `bytes` is there.
pub(super) fn has_spare(folder: &Path, bytes: u64) -> bool {
    std::fs::metadata(folder.join(SPARE)).is_ok_and(|spare| spare.len() >= bytes)
}

/// The spare segment, where one of at least `bytes` is there and nothing was written where its frames will be: the closing of a
/// shard that was interrupted may have left a frame.
pub(super) fn find_spare(folder: &Path, bytes: u64) -> Option<PathBuf> {
    let path = folder.join(SPARE);
    let file = File::open(&path).ok()?;
    let length = file.metadata().ok()?.len();
    let mut frames = vec![0; usize::try_from(PIECE.min(length.saturating_sub(FRAMES))).unwrap_or(0)];
    file.read_exact_at(&mut frames, FRAMES).ok()?;
    (length >= bytes && is_blank(&frames)).then_some(path)
}

/// Turns the spare segment into the one that goes on at `end`.
pub(super) fn begin(folder: &Path, spare: &Path, end: &JournalEnd) -> Result<(File, PathBuf), StoreError> {
    let header = encode_header(end).ok_or_else(|| StoreError::NotWritten("the header does not fit".to_owned()))?;
    let target = path(folder, end.entries());
    let write = || -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).open(spare)?;
        // ORDER: locked before it can be seen as the segment under way.
        files::hold(&file, spare).map_err(io::Error::other)?;
        perform(Operation::SegmentHeader, || file.write_all_at(&header, 0))?;
        perform(Operation::SegmentSync, || file.sync_data())?;
        // ORDER: the name comes last; a segment that can be seen has a durable header.
        perform(Operation::SegmentRename, || std::fs::rename(spare, &target))?;
        files::sync_folder(folder)?;
        Ok(file)
    };
    let file = write().map_err(|error| files::unknown(&target, &error))?;
    Ok((file, target))
}

/// Turns the spare segment into the first one of the next shard, with `frame` in it, under a name that is not read yet.
pub(super) fn draft_next(folder: &Path, spare: &Path, end: &JournalEnd, frame: &[u8]) -> Result<(), StoreError> {
    let header = encode_header(end).ok_or_else(|| StoreError::NotWritten("the header does not fit".to_owned()))?;
    let write = || -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(spare)?;
        perform(Operation::SegmentHeader, || file.write_all_at(&header, 0))?;
        perform(Operation::FrameWrite, || file.write_all_at(frame, FRAMES))?;
        perform(Operation::SegmentSync, || file.sync_data())?;
        perform(Operation::NextRename, || std::fs::rename(spare, folder.join(NEXT)))?;
        files::sync_folder(folder)
    };
    write().map_err(|error| files::not_written(spare, &error))
}

/// Whether there is a drafted first segment of a next shard.
pub(super) fn has_next(folder: &Path) -> bool {
    folder.join(NEXT).exists()
}

/// Where the drafted segment begins.
pub(super) fn read_next(folder: &Path) -> Result<JournalEnd, StoreError> {
    let path = folder.join(NEXT);
    let file = File::open(&path).map_err(|error| files::read_error(&path, &error))?;
    read_header(&file, &path)
}

/// Gives the drafted segment its name, once the shard before it is closed.
pub(super) fn enter_next(folder: &Path, end: &JournalEnd) -> Result<(), StoreError> {
    let target = path(folder, end.entries());
    perform(Operation::SegmentRename, || std::fs::rename(folder.join(NEXT), &target))
        .and_then(|()| files::sync_folder(folder))
        .map_err(|error| files::unknown(&target, &error))
}

/// Drops the drafted segment of a shard that did not begin.
pub(super) fn drop_next(folder: &Path) -> Result<(), StoreError> {
    let path = folder.join(NEXT);
    perform(Operation::NextRemove, || std::fs::remove_file(&path))
        .and_then(|()| files::sync_folder(folder))
        .map_err(|error| files::not_written(&path, &error))
}

/// Reads whole frames of a segment from an offset on.
pub(super) struct Frames<'a> {
    file: &'a File,
    path: &'a Path,
    length: u64,
    pub(super) offset: u64,
    buffer: Vec<u8>,
}

impl<'a> Frames<'a> {
    pub(super) fn new(file: &'a File, path: &'a Path) -> Result<Self, StoreError> {
        let length = file.metadata().map_err(|error| files::read_error(path, &error))?.len();
        Ok(Self { file, path, length, offset: FRAMES, buffer: Vec::new() })
    }

    /// The head of the frame at the offset.
    pub(super) fn head(&self) -> Result<Result<FrameHead, NoFrame>, StoreError> {
        if self.offset + frame::HEAD as u64 > self.length {
            return Ok(Err(NoFrame::Blank));
        }
        let mut bytes = [0; frame::HEAD];
        self.file.read_exact_at(&mut bytes, self.offset).map_err(|error| files::read_error(self.path, &error))?;
        if frame::is_newer(&bytes) {
            let (path, offset) = (self.path.display(), self.offset);
            return Err(StoreError::Newer(format!("{path} has a frame of a later version at byte {offset}")));
        }
        let head = FrameHead::parse(&bytes);
        let fits = |head: &FrameHead| self.offset + head.length as u64 <= self.length;
        Ok(head.and_then(|head| if fits(&head) { Ok(head) } else { Err(NoFrame::Damaged) }))
    }

    pub(super) fn skip(&mut self, head: &FrameHead) {
        self.offset += head.padded() as u64;
    }

    /// The frame at the offset, which moves behind it.
    pub(super) fn next(&mut self) -> Result<Result<unefois_engine::store::Batch, NoFrame>, StoreError> {
        let head = match self.head()? {
            Ok(head) => head,
            Err(none) => return Ok(Err(none)),
        };
        // With its padding, where the file does not end before.
        let padded = usize::try_from(self.length.saturating_sub(self.offset)).unwrap_or(usize::MAX).min(head.padded());
        self.buffer.resize(padded, 0);
        self.file.read_exact_at(&mut self.buffer, self.offset).map_err(|error| files::read_error(self.path, &error))?;
        match frame::decode(&self.buffer) {
            Ok((batch, padded)) => {
                // No crash leaves that: the frame is whole, and zeros were there before it.
                if !is_blank(self.buffer.get(head.length..).unwrap_or_default()) {
                    return Err(StoreError::Corrupt(format!(
                        "{}: the padding of the frame at byte {} is not zero",
                        self.path.display(),
                        self.offset
                    )));
                }
                self.offset += padded as u64;
                Ok(Ok(batch))
            }
            Err(none) => Ok(Err(none)),
        }
    }

    /// Whether a whole frame lies anywhere behind the offset. If one does, what is at the offset is no torn end: a later
    /// commit begins only when the one before it is durable.
    pub(super) fn whole_frame_follows(&self) -> Result<bool, StoreError> {
        let mut rest = vec![0; usize::try_from(self.length.saturating_sub(self.offset)).unwrap_or(0)];
        self.file.read_exact_at(&mut rest, self.offset).map_err(|error| files::read_error(self.path, &error))?;
        let starts = (0..rest.len()).step_by(frame::ALIGN).skip(1);
        Ok(starts.filter_map(|at| rest.get(at..)).any(|bytes| frame::begins(bytes) && frame::decode(bytes).is_ok()))
    }

    /// Bytes from the offset to the last one that is not zero.
    pub(super) fn trailing_bytes(&self) -> Result<u64, StoreError> {
        let mut rest = vec![0; usize::try_from(self.length.saturating_sub(self.offset)).unwrap_or(0)];
        self.file.read_exact_at(&mut rest, self.offset).map_err(|error| files::read_error(self.path, &error))?;
        Ok(rest.iter().rposition(|b| *b != 0).map_or(0, |at| at as u64 + 1))
    }
}

/// Whether the frames in `file` lead to where a segment that begins with `next` goes on: to the head that is repeated there or,
/// before another shard, to the entry that closed the one before. Reads the end of the file and not the frames before it.
pub(super) fn leads_to(file: &File, path: &Path, next: &JournalEnd) -> Result<bool, StoreError> {
    let failed = |error| files::read_error(path, &error);
    let length = file.metadata().map_err(failed)?.len();
    let read = |start: u64, end: u64| {
        let mut piece = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(0)];
        file.read_exact_at(&mut piece, start).map(|()| piece).map_err(failed)
    };
    let mut end = length;
    while end > FRAMES {
        let start = end.saturating_sub(PIECE).max(FRAMES);
        let Some(last) = read(start, end)?.iter().rposition(|byte| *byte != 0) else {
            end = start;
            continue;
        };
        // A checksum may end with zeros, so a little more than the last byte that is none.
        let last = start.saturating_add(last as u64);
        let piece = read(last.saturating_sub(PIECE).max(FRAMES), last.saturating_add(frame::ALIGN as u64).min(length))?;
        let mark = match &next.signature {
            Some(signature) => signature.to_vec(),
            // The first entry and the count of the frame that closes a shard.
            None => [&next.entries().saturating_sub(1).to_be_bytes()[..], &1_u32.to_be_bytes()].concat(),
        };
        return Ok(piece.windows(mark.len()).any(|bytes| bytes == mark));
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_every_flipped_bit_is_seen() {
        let mut frontier = Frontier::new();
        for n in 0..11 {
            frontier.append(Hash([n; 32]));
        }
        let first = JournalEnd { shard: 0, frontier, signature: Some([5; 64]), last_time_ms: 1_767_225_600_000 };
        let later = JournalEnd { shard: 70_000, ..first.clone() };
        for (end, golden) in [
            (first, include_str!("../../testdata/segment-header-v1.hex")),
            (later, include_str!("../../testdata/segment-header-v2.hex")),
        ] {
            let header = encode_header(&end).unwrap();
            assert_eq!(decode_header(&header).unwrap(), end);
            // What is on disks today is read for ever; a change of these bytes is a new format.
            let (text, golden) = (hex::encode(&header), golden.replace('\n', ""));
            assert!(text.trim_end_matches('0') == golden.trim_end_matches('0'), "{}", text.trim_end_matches('0'));
            // The zeros behind what it says count too.
            for bit in 0..header.len() * 8 {
                let mut changed = header.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(decode_header(&changed).is_none(), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_header_that_contradicts_itself_is_none_even_with_its_checksum() {
        let mut frontier = Frontier::new();
        frontier.append(Hash([1; 32]));
        let signed = JournalEnd { shard: 0, frontier, signature: Some([5; 64]), last_time_ms: 7 };
        let empty = JournalEnd::of_new_shard(0, 0);
        // Where a header says whether it is signed.
        let (flag, signature) = (24, 25);
        for (end, change, what) in [
            (&signed, vec![(flag, 2)], "another flag"),
            (&signed, vec![(flag, 0)], "a signature that is none"),
            (&signed, (signature..signature + 64).map(|at| (at, 0)).chain([(flag, 0)]).collect(), "no signed head"),
            (&empty, vec![(flag, 1)], "a signed head of nothing"),
            (&empty, vec![(signature + 3, 1)], "bytes of a signature that is none"),
            (&empty, vec![], ""),
        ] {
            let mut header = encode_header(end).unwrap();
            for (at, byte) in change {
                header[at] = byte;
            }
            let covered = 90 + 32 * end.frontier.nodes().len();
            let checksum = crc32c::crc32c(&header[..covered]);
            header[covered..covered + 4].copy_from_slice(&checksum.to_be_bytes());
            assert_eq!(decode_header(&header).is_none(), !what.is_empty(), "{what}");
        }
    }
}
