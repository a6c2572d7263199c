//! What every connector promises, as one suite that each of them runs.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use futures_util::future::{join_all, poll_immediate};
use unefois_consent::OutcomeCode;

use crate::Connector;
use crate::api_particulier::{ApiParticulier, ApiParticulierConfig};
use crate::file::{FileConfig, FileConnector};
use crate::http::{HttpConfig, HttpConnector};
use crate::plugin::tests::scripted::Scripted;
use crate::plugin::{PluginConfig, PluginConnector};
use crate::sql::tests::servers::{MariaDb, Postgres, sqlite};
use crate::testing::server::{Reply, Server};
use crate::testing::{Asked, identity};

/// A connector and two attributes that it knows of the person of all tests.
struct Subject<'a> {
    connector: &'a dyn Connector,
    dataset: &'a str,
    attributes: [&'a str; 2],
}

async fn keeps_the_contract(subject: Subject<'_>) {
    it_serves_its_dataset_and_no_other(&subject);
    each_attribute_is_answered_once_in_the_order_asked(&subject).await;
    an_unknown_attribute_or_dataset_is_a_fault(&subject).await;
    a_dropped_fetch_leaves_the_connector_usable(&subject).await;
    many_fetches_run_at_once(&subject).await;
}

fn it_serves_its_dataset_and_no_other(subject: &Subject<'_>) {
    assert!(subject.connector.serves(&subject.dataset.parse().unwrap()));
    assert!(!subject.connector.serves(&"no.such_dataset".parse().unwrap()));
}

async fn each_attribute_is_answered_once_in_the_order_asked(subject: &Subject<'_>) {
    let [a, b] = subject.attributes;
    for attributes in [vec![a], vec![b], vec![a, b], vec![b, a]] {
        let asked = Asked::new(subject.dataset, &attributes);
        let answer = subject.connector.fetch(asked.fetch()).await.unwrap();
        let answered: Vec<_> = answer.outcomes.iter().map(|(attribute, _)| attribute.name()).collect();
        assert_eq!(answered, attributes);
        assert!(answer.outcomes.iter().all(|(_, o)| o.code() == OutcomeCode::Found));
    }
}

async fn an_unknown_attribute_or_dataset_is_a_fault(subject: &Subject<'_>) {
    let [a, b] = subject.attributes;
    for asked in [
        Asked::new(subject.dataset, &["no_such_attribute"]),
        Asked::new(subject.dataset, &[a, "no_such_attribute", b]),
        Asked::new("no.such_dataset", &[a]),
        Asked::filtered(subject.dataset, &[a], &[("no_such_filter", "1")]),
    ] {
        subject.connector.fetch(asked.fetch()).await.unwrap_err();
        // Whether the person is known to the source does not show.
        let stranger = asked.about(identity("Inconnue", &["Personne"], ""));
        subject.connector.fetch(stranger.fetch()).await.unwrap_err();
    }
}

async fn a_dropped_fetch_leaves_the_connector_usable(subject: &Subject<'_>) {
    let asked = Asked::new(subject.dataset, &subject.attributes);
    for polls in 0..4 {
        let mut fetch = subject.connector.fetch(asked.fetch());
        for _ in 0..polls {
            if poll_immediate(&mut fetch).await.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(fetch);
    }
    assert!(subject.connector.fetch(asked.fetch()).await.is_ok());
}

async fn many_fetches_run_at_once(subject: &Subject<'_>) {
    let asked = Asked::new(subject.dataset, &subject.attributes);
    let answers = join_all((0..32).map(|_| subject.connector.fetch(asked.fetch()))).await;
    assert!(answers.iter().all(Result::is_ok));
}

#[tokio::test]
async fn api_particulier_keeps_the_contract() {
    let body = serde_json::json!({"data": {"quotient_familial": {"valeur": 0, "annee": 2026}}});
    let server = Server::start(vec![Reply::json(200, &body)]).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "the-token").unwrap();
    std::fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
    let config: ApiParticulierConfig =
        serde_json::from_value(serde_json::json!({"base_url": server.url(), "token_file": "token"})).unwrap();
    let connector = ApiParticulier::open(&config, dir.path()).unwrap();
    let attributes = ["valeur", "annee"];
    keeps_the_contract(Subject { connector: &connector, dataset: "dss.quotient_familial", attributes }).await;
}

