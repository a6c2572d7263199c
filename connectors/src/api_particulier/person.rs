//! Whether an answer is about the person asked, where the dataset says who it is about.
//!
//! A number that was mistyped, or a FranceConnect token of somebody else, names another person: whose data must not go
//! out under the name of the one asked. Spelling does not count, and what either side leaves out is not compared.

use serde_json::{Map, Value};
use unefois_consent::PivotIdentity;
use unefois_consent::identity::{BirthDate, Name, fold};

use super::table::PersonFields;

/// Whether the answer may be about `asked`. True where it names nobody, as where the token's scopes do not cover it.
pub(super) fn may_be(fields: &PersonFields, data: &Map<String, Value>, asked: &PivotIdentity) -> bool {
    let Some(told) = data.get(fields.at).and_then(Value::as_object) else { return true };
    let text = |name: &str| told.get(name).and_then(Value::as_str);
    let name = text(fields.birth_name).is_none_or(|name| is_family_name(name, asked));
    let given = told.get(fields.given_names).is_none_or(|names| shares_a_given_name(names, asked));
    let date = fields.birth_date.and_then(text).is_none_or(|date| may_be_date(date, asked.birth_date));
    name && given && date
}

fn is_family_name(told: &str, asked: &PivotIdentity) -> bool {
    let squeezed = |name: &str| fold(name).replace(' ', "");
    let mut names = [Some(&asked.birth_name), asked.usage_name.as_ref()].into_iter().flatten();
    names.any(|name| squeezed(name.as_str()) == squeezed(told))
}

/// Sources hold one given name or all, in one field or several: twins have none in common.
fn shares_a_given_name(told: &Value, asked: &PivotIdentity) -> bool {
    let told: Vec<String> = match told {
        Value::String(text) => parts(text),
        Value::Array(names) => names.iter().filter_map(Value::as_str).flat_map(parts).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    let mut asked = asked.given_names.iter().map(Name::as_str).flat_map(parts);
    told.is_empty() || asked.any(|name| told.contains(&name))
}

fn parts(names: &str) -> Vec<String> {
    fold(names).split(' ').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn may_be_date(told: &str, asked: BirthDate) -> bool {
    // A day that no calendar has stands for an unknown one; the year is compared all the same.
    let parsed = [told.get(..10), told.get(..7), told.get(..4)].into_iter().flatten().find_map(|t| t.parse().ok());
    let Some(told): Option<BirthDate> = parsed else { return true };
    fn agree<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
        a.zip(b).is_none_or(|(a, b)| a == b)
    }
    agree(told.year(), asked.year()) && agree(told.month(), asked.month()) && agree(told.day(), asked.day())
}
