//! The life of an exchange: begin, fetch, minimise, finish.
//!
//! A caller that goes away leaves no entry Requested without its end, and one that comes back with the same request id
//! while the exchange runs waits for the same answer; see `under_way`.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::join_all;
use unefois_audit::{Receipt, Salt};
use unefois_connectors::{AccessToken, Fetch, Guarded, SourceAnswer};
use unefois_consent::decide::PermittedDataset;
use unefois_consent::event::{FailureCause, Provenance};
use unefois_consent::id::ConnectorName;
use unefois_consent::registry::{Dataset, RegistryFault, Role};
use unefois_consent::{
    AttributeId, DatasetId, Digest, ExchangeId, Filter, Ground, HabilitationId, Malformed, MandateId, Outcome,
    OutcomeCode, Permit, PivotIdentity, ProcedureId, Reason, RequestId, Siret,
};

use crate::caller::VerifiedParticipant;
use crate::clock::Clock;
use crate::error::EngineError;
use crate::registry::RegistryView;
use crate::sequencer::{Committed, Sequencer, Turn};
use crate::subject::Tagger;

mod answer;
mod steps;
mod under_way;

pub use answer::canonical_values;
use steps::{Begun, Draft, End, Finished, Kept, Open};
use under_way::UnderWay;

/// Of the time that a caller gives, what is kept back for logging and sending the answer: a tenth, within these bounds.
const KEPT_BACK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// Of the receipts of other brokers, what one record may hold: a record and the receipt of it must stay small enough to be read.
const MAX_RECEIPT_BYTES: usize = 128 * 1024;

/// How often the end of an exchange is tried again where the log takes no entry.
const TRY_END_AGAIN: Duration = Duration::from_millis(250);

/// What a caller asks.
#[derive(Debug)]
pub struct ExchangeCall {
    /// Who asks.
    pub caller: VerifiedParticipant,
    /// The agent or the system that asks.
    pub agent: String,
    /// Who uses the data.
    pub recipient: Siret,
    /// For which procedure.
    pub procedure: ProcedureId,
    /// Under which habilitation.
    pub habilitation: Option<HabilitationId>,
    /// Which attributes, in order and without duplicates.
    pub attributes: Vec<AttributeId>,
    /// Filters by dataset.
    pub filters: BTreeMap<DatasetId, Filter>,
    /// Why it is lawful.
    pub ground: Ground,
    /// Under which mandate somebody acts for the person.
    pub mandate: Option<MandateId>,
    /// Who the person is.
    pub identity: PivotIdentity,
    /// The person's access token.
    pub access_token: Option<AccessToken>,
    /// The brokers through which the question came, by the origins of their logs, the first one first.
    pub via: Vec<String>,
    /// The caller's name for the exchange.
    pub request_id: RequestId,
    /// When the answer is of no use any more.
    pub deadline: Instant,
}

/// One attribute of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct AnsweredAttribute {
    /// The attribute.
    pub attribute: AttributeId,
    /// What became of it.
    pub outcome: Outcome,
    /// Where the value came from; absent where the source did not answer.
    pub provenance: Option<Provenance>,
}

/// The answer to an exchange.
#[derive(Debug, Clone)]
pub struct ExchangeAnswer {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Each attribute asked, in the order asked.
    pub attributes: Vec<AnsweredAttribute>,
    /// Why everything was withheld; empty otherwise.
    pub withheld: Vec<Reason>,
    /// Proof that the entry is in the log.
    pub receipt: Arc<Receipt>,
}

/// What one source said of its dataset, and where it came from if the source answered.
type Fetched = (DatasetId, SourceAnswer, Option<Provenance>);

/// Runs exchanges.
#[derive(Debug)]
pub(crate) struct Exchanges {
    sequencer: Sequencer,
    sources: BTreeMap<ConnectorName, Arc<Guarded>>,
    tagger: Arc<Tagger>,
    clock: Arc<dyn Clock>,
    registry: Arc<ArcSwap<RegistryView>>,
    /// The origin of the log, by which brokers know each other.
    origin: String,
    meters: Meters,
    under_way: UnderWay,
}

/// Instruments of the steps, bound once: looking them up by name at each step costs more than recording.
struct Meters {
    begin: metrics::Histogram,
    fetch: metrics::Histogram,
    finish: metrics::Histogram,
    answered: metrics::Counter,
}

