//! The contract between the engine and a source.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use unefois_consent::decide::PermittedDataset;
use unefois_consent::event::SourceReceipt;
use unefois_consent::registry::Dataset;
use unefois_consent::{AttributeId, DatasetId, Filter, Ground, Malformed, Outcome, OutcomeCode, Permit, PivotIdentity};
use zeroize::Zeroizing;

/// A boxed future, so that connectors of all kinds live in one table.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An access token of the person (FranceConnect): passed to the source, never stored, never printed.
#[derive(Clone)]
pub struct AccessToken(Zeroizing<String>);

impl AccessToken {
    /// Wraps a token; empty or with other than visible ASCII it is none.
    pub fn new(token: &str) -> Option<Self> {
        let visible = !token.is_empty() && token.len() <= 4096 && token.bytes().all(|b| b.is_ascii_graphic());
        visible.then(|| Self(Zeroizing::new(token.to_owned())))
    }

    /// The token, for the header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[access token]")
    }
}

/// One question to one source: attributes of one dataset about one person.
///
/// A source that is given a document of the person (a 2D-Doc) will find it here, beside the access token: the identity stays,
/// so that the document is compared with the person asked about.
#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    /// The right to ask. Its recipient is the administration that uses the data.
    pub permit: &'a Permit,
    /// The dataset, the attributes asked and the filter; one of `permit.datasets()`.
    pub dataset: &'a PermittedDataset,
    /// The person, in the person's own spelling.
    pub identity: &'a PivotIdentity,
    /// The person's access token, where the exchange came with one.
    pub access_token: Option<&'a AccessToken>,
    /// Why the exchange is lawful, with its evidence.
    pub ground: &'a Ground,
    /// This broker, by the origin of its log.
    pub broker: &'a str,
    /// The brokers through which the question came to this one, by the origins of their logs, the first one first.
    pub via: &'a [String],
    /// When an answer is of no use any more. Already shortened so that the answer can still be logged and sent, and by
    /// the guard to the connector's own timeout. The guard drops the call at this instant; a connector needs it only to
    /// decide whether there is time to ask again.
    pub deadline: Instant,
    /// Who looks on where an operator tries the connector; nobody in an exchange.
    pub trial: Option<&'a Trial>,
}

impl Fetch<'_> {
    /// Shows what is about to be asked, secrets as `***`, to the operator who tries the connector. A fault where nothing
    /// shall be asked. Costs nothing in an exchange.
    pub(crate) fn asks(&self, request: impl FnOnce() -> String) -> Result<(), SourceFault> {
        let Some(trial) = self.trial else { return Ok(()) };
        trial.show(Step::Asks(request()));
        if trial.is_dry { Err(SourceFault::NotAsked) } else { Ok(()) }
    }

    /// Shows what came back, without values: a status, a number of lines.
    pub(crate) fn heard(&self, answer: impl FnOnce() -> String) {
        if let Some(trial) = self.trial {
            trial.show(Step::Heard(answer()));
        }
    }
}

/// What an operator who tries a connector gets to see of one fetch. It names the person, so its Debug says nothing.
pub struct Trial {
    is_dry: bool,
    steps: Mutex<Vec<Step>>,
}

/// One step of a trial.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// What the source is asked: names the person, and no secret.
    Asks(String),
    /// What the source said, without values.
    Heard(String),
}

impl Trial {
    /// A trial that asks the source.
    pub fn real() -> Self {
        Self { is_dry: false, steps: Mutex::default() }
    }

    /// A trial that ends with [`SourceFault::NotAsked`] where the source would be asked.
    pub fn dry() -> Self {
        Self { is_dry: true, steps: Mutex::default() }
    }

    /// The steps so far.
    pub fn steps(&self) -> Vec<Step> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, step: Step) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[trial]")
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[step of a trial]")
    }
}

/// What a source said.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceAnswer {
    /// One outcome for each attribute asked, in the order asked. More or fewer is a fault that the guard catches.
    pub outcomes: Vec<(AttributeId, Outcome)>,
    /// The source's own reference of this answer, where it gives one: at most 128 visible ASCII characters.
    pub reference: Option<String>,
    /// Where another broker answered: the receipt of its log, which was checked. It goes into this broker's own record.
    pub receipt: Option<SourceReceipt>,
    /// For how long the source lets its answer be kept: nothing where it forbids it, none where it does not say.
    pub may_keep: Option<Duration>,
    /// How long ago the source answered.
    pub age: Duration,
}

impl SourceAnswer {
    /// What a source said, and its reference of that.
    pub fn of(outcomes: Vec<(AttributeId, Outcome)>, reference: Option<String>) -> Self {
        Self { outcomes, reference, receipt: None, may_keep: None, age: Duration::ZERO }
    }

