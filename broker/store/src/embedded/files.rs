//! Files: errors told apart, folders synced, secrets private.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{RenameFlags, renameat_with};
use unefois_engine::store::StoreError;

use super::operation::{Operation, perform};

/// `error` while nothing can have been written yet.
pub(super) fn not_written(path: &Path, error: &io::Error) -> StoreError {
    let text = format!("{}: {error}", path.display());
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        StoreError::Full(text)
    } else {
        StoreError::NotWritten(text)
    }
}

/// `error` after which what lies on the disk is unknown.
pub(super) fn unknown(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unknown(format!("{}: {error}", path.display()))
}

/// `error` of a read.
pub(super) fn read_error(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Read(format!("{}: {error}", path.display()))
}

/// Makes the names in `folder` durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    perform(Operation::FolderSync, || File::open(folder)?.sync_all())
}

/// Makes `folder`, mode 0700, where it does not exist.
pub(super) fn make_private_folder(folder: &Path) -> Result<(), StoreError> {
    make_private(folder).map_err(|error| not_written(folder, &error))
}

/// The same, with the error of the system.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    match folder.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

/// Keeps bytes in a new file, mode 0600, durable when this returns. Never replaces one.
pub(super) fn keep_aside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    perform(Operation::TornEndKeep, || file.write_all(bytes).and_then(|()| file.sync_all()))?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Takes the lock of the writing process; it is let go when the file closes, also by the death of the process.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| not_written(path, &error))?;
    hold(&file, path)?;
    Ok(file)
}

/// Takes a lock on a folder that is there, and holds as [`lock`] does.
pub(super) fn lock_folder(path: &Path) -> Result<File, StoreError> {
    let folder = File::open(path).map_err(|error| read_error(path, &error))?;
    hold(&folder, path)?;
    Ok(folder)
}

/// Takes the lock of an open file. It is the same lock for every descriptor that was opened together with this one.
pub(super) fn hold(file: &File, path: &Path) -> Result<(), StoreError> {
    match try_hold(file) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(StoreError::Fenced(format!("{} is locked; is a broker running on this folder?", path.display())))
        }
        Err(error) => Err(not_written(path, &error)),
    }
}

/// Takes the lock of an open file; `false` where another process keeps it for longer than half a second. A process that ends,
/// or a child of it that has not become another program yet, keeps it a moment longer than it needs it.
///
/// # Errors
/// Of the system.
pub fn try_hold(file: &File) -> io::Result<bool> {
    let until = Instant::now() + Duration::from_millis(500);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => return Ok(false),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Refuses a secret file that others can read.
pub fn check_private(path: &Path) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(format!(
            "{} can be read by others than its owner; run: chmod 600 {}",
            path.display(),
            path.display()
        ));
    }
    Ok(())
}

/// Writes a new file whole and durable, or not at all. Never replaces one.
pub(super) fn create_private(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let draft = path.with_extension("draft");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        perform(Operation::KeyWrite, || file.write_all(bytes))?;
        perform(Operation::KeySync, || file.sync_all())?;
        perform(Operation::KeyRename, || {
            Ok(renameat_with(rustix::fs::CWD, &draft, rustix::fs::CWD, path, RenameFlags::NOREPLACE)?)
        })?;
        sync_folder(folder)
    };
    write().map_err(|error| not_written(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_let_go_at_once_is_waited_for_and_another_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LOCK");
        let (first, second) = (lock(&path).unwrap(), File::open(&path).unwrap());
        assert!(matches!(hold(&second, &path), Err(StoreError::Fenced(_))));
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(first);
        });
        hold(&second, &path).unwrap();
        ends.join().unwrap();
    }
}
