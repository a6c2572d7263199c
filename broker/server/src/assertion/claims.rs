//! JSON objects of tokens, read strictly: no name twice, and each member of its type.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use unefois_consent::Timestamp;

use super::AssertionFault;

/// Latest second that a claim may name, the end of year 9999.
const MAX_SECONDS: u64 = 253_402_300_799;

/// The members of a header or of a set of claims. No `Debug`: they are a person's.
pub(super) struct Claims(BTreeMap<String, Value>);

impl Claims {
    /// Reads one object, in UTF-8, with nothing behind it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, AssertionFault> {
        serde_json::from_slice(bytes).map_err(|_| AssertionFault::Malformed)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text, where present.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, AssertionFault> {
        self.0.get(name).map(|value| value.as_str().ok_or(AssertionFault::Malformed)).transpose()
    }

    /// A text that must be there and not empty.
    pub(super) fn required(&self, name: &str) -> Result<&str, AssertionFault> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or(AssertionFault::Malformed)
    }

    /// A list of texts, where present.
    pub(super) fn list(&self, name: &str) -> Result<Option<Vec<&str>>, AssertionFault> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let texts = value.as_array().ok_or(AssertionFault::Malformed)?.iter().map(Value::as_str);
        texts.collect::<Option<Vec<_>>>().map(Some).ok_or(AssertionFault::Malformed)
    }

    /// A text or a list of texts that must be there (`aud`: RFC 7519, section 4.1.3).
    pub(super) fn text_or_list(&self, name: &str) -> Result<Vec<&str>, AssertionFault> {
        if let Some(text) = self.0.get(name).and_then(Value::as_str) {
            return Ok(vec![text]);
        }
        self.list(name)?.ok_or(AssertionFault::Malformed)
    }

    /// Whole seconds since the Unix epoch, where present. A number in a text is refused, and so is a fraction.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, AssertionFault> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let seconds = value.as_u64().filter(|seconds| *seconds <= MAX_SECONDS).ok_or(AssertionFault::Malformed)?;
        Ok(Some(Timestamp::from_millis(seconds.saturating_mul(1000))))
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Unique)
    }
}

/// Two readers that choose differently between two members of one name see two different tokens (RFC 7519, section 4).
struct Unique;

impl<'de> Visitor<'de> for Unique {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a name is there twice"));
            }
        }
        Ok(Claims(members))
    }
}
