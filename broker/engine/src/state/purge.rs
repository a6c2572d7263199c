//! What a purge needs to know of the state, and the removal of its rows.

use std::sync::Arc;

use unefois_consent::event::{CarriedFact, NewSubject};
use unefois_consent::{Digest, Objection, RecordPeriod, SubjectRef};

use super::apply::objection_key;
use super::stamp::PurgedPeriods;
use super::tables::{PAGE, Tables};
use super::{Stamp, State, decode, keys};
use crate::store::{Fold, Row, StoreError};

/// Tables whose facts may have to be carried over.
const CARRIED: [&[u8]; 2] = [keys::SUBJECTS, keys::OBJECTIONS];

/// Keys of the rows of `fold` whose facts may have to be carried over before `period` is purged.
pub(crate) fn candidates(fold: &dyn Fold, period: RecordPeriod) -> Result<Vec<Vec<u8>>, StoreError> {
    let (mut found, mut tables) = (Vec::new(), Tables::new(&CARRIED));
    while !tables.is_done() {
        for (key, row) in tables.page(fold)? {
            if Stamp::split(&row)?.0.period == period {
                found.push(key);
            }
        }
    }
    Ok(found)
}

impl State {
    /// Like [`candidates`], among the rows that the fold may not have yet.
    pub(crate) fn recent_candidates(&self, period: RecordPeriod) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut found = Vec::new();
        for (key, row) in CARRIED.iter().flat_map(|table| self.rows.recent(table)) {
            if Stamp::split(row)?.0.period == period {
                found.push(key.to_vec());
            }
        }
        Ok(found)
    }

    /// The fact of the row `key` and the entry that recorded it first, where the row goes with `period` and the fact still
    /// has effect.
    pub(crate) fn to_carry(&self, key: &[u8], period: RecordPeriod) -> Result<Option<(u64, CarriedFact)>, StoreError> {
        let Some((stamp, value)) = self.live(key)?.filter(|(stamp, _)| stamp.period == period) else { return Ok(None) };
        if let Some(tag) = key.strip_prefix(keys::SUBJECTS) {
            let malformed = |_| StoreError::Corrupt("a subject row is malformed".to_owned());
            let subject = SubjectRef(value.as_slice().try_into().map_err(malformed)?);
            let new = NewSubject { tag: Digest(tag.try_into().map_err(malformed)?), subject };
            return Ok(self.is_named_beyond(subject, period)?.then_some((stamp.from, CarriedFact::Subject(new))));
        }
        Ok(Some((stamp.from, CarriedFact::Objection(decode::<Objection>(&value)?))))
    }

    /// Whether a record of another period names the person, or an objection is in force.
    fn is_named_beyond(&self, subject: SubjectRef, period: RecordPeriod) -> Result<bool, StoreError> {
        let beyond = |stamp: Stamp| stamp.period != period;
        Ok(self.any_row(&keys::traces(subject), beyond)?
            || self.any_row(&keys::consents_of_all(subject), beyond)?
            || self.any_row(&keys::mandates_of(subject), beyond)?
            || self.any_row(&keys::objections_of(subject), |_| true)?)
    }

    /// Whether a row under `prefix`, whose record was not purged, is one of those `wanted`.
    fn any_row(&self, prefix: &[u8], wanted: impl Fn(Stamp) -> bool) -> Result<bool, StoreError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page: Vec<Row> = self.rows.scan(prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(false) };
            after = Some(last.clone());
            for (_, row) in &page {
                let (stamp, _) = Stamp::split(row)?;
                if wanted(stamp) && !self.purged.contains(stamp.period) {
                    return Ok(true);
                }
            }
        }
    }

    /// Whether `objection` is in force, and was recorded first by entry `from`.
    pub(crate) fn has_objection(&self, objection: &Objection, from: u64) -> Result<bool, StoreError> {
        let row = self.live(&objection_key(objection))?.filter(|(stamp, _)| stamp.from == from);
        Ok(row.map(|(_, row)| decode::<Objection>(&row)).transpose()?.is_some_and(|found| found == *objection))
    }

    /// Whether an objection of `period` is in force.
    pub(crate) fn has_objection_of(&self, period: RecordPeriod) -> Result<bool, StoreError> {
        self.any_row(keys::OBJECTIONS, |stamp| stamp.period == period)
    }
}

/// Removes the rows of purged records from the fold, a page at a time.
#[derive(Debug)]
pub(crate) struct Sweeper {
    purged: Arc<PurgedPeriods>,
    /// How many periods had been purged when the sweep under way began.
    begun_at: u64,
    tables: Tables,
}

impl Sweeper {
    /// The first sweep looks at everything: an earlier process may have died in the middle of one.
    pub(crate) fn new(purged: Arc<PurgedPeriods>) -> Self {
        Self { purged, begun_at: 0, tables: Tables::default() }
    }

    /// Whether there is nothing to remove.
    pub(crate) fn is_done(&self) -> bool {
        self.tables.is_done() && self.begun_at == self.purged.count()
    }

    /// Looks at one more page. Gives the keys to remove.
    pub(crate) fn sweep(&mut self, fold: &dyn Fold) -> Result<Vec<Vec<u8>>, StoreError> {
        if self.tables.is_done() {
            self.begun_at = self.purged.count();
            self.tables = Tables::new(&keys::STAMPED);
        }
        let mut gone = Vec::new();
        for (key, row) in self.tables.page(fold)? {
            if self.purged.contains(Stamp::split(&row)?.0.period) {
                gone.push(key);
            }
        }
        Ok(gone)
    }
}