impl Meters {
    fn bind() -> Self {
        let step = |step: &'static str| metrics::histogram!("unefois_exchange_step_seconds", "step" => step);
        let answered = metrics::counter!("unefois_exchanges_total", "outcome" => "ANSWERED");
        Self { begin: step("begin"), fetch: step("fetch"), finish: step("finish"), answered }
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

impl Exchanges {
    pub(crate) fn new(
        sequencer: Sequencer,
        sources: BTreeMap<ConnectorName, Arc<Guarded>>,
        tagger: Arc<Tagger>,
        clock: Arc<dyn Clock>,
        registry: Arc<ArcSwap<RegistryView>>,
        origin: String,
    ) -> Self {
        let (meters, under_way) = (Meters::bind(), UnderWay::default());
        Self { sequencer, sources, tagger, clock, registry, origin, meters, under_way }
    }

    /// Refuses a dataset that nobody here could be asked for: it would only be noticed by the first citizen.
    pub(crate) fn check_served(&self, dataset: &Dataset) -> Result<(), RegistryFault> {
        let problem = match self.sources.get(&dataset.connector) {
            None => Some(format!("no connector {} is configured here", dataset.connector)),
            Some(connector) => connector.why_not_served(dataset),
        };
        let place = || format!("dataset {}", dataset.id);
        problem.map_or(Ok(()), |rule| Err(RegistryFault { place: place(), rule }))
    }

    /// Runs an exchange to its end, or joins the one under way with this request id and content.
    pub(crate) async fn run(self: &Arc<Self>, call: ExchangeCall) -> Result<Arc<ExchangeAnswer>, EngineError> {
        self.check_way(&call.via)?;
        self.check_filters(&call)?;
        let normalised = call.identity.normalised();
        let content = self.content(&call, &normalised)?;
        let tag = self.tagger.normalised(&normalised);
        let name = (call.caller.participant(), call.request_id.clone());
        let (caller, deadline, call) = (call.caller.clone(), call.deadline, Arc::new(call));
        let answer = loop {
            let (this, call) = (Arc::clone(self), Arc::clone(&call));
            let start = || async move { this.exchange(&call, tag, content).await.map(Arc::new) };
            let (role, waiting) = self.under_way.join_or_start(name.clone(), content, start);
            let answer = tokio::time::timeout_at(deadline.into(), waiting).await;
            match answer.map_err(|_| EngineError::DeadlineExceeded)? {
                // It was the time of whoever began it; one that joined has its own, and asks once more.
                Err(EngineError::DeadlineExceeded) if role == under_way::Role::Joined && Instant::now() < deadline => {}
                answer => break answer?,
            }
        };
        if answer.withheld.is_empty() {
            // One that joined has a certificate and a key of its own.
            caller.judge_again(&self.registry.load().registry, Role::Exchange)?;
        }
        Ok(answer)
    }

    /// Refuses a question that was here already: brokers that ask each other in a circle would never answer, and each would
    /// log the same question again.
    fn check_way(&self, via: &[String]) -> Result<(), EngineError> {
        if via.contains(&self.origin) {
            return Err(Malformed::new("via", "this broker is among them: brokers ask each other in a circle").into());
        }
        Ok(())
    }

    /// Refuses filters that a source would refuse, like every other field in a wrong form: before a decision and without an
    /// entry. The registry knows which filters a dataset takes, its connector how they look.
    fn check_filters(&self, call: &ExchangeCall) -> Result<(), EngineError> {
        let view = self.registry.load();
        let asked: BTreeSet<&str> = call.attributes.iter().map(AttributeId::dataset).collect();
        for dataset in asked.into_iter().filter_map(|id| view.registry.dataset(id)) {
            if let Some(source) = self.sources.get(&dataset.connector) {
                let none = Filter::new();
                let filter = call.filters.get(&dataset.id).unwrap_or(&none);
                source.check(dataset, filter, call.access_token.is_some())?;
            }
        }
        Ok(())
    }

    /// One exchange, from the question to the answer.
    async fn exchange(&self, call: &ExchangeCall, tag: Digest, content: Digest) -> Result<ExchangeAnswer, EngineError> {
        let (permit, requested) = self.begin(call, tag, content).await?;
        let open = Open { exchange: permit.exchange(), requested, subject: permit.subject() };
        let to_end = AssertUnwindSafe(self.fetch_and_finish(call, permit, requested)).catch_unwind().await;
        let error = match to_end {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => EngineError::Internal("an exchange panicked, or the connector that it asked"),
        };
        if matches!(error, EngineError::DeadlineExceeded) {
            // Its end is in the log.
            return Err(error);
        }
        if waits_for_the_log(&error) {
            let sequencer = self.sequencer.clone();
            tokio::spawn(async move { fail(&sequencer, open, FailureCause::NoRoom).await });
            return Err(EngineError::NotDelivered(Box::new(error)));
        }
        tracing::error!(exchange = %open.exchange, %error, "an exchange failed in the middle");
        count_exchange("INTERNAL");
        fail(&self.sequencer, open, FailureCause::Internal).await;
        Err(error)
    }

    async fn fetch_and_finish(
        &self,
        call: &ExchangeCall,
        permit: Permit,
        requested: u64,
    ) -> Result<ExchangeAnswer, EngineError> {
        let fetched = self.fetch(&permit, call).await;
        let kept = minimise(&permit, &call.attributes, fetched)?;
        self.finish(call, permit, requested, kept).await
    }

    /// Decides on each of `calls` and writes nothing: how long each decision took, with its look-ups, in the sequencer.
    #[cfg(feature = "bench")]
    pub(crate) async fn time_decisions(&self, calls: Vec<ExchangeCall>) -> Result<Vec<Duration>, EngineError> {
        let mut drafts = Vec::with_capacity(calls.len());
        for call in &calls {
            let normalised = call.identity.normalised();
            let content = self.content(call, &normalised)?;
            drafts.push(Draft::new(call, self.tagger.normalised(&normalised), content));
        }
        let step = move |turn: &mut Turn<'_>| {
            let timed = drafts.into_iter().map(|draft| {
                let begun = Instant::now();
                steps::decide_on(turn, draft)?;
                Ok(begun.elapsed())
            });
            timed.collect()
        };
        Ok(self.sequencer.submit_to_end(step).await?.value)
    }

    /// Decides. The entry Requested or Refused is durable when this returns.
    async fn begin(&self, call: &ExchangeCall, tag: Digest, content: Digest) -> Result<(Permit, u64), EngineError> {
        let started = Instant::now();
        if started >= call.deadline {
            return Err(EngineError::DeadlineExceeded);
        }
        let draft = Draft::new(call, tag, content);
        // To its end: an entry Requested that nobody waited for would never get its own.
        let begun = self.sequencer.submit_to_end(move |turn| steps::begin(turn, draft)).await?;
        self.meters.begin.record(started.elapsed().as_secs_f64());
        match begun.value {
            Begun::Permitted { permit, requested } => Ok((permit, requested)),
            Begun::Refused(refused) => {
                count_exchange(refused.refusal.first().code());
                Err(EngineError::Refused(Box::new(refused)))
            }
        }
    }

    /// Asks every source that the permit names, at once.
    async fn fetch(&self, permit: &Permit, call: &ExchangeCall) -> Vec<Fetched> {
        let started = Instant::now();
        let left = call.deadline.saturating_duration_since(started);
        let kept_back = (left / 10).clamp(KEPT_BACK.0, KEPT_BACK.1);
        let deadline = call.deadline.checked_sub(kept_back).unwrap_or(started);
        let answers = join_all(permit.datasets().iter().map(|asked| self.ask(permit, asked, call, deadline))).await;
        self.meters.fetch.record(started.elapsed().as_secs_f64());
        answers
    }

    async fn ask(&self, permit: &Permit, asked: &PermittedDataset, call: &ExchangeCall, deadline: Instant) -> Fetched {
        let dataset = &asked.dataset;
        let Some(source) = self.sources.get(&dataset.connector) else {
            tracing::error!(dataset = %dataset.id, connector = %dataset.connector, "no such connector is configured");
            return (dataset.id.clone(), SourceAnswer::missing(asked, OutcomeCode::SourceDown), None);
        };
        let fetch = Fetch {
            permit,
            dataset: asked,
            identity: &call.identity,
            access_token: call.access_token.as_ref(),
            ground: &call.ground,
            broker: &self.origin,
            via: &call.via,
            trial: None,
            deadline,
        };
        let answer = source.ask(fetch).await;
        let answered = answer.outcomes.iter().any(|(_, outcome)| outcome.code().is_of_source());
        let provenance = answered.then(|| Provenance {
            source: dataset.source,
            version: dataset.version.clone(),
            obtained_at: self.clock.now().minus(answer.age),
            reference: answer.reference.clone(),
            receipt: answer.receipt.clone(),
        });
        (dataset.id.clone(), answer, provenance)
    }

    /// Judges again and logs the end. The entry is durable when this returns; only then may the answer leave.
    async fn finish(
        &self,
        call: &ExchangeCall,
        permit: Permit,
        requested: u64,
        kept: Kept,
    ) -> Result<ExchangeAnswer, EngineError> {
        let started = Instant::now();
        let exchange = permit.exchange();
        let entry = kept.entry();
        let finished = self.log_end(call, End { permit, requested, entry }).await?;
        self.meters.finish.record(started.elapsed().as_secs_f64());
        let (attributes, withheld, written, answer_salt) = match finished.value {
            Finished::Answered(written) => {
                self.meters.answered.increment(1);
                (kept.attributes, Vec::new(), written, Some(kept.answer_salt))
            }
            Finished::Dropped(written, reasons) => {
                count_exchange("WITHHELD");
                (withhold(kept.attributes), reasons, written, None)
            }
            Finished::Failed => {
                count_exchange("DEADLINE_EXCEEDED");
                return Err(EngineError::DeadlineExceeded);
            }
        };
        let mut receipt = finished.commit.receipt(written)?;
        receipt.answer_salt = answer_salt;
        Ok(ExchangeAnswer { exchange, attributes, withheld, receipt: Arc::new(receipt) })
    }

    /// Logs the end, even when the caller's time is up.
    async fn log_end(&self, call: &ExchangeCall, end: End) -> Result<Committed<Finished>, EngineError> {
        let (credential, deadline) = (call.caller.clone(), call.deadline);
        let step = move |turn: &mut Turn<'_>| {
            let late = Instant::now() > deadline;
            let certificate = if credential.is_still_valid() { None } else { Some(Reason::CertificateEnded) };
            steps::finish(turn, end, late, certificate)
        };
        self.sequencer.submit_ending(step).await
    }

