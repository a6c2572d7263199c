//! The rates that API Particulier allows, kept before it refuses: per token and second, and per address and minute.
//!
//! The API counts the requests of a window (its throttle.yml), so this counts them too and lets the next one leave when
//! the window has room. A leaky bucket (GCRA) would let a whole burst and the refill into one window, twice what is
//! allowed. Questions of one token leave in the order of their coming; those of another token do not wait behind them. A
//! question that cannot leave before its deadline is refused at once. Cancel-safe: a place is taken when it is used.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::SourceFault;
use crate::config::ConnectorConfigError;

/// How much closer together the network may bring two requests.
const MARGIN: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

const USED_UP: SourceFault = SourceFault::RateLimited("its budget of requests is used up beyond the deadline");
const FULL: SourceFault = SourceFault::RateLimited("too many questions wait for its budget of requests");
const HELD: SourceFault = SourceFault::RateLimited("it asked to be left alone beyond the deadline");

/// Requests that the API allows, in the operator's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// Most requests a second with one token. 20 where absent; 1 to 100000.
    pub per_token_per_s: usize,
    /// Most requests a minute of all tokens together: the API counts the broker's address. 1000 where absent; 1 to 10000000.
    pub per_address_per_min: usize,
    /// Most questions that wait for one token's budget; further ones are refused at once. 256 where absent; 1 to 10000.
    pub max_waiting: usize,
}

impl Default for Rates {
    fn default() -> Self {
        Self { per_token_per_s: 20, per_address_per_min: 1000, max_waiting: 256 }
    }
}

impl Rates {
    /// Refuses rates that cannot be meant, naming the key.
    pub(super) fn validate(&self) -> Result<(), ConnectorConfigError> {
        for (key, value, most) in [
            ("rates.per_token_per_s", self.per_token_per_s, 100_000),
            ("rates.per_address_per_min", self.per_address_per_min, 10_000_000),
            ("rates.max_waiting", self.max_waiting, 10_000),
        ] {
            if !(1..=most).contains(&value) {
                return Err(ConnectorConfigError::invalid(key, format!("from 1 to {most}")));
            }
        }
        Ok(())
    }
}

/// The budgets of one connector.
pub(super) struct Budget {
    rates: Rates,
    address: Lane,
    /// By a hash of the token, keyed anew in each process: the map holds no token.
    tokens: Mutex<HashMap<u64, Arc<Lane>>>,
    hasher: RandomState,
    /// Until when a dataset's provider wants to be left alone, whoever asks.
    providers: Mutex<HashMap<&'static str, Instant>>,
}

impl Budget {
    pub(super) fn new(rates: Rates) -> Self {
        Self {
            rates,
            address: Lane::new(rates.per_address_per_min, MINUTE, usize::MAX),
            tokens: Mutex::default(),
            hasher: RandomState::new(),
            providers: Mutex::default(),
        }
    }

    /// The budget of a token. Files that hold the same token share it, as at the API.
    pub(super) fn lane(&self, token: &str) -> Arc<Lane> {
        let key = self.hasher.hash_one(token);
        let mut tokens = locked(&self.tokens);
        if let Some(lane) = tokens.get(&key) {
            return Arc::clone(lane);
        }
        // A token that was replaced leaves its lane behind.
        tokens.retain(|_, lane| Arc::strong_count(lane) > 1 || !lane.is_idle());
        let lane = Arc::new(Lane::new(self.rates.per_token_per_s, SECOND, self.rates.max_waiting));
        tokens.insert(key, Arc::clone(&lane));
        lane
    }

