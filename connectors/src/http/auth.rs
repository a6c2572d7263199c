//! As whom the source is asked. Secrets come from files, of mode 600, that are read again when they change.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Client;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::oauth2::Oauth2;
use crate::config::ConnectorConfigError;
use crate::reloaded::Reloaded;
use crate::secret::{self, Secret};
use crate::{Fetch, SourceFault};

/// `[connectors.NAME.auth]`, told apart by its `type`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type")]
pub enum AuthConfig {
    /// `type = "bearer"`: a token in `Authorization: Bearer` (RFC 6750).
    #[serde(rename = "bearer")]
    Bearer(BearerConfig),
    /// `type = "api-key"`: a key in a header of its own.
    #[serde(rename = "api-key")]
    ApiKey(ApiKeyConfig),
    /// `type = "basic"`: a user and a password (RFC 7617).
    #[serde(rename = "basic")]
    Basic(BasicConfig),
    /// `type = "oauth2"`: a token of the grant of client credentials (RFC 6749 4.4).
    #[serde(rename = "oauth2")]
    Oauth2(Oauth2Config),
}

/// A bearer token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BearerConfig {
    /// File with the token.
    pub token_file: PathBuf,
}

/// A key in a header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyConfig {
    /// The header, `X-Api-Key`.
    pub header: String,
    /// File with the key.
    pub key_file: PathBuf,
}

/// A user and a password.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicConfig {
    /// The user: no colon.
    pub user: String,
    /// File with the password.
    pub password_file: PathBuf,
}

/// A client of an authorisation server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oauth2Config {
    /// Its token endpoint: https, or http to this very machine.
    pub token_url: String,
    /// Who the broker is there.
    pub client_id: String,
    /// File with the client's secret.
    pub client_secret_file: PathBuf,
    /// Scopes, separated by spaces; none where absent.
    #[serde(default)]
    pub scope: Option<String>,
}

impl AuthConfig {
    pub(super) fn validate(&self) -> Result<(), ConnectorConfigError> {
        let refuse = |key: &str, rule: &str| Err(ConnectorConfigError::invalid(key, rule));
        match self {
            Self::Bearer(_) => Ok(()),
            Self::ApiKey(config) => match HeaderName::from_bytes(config.header.as_bytes()) {
                Ok(_) => Ok(()),
                Err(_) => refuse("auth.header", "the name of a header, such as X-Api-Key"),
            },
            Self::Basic(config) if config.user.contains(':') || config.user.chars().any(char::is_control) => {
                refuse("auth.user", "no colon and no control characters (RFC 7617)")
            }
            Self::Basic(_) => Ok(()),
            Self::Oauth2(config) => Oauth2::check(config),
        }
    }
}

/// What goes into the header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) name: HeaderName,
    /// Marked as sensitive: kept out of Debug and of HPACK's dictionaries.
    pub(super) value: HeaderValue,
}

impl Credentials {
    pub(super) fn new(name: HeaderName, value: &str) -> Result<Self, SourceFault> {
        let value = HeaderValue::from_str(value);
        let mut value = value.map_err(|_| SourceFault::NotAuthorised("the credentials do not fit a header"))?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }

    pub(super) fn bearer(token: &str) -> Result<Self, SourceFault> {
        Self::new(AUTHORIZATION, &Zeroizing::new(format!("Bearer {token}")))
    }
}

/// `Basic` of a user and a password.
pub(super) fn basic(user: &str, password: &str) -> Zeroizing<String> {
    let pair = Zeroizing::new(format!("{user}:{password}"));
    let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    Zeroizing::new(format!("Basic {}", *encoded))
}

/// Credentials that are ready to use.
#[derive(Debug)]
pub(super) enum Auth {
    Nobody,
    Bearer(Reloaded<Secret>),
    ApiKey(HeaderName, Reloaded<Secret>),
    Basic(String, Reloaded<Secret>),
    Oauth2(Box<Oauth2>),
}

impl Auth {
    pub(super) fn open(config: Option<&AuthConfig>, base_dir: &Path) -> Result<Self, ConnectorConfigError> {
        let token = |key, path: &Path| {
            let path = base_dir.join(path);
            secret::token_file(&path).map_err(|problem| ConnectorConfigError::file(key, &path, problem))
        };
        let password = |key, path: &Path| {
            let path = base_dir.join(path);
            secret::password_file(&path).map_err(|problem| ConnectorConfigError::file(key, &path, problem))
        };
        Ok(match config {
            None => Self::Nobody,
            Some(AuthConfig::Bearer(config)) => Self::Bearer(token("auth.token_file", &config.token_file)?),
            Some(AuthConfig::ApiKey(config)) => {
                let name = HeaderName::from_bytes(config.header.as_bytes());
                let name = name.map_err(|_| ConnectorConfigError::invalid("auth.header", "the name of a header"))?;
                Self::ApiKey(name, token("auth.key_file", &config.key_file)?)
            }
            Some(AuthConfig::Basic(config)) => {
                Self::Basic(config.user.clone(), password("auth.password_file", &config.password_file)?)
            }
            Some(AuthConfig::Oauth2(config)) => {
                let secret = password("auth.client_secret_file", &config.client_secret_file)?;
                Self::Oauth2(Box::new(Oauth2::new(config, secret)?))
            }
        })
    }

    /// Whether TLS is spoken to somebody else than the source.
    pub(super) fn speaks_tls(&self) -> bool {
        if let Self::Oauth2(oauth2) = self { oauth2.speaks_tls() } else { false }
    }

    /// The credentials as they are now.
    pub(super) async fn credentials(
        &self,
        client: &Client,
        fetch: &Fetch<'_>,
    ) -> Result<Option<Credentials>, SourceFault> {
        Ok(Some(match self {
            Self::Nobody => return Ok(None),
            Self::Bearer(token) => Credentials::bearer(token.get().await.expose())?,
            Self::ApiKey(name, key) => Credentials::new(name.clone(), key.get().await.expose())?,
            Self::Basic(user, password) => {
                Credentials::new(AUTHORIZATION, &basic(user, password.get().await.expose()))?
            }
            Self::Oauth2(oauth2) => oauth2.token(client, fetch).await?,
        }))
    }

    /// Forgets credentials that were refused; whether new ones can be had.
    pub(super) async fn forget(&self, refused: Option<&Credentials>) -> bool {
        match (self, refused) {
            (Self::Oauth2(oauth2), Some(refused)) => {
                oauth2.forget(refused).await;
                true
            }
            (Self::Oauth2(_) | Self::Nobody | Self::Bearer(_) | Self::ApiKey(..) | Self::Basic(..), _) => false,
        }
    }

    /// The header without its secret.
    pub(super) fn shown(&self) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::Bearer(_) => Some("authorization: Bearer ***".to_owned()),
            Self::ApiKey(name, _) => Some(format!("{name}: ***")),
            Self::Basic(..) => Some("authorization: Basic ***".to_owned()),
            Self::Oauth2(oauth2) => Some(format!("authorization: Bearer *** (a token of {})", oauth2.token_url())),
        }
    }
}
