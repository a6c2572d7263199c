//! JSON objects of tokens, read strictly: no name twice, and each member of its type.

use std::time::Duration;

use serde_json::{Map, Value};
use unefois_consent::{Timestamp, json};

use super::AssertionFault;

/// Latest time that a claim may name, since 1970: the end of year 9999.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// The members of a header or of a set of claims. No `Debug`: they are a person's.
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    /// Reads one object, in UTF-8, with nothing behind it. Two readers that choose differently between two members of one name see
    /// two different tokens (RFC 7519, section 4).
    pub(super) fn read(bytes: &[u8]) -> Result<Self, AssertionFault> {
        json::read(bytes).ok().and_then(Self::of).ok_or(AssertionFault::Malformed)
    }

    /// Of an object that was read.
    pub(super) fn of(value: Value) -> Option<Self> {
        if let Value::Object(members) = value { Some(Self(members)) } else { None }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A member; one that is null is as good as none.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text, where present.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, AssertionFault> {
        self.get(name).map(|value| value.as_str().ok_or(AssertionFault::Malformed)).transpose()
    }

    /// A text that must be there and not empty.
    pub(super) fn required(&self, name: &str) -> Result<&str, AssertionFault> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or(AssertionFault::Malformed)
    }

    /// A list of texts, where present.
    pub(super) fn list(&self, name: &str) -> Result<Option<Vec<&str>>, AssertionFault> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let texts = value.as_array().ok_or(AssertionFault::Malformed)?.iter().map(Value::as_str);
        texts.collect::<Option<Vec<_>>>().map(Some).ok_or(AssertionFault::Malformed)
    }

    /// A text or a list of texts that must be there (`aud`: RFC 7519, section 4.1.3).
    pub(super) fn text_or_list(&self, name: &str) -> Result<Vec<&str>, AssertionFault> {
        if let Some(text) = self.get(name).and_then(Value::as_str) {
            return Ok(vec![text]);
        }
        self.list(name)?.ok_or(AssertionFault::Malformed)
    }

    /// Seconds since the Unix epoch, where present; they may have a fraction (RFC 7519, section 2). A number in a text is refused.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, AssertionFault> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let whole = value.as_u64().map(Duration::from_secs);
        let since = whole.or_else(|| Duration::try_from_secs_f64(value.as_f64()?).ok());
        let millis = since.filter(|since| *since <= LATEST).and_then(|since| u64::try_from(since.as_millis()).ok());
        Ok(Some(Timestamp::from_millis(millis.ok_or(AssertionFault::Malformed)?)))
    }
}
