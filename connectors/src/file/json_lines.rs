//! JSON Lines: one object a line; empty lines are skipped.

use serde_json::{Map, Value};
use unefois_consent::json;

use super::person::{COLUMNS, PersonCells};
use super::table::Table;

pub(super) fn read(content: &[u8], table: &mut Table) -> Result<(), String> {
    for (number, line) in content.split(|b| *b == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        read_line(line, table).map_err(|problem| format!("line {}: {problem}", number + 1))?;
    }
    Ok(())
}

fn read_line(line: &[u8], table: &mut Table) -> Result<(), String> {
    // The parser's own text may quote the line.
    let read = json::read(line);
    let Ok(Value::Object(mut object)) = read else {
        return Err("is not one JSON object with each member once".to_owned());
    };
    let key = person(&object)?.key().map_err(|malformed| malformed.to_string())?;
    object.retain(|name, _| !COLUMNS.contains(&name.as_str()));
    let mut values = Vec::new();
    for (name, value) in object {
        if table.settings().types.get(&name).is_some_and(|of| !of.admits(&value)) {
            return Err(format!("{name} has another type than the key types says"));
        }
        let column = table.add_column(&name)?;
        if values.len() <= column {
            values.resize(column + 1, Value::Null);
        }
        if let Some(slot) = values.get_mut(column) {
            *slot = value;
        }
    }
    table.add_line(key, values);
    Ok(())
}

fn person(object: &Map<String, Value>) -> Result<PersonCells<'_>, String> {
    let text = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.trim()),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(format!("{name}: a text is expected"))
        }
    };
    let given_names = match object.get("given_names") {
        Some(Value::Array(names)) => {
            let names = names.iter().map(|n| n.as_str().ok_or("given_names: a list of texts is expected"));
            names.collect::<Result<_, _>>()?
        }
        Some(_) | None => text("given_names")?.split_whitespace().collect(),
    };
    Ok(PersonCells {
        birth_name: text("birth_name")?,
        given_names,
        birth_date: text("birth_date")?,
        sex: text("sex")?,
        birth_country: text("birth_country")?,
        birth_commune: text("birth_commune")?,
    })
}
