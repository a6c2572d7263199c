//! Keys in files of 32 bytes, mode 0600. A key is durable before anything is sealed with it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};
use unefois_consent::{Digest, RecordPeriod};
use unefois_engine::store::{RecordKeys, SecretKey, StoreError};
use zeroize::Zeroizing;

use super::files;
use super::in_place::InPlace;
use super::operation::{Operation, perform};

/// Extension of a key on its way to nothing.
const DESTROYED: &str = "destroyed";

/// The folder `keys/`.
#[derive(Debug)]
pub struct FileKeys {
    folder: PathBuf,
    /// Files whose key was given, by their path. Held while one is read, made or destroyed.
    in_use: Mutex<BTreeMap<PathBuf, InUse>>,
}

/// The file of a key that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InUse {
    place: InPlace,
    /// By which the key is known again.
    check: Digest,
}

impl InUse {
    /// Fails where the file is not there any more, or holds another key.
    fn check(&self) -> Result<(), StoreError> {
        self.place.check("a key in use", KEY_GONE)?;
        let path = self.place.path();
        let file = File::open(path).map_err(|error| files::read_error(path, &error))?;
        if read_key(&file, path)?.check() == self.check {
            return Ok(());
        }
        Err(StoreError::Corrupt(format!(
            "{} was overwritten while the broker ran: it is a key in use. {KEY_GONE}",
            path.display()
        )))
    }
}

impl FileKeys {
    /// The keys in `folder`, which is made with the first of them.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self { folder: folder.to_owned(), in_use: Mutex::default() })
    }

    fn in_use(&self) -> MutexGuard<'_, BTreeMap<PathBuf, InUse>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn records(&self) -> PathBuf {
        self.folder.join("records")
    }

    fn subject_path(&self) -> PathBuf {
        self.folder.join("subject.key")
    }

    /// Paths of the files in `records/`; none where there is no such folder.
    fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let folder = self.records();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(files::read_error(&folder, &error)),
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        paths.collect::<io::Result<_>>().map_err(|error| files::read_error(&folder, &error))
    }

    fn record_path(&self, period: RecordPeriod) -> PathBuf {
        self.records().join(format!("{period}.key"))
    }
}

const KEY_GONE: &str = "What is sealed or named with it cannot be opened or found without it. Put that very file back, or the same key \
                        from the backup, and start the broker";

/// Reads a key, and notes that it is in use.
fn read(path: &Path, in_use: &mut BTreeMap<PathBuf, InUse>) -> Result<Option<SecretKey>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(files::read_error(path, &error)),
    };
    files::check_private(path).map_err(StoreError::Corrupt)?;
    let key = read_key(&file, path)?;
    in_use.insert(path.to_owned(), InUse { place: InPlace::of(&file, path)?, check: key.check() });
    Ok(Some(key))
}

fn read_key(file: &File, path: &Path) -> Result<SecretKey, StoreError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(64));
    // One byte more than a key has shows one that is too long.
    file.take(33).read_to_end(&mut bytes).map_err(|error| files::read_error(path, &error))?;
    let key = bytes.as_slice().try_into();
    key.map(SecretKey::new).map_err(|_| StoreError::Corrupt(format!("{} has not 32 bytes", path.display())))
}

fn read_or_create(path: &Path, in_use: &mut BTreeMap<PathBuf, InUse>) -> Result<SecretKey, StoreError> {
    // One that was given before and is gone since is never made anew.
    if let Some(key) = in_use.get(path) {
        key.check()?;
    }
    if let Some(key) = read(path, in_use)? {
        return Ok(key);
    }
    let mut bytes = Zeroizing::new([0; 32]);
    let filled = SystemRandom::new().fill(bytes.as_mut());
    filled.map_err(|_| StoreError::NotWritten("the system gives no randomness".to_owned()))?;
    if let Some(folder) = path.parent() {
        files::make_private_folder(folder)?;
    }
    files::create_private(path, bytes.as_ref())?;
    read(path, in_use)?.ok_or_else(|| StoreError::NotWritten(format!("{} is gone again", path.display())))
}

/// Where the file system writes in place the bytes are gone after this; elsewhere the name is.
fn wipe(path: &Path) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    perform(Operation::KeyWipe, || file.write_all_at(&[0; 32], 0).and_then(|()| file.sync_all()))?;
    perform(Operation::KeyRemove, || fs::remove_file(path))?;
    files::sync_folder(path.parent().unwrap_or(Path::new(".")))
}

impl RecordKeys for FileKeys {
    fn get(&self, period: RecordPeriod) -> Result<Option<SecretKey>, StoreError> {
        read(&self.record_path(period), &mut self.in_use())
    }

    fn get_or_create(&self, period: RecordPeriod) -> Result<SecretKey, StoreError> {
        read_or_create(&self.record_path(period), &mut self.in_use())
    }

    fn periods(&self) -> Result<Vec<RecordPeriod>, StoreError> {
        let mut periods = Vec::new();
        for path in self.files()? {
            let name = path.file_name().and_then(|name| name.to_str());
            let period = name.and_then(|name| name.strip_suffix(".key"));
            periods.extend(period.and_then(|period| period.parse::<RecordPeriod>().ok()));
        }
        Ok(periods)
    }

    fn destroy(&self, period: RecordPeriod) -> Result<(), StoreError> {
        let path = self.record_path(period);
        let mut in_use = self.in_use();
        in_use.remove(&path);
        let destroyed = path.with_added_extension(DESTROYED);
        let destroy = || -> io::Result<()> {
            // ORDER: the name goes first. A key that is half wiped must never be taken for one.
            match perform(Operation::KeyRetire, || fs::rename(&path, &destroyed)) {
                Ok(()) => files::sync_folder(&self.records())?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
            wipe(&destroyed)
        };
        destroy().map_err(|error| files::not_written(&path, &error))
    }

    fn check_in_place(&self) -> Result<(), StoreError> {
        let keys: Vec<InUse> = self.in_use().values().cloned().collect();
        for key in keys {
            let checked = key.check();
            // One that was destroyed meanwhile is in use no more.
            if checked.is_err() && self.in_use().get(key.place.path()) == Some(&key) {
                return checked;
            }
        }
        Ok(())
    }

    fn finish_destruction(&self) -> Result<(), StoreError> {
        for path in self.files()? {
            if path.extension().is_some_and(|extension| extension == DESTROYED) {
                wipe(&path).map_err(|error| files::not_written(&path, &error))?;
            }
        }
        Ok(())
    }

    fn subject_key(&self) -> Result<Option<SecretKey>, StoreError> {
        read(&self.subject_path(), &mut self.in_use())
    }

    fn make_subject_key(&self) -> Result<SecretKey, StoreError> {
        read_or_create(&self.subject_path(), &mut self.in_use())
    }
}
