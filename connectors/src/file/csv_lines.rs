//! CSV: a header line, then one person a line.

use csv::{ErrorKind, ReaderBuilder, StringRecord};
use serde_json::Value;

use super::person::{COLUMNS, PersonCells};
use super::table::Table;

/// What a column of the file is.
enum Column {
    Identity,
    Text,
    Integer,
}

pub(super) fn read(content: &[u8], table: &mut Table) -> Result<(), String> {
    let header = content.split(|b| *b == b'\n').next().unwrap_or_default();
    // A header holds no free text, so a semicolon in it separates.
    let delimiter = if header.contains(&b';') { b';' } else { b',' };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(content);
    let header = reader.headers().map_err(|e| problem(&e))?.clone();
    let columns = columns(&header, table)?;
    let places = COLUMNS.map(|name| header.iter().position(|h| h == name));
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(|e| problem(&e))? {
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |place: Option<usize>| place.and_then(|p| record.get(p)).unwrap_or_default().trim();
        let [birth_name, given_names, birth_date, sex, birth_country, birth_commune] = places.map(cell);
        let person = PersonCells {
            birth_name,
            given_names: given_names.split_whitespace().collect(),
            birth_date,
            sex,
            birth_country,
            birth_commune,
        };
        let key = person.key().map_err(|malformed| format!("line {line}: {malformed}"))?;
        table.add_line(key, values(&columns, &record, line)?);
    }
    Ok(())
}

fn columns(header: &StringRecord, table: &mut Table) -> Result<Vec<Column>, String> {
    let missing = COLUMNS.iter().take(5).find(|name| !header.iter().any(|h| h == **name));
    if let Some(name) = missing {
        return Err(format!("line 1: no column {name}; the first line names the columns"));
    }
    let mut columns = Vec::new();
    for (place, name) in header.iter().enumerate() {
        if header.iter().take(place).any(|earlier| earlier == name) {
            return Err("line 1: two columns have one name".to_owned());
        }
        columns.push(if COLUMNS.contains(&name) {
            Column::Identity
        } else {
            table.add_column(name).map_err(|problem| format!("line 1: {problem}"))?;
            if table.is_integer(name) { Column::Integer } else { Column::Text }
        });
    }
    Ok(columns)
}

fn values(columns: &[Column], record: &StringRecord, line: u64) -> Result<Vec<Value>, String> {
    // Columns are numbered in the order of the header, so values are pushed in their order.
    let mut values = Vec::new();
    for (column, cell) in columns.iter().zip(record) {
        let cell = cell.trim();
        match column {
            Column::Identity => {}
            Column::Text | Column::Integer if cell.is_empty() => values.push(Value::Null),
            Column::Text => values.push(Value::from(cell)),
            Column::Integer => {
                let number = cell.parse::<i64>();
                values.push(Value::from(number.map_err(|_| format!("line {line}: an integer is expected"))?));
            }
        }
    }
    Ok(values)
}

/// The error's own text may quote the line.
fn problem(error: &csv::Error) -> String {
    let line = error.position().map_or(1, csv::Position::line);
    let rule = if matches!(error.kind(), ErrorKind::Utf8 { .. }) {
        "is not UTF-8: save the file as \"CSV UTF-8\", or say what its encoding is"
    } else if matches!(error.kind(), ErrorKind::UnequalLengths { .. }) {
        "has more or fewer cells than the first line"
    } else {
        "is not CSV"
    };
    format!("line {line}: {rule}")
}
