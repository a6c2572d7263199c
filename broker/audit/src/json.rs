//! JSON with one form per value: what is hashed or signed must not depend on a library's printing.

use std::fmt::Write as _;

use serde_json::Value;

/// Appends a JSON string. Only what must be escaped is: quote, backslash and the codes below U+0020.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.reserve(text.len() + 2);
    out.push('"');
    let mut rest = text;
    while let Some(position) = rest.bytes().position(needs_escape) {
        let (plain, from_special) = rest.split_at(position);
        out.push_str(plain);
        let mut chars = from_special.chars();
        if let Some(special) = chars.next() {
            push_escape(out, special);
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

/// Appends a value without white space, the members of each object in the order of their names' code points.
pub(crate) fn push_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            // Writing to a String cannot fail.
            let _ = write!(out, "{number}");
        }
        Value::String(text) => push_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                push_value(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            // Sorted here: the map keeps another order when some crate of the build asks serde_json to.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| name.as_str());
            out.push('{');
            for (position, (name, member)) in members.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                push_string(out, name);
                out.push(':');
                push_value(out, member);
            }
            out.push('}');
        }
    }
}

fn needs_escape(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

fn push_escape(out: &mut String, special: char) {
    match special {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{08}' => out.push_str("\\b"),
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\u{0c}' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        other => {
            let _ = write!(out, "\\u{:04x}", u32::from(other));
        }
    }
}
