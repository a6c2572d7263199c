//! Any REST source that answers JSON, described in the configuration alone.
//!
//! For each dataset the operator writes a request (method, path, query, headers, body) with placeholders, where each
//! attribute is in the answer (JSONPath, RFC 9535) and of which type it is, and what each status means. What was not
//! asked is thrown away with the rest of the answer. Deliberately absent: paging, retries other than the one with a
//! renewed token, redirects, and a choice among persons.
//!
//! | module | what |
//! |---|---|
//! | `settings` | one dataset in the operator's words, checked and read |
//! | `template` | texts and JSON with placeholders |
//! | `request` | from a question to a request |
//! | `auth`, `oauth2` | as whom it is asked |
//! | `answer` | what an answer says |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reqwest::{Client, Url};
use serde::Deserialize;
use unefois_consent::registry::Dataset;
use unefois_consent::{DatasetId, Filter, Malformed};

use crate::config::ConnectorConfigError;
use crate::http_client::{self, Trust};
use crate::reloaded::Reloaded;
use crate::{BoxFuture, Connector, Fetch, Limits, Sharing, SourceAnswer, SourceFault};

mod answer;
mod auth;
mod oauth2;
mod request;
mod settings;
mod template;

use answer::Received;
use auth::Auth;
pub use auth::{ApiKeyConfig, AuthConfig, BasicConfig, BearerConfig, Oauth2Config};
use settings::Prepared;
pub use settings::{HttpAttribute, HttpDataset, Method};

/// `type = "http"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Where the paths of the datasets begin. Plain http is for the machine itself only.
    pub base_url: String,
    /// As whom the source is asked; nobody's name where absent.
    #[serde(default)]
    pub auth: Option<AuthConfig>,
    /// PEM file with the client's own certificate chain and its private key, of mode 600, for mutual TLS beside `auth` or
    /// instead of it. Read again when it changes.
    #[serde(default)]
    pub client_identity_file: Option<PathBuf>,
    /// PEM file of a private certification authority to trust beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// What it serves. At least one.
    pub datasets: BTreeMap<DatasetId, HttpDataset>,
    /// Limits of the guard.
    #[serde(default)]
    pub limits: Limits,
}

impl HttpConfig {
    /// Refuses what can be seen to be wrong without a look at files, naming the key.
    pub fn validate(&self) -> Result<(), ConnectorConfigError> {
        let base = http_client::base_url(&self.base_url)?;
        if self.client_identity_file.is_some() && base.scheme() == "http" {
            return Err(ConnectorConfigError::invalid("client_identity_file", "needs a base_url with https"));
        }
        if let Some(auth) = &self.auth {
            auth.validate()?;
        }
        self.prepare().map(drop)
    }

    fn prepare(&self) -> Result<BTreeMap<DatasetId, Prepared>, ConnectorConfigError> {
        if self.datasets.is_empty() {
            return Err(ConnectorConfigError::invalid("datasets", "at least one: [connectors.NAME.datasets.\"ID\"]"));
        }
        self.datasets
            .iter()
            .map(|(id, dataset)| {
                let within = |(key, rule)| ConnectorConfigError::invalid(format!("datasets.\"{id}\".{key}"), rule);
                Ok((id.clone(), Prepared::new(id, dataset).map_err(within)?))
            })
            .collect()
    }
}

/// A connector to a REST source.
#[derive(Debug)]
pub struct HttpConnector {
    base: Url,
    line: Line,
    auth: Auth,
    datasets: BTreeMap<DatasetId, Prepared>,
    max_answer_bytes: usize,
}

impl HttpConnector {
    /// Reads secrets and roots, and asks nothing. Relative paths start at `base_dir`.
    pub fn open(config: &HttpConfig, base_dir: &Path) -> Result<Self, ConnectorConfigError> {
        config.validate()?;
        let base = http_client::base_url(&config.base_url)?;
        let auth = Auth::open(config.auth.as_ref(), base_dir)?;
        let way = Way {
            speaks_tls: base.scheme() != "http" || auth.speaks_tls(),
            ca_file: config.ca_file.as_ref().map(|path| base_dir.join(path)),
            max_idle: config.limits.max_concurrent,
        };
        let line = Line::open(way, config.client_identity_file.as_ref().map(|path| base_dir.join(path)))?;
        let max_answer_bytes = config.limits.max_answer_bytes;
        Ok(Self { base, line, auth, datasets: config.prepare()?, max_answer_bytes })
    }

