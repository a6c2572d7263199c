//! What a purge needs to know of the state, and the removal of its rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use unefois_consent::event::{CarriedFact, ConsentUses, NewSubject};
use unefois_consent::{Digest, Month, RecordPeriod, SubjectRef, Timestamp};

use super::stamp::PurgedPeriods;
use super::tables::Tables;
use super::{Stamp, State, UsageRow, decode, keys};
use crate::store::{Fold, Row, StoreError};

/// Rows of one person that are looked at to find one that is kept longer. Where all of so many go, the person is carried over
/// without looking further: a fact too many does no harm, and the deciding thread must not stand still.
const LOOKED_AT: usize = 64;

/// A fact that may have to be carried over, and the entry whose record has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// A person whom the entry introduces, or carries over.
    Subject { tag: Digest, from: u64 },
    /// How often a consent was used up to the exchange of entry `from`.
    Uses { uses: ConsentUses, from: u64 },
}

impl State {
    /// The fact of `candidate`, where it still has effect when the records of the periods `due` are destroyed; and the entry
    /// that recorded it first.
    pub(crate) fn to_carry(
        &self,
        candidate: Candidate,
        due: &BTreeSet<RecordPeriod>,
    ) -> Result<Option<(u64, CarriedFact)>, StoreError> {
        match candidate {
            Candidate::Subject { tag, from } => self.subject_to_carry(tag, from, due),
            Candidate::Uses { uses, from } => {
                let stays = self.consent_row(uses.consent)?.is_some_and(|row| !due.contains(&row.stamp.period));
                Ok(stays.then_some((from, CarriedFact::Uses(uses))))
            }
        }
    }

    fn subject_to_carry(
        &self,
        tag: Digest,
        from: u64,
        due: &BTreeSet<RecordPeriod>,
    ) -> Result<Option<(u64, CarriedFact)>, StoreError> {
        let row = self.live(&keys::subject(&tag))?;
        let Some((stamp, value)) = row.filter(|(stamp, _)| stamp.from == from && due.contains(&stamp.period)) else {
            return Ok(None);
        };
        let malformed = |_| StoreError::Corrupt("a subject row is malformed".to_owned());
        let subject = SubjectRef(value.as_slice().try_into().map_err(malformed)?);
        let is_named = self.is_named_beyond(subject, due)?;
        Ok(is_named.then_some((stamp.from, CarriedFact::Subject(NewSubject { tag, subject }))))
    }

    /// Whether a record names the person that stays when those of the periods `due` are destroyed.
    fn is_named_beyond(&self, subject: SubjectRef, due: &BTreeSet<RecordPeriod>) -> Result<bool, StoreError> {
        for prefix in [keys::traces(subject), keys::consents_of_all(subject), keys::mandates_of(subject)] {
            let page: Vec<Row> = self.rows.scan(&prefix, None, LOOKED_AT)?;
            for (_, row) in &page {
                let (stamp, _) = Stamp::split(row)?;
                if !due.contains(&stamp.period) && !self.purged.contains(stamp.period) {
                    return Ok(true);
                }
            }
            if page.len() == LOOKED_AT {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a row counts for nothing any more: its record was purged, or it counts the uses of a day before the month
/// `uses_from`.
pub(super) fn is_gone(key: &[u8], row: &[u8], purged: &PurgedPeriods, uses_from: Month) -> Result<bool, StoreError> {
    let Some(table) = key.get(..1) else { return Ok(false) };
    if keys::STAMPED.contains(&table) {
        return Ok(purged.contains(Stamp::split(row)?.0.period));
    }
    if table == keys::USAGE {
        let day_ms = decode::<UsageRow>(row)?.day.saturating_mul(unefois_consent::time::DAY_MS);
        return Ok(Timestamp::from_millis(day_ms).month() < uses_from);
    }
    Ok(false)
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
            self.tables = Tables::new(&keys::SWEPT);
        }
        let mut gone = Vec::new();
        for (key, row) in self.tables.page(fold)? {
            if is_gone(&key, &row, &self.purged, self.purged.uses_count_from())? {
                gone.push(key);
            }
        }
        Ok(gone)
    }
}
