//! Secrets in files: tokens, keys and passwords that nobody but their owner may read, read again when they change.

use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::files::read_secret;
use crate::reloaded::Reloaded;

/// Tokens are JWTs of one to two thousand characters.
const MAX_BYTES: usize = 8 * 1024;

/// A token, key or password: wiped when dropped, never printed.
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    /// What fits a header as it is.
    pub(crate) fn token(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("must hold one token and nothing else: visible ASCII, at most 8192 characters".to_owned());
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// What somebody may have made up: any characters in one line. Ends of the line do not count.
    pub(crate) fn password(text: &str) -> Result<Self, String> {
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.len() > MAX_BYTES || text.chars().any(char::is_control) {
            return Err("must hold one password and nothing else: one line of at most 8192 bytes".to_owned());
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The secret, for what carries it to the source.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A file with one token; see [`read_token`].
pub(crate) fn token_file(path: &Path) -> Result<Reloaded<Secret>, String> {
    // The settings of a secret are none: an empty one stands for them.
    Reloaded::open(path, &Secret(Zeroizing::default()), |path, _| read_token(path))
}

/// A file with one password; see [`read_password`].
pub(crate) fn password_file(path: &Path) -> Result<Reloaded<Secret>, String> {
    Reloaded::open(path, &Secret(Zeroizing::default()), |path, _| read_password(path))
}

/// A file of mode 600 or 400 that holds one token.
pub(crate) fn read_token(path: &Path) -> Result<Secret, String> {
    Secret::token(std::str::from_utf8(&read_secret(path, MAX_BYTES)?).unwrap_or_default())
}

/// A file of mode 600 or 400 that holds one password.
fn read_password(path: &Path) -> Result<Secret, String> {
    Secret::password(std::str::from_utf8(&read_secret(path, MAX_BYTES)?).unwrap_or_default())
}
