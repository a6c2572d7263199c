//! API Particulier: the State's gateway to family quotients, scholarships, civic service and more.
//!
//! One connector for all of its datasets and all administrations that use them: what differs between the datasets is a row
//! of [`table`], and each administration may have its token. All attributes of a dataset come from one call, which sends the
//! person's own spelling; who the person is goes to the source and nowhere else. Deliberately absent: a choice among
//! persons, a guess at missing identity fields, and a cache.
//!
//! | module | what |
//! |---|---|
//! | [`table`] | what there is to ask |
//! | `question` | path and query of a question; filters |
//! | `token` | with whose token it is asked |
//! | `budget` | when it may leave |
//! | `flight` | the same question asked twice at once |
//! | `client` | HTTP |
//! | `answer`, `person` | what the answer says, and of whom |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::time::Instant;
use unefois_consent::registry::Dataset;
use unefois_consent::{AttributeId, DatasetId, Filter, Malformed, Outcome, OutcomeCode};
use zeroize::Zeroizing;

use crate::config::ConnectorConfigError;
use crate::flight::Flights;
use crate::http_client;
use crate::{BoxFuture, Connector, Fetch, Limits, Sharing, SourceAnswer, SourceFault, flight};

mod answer;
mod budget;
mod client;
mod person;
mod question;
pub mod table;
mod token;

use answer::{Said, Verdict};
pub use budget::Rates;
use budget::{Budget, Lane};
use table::{DatasetRow, Modality, Route};
use token::{TokenFolder, TokenSource, Tokens};

/// Pauses before a question is asked again that is in progress at the API: another broker asks the same.
const IN_PROGRESS_PAUSES: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(1000)];
const STILL_IN_PROGRESS: SourceFault = SourceFault::RateLimited("the same question is in progress elsewhere");
const SLOW_DOWN: SourceFault = SourceFault::RateLimited("it asks to slow down");

/// `type = "api-particulier"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiParticulierConfig {
    /// `https://particulier.api.gouv.fr`. Plain http is for the machine itself only.
    pub base_url: String,
    /// File with one token and nothing else, of mode 600: for every recipient without its own. Read again when it changes.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Environment variable with that token, instead of `token_file`. Read once.
    #[serde(default)]
    pub token_env: Option<String>,
    /// Folder with a token file for each recipient, of mode 600 and named by its SIRET. Read again when they change. Without
    /// `token_file` and `token_env`, who has no file there is not asked for: `NOT_AUTHORISED`.
    #[serde(default)]
    pub token_dir: Option<PathBuf>,
    /// Requests that the API allows.
    #[serde(default)]
    pub rates: Rates,
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
        http_client::base_url(&self.base_url)?;
        self.rates.validate()?;
        match (&self.token_file, &self.token_env) {
            (None, None) if self.token_dir.is_none() => {
                Err(ConnectorConfigError::invalid("token_file", "set token_file, token_env or token_dir"))
            }
            (Some(_), None) | (None, Some(_) | None) => Ok(()),
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
    tokens: Tokens,
    budget: Budget,
    flights: Flights<Said>,
    max_answer_bytes: usize,
}

impl ApiParticulier {
    /// Reads the token and the roots, and asks nothing. Relative paths start at `base_dir`.
    pub fn open(config: &ApiParticulierConfig, base_dir: &Path) -> Result<Self, ConnectorConfigError> {
        config.validate()?;
        let base = http_client::base_url(&config.base_url)?;
        let ca_file = config.ca_file.as_ref().map(|path| base_dir.join(path));
        let client = http_client::client(&base, ca_file.as_deref(), config.limits.max_concurrent)?;
        let shared = match (&config.token_file, &config.token_env) {
            (Some(path), _) => Some(TokenSource::file(&base_dir.join(path))?),
            (None, Some(name)) => Some(TokenSource::environment(name)?),
            (None, None) => None,
        };
        let own = config.token_dir.as_ref().map(|path| TokenFolder::open(&base_dir.join(path))).transpose()?;
        Ok(Self {
            base,
            client,
            tokens: Tokens { own, shared },
            budget: Budget::new(config.rates),
            flights: Flights::default(),
            max_answer_bytes: config.limits.max_answer_bytes,
        })
    }

    async fn answer(&self, fetch: Fetch<'_>) -> Result<SourceAnswer, SourceFault> {
        let dataset = &fetch.dataset.dataset;
        let row =
            table::row_of(dataset).ok_or(SourceFault::Untrusted("the source has no such dataset in this version"))?;
        if fetch.dataset.attributes.iter().any(|a| row.attribute(a.name()).is_none()) {
            return Err(answer::UNKNOWN_ATTRIBUTE);
        }
        let Some(route) = question::route(row, &fetch) else {
            return Ok(SourceAnswer::missing(fetch.dataset, OutcomeCode::NotIdentified));
        };
        let url = question::url(&self.base, row, route, &fetch)?;
        let (bearer, lane) = self.bearer(route, &fetch).await?;
        let request_id = fetch.permit.exchange().to_string();
        let request = client::Request { url: url.clone(), bearer: &bearer, request_id: &request_id };
        let deadline = fetch.deadline.into();
        let ask = async || self.ask_until_done(row, lane.as_deref(), request, deadline).await;
        fetch.asks(|| format!("GET {url}\nauthorization: Bearer ***\nx-request-id: {request_id}"))?;
        let said = self.flights.join(flight::key([url.as_str(), &bearer]), ask).await?;
        fetch.heard(|| format!("HTTP status {}", said.status));
        let outcomes = match &said.verdict {
            Verdict::Data(data) if is_another_person(row, data, &fetch) => another_person(row, &fetch),
            Verdict::Data(data) => answer::outcomes(row, &fetch.dataset.attributes, data)?,
            Verdict::Missing(code) => SourceAnswer::missing(fetch.dataset, *code).outcomes,
            Verdict::InProgress => return Err(STILL_IN_PROGRESS),
            Verdict::SlowDown { .. } => return Err(SLOW_DOWN),
            Verdict::Fault(fault) => return Err(fault.clone()),
        };
        Ok(SourceAnswer { may_keep: said.may_keep, ..SourceAnswer::of(outcomes, said.reference.clone()) })
    }

