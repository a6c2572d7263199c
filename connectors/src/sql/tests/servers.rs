//! Databases for the tests: a file of SQLite, and real servers that a test starts itself in a folder of its own.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tempfile::TempDir;

use super::{Reached, secret};

/// The password of the role `lecture`.
pub(crate) const PASSWORD: &str = "p4ss phrase'\"";

/// The table and its rows, with the types of an engine put in.
fn schema(big: &str, float: &str, flag: &str, list: &str, date: &str) -> Vec<String> {
    let create = format!(
        "CREATE TABLE personnes (nom VARCHAR(128), naissance {date}, quotient INTEGER, gros {big}, note {float}, \
         actif {flag}, classe VARCHAR(128), enfants {list}, rien INTEGER)"
    );
    let row = |name: &str, born: &str, class: &str| {
        format!(
            "INSERT INTO personnes VALUES ('{name}', '{born}', 700, 9007199254740993, 812.35, TRUE, '{class}', \
             '[\"Zoé\", \"Noé\"]', NULL)"
        )
    };
    vec![
        create,
        "CREATE TABLE secrets (quotient INTEGER)".to_owned(),
        row("LEFEVRE D OEUVRE", "1982-12-07", "CM2"),
        row("DOUBLE", "1990-01-01", "CP"),
        row("DOUBLE", "1990-01-01", "CE1"),
        row("INJECTION", "1990-01-01", "''; DROP TABLE personnes; --"),
    ]
}