    async fn answer(&self, fetch: Fetch<'_>) -> Result<SourceAnswer, SourceFault> {
        let id = &fetch.dataset.dataset.id;
        let dataset = self.datasets.get(id).ok_or(SourceFault::Untrusted("the source has no such dataset"))?;
        dataset.knows_all_of(&fetch)?;
        let request = match request::of(&self.base, dataset, &fetch) {
            Ok(request) => request,
            Err(absent) => return absent.answer(&fetch),
        };
        fetch.asks(|| request.shown(&self.auth))?;
        let received = self.ask(request, &fetch).await?;
        let (reference, may_keep) = (received.reference.clone(), received.may_keep);
        let outcomes = answer::outcomes(dataset, received, &fetch.dataset.attributes)?;
        Ok(SourceAnswer { may_keep, ..SourceAnswer::of(outcomes, reference) })
    }

    /// Asks, and once more with a renewed token where the source no longer takes the one at hand (RFC 6750 3.1).
    async fn ask(&self, request: request::Request, fetch: &Fetch<'_>) -> Result<Received, SourceFault> {
        let client = self.line.client().await;
        let mut is_second = false;
        loop {
            let credentials = self.auth.credentials(&client, fetch).await?;
            let received = request.send(&client, credentials.as_ref(), self.max_answer_bytes).await?;
            fetch.heard(|| format!("HTTP status {}", received.status));
            if received.status != 401 || is_second || !self.auth.forget(credentials.as_ref()).await {
                return Ok(received);
            }
            is_second = true;
        }
    }
}

impl Connector for HttpConnector {
    fn serves(&self, dataset: &DatasetId) -> bool {
        self.datasets.contains_key(dataset)
    }

    /// A GET is safe (RFC 9110 9.2.1).
    fn may_ask_again(&self, dataset: &DatasetId) -> bool {
        self.datasets.get(dataset).is_some_and(|prepared| prepared.method == Method::Get)
    }

    fn sharing(&self, fetch: &Fetch<'_>) -> Sharing {
        let prepared = self.datasets.get(&fetch.dataset.dataset.id);
        let is_shared = prepared.is_some_and(|prepared| prepared.method == Method::Get && !prepared.names_exchange());
        if is_shared { Sharing::Joined } else { Sharing::Never }
    }

    fn lacks(&self, dataset: &Dataset) -> Option<String> {
        self.datasets.get(&dataset.id)?.lacks(dataset)
    }

    fn check(&self, dataset: &Dataset, filter: &Filter, _: bool) -> Result<(), Malformed> {
        self.datasets.get(&dataset.id).map_or(Ok(()), |prepared| prepared.check(&dataset.id, filter))
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<SourceAnswer, SourceFault>> {
        Box::pin(self.answer(fetch))
    }
}

/// How the source is reached.
#[derive(Debug, Clone)]
struct Way {
    speaks_tls: bool,
    ca_file: Option<PathBuf>,
    max_idle: usize,
}

impl Way {
    fn client(&self, identity_file: Option<&Path>) -> Result<Client, ConnectorConfigError> {
        let trust = Trust { speaks_tls: self.speaks_tls, ca_file: self.ca_file.as_deref(), identity_file };
        http_client::client_with(trust, self.max_idle)
    }
}

/// The HTTP client, which is made anew with its connections when the certificate of the broker changes.
#[derive(Debug)]
enum Line {
    Fixed(Client),
    Certified(Reloaded<(Way, Client)>),
}

impl Line {
    fn open(way: Way, identity_file: Option<PathBuf>) -> Result<Self, ConnectorConfigError> {
        let client = way.client(identity_file.as_deref())?;
        let Some(path) = identity_file else { return Ok(Self::Fixed(client)) };
        let load = |path: &Path, (way, _): &(Way, Client)| {
            let client = way.client(Some(path)).map_err(|error| error.to_string())?;
            Ok((way.clone(), client))
        };
        let refuse = |problem: String| ConnectorConfigError::file("client_identity_file", &path, problem);
        Reloaded::open(&path, &(way, client), load).map(Self::Certified).map_err(refuse)
    }

    async fn client(&self) -> Client {
        match self {
            Self::Fixed(client) => client.clone(),
            Self::Certified(reloaded) => reloaded.get().await.1.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
