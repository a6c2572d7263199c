//! Webhooks: an administration that keeps no stream open is told of the changes that concern it, at its address.
//!
//! Each webhook is one task, which sends change after change in the order of the log. What fails is sent again, later and
//! later; after [`WebhookConfig::give_up_after_s`] the change becomes a dead letter, which the administration sees and has
//! sent again by RPC, and the next one is sent. A change may come twice, after a crash or a lost answer; its `webhook-id`
//! is the index of its entry, so the receiver knows it. Deliberately absent: what a change is about. It is read from the
//! log when it is sent, so no person's data lies here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use unefois_connectors::http_client;
use unefois_consent::Siret;
use unefois_consent::id::WebhookName;
use unefois_engine::Engine;

use crate::config::ConfigError;

mod deliver;
mod kept;
mod signature;

pub(crate) use deliver::{Replayed, Webhook};
pub use signature::Secret;

const DAY_S: u64 = 24 * 3600;
const MAX_TIMEOUT_MS: u64 = 60_000;

/// `[webhooks.NAME]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The administration that is told of what concerns it.
    pub consumer: Siret,
    /// Where: https, or http to this very machine.
    pub url: String,
    /// File with the secret that bodies are signed with, `whsec_` and base64 of 24 to 64 bytes; mode 0600. The receiver has
    /// the same.
    pub secret_file: PathBuf,
    /// PEM file of a private certification authority to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// After how many seconds of failures a change becomes a dead letter. Default 86400, a day.
    #[serde(default = "default_give_up_after_s")]
    pub give_up_after_s: u64,
    /// How long one answer may take, in milliseconds. Default 10000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_give_up_after_s() -> u64 {
    DAY_S
}

fn default_timeout_ms() -> u64 {
    10_000
}

impl WebhookConfig {
    /// Paths that do not begin at the root begin at `base`.
    pub(crate) fn resolve(&mut self, base: &Path) {
        for path in std::iter::once(&mut self.secret_file).chain(&mut self.ca_file) {
            *path = base.join(&*path);
        }
    }

    fn address(&self) -> Result<Url, &'static str> {
        let url = Url::parse(&self.url).map_err(|_| "must be an absolute URL such as https://ville.example/unefois")?;
        match url.scheme() {
            "https" => {}
            "http" if http_client::is_loopback(&url) => {}
            _ => return Err("must begin with https:// (http only for localhost)"),
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user { Err("must be without user and password; the signature proves who sends") } else { Ok(url) }
    }

    /// Refuses what can be seen to be wrong without a look at files; errors name keys below `key`.
    pub(crate) fn validate(&self, key: &str) -> Result<(), ConfigError> {
        self.address().map_err(|problem| ConfigError::new(&format!("{key}.url"), problem))?;
        let within = |name: &str, value: u64, most: u64| {
            let problem = || ConfigError::new(&format!("{key}.{name}"), format!("must be from 1 to {most}"));
            if (1..=most).contains(&value) { Ok(()) } else { Err(problem()) }
        };
        within("give_up_after_s", self.give_up_after_s, 30 * DAY_S)?;
        within("timeout_ms", self.timeout_ms, MAX_TIMEOUT_MS)
    }
}

/// A webhook whose secret and certificates were read.
#[derive(Debug)]
pub struct OpenWebhook {
    config: WebhookConfig,
    secret: Secret,
    client: reqwest::Client,
}

impl OpenWebhook {
    /// Reads what `config` names; errors name keys below `key`.
    pub(crate) fn open(key: &str, config: WebhookConfig) -> Result<Self, ConfigError> {
        let secret = Secret::read(&config.secret_file);
        let secret = secret.map_err(|problem| ConfigError::new(&format!("{key}.secret_file"), problem))?;
        let url = config.address().map_err(|problem| ConfigError::new(&format!("{key}.url"), problem))?;
        let client = http_client::client(&url, config.ca_file.as_deref(), 1);
        let client = client.map_err(|error| ConfigError::new(key, error))?;
        Ok(Self { config, secret, client })
    }
}

/// All webhooks of a broker that runs.
#[derive(Debug, Default)]
pub(crate) struct Webhooks(BTreeMap<WebhookName, Arc<Webhook>>);

impl Webhooks {
    /// Reads where each of them stands; one that is new begins with what changes from now on.
    pub(crate) fn start(
        engine: &Arc<Engine>,
        data: &Path,
        open: BTreeMap<WebhookName, OpenWebhook>,
    ) -> Result<Self, ConfigError> {
        let mut webhooks = BTreeMap::new();
        for (name, open) in open {
            let key = format!("webhooks.{name}");
            let webhook = Webhook::start(Arc::clone(engine), data, name.clone(), open);
            webhooks.insert(name, Arc::new(webhook.map_err(|problem| ConfigError::new(&key, problem))?));
        }
        Ok(Self(webhooks))
    }

    /// One task for each of them, until the broker stops.
    pub(crate) fn run(&self) -> impl Iterator<Item = tokio::task::JoinHandle<()>> {
        self.0.values().map(|webhook| tokio::spawn(Arc::clone(webhook).run()))
    }

    /// Those of `consumer`.
    pub(crate) fn of(&self, consumer: Siret) -> impl Iterator<Item = &Arc<Webhook>> {
        self.0.values().filter(move |webhook| webhook.consumer() == consumer)
    }
}

/// How long until a change that failed `failures` times, one at least, is sent again: a second, doubled each time to an
/// hour at most; what the receiver asks for where that is longer, within the hour. `luck`, from 0 to 1, spreads it so that
/// webhooks of one receiver do not come back together.
fn pause(failures: u32, asked: Option<Duration>, luck: f64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(3_600);
    let doublings = failures.saturating_sub(1).min(12);
    let usual = Duration::from_secs(1 << doublings).min(LONGEST);
    usual.mul_f64(0.75 + luck.clamp(0.0, 1.0) / 2.0).max(asked.unwrap_or_default()).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour_and_heed_the_receiver() {
        let seconds = |failures, asked: Option<u64>| pause(failures, asked.map(Duration::from_secs), 0.5).as_secs();
        assert_eq!([1, 2, 3, 12].map(|n| seconds(n, None)), [1, 2, 4, 2_048]);
        assert_eq!([13, 40, u32::MAX].map(|n| seconds(n, None)), [3_600; 3]);
        assert_eq!(seconds(1, Some(90)), 90);
        assert_eq!(seconds(9, Some(90)), 256);
        assert_eq!(seconds(1, Some(1 << 40)), 3_600);
        assert_eq!(pause(3, None, 0.0), Duration::from_secs(3));
        assert_eq!(pause(3, None, 1.0), Duration::from_secs(5));
    }
}
