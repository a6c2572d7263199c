//! A small town hall's own declarations, in a CSV or JSON Lines file.
//!
//! The file is the source: it is held in memory, found by identity, and read again when it changes. A person without
//! a line has no file; a person with two is ambiguous, and nothing is picked. Names are not kept: lines are found by a
//! digest of the normalised identity. Deliberately absent: filters, and any write to the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use unefois_consent::{DatasetId, Outcome, OutcomeCode};

use crate::config::ConnectorConfigError;
use crate::reloaded::Reloaded;
use crate::{BoxFuture, Connector, Fetch, Limits, SourceAnswer, SourceFault, ValueType};

mod cells;
mod csv_lines;
mod encoding;
mod json_lines;
mod person;
mod strict;
mod table;

pub use cells::DateFormat;

use table::{Found, Table};

/// The form of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// CSV with a header line, separated by `;` or `,`.
    Csv,
    /// One JSON object a line, in UTF-8.
    Jsonl,
}

/// How the characters of a CSV file are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Encoding {
    /// `utf-8`, with or without a byte order mark.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// `iso-8859-15`, Latin-9: that of older French applications.
    #[serde(rename = "iso-8859-15")]
    Latin9,
    /// `windows-1252`: what a spreadsheet calls CSV under Windows.
    #[serde(rename = "windows-1252")]
    Windows1252,
}

/// `type = "file"`.
///
/// Columns of the identity: `birth_name`, `given_names` (separated by spaces, in JSON also a list), `birth_date`
/// (`YYYY-MM-DD`, or less of it, or empty), `sex` (`F`, `M` or `X`), `birth_country` (COG) and `birth_commune` (COG; may be
/// empty or absent). Each other column is an attribute of the dataset. An empty cell is null.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The file. Replace it by renaming a whole new one over it: a half-written one is read as it stands.
    pub path: PathBuf,
    /// Its form.
    pub format: FileFormat,
    /// How its characters are written; JSON Lines are in UTF-8.
    #[serde(default)]
    pub encoding: Encoding,
    /// The dataset that it holds.
    pub dataset: DatasetId,
    /// Types of attributes. Those of a CSV file are texts otherwise; those of JSON Lines are of any type.
    #[serde(default)]
    pub types: BTreeMap<String, ValueType>,
    /// What the columns of a CSV file stand for: its own name of a column, then that of the identity or of the attribute. Where it is
    /// given, other columns are not read.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// How a CSV file writes dates.
    #[serde(default)]
    pub date_format: DateFormat,
    /// A comma is the decimal mark of a CSV file; a point where not set.
    #[serde(default)]
    pub decimal_comma: bool,
    /// Limits of the guard.
    #[serde(default)]
    pub limits: Limits,
}

impl FileConfig {
    /// Refuses what can be seen to be wrong without a look at the file.
    pub fn validate(&self) -> Result<(), ConnectorConfigError> {
        if self.format == FileFormat::Jsonl && self.encoding != Encoding::Utf8 {
            return Err(ConnectorConfigError::invalid("encoding", "JSON Lines are in utf-8"));
        }
        for (name, of) in &self.types {
            if name.contains('.') || self.dataset.attribute(name).is_err() {
                return Err(ConnectorConfigError::invalid(
                    "types",
                    "names of attributes, such as valeur = \"integer\"",
                ));
            }
            if self.format == FileFormat::Csv && matches!(of, ValueType::List | ValueType::Object) {
                return Err(ConnectorConfigError::invalid("types", "a CSV file has no lists and no objects"));
            }
        }
        let is_plain = self.columns.is_empty() && self.date_format == DateFormat::Iso && !self.decimal_comma;
        if self.format == FileFormat::Jsonl && !is_plain {
            return Err(ConnectorConfigError::invalid(
                "columns",
                "columns, date_format and decimal_comma are of CSV files",
            ));
        }
        let distinct: BTreeSet<&String> = self.columns.values().collect();
        if distinct.len() < self.columns.len() {
            return Err(ConnectorConfigError::invalid("columns", "two columns of the file stand for the same"));
        }
        Ok(())
    }
}

/// A connector to a file.
#[derive(Debug)]
pub struct FileConnector {
    dataset: DatasetId,
    table: Reloaded<Table>,
}

impl FileConnector {
    /// Reads the whole file; one malformed line refuses it, by its number. Relative paths start at `base_dir`.
    pub fn open(config: &FileConfig, base_dir: &Path) -> Result<Self, ConnectorConfigError> {
        config.validate()?;
        let path = base_dir.join(&config.path);
        let empty = Table::empty(table::Settings {
            format: config.format,
            encoding: config.encoding,
            dataset: config.dataset.clone(),
            types: config.types.clone(),
            columns: config.columns.clone(),
            date_format: config.date_format,
            decimal_comma: config.decimal_comma,
        });
        let table = Reloaded::open(&path, &empty, |path, before| Table::read(path, before.settings()))
            .map_err(|problem| ConnectorConfigError::file("path", &path, problem))?;
        Ok(Self { dataset: config.dataset.clone(), table })
    }

    async fn answer(&self, fetch: Fetch<'_>) -> Result<SourceAnswer, SourceFault> {
        if fetch.dataset.dataset.id != self.dataset {
            return Err(SourceFault::Untrusted("the file holds another dataset"));
        }
        if !fetch.dataset.filter.is_empty() {
            return Err(SourceFault::Untrusted("a file takes no filter"));
        }
        let table = self.table.get().await;
        // Unknown attributes are a fault for everyone, so that it does not show who has a line.
        let columns = fetch.dataset.attributes.iter().map(|attribute| {
            let column = table.column(attribute.name());
            column.ok_or(SourceFault::Untrusted("the file has no column for an attribute"))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        fetch.asks(|| "look for the line of this normalised identity in the file".to_owned())?;
        let values = match table.find(fetch.identity) {
            Found::None => {
                fetch.heard(|| "no line".to_owned());
                return Ok(SourceAnswer::missing(fetch.dataset, OutcomeCode::NoFile));
            }
            Found::Several => {
                fetch.heard(|| "several lines".to_owned());
                return Ok(SourceAnswer::missing(fetch.dataset, OutcomeCode::Ambiguous));
            }
            Found::One(values) => values,
        };
        fetch.heard(|| "one line".to_owned());
        let value = |column: usize| values.get(column).cloned().unwrap_or_default();
        let answered = fetch.dataset.attributes.iter().zip(columns);
        let outcomes = answered.map(|(attribute, column)| (attribute.clone(), Outcome::Found(value(column)))).collect();
        Ok(SourceAnswer::of(outcomes, None))
    }
}

impl Connector for FileConnector {
    fn serves(&self, dataset: &DatasetId) -> bool {
        *dataset == self.dataset
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<SourceAnswer, SourceFault>> {
        Box::pin(self.answer(fetch))
    }
}

#[cfg(test)]
mod tests;
