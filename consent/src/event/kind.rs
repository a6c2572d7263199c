//! The byte by which a public leaf tells what its record is, and its name for people.

use super::Event;

/// The one list of kinds: constant, event, byte, name. A byte is never given to another kind.
macro_rules! kinds {
    ($($(#[doc = $more:literal])? $constant:ident $event:ident $kind:literal $name:literal)*) => {
        impl Event {
            $(
                #[doc = concat!("The kind byte of [`Event::", stringify!($event), "`].", $($more)?)]
                pub const $constant: u8 = $kind;
            )*

            /// The kind byte of the entry's public leaf.
            pub fn kind(&self) -> u8 {
                match self {
                    $(Self::$event(_) => Self::$constant,)*
                }
            }

            /// The name of a kind byte, for people.
            pub fn kind_name(kind: u8) -> &'static str {
                match kind {
                    $(Self::$constant => $name,)*
                    _ => "unknown",
                }
            }
        }
    };
}

kinds! {
    /// The first entry of a shard and no other.
    LOG_OPENED LogOpened 1 "log opened"
    REGISTRY_CHANGED RegistryChanged 2 "registry changed"
    CONSENT_GRANTED ConsentGranted 3 "consent granted"
    CONSENT_WITHDRAWN ConsentWithdrawn 4 "consent withdrawn"
    OBJECTION_RECORDED ObjectionRecorded 5 "objection recorded"
    OBJECTION_LIFTED ObjectionLifted 6 "objection lifted"
    /// It tells a reader which records to open first.
    CARRIED Carried 7 "carried over"
    /// It tells a reader which records to open first.
    PURGED Purged 8 "purged"
    CONSENT_REQUESTED ConsentRequested 9 "consent requested"
    CONSENT_REFUSED ConsentRefused 10 "consent refused"
    CONSENT_PAUSED ConsentPaused 11 "consent paused"
    CONSENT_RESUMED ConsentResumed 12 "consent resumed"
    CONSENT_RENEWED ConsentRenewed 13 "consent renewed"
    CONSENT_REVOKED ConsentRevoked 14 "consent revoked"
    CONSENT_INVALIDATED ConsentInvalidated 15 "consent invalidated"
    /// It tells of a purged record that it began an exchange.
    REQUESTED Requested 16 "requested"
    REFUSED Refused 17 "refused"
    ANSWERED Answered 18 "answered"
    DROPPED Dropped 19 "dropped"
    FAILED Failed 20 "failed"
    MANDATE_GRANTED MandateGranted 21 "mandate granted"
    MANDATE_ENDED MandateEnded 22 "mandate ended"
    /// The last entry of a shard and no other.
    SHARD_CLOSED ShardClosed 23 "shard closed"
    /// A reader knows by it which key opens what comes after it.
    KEY_MADE KeyMade 24 "key made"
    RULES_CHANGED RulesChanged 25 "rules changed"
    TRACES_READ TracesRead 32 "traces read"
}

impl Event {
    /// Whether a kind byte is of what becomes of consents and objections.
    pub fn is_of_consents(kind: u8) -> bool {
        matches!(
            kind,
            Self::CONSENT_REQUESTED
                | Self::CONSENT_GRANTED
                | Self::CONSENT_REFUSED
                | Self::CONSENT_PAUSED
                | Self::CONSENT_RESUMED
                | Self::CONSENT_RENEWED
                | Self::CONSENT_WITHDRAWN
                | Self::CONSENT_REVOKED
                | Self::CONSENT_INVALIDATED
                | Self::OBJECTION_RECORDED
                | Self::OBJECTION_LIFTED
        )
    }

    /// Whether entries of this kind exist.
    pub fn is_known(kind: u8) -> bool {
        Self::kind_name(kind) != "unknown"
    }

    /// Whether an entry of this kind may say who a person is: be their first, or carry that over.
    pub fn may_introduce(kind: u8) -> bool {
        matches!(
            kind,
            Self::CARRIED
                | Self::CONSENT_REQUESTED
                | Self::CONSENT_GRANTED
                | Self::CONSENT_RENEWED
                | Self::OBJECTION_RECORDED
                | Self::OBJECTION_LIFTED
                | Self::MANDATE_GRANTED
                | Self::REQUESTED
                | Self::REFUSED
        )
    }
}
