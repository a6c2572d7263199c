//! JSON with one form per value, that of RFC 8785 (JCS): what is hashed must not depend on a library's printing, which
//! for numbers has changed between releases of serde_json.

use std::fmt::Write as _;

use serde_json::{Number, Value};

use crate::text;

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

/// Appends a value without white space, the members of each object in the order of their names' UTF-16 code units.
pub(crate) fn push_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => push_number(out, number),
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
            members.sort_unstable_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
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

/// Integers of 64 bits keep all their digits, also above 2^53, where RFC 8785 would round them to a double.
fn push_number(out: &mut String, number: &Number) {
    if let Some(number) = number.as_u64() {
        text::push_decimal(out, number);
    } else if let Some(number) = number.as_i64() {
        out.push('-');
        text::push_decimal(out, number.unsigned_abs());
    } else if let Some(number) = number.as_f64() {
        push_double(out, number);
    }
}

/// Number::toString of ECMAScript, which RFC 8785 (section 3.2.2.3) takes.
fn push_double(out: &mut String, number: f64) {
    if number == 0.0 {
        out.push('0');
        return;
    }
    let shortest = shortest_digits(number.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number < 0.0 {
        out.push('-');
    }
    let count = digits.len() as i32;
    match exponent + 1 {
        // The decimal point stands after so many digits.
        point @ 1..=21 if point >= count => {
            out.push_str(&digits);
            push_zeros(out, point - count);
        }
        point @ 1..=21 => {
            let (whole, fraction) = digits.split_at(point as usize);
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        }
        point @ -5..=0 => {
            out.push_str("0.");
            push_zeros(out, -point);
            out.push_str(&digits);
        }
        _far => {
            out.push_str(mantissa);
            out.push_str(if exponent < 0 { "e-" } else { "e+" });
            text::push_decimal(out, u64::from(exponent.unsigned_abs()));
        }
    }
}

/// The fewest digits that read back as the same double, as `d.ddd` and a power of ten; of two such the nearer one, of
/// two as near the even one.
fn shortest_digits(number: f64) -> String {
    let shortest = format!("{number:e}");
    // The standard library takes the upper one of two as near. It rounds to even when the number of digits is given.
    let decimals = shortest.split_once('e').map_or(0, |(mantissa, _)| mantissa.len().saturating_sub(2));
    let even = format!("{number:.decimals$e}");
    if even.parse() == Ok(number) { even } else { shortest }
}

fn push_zeros(out: &mut String, count: i32) {
    for _ in 0..count {
        out.push('0');
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
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(other));
        }
    }
}
