//! Connectors to the sources of Unefois and the guard around them.
//!
//! A [`Connector`] answers a [`Fetch`] about one dataset. It never runs bare: the engine asks a [`Guarded`] connector,
//! which keeps the deadline, bounds what runs at once and checks that the answer matches the question. Deliberately
//! absent: any decision on whether the question may be asked; that is what the `&Permit` in a fetch stands for.

pub mod connector;

pub use connector::{AccessToken, BoxFuture, Connector, Fetch, SourceAnswer, SourceFault};
