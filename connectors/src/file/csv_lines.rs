//! CSV (RFC 4180): a header line, then one person a line.

use std::collections::BTreeMap;

use csv::{ErrorKind, ReaderBuilder, StringRecord};
use serde_json::Value;

use super::person::{COLUMNS, PersonCells};
use super::strict::{self, Lines};
use super::table::{Settings, Table};
use crate::ValueType;

/// What a column of the file is.
enum Column {
    /// One of the identity.
    Identity,
    /// An attribute of this type.
    Attribute(ValueType),
    /// Not one that the configuration names, or without a name: it is not read.
    Unread { is_nameless: bool },
}

pub(super) fn read(content: &[u8], table: &mut Table) -> Result<(), String> {
    let header = content.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default();
    // A header holds no free text, so a semicolon in it separates.
    let separator = if header.contains(&b';') { b';' } else { b',' };
    strict::check(content, separator)?;
    let mut reader = ReaderBuilder::new().delimiter(separator).from_reader(content);
    let (mut lines, mut from) = (Lines::default(), 0);
    let mut line_of = |position: Option<&csv::Position>| {
        let offset = position.and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or_default();
        lines.of_record(content, &mut from, offset)
    };
    let header = reader.headers().map_err(|e| problem(&e, 1))?.clone();
    let names = names(&header, &table.settings().columns)?;
    let columns = columns(&names, table)?;
    let places = COLUMNS.map(|name| names.iter().position(|n| n == name));
    let settings = table.settings().clone();
    let mut record = StringRecord::new();
    loop {
        let more = reader.read_record(&mut record).map_err(|e| problem(&e, line_of(e.position())))?;
        if !more {
            return Ok(());
        }
        // What a spreadsheet leaves below a table.
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        let line = line_of(record.position());
        let within = |problem: String| format!("line {line}: {problem}");
        let cell = |place: Option<usize>| place.and_then(|p| record.get(p)).unwrap_or_default().trim();
        let [birth_name, given_names, birth_date, sex, birth_country, birth_commune] = places.map(cell);
        let birth_date = settings.date_format.iso(birth_date).map_err(|rule| within(format!("birth_date: {rule}")))?;
        let person = PersonCells {
            birth_name,
            given_names: given_names.split_whitespace().collect(),
            birth_date: &birth_date,
            sex,
            birth_country,
            birth_commune,
        };
        let key = person.key().map_err(|malformed| within(malformed.to_string()))?;
        table.add_line(key, values(&columns, &record, &settings).map_err(within)?);
    }
}

/// The name of each column, as the configuration gives it: empty where the column is not read.
fn names(header: &StringRecord, given: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let named = |name: &str| {
        if given.is_empty() { name.to_owned() } else { given.get(name).cloned().unwrap_or_default() }
    };
    let names: Vec<String> = header.iter().map(|name| named(name.trim())).collect();
    if let Some(absent) = given.keys().find(|name| !header.iter().any(|h| h.trim() == **name)) {
        return Err(format!("line 1: no column \"{absent}\", which the key columns names"));
    }
    let missing = COLUMNS.iter().take(5).find(|name| !names.iter().any(|n| n == **name));
    if let Some(name) = missing {
        let way_out =
            if given.is_empty() { "the first line names the columns" } else { "say in columns which one it is" };
        return Err(format!("line 1: no column {name}; {way_out}"));
    }
    Ok(names)
}

fn columns(names: &[String], table: &mut Table) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    let last = names.iter().rposition(|name| !name.is_empty()).unwrap_or_default();
    for (place, name) in names.iter().enumerate() {
        let is_nameless = table.settings().columns.is_empty();
        columns.push(if name.is_empty() && (place > last || !is_nameless) {
            Column::Unread { is_nameless }
        } else if name.is_empty() {
            return Err(format!("line 1: column {} has no name", place + 1));
        } else if names.iter().take(place).any(|earlier| earlier == name) {
            return Err("line 1: two columns have one name".to_owned());
        } else if COLUMNS.contains(&name.as_str()) {
            Column::Identity
        } else {
            table.add_column(name).map_err(|problem| format!("line 1: {problem}"))?;
            Column::Attribute(table.settings().type_of(name))
        });
    }
    Ok(columns)
}

fn values(columns: &[Column], record: &StringRecord, settings: &Settings) -> Result<Vec<Value>, String> {
    // Columns are numbered in the order of the header, so values are pushed in their order.
    let mut values = Vec::new();
    for (column, cell) in columns.iter().zip(record) {
        let cell = cell.trim();
        match column {
            Column::Identity | Column::Unread { is_nameless: false } => {}
            Column::Unread { is_nameless: true } if cell.is_empty() => {}
            Column::Unread { is_nameless: true } => return Err("a cell in a column without a name".to_owned()),
            Column::Attribute(_) if cell.is_empty() => values.push(Value::Null),
            Column::Attribute(of) => values.push(settings.value(*of, cell)?),
        }
    }
    Ok(values)
}

/// The error's own text may quote the line.
fn problem(error: &csv::Error, line: u64) -> String {
    let rule = if matches!(error.kind(), ErrorKind::Utf8 { .. }) {
        "is not UTF-8: save the file as \"CSV UTF-8\", or say what its encoding is"
    } else if matches!(error.kind(), ErrorKind::UnequalLengths { .. }) {
        "has more or fewer cells than the first line"
    } else {
        "is not CSV"
    };
    format!("line {line}: {rule}")
}
