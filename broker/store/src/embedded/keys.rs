//! Keys in files of 32 bytes, mode 0600. A key is durable before anything is sealed with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use unefois_engine::store::{Month, RecordKeys, SecretKey, StoreError};
use zeroize::Zeroizing;

use super::files;

/// The folder `keys/`.
#[derive(Debug)]
pub struct FileKeys {
    folder: PathBuf,
}

impl FileKeys {
    /// Opens the folder, which is made where it does not exist.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        files::make_private_folder(&folder.join("records"))?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn record_path(&self, month: Month) -> PathBuf {
        self.folder.join("records").join(format!("{month}.key"))
    }
}

fn read(path: &Path) -> Result<Option<SecretKey>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(files::read_error(path, &error)),
    };
    files::check_private(path).map_err(StoreError::Corrupt)?;
    let key =
        bytes.as_slice().try_into().map_err(|_| StoreError::Corrupt(format!("{} has not 32 bytes", path.display())))?;
    Ok(Some(SecretKey::new(key)))
}

fn read_or_create(path: &Path) -> Result<SecretKey, StoreError> {
    if let Some(key) = read(path)? {
        return Ok(key);
    }
    let mut bytes = Zeroizing::new([0; 32]);
    let filled = SystemRandom::new().fill(bytes.as_mut());
    filled.map_err(|_| StoreError::NotWritten("the system gives no randomness".to_owned()))?;
    files::create_private(path, bytes.as_ref())?;
    Ok(SecretKey::new(*bytes))
}

impl RecordKeys for FileKeys {
    fn get(&self, month: Month) -> Result<Option<SecretKey>, StoreError> {
        read(&self.record_path(month))
    }

    fn get_or_create(&self, month: Month) -> Result<SecretKey, StoreError> {
        read_or_create(&self.record_path(month))
    }

    fn subject_key(&self) -> Result<SecretKey, StoreError> {
        read_or_create(&self.folder.join("subject.key"))
    }
}
