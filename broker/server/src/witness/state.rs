//! What a witness cosigned last, of each log: one file, the checkpoint with the log's signature and the cosignature.
//!
//! The file is named by the SHA-256 of the log's origin. It is public; losing it is not: without it the witness would
//! cosign a log's other history.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use unefois_audit::note::MAX_NOTE_BYTES;
use unefois_audit::{AuditError, Checkpoint, EMPTY_ROOT, Hash, SignedNote, VerifierKey, WitnessKey};

/// The newest tree of a log that the witness cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Latest {
    pub(crate) size: u64,
    pub(crate) root: Hash,
    /// Its checkpoint; absent where the witness never cosigned one.
    pub(crate) note: Option<String>,
}

/// The folder with the files, locked by this process.
#[derive(Debug)]
pub(crate) struct StateFolder {
    folder: PathBuf,
    _lock: File,
}

/// SHA-256 of a log's origin in lowercase hex, as tlog-witness names a log in its paths.
pub fn origin_hash(origin: &str) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, origin.as_bytes()))
}

impl StateFolder {
    /// Opens a folder that exists: one that is not there may be a disk that was not mounted.
    pub(crate) fn open(folder: &Path) -> Result<Self, String> {
        if !folder.is_dir() {
            return Err(format!(
                "{} is no folder. If this witness ran before, put its state back; a new one begins with an empty folder: \
                 mkdir {}",
                folder.display(),
                folder.display()
            ));
        }
        let lock = crate::durable::lock(&folder.join("LOCK"))?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// What was cosigned last of `origin`: signed by one of the log's `keys`, and cosigned with `own`.
    ///
    /// # Errors
    /// Why the file is not what the witness wrote, and what to do.
    pub(crate) fn read(&self, origin: &str, keys: &[VerifierKey], own: &WitnessKey) -> Result<Latest, String> {
        let path = self.path(origin);
        let fault = |problem: String| {
            format!(
                "{}: {problem}. The witness does not start without knowing what it cosigned of {origin}; put the file back",
                path.display()
            )
        };
        let length = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if begun(&path).exists() {
                    return Err(fault("it is gone".to_owned()));
                }
                return Ok(Latest { size: 0, root: EMPTY_ROOT, note: None });
            }
            Err(error) => return Err(fault(error.to_string())),
        };
        if length > MAX_NOTE_BYTES as u64 {
            return Err(fault("it is too long for a checkpoint".to_owned()));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| fault(error.to_string()))?;
        let note = SignedNote::parse(&text).map_err(|error| fault(error.to_string()))?;
        let checkpoint = Checkpoint::parse_extended(&note.text).map_err(|error| fault(error.to_string()))?;
        note.verify(keys).map_err(|error| match error == AuditError::NoKnownKey {
            true => {
                fault("no key of the log in witness.toml signed it, and the one that did must stay there".to_owned())
            }
            false => fault(error.to_string()),
        })?;
        let cosigned = own.cosignature_on(&note).map_err(|error| fault(error.to_string()))?;
        if checkpoint.origin != origin || cosigned.is_none() {
            return Err(fault("it is not of this log, or was not cosigned with this key".to_owned()));
        }
        Ok(Latest { size: checkpoint.size, root: checkpoint.root, note: Some(text) })
    }

    /// Keeps what is about to be cosigned, durably.
    pub(crate) fn write(&self, origin: &str, note: &str) -> io::Result<()> {
        let path = self.path(origin);
        let begun = begun(&path);
        // ORDER: that the log was cosigned once is durable before it is, so that a file that is gone is missed.
        if !begun.exists() {
            crate::durable::replace(&begun, b"")?;
        }
        crate::durable::replace(&path, note.as_bytes())
    }

    fn path(&self, origin: &str) -> PathBuf {
        self.folder.join(origin_hash(origin))
    }
}

/// Says, by being there, that something was cosigned of a log.
fn begun(path: &Path) -> PathBuf {
    path.with_extension("begun")
}
