//! What the audit log and the ledger promise whatever happens: crashes, power cuts, races, edits of the log, replays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod audit_command;
mod calendar;
mod clock;
mod consent_races;
mod crash;
mod crash_matrix;
mod engine_ends;
mod golden_data;
mod head_file;
mod ledger_model;
mod mirror;
mod outside_verifiers;
mod outside_witnesses;
mod planned;
mod power_cut;
mod public_log;
mod purge;
mod purge_crash;
mod refused_start;
mod replay;
mod replay_forged;
mod replay_ledger;
mod replay_scratch;
mod shards;
mod shards_crash;
mod submitters;
mod tiles;
mod vanished_files;
mod witness;
mod witness_protocol;
