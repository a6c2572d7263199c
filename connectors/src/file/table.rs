//! The content of a file, by person.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

use serde_json::Value;
use unefois_consent::{DatasetId, PivotIdentity};

use super::cells::DateFormat;
use super::person::PersonKey;
use super::{Encoding, FileFormat};
use crate::ValueType;

/// A file is held in memory: a town of a million declarations fits.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// How a file is read.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) format: FileFormat,
    pub(super) encoding: Encoding,
    pub(super) dataset: DatasetId,
    pub(super) types: BTreeMap<String, ValueType>,
    pub(super) columns: BTreeMap<String, String>,
    pub(super) date_format: DateFormat,
    pub(super) decimal_comma: bool,
}

impl Settings {
    /// Of an attribute.
    pub(super) fn type_of(&self, name: &str) -> ValueType {
        self.types.get(name).copied().unwrap_or(ValueType::Text)
    }
}

/// Attributes and lines. Its Debug shows neither.
pub(super) struct Table {
    settings: Settings,
    columns: HashMap<String, usize>,
    /// None for a person with several lines: nothing of them is kept.
    lines: HashMap<PersonKey, Option<Box<[Value]>>>,
}

/// The lines of one person.
pub(super) enum Found<'a> {
    None,
    Several,
    /// Values by column.
    One(&'a [Value]),
}

impl Table {
    pub(super) fn empty(settings: Settings) -> Self {
        Self { settings, columns: HashMap::new(), lines: HashMap::new() }
    }

    /// Reads a file whole, or says which line breaks which rule.
    pub(super) fn read(path: &Path, settings: &Settings) -> Result<Self, String> {
        let metadata = std::fs::metadata(path).map_err(|e| format!("cannot be opened: {}", e.kind()))?;
        if metadata.len() > MAX_FILE_BYTES {
            return Err("is larger than 256 MiB".to_owned());
        }
        let bytes = std::fs::read(path).map_err(|e| format!("cannot be read: {}", e.kind()))?;
        let content = settings.encoding.read(&bytes)?;
        let mut table = Self::empty(settings.clone());
        match settings.format {
            FileFormat::Csv => super::csv_lines::read(&content, &mut table)?,
            FileFormat::Jsonl => super::json_lines::read(&content, &mut table)?,
        }
        if let Some(name) = settings.types.keys().find(|name| table.column(name).is_none()) {
            return Err(format!("has no column {name}, which the key types names"));
        }
        Ok(table)
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where the values of an attribute are in a line.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.columns.get(name).copied()
    }

    pub(super) fn find(&self, person: &PivotIdentity) -> Found<'_> {
        match self.lines.get(&PersonKey::of(person)) {
            None => Found::None,
            Some(None) => Found::Several,
            Some(Some(values)) => Found::One(values),
        }
    }

    /// Adds the attribute `name`, or gives the one that is there.
    pub(super) fn add_column(&mut self, name: &str) -> Result<usize, String> {
        if let Some(column) = self.column(name) {
            return Ok(column);
        }
        // The name is not repeated: in a file without a header it would be a person's.
        if name.contains('.') || self.settings.dataset.attribute(name).is_err() {
            return Err("a column's name has other characters than a-z, 0-9, '_' and '-'".to_owned());
        }
        let column = self.columns.len();
        self.columns.insert(name.to_owned(), column);
        Ok(column)
    }

    pub(super) fn add_line(&mut self, person: PersonKey, values: Vec<Value>) {
        self.lines.entry(person).and_modify(|line| *line = None).or_insert_with(|| Some(values.into()));
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[declarations]")
    }
}
