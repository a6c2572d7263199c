//! What opening found to do, and what is done only once the start is accepted. A start that is refused changes nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use unefois_engine::store::{JournalEnd, StoreError};

use super::Tail;
use super::places::Places;
use crate::embedded::frame::NoFrame;
use crate::embedded::operation::{Operation, perform};
use crate::embedded::segment::{self, Pace};
use crate::embedded::tiles::Tiles;
use crate::embedded::{Options, files};

/// So many files of one torn end are kept at most.
const KEPT_OF_ONE: u32 = 1_000;

/// What opening has not done yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The segment under way; `None` where the journal begins.
    pub(super) tail: Option<Tail>,
    pub(super) torn: Vec<Torn>,
    pub(super) next: Option<Next>,
    /// Tiles that must be durable before anything is appended.
    pub(super) derived: Vec<Arc<Tiles>>,
}

/// What becomes of the next shard's first segment, which lies ready.
#[derive(Debug)]
pub(super) enum Next {
    /// The shard before it was closed: it gets its name.
    Enter(JournalEnd),
    /// It was not.
    Drop,
}

/// Bytes behind the last whole frame of a segment.
#[derive(Debug)]
pub(super) struct Torn {
    /// First entry of the segment.
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// To the last one that is not zero.
    pub(super) bytes: u64,
    pub(super) stop: NoFrame,
}

impl Pending {
    /// Keeps and cuts off torn ends, finishes or drops the next shard, begins an empty journal: gives the segment under way.
    ///
    /// # Errors
    /// Those of the writes. The next opening finds the same to do.
    pub(super) fn carry_out(
        self,
        folder: &Path,
        shards: &[(u64, Arc<Tiles>)],
        (places, options): (&Places, &Options),
    ) -> Result<Tail, StoreError> {
        for torn in &self.torn {
            torn.cut_off(folder)?;
        }
        for (_, tiles) in shards {
            if let Err(error) = tiles.catch_up() {
                tracing::warn!(%error, "hashes of tiles cannot be written and wait in memory");
            }
        }
        for tiles in &self.derived {
            tiles.sync()?;
        }
        match &self.next {
            Some(Next::Enter(next)) => {
                tracing::info!(entries = next.entries(), "the closing of a shard that was interrupted is finished");
                segment::enter_next(folder, next)?;
            }
            Some(Next::Drop) => {
                tracing::warn!("the closing of a shard was interrupted before anything was closed");
                segment::drop_next(folder)?;
            }
            None => {}
        }
        match (self.tail, shards.last()) {
            (Some(tail), _) => Ok(tail),
            (None, Some((_, tiles))) => begin(folder, tiles, (places, options)),
            (None, None) => Err(StoreError::NotWritten("the journal has no shard".to_owned())),
        }
    }
}

/// The first segment of a new journal.
fn begin(folder: &Path, tiles: &Arc<Tiles>, (places, options): (&Places, &Options)) -> Result<Tail, StoreError> {
    if !segment::list(folder)?.is_empty() {
        return Err(StoreError::Fenced(format!("{} holds a journal since", folder.display())));
    }
    let spare = segment::make_spare(folder, options.segment_bytes, &Pace::now())?;
    let (file, path) = segment::begin(folder, &spare, &JournalEnd::of_new_shard(0, 0))?;
    places.begin(0);
    Tail::new(file, path, segment::FRAMES, Arc::clone(tiles))
}

impl Torn {
    /// Zeros what a crash left, so that it can never be taken for a frame later. Its bytes are kept in a file before: nobody can
    /// tell a batch that was under way from an acknowledged one that was damaged, where all that was known of it is lost.
    fn cut_off(&self, folder: &Path) -> Result<(), StoreError> {
        let (file, path) = segment::open(folder, self.segment, true)?;
        let mut bytes = vec![0; usize::try_from(self.bytes).unwrap_or(0)];
        file.read_exact_at(&mut bytes, self.offset).map_err(|error| files::read_error(&path, &error))?;
        let kept = self.keep(folder, &bytes)?;
        tracing::warn!(
            bytes = self.bytes,
            blank = self.stop == NoFrame::Blank,
            kept = %kept.display(),
            "a batch that was never acknowledged is cut off"
        );
        zero(&file, self.offset, bytes).map_err(|error| files::not_written(&path, &error))
    }

    /// Keeps `bytes` under a name of their own.
    fn keep(&self, folder: &Path, bytes: &[u8]) -> Result<PathBuf, StoreError> {
        let name = |number: u32| match number {
            0 => format!("torn-{}-{}.bin", self.offset, self.segment),
            number => format!("torn-{}-{}.{number}.bin", self.offset, self.segment),
        };
        for number in 0..KEPT_OF_ONE {
            let path = folder.join(name(number));
            match files::keep_aside(&path, bytes) {
                Ok(()) => return Ok(path),
                // An earlier start kept them, and ended before it cut them off; or it kept others.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if std::fs::read(&path).is_ok_and(|kept| kept == bytes) {
                        return Ok(path);
                    }
                }
                Err(error) => return Err(files::not_written(&path, &error)),
            }
        }
        Err(StoreError::NotWritten(format!(
            "{} holds too many torn ends; move the files torn-* away",
            folder.display()
        )))
    }
}

fn zero(file: &File, offset: u64, mut bytes: Vec<u8>) -> io::Result<()> {
    bytes.fill(0);
    perform(Operation::TornEndCut, || file.write_all_at(&bytes, offset).and_then(|()| file.sync_data()))
}
