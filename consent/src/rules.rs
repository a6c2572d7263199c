//! The version of the rules by which a log is decided.
//!
//! It stands in the log, so that an old decision is derived again by the rules of its time. A binary never changes it by being
//! started: an operator's command does, and writes an entry.

use serde::{Deserialize, Serialize};

use crate::Malformed;

/// A version of all that a replay derives: the decision, what the ledger allows, how records are written and how long they are
/// kept. Each version stays in the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rules(u32);

impl Rules {
    /// The rules that a new log begins with.
    pub const NEWEST: Self = Self(1);

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The rules of this number; whether this code has them is for [`Rules::check`] to say.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Whether this code decides by these rules.
    ///
    /// # Errors
    /// [`Malformed`] where it does not.
    pub fn check(self) -> Result<(), Malformed> {
        let newest = if cfg!(feature = "rules-of-tests") { OF_TESTS } else { Self::NEWEST };
        if (Self(1)..=newest).contains(&self) {
            return Ok(());
        }
        Err(Malformed::new("rules", "a version that this program has; a newer program may have it"))
    }

    /// How often one exchange may be tried in all.
    pub(crate) const fn max_attempts(self) -> u32 {
        match self.0 {
            // Only tests have a second version, so that a log can cross a change of rules.
            2 => 2,
            _ => 5,
        }
    }
}

/// What tests change to.
const OF_TESTS: Rules = Rules(2);
