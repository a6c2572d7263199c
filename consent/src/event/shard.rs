//! The ends of the log's shards.

use serde::{Deserialize, Serialize};

use crate::{Digest, Rules, Timestamp};

/// The log begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogOpened {
    /// The log's origin, first line of its checkpoints.
    pub origin: String,
    /// Its verifier key (C2SP signed-note).
    pub verifier_key: String,
    /// By which rules it is decided from here on.
    pub rules: Rules,
    /// By which the key of subjects is known again.
    pub subject_key: Digest,
    /// The shard that this one goes on from; absent in the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousShard>,
    /// Where an operator accepted a clock that the log was not of. Only there time may go back; absent elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<AcceptedClock>,
}

/// From which time to which the log's time went as an operator said so, back or ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedClock {
    /// Time of the entry before.
    pub from: Timestamp,
    /// Time of this entry.
    pub to: Timestamp,
}

/// The shard of a log that another one goes on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviousShard {
    /// Its origin.
    pub origin: String,
    /// Its verifier key.
    pub verifier_key: String,
    /// Size of its tree before the entry that closed it.
    pub size: u64,
    /// Root of that tree.
    pub root: Digest,
}

/// A shard of the log is closed: this is its last entry, and another shard goes on under a key of its own. The two name each
/// other, so that whoever trusts one of the keys can learn the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardClosed {
    /// Origin of the next shard.
    pub origin: String,
    /// Its verifier key.
    pub verifier_key: String,
    /// Its checkpoint of size 1 (C2SP tlog-checkpoint), which holds its entry [`LogOpened`]: who has its key signed it.
    pub checkpoint: String,
}
