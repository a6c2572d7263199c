//! A read-only query on a database of the administration: PostgreSQL, MariaDB or MySQL, SQLite.
//!
//! The operator writes one SELECT for each dataset, with named parameters (`:birth_name`). It is read by a parser when the
//! configuration is checked, what runs is what the parser read, and values are bound, never written into it. It runs in a
//! read-only transaction, or on a file that is opened for reading. No row is `NO_FILE`, two are `AMBIGUOUS` and nothing is
//! picked. Deliberately absent: writes, procedures, and more than one statement.
//!
//! | module | what |
//! |---|---|
//! | `settings` | the operator's words, checked |
//! | `statement` | one SELECT, and its parameters |
//! | `database` | pools of connections, and one question |
//! | `row` | from columns to values |

use std::collections::BTreeMap;
use std::path::Path;

use unefois_consent::registry::Dataset;
use unefois_consent::{DatasetId, Filter, Malformed, Outcome, OutcomeCode};

use crate::config::ConnectorConfigError;
use crate::part::{self, Absent, Part};
use crate::{BoxFuture, Connector, Fetch, Sharing, SourceAnswer, SourceFault};

mod database;
mod row;
mod settings;
mod statement;

use database::{Answer, Database, Question};
pub use settings::{Engine, SqlAttribute, SqlConfig, SqlDataset, SqlTls};
use statement::Statement;

/// A connector to a database.
#[derive(Debug)]
pub struct SqlConnector {
    database: Database,
    datasets: BTreeMap<DatasetId, Prepared>,
}

/// One dataset, read and checked.
#[derive(Debug)]
struct Prepared {
    statement: Statement,
    attributes: BTreeMap<String, SqlAttribute>,
    /// Parameters that may be null.
    optional: Vec<String>,
}

impl SqlConnector {
    /// Reads the password and the statements, and asks nothing. Relative paths start at `base_dir`.
    pub fn open(config: &SqlConfig, base_dir: &Path) -> Result<Self, ConnectorConfigError> {
        config.validate()?;
        Ok(Self { database: Database::open(config, base_dir)?, datasets: config.prepare()? })
    }

    async fn answer(&self, fetch: Fetch<'_>) -> Result<SourceAnswer, SourceFault> {
        let id = &fetch.dataset.dataset.id;
        let dataset = self.datasets.get(id).ok_or(SourceFault::Untrusted("the source has no such dataset"))?;
        let columns = dataset.columns(&fetch)?;
        let parameters = match dataset.parameters(&fetch) {
            Ok(parameters) => parameters,
            Err(absent) => return absent.answer(&fetch),
        };
        fetch.asks(|| dataset.shown(&parameters))?;
        let question = Question {
            sql: &dataset.statement.sql,
            parameters: &parameters,
            columns: &columns,
            is_filtered: !fetch.dataset.filter.is_empty(),
            deadline: fetch.deadline,
        };
        match self.database.ask(question).await? {
            Answer::NoRow => {
                fetch.heard(|| "no row".to_owned());
                Ok(SourceAnswer::missing(fetch.dataset, OutcomeCode::NoFile))
            }
            Answer::FilterRefused => {
                fetch.heard(|| "a value that the query cannot take".to_owned());
                Ok(SourceAnswer::missing(fetch.dataset, OutcomeCode::FilterRefused))
            }
            Answer::Several => {
                fetch.heard(|| "several rows".to_owned());
                Ok(SourceAnswer::missing(fetch.dataset, OutcomeCode::Ambiguous))
            }
            Answer::One(values) => {
                fetch.heard(|| "one row".to_owned());
                let attributes = fetch.dataset.attributes.iter().cloned();
                let outcomes = attributes.zip(values.into_iter().map(Outcome::Found)).collect();
                Ok(SourceAnswer::of(outcomes, None))
            }
        }
    }
}

