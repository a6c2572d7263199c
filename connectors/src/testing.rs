//! What the tests of this crate share: permits made by the real decision, identities, and a source that speaks raw HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use unefois_consent::decide::{PermittedDataset, UsedToday};
use unefois_consent::identity::{CogCode, Sex};
use unefois_consent::registry::{Dataset, RegistryFile};
use unefois_consent::{
    AttributeId, Channel, DatasetId, Digest, ExchangeId, Facts, Filter, Ground, HabilitationId, KeyFingerprint,
    Language, NoticeShown, Permit, PersonFacts, PivotIdentity, Question, Registry, Siret, SubjectRef, Timestamp,
    decide,
};

use crate::{AccessToken, Fetch};

pub(crate) mod logs;
pub(crate) mod server;
pub(crate) mod tls;

/// The administration that asks in all tests.
pub(crate) const RECIPIENT: &str = "13002526500013";
/// The exchange of all tests, as the source sees it.
pub(crate) const EXCHANGE: &str = "e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7";
const NOW: &str = "2026-11-24T00:00:00Z";

#[derive(Debug)]
struct NoneUsed;

impl UsedToday for NoneUsed {
    fn used(&self, _: &HabilitationId, _: u64) -> u64 {
        0
    }
}

/// A question with its permit and its person.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) permit: Permit,
    pub(crate) identity: PivotIdentity,
    pub(crate) access_token: Option<AccessToken>,
    pub(crate) ground: Ground,
    pub(crate) via: Vec<String>,
    pub(crate) timeout: Duration,
}

impl Asked {
    /// Asks `attributes` of `dataset` about [`person`].
    pub(crate) fn new(dataset: &str, attributes: &[&str]) -> Self {
        Self::filtered(dataset, attributes, &[])
    }

    /// The same, with filters.
    pub(crate) fn filtered(dataset: &str, attributes: &[&str], filter: &[(&str, &str)]) -> Self {
        Self {
            permit: permit(dataset, attributes, filter),
            identity: person(),
            access_token: None,
            ground: informed(),
            via: Vec::new(),
            timeout: Duration::from_secs(5),
        }
    }

    pub(crate) fn about(mut self, identity: PivotIdentity) -> Self {
        self.identity = identity;
        self
    }

    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.access_token = AccessToken::new(token);
        self
    }

    pub(crate) fn dataset(&self) -> &PermittedDataset {
        &self.permit.datasets()[0]
    }

    pub(crate) fn attribute(&self, index: usize) -> AttributeId {
        self.dataset().attributes[index].clone()
    }

    pub(crate) fn fetch(&self) -> Fetch<'_> {
        Fetch {
            permit: &self.permit,
            dataset: self.dataset(),
            identity: &self.identity,
            access_token: self.access_token.as_ref(),
            ground: &self.ground,
            broker: "broker.example/log",
            via: &self.via,
            deadline: (Instant::now() + self.timeout).into_std(),
            trial: None,
        }
    }
}

/// A person whose name has accents, a ligature, an apostrophe and a hyphen.
pub(crate) fn person() -> PivotIdentity {
    identity("Lefèvre-d'Œuvre", &["Gérôme", "Jean-Philippe"], "1982-12-07")
}

pub(crate) fn identity(birth_name: &str, given_names: &[&str], birth_date: &str) -> PivotIdentity {
    PivotIdentity {
        birth_name: birth_name.parse().unwrap(),
        usage_name: None,
        given_names: given_names.iter().map(|n| n.parse().unwrap()).collect(),
        birth_date: birth_date.parse().unwrap(),
        sex: Sex::Female,
        birth_country: CogCode::country("99100").unwrap(),
        birth_commune: Some(CogCode::commune("08480").unwrap()),
    }
}

/// The person asked and read notice 1.
fn informed() -> Ground {
    let shown_at = NOW.parse().unwrap();
    Ground::LawRequest {
        notice: NoticeShown { version: 1, shown_at, channel: Channel::Online, language: Language::Fr },
    }
}

fn permit(dataset: &str, attributes: &[&str], filter: &[(&str, &str)]) -> Permit {
    let now: Timestamp = NOW.parse().unwrap();
    let siret: Siret = RECIPIENT.parse().unwrap();
    let id: DatasetId = dataset.parse().unwrap();
    let filter: Filter = filter.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let question = Question {
        consumer: siret,
        key: KeyFingerprint([7; 32]),
        agent: "test".to_owned(),
        recipient: siret,
        procedure: "cantine".parse().unwrap(),
        habilitation: None,
        attributes: attributes.iter().map(|name| id.attribute(name).unwrap()).collect(),
        filters: if filter.is_empty() { BTreeMap::new() } else { BTreeMap::from([(id, filter.clone())]) },
        ground: informed(),
        subject: SubjectRef([5; 16]),
        mandate: None,
        request_id: "r-1".parse().unwrap(),
        content: Digest([0; 32]),
    };
    let person = PersonFacts::default();
    let registry = registry(dataset, attributes, filter.keys().cloned().collect());
    let rules = unefois_consent::Rules::NEWEST;
    let facts = Facts { rules, registry: &registry, person: &person, used_today: &NoneUsed, earlier: None };
    decide(&facts, &question, ExchangeId([0xe7; 16]), now).unwrap()
}

/// A dataset of the registry.
pub(crate) fn dataset_of(dataset: &str, attributes: &[&str]) -> Dataset {
    let registry = registry(dataset, attributes, BTreeSet::new());
    Dataset::clone(registry.dataset(dataset).unwrap())
}

fn registry(dataset: &str, attributes: &[&str], filters: BTreeSet<String>) -> Registry {
    // `test.data.v4` is of version 4.
    let version = dataset.rsplit_once(".v").map_or("3", |(_, version)| version);
    let attribute = |name: &&str| serde_json::json!({"name": name, "title": name});
    let file: RegistryFile = serde_json::from_value(serde_json::json!({
        "participants": [{"siret": RECIPIENT, "name": "Ville",
            "keys": [{"fingerprint": "07".repeat(32), "roles": ["exchange"]}]}],
        "procedures": [{"id": "cantine", "title": "Cantine",
            "notices": [{"version": 1, "fr": "Texte", "en": "Text"}]}],
        "datasets": [{"id": dataset, "title": "Test", "source": RECIPIENT, "connector": "test", "version": version,
            "class": "ordinary", "filters": filters, "attributes": attributes.iter().map(attribute).collect::<Vec<_>>()}],
        "habilitations": [{"id": "h", "participant": RECIPIENT, "legal_basis": "CRPA L114-8",
            "procedures": ["cantine"], "attributes": attributes.iter().map(|a| format!("{dataset}.{a}")).collect::<Vec<_>>(),
            "grounds": ["LAW_REQUEST"], "recipients": [RECIPIENT], "retention_months": 12,
            "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2027-01-01T00:00:00Z",
            "dpo_contact": "dpo@ville.example", "status": "active"}],
    }))
    .unwrap();
    Registry::from_file(file).unwrap()
}
