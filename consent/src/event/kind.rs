//! The byte by which a public leaf tells what its record is, and its name for people.

use super::Event;

impl Event {
    /// The kind byte of [`Event::LogOpened`]: the first entry of a shard and no other.
    pub const LOG_OPENED: u8 = 1;
    /// The kind byte of [`Event::ShardClosed`]: the last entry of a shard and no other.
    pub const SHARD_CLOSED: u8 = 23;
    /// The kind byte of [`Event::Carried`]; it tells a reader which records to open first.
    pub const CARRIED: u8 = 7;
    /// The kind byte of [`Event::Requested`]: it tells of a purged record that it began an exchange.
    pub const REQUESTED: u8 = 16;
    /// The kind byte of [`Event::Refused`].
    pub const REFUSED: u8 = 17;
    /// The kind byte of [`Event::Purged`], likewise.
    pub const PURGED: u8 = 8;

    /// Whether a kind byte is of what becomes of consents and objections.
    pub fn is_of_consents(kind: u8) -> bool {
        matches!(kind, 3..=6 | 9..=15)
    }

    /// The kind byte of the entry's public leaf.
    pub fn kind(&self) -> u8 {
        match self {
            Self::LogOpened(_) => Self::LOG_OPENED,
            Self::RegistryChanged(_) => 2,
            Self::ConsentGranted(_) => 3,
            Self::ConsentWithdrawn(_) => 4,
            Self::ObjectionRecorded(_) => 5,
            Self::ObjectionLifted(_) => 6,
            Self::Carried(_) => Self::CARRIED,
            Self::Purged(_) => Self::PURGED,
            Self::ConsentRequested(_) => 9,
            Self::ConsentRefused(_) => 10,
            Self::ConsentPaused(_) => 11,
            Self::ConsentResumed(_) => 12,
            Self::ConsentRenewed(_) => 13,
            Self::ConsentRevoked(_) => 14,
            Self::ConsentInvalidated(_) => 15,
            Self::MandateGranted(_) => 21,
            Self::MandateEnded(_) => 22,
            Self::Requested(_) => Self::REQUESTED,
            Self::Refused(_) => Self::REFUSED,
            Self::Answered(_) => 18,
            Self::Dropped(_) => 19,
            Self::Failed(_) => 20,
            Self::ShardClosed(_) => Self::SHARD_CLOSED,
            Self::TracesRead(_) => 32,
        }
    }

    /// The name of a kind byte, for people.
    pub fn kind_name(kind: u8) -> &'static str {
        match kind {
            1 => "log opened",
            2 => "registry changed",
            3 => "consent granted",
            4 => "consent withdrawn",
            5 => "objection recorded",
            6 => "objection lifted",
            7 => "carried over",
            8 => "purged",
            9 => "consent requested",
            10 => "consent refused",
            11 => "consent paused",
            12 => "consent resumed",
            13 => "consent renewed",
            14 => "consent revoked",
            15 => "consent invalidated",
            16 => "requested",
            17 => "refused",
            18 => "answered",
            19 => "dropped",
            20 => "failed",
            21 => "mandate granted",
            22 => "mandate ended",
            23 => "shard closed",
            32 => "traces read",
            0 | 24..=31 | 33.. => "unknown",
        }
    }
}
