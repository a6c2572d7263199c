//! Configuration: one tree, every key with a default or required, unknown keys refused.
//!
//! Relative paths start at the folder of the configuration file. Secrets come by file or environment only.
//! [`Loaded::open`] does all that `serve` does short of opening the store and binding, so `check-config` means it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use unefois_audit::Policy;
use unefois_connectors::files::{read_secret, read_trusted};
use unefois_connectors::{ConnectorConfig, Guarded};
use unefois_consent::id::{ConnectorName, WebhookName};
use unefois_consent::registry::{Registry, RegistryFile};
use unefois_engine::{Ed25519Signer, Signer};
use unefois_store::Options;
use unefois_store::embedded::FoldEngine;

use crate::assertion::{IdentityProviderConfig, IdentityProviders};
use crate::tls::{TlsFiles, TlsState};
use crate::webhook::{OpenWebhook, WebhookConfig};

mod log;

pub use log::{LateQuorum, LogConfig};
pub(crate) use log::{SHARD_NAME_RULE, is_shard_name};

/// The file `unefois.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where gRPC is served.
    pub server: ServerConfig,
    /// Certificates.
    pub tls: TlsConfig,
    /// The audit log.
    pub log: LogConfig,
    /// Where data is kept.
    pub store: StoreConfig,
    /// The registry that an empty log begins with.
    pub registry: RegistryConfig,
    /// Metrics and health over HTTP.
    #[serde(default)]
    pub metrics: MetricsConfig,
    /// Whose word proves who a person is; nobody's where empty, and then CitizenService serves nobody.
    #[serde(default)]
    pub identity_providers: Vec<IdentityProviderConfig>,
    /// Administrations that are told of the changes that concern them.
    #[serde(default)]
    pub webhooks: BTreeMap<WebhookName, WebhookConfig>,
    /// Sources.
    #[serde(default)]
    pub connectors: BTreeMap<ConnectorName, ConnectorConfig>,
}

/// `[server]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address and port of gRPC over mutual TLS.
    pub listen: SocketAddr,
    /// Most connections at once. Default 4096.
    #[serde(default = "defaults::max_connections")]
    pub max_connections: usize,
    /// Most connections at once with one client key. Default 256.
    #[serde(default = "defaults::max_connections_per_key")]
    pub max_connections_per_key: usize,
    /// Most calls under way at once on one connection. Default 1024.
    #[serde(default = "defaults::max_streams")]
    pub max_streams_per_connection: u32,
    /// Longest deadline that a caller may set, in milliseconds; a longer one is cut. Default 60000.
    #[serde(default = "defaults::max_deadline_ms")]
    pub max_deadline_ms: u64,
    /// Address of the portal where persons answer requests for consent; `RequestConsent` gives links below it. No links
    /// where absent.
    pub portal_url: Option<String>,
    /// How long calls under way may take at shutdown, in milliseconds. Default 20000.
    #[serde(default = "defaults::shutdown_ms")]
    pub shutdown_ms: u64,
}

impl ServerConfig {
    /// Longest deadline that a caller may set.
    pub fn max_deadline(&self) -> Duration {
        Duration::from_millis(self.max_deadline_ms)
    }
}

/// `[tls]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate chain of the broker, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM, mode 0600.
    pub private_key: PathBuf,
    /// CAs that client certificates must chain to, PEM.
    pub client_ca: PathBuf,
    /// Revocation lists of these CAs, PEM or DER; at least one for each CA.
    pub crl: Vec<PathBuf>,
    /// How often the files are looked at, in milliseconds. Default 1000.
    #[serde(default = "defaults::reload_ms")]
    pub reload_ms: u64,
}

/// `[store]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The data folder.
    pub path: PathBuf,
    /// Size of a journal segment, in MiB. Default 64.
    #[serde(default = "defaults::segment_mb")]
    pub segment_mb: u64,
    /// With less free space than this, in MiB, the broker refuses service. Default 256.
    #[serde(default = "defaults::min_free_mb")]
    pub min_free_mb: u64,
    /// What the fold is kept in. Default tree.
    #[serde(default)]
    pub fold: FoldKind,
    /// Memory of the fold's cache, in MiB. Default 128.
    #[serde(default = "defaults::fold_cache_mb")]
    pub fold_cache_mb: u64,
    /// With more rows in memory than this, in MiB, the fold's tree writes a table of them. More means fewer merges. Default 16.
    #[serde(default = "defaults::fold_memory_mb")]
    pub fold_memory_mb: u64,
}