    /// The same outcome, without a value, for every attribute asked.
    pub fn missing(dataset: &PermittedDataset, code: OutcomeCode) -> Self {
        let outcomes = dataset.attributes.iter().map(|a| (a.clone(), Outcome::Missing(code))).collect();
        Self::of(outcomes, None)
    }
}

/// Why a source gave no answer that can be used. Messages carry no identity and no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceFault {
    /// No answer before the deadline, or too many questions already wait.
    #[error("the source did not answer in time")]
    Timeout,
    /// The source could not be reached or said that it is down.
    #[error("the source is down: {0}")]
    Down(&'static str),
    /// It failed again and again, and is not asked for a while.
    #[error("the source failed again and again and is left alone for a while")]
    LeftAlone,
    /// The source asks to slow down, or would if it were asked now.
    #[error("the source limits the rate: {0}")]
    RateLimited(&'static str),
    /// The source refuses the broker's credentials or rights: the operator must act.
    #[error("the source refuses this broker: {0}")]
    NotAuthorised(&'static str),
    /// The answer has not the form or the content that the question calls for: the operator must look.
    #[error("the source's answer cannot be trusted: {0}")]
    Untrusted(&'static str),
    /// A dry trial, which asks nothing.
    #[error("nothing was asked")]
    NotAsked,
}

impl SourceFault {
    /// What the consumer is told of each attribute.
    pub fn outcome(&self) -> OutcomeCode {
        match self {
            Self::Timeout | Self::Down(_) | Self::LeftAlone | Self::Untrusted(_) | Self::NotAsked => {
                OutcomeCode::SourceDown
            }
            Self::RateLimited(_) => OutcomeCode::RateLimited,
            Self::NotAuthorised(_) => OutcomeCode::NotAuthorised,
        }
    }

    /// Stable code for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Down(_) => "down",
            Self::LeftAlone => "left_alone",
            Self::RateLimited(_) => "rate_limited",
            Self::NotAuthorised(_) => "not_authorised",
            Self::Untrusted(_) => "untrusted",
            Self::NotAsked => "not_asked",
        }
    }
}

/// Who may have the answer to a question beside the one who asked it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody: each question is an exchange of its own at the source, or of the person's own token.
    Never,
    /// Whoever asks the same thing soon, where the operator and the source allow it. The connector itself sees to questions
    /// that are asked at once.
    Kept,
    /// The same, and whoever asks the same thing meanwhile.
    Joined,
}

/// A way to ask one source.
///
/// Promises of an implementation, which one suite of tests holds all of them to:
/// - `fetch` asks nothing that no asked attribute needs, and answers each attribute asked exactly once, in the order
///   asked.
/// - "No file", "not identified" and "several match" are outcomes of an answer; a fault is for everything else, also
///   for an attribute, a dataset or a filter that the source does not have. It never panics, and whether it faults does
///   not depend on whether the source knows the person.
/// - Nothing of the identity or of a value reaches a log, a metric, an error or a URL that others than the source see.
/// - Dropping the future cancels the call and leaves the connector usable (cancel-safe).
/// - Many calls may run at once, and none blocks its thread.
pub trait Connector: Send + Sync + fmt::Debug {
    /// Datasets that this connector can serve, so that a registry that names another is noticed at start.
    fn serves(&self, dataset: &DatasetId) -> bool;

    /// Begins what goes on between questions, once, when the broker starts. Needs the runtime. What a connector that is only
    /// looked at must not do: it starts no process.
    fn start(&self) {}

    /// What a dataset of the registry names that the source does not have: its version, an attribute, a filter. For the
    /// operator, at start.
    fn lacks(&self, dataset: &Dataset) -> Option<String> {
        let _ = dataset;
        None
    }

    /// Refuses a filter that the source would refuse, and a question that it needs more for, in words for the one who asks:
    /// the field, as in `filters.dss.quotient_familial.mois`, and what a right value looks like. Asks nothing of the source
    /// and does not depend on the person. `has_token`: an access token of the person comes with the question.
    fn check(&self, dataset: &Dataset, filter: &Filter, has_token: bool) -> Result<(), Malformed> {
        let _ = (dataset, filter, has_token);
        Ok(())
    }

    /// Whether a question about `dataset` that failed may be asked again: it changes nothing at the source.
    fn may_ask_again(&self, dataset: &DatasetId) -> bool {
        let _ = dataset;
        false
    }

    /// Who may have the answer beside the one who asked, where it depends on nothing but the recipient, the dataset, its attributes
    /// and filter, and the person.
    fn sharing(&self, fetch: &Fetch<'_>) -> Sharing {
        let _ = fetch;
        Sharing::Never
    }

    /// Asks the source.
    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<SourceAnswer, SourceFault>>;
}
