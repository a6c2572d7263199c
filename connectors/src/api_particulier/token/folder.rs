//! A folder with a token file for each administration, named by its SIRET.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use unefois_consent::Siret;

use super::Token;
use crate::SourceFault;
use crate::config::ConnectorConfigError;
use crate::reloaded::Reloaded;
use crate::secret;

const KEY: &str = "token_dir";
const UNUSABLE: SourceFault = SourceFault::NotAuthorised("the token file of the recipient cannot be used");

/// The folder and what was read of it. It grows by a line for each recipient that a permit named.
#[derive(Debug)]
pub(in crate::api_particulier) struct TokenFolder {
    path: PathBuf,
    files: Mutex<HashMap<Siret, Reloaded<Own>>>,
}

/// What the file of one administration holds.
enum Own {
    Absent,
    /// The operator was told why.
    Unusable,
    Token(Arc<Token>),
}

impl TokenFolder {
    /// Reads every token once, so that the operator is told of those that cannot be used. One of them does not stop the
    /// others.
    pub(in crate::api_particulier) fn open(path: &Path) -> Result<Self, ConnectorConfigError> {
        let refuse = |problem: String| Err(ConnectorConfigError::file(KEY, path, problem));
        let mode = match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => metadata.permissions().mode(),
            Ok(_) => return refuse("is not a folder".to_owned()),
            Err(error) => return refuse(format!("cannot be opened: {}", error.kind())),
        };
        if mode & 0o022 != 0 {
            return refuse(format!("others may put tokens there; run: chmod go-w {}", path.display()));
        }
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return refuse(format!("cannot be read: {}", error.kind())),
        };
        let folder = Self { path: path.to_owned(), files: Mutex::default() };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            match name.parse::<Siret>() {
                Ok(siret) => {
                    if let Some(file) = open(&entry.path()) {
                        folder.keep(siret, file);
                    }
                }
                // Those of a mounted volume: `..data`.
                Err(_) if name.starts_with('.') => {}
                Err(_) => {
                    let path = entry.path();
                    tracing::warn!(path = %path.display(), "a file beside the tokens is not named by a SIRET");
                }
            }
        }
        Ok(folder)
    }

    /// The token of `recipient`; none where it has no file, a fault where it has one that cannot be used.
    pub(super) async fn token(&self, recipient: Siret) -> Result<Option<Arc<Token>>, SourceFault> {
        let file = match self.known(recipient) {
            Some(file) => file,
            None => {
                let path = self.path.join(recipient.as_str());
                let opened = tokio::task::spawn_blocking(move || open(&path)).await;
                self.keep(recipient, opened.ok().flatten().ok_or(UNUSABLE)?)
            }
        };
        match &*file.get().await {
            Own::Absent => Ok(None),
            Own::Unusable => Err(UNUSABLE),
            Own::Token(token) => Ok(Some(Arc::clone(token))),
        }
    }

    fn known(&self, recipient: Siret) -> Option<Reloaded<Own>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).get(&recipient).cloned()
    }

    fn keep(&self, recipient: Siret, file: Reloaded<Own>) -> Reloaded<Own> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).entry(recipient).or_insert(file).clone()
    }
}

fn open(path: &Path) -> Option<Reloaded<Own>> {
    Reloaded::open(path, &Own::Absent, load).ok()
}

/// A token in use stays in use while its file cannot be used; a file that is gone takes the right with it, and the shared token,
/// whose rights may be others, does not take its place before the broker starts again.
fn load(path: &Path, before: &Own) -> Result<Own, String> {
    match (std::fs::metadata(path), before) {
        (Err(error), Own::Absent) if error.kind() == ErrorKind::NotFound => return Ok(Own::Absent),
        (Err(error), Own::Token(_) | Own::Unusable) if error.kind() == ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), "a token file is gone; who asked by it is refused until it is back");
            return Ok(Own::Unusable);
        }
        (Ok(_) | Err(_), _) => {}
    }
    match (secret::read_token(path), before) {
        (Ok(token), _) => Ok(Own::Token(Arc::new(token))),
        (Err(problem), Own::Token(_)) => Err(problem),
        (Err(problem), Own::Absent | Own::Unusable) => {
            tracing::error!(path = %path.display(), problem, "a token file cannot be used");
            Ok(Own::Unusable)
        }
    }
}
