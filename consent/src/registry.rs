//! The registry: who takes part, for what, and with which right. Its whole is a fold of changes, each an entry of the
//! log; a change that breaks a rule below is refused before it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::ConnectorName;
use crate::{
    AttributeId, DatasetId, Digest, GroundKind, HabilitationId, KeyFingerprint, Language, ProcedureId, Retention,
    Siret, Timestamp,
};

mod change;
mod rules;

pub use change::{ChangeSummary, RegistryChange};
pub use rules::RegistryFault;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Ask for attributes and keep the consents that it collects.
    Exchange,
    /// Read traces, proofs and checkpoints.
    Audit,
    /// Read and change the registry.
    Registry,
    /// Act for persons whom an identity provider has proven.
    Portal,
}

/// A public key of a participant. Several per participant, so that keys rotate without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledKey {
    /// SHA-256 of the certificate's SubjectPublicKeyInfo.
    pub fingerprint: KeyFingerprint,
    /// What the key may do.
    pub roles: BTreeSet<Role>,
    /// What the operator calls it.
    #[serde(default)]
    pub label: String,
}

/// An administration that asks, supplies, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Participant {
    /// Its establishment.
    pub siret: Siret,
    /// Its name.
    pub name: String,
    /// Its postal address, for consent receipts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Its telephone number, for consent receipts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phone: String,
    /// Its keys.
    #[serde(default)]
    pub keys: Vec<EnrolledKey>,
}

/// The text that informs the person, in one version that never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// From 1.
    pub version: u32,
    /// French text.
    pub fr: String,
    /// English text.
    pub en: String,
}

/// SHA-256 of the texts of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NoticeDigests {
    fr: Digest,
    en: Digest,
}

impl Notice {
    fn digests(&self) -> NoticeDigests {
        NoticeDigests { fr: self.digest(Language::Fr), en: self.digest(Language::En) }
    }

    /// SHA-256 of the exact text in `language`.
    pub fn digest(&self, language: Language) -> Digest {
        match language {
            Language::Fr => Digest::of(self.fr.as_bytes()),
            Language::En => Digest::of(self.en.as_bytes()),
        }
    }
}

/// A *démarche* for which data is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Procedure {
    /// Its name in requests.
    pub id: ProcedureId,
    /// Its name for people.
    pub title: String,
    /// Longest validity of a consent for it, in days.
    #[serde(default = "default_consent_days")]
    pub consent_max_days: u32,
    /// Oldest showing of a notice that still informs, in days.
    #[serde(default = "default_notice_days")]
    pub notice_max_age_days: u32,
    /// For how many months the traces of its exchanges are kept: 1 to 36.
    #[serde(default = "default_trace_months", skip_serializing_if = "is_default_trace_months")]
    pub trace_months: u8,
    /// The article that says why they are kept for less than 36 months, such as "2022/1463 art. 17".
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace_article: String,
    /// Its notices.
    pub notices: Vec<Notice>,
}

fn default_trace_months() -> u8 {
    Retention::TRACES.months()
}

fn is_default_trace_months(months: &u8) -> bool {
    *months == default_trace_months()
}

fn default_consent_days() -> u32 {
    365
}

fn default_notice_days() -> u32 {
    365
}

impl Procedure {
    /// The notice of `version`.
    pub fn notice(&self, version: u32) -> Option<&Notice> {
        self.notices.iter().find(|n| n.version == version)
    }
}

/// What kind of data a dataset holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatasetClass {
    /// May be exchanged under a ground.
    Ordinary,
    /// Medical secret: refused (CRPA R114-9-7).
    Medical,
    /// Defence secret: refused (CRPA R114-9-7).
    Defence,
}

/// One attribute of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// Its name in the dataset.
    pub name: String,
    /// Its name for people.
    pub title: String,
}

/// A dataset of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// Its name in requests.
    pub id: DatasetId,
    /// Its name for people.
    pub title: String,
    /// The participant that supplies it.
    pub source: Siret,
    /// The connector, of the broker's configuration, that serves it.
    pub connector: ConnectorName,
    /// The source's version of it.
    pub version: String,
    /// What kind of data it holds.
    pub class: DatasetClass,
    /// Whether the source demands a preview under `EXPLICIT_REQUEST`.
    #[serde(default)]
    pub preview_required: bool,
    /// Filters that a question may give.
    #[serde(default)]
    pub filters: Vec<String>,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
}

impl Dataset {
    /// Whether the dataset has the attribute `name`.
    pub fn has_attribute(&self, name: &str) -> bool {
        self.attributes.iter().any(|a| a.name == name)
    }
}

/// State of a habilitation (after DataPass).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HabilitationStatus {
    /// In force within its dates.
    Active,
    /// Replaced by a newer one.
    Obsolete,
    /// Taken back.
    Revoked,
}

/// The right of one participant to ask certain attributes for certain procedures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Habilitation {
    /// Its name in requests.
    pub id: HabilitationId,
    /// Who holds it.
    pub participant: Siret,
    /// The text that gives the right.
    pub legal_basis: String,
    /// For which procedures.
    pub procedures: BTreeSet<ProcedureId>,
    /// For which attributes.
    pub attributes: BTreeSet<AttributeId>,
    /// On which grounds.
    pub grounds: BTreeSet<GroundKind>,
    /// Which administrations may use the data.
    pub recipients: BTreeSet<Siret>,
    /// How long the consumer keeps the data, in months.
    pub retention_months: u16,
    /// Most exchanges a day (UTC); no limit where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_per_day: Option<u64>,
    /// Start of validity.
    pub valid_from: Timestamp,
    /// End of validity.
    pub valid_until: Timestamp,
    /// Whom persons write to about their data.
    pub dpo_contact: String,
    /// Its state.
    pub status: HabilitationStatus,
}

