//! Filters and the forms of their values.

use std::borrow::Cow;

/// One filter.
#[derive(Debug)]
pub struct FilterRow {
    /// Its name in questions and in the query.
    pub name: &'static str,
    /// The form of its value.
    pub form: FilterForm,
    /// Whether every question must give it.
    pub is_needed: bool,
}

impl FilterRow {
    pub(super) const fn new(name: &'static str, form: FilterForm) -> Self {
        Self { name, form, is_needed: false }
    }

    pub(super) const fn needed(name: &'static str, form: FilterForm) -> Self {
        Self { name, form, is_needed: true }
    }

    /// Its name in the query: a parameter that takes several values ends in `[]` there.
    pub(in crate::api_particulier) fn parameter(&self) -> Cow<'static, str> {
        if self.form == FilterForm::Codes { format!("{}[]", self.name).into() } else { self.name.into() }
    }
}

/// The form of a filter's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterForm {
    /// Four digits.
    Year,
    /// 1 to 12, with or without a leading zero.
    Month,
    /// The national number of a student: 11 letters and digits.
    Ine,
    /// A name or a number that the provider gave the person.
    Identifier,
    /// The number of a vehicle.
    Plate,
    /// `2025` or `2025-2026`.
    SchoolYear,
    /// The number of a school: seven digits and a letter.
    Uai,
    /// `1D` or `2D`.
    Degree,
    /// Codes with commas between them.
    Codes,
}

impl FilterForm {
    /// What a right value looks like.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Year => "a year: four digits",
            Self::Month => "a month: 1 to 12",
            Self::Ine => "a student's national number (INE): 11 letters and digits",
            Self::Identifier => "the identifier at the provider: 1 to 64 visible ASCII characters",
            Self::Plate => "a vehicle's number: 1 to 16 letters, digits and hyphens",
            Self::SchoolYear => "a school year: 2025 or 2025-2026",
            Self::Uai => "a school's number (UAI): seven digits and a letter",
            Self::Degree => "a school's degree: 1D or 2D",
            Self::Codes => "codes of 1 to 8 letters and digits, with commas between them",
        }
    }

    /// The value as the API takes it, or the values, or none where it has not this form.
    pub fn accept(self, value: &str) -> Option<Vec<String>> {
        let is = |lengths: std::ops::RangeInclusive<usize>, allowed: fn(&u8) -> bool| {
            lengths.contains(&value.len()) && value.as_bytes().iter().all(allowed)
        };
        let right = match self {
            Self::Year => is_year(value),
            // The API takes an integer.
            Self::Month => {
                let month = value.parse::<u8>().ok().filter(|m| (1..=12).contains(m));
                return month.filter(|_| is(1..=2, u8::is_ascii_digit)).map(|m| vec![m.to_string()]);
            }
            Self::Ine => is(11..=11, u8::is_ascii_alphanumeric),
            Self::Identifier => is(1..=64, u8::is_ascii_graphic),
            Self::Plate => is(1..=16, |b| b.is_ascii_alphanumeric() || *b == b'-'),
            Self::SchoolYear => match value.split_once('-') {
                None => is_year(value),
                Some((from, to)) => is_year(from) && is_year(to),
            },
            Self::Uai => match value.as_bytes() {
                [digits @ .., letter] => {
                    digits.len() == 7 && digits.iter().all(u8::is_ascii_digit) && letter.is_ascii_alphabetic()
                }
                [] => false,
            },
            Self::Degree => matches!(value, "1D" | "2D"),
            Self::Codes => {
                let is_code =
                    |code: &&str| (1..=8).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
                let codes: Vec<&str> = value.split(',').collect();
                return codes.iter().all(is_code).then(|| codes.into_iter().map(str::to_owned).collect());
            }
        };
        right.then(|| vec![value.to_owned()])
    }
}

fn is_year(text: &str) -> bool {
    text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit())
}
