//! What check-config refuses, by its key.

use super::*;

fn refused(config: Value) -> String {
    match serde_json::from_value::<HttpConfig>(config) {
        Ok(config) => config.validate().unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_wrong_key_of_a_dataset_is_named_with_what_is_wrong() {
    for (key, value, expected, what) in [
        ("path", json!("familles"), "path: ", "begin with /"),
        ("path", json!("/a/../b"), "path: ", "dots"),
        ("path", json!("/a?x=1"), "path: ", "query"),
        ("path", json!("/a%2e"), "path: ", "placeholders"),
        ("path", json!("/{birthname}"), "path: ", "unknown placeholder {birthname}"),
        ("path", json!("/{usage_name?}"), "path: ", "{usage_name?} must be the whole value"),
        ("path", json!("/{birth_name"), "path: ", "brace"),
        ("path", json!("/birth_name}"), "path: ", "brace"),
        ("query", json!({"nom": "{name}"}), "query.nom: ", "unknown placeholder {name}"),
        ("query", json!({"nom": "x{given_names[]}"}), "query.nom: ", "whole value"),
        ("query", json!({"nom": "{filter.}"}), "query.nom: ", "unknown placeholder"),
        ("headers", json!({"Authorization": "x"}), "headers.Authorization: ", "auth"),
        ("headers", json!({"Host": "x"}), "headers.Host: ", "connector"),
        ("headers", json!({"a b": "x"}), "headers.a b: ", "header"),
        ("headers", json!({"X-A": "a\r\nb"}), "headers.X-A: ", "ASCII"),
        ("headers", json!({"X-A": "{given_names[]}"}), "headers.X-A: ", "list"),
        ("body", json!({"a": 1}), "body: ", "POST"),
        ("records", json!("dossiers"), "records: ", "JSONPath"),
        ("error_code", json!("$["), "error_code: ", "JSONPath"),
        ("errors", json!({"E1": "NO_FILE"}), "errors: ", "error_code"),
        ("statuses", json!({"302": "NO_FILE"}), "statuses.302: ", "status"),
        ("statuses", json!({"abc": "NO_FILE"}), "statuses.abc: ", "status"),
        ("statuses", json!({"404": "WITHHELD"}), "statuses.404: ", "withholds"),
        ("attributes", json!({}), "attributes: ", "at least one"),
        ("attributes", json!({"A": {"at": "$.a", "type": "text"}}), "attributes.A: ", "name"),
        ("attributes", json!({"a": {"at": "$..[", "type": "text"}}), "attributes.a.at: ", "JSONPath"),
        (
            "attributes",
            json!({"a": {"at": "$.a", "type": "text", "absent": "FOUND"}}),
            "attributes.a.absent: ",
            "NO_FILE",
        ),
    ] {
        let text = refused(config("https://source.example", with(&dataset(), key, value)));
        assert!(text.starts_with(&format!("datasets.\"{DATASET}\".{expected}")) && text.contains(what), "{text}");
    }
    let mut post = with(&dataset(), "method", json!("POST"));
    post["body"] = json!({"a": [{"b": "{nom}"}]});
    let text = refused(config("https://source.example", post));
    assert!(text.contains("body: unknown placeholder {nom}"), "{text}");
}

#[test]
fn a_wrong_key_of_the_connector_is_named() {
    let base = config("https://source.example", dataset());
    for (config, key) in [
        (config("http://source.example", dataset()), "base_url: "),
        (config("https://user:pass@source.example", dataset()), "base_url: "),
        (config("https://source.example/?a=1", dataset()), "base_url: "),
        (with(&base, "datasets", json!({})), "datasets: "),
        (with(&config("http://localhost", dataset()), "client_identity_file", json!("x")), "client_identity_file: "),
        (with(&base, "auth", json!({"type": "api-key", "header": "a b", "key_file": "x"})), "auth.header: "),
        (with(&base, "auth", json!({"type": "basic", "user": "a:b", "password_file": "x"})), "auth.user: "),
        (
            with(
                &base,
                "auth",
                json!({"type": "oauth2", "token_url": "http://x.example", "client_id": "a",
                "client_secret_file": "x"}),
            ),
            "auth.token_url: ",
        ),
        (
            with(
                &base,
                "auth",
                json!({"type": "oauth2", "token_url": "https://x.example", "client_id": "",
                "client_secret_file": "x"}),
            ),
            "auth.client_id: ",
        ),
    ] {
        let text = refused(config);
        assert!(text.starts_with(key), "{key}: {text}");
    }
    for (key, value) in [
        ("pages", json!(3)),
        ("auth", json!({"type": "bearer", "token": "in clear"})),
        ("auth", json!({"type": "digest"})),
        ("datasets", json!({DATASET: with(&dataset(), "method", json!("DELETE"))})),
        ("datasets", json!({DATASET: with(&dataset(), "page", json!(1))})),
    ] {
        assert!(serde_json::from_value::<HttpConfig>(with(&base, key, value)).is_err(), "{key}");
    }
}

#[test]
fn a_registry_that_names_what_the_source_lacks_is_noticed() {
    let connector = open("https://source.example", dataset());
    let known = crate::testing::dataset_of(DATASET, &["quotient"]);
    assert_eq!(connector.lacks(&known), None);
    let unknown = crate::testing::dataset_of(DATASET, &["quotient", "adresse"]);
    assert_eq!(connector.lacks(&unknown).unwrap(), "attribute adresse");
    let asked = Asked::filtered(DATASET, &["quotient"], &[("mois", "1")]);
    assert_eq!(connector.lacks(&asked.dataset().dataset).unwrap(), "filter mois");
    let needs = open("https://source.example", with(&dataset(), "path", json!("/{filter.annee}")));
    assert_eq!(needs.lacks(&known).unwrap(), "question without the filter annee");
}
