//! Objections to proactive use.

use serde::{Deserialize, Serialize};

use crate::{ProcedureId, Retention, Siret, SubjectRef, Timestamp};

/// A person's objection to proactive use (GDPR 21, CRPA L114-8 II).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objection {
    /// Who objects.
    pub subject: SubjectRef,
    /// Against which administration.
    pub consumer: Siret,
    /// For which procedure; all of them where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub procedure: Option<ProcedureId>,
    /// The person, proven, objected: only they lift it then (GDPR 21).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_person: bool,
    /// When it lapses, unless the person confirms it before: what keeps an objection is kept 24 months at most.
    pub lapses_at: Timestamp,
}

/// So long before an objection lapses, to say it again confirms it; earlier, saying it again changes nothing.
const CONFIRMED_WITHIN_MONTHS: u32 = 6;

impl Objection {
    /// When an objection lapses that is recorded at `now`.
    pub fn lapses_after(now: Timestamp) -> Timestamp {
        now.plus_months(u32::from(Retention::OBJECTIONS.months()))
    }

    /// Whether it counts at `now`.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        now < self.lapses_at
    }

    /// The objection that is there once the person says at `now` that they object, where `self` was there before: `None` where
    /// it stays as it is.
    #[must_use]
    pub fn confirmed(&self, by_person: bool, now: Timestamp) -> Option<Self> {
        let is_late = now.plus_months(CONFIRMED_WITHIN_MONTHS) >= self.lapses_at;
        let becomes_theirs = by_person && !self.by_person;
        // A clock that was put back makes no objection lapse earlier.
        let lapses_at = Self::lapses_after(now).max(self.lapses_at);
        let next = Self { by_person: by_person || self.by_person, lapses_at, ..self.clone() };
        (is_late || becomes_theirs).then_some(next)
    }
}
