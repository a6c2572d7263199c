//! The samples in deploy/ are what the code reads.

use std::path::{Path, PathBuf};

use unefois::cli::registry_of;
use unefois::config::{Config, read_policy, read_registry};
use unefois::witness::config::WitnessConfig;
use unefois_connectors::api_particulier::table::{self, DatasetRow, Modality, Shape};
use unefois_consent::registry::RegistryFile;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// The sample registry, with fingerprints in the place of those that only hold it.
fn sample_registry() -> RegistryFile {
    let refused = read_registry(&deploy("registry.toml")).unwrap_err();
    assert!(refused.contains("is a placeholder"), "{refused}");
    let text =
        std::fs::read_to_string(deploy("registry.toml")).unwrap().replace(&"0".repeat(63), &"ab".repeat(32)[1..]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.toml");
    std::fs::write(&path, text).unwrap();
    read_registry(&path).unwrap()
}

#[test]
fn the_sample_configuration_and_registry_are_read_by_the_broker_once_they_have_fingerprints() {
    let config = Config::read(&deploy("unefois.toml")).unwrap();
    let registry = sample_registry();
    for dataset in &registry.datasets {
        assert!(config.connectors.contains_key(&dataset.connector), "dataset {} has no connector", dataset.id);
    }
}

#[test]
fn the_examples_of_connectors_in_the_sample_configuration_are_read_by_the_broker() {
    let text = std::fs::read_to_string(deploy("unefois.toml")).unwrap();
    let (head, rest) = text.split_once("#[connectors.crous]").unwrap();
    let (examples, tail) = rest.split_once("# One table for each address").unwrap();
    // What has no space after its hash is an example.
    let example = |line| str::strip_prefix(line, "#").filter(|line| !line.starts_with(' ')).unwrap_or(line);
    let examples: Vec<_> = examples.lines().map(example).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unefois.toml");
    std::fs::write(&path, format!("{head}[connectors.crous]{}\n# {tail}", examples.join("\n"))).unwrap();
    let config = Config::read(&path).unwrap();
    let types: Vec<_> = config.connectors.values().map(|connector| connector.type_name()).collect();
    assert_eq!(types, ["api-particulier", "sql", "http", "broker", "file", "plugin"]);
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
        "fold_memory_mb",
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

/// Whether `path` holds `expected`; with `UNEFOIS_WRITE` set it is written so.
fn holds(path: &Path, expected: &str) {
    if std::env::var_os("UNEFOIS_WRITE").is_some() {
        std::fs::write(path, expected).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let differs = text.lines().zip(expected.lines()).find(|(is, must)| is != must);
    assert!(text == expected, "{}: set UNEFOIS_WRITE=1 and look at the difference: {differs:?}", path.display());
}

#[test]
fn the_sample_registry_of_api_particulier_has_all_of_its_datasets() {
    let path = deploy("registry-api-particulier.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let head: String = text.lines().take_while(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let datasets = registry_of(unefois::init::DINUM.parse().unwrap(), "api-particulier");
    holds(&path, &format!("{head}\n{}\n", datasets.trim_end()));

    // It keeps the registry's rules beside the sample's participants, and the sample's connector has all that it names.
    let mut registry = sample_registry();
    let file: RegistryFile = toml::from_str(&datasets).unwrap();
    registry.datasets.retain(|known| file.datasets.iter().all(|d| d.id != known.id));
    registry.datasets.extend(file.datasets.clone());
    unefois_consent::Registry::from_file(registry).unwrap();
    assert_eq!(file.datasets.len(), table::datasets().count());
}

#[test]
fn the_page_of_connectors_tells_every_dataset_as_the_connector_has_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/connectors.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("<!-- datasets: begin -->\n").unwrap();
    let (_, tail) = rest.split_once("<!-- datasets: end -->\n").unwrap();
    let datasets: String = table::datasets().map(section).collect();
    holds(&path, &format!("{head}<!-- datasets: begin -->\n{datasets}<!-- datasets: end -->\n{tail}"));
}

/// One dataset, as the page tells it.
fn section(row: &DatasetRow) -> String {
    let routes: Vec<_> = row
        .routes
        .iter()
        .map(|route| match route.modality {
            Modality::Identity(_) => "identity".to_owned(),
            Modality::FranceConnect => "FranceConnect token".to_owned(),
            Modality::Number(filter) => format!("`{filter}`"),
        })
        .collect();
    let mut text = format!("\n### {}: `{}`, v{}\n\n", row.title, row.dataset, row.version);
    text.push_str(&format!("Asked by {}.\n\n", routes.join(", ")));
    for filter in row.filters {
        let mark = if filter.is_needed { "**" } else { "" };
        text.push_str(&format!("- filter {mark}`{}`{mark}: {}\n", filter.name, filter.form.rule()));
    }
    if let [_, ..] = row.one_of {
        let names: Vec<_> = row.one_of.iter().map(|name| format!("`{name}`")).collect();
        text.push_str(&format!("- exactly one of {}\n", names.join(", ")));
    }
    if !row.filters.is_empty() {
        text.push('\n');
    }
    text.push_str("| attribute | scope | type | what, in French |\n|---|---|---|---|\n");
    for attribute in row.attributes {
        let shape = shape(attribute.shape);
        text.push_str(&format!("| `{}` | `{}` | {shape} | {} |\n", attribute.name, attribute.scope, attribute.title));
    }
    text
}

fn shape(shape: Shape) -> String {
    match shape {
        Shape::Integer => "integer".to_owned(),
        Shape::Number => "number".to_owned(),
        Shape::Text => "text".to_owned(),
        Shape::Flag => "true or false".to_owned(),
        Shape::List(of) => format!("list of {}", self::shape(*of)),
        Shape::Object(_) => "object".to_owned(),
    }
}
