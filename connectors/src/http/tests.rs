use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use unefois_consent::{Outcome, OutcomeCode};

use super::*;
use crate::testing::Asked;
use crate::testing::server::{Reply, Server};

mod answers;
mod credentials;
mod refusals;
mod requests;
mod wire;

const DATASET: &str = "mairie.cantine";

/// The table of one dataset.
fn dataset() -> Value {
    json!({
        "path": "/familles/{birth_name}",
        "query": {"annee": "{filter.annee?}"},
        "attributes": {
            "quotient": {"at": "$.quotient", "type": "integer"},
            "classe": {"at": "$.enfant.classe", "type": "text"},
        },
        "statuses": {"404": "NO_FILE", "409": "AMBIGUOUS", "422": "NOT_IDENTIFIED", "400": "FILTER_REFUSED"},
    })
}

fn with(base: &Value, key: &str, value: Value) -> Value {
    let mut config = base.clone();
    config[key] = value;
    config
}

fn config(base_url: &str, dataset: Value) -> Value {
    json!({"base_url": base_url, "datasets": {DATASET: dataset}})
}

fn parse(config: Value) -> HttpConfig {
    serde_json::from_value(config).unwrap()
}

fn open(base_url: &str, dataset: Value) -> HttpConnector {
    HttpConnector::open(&parse(config(base_url, dataset)), Path::new(".")).unwrap()
}

fn asked() -> Asked {
    Asked::new(DATASET, &["quotient", "classe"])
}

fn body() -> Value {
    json!({"quotient": 700, "enfant": {"classe": "CM2"}, "secret": "not asked"})
}

/// What a connector for `dataset` makes of one reply.
async fn answer_to(reply: Reply, dataset: Value) -> Result<SourceAnswer, SourceFault> {
    let server = Server::start(vec![reply]).await;
    open(&server.url(), dataset).fetch(asked().fetch()).await
}

fn outcomes(answer: &SourceAnswer) -> Vec<Outcome> {
    answer.outcomes.iter().map(|(_, outcome)| outcome.clone()).collect()
}

fn codes(answer: &SourceAnswer) -> Vec<OutcomeCode> {
    answer.outcomes.iter().map(|(_, outcome)| outcome.code()).collect()
}

/// A file with a secret, as an operator should put it there.
fn secret(dir: &Path, name: &str, content: &str) {
    let new = dir.join("new");
    std::fs::write(&new, content).unwrap();
    std::fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(new, dir.join(name)).unwrap();
}
