use std::path::Path;

use serde_json::{Value, json};
use unefois_consent::identity::{CogCode, Sex};
use unefois_consent::{Outcome, OutcomeCode};

use super::*;
use crate::testing::server::{Reply, Server};
use crate::testing::{Asked, EXCHANGE, RECIPIENT, identity};

mod answers;
mod budget;
mod cases;
mod datasets;
mod flights;
mod folder;
mod persons;
mod questions;
mod tls;
mod tokens;
mod wire;

const DATASET: &str = "dss.quotient_familial";
const ALL: [&str; 9] =
    ["valeur", "fournisseur", "annee", "mois", "annee_calcul", "mois_calcul", "allocataires", "enfants", "adresse"];

/// An environment variable that every test process of cargo has, and that has the form of a token.
const TOKEN_ENV: &str = "CARGO_PKG_NAME";
const TOKEN: &str = env!("CARGO_PKG_NAME");

fn config(base_url: &str) -> ApiParticulierConfig {
    ApiParticulierConfig {
        base_url: base_url.to_owned(),
        token_file: None,
        token_env: Some(TOKEN_ENV.to_owned()),
        token_dir: None,
        rates: Rates::default(),
        ca_file: None,
        limits: Limits::default(),
    }
}

pub(crate) fn connector(base_url: &str) -> ApiParticulier {
    ApiParticulier::open(&config(base_url), Path::new(".")).unwrap()
}

fn asked(attributes: &[&str]) -> Asked {
    Asked::new(DATASET, attributes)
}

/// A body as production sends it.
pub(crate) fn body() -> Value {
    json!({
        "data": {
            "quotient_familial": {"fournisseur": "CNAF", "valeur": 0, "annee": 2026, "mois": 4,
                "annee_calcul": 2026, "mois_calcul": 4},
            "allocataires": [{"nom_naissance": "LEFEVRE"}],
            "enfants": [],
            "adresse": {"pays": "FRANCE"},
        },
        "links": {},
        "meta": {},
    })
}

/// What the connector makes of one reply to a question for `attributes`.
async fn answer_to(reply: Reply, attributes: &[&str]) -> Result<SourceAnswer, SourceFault> {
    let server = Server::start(vec![reply]).await;
    connector(&server.url()).fetch(asked(attributes).fetch()).await
}

fn codes(answer: &SourceAnswer) -> Vec<OutcomeCode> {
    answer.outcomes.iter().map(|(_, outcome)| outcome.code()).collect()
}
