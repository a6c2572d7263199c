//! What a derivation may still believe where records were purged.

use std::collections::BTreeMap;
use std::time::Duration;

use unefois_consent::decide::Earlier;
use unefois_consent::event::{Event, Requested};
use unefois_consent::{Reason, Timestamp};

/// Beginnings of exchanges that are remembered: an end follows its beginning within minutes.
const REMEMBERED: usize = 100_000;

/// Longest exchange: the longest deadline that can be configured.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The purged entries so far.
#[derive(Debug, Default)]
pub(super) struct PurgedPast {
    any: bool,
    /// The last purged entries Requested, and their times.
    begun: BTreeMap<u64, Timestamp>,
}

impl PurgedPast {
    /// Whether how long the record of `event` is kept follows from one that was purged.
    pub(super) fn may_hide_retention(&self, event: &Event) -> bool {
        let ends = matches!(event, Event::Answered(_) | Event::Dropped(_) | Event::Failed(_) | Event::MandateEnded(_));
        self.any && (ends || event.decision().is_some())
    }

    pub(super) fn purged(&mut self, index: u64, kind: u8, time: Timestamp) {
        self.any = true;
        if kind == Event::REQUESTED {
            self.begun.insert(index, time);
            if self.begun.len() > REMEMBERED {
                self.begun.pop_first();
            }
        }
    }

    /// Whether the beginning `requested` of an exchange was purged, whose end is read now: no exchange takes longer than a
    /// day, but one that a stopped broker left under way.
    pub(super) fn ends(&mut self, requested: u64, time: Timestamp, is_failure: bool) -> bool {
        let begun = self.begun.remove(&requested);
        begun.is_some_and(|begun| is_failure || time.since(begun) <= LONGEST)
    }

    /// The attempt before this one, where its record was purged: as this one implies it.
    pub(super) fn attempt_before(&self, time: Timestamp, requested: &Requested) -> Option<Earlier> {
        (self.any && requested.attempt > 1).then(|| Earlier {
            exchange: requested.exchange,
            content: requested.question.content,
            at: time,
            attempts: requested.attempt.saturating_sub(1),
            consent: requested.consent,
        })
    }

    /// Whether a refusal for `reasons`, where others are derived, may rest on what was purged: an older use of an id or of a
    /// consent, or a consent that ended long ago. Every other reason must be derived. What is permitted never rests on it.
    pub(super) fn may_explain(&self, reasons: &[Reason], derived: &[Reason]) -> bool {
        let old = [
            Reason::RequestIdReused,
            Reason::RetryTooLate,
            Reason::RetryTooOften,
            Reason::ConsentPending,
            Reason::ConsentRefused,
            Reason::ConsentPaused,
            Reason::ConsentWithdrawn,
            Reason::ConsentRevoked,
            Reason::ConsentInvalidated,
            Reason::ConsentExpired,
            Reason::ConsentUsed,
            Reason::ConsentFrequency,
            Reason::MandateEnded,
            Reason::MandateExpired,
        ];
        let told_now = |reasons: &[Reason]| reasons.iter().copied().filter(|r| !old.contains(r)).collect::<Vec<_>>();
        self.any && reasons.iter().any(|reason| old.contains(reason)) && told_now(reasons) == told_now(derived)
    }
}
