//! The state that a fold holds, row by row, in a form that can be compared.
//!
//! A fold that was lived through and one that is built anew from what a purge left hold the same facts. Their bytes may
//! differ in three ways, which this listing takes out: rows that count for nothing and are not removed yet, a purged entry that a
//! row names and that counts for nothing, and the numbers under which consents share their terms.

use std::collections::BTreeSet;

use unefois_consent::RecordPeriod;

use super::consent_row::{ConsentRow, SharedTerms};
use super::holds::plain_hold;
use super::purge::is_gone;
use super::stamp::PurgedPeriods;
use super::{Stamp, decode, encode, keys};
use crate::store::{Fold, Row, StoreError};

/// All rows of `fold` that count, in the order of their keys; a consent as JSON, with its stamp and its last use. Without the
/// rows of the store itself, those that tie a fold to its journal, and what only a replay keeps.
///
/// # Errors
/// [`StoreError`] where the fold cannot be read or a row does not parse.
pub fn live_rows(fold: &dyn Fold) -> Result<Vec<Row>, StoreError> {
    let purged: BTreeSet<RecordPeriod> =
        fold.get(keys::PURGED)?.map(|row| decode(&row)).transpose()?.unwrap_or_default();
    let purged = PurgedPeriods::from_row(purged);
    // Whatever time the log had when they were removed.
    let uses_from = purged.newest_due();
    let terms = SharedTerms::load(fold)?;
    let mut rows = Vec::new();
    for (key, row) in fold.scan(b"", Some(&[0, 0xff]), usize::MAX)? {
        let table = key.get(..1).unwrap_or_default();
        if [keys::ROOT, keys::LAYOUT, keys::TERMS].contains(&table) || is_gone(&key, &row, &purged, uses_from)? {
            continue;
        }
        let row = match table {
            keys::CONSENTS => plain_consent(&key, &row, &terms)?,
            keys::HOLDS => plain_hold(&row, &purged)?,
            _ => row,
        };
        rows.push((key, row));
    }
    Ok(rows)
}

fn plain_consent(key: &[u8], row: &[u8], terms: &SharedTerms) -> Result<Vec<u8>, StoreError> {
    let (stamp, value) = Stamp::split(row)?;
    let id = keys::consent_at(key).ok_or_else(|| StoreError::Corrupt("a consent's key is malformed".to_owned()))?;
    let row = ConsentRow::decode(id, stamp, value, terms)?;
    Ok(stamp.row(&encode(&(row.last_use, row.kept_after, &row.consent))?))
}
