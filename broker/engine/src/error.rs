//! What can go wrong in the engine, told apart by what a caller does about it.

use unefois_consent::registry::RegistryFault;
use unefois_consent::{ExchangeId, Malformed, Month, Refusal};

use crate::clock_guard::ClockFault;
use crate::signer::SignError;
use crate::store::StoreError;

/// An exchange that was refused, with where the log says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRefusal {
    /// Every check that failed.
    pub refusal: Refusal,
    /// The exchange.
    pub exchange: ExchangeId,
    /// Index of its entry Refused.
    pub index: u64,
}

/// Why the engine did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The law or a right says no; the entry that says so is durable.
    #[error("refused: {}", .0.refusal.first().advice())]
    Refused(Box<LoggedRefusal>),
    /// A field is not of the right form.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The registry would break a rule.
    #[error("the registry breaks a rule: {0}")]
    Registry(#[from] RegistryFault),
    /// What is asked for does not exist, or not for this caller.
    #[error("{0} does not exist, or not for you")]
    NotFound(&'static str),
    /// The caller may not do this.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// The log's time would go back into a month whose records were destroyed, and the next ones of that month could not be told
    /// from them.
    #[error(
        "records of the month {0} were purged, so the log's time cannot go back to it or before it: keep the broker off until that \
         month is over"
    )]
    MonthPurged(Month),
    /// What is there does not allow it now: a consent that has ended, a request that was answered.
    #[error("{0}")]
    WrongState(&'static str),
    /// The registry changed since the caller looked at it.
    #[error("the registry changed meanwhile; look at the difference again")]
    RegistryMoved,
    /// The caller's deadline passed.
    #[error("the deadline passed before the broker could finish; set a longer one")]
    DeadlineExceeded,
    /// Too much waits already.
    #[error("too many calls wait already; slow down and try again")]
    Overloaded,
    /// The log's disk has no room; nothing was asked and nothing was written.
    #[error("{0}")]
    NoRoom(StoreError),
    /// The log has no room for the end of an exchange; its data was thrown away.
    #[error("the log took no entry for the answer, so nothing was delivered: {0}")]
    NotDelivered(Box<EngineError>),
    /// The witnesses have not cosigned the log for too long, and the operator wants no exchange without them.
    #[error(
        "the log's witnesses have not cosigned it for too long: nothing was asked and nothing was logged. The broker goes \
         on by itself when a quorum of them answers"
    )]
    LateQuorum,
    /// The clock of the machine is in doubt; nothing was asked and nothing was written.
    #[error(transparent)]
    ClockWrong(#[from] ClockFault),
    /// The store or the signer failed; the engine has stopped and refuses everything until it is opened again.
    #[error("the broker has stopped to protect the log: {0}")]
    Halted(String),
    /// A read failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task was interrupted or a value could not be written as JSON: a fault of this program, not of the log.
    #[error("the broker failed: {0}")]
    Internal(&'static str),
    /// A proof or a record does not verify.
    #[error("the log does not verify: {0}")]
    Log(String),
}

impl EngineError {
    /// Stable code for logs, metrics and clients.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.refusal.first().code(),
            Self::Malformed(_) => "INVALID_FIELD",
            Self::Registry(_) => "REGISTRY_RULE",
            Self::NotFound(_) => "NOT_FOUND",
            Self::NotAllowed(_) => "NOT_ALLOWED",
            Self::MonthPurged(_) => "MONTH_PURGED",
            Self::WrongState(_) => "WRONG_STATE",
            Self::RegistryMoved => "REGISTRY_MOVED",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Overloaded => "OVERLOADED",
            Self::NoRoom(_) => "STORE_FULL",
            Self::NotDelivered(error) => error.code(),
            Self::LateQuorum => "QUORUM_LATE",
            Self::ClockWrong(_) => "CLOCK_WRONG",
            Self::Halted(_) => "HALTED",
            Self::Store(error) => error.code(),
            Self::Internal(_) => "INTERNAL",
            Self::Log(_) => "LOG_DOES_NOT_VERIFY",
        }
    }
}

impl From<SignError> for EngineError {
    fn from(error: SignError) -> Self {
        Self::Halted(error.to_string())
    }
}