/// A file of SQLite.
pub(crate) async fn sqlite() -> Reached {
    let folder = tempfile::tempdir().unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("mairie.db"));
    let mut connection = options.create_if_missing(true).connect().await.unwrap();
    for statement in schema("INTEGER", "REAL", "BOOLEAN", "TEXT", "TEXT") {
        connection.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    connection.close().await.unwrap();
    Reached {
        connection: json!({"engine": "sqlite", "path": "mairie.db"}),
        query: "SELECT quotient, classe FROM personnes WHERE nom = :birth_name_folded AND naissance = :birth_date",
        folder,
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A folder that `user` owns, and a way to run programs as that user: a server refuses root.
struct Home {
    folder: TempDir,
    user: Option<(u32, u32)>,
}

impl Home {
    fn of(user: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let id = |flag: &str| {
            let said = Command::new("id").args([flag, user]).output().unwrap().stdout;
            String::from_utf8(said).unwrap().trim().parse::<u32>()
        };
        let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        let user = is_root.then(|| (id("-u").expect("the package makes its user"), id("-g").unwrap()));
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        Self { folder, user }
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Home {
    /// Puts a certificate for 127.0.0.1 and its key into `data`; gives the authority, PEM.
    fn certify(&self, data: &std::path::Path) -> String {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        for (name, content) in [("server.crt", leaf.pem()), ("server.key", key.serialize_pem())] {
            secret(data, name, &content);
            if let Some((uid, gid)) = self.user {
                std::os::unix::fs::chown(data.join(name), Some(uid), Some(gid)).unwrap();
            }
        }
        authority.pem()
    }
}

/// Waits until `ready` gives something.
async fn wait_for<T>(what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = ready().await {
            return value;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{what} did not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The same server over TLS, under its private authority.
fn over_tls(mut reached: Reached, authority: &str) -> Reached {
    std::fs::write(reached.folder.path().join("ca.pem"), authority).unwrap();
    reached.connection["tls"] = json!("full");
    reached.connection["ca_file"] = json!("ca.pem");
    reached
}

/// A server of PostgreSQL, stopped when dropped.
pub(crate) struct Postgres {
    home: Home,
    binaries: PathBuf,
    port: u16,
    running: Child,
    /// The authority of its certificate, PEM.
    authority: String,
}

impl Postgres {
    pub(crate) async fn start() -> Self {
        let binaries = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let binaries = binaries.map(|version| version.path().join("bin")).find(|bin| bin.join("initdb").exists());
        let binaries = binaries.expect("PostgreSQL is missing: install the package postgresql, as tests/run does");
        let home = Home::of("postgres");
        let data = home.folder.path().join("data");
        let made = home
            .command(binaries.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-U", "admin", "-E", "UTF8", "--locale=C", "--no-sync"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .status();
        assert!(made.unwrap().success(), "initdb failed");
        let authority = home.certify(&data);
        let port = free_port();
        let running = Self::run(&home, &binaries, port);
        let server = Self { home, binaries, port, running, authority };
        server.seed().await;
        server
    }

    fn run(home: &Home, binaries: &std::path::Path, port: u16) -> Child {
        let folder = home.folder.path();
        let mut command = home.command(binaries.join("postgres"));
        command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).args(["-h", "127.0.0.1", "-F", "-p"]);
        command.arg(port.to_string()).args(["-c", "ssl=on"]).spawn().unwrap()
    }

    async fn admin(&self) -> sqlx::PgConnection {
        let options = sqlx::postgres::PgConnectOptions::new_without_pgpass()
            .socket(self.home.folder.path())
            .port(self.port)
            .username("admin")
            .database("postgres")
            .ssl_mode(sqlx::postgres::PgSslMode::Disable);
        wait_for("PostgreSQL", async || options.connect().await.ok()).await
    }

    async fn seed(&self) {
        let mut admin = self.admin().await;
        let mut statements = schema("BIGINT", "DOUBLE PRECISION", "BOOLEAN", "JSONB", "DATE");
        let password = PASSWORD.replace('\'', "''");
        statements.extend([
            format!("CREATE ROLE lecture LOGIN PASSWORD '{password}'"),
            "GRANT SELECT, INSERT ON personnes TO lecture".to_owned(),
            "CREATE FUNCTION ecrit() RETURNS INTEGER LANGUAGE sql AS \
             $$ INSERT INTO personnes (quotient) VALUES (1) RETURNING quotient $$"
                .to_owned(),
            "CREATE FUNCTION bavarde(nom TEXT) RETURNS INTEGER LANGUAGE plpgsql AS \
             $$ BEGIN RAISE NOTICE 'bonjour %', nom; RAISE WARNING 'bonjour %', nom; RETURN 1; END $$"
                .to_owned(),
        ]);
        for statement in statements {
            admin.execute(AssertSqlSafe(statement)).await.unwrap();
        }
    }

    /// By its port, with a password.
    pub(crate) fn reached(&self) -> Reached {
        let folder = tempfile::tempdir().unwrap();
        secret(folder.path(), "password", PASSWORD);
        Reached {
            connection: json!({"engine": "postgresql", "host": "127.0.0.1", "port": self.port, "user": "lecture",
                "database": "postgres", "password_file": "password", "tls": "off"}),
            query: "SELECT quotient, classe FROM personnes \
                    WHERE nom = :birth_name_folded AND naissance = CAST(:birth_date AS date)",
            folder,
        }
    }

    /// By its port, over TLS under its private authority.
    pub(crate) fn reached_by_tls(&self) -> Reached {
        over_tls(self.reached(), &self.authority)
    }

    /// By its socket, without one.
    pub(crate) fn reached_by_socket(&self) -> Reached {
        let mut reached = self.reached();
        reached.connection = json!({"engine": "postgresql", "socket": self.home.folder.path(), "port": self.port,
            "user": "lecture", "database": "postgres"});
        reached
    }

    /// Ends every connection at once.
    pub(crate) fn stop(&mut self) {
        // SIGINT is PostgreSQL's fast shutdown; a killed one would leave its children behind for a moment.
        let _ = Command::new("kill").args(["-INT", &self.running.id().to_string()]).status();
        let _ = self.running.wait();
    }

    pub(crate) async fn restart(&mut self) {
        self.running = Self::run(&self.home, &self.binaries, self.port);
        let _ = self.admin().await.close().await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A server of MariaDB, stopped when dropped.
pub(crate) struct MariaDb {
    home: Home,
    port: u16,
    running: Child,
    /// The authority of its certificate, PEM.
    authority: String,
}

impl MariaDb {
    pub(crate) async fn start() -> Self {
        let missing = "MariaDB is missing: install the package mariadb-server, as tests/run does";
        let home = Home::of("mysql");
        let data = format!("--datadir={}", home.folder.path().join("data").display());
        let made = home
            .command("mariadb-install-db")
            .args(["--no-defaults", &data, "--auth-root-authentication-method=normal", "--skip-test-db"])
            .status();
        assert!(made.expect(missing).success(), "mariadb-install-db failed");
        let authority = home.certify(&home.folder.path().join("data"));
        let port = free_port();
        let socket = format!("--socket={}", home.folder.path().join("socket").display());
        let running = home
            .command("/usr/sbin/mariadbd")
            .args(["--no-defaults", &data, &socket, "--bind-address=127.0.0.1", &format!("--port={port}")])
            .args(["--ssl-cert=server.crt", "--ssl-key=server.key"])
            .spawn()
            .expect(missing);
        let server = Self { home, port, running, authority };
        server.seed().await;
        server
    }

    async fn seed(&self) {
        let options = sqlx::mysql::MySqlConnectOptions::new()
            .socket(self.home.folder.path().join("socket"))
            .username("root")
            .ssl_mode(sqlx::mysql::MySqlSslMode::Disabled);
        let mut admin = wait_for("MariaDB", async || options.connect().await.ok()).await;
        let password = PASSWORD.replace('\'', "''");
        let mut statements = vec!["CREATE DATABASE mairie CHARACTER SET utf8mb4".to_owned(), "USE mairie".to_owned()];
        statements.extend(schema("BIGINT UNSIGNED", "FLOAT", "BOOLEAN", "JSON", "DATE"));
        statements.extend([
            format!("CREATE USER lecture IDENTIFIED BY '{password}'"),
            "GRANT SELECT, INSERT ON mairie.personnes TO lecture".to_owned(),
            "CREATE FUNCTION ecrit() RETURNS INTEGER MODIFIES SQL DATA \
             BEGIN INSERT INTO personnes (quotient) VALUES (1); RETURN 1; END"
                .to_owned(),
            "GRANT EXECUTE ON FUNCTION mairie.ecrit TO lecture".to_owned(),
        ]);
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
        }
    }

    /// By its port.
    pub(crate) fn reached(&self) -> Reached {
        let folder = tempfile::tempdir().unwrap();
        secret(folder.path(), "password", PASSWORD);
        Reached {
            connection: json!({"engine": "mariadb", "host": "127.0.0.1", "port": self.port, "user": "lecture",
                "database": "mairie", "password_file": "password", "tls": "off"}),
            query: "SELECT quotient, classe FROM personnes \
                    WHERE nom = :birth_name_folded AND naissance = CAST(:birth_date AS date)",
            folder,
        }
    }

    /// By its port, over TLS under its private authority.
    pub(crate) fn reached_by_tls(&self) -> Reached {
        over_tls(self.reached(), &self.authority)
    }

    /// By its socket.
    pub(crate) fn reached_by_socket(&self) -> Reached {
        let mut reached = self.reached();
        reached.connection = json!({"engine": "mariadb", "socket": self.home.folder.path().join("socket"),
            "user": "lecture", "database": "mairie", "password_file": "password"});
        reached
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}
