//! Connectors in the operator's words: one table per connector, told apart by its `type`.
//!
//! ```toml
//! [connectors.cnaf]
//! type = "api-particulier"
//! base_url = "https://particulier.api.gouv.fr"
//! token_file = "secrets/api-particulier.token"
//! limits = { timeout_ms = 8000 }
//!
//! [connectors.mairie]
//! type = "file"
//! path = "declarations.csv"
//! format = "csv"
//! dataset = "mairie.cantine"
//! types = { quotient = "integer" }
//!
//! [connectors.crous]
//! type = "http"
//! base_url = "https://api.crous.example/v1"
//! auth = { type = "bearer", token_file = "secrets/crous.token" }
//!
//! [connectors.crous.datasets."crous.logement"]
//! path = "/logements"
//! query = { nom = "{birth_name}", naissance = "{birth_date}" }
//! attributes = { residence = { at = "$.residence.nom", type = "text" } }
//! statuses = { 404 = "NO_FILE" }
//!
//! [connectors.bibliotheque]
//! type = "sql"
//! engine = "sqlite"
//! path = "bibliotheque.db"
//!
//! [connectors.bibliotheque.datasets."mairie.bibliotheque"]
//! query = "SELECT tarif FROM lecteurs WHERE nom = :birth_name_folded AND naissance = :birth_date"
//! attributes = { tarif = { column = "tarif", type = "text" } }
//!
//! [connectors.sport]
//! type = "plugin"
//! command = ["/usr/lib/unefois-sport/plugin"]
//! datasets = ["mairie.sport"]
//!
//! [connectors.departement]
//! type = "broker"
//! url = "https://unefois.departement.example:7443"
//! ca_file = "tls/departement-ca.pem"
//! client_identity_file = "tls/departement-client.pem"
//! log_key = "unefois.departement.example/log+234e9fba+AWPOaFGw13ZdhugHvBOmzLWKm2YbAMSRGvV4ewSwS7z2"
//! datasets = { "departement.aides" = {} }
//! procedures = { cantine = { notices = { 1 = 1 } } }
//! ```
//!
//! Unknown keys are refused. Secrets come by file or environment only. Keys in errors are those of the connector's own
//! table; the caller puts the path of that table before them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use unefois_consent::id::ConnectorName;

use crate::api_particulier::{ApiParticulier, ApiParticulierConfig};
use crate::broker::{BrokerConfig, BrokerConnector};
use crate::file::{FileConfig, FileConnector};
use crate::http::{HttpConfig, HttpConnector};
use crate::plugin::{PluginConfig, PluginConnector};
use crate::sql::{SqlConfig, SqlConnector};
use crate::{Connector, Guarded, Limits};

/// One connector of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type")]
pub enum ConnectorConfig {
    /// `type = "api-particulier"`.
    #[serde(rename = "api-particulier")]
    ApiParticulier(ApiParticulierConfig),
    /// `type = "broker"`.
    #[serde(rename = "broker")]
    Broker(BrokerConfig),
    /// `type = "file"`.
    #[serde(rename = "file")]
    File(FileConfig),
    /// `type = "http"`.
    #[serde(rename = "http")]
    Http(HttpConfig),
    /// `type = "plugin"`.
    #[serde(rename = "plugin")]
    Plugin(PluginConfig),
    /// `type = "sql"`.
    #[serde(rename = "sql")]
    Sql(SqlConfig),
}

impl ConnectorConfig {
    /// The limits of the guard around the connector.
    pub fn limits(&self) -> Limits {
        match self {
            Self::ApiParticulier(config) => config.limits,
            Self::Broker(config) => config.limits,
            Self::File(config) => config.limits,
            Self::Http(config) => config.limits,
            Self::Plugin(config) => config.limits,
            Self::Sql(config) => config.limits,
        }
    }

    /// Its `type`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::ApiParticulier(_) => "api-particulier",
            Self::Broker(_) => "broker",
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Plugin(_) => "plugin",
            Self::Sql(_) => "sql",
        }
    }

    /// Refuses what can be seen to be wrong without a look at files or environment, naming the key.
    pub fn validate(&self) -> Result<(), ConnectorConfigError> {
        self.limits().validate()?;
        match self {
            Self::ApiParticulier(config) => config.validate(),
            Self::Broker(config) => config.validate(),
            Self::File(config) => config.validate(),
            Self::Http(config) => config.validate(),
            Self::Plugin(config) => config.validate(),
            Self::Sql(config) => config.validate(),
        }
    }
}

/// Builds and guards the connector `name`. Reads its files and environment, and asks nothing of the source. Relative
/// paths start at `base_dir`, the folder of the configuration file.
pub fn build(name: ConnectorName, config: &ConnectorConfig, base_dir: &Path) -> Result<Guarded, ConnectorConfigError> {
    config.validate()?;
    let connector: Arc<dyn Connector> = match config {
        ConnectorConfig::ApiParticulier(config) => Arc::new(ApiParticulier::open(config, base_dir)?),
        ConnectorConfig::Broker(config) => Arc::new(BrokerConnector::open(config, base_dir)?),
        ConnectorConfig::File(config) => Arc::new(FileConnector::open(config, base_dir)?),
        ConnectorConfig::Http(config) => Arc::new(HttpConnector::open(config, base_dir)?),
        ConnectorConfig::Plugin(config) => Arc::new(PluginConnector::open(&name, config, base_dir)?),
        ConnectorConfig::Sql(config) => Arc::new(SqlConnector::open(config, base_dir)?),
    };
    Ok(Guarded::new(name, connector, config.limits()))
}

/// What is wrong with a connector's configuration, and what to change. Never says what a secret or a file holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectorConfigError {
    /// A key has not the form it must have.
    #[error("{key}: {rule}")]
    Invalid {
        /// The key in the connector's table, `limits.timeout_ms`.
        key: String,
        /// What a right value looks like.
        rule: String,
    },
    /// The file that a key names cannot be used.
    #[error("{key}: {path}: {problem}", path = path.display())]
    File {
        /// The key in the connector's table, `token_file`.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        problem: String,
    },
}

impl ConnectorConfigError {
    pub(crate) fn invalid(key: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Invalid { key: key.into(), rule: rule.into() }
    }

    pub(crate) fn file(key: &'static str, path: &Path, problem: impl Into<String>) -> Self {
        Self::File { key, path: path.to_owned(), problem: problem.into() }
    }

    /// Stable code for logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::File { .. } => "file",
        }
    }
}

#[cfg(test)]
mod tests;
