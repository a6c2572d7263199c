//! The broker as a library, for its binary and for tests: TLS, gRPC, HTTP, configuration, wiring, and the command line.

pub mod assertion;
pub mod cli;
pub mod client;
pub mod config;
mod cosigning;
pub mod demo;
mod durable;
pub mod export;
pub mod http;
pub mod init;
pub mod mirror;
pub mod pki;
pub mod rpc;
pub mod serve;
mod text;
pub mod tls;
pub mod webhook;
pub mod witness;
