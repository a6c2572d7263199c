//! The circuit breaker: a source that fails again and again is left alone for a while, so that nobody waits for it.
//!
//! There is one for each dataset, since one connector may reach many providers. After so many failures in a row it opens:
//! questions are answered at once, without the source. When its pause is over, one question probes the source; the others
//! go on without. A good probe closes it, a failed one doubles the pause, thirty-two times at most.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;
use unefois_consent::DatasetId;

use crate::SourceFault;

const MOST_DOUBLINGS: u32 = 5;
/// A question with less time than this says nothing of its source when it ends without an answer.
const FAIR_TIME: Duration = Duration::from_secs(1);

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Failures in a row; 0: never.
    pub(super) failures: u32,
    /// The first pause.
    pub(super) pause: Duration,
}

/// What an answer says of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    Failed,
    /// Nothing.
    Unknown,
}

impl Health {
    /// A source that refuses or limits us is there. One that gave no answer in `given` failed, where that is a fair time:
    /// half the connector's own limit at most, since waiting for a place counts. What is wrong with one answer may come from
    /// its question, so that no caller can have a source left alone by it.
    pub(super) fn of<T>(answer: &Result<T, SourceFault>, given: Duration, own_limit: Duration) -> Self {
        match answer {
            Ok(_) | Err(SourceFault::RateLimited(_) | SourceFault::NotAuthorised(_)) => Self::Well,
            Err(SourceFault::Down(_)) => Self::Failed,
            Err(SourceFault::Timeout) if given >= FAIR_TIME.min(own_limit / 2) => Self::Failed,
            Err(SourceFault::Timeout | SourceFault::Untrusted(_) | SourceFault::LeftAlone | SourceFault::NotAsked) => {
                Self::Unknown
            }
        }
    }
}

/// What a dataset's breaker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        /// In a row.
        failures: u32,
    },
    Open {
        until: Instant,
        /// How many pauses there were.
        pauses: u32,
    },
    Probing {
        pauses: u32,
    },
}

/// What changed for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The source is left alone for so long.
    Opened(Duration),
    Closed,
}

/// The breaker of one dataset.
#[derive(Debug)]
pub(super) struct Breaker {
    rule: Rule,
    state: Mutex<State>,
}

impl Breaker {
    fn new(rule: Rule) -> Self {
        Self { rule, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a question through to the source, or not.
    pub(super) fn admit(&self, now: Instant) -> Option<Admitted<'_>> {
        let mut state = self.state();
        let is_probe = match *state {
            State::Closed { .. } => false,
            State::Open { until, pauses } if now >= until => {
                *state = State::Probing { pauses };
                true
            }
            State::Open { .. } | State::Probing { .. } => return None,
        };
        Some(Admitted { breaker: self, is_probe, judged: false })
    }

    fn judge(&self, is_probe: bool, health: Health, now: Instant) -> Option<Turn> {
        let mut state = self.state();
        match (*state, health) {
            (State::Closed { failures }, Health::Failed) => {
                let failures = failures.saturating_add(1);
                if self.rule.failures == 0 || failures < self.rule.failures {
                    *state = State::Closed { failures };
                    return None;
                }
                *state = State::Open { until: now + self.rule.pause, pauses: 1 };
                Some(Turn::Opened(self.rule.pause))
            }
            (State::Closed { .. }, Health::Well) => {
                *state = State::Closed { failures: 0 };
                None
            }
            (State::Probing { .. }, Health::Well) if is_probe => {
                *state = State::Closed { failures: 0 };
                Some(Turn::Closed)
            }
            (State::Probing { pauses }, Health::Failed) if is_probe => {
                let pause = self.rule.pause.saturating_mul(1 << pauses.min(MOST_DOUBLINGS));
                *state = State::Open { until: now + pause, pauses: pauses.saturating_add(1) };
                Some(Turn::Opened(pause))
            }
            // The next question probes.
            (State::Probing { pauses }, Health::Unknown) if is_probe => {
                *state = State::Open { until: now, pauses };
                None
            }
            // Asked before it opened: the probe decides.
            (State::Open { .. } | State::Probing { .. }, _) | (State::Closed { .. }, Health::Unknown) => None,
        }
    }
}

/// A question that was let through. Dropped without a verdict, as by a caller who went away, it says nothing.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
    judged: bool,
}

impl Admitted<'_> {
    /// What became of it.
    pub(super) fn judge(mut self, health: Health, now: Instant) -> Option<Turn> {
        self.judged = true;
        self.breaker.judge(self.is_probe, health, now)
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if !self.judged {
            self.breaker.judge(self.is_probe, Health::Unknown, Instant::now());
        }
    }
}

