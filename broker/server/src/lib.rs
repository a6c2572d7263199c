//! The broker as a library, for its binary and for tests: TLS, gRPC, HTTP, configuration, wiring, and the command line.

pub mod config;
pub mod http;
pub mod rpc;
pub mod serve;
pub mod tls;
