//! What a derivation may still believe where records were purged.

use std::collections::BTreeSet;

use unefois_consent::decide::Earlier;
use unefois_consent::event::{Event, Requested};
use unefois_consent::{Reason, Timestamp};

/// Beginnings of exchanges that are remembered: an end follows its beginning within minutes.
const REMEMBERED: usize = 100_000;

/// The purged entries so far.
#[derive(Debug, Default)]
pub(super) struct PurgedPast {
    any: bool,
    /// Indexes of the last purged entries Requested.
    begun: BTreeSet<u64>,
}

impl PurgedPast {
    /// Whether how long the record of `event` is kept follows from one that was purged.
    pub(super) fn may_hide_retention(&self, event: &Event) -> bool {
        let follows =
            matches!(event, Event::Answered(_) | Event::Dropped(_) | Event::Failed(_) | Event::ConsentWithdrawn(_));
        self.any && follows
    }

    pub(super) fn purged(&mut self, index: u64, kind: u8) {
        self.any = true;
        if kind == Event::REQUESTED {
            self.begun.insert(index);
            if self.begun.len() > REMEMBERED {
                self.begun.pop_first();
            }
        }
    }

    /// Whether the beginning `requested` of an exchange was purged, whose end is read now.
    pub(super) fn ends(&mut self, requested: u64) -> bool {
        self.begun.remove(&requested)
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

    /// Whether a refusal for `reasons` may rest on what was purged: an older use of an id, of a quota or of a consent, or
    /// a consent that ended long ago. What is permitted never does.
    pub(super) fn may_explain(&self, reasons: &[Reason]) -> bool {
        let old = [
            Reason::RequestIdReused,
            Reason::RetryTooLate,
            Reason::RetryTooOften,
            Reason::QuotaExhausted,
            Reason::ConsentWithdrawn,
            Reason::ConsentExpired,
            Reason::ConsentUsed,
        ];
        self.any && reasons.iter().any(|reason| old.contains(reason))
    }
}
