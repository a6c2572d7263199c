//! Datasets and the attributes in them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;
use crate::id::{is_name, serde_as_text};

/// A dataset of one source, `dss.quotient_familial`: at least two names joined by dots.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatasetId(Arc<str>);

/// One attribute of a dataset, `dss.quotient_familial.valeur`: the dataset, a dot and a name without dots.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeId(Arc<str>);

fn parts_are_names(text: &str, at_least: usize) -> bool {
    // All characters are those of a name, so each part is one that begins like a name.
    let bytes = text.as_bytes();
    let begins_part = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    is_name(text)
        && bytes.last() != Some(&b'.')
        && bytes.windows(2).all(|two| !matches!(two, [b'.', next] if !begins_part(next)))
        && bytes.iter().filter(|byte| **byte == b'.').count() + 1 >= at_least
}

impl DatasetId {
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The attribute `name` of this dataset.
    pub fn attribute(&self, name: &str) -> Result<AttributeId, Malformed> {
        format!("{}.{name}", self.0).parse()
    }
}

impl AttributeId {
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The dataset's name: all but the last part.
    pub fn dataset(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(dataset, _)| dataset)
    }

    /// The last part: the attribute's name in its dataset.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, name)| name)
    }
}

impl FromStr for DatasetId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if parts_are_names(text, 2) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed::new("", "a dataset such as dss.quotient_familial"))
        }
    }
}

impl FromStr for AttributeId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if parts_are_names(text, 3) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed::new("", "an attribute such as dss.quotient_familial.valeur"))
        }
    }
}

macro_rules! text_impls {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        // So that a map keyed by the type can be asked with a `&str`.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        serde_as_text!($name);
    };
}

text_impls!(DatasetId);
text_impls!(AttributeId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_names_its_dataset() {
        let attribute: AttributeId = "dss.quotient_familial.valeur".parse().unwrap();
        assert_eq!((attribute.dataset(), attribute.name()), ("dss.quotient_familial", "valeur"));
        let dataset: DatasetId = attribute.dataset().parse().unwrap();
        assert_eq!(dataset.attribute("valeur").unwrap(), attribute);
    }

    #[test]
    fn an_attribute_has_three_parts_or_more() {
        for bad in
            ["", "valeur", "dss.valeur", "dss..valeur", ".a.b", "a.b.", "a.b.c.", "dss.QF.valeur", "a.b.-c", "a._b.c"]
        {
            assert!(bad.parse::<AttributeId>().is_err(), "{bad}");
        }
    }
}
