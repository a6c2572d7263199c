use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use unefois_consent::{Outcome, OutcomeCode};

use super::*;
use crate::testing::Asked;

mod engines;
mod mariadb;
mod postgres;
pub(crate) mod servers;
mod sqlite;
mod statements;

const DATASET: &str = "mairie.cantine";

/// How a database is reached, as keys of a configuration, and the query of all tests in its words.
pub(crate) struct Reached {
    pub(crate) connection: Value,
    pub(crate) query: &'static str,
    pub(crate) folder: tempfile::TempDir,
}

impl Reached {
    /// A configuration with this query and these attributes, each a column of its own name.
    fn config(&self, query: &str, attributes: &[(&str, &str)]) -> SqlConfig {
        let mut config = self.connection.clone();
        let attribute = |(name, kind): &(&str, &str)| ((*name).to_owned(), json!({"column": name, "type": kind}));
        let attributes: serde_json::Map<_, _> = attributes.iter().map(attribute).collect();
        config["datasets"] = json!({DATASET: {"query": query, "attributes": attributes}});
        serde_json::from_value(config).unwrap()
    }

    /// The connector of the contract's tests, for `quotient` and `classe`.
    pub(crate) fn connector(&self) -> SqlConnector {
        self.open(self.query, &[("quotient", "integer"), ("classe", "text")])
    }

    fn open(&self, query: &str, attributes: &[(&str, &str)]) -> SqlConnector {
        SqlConnector::open(&self.config(query, attributes), self.folder.path()).unwrap()
    }

    /// The same, with another key of the connection.
    fn open_with(&self, key: &str, value: Value, query: &str) -> SqlConnector {
        let mut connection = self.connection.clone();
        connection[key] = value;
        connection["datasets"] =
            json!({DATASET: {"query": query, "attributes": {"quotient": {"column": "quotient", "type": "integer"}}}});
        SqlConnector::open(&serde_json::from_value(connection).unwrap(), self.folder.path()).unwrap()
    }
}

fn asked() -> Asked {
    Asked::new(DATASET, &["quotient", "classe"])
}

fn codes(answer: &SourceAnswer) -> Vec<OutcomeCode> {
    answer.outcomes.iter().map(|(_, outcome)| outcome.code()).collect()
}

fn values(answer: &SourceAnswer) -> Vec<Value> {
    let value = |(_, outcome): &(_, Outcome)| match outcome {
        Outcome::Found(value) => value.clone(),
        Outcome::Missing(code) => panic!("{code:?}"),
    };
    answer.outcomes.iter().map(value).collect()
}

/// A file with a secret, as an operator should put it there.
fn secret(dir: &Path, name: &str, content: &str) {
    let new = dir.join("new");
    std::fs::write(&new, content).unwrap();
    std::fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(new, dir.join(name)).unwrap();
}
