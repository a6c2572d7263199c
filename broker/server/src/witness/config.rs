//! The configuration of a witness, `witness.toml`, and the folder that `unefois witness init` makes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use unefois_audit::{VerifierKey, WitnessKey};
use unefois_engine::{Ed25519Signer, Signer};

use crate::config::{ConfigError, read_key};

/// The file `witness.toml`. Relative paths start at its folder; unknown keys are refused.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessConfig {
    /// The name that it cosigns under: a URL without scheme, `temoin.departement.example/1`. Never changes.
    pub name: String,
    /// Address and port of plain HTTP.
    pub listen: SocketAddr,
    /// Its Ed25519 key, PKCS#8 in PEM, mode 0600. For this witness alone (tlog-cosignature).
    pub key: PathBuf,
    /// The folder with what it cosigned last. It must exist.
    pub state: PathBuf,
    /// The logs that it watches.
    #[serde(default)]
    pub log: Vec<WatchedLog>,
}

/// `[[log]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchedLog {
    /// The log's verifier key, got from its operator by another way than the log itself.
    pub key: String,
    /// The origin of its checkpoints. Default: the name of the key. Two tables of one origin are two keys that it may use.
    pub origin: Option<String>,
}

/// A configuration with what it names read and checked, short of the state.
#[derive(Debug)]
pub struct Loaded {
    pub(super) key: WitnessKey,
    pub(super) signer: Ed25519Signer,
    pub(super) logs: BTreeMap<String, Vec<VerifierKey>>,
    pub(super) state: PathBuf,
}

impl WitnessConfig {
    /// Reads the file. Paths in it become absolute.
    ///
    /// # Errors
    /// The key of the configuration and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let fault = |problem: String| ConfigError::new(&path.display().to_string(), problem);
        let text = fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        let mut config: Self = toml::from_str(&text).map_err(|error| fault(error.to_string()))?;
        let base = path.parent().unwrap_or(Path::new("."));
        let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        config.key = base.join(&config.key);
        config.state = base.join(&config.state);
        Ok(config)
    }

    /// Reads and checks the key and the logs.
    ///
    /// # Errors
    /// The key of the configuration and what is wrong with it; a private key that others can read is refused.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let signer = read_key("key", &self.name, &self.key)?;
        let key = WitnessKey::new(&self.name, *signer.verifier_key().public_key())
            .map_err(|error| ConfigError::new("name", error))?;
        let mut logs: BTreeMap<String, Vec<VerifierKey>> = BTreeMap::new();
        for log in &self.log {
            let vkey: VerifierKey = log.key.parse().map_err(|error| ConfigError::new("log.key", error))?;
            if vkey.public_key() == key.public_key() {
                return Err(ConfigError::new("log.key", "the witness needs a key of its own, not that of a log"));
            }
            let origin = log.origin.clone().unwrap_or_else(|| vkey.name().to_owned());
            let keys = logs.entry(origin).or_default();
            if keys.contains(&vkey) {
                return Err(ConfigError::new("log.key", format!("{vkey} is listed twice; list it once")));
            }
            keys.push(vkey);
        }
        Ok(Loaded { key, signer, logs, state: self.state.clone() })
    }
}

impl Loaded {
    /// The verifier key of the witness.
    pub fn key(&self) -> &WitnessKey {
        &self.key
    }
}

/// Makes a folder with key, configuration and empty state, and gives the witness's verifier key. Nothing is ever replaced.
///
/// # Errors
/// A name that cannot be one, a file that exists, or what the system says.
pub fn init(folder: &Path, name: &str, listen: SocketAddr) -> Result<WitnessKey, ConfigError> {
    unefois_audit::note::check_name(name).map_err(|error| ConfigError::new("--name", error))?;
    let fault = |path: &Path, error: io::Error| ConfigError::new(&path.display().to_string(), error);
    fs::create_dir_all(folder).map_err(|error| fault(folder, error))?;
    let write = |file: &str, text: &str, mode: u32| {
        let path = folder.join(file);
        let made = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        made.and_then(|mut made| made.write_all(text.as_bytes())).map_err(|error| fault(&path, error))
    };
    let pem = crate::pki::new_log_key().map_err(|error| ConfigError::new("key", error))?;
    write("witness.key", &pem, 0o600)?;
    let quoted = toml::Value::from(name).to_string();
    let text = include_str!("../init/witness.toml").replace("@name@", &quoted).replace("@listen@", &listen.to_string());
    write("witness.toml", &text, 0o644)?;
    let state = folder.join("state");
    fs::DirBuilder::new().mode(0o700).create(&state).map_err(|error| fault(&state, error))?;
    Ok(WitnessConfig::read(&folder.join("witness.toml"))?.load()?.key)
}
