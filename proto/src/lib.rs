//! gRPC contract of Unefois and its conversion to domain types.
//!
//! Conversion is the only validation of fields: what comes out of it is of the right form, what does not go in names the
//! field and the rule and never repeats what the field held.

pub mod common;
pub mod connector;
pub mod consent;
pub mod exchange;
pub mod fields;
mod redact;
pub mod registry;
#[cfg(test)]
mod testing;
pub mod value;

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "generated code"
)]
mod generated {
    /// Generated from `unefois/v1/*.proto`.
    pub mod v1 {
        tonic::include_proto!("unefois.v1");
    }

    pub mod connector {
        /// Generated from `unefois/connector/v1/connector.proto`.
        pub mod v1 {
            tonic::include_proto!("unefois.connector.v1");
        }
    }
}

pub use generated::v1;

/// The compiled contract of what a broker serves, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/unefois.v1.bin"));