/// What the fold is kept in. Where it changes, the fold is rebuilt from the journal at the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FoldKind {
    /// A log-structured merge tree: memory does not grow with the rows, but for 4 to 8 bytes each.
    #[default]
    Tree,
    /// sled: for small folds only, of up to some hundred thousand rows. Its memory grows by kilobytes a row while they are
    /// written, whatever `fold_cache_mb` says.
    Sled,
}

impl Config {
    /// The embedded store's options.
    pub fn store_options(&self) -> Options {
        Options {
            segment_bytes: self.store.segment_mb << 20,
            min_free_bytes: self.store.min_free_mb << 20,
            fold: match self.store.fold {
                FoldKind::Tree => FoldEngine::Tree,
                FoldKind::Sled => FoldEngine::Sled,
            },
            fold_cache_bytes: self.store.fold_cache_mb << 20,
            fold_memory_bytes: self.store.fold_memory_mb << 20,
            head: self.log.head_file.clone(),
            ..Options::default()
        }
    }
}

/// `[registry]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Registry file for the first start. Later changes go through `unefois registry apply`.
    pub bootstrap: PathBuf,
}

/// `[metrics]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Address and port of `/metrics`, `/healthz` and `/readyz`; not served where absent. Keep it inside.
    pub listen: Option<SocketAddr>,
}

mod defaults {
    pub(super) fn max_connections() -> usize {
        4096
    }
    pub(super) fn max_connections_per_key() -> usize {
        256
    }
    pub(super) fn max_streams() -> u32 {
        1024
    }
    pub(super) fn max_deadline_ms() -> u64 {
        60_000
    }
    pub(super) fn shutdown_ms() -> u64 {
        20_000
    }
    pub(super) fn reload_ms() -> u64 {
        1_000
    }
    pub(super) fn segment_mb() -> u64 {
        64
    }
    pub(super) fn min_free_mb() -> u64 {
        256
    }
    pub(super) fn fold_memory_mb() -> u64 {
        16
    }
    pub(super) fn fold_cache_mb() -> u64 {
        128
    }
}

/// What is wrong with the configuration, and what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    /// The key, `tls.private_key`.
    pub key: String,
    /// What is wrong and what to change.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(key: &str, problem: impl ToString) -> Self {
        Self { key: key.to_owned(), problem: problem.to_string() }
    }
}