impl Habilitation {
    /// Whether its dates include `now`.
    pub fn is_in_date(&self, now: Timestamp) -> bool {
        now >= self.valid_from && now < self.valid_until
    }
}

/// The registry in the form of its file: lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryFile {
    /// Who takes part.
    pub participants: Vec<Participant>,
    /// For what data is asked.
    pub procedures: Vec<Procedure>,
    /// What can be asked.
    pub datasets: Vec<Dataset>,
    /// Who may ask what.
    pub habilitations: Vec<Habilitation>,
}

/// The registry, by name. Cheap to clone: a decision and the answers of one moment see the same one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    participants: BTreeMap<Siret, Arc<Participant>>,
    procedures: BTreeMap<ProcedureId, Arc<Procedure>>,
    /// Digests of the texts of a procedure's notices, by version: each consent is compared with one.
    notices: BTreeMap<ProcedureId, Vec<(u32, NoticeDigests)>>,
    datasets: BTreeMap<DatasetId, Arc<Dataset>>,
    habilitations: BTreeMap<HabilitationId, Arc<Habilitation>>,
    /// Names of the habilitations of each participant: a decision must not walk those of thousands of communes.
    held: BTreeMap<Siret, BTreeSet<HabilitationId>>,
    keys: BTreeMap<KeyFingerprint, (Siret, BTreeSet<Role>)>,
}

impl Registry {
    /// The registry that `file` describes, if it breaks no rule.
    pub fn from_file(file: RegistryFile) -> Result<Self, RegistryFault> {
        rules::check(&file)?;
        Ok(Self::from_log(file))
    }

    /// The registry that was in force already. Rules that came later do not undo it; they bind the next change.
    pub fn from_log(file: RegistryFile) -> Self {
        let mut registry = Self::default();
        for participant in file.participants {
            registry.apply(RegistryChange::PutParticipant(participant));
        }
        for procedure in file.procedures {
            registry.apply(RegistryChange::PutProcedure(procedure));
        }
        for dataset in file.datasets {
            registry.apply(RegistryChange::PutDataset(dataset));
        }
        for habilitation in file.habilitations {
            registry.apply(RegistryChange::PutHabilitation(habilitation));
        }
        registry
    }

    /// The registry as lists, in the order of names.
    pub fn to_file(&self) -> RegistryFile {
        RegistryFile {
            participants: self.participants.values().map(|p| (**p).clone()).collect(),
            procedures: self.procedures.values().map(|p| (**p).clone()).collect(),
            datasets: self.datasets.values().map(|d| (**d).clone()).collect(),
            habilitations: self.habilitations.values().map(|h| (**h).clone()).collect(),
        }
    }

    /// Who holds the key, and what it may do.
    pub fn holder(&self, key: &KeyFingerprint) -> Option<(Siret, &BTreeSet<Role>)> {
        self.keys.get(key).map(|(siret, roles)| (*siret, roles))
    }

    /// Whether `key` is enrolled for `participant` with `role`.
    pub fn is_enrolled(&self, participant: Siret, key: &KeyFingerprint, role: Role) -> bool {
        self.holder(key).is_some_and(|(holder, roles)| holder == participant && roles.contains(&role))
    }

    /// A participant.
    pub fn participant(&self, siret: Siret) -> Option<&Arc<Participant>> {
        self.participants.get(&siret)
    }

    /// A procedure.
    pub fn procedure(&self, id: &ProcedureId) -> Option<&Arc<Procedure>> {
        self.procedures.get(id)
    }

    /// All procedures.
    pub fn procedures(&self) -> impl Iterator<Item = &Procedure> {
        self.procedures.values().map(Arc::as_ref)
    }

    /// SHA-256 of the text of a procedure's notice in `language`.
    pub fn notice_digest(&self, procedure: &ProcedureId, version: u32, language: Language) -> Option<Digest> {
        let notices = self.notices.get(procedure)?;
        let (_, digests) = notices.iter().find(|(known, _)| *known == version)?;
        Some(match language {
            Language::Fr => digests.fr,
            Language::En => digests.en,
        })
    }

    /// A dataset.
    pub fn dataset(&self, id: &str) -> Option<&Arc<Dataset>> {
        self.datasets.get(id)
    }

    /// All datasets, in the order of names.
    pub fn datasets(&self) -> impl Iterator<Item = &Arc<Dataset>> {
        self.datasets.values()
    }

    /// A habilitation.
    pub fn habilitation(&self, id: &HabilitationId) -> Option<&Arc<Habilitation>> {
        self.habilitations.get(id)
    }

    /// The sources of the datasets of `attributes`.
    pub fn sources<'a>(&self, attributes: impl IntoIterator<Item = &'a AttributeId>) -> BTreeSet<Siret> {
        attributes.into_iter().filter_map(|a| self.dataset(a.dataset())).map(|d| d.source).collect()
    }

    /// All habilitations.
    pub fn habilitations(&self) -> impl Iterator<Item = &Habilitation> {
        self.habilitations.values().map(Arc::as_ref)
    }

    /// The habilitations of a participant, in the order of names.
    pub fn habilitations_of(&self, participant: Siret) -> impl Iterator<Item = &Arc<Habilitation>> {
        self.held.get(&participant).into_iter().flatten().filter_map(|id| self.habilitations.get(id))
    }

    /// Whether an attribute exists.
    pub fn has_attribute(&self, attribute: &AttributeId) -> bool {
        self.dataset(attribute.dataset()).is_some_and(|d| d.has_attribute(attribute.name()))
    }
}

#[cfg(test)]
mod tests;
