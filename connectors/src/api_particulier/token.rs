//! Tokens at API Particulier: one that all administrations share, one for each administration, or both.
//!
//! An administration with a token of its own is asked for with that one and never with the shared one, also while its own
//! cannot be used: the shared one may have other rights. Files are read again when they change.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use unefois_consent::Siret;
use zeroize::Zeroizing;

use crate::SourceFault;
use crate::config::ConnectorConfigError;
use crate::reloaded::Reloaded;

/// API Particulier's tokens are JWTs of one to two thousand characters.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

mod folder;

pub(super) use folder::TokenFolder;

/// Where no token serves an administration.
const NONE: SourceFault = SourceFault::NotAuthorised("there is no token for the recipient of the data");

/// All tokens of a connector.
#[derive(Debug)]
pub(super) struct Tokens {
    /// One for each administration.
    pub(super) own: Option<TokenFolder>,
    /// For administrations without their own.
    pub(super) shared: Option<TokenSource>,
}

impl Tokens {
    /// The token to ask with for `recipient`, as it is now.
    pub(super) async fn of(&self, recipient: Siret) -> Result<Arc<Token>, SourceFault> {
        if let Some(folder) = &self.own
            && let Some(own) = folder.token(recipient).await?
        {
            return Ok(own);
        }
        match &self.shared {
            Some(shared) => Ok(shared.current().await),
            None => Err(NONE),
        }
    }
}

/// A bearer token: wiped when dropped, never printed.
pub(super) struct Token(Zeroizing<String>);

impl Token {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_TOKEN_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("must hold one token and nothing else: visible ASCII, at most 8192 characters".to_owned());
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The token, for the header that carries it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[token]")
    }
}

/// Where a shared token comes from.
#[derive(Debug)]
pub(super) enum TokenSource {
    File(Reloaded<Token>),
    Environment(Arc<Token>),
}

impl TokenSource {
    /// A file that nobody but its owner may read.
    pub(super) fn file(path: &Path) -> Result<Self, ConnectorConfigError> {
        // The settings of a token are none: an empty one stands for them.
        let none = Token(Zeroizing::default());
        Reloaded::open(path, &none, |path, _| read(path))
            .map(Self::File)
            .map_err(|problem| ConnectorConfigError::file("token_file", path, problem))
    }

    /// An environment variable, read once.
    pub(super) fn environment(name: &str) -> Result<Self, ConnectorConfigError> {
        let text = std::env::var(name).map(Zeroizing::new).map_err(|_| {
            ConnectorConfigError::invalid("token_env", format!("the environment variable {name} is not set"))
        })?;
        let token = Token::parse(&text).map_err(|rule| {
            ConnectorConfigError::invalid("token_env", format!("the environment variable {name} {rule}"))
        })?;
        Ok(Self::Environment(Arc::new(token)))
    }

    /// The token as it is now.
    pub(super) async fn current(&self) -> Arc<Token> {
        match self {
            Self::File(file) => file.get().await,
            Self::Environment(token) => Arc::clone(token),
        }
    }
}

fn read(path: &Path) -> Result<Token, String> {
    let metadata = std::fs::metadata(path).map_err(|e| format!("cannot be opened: {}", e.kind()))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(format!("others may read the token; run: chmod 600 {}", path.display()));
    }
    if metadata.len() > MAX_TOKEN_BYTES as u64 {
        return Err("is too large for a token".to_owned());
    }
    let bytes = std::fs::read(path).map(Zeroizing::new).map_err(|e| format!("cannot be read: {}", e.kind()))?;
    Token::parse(std::str::from_utf8(&bytes).unwrap_or_default())
}
