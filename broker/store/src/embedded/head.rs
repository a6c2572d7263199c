//! The head file: two slots that take turns, so that a torn write leaves the other. Each holds a signed note, which says by
//! its signature whether it is whole, and zeros behind it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use unefois_engine::store::{HeadFile, StoreError};

use super::files;
use super::in_place::InPlace;
use super::operation::{Operation, perform};

/// Bytes of a slot: one write of a disk.
const SLOT: usize = 4096;
const SLOTS: usize = 2;

const HEAD_GONE: &str = "Without it data that is put back from an older copy is not noticed. Put that very file back and start the broker; \
                         where it is lost, `unefois audit accept-head` makes a new one";

/// The newest signed head in a file of its own.
#[derive(Debug)]
pub struct FileHead {
    path: PathBuf,
    /// The file once it is open, and the slot of the next write.
    open: Mutex<Option<(File, usize)>>,
}

impl FileHead {
    /// The head file at `path`. Nothing is made before the first write.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: Mutex::new(None) }
    }

    fn create(&self) -> io::Result<File> {
        if let Some(folder) = self.path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        if file.metadata()?.len() < (SLOT * SLOTS) as u64 {
            perform(Operation::HeadCreate, || file.write_all_at(&[0; SLOT * SLOTS], 0).and_then(|()| file.sync_all()))?;
            files::sync_folder(self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        }
        Ok(file)
    }
}

/// The size that the note in a slot names; `None` where there is no whole note. The signature is for the engine to judge.
fn size(slot: &[u8]) -> Option<(u64, &str)> {
    let end = slot.iter().position(|byte| *byte == 0).unwrap_or(slot.len());
    let note = std::str::from_utf8(slot.get(..end)?).ok()?;
    let size = note.lines().nth(1)?.parse().ok()?;
    // A note that was torn lacks its signature or the end of that line.
    let (_, signatures) = note.split_once("\n\n")?;
    (signatures.starts_with('\u{2014}') && signatures.ends_with('\n')).then_some((size, note))
}

/// The slots of a file, newest first.
fn slots(bytes: &[u8]) -> Vec<(usize, u64, &str)> {
    let slots = bytes.chunks(SLOT).take(SLOTS).enumerate();
    let mut found: Vec<_> = slots.filter_map(|(at, slot)| size(slot).map(|(size, note)| (at, size, note))).collect();
    found.sort_by_key(|(_, size, _)| std::cmp::Reverse(*size));
    found
}

impl HeadFile for FileHead {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn read(&self) -> Result<Option<String>, StoreError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(files::read_error(&self.path, &error)),
        };
        match slots(&bytes).first() {
            Some((_, _, note)) => Ok(Some((*note).to_owned())),
            None if bytes.iter().all(|byte| *byte == 0) => Ok(Some(String::new())),
            None => Err(StoreError::Corrupt(format!("the head file {} holds no whole head", self.path.display()))),
        }
    }

    fn check_in_place(&self) -> Result<(), StoreError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = open.as_ref().map(|(file, _)| InPlace::of(file, &self.path)).transpose()?;
        drop(open);
        file.map_or(Ok(()), |file| file.check("the head file", HEAD_GONE))
    }

    fn write(&self, note: &str) -> Result<(), StoreError> {
        let mut slot = note.as_bytes().to_vec();
        if slot.len() > SLOT {
            return Err(StoreError::NotWritten(format!("a head of {} bytes is too long for its file", slot.len())));
        }
        slot.resize(SLOT, 0);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let write = |open: &mut Option<(File, usize)>| -> io::Result<()> {
            let (file, next) = match open {
                Some((file, next)) => (file, next),
                None => {
                    let file = self.create()?;
                    let newest = slots(&std::fs::read(&self.path)?).first().map_or(1, |(at, ..)| *at);
                    let (file, next) = open.insert((file, (newest + 1) % SLOTS));
                    (file, next)
                }
            };
            perform(Operation::HeadWrite, || file.write_all_at(&slot, (*next * SLOT) as u64))?;
            perform(Operation::HeadSync, || file.sync_data())?;
            *next = (*next + 1) % SLOTS;
            Ok(())
        };
        write(&mut open).map_err(|error| files::not_written(&self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(size: u64) -> String {
        format!("log\n{size}\nroot\n\n\u{2014} log signature\n")
    }

    #[test]
    fn the_newest_head_reads_back_and_a_torn_write_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other/data.head");
        assert_eq!(FileHead::new(&path).read().unwrap(), None);
        let mut file = FileHead::new(&path);
        file.write("").unwrap();
        assert_eq!(file.read().unwrap(), Some(String::new()));
        for size in 1..6 {
            if size == 3 {
                // As a new process goes on.
                file = FileHead::new(&path);
            }
            file.write(&note(size)).unwrap();
            assert_eq!(file.read().unwrap(), Some(note(size)));
        }
        let whole = std::fs::read(&path).unwrap();
        let newest = slots(&whole).first().unwrap().0;
        for cut in 0..note(5).len() - 1 {
            let mut torn = whole.clone();
            torn[newest * SLOT + cut..(newest + 1) * SLOT].fill(0);
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(FileHead::new(&path).read().unwrap(), Some(note(4)), "{cut}");
        }
        std::fs::write(&path, vec![7; SLOT * SLOTS]).unwrap();
        assert!(matches!(FileHead::new(&path).read(), Err(StoreError::Corrupt(_))));
    }
}
