//! The parts of a question that a configuration can name: who the person is, who asks, the filters.
//!
//! A part is a value and nothing else. How it gets into a request is up to the place where it stands: percent-encoded,
//! a JSON text, a bound parameter. It never becomes part of a string that somebody parses.

use unefois_consent::PivotIdentity;
use unefois_consent::identity::{BirthDate, fold};

use crate::{Fetch, SourceAnswer, SourceFault};

/// Longest filter that is sent, in characters.
const MAX_FILTER_CHARS: usize = 256;

/// One part of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    BirthName,
    /// Upper case without accents, hyphens and apostrophes as spaces: `LEFEVRE D OEUVRE`.
    BirthNameFolded,
    UsageName,
    /// All of them, with spaces between.
    GivenNames,
    GivenNamesFolded,
    /// The first one.
    GivenName,
    /// `YYYY-MM-DD`, where all of it is known.
    BirthDate,
    /// Four digits.
    BirthYear,
    /// Two digits.
    BirthMonth,
    /// Two digits.
    BirthDay,
    /// `F` or `M`.
    Sex,
    BirthCountry,
    BirthCommune,
    /// The SIRET of the administration that uses the data.
    Recipient,
    /// The id of the exchange.
    Exchange,
    Filter(String),
}

/// What the names of parts are, for the one who mistyped one.
pub(crate) const NAMES: &str = "birth_name, birth_name_folded, usage_name, given_names, given_names_folded, given_name, \
     birth_date, birth_year, birth_month, birth_day, sex, birth_country, birth_commune, recipient, exchange";

/// Why a part of a question is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// The person has none, or it is not known.
    Identity,
    /// Whoever asks did not give it.
    Filter,
    /// A filter has not the form that can be sent.
    FilterRefused,
}

impl Part {
    /// The part with this name, other than a filter.
    pub(crate) fn of_person(name: &str) -> Option<Self> {
        Some(match name {
            "birth_name" => Self::BirthName,
            "birth_name_folded" => Self::BirthNameFolded,
            "usage_name" => Self::UsageName,
            "given_names" => Self::GivenNames,
            "given_names_folded" => Self::GivenNamesFolded,
            "given_name" => Self::GivenName,
            "birth_date" => Self::BirthDate,
            "birth_year" => Self::BirthYear,
            "birth_month" => Self::BirthMonth,
            "birth_day" => Self::BirthDay,
            "sex" => Self::Sex,
            "birth_country" => Self::BirthCountry,
            "birth_commune" => Self::BirthCommune,
            "recipient" => Self::Recipient,
            "exchange" => Self::Exchange,
            _ => return None,
        })
    }

    /// Its value in this question.
    pub(crate) fn value(&self, fetch: &Fetch<'_>) -> Result<String, Absent> {
        match self {
            Self::Filter(name) => {
                let value = fetch.dataset.filter.get(name).ok_or(Absent::Filter)?;
                if is_sendable(value) { Ok(value.clone()) } else { Err(Absent::FilterRefused) }
            }
            Self::Recipient => Ok(fetch.permit.recipient().as_str().to_owned()),
            Self::Exchange => Ok(fetch.permit.exchange().to_string()),
            Self::BirthName
            | Self::BirthNameFolded
            | Self::UsageName
            | Self::GivenNames
            | Self::GivenNamesFolded
            | Self::GivenName
            | Self::BirthDate
            | Self::BirthYear
            | Self::BirthMonth
            | Self::BirthDay
            | Self::Sex
            | Self::BirthCountry
            | Self::BirthCommune => self.of(fetch.identity).ok_or(Absent::Identity),
        }
    }

    /// Its value for this person; none for what is no part of a person.
    fn of(&self, person: &PivotIdentity) -> Option<String> {
        let date = person.birth_date;
        let two_digits = |part: i8| format!("{part:02}");
        match self {
            Self::BirthName => Some(person.birth_name.as_str().to_owned()),
            Self::BirthNameFolded => Some(fold(person.birth_name.as_str())),
            Self::UsageName => person.usage_name.as_ref().map(|name| name.as_str().to_owned()),
            Self::GivenNames => Some(given_names(person).join(" ")),
            Self::GivenNamesFolded => Some(fold(&given_names(person).join(" "))),
            Self::GivenName => given_names(person).first().map(|name| (*name).to_owned()),
            Self::BirthDate => match date {
                BirthDate::Day(day) => Some(day.to_string()),
                BirthDate::Unknown | BirthDate::Year(_) | BirthDate::Month(..) => None,
            },
            Self::BirthYear => date.year().map(|year| year.to_string()),
            Self::BirthMonth => date.month().map(two_digits),
            Self::BirthDay => date.day().map(two_digits),
            Self::Sex => Some(person.sex.letter().to_owned()),
            Self::BirthCountry => Some(person.birth_country.as_str().to_owned()),
            Self::BirthCommune => person.birth_commune.as_ref().map(|commune| commune.as_str().to_owned()),
            Self::Recipient | Self::Exchange | Self::Filter(_) => None,
        }
    }
}

/// The given names in the order of the civil register.
pub(crate) fn given_names(person: &PivotIdentity) -> Vec<&str> {
    person.given_names.iter().map(unefois_consent::identity::Name::as_str).collect()
}

/// Whether the value of a filter may be sent: some characters, and none that controls.
pub(crate) fn is_sendable(value: &str) -> bool {
    (1..=MAX_FILTER_CHARS).contains(&value.chars().count()) && !value.chars().any(char::is_control)
}

impl Absent {
    /// What the consumer is told, or the fault where the broker should not have come so far.
    pub(crate) fn answer(self, fetch: &Fetch<'_>) -> Result<SourceAnswer, SourceFault> {
        use unefois_consent::OutcomeCode::{FilterRefused, NotIdentified};
        match self {
            Self::Identity => Ok(SourceAnswer::missing(fetch.dataset, NotIdentified)),
            Self::FilterRefused => Ok(SourceAnswer::missing(fetch.dataset, FilterRefused)),
            Self::Filter => Err(SourceFault::Untrusted("a filter that the source needs is missing")),
        }
    }
}
