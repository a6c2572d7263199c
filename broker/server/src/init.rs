//! `unefois init`: a folder in which a broker runs at once, for development.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use unefois_consent::Timestamp;
use unefois_engine::{Clock, SystemClock};

use crate::assertion::issue::{Authentication, DevelopmentProvider, IssueError};
use crate::client::Profile;
use crate::pki::{DevelopmentCa, Issued, PkiError, Validity, new_log_key};

/// SIRET of the fictitious town hall of Saint-Exemple.
pub const TOWN_HALL: &str = "99999999900017";
/// SIRET of the fictitious department.
pub const DEPARTMENT: &str = "99999999800019";
/// SIRET of the fictitious operator of the broker.
pub const OPERATOR: &str = "99999999700011";
/// SIRET of the DINUM, which runs API Particulier.
pub const DINUM: &str = "13002526500013";

/// The clients that get a certificate: name, holder, roles.
const CLIENTS: [(&str, &str, &str); 5] = [
    ("ville", TOWN_HALL, r#"["exchange"]"#),
    ("departement", DEPARTMENT, r#"["exchange"]"#),
    ("operateur", OPERATOR, r#"["registry"]"#),
    ("dpo", OPERATOR, r#"["audit"]"#),
    ("portail", OPERATOR, r#"["portal"]"#),
];

/// The development identity provider, and the client id of the portal whose users it proves.
pub(crate) const IDENTITY_PROVIDER: &str = "https://identite.localhost";
pub(crate) const PORTAL_CLIENT: &str = "portail";

/// What differs between folders.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Where the broker listens.
    pub listen: std::net::SocketAddr,
    /// Where metrics are served.
    pub metrics: Option<std::net::SocketAddr>,
    /// Where the public log is served over HTTP.
    pub log: Option<std::net::SocketAddr>,
    /// API Particulier, or what stands in for it.
    pub api_particulier: String,
    /// The token that it wants.
    pub token: String,
}

impl Layout {
    /// For development: the API's own test environment, and a token to be filled in.
    pub fn development() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 7443).into(),
            metrics: Some(([127, 0, 0, 1], 7480).into()),
            log: Some(([127, 0, 0, 1], 7481).into()),
            api_particulier: "https://staging.particulier.api.gouv.fr".to_owned(),
            token: "put-your-token-here".to_owned(),
        }
    }
}

/// Why a folder was not made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file could not be written.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The development identity provider's key could not be made.
    #[error("the identity provider's key could not be made: {0}")]
    Identity(#[from] IssueError),
}

/// A folder that was made.
#[derive(Debug)]
pub struct InitFolder {
    /// The folder.
    pub path: PathBuf,
    /// Its authority.
    pub ca: DevelopmentCa,
    /// Its clients' certificates, by name.
    pub clients: Vec<(&'static str, Issued)>,
}

impl InitFolder {
    /// The profile of a client.
    pub fn profile(&self, name: &str) -> PathBuf {
        self.path.join("clients").join(format!("{name}.toml"))
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.path.join("unefois.toml")
    }
}

enum Secrecy {
    Public,
    Secret,
}

struct Writer<'a>(&'a Path);

impl Writer<'_> {
    /// Writes a new file; never replaces one.
    fn write(&self, name: &str, text: &str, secrecy: Secrecy) -> Result<(), InitError> {
        let path = self.0.join(name);
        let mode = match secrecy {
            Secrecy::Public => 0o644,
            Secrecy::Secret => 0o600,
        };
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(self.0))?;
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?.write_all(text.as_bytes())
        };
        write().map_err(|error| InitError::File { path: path.clone(), error })
    }
}

