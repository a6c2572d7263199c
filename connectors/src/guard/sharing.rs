//! When two questions are the same one, and then one answer is enough.

use unefois_consent::{AttributeId, identity::Name};
use zeroize::Zeroizing;

use super::Guarded;
use super::kept::Kept;
use crate::flight::{self, Flights, Key};
use crate::{Fetch, Sharing, SourceAnswer};

/// Questions under way, and answers that are kept.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) flights: Flights<SourceAnswer>,
    pub(super) kept: Kept,
}

/// What a question may share.
pub(super) struct Shareable {
    pub(super) key: Key,
    pub(super) is_joined: bool,
}

impl Guarded {
    /// None for a question that has its own answer alone.
    pub(super) fn shareable(&self, fetch: &Fetch<'_>) -> Option<Shareable> {
        // The person's own token is for one question, and a trial is for its operator.
        if fetch.trial.is_some() || fetch.access_token.is_some() {
            return None;
        }
        let is_joined = match self.connector.sharing(fetch) {
            Sharing::Never => return None,
            Sharing::Kept if !self.shared.kept.keeps() => return None,
            Sharing::Kept => false,
            Sharing::Joined => true,
        };
        Some(Shareable { key: key(fetch), is_joined })
    }
}

/// What makes two questions the same one: all but the exchange. The administration, procedure, habilitation and ground too,
/// with the consent: what one was told on its ground is nothing that another may be told.
fn key(fetch: &Fetch<'_>) -> Key {
    let (permit, asked, person) = (fetch.permit, fetch.dataset, fetch.identity);
    let right = [
        permit.consumer().to_string(),
        permit.recipient().to_string(),
        permit.consent().map(|consent| consent.to_string()).unwrap_or_default(),
        permit.mandate().map(|mandate| mandate.to_string()).unwrap_or_default(),
    ];
    // `normalised` says who somebody is; a source may be asked by the spelling.
    let who = Zeroizing::new(person.normalised());
    let spelled = [&person.birth_name].into_iter().chain(&person.usage_name).chain(&person.given_names);
    let given = person.given_names.len().to_string();
    let usage = if person.usage_name.is_some() { "usage" } else { "" };
    let texts = [permit.procedure().as_str(), permit.habilitation().as_str(), permit.ground().as_str()];
    let dataset = [asked.dataset.id.as_str(), asked.dataset.version.as_str(), &*who, usage];
    // The number of attributes tells where they end and the filter begins.
    let attributes = asked.attributes.len().to_string();
    flight::key(
        right
            .iter()
            .map(String::as_str)
            .chain(texts)
            .chain(dataset)
            .chain(spelled.map(Name::as_str))
            .chain([given.as_str(), attributes.as_str()])
            .chain(asked.attributes.iter().map(AttributeId::name))
            .chain(asked.filter.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()])),
    )
}
