//! The guard: the engine never asks a bare connector.
//!
//! A guarded connector answers in time, runs a bounded number of questions at once, and lets no answer through that
//! does not match its question. It never fails: a fault becomes an outcome for each attribute asked, so that a failing
//! source never blocks the person (the answer says what is missing and why), and the operator is told of the fault. A source
//! that is down is asked once more, where that is safe and there is time; one that fails again and again is left alone for a
//! while. Where a connector allows it, the same question asked at once is asked once, and an answer may be given again for a
//! short while. Each connector has places of its own, so that a dead source takes none from the others.
//!
//! These are not layers of tower: its `poll_ready` waits for a place before it knows the request, and so cannot refuse at
//! once the one that would not make its deadline; and a question borrows from its exchange, where layers own what they pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use unefois_consent::id::ConnectorName;
use unefois_consent::registry::Dataset;
use unefois_consent::{DatasetId, Filter, Malformed};

use crate::flight::Flights;
use crate::{Connector, Fetch, SourceAnswer, SourceFault};

mod breaker;
mod check;
mod kept;
mod limits;
mod rate;
mod sharing;
mod telemetry;

use breaker::{Breakers, Health, Rule};
use kept::Kept;
pub use limits::Limits;
use rate::Rate;
use sharing::{Shareable, Shared};
use telemetry::Telemetry;

/// A connector with its name and its limits: the only form in which the engine knows one.
#[derive(Debug)]
pub struct Guarded {
    name: ConnectorName,
    connector: Arc<dyn Connector>,
    limits: Limits,
    rate: Rate,
    places: Semaphore,
    breakers: Breakers,
    shared: Shared,
    telemetry: Telemetry,
}

impl Guarded {
    /// Guards `connector`, which the registry calls `name`.
    pub fn new(name: ConnectorName, connector: Arc<dyn Connector>, limits: Limits) -> Self {
        let places = Semaphore::new(limits.max_concurrent.clamp(1, Semaphore::MAX_PERMITS));
        let breakers = Breakers::new(Rule { failures: limits.breaker_failures, pause: limits.breaker_pause });
        let shared = Shared { flights: Flights::default(), kept: Kept::new(limits.keep) };
        let telemetry = Telemetry::new(&name);
        let rate = Rate::new(limits.per_second);
        Self { name, connector, limits, rate, places, breakers, shared, telemetry }
    }

    /// The name by which datasets of the registry cite it.
    pub fn name(&self) -> &ConnectorName {
        &self.name
    }

    /// Whether the connector can serve `dataset`.
    pub fn serves(&self, dataset: &DatasetId) -> bool {
        self.connector.serves(dataset)
    }

    /// Begins what goes on between questions; see [`Connector::start`].
    pub fn start(&self) {
        self.connector.start();
    }

    /// Why the connector cannot serve a dataset of the registry; see [`Connector::serves`] and [`Connector::lacks`].
    pub fn why_not_served(&self, dataset: &Dataset) -> Option<String> {
        if !self.serves(&dataset.id) {
            return Some(format!("this connector does not serve dataset {}", dataset.id));
        }
        self.connector.lacks(dataset).map(|what| format!("dataset {}: the source has no {what}", dataset.id))
    }

    /// Refuses a malformed filter before anything is decided, logged or asked; see [`Connector::check`].
    pub fn check(&self, dataset: &Dataset, filter: &Filter, has_token: bool) -> Result<(), Malformed> {
        self.connector.check(dataset, filter, has_token)
    }

    /// Asks the source and answers each attribute asked exactly once, in the order asked, before the earlier of the
    /// fetch's deadline and the connector's timeout. The wait for a place counts.
    ///
    /// Never fails: a fault becomes an outcome for each attribute asked and is told to the operator (metrics, and one
    /// log line with connector, dataset and fault code; nothing of the person). Dropping the future cancels the call.
    pub async fn ask(&self, fetch: Fetch<'_>) -> SourceAnswer {
        let started = Instant::now();
        let deadline = self.deadline(&fetch, started);
        let asked = self.matched(fetch, deadline).await;
        self.telemetry.answered(&fetch, &asked, started.elapsed());
        asked.unwrap_or_else(|fault| SourceAnswer::missing(fetch.dataset, fault.outcome()))
    }

    /// Asks as [`Guarded::ask`] does and gives the fault itself: for an operator who tries the connector.
    pub async fn try_out(&self, fetch: Fetch<'_>) -> Result<SourceAnswer, SourceFault> {
        self.matched(fetch, self.deadline(&fetch, Instant::now())).await
    }

