//! The scratch folder of a replay. Its state names persons by their references, so none of it stays behind: not after a signal,
//! and after a sudden death only until the next replay.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

/// How the names of all scratch folders begin.
const PREFIX: &str = "unefois-replay-";
/// How often a folder is tried to be made or removed that somebody else removes or fills at that moment.
const TRIES: usize = 20;

/// A folder that is removed when this is dropped, and when the process gets SIGINT or SIGTERM.
pub(super) struct Scratch {
    folder: TempDir,
    // The process that has the lock uses the folder; the lock goes with the process.
    _lock: File,
    on_signal: JoinHandle<()>,
}

impl Scratch {
    /// Makes one among the temporary files, of mode 0700, and removes those whose process is gone. Within a runtime of tokio.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new() -> io::Result<Self> {
        let temporary = std::env::temp_dir();
        remove_abandoned(&temporary);
        let (folder, lock) = make(&temporary)?;
        let on_signal = remove_on_signal(folder.path().to_owned())?;
        Ok(Self { folder, _lock: lock, on_signal })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.on_signal.abort();
    }
}

fn make(temporary: &Path) -> io::Result<(TempDir, File)> {
    let private = Permissions::from_mode(0o700);
    for _ in 0..TRIES {
        let folder = tempfile::Builder::new().prefix(PREFIX).permissions(private.clone()).tempdir_in(temporary)?;
        // Before it is locked it looks abandoned, and another replay may remove it.
        if let Ok(lock) = File::open(folder.path())
            && lock.try_lock().is_ok()
            && folder.path().exists()
        {
            return Ok((folder, lock));
        }
    }
    Err(io::Error::other(format!("other replays keep removing it from {}", temporary.display())))
}

/// Removes the scratch folders of this user whose process is gone. One that cannot be removed is of no account here.
fn remove_abandoned(temporary: &Path) {
    let Ok(entries) = fs::read_dir(temporary) else { return };
    for entry in entries.flatten() {
        // The metadata are those of a link, not of what it leads to.
        let is_own = entry
            .metadata()
            .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw());
        if !is_own || !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        if let Ok(lock) = File::open(entry.path())
            && lock.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Removes the folder and ends the process when it gets SIGINT or SIGTERM, with the exit code that a shell gives for the signal.
fn remove_on_signal(folder: PathBuf) -> io::Result<JoinHandle<()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(tokio::spawn(async move {
        let number = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
        };
        // The replay goes on meanwhile and may put one more file there.
        for _ in 0..TRIES {
            if fs::remove_dir_all(&folder).is_ok() || !folder.exists() {
                break;
            }
        }
        std::process::exit(128 + number);
    }))
}
