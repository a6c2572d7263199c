//! The pivot identity in the claims of FranceConnect.

use unefois_consent::identity::{BirthDate, CogCode, MAX_GIVEN_NAMES, Name, Sex};
use unefois_consent::{PivotIdentity, Timestamp};

use super::AssertionFault;
use super::claims::Claims;

/// Reads the pivot identity. A claim that is missing, or that is not of its form, refuses the whole.
pub(super) fn pivot(claims: &Claims, now: Timestamp) -> Result<PivotIdentity, AssertionFault> {
    let text = |claim: &'static str| claims.text(claim).map_err(|_| AssertionFault::Identity { claim });
    let needed = |claim| text(claim)?.filter(|text| !text.is_empty()).ok_or(AssertionFault::Identity { claim });
    let birth_name = of("family_name", needed("family_name")?.parse::<Name>())?;
    let usage_name = text("preferred_username")?.filter(|text| !text.is_empty());
    let usage_name = usage_name.map(|text| of("preferred_username", text.parse::<Name>())).transpose()?;
    let birth_date = birth_date(needed("birthdate")?).filter(|date| !date.is_after(now));
    let sex = match needed("gender")? {
        "female" => Some(Sex::Female),
        "male" => Some(Sex::Male),
        "unspecified" => Some(Sex::Other),
        _ => None,
    };
    let birth_country = of("birthcountry", CogCode::country(needed("birthcountry")?))?;
    // Of a birth abroad it may say the place in any words. Whoever was born in France has a commune: without it they would be
    // another subject.
    let birth_commune = if birth_country.is_france() {
        Some(of("birthplace", CogCode::commune(needed("birthplace")?))?)
    } else {
        text("birthplace")?;
        None
    };
    Ok(PivotIdentity {
        usage_name: usage_name.filter(|usage| *usage != birth_name),
        birth_name,
        given_names: given_names(claims)?,
        birth_date: birth_date.ok_or(AssertionFault::Identity { claim: "birthdate" })?,
        sex: sex.ok_or(AssertionFault::Identity { claim: "gender" })?,
        birth_country,
        birth_commune,
    })
}

/// What was read of `claim`.
fn of<T, E>(claim: &'static str, read: Result<T, E>) -> Result<T, AssertionFault> {
    read.map_err(|_| AssertionFault::Identity { claim })
}

/// The given names as a list; a name that holds a space is only right there.
fn given_names(claims: &Claims) -> Result<Vec<Name>, AssertionFault> {
    let (claim, texts) = match of("given_name_array", claims.list("given_name_array"))? {
        Some(texts) => ("given_name_array", texts),
        None => {
            let text = of("given_name", claims.text("given_name"))?.unwrap_or_default();
            ("given_name", text.split(' ').filter(|part| !part.is_empty()).collect())
        }
    };
    if texts.is_empty() || texts.len() > MAX_GIVEN_NAMES {
        return Err(AssertionFault::Identity { claim });
    }
    texts.into_iter().map(|text| of(claim, text.parse())).collect()
}

/// `YYYY-MM-DD`, with `00` for a month and a day that are not known.
fn birth_date(text: &str) -> Option<BirthDate> {
    if text.len() != "YYYY-MM-DD".len() {
        return None;
    }
    let known = text.strip_suffix("-00-00").or_else(|| text.strip_suffix("-00")).unwrap_or(text);
    known.parse().ok()
}
