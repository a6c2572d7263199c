//! A plugin in the operator's words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use unefois_consent::DatasetId;

use crate::Limits;
use crate::config::ConnectorConfigError;
use crate::grpc::Remote;

const MEMORY_MB: std::ops::RangeInclusive<u64> = 16..=65_536;

/// `type = "plugin"`. One of `command`, `socket` and `url` says where it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    /// The program, by its path, and its arguments: the broker starts it, and again when it fails. It serves on the Unix
    /// socket that `UNEFOIS_SOCKET` names, and ends when its standard input does.
    #[serde(default)]
    pub command: Vec<String>,
    /// Environment of the program beside `UNEFOIS_SOCKET`, `PATH` and `LANG`: it gets nothing of the broker's own. No
    /// secrets: the program reads those from files.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Largest memory of the program in MB, data and stacks: 16 to 65536. No limit where absent.
    #[serde(default)]
    pub max_memory_mb: Option<u64>,
    /// Where what the program prints is appended, readable by the broker's user alone. Thrown away where absent: it may
    /// name persons.
    #[serde(default)]
    pub output_file: Option<PathBuf>,
    /// The Unix socket of a plugin that somebody else starts.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// The address of a plugin on another machine: `https://sport.example:7444`.
    #[serde(default)]
    pub url: Option<String>,
    /// With `url`: PEM file of the certification authority of its certificate.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// With `url`: PEM file with the broker's own certificate chain and its private key, of mode 600. Read again when it
    /// changes.
    #[serde(default)]
    pub client_identity_file: Option<PathBuf>,
    /// With `url`: the name in the plugin's certificate, where it is not that of the address.
    #[serde(default)]
    pub server_name: Option<String>,
    /// What it serves. At least one; the plugin must describe each of them.
    pub datasets: Vec<DatasetId>,
    /// Limits of the guard.
    #[serde(default)]
    pub limits: Limits,
}

/// Where a plugin is.
pub(super) enum Place<'a> {
    Command,
    Socket(&'a Path),
    Remote(Remote),
}

impl PluginConfig {
    /// Refuses what can be seen to be wrong without a look at files, naming the key.
    pub fn validate(&self) -> Result<(), ConnectorConfigError> {
        let refuse = |key: &str, rule: &str| Err(ConnectorConfigError::invalid(key, rule));
        if self.datasets.is_empty() {
            return refuse("datasets", "at least one, such as [\"mairie.sport\"]");
        }
        let is_command = matches!(self.place()?, Place::Command);
        let of_command = [!self.environment.is_empty(), self.max_memory_mb.is_some(), self.output_file.is_some()];
        if !is_command && of_command.contains(&true) {
            return refuse(
                "command",
                "environment, max_memory_mb and output_file are of a program that the broker starts",
            );
        }
        if self.max_memory_mb.is_some_and(|megabytes| !MEMORY_MB.contains(&megabytes)) {
            return refuse("max_memory_mb", "from 16 to 65536");
        }
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !self.environment.iter().all(|(name, value)| is_name(name) && !value.contains('\0')) {
            return refuse(
                "environment",
                "names of letters, digits and _, such as { SPORT_DB = \"/var/lib/sport.db\" }",
            );
        }
        Ok(())
    }

    pub(super) fn place(&self) -> Result<Place<'_>, ConnectorConfigError> {
        let refuse = |key: &str, rule: &str| Err(ConnectorConfigError::invalid(key, rule));
        let of_url = [self.ca_file.is_some(), self.client_identity_file.is_some(), self.server_name.is_some()];
        if self.url.is_none() && of_url.contains(&true) {
            return refuse("url", "ca_file, client_identity_file and server_name are of a plugin with a url");
        }
        match (self.command.first(), &self.socket, &self.url) {
            (Some(program), None, None) if program.contains('/') => Ok(Place::Command),
            (Some(_), None, None) => {
                refuse("command", "names the program by its path, such as [\"/usr/lib/sport/plugin\"]")
            }
            (None, Some(path), None) => Ok(Place::Socket(path)),
            (None, None, Some(url)) => {
                Remote::check_url(url)?;
                let (Some(ca_file), Some(client_identity_file)) = (&self.ca_file, &self.client_identity_file) else {
                    return refuse("url", "needs ca_file and client_identity_file: both sides show a certificate");
                };
                Ok(Place::Remote(Remote {
                    url: url.clone(),
                    ca_file: ca_file.clone(),
                    client_identity_file: client_identity_file.clone(),
                    server_name: self.server_name.clone(),
                }))
            }
            _ => refuse("command", "one of command, socket and url says where the plugin is"),
        }
    }
}
