//! The only place where an error of the engine becomes a gRPC status.
//!
//! Every status carries google.rpc.ErrorInfo with a stable reason and the domain `unefois.v1`; a malformed field also
//! google.rpc.BadRequest. Messages say what to do next and hold nothing personal.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use unefois_consent::Malformed;
use unefois_engine::store::StoreError;
use unefois_engine::{EngineError, LoggedRefusal};

/// The domain of every ErrorInfo.
pub const DOMAIN: &str = "unefois.v1";

fn with_info(code: Code, reason: &str, message: impl Into<String>, metadata: HashMap<String, String>) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, message, details)
}

fn plain(code: Code, reason: &str, message: impl Into<String>) -> Status {
    with_info(code, reason, message, HashMap::new())
}

/// A refusal that lies outside the log.
pub fn refusal(reason: &str, message: &str) -> Status {
    plain(Code::PermissionDenied, reason, message)
}

/// The caller has its share already.
pub fn overloaded(message: &str) -> Status {
    plain(Code::ResourceExhausted, EngineError::Overloaded.code(), message)
}

/// A person who was not proven.
pub fn unauthenticated(reason: &str, message: &str) -> Status {
    plain(Code::Unauthenticated, reason, message)
}

/// A field that breaks a rule.
pub fn bad_request(reason: &str, field: &str, rule: &str) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.add_bad_request_violation(field, rule);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {rule}"), details)
}

/// A malformed field.
pub fn malformed(fault: &Malformed) -> Status {
    bad_request("INVALID_FIELD", &fault.field, fault.rule)
}

fn refused(refused: &LoggedRefusal) -> Status {
    let first = refused.refusal.first();
    let reasons: Vec<_> = refused.refusal.reasons().iter().map(|r| r.code()).collect();
    let metadata = HashMap::from([
        ("reasons".to_owned(), reasons.join(",")),
        ("exchange_id".to_owned(), refused.exchange.to_string()),
        ("entry_index".to_owned(), refused.index.to_string()),
    ]);
    with_info(Code::PermissionDenied, first.code(), first.advice(), metadata)
}

/// The status of an error.
pub fn of(error: &EngineError) -> Status {
    let code = match error {
        EngineError::Refused(logged) => return refused(logged),
        EngineError::Malformed(fault) => return malformed(fault),
        EngineError::Registry(fault) => return bad_request("REGISTRY_RULE", &fault.place, &fault.rule),
        EngineError::NotFound(_) => Code::NotFound,
        EngineError::NotAllowed(_) => Code::PermissionDenied,
        EngineError::WrongState(_) | EngineError::MonthPurged(_) => Code::FailedPrecondition,
        EngineError::RegistryMoved => Code::Aborted,
        EngineError::DeadlineExceeded => Code::DeadlineExceeded,
        EngineError::Overloaded => Code::ResourceExhausted,
        EngineError::NoRoom(_) | EngineError::NotDelivered(_) | EngineError::LateQuorum => Code::Unavailable,
        EngineError::ClockWrong(_) | EngineError::Halted(_) => Code::Unavailable,
        EngineError::Store(error) => match error {
            StoreError::Full(_) | StoreError::NotWritten(_) | StoreError::Unknown(_) | StoreError::Fenced(_) => {
                Code::Unavailable
            }
            StoreError::Corrupt(_) | StoreError::Newer(_) | StoreError::Read(_) => Code::Internal,
        },
        EngineError::Internal(_) | EngineError::Log(_) => Code::Internal,
    };
    plain(code, error.code(), message(error, code))
}

/// What the client is told. Paths and details of the disk are for the operator's log.
fn message(error: &EngineError, code: Code) -> String {
    match (error, code) {
        (EngineError::NoRoom(_), _) => {
            "the broker's disk is full: nothing was asked and nothing was logged; try again later with the same request_id".to_owned()
        }
        (EngineError::NotDelivered(_), _) => {
            "the broker's log took no entry for the answer, so nothing was delivered; try again later with the same request_id".to_owned()
        }
        (EngineError::LateQuorum, _) => {
            "the witnesses of the broker's log are late: nothing was asked and nothing was logged; try again later with the same request_id".to_owned()
        }
        (EngineError::ClockWrong(_), _) => {
            "the clock of the broker's machine is wrong: nothing was asked and nothing was logged; try again later with the same request_id".to_owned()
        }
        (EngineError::Halted(_) | EngineError::Store(_), Code::Unavailable) => {
            "the broker has stopped to protect its log; try again later with the same request_id".to_owned()
        }
        (EngineError::Store(_) | EngineError::Log(_) | EngineError::Internal(_) | EngineError::Halted(_), _) => {
            tracing::error!(%error, code = error.code(), "a call failed");
            "the broker failed; its operator finds the cause in its log".to_owned()
        }
        (
            EngineError::Refused(_)
            | EngineError::Malformed(_)
            | EngineError::Registry(_)
            | EngineError::NotFound(_)
            | EngineError::NotAllowed(_)
            | EngineError::WrongState(_)
            | EngineError::MonthPurged(_)
            | EngineError::RegistryMoved
            | EngineError::DeadlineExceeded
            | EngineError::Overloaded,
            _,
        ) => error.to_string(),
    }
}
