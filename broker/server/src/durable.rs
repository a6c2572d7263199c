//! Small files that must survive a power cut, and the lock of whoever writes them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use unefois_store::embedded::try_hold;

/// Replaces a file whole and durably, or leaves it as it was: the new bytes lie in a draft beside it, on the disk, before
/// they take its name. After an error the file is the old or the new one, never a mixture.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    // ORDER: the bytes before the name, and the name before anyone is told.
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Takes a lock that is let go when the file closes, also by the death of the process.
///
/// # Errors
/// What to do about it, where another process has the lock or the file cannot be made.
pub(crate) fn lock(path: &Path) -> Result<File, String> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
    match try_hold(&file) {
        Ok(true) => Ok(file),
        Ok(false) => Err(format!("{} is locked: another process uses this folder; stop one of them", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
