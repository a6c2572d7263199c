//! Finds entries of a journal by their time.

use std::ops::Range;

use crate::store::{Journal, SealedEntry, StoreError};

/// The first entry that is not `before` some time; the end of the log where all are. Each shard is searched by itself: within a
/// shard times do not go back, and between two they do where an operator accepted a clock.
pub(crate) fn first_not_before(
    journal: &dyn Journal,
    before: impl Fn(&SealedEntry) -> bool,
) -> Result<u64, StoreError> {
    let end = journal.end().entries();
    let shards = journal.shards();
    for (place, first) in shards.iter().enumerate() {
        let shard_end = shards.get(place + 1).map_or(end, |next| (*next).min(end));
        let found = first_of_shard_not_before(journal, *first..shard_end, &before)?;
        if found < shard_end {
            return Ok(found);
        }
    }
    Ok(end)
}

/// The first entry of one `shard` that is not `before` some time, by halving; its end where all are.
pub(crate) fn first_of_shard_not_before(
    journal: &dyn Journal,
    shard: Range<u64>,
    before: impl Fn(&SealedEntry) -> bool,
) -> Result<u64, StoreError> {
    let Range { start: mut low, end: mut high } = shard;
    while low < high {
        let middle = low + (high - low) / 2;
        if journal.entry(middle)?.is_some_and(|entry| before(&entry)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