impl Config {
    /// Reads and checks the file. Paths in it become absolute.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let fault = |problem: String| ConfigError::new(&path.display().to_string(), problem);
        let text = read_trusted(path, MAX_CONFIG_BYTES).map_err(fault)?;
        let text = String::from_utf8(text).map_err(|_| fault("is not UTF-8".to_owned()))?;
        let base = path.parent().map_or_else(PathBuf::new, Path::to_owned);
        let base = std::path::absolute(&base).unwrap_or(base);
        let mut config: Self =
            toml::from_str(&text).map_err(|error| ConfigError::new(&path.display().to_string(), error))?;
        config.resolve(&base);
        config.validate()?;
        Ok(config)
    }

    fn resolve(&mut self, base: &Path) {
        for path in [
            &mut self.tls.certificate,
            &mut self.tls.private_key,
            &mut self.tls.client_ca,
            &mut self.log.signing_key,
            &mut self.store.path,
            &mut self.registry.bootstrap,
        ]
        .into_iter()
        .chain(&mut self.log.head_file)
        {
            *path = base.join(&*path);
        }
        let jwks = self.identity_providers.iter_mut().map(|provider| &mut provider.jwks);
        for path in self.tls.crl.iter_mut().chain(&mut self.log.policy).chain(jwks) {
            *path = base.join(&*path);
        }
        for webhook in self.webhooks.values_mut() {
            webhook.resolve(base);
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        for (key, value, allowed) in self.numbers() {
            if !allowed.contains(&value) {
                let rule = format!("must be from {} to {}", allowed.start(), allowed.end());
                return Err(ConfigError::new(key, rule));
            }
        }
        if self.log.shard.as_deref().is_some_and(|shard| !is_shard_name(shard)) {
            return Err(ConfigError::new("log.shard", SHARD_NAME_RULE));
        }
        if self.tls.crl.is_empty() {
            return Err(ConfigError::new(
                "tls.crl",
                "name at least one revocation list; an empty list from your CA will do",
            ));
        }
        for (name, connector) in &self.connectors {
            connector.validate().map_err(|error| ConfigError::new(&format!("connectors.{name}"), error))?;
        }
        for (name, webhook) in &self.webhooks {
            webhook.validate(&format!("webhooks.{name}"))?;
        }
        for (place, provider) in self.identity_providers.iter().enumerate() {
            provider.validate(&format!("identity_providers[{place}]"))?;
        }
        Ok(())
    }

    /// Each number with its key and what it may be.
    fn numbers(&self) -> [(&'static str, u64, RangeInclusive<u64>); 13] {
        const DAY_MS: u64 = 24 * 3600 * 1000;
        // A consent of 1,095 days, and 36 months.
        const LONGEST_KEPT: u64 = 72;
        const TIB_MB: u64 = 1 << 20;
        let Self { server, tls, log, store, .. } = self;
        [
            ("server.max_connections", server.max_connections as u64, 1..=1_000_000),
            ("server.max_connections_per_key", server.max_connections_per_key as u64, 1..=1_000_000),
            ("server.max_streams_per_connection", server.max_streams_per_connection.into(), 1..=u32::MAX.into()),
            ("server.max_deadline_ms", server.max_deadline_ms, 1..=DAY_MS),
            ("server.shutdown_ms", server.shutdown_ms, 0..=DAY_MS),
            ("tls.reload_ms", tls.reload_ms, 1..=DAY_MS),
            ("log.late_quorum_after_s", log.late_quorum_after_s, 1..=DAY_MS / 1000),
            ("log.prune_after_months", log.prune_after_months.map_or(LONGEST_KEPT, u64::from), LONGEST_KEPT..=1_200),
            ("log.cosign_every_ms", log.cosign_every_ms, 1..=DAY_MS),
            ("store.min_free_mb", store.min_free_mb, 0..=1024 * TIB_MB),
            ("store.segment_mb", store.segment_mb, 1..=1024),
            ("store.fold_memory_mb", store.fold_memory_mb, 1..=4_096),
            ("store.fold_cache_mb", store.fold_cache_mb, 0..=TIB_MB),
        ]
    }

    /// Where the certificates lie.
    pub fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.tls.certificate.clone(),
            private_key: self.tls.private_key.clone(),
            client_ca: self.tls.client_ca.clone(),
            crl: self.tls.crl.clone(),
        }
    }
}

/// A configuration with everything that it names read and checked.
#[derive(Debug)]
pub struct Loaded {
    /// The tree.
    pub config: Config,
    /// Certificates.
    pub tls: Arc<TlsState>,
    /// The log's key.
    pub signer: Arc<dyn Signer>,
    /// Which witnesses are asked, and which of them are enough.
    pub policy: Option<Policy>,
    /// The first registry.
    pub registry: RegistryFile,
    /// Connectors by name.
    pub connectors: BTreeMap<ConnectorName, Arc<Guarded>>,
    /// Whose word proves who a person is.
    pub providers: IdentityProviders,
    /// Administrations that are told of changes.
    pub webhooks: BTreeMap<WebhookName, OpenWebhook>,
}

impl Loaded {
    /// Reads `path` and all that it names.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let config = Config::read(path)?;
        let tls = TlsState::open(config.tls_files())?;
        let signer = read_key("log.signing_key", &config.log.shard_origin(), &config.log.signing_key)?;
        let policy = config.log.policy.as_deref().map(|path| read_own_policy(path, &signer)).transpose()?;
        let registry = read_registry(&config.registry.bootstrap)
            .map_err(|problem| ConfigError::new("registry.bootstrap", problem))?;
        let base = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let base = base.parent().unwrap_or(Path::new("/")).to_owned();
        let mut connectors = BTreeMap::new();
        for (name, connector) in &config.connectors {
            let built = unefois_connectors::build(name.clone(), connector, &base);
            let built = built.map_err(|error| ConfigError::new(&format!("connectors.{name}"), error))?;
            connectors.insert(name.clone(), Arc::new(built));
        }
        for dataset in &registry.datasets {
            check_served(&connectors, dataset)?;
        }
        let providers = IdentityProviders::open(config.identity_providers.clone())?;
        let mut webhooks = BTreeMap::new();
        for (name, webhook) in &config.webhooks {
            webhooks.insert(name.clone(), OpenWebhook::open(&format!("webhooks.{name}"), webhook.clone())?);
        }
        let (tls, signer) = (Arc::new(tls), Arc::new(signer));
        Ok(Self { config, tls, signer, policy, registry, connectors, providers, webhooks })
    }
}

