//! How long records are kept.
//!
//! Traces of exchanges, refused and proactive ones too, are kept 36 months, available to the person and the DPO, then destroyed
//! (CRPA R114-9-7); fewer only where the registry names the article that says so. What keeps an objection is kept 24 months.
//! The key of a record is that of the month of its entry and of its [`Retention`]; destroying the key is the purge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::serde_as_text;
use crate::registry::Procedure;
use crate::time::Month;
use crate::{Malformed, Timestamp};

/// For how many whole months after the month of its entry a record is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Retention(u8);

impl Retention {
    /// As long as the log: the registry, and what says that something was purged. They name no subject.
    pub const LOG: Self = Self(0);
    /// Traces: 36 months.
    pub const TRACES: Self = Self(36);
    /// What keeps an objection: 24 months, in which it lapses unless the person confirms it.
    pub const OBJECTIONS: Self = Self(24);

    /// From its months; 0 is [`Retention::LOG`].
    pub const fn from_months(months: u8) -> Self {
        Self(months)
    }

    /// Its months; 0 for [`Retention::LOG`].
    pub const fn months(self) -> u8 {
        self.0
    }

    /// Of the traces of an exchange for `procedure`, which may not exist. The 12 months of CRPA L114-8 II bind what was collected
    /// proactively, not its trace.
    pub fn of_exchange(procedure: Option<&Procedure>) -> Self {
        procedure.map_or(Self::TRACES, |procedure| Self(procedure.trace_months.clamp(1, Self::TRACES.0)))
    }

    /// Of a consent, or of its withdrawal, that is recorded `now`: as long as traces of exchanges may rest on it, which is
    /// 36 months after its end (GDPR 7(1): who relies on a consent can show it).
    pub fn of_consent(now: Timestamp, expires_at: Timestamp) -> Self {
        let end = expires_at.month().number().saturating_add(u32::from(Self::TRACES.0));
        let months = end.saturating_sub(now.month().number());
        Self(u8::try_from(months).unwrap_or(u8::MAX).max(1))
    }

    /// Of an objection that lapses at `end`, recorded or lifted at `now`. It is longer than [`Retention::OBJECTIONS`] only where the
    /// clock was put back after the objection was recorded first: what confirms or lifts it must not be forgotten before it.
    pub fn of_objection(now: Timestamp, end: Timestamp) -> Self {
        let months = end.month().number().saturating_sub(now.month().number());
        Self(u8::try_from(months).unwrap_or(u8::MAX)).max(Self::OBJECTIONS)
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

    /// The first month in which its records may not be kept any more; `None` where they are kept as long as the log.
    pub fn due(self) -> Option<Month> {
        let months = u32::from(self.retention.0).saturating_add(1);
        (self.retention != Retention::LOG).then(|| Month::from_number(self.month.number().saturating_add(months)))
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
        assert!(!over(Retention::OBJECTIONS, "2025-10") && over(Retention::OBJECTIONS, "2025-11"));
        assert!(!over(Retention::LOG, "9999-12"));
        assert!(!over(Retention::TRACES, "2020-01"));
    }

    #[test]
    fn the_traces_of_an_exchange_are_kept_as_its_procedure_says() {
        let mut procedure = crate::testing::registry_file().procedures.remove(0);
        let of = |procedure: &Procedure| Retention::of_exchange(Some(procedure)).months();
        assert_eq!(of(&procedure), 36);
        procedure.trace_months = 12;
        assert_eq!(of(&procedure), 12);
        procedure.trace_months = 200;
        assert_eq!(of(&procedure), 36);
        assert_eq!(Retention::of_exchange(None), Retention::TRACES);
    }

    #[test]
    fn a_period_is_due_in_the_first_month_in_which_it_is_over() {
        for text in ["2026-09", "2026-09.12", "2025-12.1"] {
            let period: RecordPeriod = text.parse().unwrap();
            let due = period.due().unwrap();
            assert!(period.is_over(due) && !period.is_over(Month::from_number(due.number() - 1)), "{text}");
        }
        assert_eq!("2026-09.0".parse::<RecordPeriod>().unwrap().due(), None);
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
