//! What the operator is told of each question to a source: metrics, and a log line for each fault.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Gauge, Histogram, SharedString, counter, gauge, histogram};
use unefois_consent::OutcomeCode;
use unefois_consent::id::ConnectorName;

use super::breaker::Turn;
use crate::{Fetch, SourceAnswer, SourceFault};

/// The instruments of one connector.
///
/// | metric | labels | what |
/// |---|---|---|
/// | `unefois_source_seconds` | `connector` | time of a question, waiting included |
/// | `unefois_source_answers_total` | `connector`, `outcome` | worst outcome (`NO_FILE`), or fault in lower case (`timeout`) |
/// | `unefois_source_in_flight` | `connector` | questions that run now |
/// | `unefois_source_left_alone` | `connector`, `dataset` | 1 while a source is not asked because it failed again and again |
/// | `unefois_source_shared_total` | `connector`, `how` | answers that the source was not asked for: `joined`, `kept` |
/// | `unefois_source_retries_total` | `connector` | questions asked once more |
/// | `unefois_source_refusals_total` | `connector`, `dataset` | answers that lack a right of this broker: the operator must act |
pub(super) struct Telemetry {
    connector: Arc<str>,
    // Bound at the first question, so that the order of building connectors and recorder does not matter.
    instruments: OnceLock<(Histogram, Gauge)>,
}

impl Telemetry {
    pub(super) fn new(name: &ConnectorName) -> Self {
        Self { connector: name.as_str().into(), instruments: OnceLock::new() }
    }

    fn label(&self) -> SharedString {
        SharedString::from(Arc::clone(&self.connector))
    }

    fn instruments(&self) -> &(Histogram, Gauge) {
        self.instruments.get_or_init(|| {
            (
                histogram!("unefois_source_seconds", "connector" => self.label()),
                gauge!("unefois_source_in_flight", "connector" => self.label()),
            )
        })
    }

    /// Counts a question until the mark is dropped, also by a cancelled call.
    pub(super) fn in_flight(&self) -> InFlight<'_> {
        let (_, gauge) = self.instruments();
        gauge.increment(1.0);
        InFlight(gauge)
    }

    pub(super) fn answered(&self, fetch: &Fetch<'_>, answer: &Result<SourceAnswer, SourceFault>, took: Duration) {
        self.instruments().0.record(took);
        if is_refused(answer) {
            let dataset = SharedString::from(fetch.dataset.dataset.id.to_string());
            counter!("unefois_source_refusals_total", "connector" => self.label(), "dataset" => dataset).increment(1);
        }
        let outcome = match answer {
            // The codes are ordered from good to bad.
            Ok(answer) => answer.outcomes.iter().map(|(_, o)| o.code()).max().unwrap_or(OutcomeCode::Found).as_str(),
            Err(fault) => {
                self.tell(fetch, fault);
                fault.code()
            }
        };
        counter!("unefois_source_answers_total", "connector" => self.label(), "outcome" => outcome).increment(1);
    }

    pub(super) fn asked_again(&self) {
        counter!("unefois_source_retries_total", "connector" => self.label()).increment(1);
    }

    /// An answer was had without asking.
    pub(super) fn shared(&self, how: &'static str) {
        counter!("unefois_source_shared_total", "connector" => self.label(), "how" => how).increment(1);
    }

    pub(super) fn turned(&self, fetch: &Fetch<'_>, turn: Turn) {
        let (connector, dataset) = (&*self.connector, fetch.dataset.dataset.id.as_str());
        let left_alone =
            gauge!("unefois_source_left_alone", "connector" => self.label(), "dataset" => dataset.to_owned());
        match turn {
            Turn::Opened(pause) => {
                left_alone.set(1.0);
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                tracing::error!(connector, dataset, pause_ms, "a source failed again and again and is left alone");
            }
            Turn::Closed => {
                left_alone.set(0.0);
                tracing::info!(connector, dataset, "a source that was left alone answers again");
            }
        }
    }

    fn tell(&self, fetch: &Fetch<'_>, fault: &SourceFault) {
        let (connector, dataset, code) = (&*self.connector, fetch.dataset.dataset.id.as_str(), fault.code());
        match fault {
            // Told once, when it began.
            SourceFault::LeftAlone => {}
            SourceFault::Timeout | SourceFault::RateLimited(_) | SourceFault::Down(_) | SourceFault::NotAsked => {
                tracing::warn!(connector, dataset, fault = code, detail = %fault, "a source gave no answer");
            }
            // With the recipient: it is the one whose right or token is missing.
            SourceFault::NotAuthorised(_) => {
                let recipient = fetch.permit.recipient();
                tracing::error!(connector, dataset, %recipient, fault = code, detail = %fault, "a source refuses this broker");
            }
            SourceFault::Untrusted(_) => {
                tracing::error!(connector, dataset, fault = code, detail = %fault, "a source needs the operator");
            }
        }
    }
}

/// Whether the broker's token or rights were refused, for all that was asked or for a part of it.
fn is_refused(answer: &Result<SourceAnswer, SourceFault>) -> bool {
    match answer {
        Ok(answer) => answer.outcomes.iter().any(|(_, o)| o.code() == OutcomeCode::NotAuthorised),
        Err(fault) => fault.outcome() == OutcomeCode::NotAuthorised,
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Telemetry")
    }
}

/// One question that runs.
pub(super) struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