impl Prepared {
    /// The columns of the attributes asked; a fault for what the source does not have, whoever is asked about.
    fn columns(&self, fetch: &Fetch<'_>) -> Result<Vec<&SqlAttribute>, SourceFault> {
        if fetch.dataset.filter.keys().any(|name| !self.has_filter(name)) {
            return Err(SourceFault::Untrusted("the source has no such filter"));
        }
        let attributes = fetch.dataset.attributes.iter().map(|attribute| self.attributes.get(attribute.name()));
        attributes.map(|known| known.ok_or(SourceFault::Untrusted("the source has no such attribute"))).collect()
    }

    fn has_filter(&self, name: &str) -> bool {
        self.statement.parameters.iter().any(|(_, part)| *part == Part::Filter(name.to_owned()))
    }

    fn needed_filters(&self) -> impl Iterator<Item = &str> {
        self.statement.parameters.iter().filter_map(|(parameter, part)| {
            let Part::Filter(name) = part else { return None };
            (!self.optional.contains(parameter)).then_some(name.as_str())
        })
    }

    /// The values to bind, in the order of the statement. None is null.
    fn parameters(&self, fetch: &Fetch<'_>) -> Result<Vec<Option<String>>, Absent> {
        let value = |(name, part): &(String, Part)| match part.value(fetch) {
            Ok(value) => Ok(Some(value)),
            Err(Absent::Identity | Absent::Filter) if self.optional.contains(name) => Ok(None),
            Err(absent) => Err(absent),
        };
        self.statement.parameters.iter().map(value).collect()
    }

    /// For the operator who tries the connector.
    fn shown(&self, parameters: &[Option<String>]) -> String {
        let mut text = self.statement.sql.clone();
        for ((name, _), value) in self.statement.parameters.iter().zip(parameters) {
            text.push_str(&match value {
                Some(value) => format!("\n:{name} = {value:?}"),
                None => format!("\n:{name} is null"),
            });
        }
        text
    }
}

impl Connector for SqlConnector {
    fn serves(&self, dataset: &DatasetId) -> bool {
        self.datasets.contains_key(dataset)
    }

    fn sharing(&self, fetch: &Fetch<'_>) -> Sharing {
        let prepared = self.datasets.get(&fetch.dataset.dataset.id);
        let names_exchange =
            |prepared: &Prepared| prepared.statement.parameters.iter().any(|(_, part)| *part == Part::Exchange);
        if prepared.is_some_and(|prepared| !names_exchange(prepared)) { Sharing::Joined } else { Sharing::Never }
    }

    /// What runs only reads.
    fn may_ask_again(&self, _: &DatasetId) -> bool {
        true
    }

    fn lacks(&self, dataset: &Dataset) -> Option<String> {
        let prepared = self.datasets.get(&dataset.id)?;
        let attribute = dataset.attributes.iter().find(|a| !prepared.attributes.contains_key(&a.name));
        let filter = dataset.filters.iter().find(|name| !prepared.has_filter(name));
        let needed = prepared.needed_filters().find(|name| !dataset.filters.iter().any(|known| known == name));
        let attribute = attribute.map(|attribute| format!("attribute {}", attribute.name));
        let filter = filter.map(|name| format!("filter {name}"));
        attribute.or(filter).or(needed.map(|name| format!("question without the filter {name}")))
    }

    fn check(&self, dataset: &Dataset, filter: &Filter, _: bool) -> Result<(), Malformed> {
        let Some(prepared) = self.datasets.get(&dataset.id) else { return Ok(()) };
        let refuse = |name: &str, rule| Err(Malformed::new(name, rule).within(dataset.id.as_str()).within("filters"));
        for (parameter, part) in &prepared.statement.parameters {
            let Part::Filter(name) = part else { continue };
            match filter.get(name) {
                None if !prepared.optional.contains(parameter) => {
                    return refuse(name, "is needed: no question about this dataset goes without it");
                }
                Some(value) if !part::is_sendable(value) => {
                    return refuse(name, "1 to 256 characters, no control characters");
                }
                None | Some(_) => {}
            }
        }
        Ok(())
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<SourceAnswer, SourceFault>> {
        Box::pin(self.answer(fetch))
    }
}

#[cfg(test)]
pub(crate) mod tests;
