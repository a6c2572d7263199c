//! The identity columns of one line.

use unefois_consent::identity::{CogCode, MAX_GIVEN_NAMES, Name};
use unefois_consent::{Digest, Malformed, PivotIdentity};

/// The columns that say who the person is; the last may be absent.
pub(super) const COLUMNS: [&str; 6] =
    ["birth_name", "given_names", "birth_date", "sex", "birth_country", "birth_commune"];

/// By what a line is found: SHA-256 of the normalised identity. Lives in this process's memory only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PersonKey([u8; 32]);

impl PersonKey {
    pub(super) fn of(person: &PivotIdentity) -> Self {
        Self(Digest::of(person.normalised().as_bytes()).0)
    }
}

/// The texts of the identity columns.
#[derive(Default)]
pub(super) struct PersonCells<'a> {
    pub(super) birth_name: &'a str,
    pub(super) given_names: Vec<&'a str>,
    pub(super) birth_date: &'a str,
    pub(super) sex: &'a str,
    pub(super) birth_country: &'a str,
    pub(super) birth_commune: &'a str,
}

impl PersonCells<'_> {
    /// The key of this person, or the rule that a column breaks.
    pub(super) fn key(&self) -> Result<PersonKey, Malformed> {
        let given: Vec<Name> =
            self.given_names.iter().map(|n| n.parse()).collect::<Result<_, _>>().map_err(within("given_names"))?;
        if given.is_empty() || given.len() > MAX_GIVEN_NAMES {
            return Err(Malformed::new("given_names", "1 to 16 names"));
        }
        let commune = (!self.birth_commune.is_empty()).then(|| CogCode::commune(self.birth_commune));
        let person = PivotIdentity {
            birth_name: self.birth_name.parse().map_err(within("birth_name"))?,
            usage_name: None,
            given_names: given,
            birth_date: self.birth_date.parse().map_err(within("birth_date"))?,
            sex: self.sex.parse().map_err(within("sex"))?,
            birth_country: CogCode::country(self.birth_country).map_err(within("birth_country"))?,
            birth_commune: commune.transpose().map_err(within("birth_commune"))?,
        };
        Ok(PersonKey::of(&person))
    }
}

fn within(column: &'static str) -> impl Fn(Malformed) -> Malformed {
    move |malformed| malformed.within(column)
}
