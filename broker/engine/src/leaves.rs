//! What the public leaves of a shard show without their records: kinds that exist, the ends of the shard where they belong,
//! and times that do not go back. `verify` asks it of a journal, a mirror of what the world is shown.

use std::ops::Range;

use unefois_consent::Timestamp;
use unefois_consent::event::{AcceptedClock, Event};

/// The entries of one shard, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Indexes of its entries.
    pub entries: Range<u64>,
    /// What comes behind them.
    pub end: SpanEnd,
}

/// What comes behind the entries of a [`Span`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanEnd {
    /// Another shard of the log.
    NextShard,
    /// Nothing that is known: the shard may be closed or go on.
    Unknown,
}

/// Whether entry `index` of `span` may be of `kind`.
///
/// # Errors
/// What is wrong with the entry.
pub fn check_kind(index: u64, kind: u8, span: &Span) -> Result<(), String> {
    if !Event::is_known(kind) {
        return Err(format!(
            "is of kind {kind}, which this version does not know: it is forged, or a newer version wrote it"
        ));
    }
    if (kind == Event::LOG_OPENED) != (index == span.entries.start) {
        return Err("a shard opens with its first entry and no other".to_owned());
    }
    let is_last = index.saturating_add(1) == span.entries.end;
    match kind == Event::SHARD_CLOSED {
        true if !is_last => Err("closes its shard, which goes on".to_owned()),
        false if is_last && span.end == SpanEnd::NextShard => Err("ends its shard and does not close it".to_owned()),
        true | false => Ok(()),
    }
}

/// Whether an entry may be of `time` after one that is of `before`. `accepted` is the clock that an operator accepted with the
/// entry, if he did: time may go back there and nowhere else.
///
/// # Errors
/// What is wrong with the entry.
pub fn check_time(before: Timestamp, time: Timestamp, accepted: Option<AcceptedClock>) -> Result<(), &'static str> {
    match accepted {
        Some(clock) if clock == (AcceptedClock { from: before, to: time }) => Ok(()),
        Some(_) => Err("accepts a clock from another time to another than the entries have"),
        None if time < before => Err("its time is before the time of the entry before it"),
        None => Ok(()),
    }
}
