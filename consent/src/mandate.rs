//! Who may act for whom: parents for their children, guardians, mandataries.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::identity::BirthDate;
use crate::{Digest, MandateId, ProcedureId, Siret, SubjectRef, Timestamp};

/// Why somebody may act for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MandateKind {
    /// Parental authority (code civil 371-1); ends at majority.
    Parent,
    /// Guardianship of a minor or of an adult (code civil 390, 425).
    Guardian,
    /// A mandate that the person gave (code civil 1984, CRPA L114-10-1).
    Mandatary,
}

/// That one person may act for another towards one administration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mandate {
    /// Its name in the ledger.
    pub id: MandateId,
    /// For whom somebody acts.
    pub principal: SubjectRef,
    /// Who acts.
    pub representative: SubjectRef,
    /// Why.
    pub kind: MandateKind,
    /// Which administration recorded it, and towards which it counts.
    pub consumer: Siret,
    /// For which procedures; all of the administration's where empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub procedures: BTreeSet<ProcedureId>,
    /// SHA-256 of the proof that the administration keeps: family record book, judgment, signed mandate.
    pub proof: Digest,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub expires_at: Timestamp,
    /// The agent or the system that recorded it.
    pub agent: String,
    /// In the time of the log.
    pub recorded_at: Timestamp,
    /// When it ended before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

impl Mandate {
    /// Whether it covers `procedure`.
    pub fn covers(&self, procedure: &ProcedureId) -> bool {
        self.procedures.is_empty() || self.procedures.contains(procedure)
    }

    /// Whether it is in force at `now`.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.ended_at.is_none() && now >= self.not_before && now < self.expires_at
    }
}

/// Age of majority in years (code civil 414).
const MAJORITY_YEARS: i16 = 18;

/// The time of Paris (directive 2000/84/EC: summer time from the last Sunday of March to that of October).
const PARIS: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

/// The first instant at which somebody born on `birth` may be of age, in the time of Paris. Of a date of which only a part
/// is known the earliest day counts, so that nobody acts for an adult; `None` where nothing is known.
///
/// Who was born on 29 February is of age on 1 March where the year has no such day: 18 whole years have passed then.
pub fn majority(birth: BirthDate) -> Option<Timestamp> {
    let (year, month, day) = birth.earliest()?;
    let year = year.checked_add(MAJORITY_YEARS)?;
    let date = jiff::civil::Date::new(year, month, day).or_else(|_| jiff::civil::Date::new(year, 3, 1)).ok()?;
    let midnight = date.to_zoned_datetime(jiff::tz::TimeZone::posix(PARIS).ok()?).ok()?;
    // Of age since before 1970 is of age since for ever.
    Some(Timestamp::from_millis(u64::try_from(midnight.timestamp().as_millisecond()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_age(birth: &str) -> Option<String> {
        majority(birth.parse().unwrap()).map(|instant| instant.to_string())
    }

    #[test]
    fn somebody_is_of_age_at_midnight_of_paris_in_winter_and_in_summer() {
        assert_eq!(of_age("2010-01-15").as_deref(), Some("2028-01-14T23:00:00.000Z"));
        assert_eq!(of_age("2010-07-15").as_deref(), Some("2028-07-14T22:00:00.000Z"));
    }

    #[test]
    fn who_was_born_on_29_february_is_of_age_on_1_march() {
        assert_eq!(of_age("2012-02-29").as_deref(), Some("2030-02-28T23:00:00.000Z"));
    }

    #[test]
    fn of_a_part_of_a_date_the_earliest_day_counts() {
        assert_eq!(of_age("2010-07"), of_age("2010-07-01"));
        assert_eq!(of_age("2010"), of_age("2010-01-01"));
        assert_eq!(of_age(""), None);
        assert_eq!(of_age("1930-05-05").as_deref(), Some("1970-01-01T00:00:00.000Z"));
    }
}
