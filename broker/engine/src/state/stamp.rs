//! A row about a person lives as long as the record that it comes from.
//!
//! Each such row begins with a stamp: the period of that record and the index of its entry. A row whose period was purged
//! is as good as gone from that entry of the log on; the fold removes it when it gets to it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use unefois_consent::{Month, RecordPeriod, Retention};

use crate::store::StoreError;

/// Month u32 ‖ retention u8 ‖ index u64.
const LEN: usize = 13;

/// The record that a row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// When it is purged.
    pub(crate) period: RecordPeriod,
    /// Index of the entry that recorded the fact first.
    pub(crate) from: u64,
}

impl Stamp {
    /// The row of `value`.
    pub(crate) fn row(self, value: &[u8]) -> Vec<u8> {
        let mut row = Vec::with_capacity(LEN + value.len());
        row.extend_from_slice(&self.period.month.number().to_be_bytes());
        row.push(self.period.retention.months());
        row.extend_from_slice(&self.from.to_be_bytes());
        row.extend_from_slice(value);
        row
    }

    /// The stamp and the value of a row.
    pub(crate) fn split(row: &[u8]) -> Result<(Self, &[u8]), StoreError> {
        Self::try_split(row).ok_or_else(|| StoreError::Corrupt("a row of the fold has no stamp".to_owned()))
    }

    fn try_split(row: &[u8]) -> Option<(Self, &[u8])> {
        let (month, rest) = row.split_first_chunk::<4>()?;
        let ([months], rest) = rest.split_first_chunk::<1>()?;
        let (from, value) = rest.split_first_chunk::<8>()?;
        let month = Month::from_number(u32::from_be_bytes(*month));
        let period = RecordPeriod { month, retention: Retention::from_months(*months) };
        Some((Self { period, from: u64::from_be_bytes(*from) }, value))
    }
}

/// The periods that were purged, shared with the thread that removes their rows.
#[derive(Debug, Default)]
pub(crate) struct PurgedPeriods {
    count: AtomicU64,
    periods: RwLock<BTreeSet<RecordPeriod>>,
    /// Number of the month before which no uses of a day count any more; 0 where there was no purge.
    uses_count_from: AtomicU32,
}

impl PurgedPeriods {
    pub(super) fn from_row(periods: BTreeSet<RecordPeriod>) -> Self {
        let count = AtomicU64::new(periods.len() as u64);
        Self { count, periods: RwLock::new(periods), uses_count_from: AtomicU32::default() }
    }

    /// Uses of days before `month` count for nothing any more. It goes back where an operator accepts a clock.
    pub(super) fn count_uses_from(&self, month: Month) {
        self.uses_count_from.store(month.number(), Ordering::Release);
    }

    pub(super) fn uses_count_from(&self) -> Month {
        Month::from_number(self.uses_count_from.load(Ordering::Acquire))
    }

    /// How many there are. It only grows.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub(crate) fn contains(&self, period: RecordPeriod) -> bool {
        self.count() > 0 && self.periods.read().unwrap_or_else(PoisonError::into_inner).contains(&period)
    }

    /// The newest month in which a purged period was due.
    pub(super) fn newest_due(&self) -> Month {
        let periods = self.periods.read().unwrap_or_else(PoisonError::into_inner);
        periods.iter().filter_map(|period| period.due()).max().unwrap_or(Month::from_number(0))
    }

    /// The newest month of which a period was purged.
    pub(super) fn last_month(&self) -> Option<Month> {
        self.periods.read().unwrap_or_else(PoisonError::into_inner).iter().map(|period| period.month).max()
    }

    pub(super) fn insert(&self, period: RecordPeriod) {
        let mut periods = self.periods.write().unwrap_or_else(PoisonError::into_inner);
        periods.insert(period);
        self.count.store(periods.len() as u64, Ordering::Release);
    }

    pub(super) fn all(&self) -> BTreeSet<RecordPeriod> {
        self.periods.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back() {
        let stamp = Stamp { period: "2026-09.12".parse().unwrap(), from: 1 << 40 };
        assert_eq!(Stamp::split(&stamp.row(b"value")).unwrap(), (stamp, &b"value"[..]));
        assert!(Stamp::split(&[0; LEN - 1]).is_err());
    }
}