    /// Waits until one request may leave, and counts it. At once a fault where that is not before `deadline`. A question
    /// with the person's own token has no lane: only the address counts.
    pub(super) async fn pass(
        &self,
        token: Option<&Lane>,
        dataset: &'static str,
        deadline: Instant,
    ) -> Result<(), SourceFault> {
        let held_until = locked(&self.providers).get(dataset).copied();
        if held_until.is_some_and(|until| until >= deadline) {
            return Err(HELD);
        }
        self.address.check(deadline)?;
        if let Some(until) = held_until {
            sleep_until(until).await;
        }
        let _token_turn = match token {
            Some(lane) => Some(lane.turn(deadline).await?),
            None => None,
        };
        // ORDER: the address last, so that nobody waits behind a token whose budget is used up.
        let _address_turn = self.address.turn(deadline).await?;
        for lane in token.into_iter().chain([&self.address]) {
            lane.count();
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn lanes(&self) -> usize {
        locked(&self.tokens).len()
    }

    /// No request about `dataset` leaves before `until`, whatever its token.
    pub(super) fn hold_provider(&self, dataset: &'static str, until: Instant) {
        let mut providers = locked(&self.providers);
        let held = providers.entry(dataset).or_insert(until);
        *held = until.max(*held);
    }
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Budget").field(&self.rates).finish()
    }
}

/// One budget, and those who wait for it.
pub(super) struct Lane {
    /// Held by the one whose turn is next; the semaphore is fair.
    turn: Semaphore,
    waiting: AtomicUsize,
    max_waiting: usize,
    window: Mutex<Window>,
}

impl Lane {
    fn new(most: usize, span: Duration, max_waiting: usize) -> Self {
        let window = Window { most, span: span + MARGIN, sent: VecDeque::new(), held_until: None };
        Self { turn: Semaphore::new(1), waiting: AtomicUsize::new(0), max_waiting, window: Mutex::new(window) }
    }

    /// No request leaves before `until`.
    pub(super) fn hold(&self, until: Instant) {
        let mut window = locked(&self.window);
        window.held_until = window.held_until.max(Some(until));
    }

    /// Refuses at once where nothing can leave before `deadline`.
    fn check(&self, deadline: Instant) -> Result<(), SourceFault> {
        locked(&self.window).opens_at(Instant::now(), 0, deadline).map(drop)
    }

    /// The turn to send, when the window has room. The request is counted by [`Lane::count`] before the turn ends.
    async fn turn(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, SourceFault> {
        let waiting = Waiting::join(&self.waiting);
        if waiting.ahead >= self.max_waiting {
            return Err(FULL);
        }
        locked(&self.window).opens_at(Instant::now(), waiting.ahead, deadline)?;
        let turn = timeout_at(deadline, self.turn.acquire()).await.map_err(|_| USED_UP)?;
        let turn = turn.map_err(|_| USED_UP)?;
        loop {
            let now = Instant::now();
            let opens = locked(&self.window).opens_at(now, 0, deadline)?;
            if opens <= now {
                return Ok(turn);
            }
            // A hold may come meanwhile, so it is looked at again.
            sleep_until(opens).await;
        }
    }

    fn count(&self) {
        locked(&self.window).sent.push_back(Instant::now());
    }

    fn is_idle(&self) -> bool {
        let mut window = locked(&self.window);
        let now = Instant::now();
        window.forget(now);
        window.sent.is_empty() && window.held_until.is_none_or(|until| until <= now)
    }
}

/// One that waits, counted until it is dropped.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    ahead: usize,
}

impl<'a> Waiting<'a> {
    fn join(count: &'a AtomicUsize) -> Self {
        Self { count, ahead: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What was sent in the last `span`.
struct Window {
    most: usize,
    span: Duration,
    sent: VecDeque<Instant>,
    held_until: Option<Instant>,
}

impl Window {
    fn forget(&mut self, now: Instant) {
        while self.sent.front().is_some_and(|sent| *sent + self.span <= now) {
            self.sent.pop_front();
        }
    }

    /// When a request may leave that has `ahead` others before it; a fault where that is not before `deadline`.
    fn opens_at(&mut self, now: Instant, ahead: usize, deadline: Instant) -> Result<Instant, SourceFault> {
        self.forget(now);
        let from = self.held_until.map_or(now, |until| until.max(now));
        if from >= deadline {
            return Err(HELD);
        }
        let opens = self.place(from, ahead);
        if opens < deadline { Ok(opens) } else { Err(USED_UP) }
    }

    /// The window has room again when the `most`-th request before leaves it: one that was sent, or one that waits ahead.
    fn place(&self, from: Instant, ahead: usize) -> Instant {
        let Some(before) = (self.sent.len() + ahead).checked_sub(self.most) else { return from };
        let before = match self.sent.get(before) {
            Some(sent) => *sent,
            None => self.place(from, before - self.sent.len()),
        };
        from.max(before + self.span)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
