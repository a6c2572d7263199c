//! What a plugin says that it can be asked.

use std::collections::{BTreeMap, BTreeSet};

use unefois_consent::registry::Dataset;
use unefois_consent::{AttributeId, DatasetId, Filter, Malformed};
use unefois_proto::connector::v1::{DatasetDescription, DescribeResponse};

use crate::{Fetch, SourceFault};

/// The datasets of a plugin that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description(BTreeMap<DatasetId, Described>);

/// One dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Described {
    /// Any where absent.
    version: Option<String>,
    attributes: BTreeSet<String>,
    /// By name; whether every question must have it.
    filters: BTreeMap<String, bool>,
    is_repeatable: bool,
    needs_token: bool,
}

impl Description {
    /// Keeps what is `wanted` and refuses a description without it.
    pub(super) fn read(message: DescribeResponse, wanted: &[DatasetId]) -> Result<Self, &'static str> {
        let mut datasets = BTreeMap::new();
        for described in message.datasets {
            let Some(id) = wanted.iter().find(|id| id.as_str() == described.dataset) else { continue };
            if datasets.insert(id.clone(), Described::read(described)).is_some() {
                return Err("it describes a dataset twice");
            }
        }
        if datasets.len() == wanted.len() {
            Ok(Self(datasets))
        } else {
            Err("it does not describe every dataset of `datasets`")
        }
    }

    /// Refuses what the plugin does not say that it takes, for everyone alike.
    pub(super) fn check_question(&self, fetch: &Fetch<'_>) -> Result<(), SourceFault> {
        let dataset = &fetch.dataset.dataset;
        let described = self.0.get(&dataset.id).ok_or(SourceFault::Untrusted("the plugin has no such dataset"))?;
        if !described.is_version(&dataset.version) {
            return Err(SourceFault::Untrusted("the plugin has another version of the dataset"));
        }
        if !fetch.dataset.attributes.iter().map(AttributeId::name).all(|name| described.attributes.contains(name)) {
            return Err(SourceFault::Untrusted("the plugin has no such attribute"));
        }
        if !fetch.dataset.filter.keys().all(|name| described.filters.contains_key(name)) {
            return Err(SourceFault::Untrusted("the plugin has no such filter"));
        }
        Ok(())
    }

    /// What a dataset of the registry names that the plugin does not have.
    pub(super) fn lacks(&self, dataset: &Dataset) -> Option<String> {
        let described = self.0.get(&dataset.id)?;
        if !described.is_version(&dataset.version) {
            return Some(format!("version {}", dataset.version));
        }
        let attribute = dataset.attributes.iter().find(|attribute| !described.attributes.contains(&attribute.name));
        let filter = dataset.filters.iter().find(|name| !described.filters.contains_key(*name));
        let attribute = attribute.map(|attribute| format!("attribute {}", attribute.name));
        attribute.or_else(|| filter.map(|name| format!("filter {name}")))
    }

    /// Refuses a question without what the plugin needs.
    pub(super) fn check(&self, dataset: &Dataset, filter: &Filter, has_token: bool) -> Result<(), Malformed> {
        let Some(described) = self.0.get(&dataset.id) else { return Ok(()) };
        let missing = described.filters.iter().find(|(name, is_needed)| **is_needed && !filter.contains_key(*name));
        if let Some((name, _)) = missing {
            let missing = Malformed::new(name, "is needed: no question about this dataset goes without it");
            return Err(missing.within(dataset.id.as_str()).within("filters"));
        }
        if described.needs_token && !has_token {
            return Err(Malformed::new(
                "france_connect_token",
                "is needed: this dataset is asked with the person's access token",
            ));
        }
        Ok(())
    }

    pub(super) fn is_repeatable(&self, dataset: &DatasetId) -> bool {
        self.0.get(dataset).is_some_and(|described| described.is_repeatable)
    }
}

impl Described {
    fn read(message: DatasetDescription) -> Self {
        Self {
            version: Some(message.version).filter(|version| !version.is_empty()),
            attributes: message.attributes.into_iter().collect(),
            filters: message.filters.into_iter().map(|filter| (filter.name, filter.required)).collect(),
            is_repeatable: message.repeatable,
            needs_token: message.needs_access_token,
        }
    }

    fn is_version(&self, version: &str) -> bool {
        self.version.as_deref().is_none_or(|own| own == version)
    }
}
