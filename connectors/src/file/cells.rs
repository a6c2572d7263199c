//! How the cells of a CSV file are written: dates, decimal marks, words for yes and no.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::table::Settings;
use crate::ValueType;

/// How dates are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum DateFormat {
    /// `1982-12-27`, or less of it: `1982-12`, `1982`.
    #[default]
    #[serde(rename = "yyyy-mm-dd")]
    Iso,
    /// `27/12/1982`, or less of it: `12/1982`, `1982`; `00` for a day or a month that is not known.
    #[serde(rename = "dd/mm/yyyy")]
    French,
}

impl DateFormat {
    /// The date as ISO 8601 writes it, which its reader judges.
    pub(super) fn iso(self, cell: &str) -> Result<Cow<'_, str>, &'static str> {
        if self == Self::Iso || cell.is_empty() {
            return Ok(Cow::Borrowed(cell));
        }
        let parts: Vec<&str> = cell.split('/').skip_while(|part| *part == "00").collect();
        let digits = |part: &&str| (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if !parts.iter().all(digits) {
            return Err("dd/mm/yyyy, or mm/yyyy or yyyy where the rest is unknown, or empty");
        }
        Ok(match parts[..] {
            [day, month, year] => format!("{year}-{month:0>2}-{day:0>2}").into(),
            [month, year] => format!("{year}-{month:0>2}").into(),
            [year] => year.to_owned().into(),
            _ => return Err("dd/mm/yyyy, or mm/yyyy or yyyy where the rest is unknown, or empty"),
        })
    }
}

/// Most digits of a number that a double holds as they are written.
const MOST_DIGITS: usize = 15;

impl Settings {
    /// The value of a cell that is not empty.
    pub(super) fn value(&self, of: ValueType, cell: &str) -> Result<Value, String> {
        match of {
            ValueType::Text => Ok(Value::from(cell)),
            ValueType::Integer => cell.parse::<i64>().map(Value::from).map_err(|_| "an integer is expected".to_owned()),
            ValueType::Number => self.number(cell).ok_or_else(|| {
                let mark = if self.decimal_comma { "a comma" } else { "a point; see the key decimal_comma" };
                format!("a number of at most {MOST_DIGITS} digits is expected, its decimal mark {mark}")
            }),
            ValueType::Boolean => match cell.to_lowercase().as_str() {
                "oui" | "vrai" | "true" | "1" => Ok(true.into()),
                "non" | "faux" | "false" | "0" => Ok(false.into()),
                _ => Err("oui, vrai, true or 1 is expected, or non, faux, false or 0".to_owned()),
            },
            ValueType::List | ValueType::Object => Err("a CSV file has no lists and no objects".to_owned()),
        }
    }

    fn number(&self, cell: &str) -> Option<Value> {
        let mark = if self.decimal_comma { ',' } else { '.' };
        let unsigned = cell.strip_prefix(['-', '+']).unwrap_or(cell);
        let (whole, decimals) = unsigned.split_once(mark).unwrap_or((unsigned, "0"));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let significant = whole.trim_start_matches('0').len() + decimals.trim_end_matches('0').len();
        if !is_digits(whole) || !is_digits(decimals) || significant > MOST_DIGITS {
            return None;
        }
        let sign = if cell.starts_with('-') { "-" } else { "" };
        // As any JSON number: one that is whole is an integer.
        unefois_consent::json::read(
            format!("{sign}{}.{decimals}", whole.trim_start_matches('0').parse::<u64>().unwrap_or(0)).as_bytes(),
        )
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn french_dates_are_read_with_what_is_known_of_them() {
        for (cell, iso) in [
            ("27/12/1982", Some("1982-12-27")),
            ("7/2/1982", Some("1982-02-07")),
            ("12/1982", Some("1982-12")),
            ("00/12/1982", Some("1982-12")),
            ("00/00/1982", Some("1982")),
            ("1982", Some("1982")),
            ("", Some("")),
            ("1982-12-27", None),
            ("27/12/1982/1", None),
            ("a/b/c", None),
        ] {
            assert_eq!(DateFormat::French.iso(cell).ok().as_deref(), iso, "{cell}");
        }
        assert_eq!(DateFormat::Iso.iso("27/12/1982").unwrap(), "27/12/1982");
    }
}