    /// `Bearer` with the person's token or the administration's, as the route wants, and the latter's budget.
    async fn bearer(
        &self,
        route: &Route,
        fetch: &Fetch<'_>,
    ) -> Result<(Zeroizing<String>, Option<Arc<Lane>>), SourceFault> {
        let bearer = |token: &str| Zeroizing::new(format!("Bearer {token}"));
        match route.modality {
            Modality::FranceConnect => {
                let token = fetch.access_token.ok_or(SourceFault::NotAuthorised("the person's token is missing"))?;
                Ok((bearer(token.expose()), None))
            }
            Modality::Identity(_) | Modality::Number(_) => {
                let token = self.tokens.of(fetch.permit.recipient()).await?;
                Ok((bearer(token.expose()), Some(self.budget.lane(token.expose()))))
            }
        }
    }

    /// Asks within the budget, and again after a pause where the API says so and the deadline leaves time for it.
    async fn ask_until_done(
        &self,
        row: &DatasetRow,
        lane: Option<&Lane>,
        request: client::Request<'_>,
        deadline: Instant,
    ) -> Result<Said, SourceFault> {
        let mut pauses = IN_PROGRESS_PAUSES.into_iter();
        let mut was_slowed = false;
        loop {
            self.budget.pass(lane, row.dataset, deadline).await?;
            let said = client::get(&self.client, request.clone(), self.max_answer_bytes).await?;
            let (pause, fault) = match &said.verdict {
                Verdict::InProgress => (pauses.next(), STILL_IN_PROGRESS),
                Verdict::SlowDown { pause, by_provider } => {
                    self.hold(row, lane, *by_provider, Instant::now() + *pause);
                    (Some(*pause).filter(|_| !was_slowed), SLOW_DOWN)
                }
                Verdict::Data(_) | Verdict::Missing(_) | Verdict::Fault(_) => return Ok(said),
            };
            was_slowed |= fault == SLOW_DOWN;
            let again = pause.map(|pause| Instant::now() + pause).filter(|again| *again < deadline);
            tokio::time::sleep_until(again.ok_or(fault)?).await;
        }
    }

    /// Asks nothing more before `until` of whom the API wants left alone: the token, or the provider whoever asks.
    fn hold(&self, row: &DatasetRow, lane: Option<&Lane>, by_provider: bool, until: Instant) {
        match lane {
            _ if by_provider => self.budget.hold_provider(row.dataset, until),
            Some(lane) => lane.hold(until),
            // A person's token asks once or twice in its life.
            None => {}
        }
    }
}

fn is_another_person(row: &DatasetRow, data: &serde_json::Map<String, serde_json::Value>, fetch: &Fetch<'_>) -> bool {
    row.person.as_ref().is_some_and(|fields| !person::may_be(fields, data, fetch.identity))
}

/// The number or the token is another person's, or the source took somebody else for the one asked: nothing of that person is told,
/// and whoever asks must look.
fn another_person(row: &DatasetRow, fetch: &Fetch<'_>) -> Vec<(AttributeId, Outcome)> {
    metrics::counter!("unefois_source_other_person_total", "dataset" => row.dataset).increment(1);
    tracing::warn!(dataset = row.dataset, "an answer was about another person than the one asked about");
    SourceAnswer::missing(fetch.dataset, OutcomeCode::NotIdentified).outcomes
}

impl Connector for ApiParticulier {
    fn serves(&self, dataset: &DatasetId) -> bool {
        table::datasets().any(|row| row.is_named(dataset.as_str()))
    }

    /// Questions at once are joined below, by the URL: more of them are the same one there.
    fn sharing(&self, _: &Fetch<'_>) -> Sharing {
        Sharing::Kept
    }

    fn lacks(&self, dataset: &Dataset) -> Option<String> {
        let Some(row) = table::row_of(dataset) else {
            return Some(format!("version {}", dataset.version));
        };
        let attribute = dataset.attributes.iter().find(|a| row.attribute(&a.name).is_none());
        let filter = dataset.filters.iter().find(|name| row.filter(name).is_none());
        let attribute = attribute.map(|a| format!("attribute {}", a.name));
        attribute.or_else(|| filter.map(|name| format!("filter {name}")))
    }

    fn check(&self, dataset: &Dataset, filter: &Filter, has_token: bool) -> Result<(), Malformed> {
        table::row_of(dataset).map_or(Ok(()), |row| question::check(row, &dataset.id, filter, has_token))
    }

    fn may_ask_again(&self, _: &DatasetId) -> bool {
        true
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<SourceAnswer, SourceFault>> {
        Box::pin(self.answer(fetch))
    }
}

#[cfg(test)]
mod tests;
