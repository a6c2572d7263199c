//! How long records are kept.
//!
//! Traces of exchanges are kept 36 months, available to the person and the DPO, then destroyed; a procedure may ask for
//! less, and what was exchanged proactively is kept 12 months at most (CRPA L114-8 II). The key of a record is that of the
//! month of its entry and of its [`Retention`]; destroying the key is the purge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::serde_as_text;
use crate::registry::Procedure;
use crate::time::Month;
use crate::{GroundKind, Malformed, Timestamp};

/// For how many whole months after the month of its entry a record is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Retention(u8);

impl Retention {
    /// As long as the log: the registry, and what says that something was purged. They name no subject.
    pub const LOG: Self = Self(0);
    /// Traces: 36 months.
    pub const TRACES: Self = Self(36);
    /// Proactive exchanges: 12 months (CRPA L114-8 II).
    pub const PROACTIVE: Self = Self(12);

    /// From its months; 0 is [`Retention::LOG`].
    pub const fn from_months(months: u8) -> Self {
        Self(months)
    }

    /// Its months; 0 for [`Retention::LOG`].
    pub const fn months(self) -> u8 {
        self.0
    }

    /// Of the traces of an exchange for `procedure`, which may not exist, on a ground.
    pub fn of_exchange(procedure: Option<&Procedure>, ground: GroundKind) -> Self {
        let wanted = procedure.map_or(Self::TRACES, |procedure| Self(procedure.trace_months.clamp(1, Self::TRACES.0)));
        match ground {
            GroundKind::Proactive => wanted.min(Self::PROACTIVE),
            GroundKind::LawRequest | GroundKind::Consent | GroundKind::ExplicitRequest => wanted,
        }
    }

    /// Of a consent, or of its withdrawal, that is recorded `now`: as long as traces of exchanges may rest on it, which is
    /// 36 months after its end (GDPR 7(1): who relies on a consent can show it).
    pub fn of_consent(now: Timestamp, expires_at: Timestamp) -> Self {
        let end = expires_at.month().number().saturating_add(u32::from(Self::TRACES.0));
        let months = end.saturating_sub(now.month().number());
        Self(u8::try_from(months).unwrap_or(u8::MAX).max(1))
    }

    /// Whether a record of `written` is to be destroyed in the month `now`.
    pub fn is_over(self, written: Month, now: Month) -> bool {
        self != Self::LOG && now.since(written) > u32::from(self.0)
    }
}

/// Which key seals a record: the month of its entry, and its retention. Written `2026-09` where it is kept 36 months,
/// `2026-09.12` where 12, `2026-09.0` where as long as the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordPeriod {
    /// Month of the entry.
    pub month: Month,
    /// How long its record is kept.
    pub retention: Retention,
}

impl RecordPeriod {
    /// Of a record of `time`.
    pub fn new(time: Timestamp, retention: Retention) -> Self {
        Self { month: time.month(), retention }
    }

    /// Whether its records are to be destroyed in the month `now`.
    pub fn is_over(self, now: Month) -> bool {
        self.retention.is_over(self.month, now)
    }
}

impl fmt::Display for RecordPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.retention == Retention::TRACES {
            self.month.fmt(f)
        } else {
            write!(f, "{}.{}", self.month, self.retention.0)
        }
    }
}

impl FromStr for RecordPeriod {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed::new("", "a month, or a month, a dot and a number of months");
        let (month, retention) = match text.split_once('.') {
            None => (text, Retention::TRACES),
            Some((month, months)) => (month, Retention(months.parse().map_err(|_| malformed())?)),
        };
        let period = Self { month: month.parse()?, retention };
        if period.to_string() == text { Ok(period) } else { Err(malformed()) }
    }
}

serde_as_text!(RecordPeriod);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_record_is_kept_for_whole_months_after_its_own() {
        let written = "2023-10".parse().unwrap();
        let over = |retention: Retention, now: &str| retention.is_over(written, now.parse().unwrap());
        assert!(!over(Retention::TRACES, "2026-10") && over(Retention::TRACES, "2026-11"));
        assert!(!over(Retention::PROACTIVE, "2024-10") && over(Retention::PROACTIVE, "2024-11"));
        assert!(!over(Retention::LOG, "9999-12"));
        assert!(!over(Retention::TRACES, "2020-01"));
    }

    #[test]
    fn the_shortest_of_law_and_procedure_counts() {
        let mut procedure = crate::testing::registry_file().procedures.remove(0);
        let of = |procedure: &Procedure, ground| Retention::of_exchange(Some(procedure), ground).months();
        assert_eq!((of(&procedure, GroundKind::LawRequest), of(&procedure, GroundKind::Proactive)), (36, 12));
        procedure.trace_months = 6;
        assert_eq!((of(&procedure, GroundKind::Consent), of(&procedure, GroundKind::Proactive)), (6, 6));
        procedure.trace_months = 200;
        assert_eq!(of(&procedure, GroundKind::ExplicitRequest), 36);
        assert_eq!(Retention::of_exchange(None, GroundKind::LawRequest), Retention::TRACES);
    }

    #[test]
    fn a_consent_is_kept_36_months_after_its_end() {
        let of = |now, end| Retention::of_consent(at(now), at(end)).months();
        assert_eq!(of("2026-01-31T00:00:00Z", "2026-01-31T12:00:00Z"), 36);
        assert_eq!(of("2026-01-31T00:00:00Z", "2027-02-01T00:00:00Z"), 49);
        // A withdrawal goes with its consent.
        assert_eq!(of("2026-06-30T00:00:00Z", "2027-02-01T00:00:00Z"), 44);
        assert_eq!(of("2030-06-30T00:00:00Z", "2026-02-01T00:00:00Z"), 1);
        assert_eq!(of("2026-01-31T00:00:00Z", "9999-01-01T00:00:00Z"), 255);
    }

    #[test]
    fn a_period_prints_and_parses_back() {
        for text in ["2026-09", "2026-09.12", "2026-09.0", "2026-09.72"] {
            assert_eq!(text.parse::<RecordPeriod>().unwrap().to_string(), text);
        }
        for bad in ["2026-09.36", "2026-9", "2026-09.", "2026-09.300", "2026-09.012", "../2026-09"] {
            assert!(bad.parse::<RecordPeriod>().is_err(), "{bad}");
        }
    }
}
