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

use unefois::config::{Config, read_registry};

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
        "segment_mb",
        "min_free_mb",
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
