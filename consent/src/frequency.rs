//! How often something may happen: so many times in each window of time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::time::DAY_MS;

/// Milliseconds in an hour.
const HOUR_MS: u64 = 3_600_000;

/// A length of time on the calendar (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// 3,600 seconds.
    Hour,
    /// 86,400 seconds: a change to summer time makes no day longer.
    Day,
    /// To the same day of the next month, or to its last day.
    Month,
    /// To the same day of the next year; from 29 February to 28 February.
    Year,
}

impl TimeUnit {
    /// `instant` plus `count` of this unit.
    pub fn after(self, instant: Timestamp, count: u32) -> Timestamp {
        let plus = |unit_ms: u64| instant.plus(Duration::from_millis(unit_ms.saturating_mul(u64::from(count))));
        match self {
            Self::Hour => plus(HOUR_MS),
            Self::Day => plus(DAY_MS),
            Self::Month => instant.plus_months(count),
            Self::Year => instant.plus_months(count.saturating_mul(12)),
        }
    }

    /// In which window of this length `instant` lies, where window 0 begins at `anchor`. Window n begins at
    /// `after(anchor, n)`: counted from the anchor each time, so that the 31st stays the 31st where a month has one.
    pub fn window(self, anchor: Timestamp, instant: Timestamp) -> u32 {
        let since = u64::try_from(instant.since(anchor).as_millis()).unwrap_or(u64::MAX);
        let whole = match self {
            Self::Hour => since / HOUR_MS,
            Self::Day => since / DAY_MS,
            Self::Month => u64::from(instant.month().since(anchor.month())),
            Self::Year => u64::from(instant.month().since(anchor.month()) / 12),
        };
        let window = u32::try_from(whole).unwrap_or(u32::MAX);
        // The calendar's count may be one ahead: on the 3rd the window that began on the 31st is still the last one's.
        if self.after(anchor, window) > instant { window.saturating_sub(1) } else { window }
    }
}

/// At most `times` in each window of one `per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frequency {
    /// One at least.
    pub times: u32,
    /// Length of a window.
    pub per: TimeUnit,
}

/// Uses in the window of the last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowUses {
    /// Number of the window, from 0.
    pub window: u32,
    /// How many uses it has.
    pub uses: u32,
}

impl Frequency {
    /// Whether one more use fits into the window of `instant`.
    pub fn allows(self, anchor: Timestamp, used: WindowUses, instant: Timestamp) -> bool {
        self.uses_in(anchor, used, instant).uses < self.times
    }

    /// The uses of the window of `instant`, before another one.
    pub fn uses_in(self, anchor: Timestamp, used: WindowUses, instant: Timestamp) -> WindowUses {
        let window = self.per.window(anchor, instant);
        if window == used.window { used } else { WindowUses { window, uses: 0 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Windows of `unit` from `anchor`: `begins` are the first instants of windows 0, 1, 2…
    fn begins(unit: TimeUnit, anchor: &str, begins: &[&str]) {
        for (number, begin) in (0..).zip(begins) {
            assert_eq!(unit.after(at(anchor), number), at(begin), "{unit:?} {number}");
            assert_eq!(unit.window(at(anchor), at(begin)), number, "{unit:?} {begin}");
            if number > 0 {
                let before = Timestamp::from_millis(at(begin).as_millis() - 1);
                assert_eq!(unit.window(at(anchor), before), number - 1, "{unit:?} before {begin}");
            }
        }
    }

    #[test]
    fn an_hour_and_a_day_are_so_many_seconds_whatever_the_clocks_of_the_town_do() {
        begins(TimeUnit::Hour, "2026-03-29T00:30:00Z", &["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]);
        // Summer time begins on 29 March 2026 and ends on 25 October 2026 in Paris.
        begins(TimeUnit::Day, "2026-03-28T22:59:59.999Z", &["2026-03-28T22:59:59.999Z", "2026-03-29T22:59:59.999Z"]);
        begins(TimeUnit::Day, "2026-10-24T12:00:00Z", &["2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"]);
    }

    #[test]
    fn a_leap_second_lies_in_the_window_of_the_second_before_it() {
        begins(TimeUnit::Hour, "2016-12-31T23:00:00Z", &["2016-12-31T23:00:00Z", "2017-01-01T00:00:00Z"]);
    }

    #[test]
    fn a_month_from_the_31st_ends_with_short_months_and_comes_back_to_the_31st() {
        let expected = ["2026-01-31T08:00:00Z", "2026-02-28T08:00:00Z", "2026-03-31T08:00:00Z", "2026-04-30T08:00:00Z"];
        begins(TimeUnit::Month, "2026-01-31T08:00:00Z", &expected);
        begins(TimeUnit::Month, "2028-01-29T00:00:00Z", &["2028-01-29T00:00:00Z", "2028-02-29T00:00:00Z"]);
    }

    #[test]
    fn a_year_from_29_february_begins_on_28_february_but_for_leap_years() {
        let expected = [
            "2024-02-29T10:00:00Z",
            "2025-02-28T10:00:00Z",
            "2026-02-28T10:00:00Z",
            "2027-02-28T10:00:00Z",
            "2028-02-29T10:00:00Z",
        ];
        begins(TimeUnit::Year, "2024-02-29T10:00:00Z", &expected);
        begins(TimeUnit::Year, "2037-06-01T00:00:00Z", &["2037-06-01T00:00:00Z", "2038-06-01T00:00:00Z"]);
    }

    #[test]
    fn a_window_takes_so_many_uses_and_the_next_one_begins_at_nothing() {
        let twice = Frequency { times: 2, per: TimeUnit::Day };
        let anchor = at("2026-09-01T12:00:00Z");
        let used = |window, uses| WindowUses { window, uses };
        assert!(twice.allows(anchor, used(0, 1), at("2026-09-02T11:59:59.999Z")));
        assert!(!twice.allows(anchor, used(0, 2), at("2026-09-02T11:59:59.999Z")));
        assert!(twice.allows(anchor, used(0, 2), at("2026-09-02T12:00:00Z")));
        assert_eq!(twice.uses_in(anchor, used(0, 2), at("2026-09-04T12:00:00Z")), used(3, 0));
    }

    #[test]
    fn before_the_anchor_is_window_0() {
        for unit in [TimeUnit::Hour, TimeUnit::Day, TimeUnit::Month, TimeUnit::Year] {
            assert_eq!(unit.window(at("2026-09-01T12:00:00Z"), at("2024-01-01T00:00:00Z")), 0);
        }
    }
}