    /// Keyed digest of all that makes two requests the same one. The access token is left out: a retry may carry a new one.
    fn content(&self, call: &ExchangeCall, normalised: &str) -> Result<Digest, EngineError> {
        let ExchangeCall {
            agent,
            recipient,
            procedure,
            habilitation,
            attributes,
            filters,
            ground,
            mandate,
            identity,
            ..
        } = call;
        let usage_name = identity.usage_name.as_ref().map(unefois_consent::identity::Name::as_str);
        self.tagger.content(&(
            (agent, recipient, procedure, habilitation),
            (attributes, filters, ground, mandate),
            (normalised, usage_name),
        ))
    }
}

/// Whether the log takes no entry just now, and may soon.
fn waits_for_the_log(error: &EngineError) -> bool {
    matches!(error, EngineError::NoRoom(_) | EngineError::Overloaded | EngineError::ClockWrong(_))
}

/// Logs the end of an exchange as Failed, where it has none: it would stay under way until the next start. Its data is thrown
/// away. Tries again while the log takes no entry, or what the end changes cannot be read.
async fn fail(sequencer: &Sequencer, open: Open, cause: FailureCause) {
    loop {
        match sequencer.submit_ending(move |turn| steps::fail(turn, open, cause)).await {
            Err(error) if waits_for_the_log(&error) || matches!(error, EngineError::Store(_)) => {
                tokio::time::sleep(TRY_END_AGAIN).await;
            }
            // Logged; or the engine has stopped, and its next start logs the end.
            Ok(_) | Err(_) => return,
        }
    }
}

