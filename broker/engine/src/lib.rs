//! Sequencer, exchange pipeline and replay of Unefois.
//!
//! One thread decides in the order of the log, one makes batches durable, one keeps the fold. [`Engine`] is the way in.
//! Deliberately absent: wire formats, TLS and configuration (the server), and how data is kept (the store).

#[cfg(feature = "bench")]
pub mod bench;
mod by_time;
pub mod caller;
pub mod clock;
mod clock_guard;
pub mod committer;
pub mod consents;
pub mod engine;
pub mod error;
pub mod exchange;
pub mod halt;
mod head;
pub mod leaves;
mod open;
mod published;
pub mod purge;
pub mod registry;
pub mod replay;
mod rows;
pub mod seal;
pub mod sequencer;
mod shard;
pub mod signer;
mod state;
pub mod store;
mod subject;
#[cfg(test)]
mod testing;
pub mod traces;
mod watch;
mod witnessed;

pub use caller::{Credential, VerifiedParticipant};
pub use clock::{Clock, ManualClock, SystemClock};
pub use clock_guard::{CLOCK_BOUND, ClockFault, MAY_PASS};
pub use committer::SignedHead;
pub use engine::{Engine, EngineParts};
pub use error::{EngineError, LoggedRefusal};
pub use exchange::{ExchangeAnswer, ExchangeCall};
pub use shard::{ClosedShard, Shard, Shards, key_of_last};
pub use signer::{Ed25519Signer, Signer};