/// Makes `folder`, which must not exist or be empty.
pub fn init(folder: &Path, layout: &Layout) -> Result<InitFolder, InitError> {
    fs::create_dir_all(folder).map_err(|error| InitError::File { path: folder.to_owned(), error })?;
    let files = Writer(folder);
    let ca = DevelopmentCa::create("Unefois development CA: not for production")?;
    files.write("pki/ca.pem", ca.certificate(), Secrecy::Public)?;
    files.write("pki/ca.key", &ca.private_key(), Secrecy::Secret)?;
    files.write("pki/ca.crl", &ca.revocation_list(&[])?, Secrecy::Public)?;
    let server = ca.issue_server(&["localhost", "127.0.0.1", "::1"])?;
    files.write("pki/server.pem", &server.certificate, Secrecy::Public)?;
    files.write("pki/server.key", &server.private_key, Secrecy::Secret)?;
    files.write("keys/log.key", &new_log_key()?, Secrecy::Secret)?;
    let (key, jwks) = identity_provider()?;
    files.write("pki/identite.key", &key, Secrecy::Secret)?;
    files.write("pki/identite.jwks.json", &jwks, Secrecy::Public)?;
    files.write("secrets/api-particulier.token", &layout.token, Secrecy::Secret)?;
    files.write("sources/periscolaire.csv", include_str!("init/periscolaire.csv"), Secrecy::Secret)?;
    files.write("personne.toml", include_str!("init/personne.toml"), Secrecy::Public)?;
    let mut clients = Vec::new();
    for (name, ..) in CLIENTS {
        let issued = ca.issue_client(name, Validity::Days(825))?;
        files.write(&format!("clients/{name}.pem"), &issued.certificate, Secrecy::Public)?;
        files.write(&format!("clients/{name}.key"), &issued.private_key, Secrecy::Secret)?;
        files.write(&format!("clients/{name}.toml"), &profile(name, layout), Secrecy::Public)?;
        clients.push((name, issued));
    }
    files.write("registry.toml", &registry(&clients), Secrecy::Public)?;
    files.write("unefois.toml", &config(layout), Secrecy::Public)?;
    Ok(InitFolder { path: folder.to_owned(), ca, clients })
}

/// A key of an identity provider for development, in hexadecimal, and what a broker checks its tokens with.
fn identity_provider() -> Result<(String, String), InitError> {
    let random = ring::rand::SystemRandom::new();
    let key = DevelopmentProvider::generate_key(&random)?;
    let provider = DevelopmentProvider::from_pkcs8(IDENTITY_PROVIDER, &key, &random)?;
    Ok((hex::encode(key), provider.jwks()))
}

/// An ID token of the development identity provider, good for five minutes. For development only.
pub fn development_token(
    key: &str,
    identity: &unefois_consent::PivotIdentity,
    acr: &str,
    now: Timestamp,
) -> Result<String, IssueError> {
    let random = ring::rand::SystemRandom::new();
    let key = hex::decode(key.trim()).map_err(|_| IssueError)?;
    let provider = DevelopmentProvider::from_pkcs8(IDENTITY_PROVIDER, &key, &random)?;
    let authentication = Authentication {
        audience: PORTAL_CLIENT,
        subject: "development",
        acr,
        authenticated_at: now,
        expires_at: now.plus(std::time::Duration::from_secs(300)),
    };
    provider.id_token(identity, &authentication, &random)
}

fn profile(name: &str, layout: &Layout) -> String {
    let profile = Profile {
        endpoint: format!("https://{}", layout.listen),
        ca: "../pki/ca.pem".into(),
        certificate: format!("{name}.pem").into(),
        private_key: format!("{name}.key").into(),
        server_name: Some("localhost".to_owned()),
    };
    let text = toml::to_string(&profile).unwrap_or_default();
    format!("# As whom to call the broker: unefois exchange --profile clients/{name}.toml\n{text}")
}

fn config(layout: &Layout) -> String {
    let metrics = layout.metrics.map(|address| format!("\n[metrics]\nlisten = \"{address}\"\n")).unwrap_or_default();
    let log =
        layout.log.map(|address| format!("# The public log over HTTP (C2SP tlog-tiles).\nlisten = \"{address}\"\n"));
    include_str!("init/unefois.toml")
        .replace("@log@", &log.unwrap_or_default())
        .replace("@listen@", &layout.listen.to_string())
        .replace("@metrics@", &metrics)
        .replace("@api_particulier@", &layout.api_particulier)
}

/// The sample registry: a town hall with a canteen, a department with an allowance.
fn registry(clients: &[(&'static str, Issued)]) -> String {
    let today = SystemClock.now().civil();
    let day = |years: i16| format!("{:04}-01-01T00:00:00Z", today.year().saturating_add(years));
    let mut text = include_str!("init/registry.toml")
        .replace("@town_hall@", TOWN_HALL)
        .replace("@department@", DEPARTMENT)
        .replace("@operator@", OPERATOR)
        .replace("@dinum@", DINUM)
        .replace("@from@", &day(0))
        .replace("@until@", &day(3));
    for ((name, issued), (_, _, roles)) in clients.iter().zip(CLIENTS) {
        let key = format!("{{ fingerprint = \"{}\", roles = {roles}, label = \"{name}\" }}", issued.fingerprint);
        text = text.replace(&format!("@key:{name}@"), &key);
    }
    text
}

/// The time now, for messages.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}
