//! What administrations, citizens and operators see of a broker: its RPCs, its command line, its sources.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod bad_input;
mod chaos;
mod citizen;
mod command_line;
mod connector_commands;
mod consent_ledger;
mod deploy;
mod exchange;
mod faults;
mod federation;
mod ledger_views;
mod mandates;
mod me_commands;
mod own_choice;
mod plugin;
mod privacy;
mod reasons;
mod webhook;
mod who_is_who;
