//! The samples in deploy/ are what the code reads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

use unefois::config::{Config, read_policy, read_registry};
use unefois::witness::config::WitnessConfig;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

#[test]
fn the_sample_configuration_and_registry_are_read_by_the_broker() {
    let config = Config::read(&deploy("unefois.toml")).unwrap();
    let registry = read_registry(&deploy("registry.toml")).unwrap();
    for dataset in &registry.datasets {
        assert!(config.connectors.contains_key(&dataset.connector), "dataset {} has no connector", dataset.id);
    }
}

#[test]
fn the_sample_policy_and_witness_are_read_and_are_of_one_log() {
    let policy = read_policy(&deploy("policy")).unwrap();
    let config = Config::read(&deploy("unefois.toml")).unwrap();
    let log = &policy.logs()[0].key;
    assert_eq!(log.name(), config.log.origin);
    assert!(policy.is_met(|place| place != 0) && !policy.is_met(|place| place == 1), "two of three");
    let witness = WitnessConfig::read(&deploy("witness.toml")).unwrap();
    assert_eq!(witness.log[0].key, log.to_string());
    assert!(policy.witnesses().iter().any(|known| known.key.name() == witness.name));
}

#[test]
fn the_sample_configuration_shows_every_key_with_its_default() {
    // A key that is taken out falls back to its default, so taking out the lines that say so changes nothing.
    let text = std::fs::read_to_string(deploy("unefois.toml")).unwrap();
    let sample: Config = toml::from_str(&text).unwrap();
    let optional = [
        "max_connections",
        "max_connections_per_key",
        "max_streams_per_connection",
        "max_deadline_ms",
        "shutdown_ms",
        "reload_ms",
        "late_quorum",
        "late_quorum_after_s",
        "cosign_every_ms",
        "segment_mb",
        "min_free_mb",
        "fold",
        "fold_cache_mb",
    ];
    let without: String = text
        .lines()
        .filter(|line| !optional.iter().any(|key| line.trim_start().starts_with(&format!("{key} ="))))
        .map(|line| format!("{line}\n"))
        .collect();
    for key in optional {
        assert!(text.lines().any(|line| line.starts_with(&format!("{key} ="))), "{key} is not in the sample");
    }
    let defaults: Config = toml::from_str(&without).unwrap();
    assert_eq!(format!("{sample:?}"), format!("{defaults:?}"));
}
