//! The gRPC services: thin, each call a conversion, one call of the engine and a conversion back.

use std::sync::Arc;
use std::time::Instant;

use tonic::{Request, Status};
use unefois_consent::registry::Role;
use unefois_consent::{Malformed, PivotIdentity, Timestamp};
use unefois_engine::consents::{LedgerConsent, MAX_PAGE};
use unefois_engine::{Clock, Engine, SystemClock, VerifiedParticipant};
use unefois_proto::common::identity;
use unefois_proto::v1;

pub mod access;
mod audit;
mod citizen;
mod consent;
mod exchange;
pub mod gate;
mod registry;
pub mod status;
mod timely;

pub use audit::Audit;
pub use citizen::Citizens;
pub use consent::Consents;
pub(crate) use consent::Watches;
pub(crate) use consent::wire_change;
pub use exchange::Exchange;
pub use registry::RegistryRpc;

/// Largest message that is read, in bytes: enough for a registry of thousands of habilitations.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Largest question that is read, in bytes.
pub const MAX_QUESTION_BYTES: usize = 1 << 20;

/// What the gate found out about a call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who calls.
    pub caller: VerifiedParticipant,
    /// In which role the call was let in.
    pub role: Role,
    /// When its answer is of no use any more.
    pub deadline: Instant,
}

/// The call that the gate let in. A service that is reached around the gate answers nothing.
fn call<T>(request: &Request<T>) -> Result<Call, Status> {
    request.extensions().get::<Call>().cloned().ok_or_else(|| Status::internal("the call did not pass the gate"))
}

/// The person at the field `subject`.
fn subject(message: Option<&v1::Identity>) -> Result<PivotIdentity, Status> {
    let identity = identity("subject", message).map_err(|fault| status::malformed(&fault))?;
    not_from_the_future(&identity)?;
    Ok(identity)
}

/// Nobody is born after today.
fn not_from_the_future(identity: &PivotIdentity) -> Result<(), Status> {
    if identity.birth_date.is_after(SystemClock.now()) {
        return Err(status::malformed(&Malformed::new("subject.birth_date", "is not in the future")));
    }
    Ok(())
}

/// A field that names something, by its name.
fn named<T: std::str::FromStr<Err = Malformed>>(field: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|fault: Malformed| status::malformed(&fault.within(field)))
}

/// Like [`named`], where empty means absent.
fn named_or_none<T: std::str::FromStr<Err = Malformed>>(field: &str, text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() { Ok(None) } else { named(field, text).map(Some) }
}

/// A consent of the ledger on the wire, as it is at `now`.
fn wire_found(found: &LedgerConsent, now: Timestamp) -> v1::Consent {
    let consent = unefois_proto::consent::wire_consent(&found.consent, found.log_index, now);
    v1::Consent { mandate_lost: found.has_lost_its_mandate(now), ..consent }
}

/// The size of a page: 0 asks for the largest.
fn page_size(asked: u32) -> usize {
    match asked {
        0 => MAX_PAGE,
        size => usize::try_from(size).unwrap_or(MAX_PAGE),
    }
}

/// The engine that all services share.
pub(crate) type SharedEngine = Arc<Engine>;
