//! Where a webhook stands, on the disk: one small file, replaced whole.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use unefois_consent::{Siret, Timestamp};

use crate::durable;

/// A change that could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetter {
    /// Index of its entry.
    pub(crate) cursor: u64,
    /// When it was given up.
    pub(crate) given_up_at: Timestamp,
    /// How often it was sent.
    pub(crate) attempts: u32,
    /// What the last attempt met.
    pub(crate) error: String,
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// Whose it is. A file of one administration is never taken for another.
    pub(super) consumer: Siret,
    /// Index of the last entry that is done with.
    pub(super) cursor: Option<u64>,
    /// Oldest first.
    pub(super) dead: Vec<DeadLetter>,
}

impl Kept {
    /// `None` where there is no file yet.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, String> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        // Beginning anew could lose changes or send all of them again: that is for the operator to choose.
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            format!(
                "{} is damaged ({error}); remove it to begin with what changes from now on, and have the \
                 administration list its consents",
                path.display()
            )
        })
    }

    /// The dead letter of `cursor` was sent once more, and failed.
    pub(super) fn failed_again(&mut self, cursor: u64, error: &str) {
        for letter in self.dead.iter_mut().filter(|letter| letter.cursor == cursor) {
            letter.attempts = letter.attempts.saturating_add(1);
            error.clone_into(&mut letter.error);
        }
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        durable::replace(path, &serde_json::to_vec(self)?)
    }
}
