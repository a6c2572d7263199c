//! Entries whose records were purged, as far as what came later rests on them.
//!
//! An entry that rests on an older one names its index. Only that older entry, of a fitting kind, time and retention and covered by
//! a purge, excuses that what the younger one says cannot be derived. Nothing is excused because something was purged.

use std::time::Duration;

use unefois_audit::Leaf;
use unefois_consent::event::{Rest, RestKind};
use unefois_consent::{RecordPeriod, Retention, Timestamp};

use super::BatchSource;
use super::derive::{Fault, must};
use crate::purge::Past;
use crate::store::StoreError;

/// Longest exchange: the longest deadline that can be configured.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// An entry whose record was destroyed, by what stays of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) kind: u8,
    pub(super) time: Timestamp,
    pub(super) retention: Retention,
}

impl Gone {
    pub(super) fn of(leaf: &Leaf, retention: Retention) -> Self {
        Self { kind: leaf.kind, time: Timestamp::from_millis(leaf.time_ms), retention }
    }
}

/// Finds entries whose records were destroyed.
#[derive(Clone, Copy)]
pub(super) struct Destroyed<'a> {
    pub(super) source: &'a dyn BatchSource,
    /// `None` while no purged record was met: then nothing before is purged.
    pub(super) past: Option<&'a Past>,
}

impl Destroyed<'_> {
    /// The entry that `rest` names, where its record was destroyed. Entry `index` rests on it.
    ///
    /// # Errors
    /// [`Fault`] where it is not one that the entry can rest on.
    pub(super) fn find(&self, index: u64, rest: Rest) -> Result<Option<Gone>, Fault> {
        must(rest.index < index, "rests on an entry that comes later")?;
        let Some(past) = self.past else { return Ok(None) };
        let entry = self.source.entry(rest.index)?.ok_or_else(|| {
            StoreError::Corrupt(format!("entry {} is missing, and a later one rests on it", rest.index))
        })?;
        let time = Timestamp::from_millis(entry.leaf.time_ms);
        let period = RecordPeriod::new(time, entry.opening.retention);
        if !past.covers(rest.index, period) {
            return Ok(None);
        }
        must(rest.kind.fits(entry.leaf.kind), "rests on a purged entry of a kind that it cannot rest on")?;
        Ok(Some(Gone::of(&entry.leaf, period.retention)))
    }

    /// The same for an index that may be absent.
    pub(super) fn at(&self, index: u64, kind: RestKind, named: Option<u64>) -> Result<Option<Gone>, Fault> {
        named.map_or(Ok(None), |named| self.find(index, Rest { index: named, kind }))
    }
}