    /// The limits that it keeps.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Asks, or takes the answer to the same question where it may be had: one that is under way, or was answered just now.
    async fn matched(&self, fetch: Fetch<'_>, deadline: Instant) -> Result<SourceAnswer, SourceFault> {
        let Some(Shareable { key, is_joined }) = self.shareable(&fetch) else {
            return self.asked(fetch, deadline).await;
        };
        if let Some(answer) = self.shared.kept.get(&key, Instant::now()) {
            self.telemetry.shared("kept");
            return Ok(answer);
        }
        if !is_joined {
            let answer = self.asked(fetch, deadline).await?;
            self.shared.kept.put(key, &answer, Instant::now());
            return Ok(answer);
        }
        let asks = AtomicBool::new(false);
        let ask = async || {
            asks.store(true, Ordering::Relaxed);
            let answer = self.asked(fetch, deadline).await?;
            self.shared.kept.put(key, &answer, Instant::now());
            Ok(answer)
        };
        let joined = timeout_at(deadline, self.shared.flights.join(key, ask)).await;
        let answer = joined.unwrap_or(Err(SourceFault::Timeout))?;
        if !asks.load(Ordering::Relaxed) {
            self.telemetry.shared("joined");
        }
        Ok(Arc::unwrap_or_clone(answer))
    }

    async fn asked(&self, fetch: Fetch<'_>, deadline: Instant) -> Result<SourceAnswer, SourceFault> {
        let answer = self.fetch(Fetch { deadline: deadline.into_std(), ..fetch }, deadline).await;
        if matches!(answer, Err(SourceFault::NotAuthorised(_))) {
            // A right that is gone is gone for what was answered before, too.
            self.shared.kept.clear();
        }
        check::matched(answer?, fetch.dataset, &self.limits)
    }

    fn deadline(&self, fetch: &Fetch<'_>, now: Instant) -> Instant {
        let own = now.checked_add(self.limits.timeout);
        own.map_or(fetch.deadline.into(), |own| own.min(fetch.deadline.into()))
    }

    async fn fetch(&self, fetch: Fetch<'_>, deadline: Instant) -> Result<SourceAnswer, SourceFault> {
        self.rate.pass(deadline).await?;
        let _place = self.place(deadline).await?;
        if deadline.saturating_duration_since(Instant::now()) == Duration::ZERO {
            return Err(SourceFault::Timeout);
        }
        let breaker = self.breakers.of(&fetch.dataset.dataset.id);
        let begun = Instant::now();
        let Some(admitted) = breaker.admit(begun) else { return Err(SourceFault::LeftAlone) };
        let answer = self.fetch_twice(fetch, deadline).await;
        let given = deadline.saturating_duration_since(begun);
        let health = Health::of(&answer, given, self.limits.timeout);
        if let Some(turn) = admitted.judge(health, Instant::now()) {
            self.telemetry.turned(&fetch, turn);
        }
        answer
    }

    /// Asks, and once more a little later where the source was down, may be asked again, and failed so fast that it would
    /// again leave time.
    async fn fetch_twice(&self, fetch: Fetch<'_>, deadline: Instant) -> Result<SourceAnswer, SourceFault> {
        let begun = Instant::now();
        let first = self.fetch_once(fetch, deadline).await;
        let again_at = Instant::now() + again_after();
        let is_down = matches!(first, Err(SourceFault::Down(_)));
        if !is_down
            || !self.connector.may_ask_again(&fetch.dataset.dataset.id)
            || again_at + begun.elapsed() >= deadline
        {
            return first;
        }
        tokio::time::sleep_until(again_at).await;
        self.telemetry.asked_again();
        self.fetch_once(fetch, deadline).await
    }

    async fn fetch_once(&self, fetch: Fetch<'_>, deadline: Instant) -> Result<SourceAnswer, SourceFault> {
        let _in_flight = self.telemetry.in_flight();
        // The timer is registered only if the future is not ready at its first poll: a source in process pays none.
        timeout_at(deadline, self.connector.fetch(fetch)).await.unwrap_or(Err(SourceFault::Timeout))
    }

    /// A place among the questions that run at once. Waits in order of arrival, and not past the deadline.
    async fn place(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, SourceFault> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        match timeout_at(deadline, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            // The semaphore is never closed; were it, no place would come before the deadline either.
            Ok(Err(_)) | Err(_) => Err(SourceFault::Timeout),
        }
    }
}

/// 50 to 150 ms, another each time, so that questions that failed together do not come back together.
fn again_after() -> Duration {
    use std::hash::{BuildHasher, RandomState};
    Duration::from_millis(50 + RandomState::new().hash_one(0) % 101)
}

#[cfg(test)]
mod tests;
