//! API Particulier: the State's gateway to family quotients, scholarships, civic service and more.
//!
//! One connector for all of its datasets: what differs between them is a row of [`table`]. All attributes of a dataset
//! come from one call, which sends the person's own spelling; who the person is goes to the source and nowhere else.
//! Deliberately absent: a choice among persons, a guess at missing identity fields, and the consumer's token.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::time::Instant;
use unefois_consent::{DatasetId, OutcomeCode};

use crate::config::ConnectorConfigError;
use crate::{BoxFuture, Connector, Fetch, Limits, SourceAnswer, SourceFault};

mod answer;
pub mod client;
mod question;
pub mod table;
mod token;

use answer::Verdict;
use table::{DatasetRow, Route};
use token::TokenSource;

/// Pause before a question is asked again that is in progress at the API.
const IN_PROGRESS_PAUSE: Duration = Duration::from_millis(250);

/// `type = "api-particulier"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiParticulierConfig {
    /// `https://particulier.api.gouv.fr`. Plain http is for the machine itself only.
    pub base_url: String,
    /// File with the broker's token and nothing else, of mode 600. Read again when it changes.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Environment variable with the broker's token, instead of `token_file`. Read once.
    #[serde(default)]
    pub token_env: Option<String>,
    /// PEM file of a private certification authority to trust beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Limits of the guard.
    #[serde(default)]
    pub limits: Limits,
}

impl ApiParticulierConfig {
    /// Refuses what can be seen to be wrong without a look at files or environment.
    pub fn validate(&self) -> Result<(), ConnectorConfigError> {
        client::base_url(&self.base_url)?;
        match (&self.token_file, &self.token_env) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            (None, None) => Err(ConnectorConfigError::invalid("token_file", "set token_file or token_env")),
            (Some(_), Some(_)) => {
                Err(ConnectorConfigError::invalid("token_file", "set token_file or token_env, not both"))
            }
        }
    }
}

/// A connector to API Particulier.
#[derive(Debug)]
pub struct ApiParticulier {
    base: Url,
    client: Client,
    token: TokenSource,
    max_answer_bytes: usize,
}

impl ApiParticulier {
    /// Reads the token and the roots, and asks nothing. Relative paths start at `base_dir`.
    pub fn open(config: &ApiParticulierConfig, base_dir: &Path) -> Result<Self, ConnectorConfigError> {
        config.validate()?;
        let base = client::base_url(&config.base_url)?;
        let ca_file = config.ca_file.as_ref().map(|path| base_dir.join(path));
        let client = client::client(&base, ca_file.as_deref(), config.limits.max_concurrent)?;
        let token = match (&config.token_file, &config.token_env) {
            (Some(path), _) => TokenSource::file(&base_dir.join(path))?,
            (None, name) => TokenSource::environment(name.as_deref().unwrap_or_default())?,
        };
        Ok(Self { base, client, token, max_answer_bytes: config.limits.max_answer_bytes })
    }

    async fn answer(&self, fetch: Fetch<'_>) -> Result<SourceAnswer, SourceFault> {
        let dataset = &fetch.dataset.dataset;
        let row = table::row(dataset.id.as_str(), &dataset.version)
            .ok_or(SourceFault::Untrusted("the source has no such dataset in this version"))?;
        if fetch.dataset.attributes.iter().any(|a| row.attribute(a.name()).is_none()) {
            return Err(answer::UNKNOWN_ATTRIBUTE);
        }
        let Some(route) = question::route(row, &fetch) else {
            return Ok(SourceAnswer::missing(fetch.dataset, OutcomeCode::NotIdentified));
        };
        let (verdict, reference) = self.ask_until_done(row, route, &fetch).await?;
        let outcomes = match verdict {
            Verdict::Data(data) => answer::outcomes(row, &fetch.dataset.attributes, &data)?,
            Verdict::Missing(code) => SourceAnswer::missing(fetch.dataset, code).outcomes,
            Verdict::InProgress => return Err(SourceFault::RateLimited),
            Verdict::Fault(fault) => return Err(fault),
        };
        Ok(SourceAnswer { outcomes, reference })
    }

    /// Asks, and once more where the same question is in progress and the deadline leaves time for it.
    async fn ask_until_done(
        &self,
        row: &DatasetRow,
        route: &Route,
        fetch: &Fetch<'_>,
    ) -> Result<(Verdict, Option<String>), SourceFault> {
        let first = self.ask(row, route, fetch).await?;
        let again_at = Instant::now() + IN_PROGRESS_PAUSE;
        if first.0 != Verdict::InProgress || again_at >= fetch.deadline.into() {
            return Ok(first);
        }
        tokio::time::sleep_until(again_at).await;
        self.ask(row, route, fetch).await
    }

    async fn ask(
        &self,
        row: &DatasetRow,
        route: &Route,
        fetch: &Fetch<'_>,
    ) -> Result<(Verdict, Option<String>), SourceFault> {
        let token = self.token.current().await;
        let no_bearer = SourceFault::NotAuthorised("the question has no token for this path");
        let bearer = question::bearer(route, &token, fetch).ok_or(no_bearer)?;
        let request = client::Request {
            url: question::url(&self.base, row, route, fetch)?,
            bearer: &bearer,
            request_id: &fetch.permit.exchange().to_string(),
        };
        let (received, reference) = client::get(&self.client, request, self.max_answer_bytes).await?;
        Ok((answer::judge(received), reference))
    }
}

impl Connector for ApiParticulier {
    fn serves(&self, dataset: &DatasetId) -> bool {
        table::datasets().iter().any(|row| row.dataset == dataset.as_str())
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<SourceAnswer, SourceFault>> {
        Box::pin(self.answer(fetch))
    }
}

#[cfg(test)]
mod tests;
