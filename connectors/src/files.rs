//! The operator's files: secrets that nobody else may read, files that nobody else may write, and whether one changed since it was
//! read.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::{getegid, geteuid};
use zeroize::Zeroizing;

/// The content of a file, of at most `most` bytes, that nobody but its owner may read: the broker's user or root.
///
/// # Errors
/// What is wrong with the file and what to do, without its name and without what it holds.
pub fn read_secret(path: &Path, most: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    read(path, most, "others may read it; run: chmod 600", |meta| meta.mode() & 0o077 != 0)
}

/// The content of a file, of at most `most` bytes, that nobody may write but its owner, which is the broker's user or root, and the
/// broker's own group. What is trusted is as good as whoever may change it.
///
/// # Errors
/// What is wrong with the file and what to do, without its name and without what it holds.
pub fn read_trusted(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    let may_others = |meta: &Metadata| {
        let by_group = meta.mode() & 0o020 != 0 && meta.gid() != getegid().as_raw();
        meta.mode() & 0o002 != 0 || by_group
    };
    read(path, most, "others may write it; run: chmod go-w", may_others)
        .map(|mut content| std::mem::take(&mut *content))
}

fn read(
    path: &Path,
    most: usize,
    way_out: &str,
    is_refused: impl Fn(&Metadata) -> bool,
) -> Result<Zeroizing<Vec<u8>>, String> {
    // A FIFO without a writer must not hold the broker up.
    let opened = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
    let file = opened.map_err(|error| format!("cannot be opened: {}", error.kind()))?;
    let meta = file.metadata().map_err(|error| format!("cannot be read: {}", error.kind()))?;
    if !meta.is_file() {
        return Err("is no regular file".to_owned());
    }
    if is_refused(&meta) {
        return Err(format!("{way_out} {}", path.display()));
    }
    let ours = geteuid().as_raw();
    if ![0, ours].contains(&meta.uid()) {
        return Err(format!("belongs to another user; run: chown {ours} {}", path.display()));
    }
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0).min(most)));
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut content).map_err(|error| format!("cannot be read: {}", error.kind()))?;
    if content.len() > most { Err(format!("has more than {most} bytes")) } else { Ok(content) }
}

/// What tells one state of a file from another without reading it: also that its mode or its owner was mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    modified: (i64, i64),
    /// Content, mode, owner or name.
    changed: (i64, i64),
    bytes: u64,
    /// A file that was renamed over the old one within one tick of the clock has another.
    inode: u64,
    mode: u32,
    owner: u32,
}

impl FileStamp {
    /// Of the file as it is; none where it cannot be seen.
    pub fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            bytes: meta.size(),
            inode: meta.ino(),
            mode: meta.mode(),
            owner: meta.uid(),
        })
    }
}

/// Which states of a file were used, and which were not usable.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    used: Option<FileStamp>,
    /// The last that was not usable: told once, and tried again, since a read can also fail by chance.
    refused: Option<Option<FileStamp>>,
}

impl Seen {
    /// A file that was read as it was at `stamp`. Take the stamp before the content, so that a change in between is seen later.
    pub fn used(stamp: Option<FileStamp>) -> Self {
        Self { used: stamp, refused: None }
    }

    /// Whether a file that is at `now` was read so.
    pub fn is_used(&self, now: Option<FileStamp>) -> bool {
        self.used == now
    }

    /// Whether a file that is at `now` was not usable so.
    pub fn is_refused(&self, now: Option<FileStamp>) -> bool {
        self.refused == Some(now)
    }

    /// Notes that the file was not usable at `now`. Whether that is new.
    pub fn refuse(&mut self, now: Option<FileStamp>) -> bool {
        let is_new = !self.is_refused(now);
        self.refused = Some(now);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_the_owners_and_what_is_trusted_is_written_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        // Who may read it as a secret, and who may trust it.
        for (mode, secret, trusted) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o644, false, true),
            (0o620, false, true),
            (0o646, false, false),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_secret(&path, 5).is_ok(), secret, "{mode:o}");
            assert_eq!(read_trusted(&path, 5).is_ok(), trusted, "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_trusted(&path, 4).unwrap_err(), "has more than 4 bytes");
        if geteuid().is_root() {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
            std::os::unix::fs::chown(&path, None, Some(12_345)).unwrap();
            assert!(read_trusted(&path, 5).unwrap_err().starts_with("others may write it"), "another group");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
            assert!(read_secret(&path, 5).unwrap_err().starts_with("belongs to another user"));
        }
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        for path in [fifo.as_path(), folder.path(), Path::new("/dev/zero")] {
            assert_eq!(read_trusted(path, 1 << 20).unwrap_err(), "is no regular file", "{}", path.display());
        }
        assert!(read_trusted(&folder.path().join("none"), 1).unwrap_err().starts_with("cannot be opened"));
    }

    #[test]
    fn a_mode_that_was_mended_and_a_file_of_the_same_size_are_other_states() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert_eq!(FileStamp::of(&path), None);
        std::fs::write(&path, "one").unwrap();
        let first = FileStamp::of(&path).unwrap();
        assert_eq!(FileStamp::of(&path), Some(first));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let second = FileStamp::of(&path).unwrap();
        assert_ne!(second, first);
        let other = folder.path().join("other");
        std::fs::write(&other, "two").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(FileStamp::of(&path), Some(second));
    }
}
