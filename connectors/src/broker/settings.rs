//! Another broker in the operator's words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use unefois_audit::VerifierKey;
use unefois_consent::{DatasetId, HabilitationId, ProcedureId};

use crate::Limits;
use crate::config::ConnectorConfigError;
use crate::grpc::Remote;

/// `type = "broker"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerConfig {
    /// Where it serves: `https://unefois.departement.example:7443`.
    pub url: String,
    /// PEM file of the certification authority of its certificate.
    pub ca_file: PathBuf,
    /// PEM file with the certificate chain that its registry knows this broker by, with the role `exchange`, and its private
    /// key, of mode 600. Read again when it changes.
    pub client_identity_file: PathBuf,
    /// The name in its certificate, where it is not that of the address.
    #[serde(default)]
    pub server_name: Option<String>,
    /// The verifier key of its log, as its operator gave it: `unefois.departement.example/log+…`.
    pub log_key: String,
    /// The verifier key that its log will go on with, once its operator has announced it; receipts under either are taken. When
    /// the change is done, move it to `log_key`.
    #[serde(default)]
    pub next_log_key: Option<String>,
    /// The habilitation there. Where absent, its only one that covers the procedure.
    #[serde(default)]
    pub habilitation: Option<HabilitationId>,
    /// What is asked of it, by the ids of this broker's registry. At least one.
    pub datasets: BTreeMap<DatasetId, BrokerDataset>,
    /// Its names and notices for procedures of this broker's registry. At least one.
    pub procedures: BTreeMap<ProcedureId, BrokerProcedure>,
    /// Limits of the guard.
    #[serde(default)]
    pub limits: Limits,
}

/// One dataset of another broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerDataset {
    /// Its id there, where it is another one. The names of attributes and filters are the same.
    #[serde(default)]
    pub dataset: Option<DatasetId>,
}

/// One procedure of another broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerProcedure {
    /// Its id there, where it is another one.
    #[serde(default)]
    pub procedure: Option<ProcedureId>,
    /// For the grounds `LAW_REQUEST` and `PROACTIVE`: from each version of the notice here to the version there that says the
    /// same.
    #[serde(default)]
    pub notices: BTreeMap<String, u32>,
}

impl BrokerConfig {
    /// Refuses what can be seen to be wrong without a look at files, naming the key.
    pub fn validate(&self) -> Result<(), ConnectorConfigError> {
        self.check().map(drop)
    }

    /// The keys of its log: the one of now, and the one that it will have.
    pub(super) fn check(&self) -> Result<Vec<VerifierKey>, ConnectorConfigError> {
        let refuse = |key: &str, rule: &str| Err(ConnectorConfigError::invalid(key, rule));
        Remote::check_url(&self.url)?;
        if self.datasets.is_empty() {
            return refuse("datasets", "at least one: [connectors.NAME.datasets.\"ID\"]");
        }
        if self.procedures.is_empty() {
            return refuse("procedures", "at least one: [connectors.NAME.procedures.ID]");
        }
        let versions = self.procedures.values().flat_map(|procedure| procedure.notices.keys());
        if versions.into_iter().any(|version| version.parse::<u32>().is_err()) {
            return refuse("procedures", "notices go from a version here to one there, such as { 1 = 3 }");
        }
        let rule = "the verifier key of its log: NAME+HASH+KEY";
        let parsed = |name: &str, key: &String| {
            key.parse::<VerifierKey>().map_err(|_| ConnectorConfigError::invalid(name, rule))
        };
        let next = self.next_log_key.iter().map(|key| parsed("next_log_key", key));
        std::iter::once(parsed("log_key", &self.log_key)).chain(next).collect()
    }

    pub(super) fn remote(&self, base_dir: &Path) -> Remote {
        Remote {
            url: self.url.clone(),
            ca_file: base_dir.join(&self.ca_file),
            client_identity_file: base_dir.join(&self.client_identity_file),
            server_name: self.server_name.clone(),
        }
    }

    /// Their name of a procedure, where they have it.
    pub(super) fn procedure<'a>(&'a self, ours: &'a ProcedureId) -> Option<&'a ProcedureId> {
        self.procedures.get(ours).map(|theirs| theirs.procedure.as_ref().unwrap_or(ours))
    }

    /// Their version of a notice, where they have it.
    pub(super) fn notice(&self, procedure: &ProcedureId, version: u32) -> Option<u32> {
        self.procedures.get(procedure)?.notices.get(&version.to_string()).copied()
    }
}
