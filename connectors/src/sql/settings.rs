//! A database in the operator's words.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use unefois_consent::DatasetId;

use super::Prepared;
use super::statement::{Projection, Statement};
use crate::Limits;
use crate::config::ConnectorConfigError;
use crate::value_type::ValueType;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// PostgreSQL.
    PostgreSql,
    /// MariaDB.
    MariaDb,
    /// MySQL.
    MySql,
    /// A file of SQLite.
    Sqlite,
}

/// Whether TLS is spoken to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SqlTls {
    /// With the server's certificate and name checked.
    #[default]
    Full,
    /// In clear, to this very machine.
    Off,
}

/// `type = "sql"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlConfig {
    /// Which database it is.
    pub engine: Engine,
    /// The file of SQLite.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// The server's name or address; or `socket`.
    #[serde(default)]
    pub host: Option<String>,
    /// Its port; that of the engine where absent.
    #[serde(default)]
    pub port: Option<u16>,
    /// The server's Unix socket: of PostgreSQL its folder, of the others the socket itself.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// The database on the server.
    #[serde(default)]
    pub database: Option<String>,
    /// The role to connect as: one that may SELECT and nothing else.
    #[serde(default)]
    pub user: Option<String>,
    /// File with its password, of mode 600. Read again when it changes.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// `full` where absent; `off` for this very machine alone.
    #[serde(default)]
    pub tls: SqlTls,
    /// PEM file of a private certification authority to trust beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Most connections. 4 where absent; 1 to 100.
    #[serde(default = "max_connections")]
    pub max_connections: u32,
    /// What it serves. At least one.
    pub datasets: BTreeMap<DatasetId, SqlDataset>,
    /// Limits of the guard. Statements are cut off at `timeout_ms` by the database, too.
    #[serde(default)]
    pub limits: Limits,
}

/// `[connectors.NAME.datasets."ID"]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlDataset {
    /// One SELECT, or WITH … SELECT. `:birth_name` and the like stand for parts of the question, `:filter_annee` for a
    /// filter; all are bound as texts.
    pub query: String,
    /// Parameters that are null where there is no value. Without one of the others nobody is asked for.
    #[serde(default)]
    pub optional: Vec<String>,
    /// Where each attribute is.
    pub attributes: BTreeMap<String, SqlAttribute>,
}

/// One attribute of the row.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlAttribute {
    /// Its column in the result.
    pub column: String,
    /// Its type. Null is of any type; lists and objects come from columns of JSON.
    #[serde(rename = "type")]
    pub value_type: ValueType,
}

fn max_connections() -> u32 {
    4
}

impl SqlConfig {
    /// Refuses what can be seen to be wrong without a look at files, naming the key.
    pub fn validate(&self) -> Result<(), ConnectorConfigError> {
        let refuse = |key: &str, rule: &str| Err(ConnectorConfigError::invalid(key, rule));
        if !(1..=100).contains(&self.max_connections) {
            return refuse("max_connections", "from 1 to 100");
        }
        match self.engine {
            Engine::Sqlite => self.validate_file()?,
            Engine::PostgreSql | Engine::MariaDb | Engine::MySql => self.validate_server()?,
        }
        self.prepare().map(drop)
    }

    fn validate_file(&self) -> Result<(), ConnectorConfigError> {
        if self.path.is_none() {
            return Err(ConnectorConfigError::invalid("path", "the file of SQLite"));
        }
        let of_servers = [
            ("host", self.host.is_some()),
            ("port", self.port.is_some()),
            ("socket", self.socket.is_some()),
            ("database", self.database.is_some()),
            ("user", self.user.is_some()),
            ("password_file", self.password_file.is_some()),
            ("ca_file", self.ca_file.is_some()),
        ];
        match of_servers.into_iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => Err(ConnectorConfigError::invalid(key, "is for servers; SQLite has a path")),
            None => Ok(()),
        }
    }

    fn validate_server(&self) -> Result<(), ConnectorConfigError> {
        let refuse = |key: &str, rule: &str| Err(ConnectorConfigError::invalid(key, rule));
        if self.path.is_some() {
            return refuse("path", "is for SQLite; a server has a host or a socket");
        }
        if self.user.is_none() {
            return refuse("user", "the role to connect as");
        }
        if self.database.is_none() {
            return refuse("database", "the database on the server");
        }
        match (&self.host, &self.socket) {
            (None, None) => refuse("host", "set host or socket"),
            (Some(_), Some(_)) => refuse("host", "set host or socket, not both"),
            (None, Some(_)) if self.port.is_some() && self.engine != Engine::PostgreSql => {
                refuse("port", "a socket has none")
            }
            (None, Some(_)) => Ok(()),
            (Some(host), None) if self.tls == SqlTls::Off && !is_this_machine(host) => {
                refuse("tls", "off would send identities and the password in clear: for this machine alone")
            }
            (Some(_), None) => Ok(()),
        }
    }

    pub(super) fn prepare(&self) -> Result<BTreeMap<DatasetId, Prepared>, ConnectorConfigError> {
        if self.datasets.is_empty() {
            return Err(ConnectorConfigError::invalid("datasets", "at least one: [connectors.NAME.datasets.\"ID\"]"));
        }
        self.datasets
            .iter()
            .map(|(id, dataset)| {
                let within = |(key, rule): (String, String)| {
                    ConnectorConfigError::invalid(format!("datasets.\"{id}\".{key}"), rule)
                };
                Ok((id.clone(), prepare(self.engine, id, dataset).map_err(within)?))
            })
            .collect()
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A dataset that was read; or a key below it, and the rule that it breaks.
fn prepare(engine: Engine, id: &DatasetId, dataset: &SqlDataset) -> Result<Prepared, (String, String)> {
    let statement = Statement::parse(engine, &dataset.query).map_err(|rule| ("query".to_owned(), rule))?;
    let unknown = dataset.optional.iter().find(|name| statement.parameters.iter().all(|(known, _)| known != *name));
    if let Some(name) = unknown {
        return Err(("optional".to_owned(), format!("{name} is no parameter of the query")));
    }
    if dataset.attributes.is_empty() {
        return Err(("attributes".to_owned(), "at least one".to_owned()));
    }
    for (name, attribute) in &dataset.attributes {
        let key = format!("attributes.{name}");
        if name.contains('.') || id.attribute(name).is_err() {
            return Err((key, "a name of a-z, 0-9, '_' and '-'".to_owned()));
        }
        if let Projection::Named(columns) = &statement.projection
            && !columns.contains(&attribute.column)
        {
            return Err((format!("{key}.column"), format!("the query gives no column {}", attribute.column)));
        }
    }
    let (attributes, optional) = (dataset.attributes.clone(), dataset.optional.clone());
    Ok(Prepared { statement, attributes, optional })
}
