//! Tokens at API Particulier: one that all administrations share, one for each administration, or both.
//!
//! An administration with a token of its own is asked for with that one and never with the shared one, also while its own
//! cannot be used: the shared one may have other rights. Files are read again when they change.

use std::path::Path;
use std::sync::Arc;

use unefois_consent::Siret;
use zeroize::Zeroizing;

use crate::SourceFault;
use crate::config::ConnectorConfigError;
use crate::reloaded::Reloaded;
use crate::secret::{self, Secret as Token};

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

/// Where a shared token comes from.
#[derive(Debug)]
pub(super) enum TokenSource {
    File(Reloaded<Token>),
    Environment(Arc<Token>),
}

impl TokenSource {
    /// A file that nobody but its owner may read.
    pub(super) fn file(path: &Path) -> Result<Self, ConnectorConfigError> {
        secret::token_file(path)
            .map(Self::File)
            .map_err(|problem| ConnectorConfigError::file("token_file", path, problem))
    }

    /// An environment variable, read once.
    pub(super) fn environment(name: &str) -> Result<Self, ConnectorConfigError> {
        let text = std::env::var(name).map(Zeroizing::new).map_err(|_| {
            ConnectorConfigError::invalid("token_env", format!("the environment variable {name} is not set"))
        })?;
        let token = Token::token(&text).map_err(|rule| {
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
