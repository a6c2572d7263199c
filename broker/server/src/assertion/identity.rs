//! The pivot identity in the claims of FranceConnect.

use unefois_consent::identity::{BirthDate, CogCode, MAX_GIVEN_NAMES, Name, Sex};
use unefois_consent::{PivotIdentity, Timestamp};

use super::AssertionFault;
use super::claims::Claims;

/// INSEE's code of France.
const FRANCE: &str = "99100";

/// Reads the pivot identity. A claim that is missing, or that is not of its form, refuses the whole.
pub(super) fn pivot(claims: &Claims, now: Timestamp) -> Result<PivotIdentity, AssertionFault> {
    let text = |name| claims.text(name).map_err(|_| AssertionFault::Identity);
    let needed = |name| text(name)?.filter(|text| !text.is_empty()).ok_or(AssertionFault::Identity);
    let name = |text: &str| text.parse::<Name>().map_err(|_| AssertionFault::Identity);

    let birth_name = name(needed("family_name")?)?;
    let usage_name = text("preferred_username")?.filter(|text| !text.is_empty()).map(name).transpose()?;
    let birth_date = birth_date(needed("birthdate")?)?;
    if birth_date.is_after(now) {
        return Err(AssertionFault::Identity);
    }
    let sex = match needed("gender")? {
        "female" => Sex::Female,
        "male" => Sex::Male,
        _ => return Err(AssertionFault::Identity),
    };
    let birth_country = CogCode::country(needed("birthcountry")?).map_err(|_| AssertionFault::Identity)?;
    let commune = text("birthplace")?.filter(|text| !text.is_empty());
    // Whoever was born in France has a commune, and nobody else: with a part missing it would be another subject.
    if commune.is_some() != (birth_country.as_str() == FRANCE) {
        return Err(AssertionFault::Identity);
    }
    let birth_commune = commune.map(CogCode::commune).transpose().map_err(|_| AssertionFault::Identity)?;
    Ok(PivotIdentity {
        usage_name: usage_name.filter(|usage| *usage != birth_name),
        birth_name,
        given_names: given_names(claims)?,
        birth_date,
        sex,
        birth_country,
        birth_commune,
    })
}

/// The given names as a list; a name that holds a space is only right there.
fn given_names(claims: &Claims) -> Result<Vec<Name>, AssertionFault> {
    let texts = match claims.list("given_name_array").map_err(|_| AssertionFault::Identity)? {
        Some(texts) => texts,
        None => {
            let text = claims.text("given_name").map_err(|_| AssertionFault::Identity)?.unwrap_or_default();
            text.split(' ').filter(|part| !part.is_empty()).collect()
        }
    };
    if texts.is_empty() || texts.len() > MAX_GIVEN_NAMES {
        return Err(AssertionFault::Identity);
    }
    texts.into_iter().map(|text| text.parse().map_err(|_| AssertionFault::Identity)).collect()
}

/// `YYYY-MM-DD`, with `00` for a month and a day that are not known.
fn birth_date(text: &str) -> Result<BirthDate, AssertionFault> {
    if text.len() != "YYYY-MM-DD".len() {
        return Err(AssertionFault::Identity);
    }
    let known = text.strip_suffix("-00-00").or_else(|| text.strip_suffix("-00")).unwrap_or(text);
    known.parse().map_err(|_| AssertionFault::Identity)
}
