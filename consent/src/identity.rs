//! The pivot identity: who the person concerned is, as FranceConnect and the civil register say it.
//!
//! An identity lives in memory for the length of one exchange. It has no `Serialize`, no `Display` and a redacting
//! `Debug`, so it cannot reach a record, a log or an error. Names keep the person's own spelling; only
//! [`PivotIdentity::normalised`], which feeds the keyed reference of a subject, folds case and accents.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::{Malformed, Timestamp};

/// Longest name, in characters. The civil register's longest is under 100.
pub const MAX_NAME_CHARS: usize = 128;
/// Most given names that an identity may hold.
pub const MAX_GIVEN_NAMES: usize = 16;

/// A person's name in the person's own spelling.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// The spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        // Spaces at the ends are a form's; a control character anywhere is refused below.
        let text = text.trim_matches(' ');
        if text.is_empty() {
            return Err(Malformed::new("", "must not be empty"));
        }
        // The byte count bounds the work before the characters are counted.
        if text.len() > MAX_NAME_CHARS * 4 || text.chars().count() > MAX_NAME_CHARS {
            return Err(Malformed::new("", "at most 128 characters"));
        }
        let allowed = |c: char| {
            c.is_alphanumeric() || is_combining_mark(c) || matches!(c, ' ' | '-' | '\'' | '’' | '.' | ',' | '·')
        };
        if !text.chars().all(allowed) {
            return Err(Malformed::new("", "letters, spaces, hyphens and apostrophes only, no control characters"));
        }
        if !text.chars().any(char::is_alphabetic) {
            return Err(Malformed::new("", "must contain a letter"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[name]")
    }
}

/// A birth date that may lack its day, its month, or all of itself (persons born abroad).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BirthDate {
    /// Nothing is known.
    Unknown,
    /// `1982`.
    Year(i16),
    /// `1982-12`.
    Month(i16, i8),
    /// `1982-12-27`.
    Day(jiff::civil::Date),
}

/// The first place on Earth to begin a day is so far ahead of UTC (Kiribati). Of the French territories that is Wallis, by 12 hours.
const FIRST_MIDNIGHT: Duration = Duration::from_secs(14 * 60 * 60);

impl BirthDate {
    /// Year, where known.
    pub fn year(self) -> Option<i16> {
        match self {
            Self::Unknown => None,
            Self::Year(year) | Self::Month(year, _) => Some(year),
            Self::Day(date) => Some(date.year()),
        }
    }

    /// Month from 1, where known.
    pub fn month(self) -> Option<i8> {
        match self {
            Self::Unknown | Self::Year(_) => None,
            Self::Month(_, month) => Some(month),
            Self::Day(date) => Some(date.month()),
        }
    }

    /// Day of the month from 1, where known.
    pub fn day(self) -> Option<i8> {
        match self {
            Self::Unknown | Self::Year(_) | Self::Month(..) => None,
            Self::Day(date) => Some(date.day()),
        }
    }

    /// Year, month and day of the first day that it may be.
    pub fn earliest(self) -> Option<(i16, i8, i8)> {
        Some((self.year()?, self.month().unwrap_or(1), self.day().unwrap_or(1)))
    }

    /// Whether the whole of the date lies in the future wherever the person was born: a date of birth is one of the place.
    pub fn is_after(self, now: Timestamp) -> bool {
        let today = now.plus(FIRST_MIDNIGHT).civil();
        match self {
            Self::Unknown => false,
            Self::Year(year) => year > today.year(),
            Self::Month(year, month) => (year, month) > (today.year(), today.month()),
            Self::Day(date) => date > today,
        }
    }
}

impl FromStr for BirthDate {
    type Err = Malformed;

    /// `YYYY-MM-DD`, `YYYY-MM`, `YYYY` or the empty text.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let rule = "YYYY-MM-DD, or YYYY-MM or YYYY where the rest is unknown, or empty";
        let number = |part: &str, len: usize| {
            let right = part.len() == len && part.bytes().all(|b| b.is_ascii_digit());
            right.then(|| part.parse::<i16>().ok()).flatten().ok_or(Malformed::new("", rule))
        };
        if text.is_empty() {
            return Ok(Self::Unknown);
        }
        let mut parts = text.split('-');
        let year = number(parts.next().unwrap_or_default(), 4)?;
        if !(1850..=9999).contains(&year) {
            return Err(Malformed::new("", "the year is not before 1850"));
        }
        let Some(month) = parts.next() else { return Ok(Self::Year(year)) };
        let month = i8::try_from(number(month, 2)?).unwrap_or_default();
        if !(1..=12).contains(&month) {
            return Err(Malformed::new("", "the month is from 01 to 12"));
        }
        let Some(day) = parts.next() else { return Ok(Self::Month(year, month)) };
        let day = i8::try_from(number(day, 2)?).unwrap_or_default();
        if parts.next().is_some() {
            return Err(Malformed::new("", rule));
        }
        jiff::civil::Date::new(year, month, day)
            .map(Self::Day)
            .map_err(|_| Malformed::new("", "this day does not exist in the calendar"))
    }
}

impl fmt::Debug for BirthDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[date]")
    }
}

