//! From a fetch to a request: which path, which bearer, which query.
//!
//! The query names the person, so a URL made here is never logged and never part of an error.

use reqwest::Url;
use unefois_consent::PivotIdentity;
use zeroize::Zeroizing;

use super::table::{DatasetRow, Modality, Route};
use super::token::Token;
use crate::{Fetch, SourceFault};

/// Most given names that the API takes.
const MAX_GIVEN_NAMES: usize = 3;

/// The route by which this fetch can say who the person is; none where no route can.
pub(super) fn route(row: &DatasetRow, fetch: &Fetch<'_>) -> Option<&'static Route> {
    row.routes.iter().find(|route| match route.modality {
        Modality::Identity => true,
        Modality::FranceConnect => fetch.access_token.is_some(),
        Modality::Number(filter) => fetch.dataset.filter.contains_key(filter),
    })
}

/// The URL that asks `route` below `base`.
pub(super) fn url(base: &Url, row: &DatasetRow, route: &Route, fetch: &Fetch<'_>) -> Result<Url, SourceFault> {
    let mut url = base.clone();
    url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), route.path));
    let mut query = url.query_pairs_mut();
    query.append_pair("recipient", fetch.permit.recipient().as_str());
    match route.modality {
        Modality::Identity => {
            for (name, value) in identity(fetch.identity) {
                query.append_pair(name, &value);
            }
        }
        // The bearer or a filter says who the person is: the names stay here.
        Modality::FranceConnect | Modality::Number(_) => {}
    }
    for (name, value) in &fetch.dataset.filter {
        let filter = row.filter(name).ok_or(SourceFault::Untrusted("the source has no such filter"))?;
        let value = filter.form.accept(value).ok_or(SourceFault::Untrusted("a filter has not the source's form"))?;
        query.append_pair(filter.name, &value);
    }
    drop(query);
    Ok(url)
}

/// `Bearer` with the person's token or the broker's, as the route wants.
pub(super) fn bearer(route: &Route, own: &Token, fetch: &Fetch<'_>) -> Option<Zeroizing<String>> {
    let token = match route.modality {
        Modality::FranceConnect => fetch.access_token?.expose(),
        Modality::Identity | Modality::Number(_) => own.expose(),
    };
    Some(Zeroizing::new(format!("Bearer {token}")))
}

/// The person in the API's parameters and in the person's own spelling. What is not known is not sent.
fn identity(person: &PivotIdentity) -> Vec<(&'static str, String)> {
    let mut query = vec![("nomNaissance", person.birth_name.as_str().to_owned())];
    if let Some(name) = &person.usage_name {
        query.push(("nomUsage", name.as_str().to_owned()));
    }
    for name in person.given_names.iter().take(MAX_GIVEN_NAMES) {
        query.push(("prenoms[]", name.as_str().to_owned()));
    }
    let date = person.birth_date;
    let parts = [
        ("anneeDateNaissance", date.year()),
        ("moisDateNaissance", date.month().map(i16::from)),
        ("jourDateNaissance", date.day().map(i16::from)),
    ];
    query.extend(parts.into_iter().filter_map(|(name, part)| Some((name, part?.to_string()))));
    query.push(("sexeEtatCivil", person.sex.letter().to_owned()));
    query.push(("codeCogInseePaysNaissance", person.birth_country.as_str().to_owned()));
    if let Some(commune) = &person.birth_commune {
        query.push(("codeCogInseeCommuneNaissance", commune.as_str().to_owned()));
    }
    query
}
