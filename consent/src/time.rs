//! Instants of the log: milliseconds since the Unix epoch, written as RFC 3339.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;
use crate::id::{serde_as_text, serde_as_text_or};

/// Milliseconds in a day of the log. Leap seconds do not exist in Unix time.
pub const DAY_MS: u64 = 86_400_000;

/// An instant with millisecond precision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the Unix epoch, capped at the end of year 9999.
    pub const fn from_millis(millis: u64) -> Self {
        // The last whole second that jiff takes in milliseconds, 9999-12-30T22:00:00Z: past it, printing would fail.
        const END_OF_9999: u64 = 253_402_207_200_000;
        Self(if millis > END_OF_9999 { END_OF_9999 } else { millis })
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This instant plus `duration`.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This instant less `duration`.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The same time of the day `months` later (UTC), on the last day of the month where that has no such day.
    #[must_use]
    pub fn plus_months(self, months: u32) -> Self {
        let months = jiff::Span::new().try_months(i64::from(months));
        let here = jiff::tz::Offset::UTC.to_datetime(self.jiff());
        let later = months.and_then(|months| here.checked_add(months));
        let later = later.and_then(|later| jiff::tz::Offset::UTC.to_timestamp(later));
        Self::from_millis(later.map_or(u64::MAX, |later| u64::try_from(later.as_millisecond()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this instant is; zero where it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The day of the log (UTC) that this instant lies in, counted from the Unix epoch.
    pub const fn day(self) -> u64 {
        self.0 / DAY_MS
    }

    /// The calendar month (UTC).
    pub fn month(self) -> Month {
        let date = self.civil();
        Month { year: date.year(), month: date.month() }
    }

    /// Year, month and day (UTC).
    pub fn civil(self) -> jiff::civil::Date {
        jiff::tz::Offset::UTC.to_datetime(self.jiff()).date()
    }

    fn jiff(self) -> jiff::Timestamp {
        // The constructors keep the value in jiff's range.
        i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
    }
}

/// A calendar month (UTC). Written `2026-09`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    /// Year.
    pub year: i16,
    /// Month from 1.
    pub month: i8,
}

impl Month {
    /// Months since January of year 0, which no month of a log comes before.
    pub fn number(self) -> u32 {
        let months = i32::from(self.year) * 12 + i32::from(self.month) - 1;
        u32::try_from(months).unwrap_or(0)
    }

    /// The month that has this number.
    pub fn from_number(number: u32) -> Self {
        let year = i16::try_from(number / 12).unwrap_or(i16::MAX);
        let month = i8::try_from(number % 12).unwrap_or_default();
        Self { year, month: month + 1 }
    }

    /// How many months after `earlier` this one comes; 0 where it does not.
    pub fn since(self, earlier: Self) -> u32 {
        self.number().saturating_sub(earlier.number())
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for Month {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed::new("", "a month such as 2026-09");
        let (year, month) = text.split_once('-').ok_or_else(malformed)?;
        let parsed =
            Self { year: year.parse().map_err(|_| malformed())?, month: month.parse().map_err(|_| malformed())? };
        let same = (1..=12).contains(&parsed.month) && parsed.year >= 0 && parsed.to_string() == text;
        if same { Ok(parsed) } else { Err(malformed()) }
    }
}

serde_as_text!(Month);

impl FromStr for Timestamp {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let rule = "an RFC 3339 instant such as 2026-09-01T08:30:00Z";
        let instant: jiff::Timestamp = text.parse().map_err(|_| Malformed::new("", rule))?;
        let millis = u64::try_from(instant.as_millisecond()).map_err(|_| Malformed::new("", "after 1970"))?;
        Ok(Self::from_millis(millis))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.jiff())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text_or!(Timestamp, u64, |time| time.as_millis(), Timestamp::from_millis);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_prints_as_rfc_3339_and_parses_back() {
        let instant = Timestamp::from_millis(1_767_225_600_007);
        assert_eq!(instant.to_string(), "2026-01-01T00:00:00.007Z");
        assert_eq!(instant.to_string().parse::<Timestamp>().unwrap(), instant);
        assert_eq!("2026-01-01T01:00:00+01:00".parse::<Timestamp>().unwrap().as_millis(), 1_767_225_600_000);
        assert!("1969-12-31T23:59:59Z".parse::<Timestamp>().is_err());
    }

    #[test]
    fn a_month_prints_parses_and_counts() {
        let month = |text: &str| text.parse::<Month>();
        assert_eq!(Timestamp::from_millis(1_767_225_599_999).month(), month("2025-12").unwrap());
        assert_eq!(Timestamp::from_millis(1_767_225_600_000).month(), month("2026-01").unwrap());
        assert_eq!(month("2026-01").unwrap().since(month("2022-12").unwrap()), 37);
        assert_eq!(month("2022-12").unwrap().since(month("2026-01").unwrap()), 0);
        for text in ["0000-01", "2026-01", "2026-12", "9999-12"] {
            assert_eq!(Month::from_number(month(text).unwrap().number()).to_string(), text);
        }
        for bad in ["2026-13", "2026-00", "2026-1", "26-01", "2026-01-01", "", "-001-01"] {
            assert!(month(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_year_2038_and_the_end_of_time_are_ordinary() {
        assert_eq!(Timestamp::from_millis(2_147_483_648_000).to_string(), "2038-01-19T03:14:08.000Z");
        let end = Timestamp::from_millis(u64::MAX);
        assert_eq!(end.to_string(), "9999-12-30T22:00:00.000Z");
        assert_eq!("9999-12-30T22:00:00.999Z".parse::<Timestamp>().unwrap(), end);
        assert_eq!(end.plus(Duration::MAX), end);
    }
}