/// The breakers of one connector.
pub(super) struct Breakers {
    rule: Rule,
    // As many as the registry has datasets of this connector.
    by_dataset: RwLock<HashMap<DatasetId, Arc<Breaker>>>,
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers").field("rule", &self.rule).finish_non_exhaustive()
    }
}

impl Breakers {
    pub(super) fn new(rule: Rule) -> Self {
        Self { rule, by_dataset: RwLock::default() }
    }

    pub(super) fn of(&self, dataset: &DatasetId) -> Arc<Breaker> {
        if let Some(breaker) = self.by_dataset.read().unwrap_or_else(PoisonError::into_inner).get(dataset) {
            return Arc::clone(breaker);
        }
        let mut breakers = self.by_dataset.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(breakers.entry(dataset.clone()).or_insert_with(|| Arc::new(Breaker::new(self.rule))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(2);

    fn breaker() -> Breaker {
        Breaker::new(Rule { failures: 3, pause: PAUSE })
    }

    fn ask(breaker: &Breaker, health: Health, now: Instant) -> Option<Turn> {
        breaker.admit(now).expect("a place").judge(health, now)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_only_then() {
        let (breaker, now) = (breaker(), Instant::now());
        for health in [Health::Failed, Health::Failed, Health::Well, Health::Failed, Health::Unknown, Health::Failed] {
            assert_eq!(ask(&breaker, health, now), None);
        }
        assert_eq!(ask(&breaker, Health::Failed, now), Some(Turn::Opened(PAUSE)));
        assert!(breaker.admit(now).is_none() && breaker.admit(now + PAUSE - Duration::from_millis(1)).is_none());
    }

    #[test]
    fn one_question_probes_and_its_answer_decides() {
        let (breaker, mut now) = (breaker(), Instant::now());
        let late = breaker.admit(now).unwrap();
        for _ in 0..3 {
            ask(&breaker, Health::Failed, now);
        }
        now += PAUSE;
        let probe = breaker.admit(now).unwrap();
        assert!(breaker.admit(now).is_none(), "a second probe");
        // One that was asked long ago decides nothing.
        assert_eq!(late.judge(Health::Well, now), None);
        assert!(breaker.admit(now).is_none());
        assert_eq!(probe.judge(Health::Failed, now), Some(Turn::Opened(2 * PAUSE)));
        assert!(breaker.admit(now + PAUSE).is_none());
        now += 2 * PAUSE;
        assert_eq!(ask(&breaker, Health::Well, now), Some(Turn::Closed));
        assert_eq!(ask(&breaker, Health::Failed, now), None);
    }

    #[test]
    fn a_probe_whose_caller_goes_away_leaves_the_next_one_to_probe() {
        let (breaker, mut now) = (breaker(), Instant::now());
        for _ in 0..3 {
            ask(&breaker, Health::Failed, now);
        }
        now += PAUSE;
        drop(breaker.admit(now).unwrap());
        now += Duration::from_millis(50);
        assert_eq!(ask(&breaker, Health::Well, now), Some(Turn::Closed));
    }

    #[test]
    fn pauses_double_up_to_thirty_two_times() {
        let (breaker, mut now) = (breaker(), Instant::now());
        for _ in 0..2 {
            ask(&breaker, Health::Failed, now);
        }
        for doublings in [0, 1, 2, 3, 4, 5, 5, 5] {
            let pause = PAUSE * (1 << doublings);
            assert_eq!(ask(&breaker, Health::Failed, now), Some(Turn::Opened(pause)));
            now += pause;
        }
    }

    #[test]
    fn without_a_number_of_failures_it_never_opens() {
        let (breaker, now) = (Breaker::new(Rule { failures: 0, pause: PAUSE }), Instant::now());
        for _ in 0..1_000 {
            assert_eq!(ask(&breaker, Health::Failed, now), None);
        }
    }

    #[test]
    fn an_impatient_caller_says_nothing_of_the_source() {
        let timeout = Err::<(), _>(SourceFault::Timeout);
        let of = |given, own| Health::of(&timeout, Duration::from_millis(given), Duration::from_millis(own));
        assert_eq!(of(999, 5_000), Health::Unknown);
        assert_eq!(of(1_000, 5_000), Health::Failed);
        assert_eq!(of(199, 200), Health::Failed);
        assert_eq!(of(99, 200), Health::Unknown);
        assert_eq!(Health::of(&Err::<(), _>(SourceFault::Untrusted("x")), PAUSE, PAUSE), Health::Unknown);
        for fault in [SourceFault::RateLimited("x"), SourceFault::NotAuthorised("x")] {
            assert_eq!(Health::of(&Err::<(), _>(fault), PAUSE, PAUSE), Health::Well);
        }
    }
}
