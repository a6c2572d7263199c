use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

fn parse(value: Value) -> Result<ConnectorConfig, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn with(base: &Value, key: &str, value: Value) -> Value {
    let mut config = base.clone();
    config[key] = value;
    config
}

fn api() -> Value {
    json!({"type": "api-particulier", "base_url": "https://particulier.api.gouv.fr", "token_file": "token"})
}

fn file() -> Value {
    json!({"type": "file", "path": "data.csv", "format": "csv", "dataset": "mairie.cantine"})
}

#[test]
fn limits_have_defaults_and_the_configurations_words() {
    assert_eq!(parse(api()).unwrap().limits(), Limits::default());
    let limits = json!({"timeout_ms": 250, "max_concurrent": 3, "max_answer_bytes": 2048});
    let expected =
        Limits { timeout: Duration::from_millis(250), max_concurrent: 3, max_answer_bytes: 2048, ..Limits::default() };
    for base in [api(), file()] {
        assert_eq!(parse(with(&base, "limits", limits.clone())).unwrap().limits(), expected);
    }
    let one = parse(with(&file(), "limits", json!({"timeout_ms": 250}))).unwrap().limits();
    assert_eq!(one, Limits { timeout: Duration::from_millis(250), ..Limits::default() });
}

#[test]
fn unknown_keys_types_and_formats_are_refused() {
    for (config, named) in [
        (with(&api(), "tokenfile", json!("x")), "tokenfile"),
        (with(&file(), "colonnes", json!(["x"])), "colonnes"),
        (with(&file(), "token_file", json!("x")), "token_file"),
        (with(&api(), "limits", json!({"timeout": 5})), "timeout"),
        (with(&api(), "limits", json!({"timeout_ms": -5})), "-5"),
        (with(&file(), "format", json!("xlsx")), "xlsx"),
        (with(&file(), "type", json!("ldap")), "ldap"),
        (with(&file(), "dataset", json!("cantine")), "dataset"),
        (json!({"base_url": "https://x.example"}), "type"),
    ] {
        let text = parse(config).unwrap_err();
        assert!(text.contains(named), "{named}: {text}");
    }
}

#[test]
fn a_wrong_value_is_refused_by_its_key() {
    for (config, key) in [
        (with(&api(), "limits", json!({"timeout_ms": 0})), "limits.timeout_ms"),
        (with(&api(), "limits", json!({"timeout_ms": 60_001})), "limits.timeout_ms"),
        (with(&file(), "limits", json!({"max_concurrent": 0})), "limits.max_concurrent"),
        (with(&file(), "limits", json!({"max_answer_bytes": 10})), "limits.max_answer_bytes"),
        (with(&file(), "limits", json!({"breaker_pause_ms": 0})), "limits.breaker_pause_ms"),
        (with(&api(), "token_file", Value::Null), "token_file"),
        (with(&api(), "token_env", json!("TOKEN")), "token_file"),
        (with(&file(), "types", json!({"Valeur": "text"})), "types"),
        (with(&file(), "types", json!({"valeur": "list"})), "types"),
        (with(&file(), "columns", json!({"A": "valeur", "B": "valeur"})), "columns"),
        (with(&file(), "types", json!({"a.b": "text"})), "types"),
    ] {
        let error = parse(config).unwrap().validate().unwrap_err();
        assert!(error.to_string().starts_with(&format!("{key}: ")), "{error}");
        assert_eq!(error.code(), "invalid");
    }
    for good in [api(), file()] {
        parse(good).unwrap().validate().unwrap();
    }
}

#[test]
fn http_is_for_the_machine_itself_only() {
    for good in
        ["https://a.example", "http://localhost:8080", "http://127.0.0.1", "http://127.8.9.1:1/x", "http://[::1]:80"]
    {
        assert!(parse(with(&api(), "base_url", json!(good))).unwrap().validate().is_ok(), "{good}");
    }
    for bad in [
        "http://particulier.api.gouv.fr",
        "http://10.0.0.1",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://0.0.0.0",
        "ftp://a.example",
        "file:///etc/passwd",
        "a.example",
        "",
        "https://user:password@a.example",
        "https://a.example?x=1",
        "https://a.example#x",
    ] {
        let error = parse(with(&api(), "base_url", json!(bad))).unwrap().validate().unwrap_err();
        assert!(error.to_string().starts_with("base_url: "), "{bad}: {error}");
        assert!(!error.to_string().contains("password@"));
    }
    let error = parse(with(&api(), "base_url", json!("http://a.example"))).unwrap().validate().unwrap_err();
    assert!(error.to_string().contains("use https"), "{error}");
}

#[test]
fn a_connector_is_built_from_files_beside_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let name: ConnectorName = "cnaf".parse().unwrap();
    for (config, key) in [(api(), "token_file: "), (file(), "path: ")] {
        let error = build(name.clone(), &parse(config).unwrap(), dir.path()).unwrap_err();
        assert!(error.to_string().starts_with(key) && error.to_string().contains(&dir.path().display().to_string()));
        assert_eq!(error.code(), "file");
    }
    std::fs::write(dir.path().join("token"), "x").unwrap();
    std::fs::set_permissions(dir.path().join("token"), Permissions::from_mode(0o600)).unwrap();
    std::fs::write(dir.path().join("data.csv"), "birth_name;given_names;birth_date;sex;birth_country\n").unwrap();
    let api = build(name.clone(), &parse(api()).unwrap(), dir.path()).unwrap();
    assert!(api.name() == &name && api.serves(&"dss.quotient_familial".parse().unwrap()));
    let file = build(name, &parse(file()).unwrap(), dir.path()).unwrap();
    assert!(file.serves(&"mairie.cantine".parse().unwrap()));
}

#[test]
fn the_sample_of_the_documentation_is_a_right_configuration() {
    #[derive(Deserialize)]
    struct Sample {
        connectors: std::collections::BTreeMap<ConnectorName, ConnectorConfig>,
    }
    let lines = include_str!("../config.rs").lines().filter_map(|line| line.strip_prefix("//!"));
    let text: Vec<&str> =
        lines.map(str::trim).skip_while(|l| *l != "```toml").skip(1).take_while(|l| *l != "```").collect();
    let sample: Sample = toml::from_str(&text.join("\n")).unwrap();
    assert_eq!(sample.connectors.len(), 6);
    for config in sample.connectors.values() {
        config.validate().unwrap();
    }
    assert!(matches!(sample.connectors[&"cnaf".parse::<ConnectorName>().unwrap()], ConnectorConfig::ApiParticulier(_)));
}
