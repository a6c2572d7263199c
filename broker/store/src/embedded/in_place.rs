//! Whether a file that this process has open, or has read, is still the one that lies at its path. A process goes on writing into
//! a file that was removed, and nobody else ever sees what it wrote.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use unefois_engine::store::StoreError;

use super::files;

/// A file and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InPlace {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl InPlace {
    /// The open file that lies at `path`.
    pub(super) fn of(file: &File, path: &Path) -> Result<Self, StoreError> {
        let found = file.metadata().map_err(|error| files::read_error(path, &error))?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn is(&self, found: &Metadata) -> bool {
        (found.dev(), found.ino()) == (self.device, self.inode)
    }

    /// Fails where the file is not there any more, with what to do.
    ///
    /// # Errors
    /// `Corrupt` where nothing or another file lies at the path, `Read` where that cannot be told.
    pub(super) fn check(&self, what: &str, to_do: &str) -> Result<(), StoreError> {
        let changed = match std::fs::metadata(&self.path) {
            Ok(found) if self.is(&found) => return Ok(()),
            Ok(_) => "was replaced",
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                "was removed or moved away"
            }
            Err(error) => return Err(files::read_error(&self.path, &error)),
        };
        Err(StoreError::Corrupt(format!(
            "{} {changed} while the broker ran: it is {what}. {to_do}",
            self.path.display()
        )))
    }
}