/// Sex in the civil register, or in a passport.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sex {
    /// `F`.
    Female,
    /// `M`.
    Male,
    /// `X`: neither, or not said (ICAO Doc 9303; `unspecified` of FranceConnect).
    Other,
}

impl Sex {
    /// `F` or `M`, as INSEE writes it; else `X`.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Female => "F",
            Self::Male => "M",
            Self::Other => "X",
        }
    }
}

impl FromStr for Sex {
    type Err = Malformed;

    /// The letter.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        match text {
            "F" => Ok(Self::Female),
            "M" => Ok(Self::Male),
            "X" => Ok(Self::Other),
            _ => Err(Malformed::new("", "F, M or X")),
        }
    }
}

impl fmt::Debug for Sex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sex]")
    }
}

/// A place of birth in INSEE's official geographic code (COG).
#[derive(Clone, PartialEq, Eq)]
pub struct CogCode([u8; 5]);

impl CogCode {
    /// Whether it is France.
    pub fn is_france(&self) -> bool {
        self.0 == *b"99100"
    }

    /// A country, `99100` for France: `99` and three digits.
    pub fn country(text: &str) -> Result<Self, Malformed> {
        let rule = "a COG country code: 99 and three digits, 99100 for France";
        let code: [u8; 5] = text.as_bytes().try_into().map_err(|_| Malformed::new("", rule))?;
        if code.starts_with(b"99") && code.iter().all(u8::is_ascii_digit) {
            Ok(Self(code))
        } else {
            Err(Malformed::new("", rule))
        }
    }

    /// A commune, `08480`, `2A004`: five digits, the second may be A or B in Corsica.
    pub fn commune(text: &str) -> Result<Self, Malformed> {
        let rule = "a COG commune code: five digits, or 2A or 2B and three digits; not a postcode";
        let code: [u8; 5] = text.as_bytes().try_into().map_err(|_| Malformed::new("", rule))?;
        let [first, second, rest @ ..] = code;
        let corsica = first == b'2' && matches!(second, b'A' | b'B');
        if first.is_ascii_digit() && (second.is_ascii_digit() || corsica) && rest.iter().all(u8::is_ascii_digit) {
            Ok(Self(code))
        } else {
            Err(Malformed::new("", rule))
        }
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        // The constructors let only ASCII in, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for CogCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[place]")
    }
}

/// Who the person concerned is: FranceConnect's pivot identity and, where the person has one, a name of usage.
#[derive(Clone, PartialEq, Eq)]
pub struct PivotIdentity {
    /// Family name at birth.
    pub birth_name: Name,
    /// Name in use, where it is another one.
    pub usage_name: Option<Name>,
    /// Given names in the order of the civil register; at least one.
    pub given_names: Vec<Name>,
    /// Birth date, maybe partial.
    pub birth_date: BirthDate,
    /// Sex.
    pub sex: Sex,
    /// COG code of the country of birth.
    pub birth_country: CogCode,
    /// COG code of the commune of birth, for persons born in France. Of others it says nothing.
    pub birth_commune: Option<CogCode>,
}

impl PivotIdentity {
    /// The commune of birth of a person born in France.
    pub fn french_commune(&self) -> Option<&CogCode> {
        self.birth_commune.as_ref().filter(|_| self.birth_country.is_france())
    }

    /// The text that a subject's keyed reference is computed from: upper case without accents, hyphens and apostrophes
    /// as spaces, ligatures in two letters. The name of usage changes in a life and is left out.
    pub fn normalised(&self) -> String {
        let mut text = fold(self.birth_name.as_str());
        for (separator, name) in std::iter::once('\u{1f}').chain(std::iter::repeat(' ')).zip(&self.given_names) {
            text.push(separator);
            text.push_str(&fold(name.as_str()));
        }
        let number = |n: Option<i16>| n.map_or_else(String::new, |n| n.to_string());
        let date = self.birth_date;
        for part in [
            number(date.year()),
            number(date.month().map(i16::from)),
            number(date.day().map(i16::from)),
            self.sex.letter().to_owned(),
            self.birth_country.as_str().to_owned(),
            self.french_commune().map_or("", CogCode::as_str).to_owned(),
        ] {
            text.push('\u{1f}');
            text.push_str(&part);
        }
        text
    }
}

impl fmt::Debug for PivotIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[pivot identity]")
    }
}

/// A name without what spellings of one name differ in.
pub fn fold(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.nfd().filter(|c| !is_combining_mark(*c)) {
        match c {
            'œ' | 'Œ' => out.push_str("OE"),
            'æ' | 'Æ' => out.push_str("AE"),
            'þ' | 'Þ' => out.push_str("TH"),
            // Letters of their own in Unicode, which registers and keyboards without them write as these.
            'ł' | 'Ł' => out.push('L'),
            'ø' | 'Ø' => out.push('O'),
            'đ' | 'Đ' | 'ð' | 'Ð' => out.push('D'),
            c if c.is_alphanumeric() => out.extend(c.to_uppercase()),
            _ if out.ends_with(' ') || out.is_empty() => {}
            _ => out.push(' '),
        }
    }
    if out.ends_with(' ') {
        out.pop();
    }
    out
}

#[cfg(test)]
mod tests;
