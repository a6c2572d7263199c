//! From a fetch to a request: which path, which bearer, which query.
//!
//! The query names the person, so a URL made here is never logged and never part of an error.

use reqwest::Url;
use unefois_consent::identity::{Name, Sex};
use unefois_consent::{DatasetId, Filter, Malformed, PivotIdentity};
use unicode_normalization::UnicodeNormalization;

use super::table::{DatasetRow, IdentityParts, Modality, Route};
use crate::{Fetch, SourceFault};

/// Refuses a filter that the source would refuse, and a question that no path can take, in words for the one who asks. A
/// filter that the table does not have is left to those who know what the registry allows.
pub(super) fn check(row: &DatasetRow, id: &DatasetId, filter: &Filter, has_token: bool) -> Result<(), Malformed> {
    let refuse = |name: &str, rule| Err(Malformed::new(name, rule).within(id.as_str()).within("filters"));
    for known in row.filters {
        match filter.get(known.name) {
            Some(value) if known.form.accept(value).is_none() => return refuse(known.name, known.form.rule()),
            None if known.is_needed => {
                return refuse(known.name, "is needed: no question about this dataset goes without it");
            }
            Some(_) | None => {}
        }
    }
    let given: Vec<_> = row.one_of.iter().filter(|name| filter.contains_key(**name)).collect();
    match (row.one_of, given.as_slice()) {
        ([], _) | (_, [_]) => {}
        ([first, ..], []) => return refuse(first, "this, or another filter that says where, is needed"),
        (_, [_, second, ..]) => return refuse(second, "only one of the filters that say where may be given"),
    }
    let only_by_token = row.routes.iter().all(|route| route.modality == Modality::FranceConnect);
    if only_by_token && !has_token {
        let rule = "this dataset is asked with the person's FranceConnect token only";
        return Err(Malformed::new("france_connect_token", rule));
    }
    Ok(())
}

/// The route by which this fetch can say who the person is and get all that is asked; none where no route can.
pub(super) fn route(row: &DatasetRow, fetch: &Fetch<'_>) -> Option<&'static Route> {
    let can_say = |route: &Route| match route.modality {
        Modality::Identity(parts) => identity(fetch.identity, parts).is_some(),
        Modality::FranceConnect => fetch.access_token.is_some(),
        Modality::Number(filter) => fetch.dataset.filter.contains_key(filter),
    };
    let asked = || fetch.dataset.attributes.iter().filter_map(|a| row.attribute(a.name()));
    row.routes.iter().find(|route| can_say(route) && asked().all(|attribute| attribute.is_offered_by(route)))
}

/// The URL that asks `route` below `base`.
pub(super) fn url(base: &Url, row: &DatasetRow, route: &Route, fetch: &Fetch<'_>) -> Result<Url, SourceFault> {
    let mut url = base.clone();
    url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), route.path));
    let mut query = url.query_pairs_mut();
    query.append_pair("recipient", fetch.permit.recipient().as_str());
    match route.modality {
        Modality::Identity(parts) => {
            let said =
                identity(fetch.identity, parts).ok_or(SourceFault::Untrusted("the API takes no such identity"))?;
            for (name, value) in said {
                query.append_pair(name, &value);
            }
        }
        // The bearer or a filter says who the person is: the names stay here.
        Modality::FranceConnect | Modality::Number(_) => {}
    }
    for (name, value) in &fetch.dataset.filter {
        let filter = row.filter(name).ok_or(SourceFault::Untrusted("the source has no such filter"))?;
        let values = filter.form.accept(value).ok_or(SourceFault::Untrusted("a filter has not the source's form"))?;
        for value in values {
            query.append_pair(&filter.parameter(), &value);
        }
    }
    drop(query);
    Ok(url)
}

/// The person in the API's parameters, as its validators take them; none where they do not take this person. What is not known, or
/// not taken, is not sent.
fn identity(person: &PivotIdentity, parts: IdentityParts) -> Option<Vec<(&'static str, String)>> {
    if (parts.whole_birth_date && person.birth_date.day().is_none()) || (parts.sex && person.sex == Sex::Other) {
        return None;
    }
    let mut query = vec![("nomNaissance", spelled(&person.birth_name)?)];
    let usage_name = person.usage_name.as_ref().filter(|_| parts.usage_name);
    query.extend(usage_name.and_then(spelled).map(|name| ("nomUsage", name)));
    for name in person.given_names.iter().take(parts.most_given_names) {
        query.push(("prenoms[]", spelled(name)?));
    }
    let date = person.birth_date;
    let date = [
        ("anneeDateNaissance", date.year()),
        ("moisDateNaissance", date.month().map(i16::from)),
        ("jourDateNaissance", date.day().map(i16::from)),
    ];
    query.extend(date.into_iter().filter_map(|(name, part)| Some((name, part?.to_string()))));
    if parts.sex {
        query.push(("sexeEtatCivil", person.sex.letter().to_owned()));
    }
    if parts.country {
        query.push(("codeCogInseePaysNaissance", person.birth_country.as_str().to_owned()));
    }
    if let Some(commune) = person.french_commune().filter(|_| parts.commune) {
        query.push(("codeCogInseeCommuneNaissance", commune.as_str().to_owned()));
    }
    Some(query)
}

/// A name in the signs that the API takes: letters of ISO 8859-1, composed, with spaces, hyphens and straight apostrophes. Another
/// Latin letter goes without its marks, as the civil register writes it; none where there is any other sign.
fn spelled(name: &Name) -> Option<String> {
    let mut text = String::new();
    for c in name.as_str().nfc() {
        match c {
            'a'..='z' | 'A'..='Z' | 'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ÿ' | ' ' | '-' | '\'' => text.push(c),
            '’' | '‘' | '\u{2bc}' | '\u{2bb}' => text.push('\''),
            'œ' => text.push_str("oe"),
            'Œ' => text.push_str("OE"),
            c => {
                let plain = c.nfd().next().filter(char::is_ascii_alphabetic)?;
                text.push(plain);
            }
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_in_the_signs_that_the_api_takes() {
        for (name, taken) in [
            ("Lefe\u{300}vre-d’Œuvre", Some("Lefèvre-d'OEuvre")),
            ("L'HAŸ", Some("L'HAY")),
            ("Kerc\u{2bc}hoat", Some("Kerc'hoat")),
            ("Žižek Ångström", Some("Zizek Ångström")),
            ("Ørsted ÿ", Some("Ørsted ÿ")),
            ("Łukasz", None),
            ("王", None),
            ("Saint.Clair", None),
        ] {
            assert_eq!(spelled(&name.parse().unwrap()).as_deref(), taken, "{name}");
        }
    }
}