fn count_exchange(outcome: &'static str) {
    metrics::counter!("unefois_exchanges_total", "outcome" => outcome).increment(1);
}

/// Keeps what was asked, in the order asked, and nothing else, whatever the source sent (GDPR 5(1)(c)).
fn minimise(permit: &Permit, asked: &[AttributeId], fetched: Vec<Fetched>) -> Result<Kept, EngineError> {
    let mut outcomes = BTreeMap::new();
    let mut provenance = BTreeMap::new();
    let mut receipt_bytes = 0;
    for (permitted, (dataset, answer, from)) in permit.datasets().iter().zip(fetched) {
        receipt_bytes += answer.receipt.as_ref().map_or(0, |receipt| receipt.0.len());
        if receipt_bytes > MAX_RECEIPT_BYTES {
            tracing::error!(%dataset, "the receipts of other brokers are too large for one record");
            continue;
        }
        let mut kept = answer.outcomes;
        kept.retain(|(attribute, _)| permitted.attributes.contains(attribute));
        // Where nothing of what was asked was answered, nothing comes from anywhere.
        let from = from.filter(|_| kept.iter().any(|(_, outcome)| outcome.code().is_of_source()));
        outcomes.extend(kept.into_iter().map(|(attribute, outcome)| (attribute, (outcome, from.clone()))));
        if let Some(from) = from {
            provenance.insert(dataset, from);
        }
    }
    let attributes = asked.iter().map(|attribute| {
        // A source that forgot an attribute did not answer it; the guard has told the operator.
        let (outcome, provenance) =
            outcomes.remove(attribute).unwrap_or((Outcome::Missing(OutcomeCode::SourceDown), None));
        AnsweredAttribute { attribute: attribute.clone(), outcome, provenance }
    });
    Kept::new(attributes.collect(), provenance)
}

fn withhold(attributes: Vec<AnsweredAttribute>) -> Vec<AnsweredAttribute> {
    attributes
        .into_iter()
        .map(|a| AnsweredAttribute { outcome: Outcome::Missing(OutcomeCode::Withheld), provenance: None, ..a })
        .collect()
}

/// The salt of an answer's digest: drawn for each answer, sent with it, kept nowhere.
fn draw_answer_salt() -> Result<Salt, EngineError> {
    use ring::rand::SecureRandom;
    let mut salt = [0; 32];
    let filled = ring::rand::SystemRandom::new().fill(&mut salt);
    filled.map_err(|_| EngineError::Halted("the system gives no randomness".to_owned()))?;
    Ok(Salt(salt))
}
