//! Small conversions that every message needs. Each names the field at fault.

use std::str::FromStr;

use prost_types::Timestamp as WireTimestamp;
use unefois_consent::{Malformed, Timestamp};

/// Parses a required text field.
pub(crate) fn parse<T: FromStr<Err = Malformed>>(field: &str, text: &str) -> Result<T, Malformed> {
    text.parse().map_err(|fault: Malformed| fault.within(field))
}

/// Parses a text field whose empty text means absent.
pub(crate) fn parse_optional<T: FromStr<Err = Malformed>>(field: &str, text: &str) -> Result<Option<T>, Malformed> {
    if text.is_empty() { Ok(None) } else { parse(field, text).map(Some) }
}

/// Parses each text of a repeated field.
pub(crate) fn parse_each<T, C>(field: &str, texts: &[String]) -> Result<C, Malformed>
where
    T: FromStr<Err = Malformed>,
    C: FromIterator<T>,
{
    texts.iter().enumerate().map(|(at, text)| parse(&format!("{field}[{at}]"), text)).collect()
}

/// A required instant.
pub(crate) fn instant(field: &str, wire: Option<&WireTimestamp>) -> Result<Timestamp, Malformed> {
    optional_instant(field, wire)?.ok_or_else(|| Malformed::new(field, "is required"))
}

/// An instant that may be absent.
pub(crate) fn optional_instant(field: &str, wire: Option<&WireTimestamp>) -> Result<Option<Timestamp>, Malformed> {
    let Some(wire) = wire else { return Ok(None) };
    let rule = || Malformed::new(field, "an instant from 1970 to 9999");
    let seconds = u64::try_from(wire.seconds).map_err(|_| rule())?;
    let nanos = u64::try_from(wire.nanos).ok().filter(|n| *n < 1_000_000_000).ok_or_else(rule)?;
    let millis = seconds.checked_mul(1_000).and_then(|ms| ms.checked_add(nanos / 1_000_000)).ok_or_else(rule)?;
    let instant = Timestamp::from_millis(millis);
    if instant.as_millis() == millis { Ok(Some(instant)) } else { Err(rule()) }
}

/// An instant on the wire.
pub fn wire_instant(instant: Timestamp) -> WireTimestamp {
    let millis = instant.as_millis();
    WireTimestamp {
        seconds: i64::try_from(millis / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(millis % 1_000 * 1_000_000).unwrap_or(0),
    }
}

/// A required message field.
pub(crate) fn required<'a, T>(field: &str, message: Option<&'a T>) -> Result<&'a T, Malformed> {
    message.ok_or_else(|| Malformed::new(field, "is required"))
}

/// The two ways between an enum of the wire and one of the domain; the wire's zero and unknown numbers are refused.
macro_rules! enum_conversion {
    ($read:ident, $write:ident, $wire:ty => $domain:ty, $zero:ident, { $($w:ident = $d:ident),* $(,)? }) => {
        pub(crate) fn $read(field: &str, number: i32) -> Result<$domain, unefois_consent::Malformed> {
            match <$wire>::try_from(number) {
                $(Ok(<$wire>::$w) => Ok(<$domain>::$d),)*
                Ok(<$wire>::$zero) | Err(_) => {
                    Err(unefois_consent::Malformed::new(field, concat!("must be one of", $(" ", stringify!($w),)*)))
                }
            }
        }

        pub(crate) fn $write(value: $domain) -> i32 {
            match value {
                $(<$domain>::$d => <$wire>::$w as i32,)*
            }
        }
    };
}
pub(crate) use enum_conversion;

#[cfg(test)]
mod tests;