#[tokio::test]
async fn a_rest_source_keeps_the_contract() {
    let server = Server::start(vec![Reply::json(200, &serde_json::json!({"quotient": 700, "classe": "CM2"}))]).await;
    let config: HttpConfig = serde_json::from_value(serde_json::json!({
        "base_url": server.url(),
        "datasets": {"mairie.cantine": {
            "path": "/familles", "query": {"nom": "{birth_name}", "naissance": "{birth_year?}"},
            "attributes": {
                "quotient": {"at": "$.quotient", "type": "integer"},
                "classe": {"at": "$.classe", "type": "text"},
            },
        }},
    }))
    .unwrap();
    let connector = HttpConnector::open(&config, std::path::Path::new(".")).unwrap();
    let attributes = ["quotient", "classe"];
    keeps_the_contract(Subject { connector: &connector, dataset: "mairie.cantine", attributes }).await;
}

#[tokio::test]
async fn a_database_keeps_the_contract() {
    let attributes = ["quotient", "classe"];
    let (postgres, mariadb) = (Postgres::start().await, MariaDb::start().await);
    for reached in [sqlite().await, postgres.reached(), mariadb.reached()] {
        keeps_the_contract(Subject { connector: &reached.connector(), dataset: "mairie.cantine", attributes }).await;
    }
}

#[tokio::test]
async fn another_broker_keeps_the_contract() {
    let (connector, _broker, _folder) = crate::broker::tests::bed().await;
    let attributes = ["montant", "statut"];
    keeps_the_contract(Subject { connector: &connector, dataset: "departement.aides", attributes }).await;
}

#[tokio::test]
async fn a_plugin_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    Scripted::new().serve(&dir.path().join("socket"));
    let config: PluginConfig =
        serde_json::from_value(serde_json::json!({"socket": "socket", "datasets": ["mairie.sport"]})).unwrap();
    let connector = PluginConnector::open(&"sport".parse().unwrap(), &config, dir.path()).unwrap();
    let attributes = ["licence", "club"];
    keeps_the_contract(Subject { connector: &connector, dataset: "mairie.sport", attributes }).await;
}

#[tokio::test]
async fn a_file_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let header = "birth_name;given_names;birth_date;sex;birth_country;birth_commune;quotient;classe";
    let line = "Lefèvre-d'Œuvre;Gérôme Jean-Philippe;1982-12-07;F;99100;08480;700;CM2";
    let jsonl = serde_json::json!({
        "birth_name": "LEFEVRE D OEUVRE", "given_names": ["Gérôme", "Jean-Philippe"], "birth_date": "1982-12-07",
        "sex": "F", "birth_country": "99100", "birth_commune": "08480", "quotient": 700, "classe": "CM2",
    });
    std::fs::write(dir.path().join("data.csv"), format!("{header}\n{line}\n")).unwrap();
    std::fs::write(dir.path().join("data.jsonl"), jsonl.to_string()).unwrap();
    for format in ["csv", "jsonl"] {
        let config: FileConfig = serde_json::from_value(serde_json::json!({
            "path": format!("data.{format}"), "format": format, "dataset": "mairie.cantine", "types": {"quotient": "integer"},
        }))
        .unwrap();
        let connector = FileConnector::open(&config, dir.path()).unwrap();
        let attributes = ["quotient", "classe"];
        keeps_the_contract(Subject { connector: &connector, dataset: "mairie.cantine", attributes }).await;
    }
}
