//! What a purge records, and the keys that it destroys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NewSubject, Used};
use crate::{ConsentId, Digest, Month, RecordPeriod};

/// A fact of an older record that still has effect after that record is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CarriedFact {
    /// Which reference a person has, whose traces are not all purged.
    Subject(NewSubject),
    /// How often a consent was used up to an exchange whose record is destroyed; the exchange itself is not carried over.
    Uses(ConsentUses),
}

/// How often a consent was used up to one exchange, that one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentUses {
    /// The consent.
    pub consent: ConsentId,
    /// How often.
    pub used: Used,
}

/// A fact was carried over from an older record, before that record's key was destroyed. The tree, which both entries are in,
/// says which leaf the older one has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// Index of the entry that recorded it first; of uses, that of the exchange.
    pub from: u64,
    /// The fact.
    pub fact: CarriedFact,
}

/// The records that were due in one month were purged: their keys are destroyed. Their leaves stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purged {
    /// The first month in which they may not be kept any more.
    pub due: Month,
    /// All periods that were due in that month and not purged yet, in order.
    pub periods: Vec<PurgedPeriod>,
}

/// The records of one period, as its purge covers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgedPeriod {
    /// Month and retention of the records.
    pub period: RecordPeriod,
    /// How many entries there were of each kind, by the kind's byte.
    pub entries: BTreeMap<u8, u64>,
    /// SHA-256 over index (u64, big-endian) and leaf hash of each of the entries, in order: no other record can be passed off as
    /// purged.
    pub digest: Digest,
}

/// A key was made, under which the records of one period are sealed from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyMade {
    /// Month and retention of the records.
    pub period: RecordPeriod,
    /// By which the key is known again.
    pub check: Digest,
}