/// A dataset whose connector is missing would only be noticed by the first citizen.
fn check_served(
    connectors: &BTreeMap<ConnectorName, Arc<Guarded>>,
    dataset: &unefois_consent::registry::Dataset,
) -> Result<(), ConfigError> {
    let key = format!("connectors.{}", dataset.connector);
    match connectors.get(&dataset.connector) {
        None => Err(ConfigError::new(&key, format!("dataset {} needs this connector; add its table", dataset.id))),
        Some(connector) => {
            connector.why_not_served(dataset).map_or(Ok(()), |problem| Err(ConfigError::new(&key, problem)))
        }
    }
}

/// Largest configuration, and policy.
const MAX_CONFIG_BYTES: usize = 1 << 20;
/// Largest file of one key.
const MAX_KEY_BYTES: usize = 16 << 10;

/// Reads a registry file and checks its rules.
pub fn read_registry(path: &Path) -> Result<RegistryFile, String> {
    read_versioned_registry(path).map(|(file, _)| file)
}

/// The same, and the version of the registry that the file was taken from, where it says so.
pub fn read_versioned_registry(path: &Path) -> Result<(RegistryFile, Option<u64>), String> {
    let fault = |problem: String| format!("{}: {problem}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    let mut table: toml::Table = toml::from_str(&text).map_err(|error| fault(error.to_string()))?;
    let (file, version) = match table.remove("version") {
        // Read from the text, so that a fault has its line.
        None => (toml::from_str::<RegistryFile>(&text), None),
        Some(version) => {
            let version = version.as_integer().and_then(|version| u64::try_from(version).ok());
            (table.try_into(), Some(version.ok_or_else(|| fault("version: a whole number is expected".to_owned()))?))
        }
    };
    let file = file.map_err(|error| fault(error.to_string()))?;
    Registry::from_file(file.clone()).map_err(|problem| fault(problem.to_string()))?;
    Ok((file, version))
}

/// Reads a policy file (C2SP tlog-policy).
pub fn read_policy(path: &Path) -> Result<Policy, String> {
    let file = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Policy::parse(&file).map_err(|error| format!("{}: {error}", path.display()))
}

/// Reads the policy of this log. Its own key must be in it, and the witnesses that have an address must be enough.
fn read_own_policy(path: &Path, signer: &Ed25519Signer) -> Result<Policy, ConfigError> {
    let fault = |problem: String| ConfigError::new("log.policy", problem);
    let text =
        read_trusted(path, MAX_CONFIG_BYTES).map_err(|problem| fault(format!("{}: {problem}", path.display())))?;
    let mut policy = Policy::parse(&text).map_err(|error| fault(format!("{}: {error}", path.display())))?;
    let key = signer.verifier_key();
    if policy.logs().is_empty() {
        policy = policy.with_log(key);
    }
    if !policy.logs().iter().any(|log| log.key == *key) {
        return Err(fault(format!("{} does not list this log; add the line: log {key}", path.display())));
    }
    for witness in policy.witnesses() {
        let url = witness.url.as_ref().map(|url| url.as_text().unwrap_or_default());
        if url.is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            return Err(fault(format!("the address of witness {} must begin with http:// or https://", witness.name)));
        }
    }
    let has_url = |place: usize| policy.witnesses().get(place).is_some_and(|witness| witness.url.is_some());
    if !policy.is_met(has_url) {
        return Err(fault(format!(
            "the witnesses in {} that have an address are no quorum; put the address behind the key of each witness",
            path.display()
        )));
    }
    Ok(policy)
}

/// Reads an Ed25519 key that signs under `name`. Refuses one that others can read; errors name the `key` of the
/// configuration.
pub(crate) fn read_key(key: &str, name: &str, path: &Path) -> Result<Ed25519Signer, ConfigError> {
    let fault = |problem: String| ConfigError::new(key, problem);
    let pem = read_secret(path, MAX_KEY_BYTES).map_err(|problem| fault(format!("{}: {problem}", path.display())))?;
    let private = rustls_pki_types::pem::PemObject::from_pem_slice(&pem);
    let private: rustls_pki_types::PrivatePkcs8KeyDer<'_> =
        private.map_err(|_| fault(format!("{} holds no private key in PKCS#8 PEM", path.display())))?;
    Ed25519Signer::from_pkcs8(name, private.secret_pkcs8_der()).map_err(|error| fault(error.to_string()))
}

#[cfg(test)]
mod tests;
