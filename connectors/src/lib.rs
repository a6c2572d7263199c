//! Connectors to the sources of Unefois and the guard around them.
//!
//! A [`Connector`] answers a [`Fetch`] about one dataset. It never runs bare: the engine asks a [`Guarded`] connector,
//! which keeps the deadline, bounds what runs at once and checks that the answer matches the question. Deliberately
//! absent: any decision on whether the question may be asked; that is what the `&Permit` in a fetch stands for.
//!
//! | module | what |
//! |---|---|
//! | [`connector`] | the contract of a connector |
//! | [`guard`] | what the engine asks: a connector with its limits |
//! | [`api_particulier`] | API Particulier, one table row for each dataset |
//! | [`broker`] | another broker, whose receipts are checked and kept |
//! | [`files`] | the operator's files: who may read and write them, and whether they changed |
//! | [`file`](mod@file) | a town hall's own declarations in a CSV or JSON Lines file |
//! | [`http`](mod@http) | any REST source that answers JSON, described in the configuration |
//! | [`plugin`] | a connector outside the broker, in any language, over gRPC |
//! | [`sql`] | a read-only query on PostgreSQL, MariaDB, MySQL or SQLite |
//! | [`config`] | the operator's words for all this |

pub mod api_particulier;
pub mod broker;
pub mod config;
pub mod connector;
pub mod file;
pub mod files;
mod flight;
mod grpc;
pub mod guard;
pub mod http;
pub mod http_client;
mod part;
pub mod plugin;
mod reloaded;
mod secret;
pub mod sql;
mod value_type;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod testing;

pub use config::{ConnectorConfig, ConnectorConfigError, build};
pub use connector::{AccessToken, BoxFuture, Connector, Fetch, Sharing, SourceAnswer, SourceFault, Step, Trial};
pub use guard::{Guarded, Limits};
pub use value_type::ValueType;
