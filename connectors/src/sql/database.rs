//! Pools of connections, and one question. Connections are made when they are needed.
//!
//! An error's text may repeat what was bound, so only its kind is kept.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPool, MySqlPoolOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use super::row;
use super::settings::{Engine, SqlAttribute, SqlConfig, SqlTls};
use crate::SourceFault;
use crate::config::ConnectorConfigError;
use crate::reloaded::Reloaded;
use crate::secret::{self, Secret};

/// Connections that nobody needs are closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// SQLite looks at the time each so many steps of its machine.
const STEPS: i32 = 1000;

/// One question.
pub(super) struct Question<'a> {
    pub(super) sql: &'a str,
    /// None is null.
    pub(super) parameters: &'a [Option<String>],
    /// Those of the attributes asked.
    pub(super) columns: &'a [&'a SqlAttribute],
    /// Whoever asks gave a filter.
    pub(super) is_filtered: bool,
    pub(super) deadline: Instant,
}

/// What the database answered.
pub(super) enum Answer {
    NoRow,
    /// A value of a filter cannot be taken.
    FilterRefused,
    Several,
    /// A value for each column asked.
    One(Vec<Value>),
}

/// The database of a connector.
#[derive(Debug)]
pub(super) enum Database {
    Postgres { pool: PgPool, options: Box<PgConnectOptions>, password: Password },
    MySql { pool: MySqlPool, options: Box<MySqlConnectOptions>, password: Password },
    Sqlite { pool: SqlitePool },
}

/// The password of the role, and the one that connections are made with.
#[derive(Debug)]
pub(super) struct Password {
    file: Option<Reloaded<Secret>>,
    used: Mutex<Option<Arc<Secret>>>,
}

impl Password {
    fn open(config: &SqlConfig, base_dir: &Path) -> Result<Self, ConnectorConfigError> {
        let open = |path: &std::path::PathBuf| {
            let path = base_dir.join(path);
            secret::password_file(&path).map_err(|problem| ConnectorConfigError::file("password_file", &path, problem))
        };
        Ok(Self { file: config.password_file.as_ref().map(open).transpose()?, used: Mutex::default() })
    }

    /// Has connections made with the password where it is another one than they are made with.
    async fn apply(&self, set: impl FnOnce(&str)) {
        let Some(file) = &self.file else { return };
        let now = file.get().await;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.as_ref().is_none_or(|used| !Arc::ptr_eq(used, &now)) {
            // ORDER: within the lock, so that nobody goes on with the old one while it is being set.
            set(now.expose());
            *used = Some(now);
        }
    }
}

/// Asks on a connection, and reads two rows at most. The types of the three engines have nothing in common to be generic in.
macro_rules! ask_on {
    ($connection:expr, $question:expr, $read:path) => {{
        let question = $question;
        let mut query = sqlx::query(AssertSqlSafe(question.sql.to_owned()));
        for parameter in question.parameters {
            query = query.bind(parameter.clone());
        }
        let mut rows = query.fetch($connection);
        let first = rows.try_next().await;
        let second = if matches!(first, Ok(Some(_))) { rows.try_next().await } else { Ok(None) };
        match (first, second) {
            (Err(error), _) | (_, Err(error)) if question.is_filtered && is_data_exception(&error) => {
                Ok(Answer::FilterRefused)
            }
            (Err(error), _) | (_, Err(error)) => Err(fault(&error)),
            (Ok(None), _) => Ok(Answer::NoRow),
            (Ok(Some(_)), Ok(Some(_))) => Ok(Answer::Several),
            (Ok(Some(row)), Ok(None)) => {
                let values = question.columns.iter().map(|attribute| $read(&row, attribute));
                values.collect::<Result<_, _>>().map(Answer::One)
            }
        }
    }};
}

impl Database {
    pub(super) fn open(config: &SqlConfig, base_dir: &Path) -> Result<Self, ConnectorConfigError> {
        let ca_file = config.ca_file.as_ref().map(|path| base_dir.join(path));
        if let Some(path) = &ca_file {
            crate::http_client::check_roots(path)?;
        }
        let password = Password::open(config, base_dir)?;
        match config.engine {
            Engine::PostgreSql => {
                refuse_variables(|name| std::env::var_os(name).is_some())?;
                Ok(postgres(config, ca_file.as_deref(), password))
            }
            Engine::MariaDb | Engine::MySql => Ok(mysql(config, ca_file.as_deref(), password)),
            Engine::Sqlite => sqlite(config, base_dir),
        }
    }

    /// Asks in a read-only transaction, or on a file that is opened for reading. Cancel-safe: a transaction that is dropped
    /// is rolled back, and the statement is cut off by the database at its timeout.
    pub(super) async fn ask(&self, question: Question<'_>) -> Result<Answer, SourceFault> {
        match self {
            Self::Postgres { pool, options, password } => {
                password.apply(|password| pool.set_connect_options((**options).clone().password(password))).await;
                let begun = pool.begin_with("BEGIN READ ONLY").await;
                let mut transaction = begun.map_err(|error| fault(&error))?;
                ask_on!(&mut *transaction, &question, row::postgres)
            }
            Self::MySql { pool, options, password } => {
                password.apply(|password| pool.set_connect_options((**options).clone().password(password))).await;
                let begun = pool.begin_with("START TRANSACTION READ ONLY").await;
                let mut transaction = begun.map_err(|error| fault(&error))?;
                ask_on!(&mut *transaction, &question, row::mysql)
            }
            Self::Sqlite { pool } => {
                let mut connection = pool.acquire().await.map_err(|error| fault(&error))?;
                let deadline = question.deadline;
                let mut handle = connection.lock_handle().await.map_err(|error| fault(&error))?;
                handle.set_progress_handler(STEPS, move || Instant::now() < deadline);
                drop(handle);
                ask_on!(&mut *connection, &question, row::sqlite)
            }
        }
    }
}

/// The library takes these from the environment, and no option of it takes them back: an identity, roots or settings that the
/// configuration does not know of.
fn refuse_variables(is_set: impl Fn(&str) -> bool) -> Result<(), ConnectorConfigError> {
    match ["PGOPTIONS", "PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT"].iter().find(|name| is_set(name)) {
        None => Ok(()),
        Some(name) => Err(ConnectorConfigError::invalid(
            "engine",
            format!("the variable {name} would change it: start the broker without"),
        )),
    }
}

fn postgres(config: &SqlConfig, ca_file: Option<&Path>, password: Password) -> Database {
    let timeout_ms = config.limits.timeout.as_millis().to_string();
    let mut options = PgConnectOptions::new_without_pgpass()
        .username(config.user.as_deref().unwrap_or_default())
        .database(config.database.as_deref().unwrap_or_default())
        .application_name("unefois")
        // That of the file comes before the first connection; without one there is none.
        .password("")
        .options([
            ("default_transaction_read_only", "on"),
            ("statement_timeout", timeout_ms.as_str()),
            // What a function tells could name the person.
            ("client_min_messages", "error"),
        ])
        .disable_statement_logging();
    // Named in any case, so that no variable of the environment stands in for it.
    options = options.port(config.port.unwrap_or(5432));
    options = match (&config.socket, &config.host) {
        (Some(socket), _) => options.socket(socket).ssl_mode(PgSslMode::Disable),
        (None, host) => options.host(host.as_deref().unwrap_or_default()).ssl_mode(match config.tls {
            SqlTls::Full => PgSslMode::VerifyFull,
            SqlTls::Off => PgSslMode::Disable,
        }),
    };
    if let Some(path) = ca_file {
        options = options.ssl_root_cert(path);
    }
    let pool = PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(config.limits.timeout)
        .idle_timeout(IDLE_TIMEOUT)
        .connect_lazy_with(options.clone());
    Database::Postgres { pool, options: Box::new(options), password }
}

fn mysql(config: &SqlConfig, ca_file: Option<&Path>, password: Password) -> Database {
    let mut options = MySqlConnectOptions::new()
        .username(config.user.as_deref().unwrap_or_default())
        .database(config.database.as_deref().unwrap_or_default())
        .disable_statement_logging();
    if let Some(port) = config.port {
        options = options.port(port);
    }
    options = match (&config.socket, &config.host) {
        (Some(socket), _) => options.socket(socket).ssl_mode(MySqlSslMode::Disabled),
        (None, host) => options.host(host.as_deref().unwrap_or_default()).ssl_mode(match config.tls {
            SqlTls::Full => MySqlSslMode::VerifyIdentity,
            SqlTls::Off => MySqlSslMode::Disabled,
        }),
    };
    if let Some(path) = ca_file {
        options = options.ssl_ca(path);
    }
    let timeout = config.limits.timeout;
    let session = match config.engine {
        Engine::MySql => format!("SET SESSION max_execution_time = {}", timeout.as_millis()),
        Engine::MariaDb | Engine::PostgreSql | Engine::Sqlite => {
            format!("SET SESSION max_statement_time = {}", timeout.as_secs_f64())
        }
    };
    let pool = MySqlPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(timeout)
        .idle_timeout(IDLE_TIMEOUT)
        .after_connect(move |connection, _| {
            let session = session.clone();
            Box::pin(async move {
                connection.execute(AssertSqlSafe(session)).await?;
                connection.execute("SET SESSION TRANSACTION READ ONLY").await?;
                Ok(())
            })
        })
        .connect_lazy_with(options.clone());
    Database::MySql { pool, options: Box::new(options), password }
}

fn sqlite(config: &SqlConfig, base_dir: &Path) -> Result<Database, ConnectorConfigError> {
    let path = base_dir.join(config.path.as_deref().unwrap_or(Path::new("")));
    let opened = std::fs::File::open(&path);
    opened.map_err(|e| ConnectorConfigError::file("path", &path, format!("cannot be opened: {}", e.kind())))?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .read_only(true)
        .create_if_missing(false)
        .busy_timeout(config.limits.timeout)
        .pragma("query_only", "on")
        .disable_statement_logging();
    let pool = SqlitePoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(config.limits.timeout)
        .idle_timeout(IDLE_TIMEOUT)
        .connect_lazy_with(options);
    Ok(Database::Sqlite { pool })
}

/// A value that the statement cannot take, such as a text where it casts to a date: of SQLSTATE class 22, what a cast says.
fn is_data_exception(error: &sqlx::Error) -> bool {
    let Some(said) = error.as_database_error() else { return false };
    match said.try_downcast_ref::<MySqlDatabaseError>() {
        // Out of range; incorrect value, in its three forms.
        Some(mysql) => matches!(mysql.number(), 1264 | 1292 | 1366 | 1411 | 1690),
        None => said.code().is_some_and(|code| ["22003", "22007", "22008", "22023", "22P02"].contains(&&*code)),
    }
}

const WRITES: SourceFault = SourceFault::Untrusted("the query writes, and may only read");
const REFUSES_ROLE: SourceFault = SourceFault::NotAuthorised("it refuses the role, its password or a right");

fn fault(error: &sqlx::Error) -> SourceFault {
    let Some(said) = error.as_database_error() else { return connection_fault(error) };
    if let Some(mysql) = said.try_downcast_ref::<MySqlDatabaseError>() {
        return mysql_fault(mysql.number());
    }
    match said.code().as_deref().unwrap_or_default() {
        // PostgreSQL: query_canceled. SQLite: SQLITE_INTERRUPT.
        "57014" | "9" => SourceFault::Timeout,
        // read_only_sql_transaction; SQLITE_READONLY.
        "25006" | "8" => WRITES,
        // insufficient_privilege; class 28: invalid authorisation.
        code if code == "42501" || code.starts_with("28") => REFUSES_ROLE,
        // SQLITE_BUSY, SQLITE_LOCKED, SQLITE_CANTOPEN; classes 08, 53 and 57: connections, resources, shutdown.
        "5" | "6" | "14" => SourceFault::Down("the file is in use or gone"),
        code if code.len() == 5 && ["08", "53", "57"].iter().any(|class| code.starts_with(class)) => {
            SourceFault::Down("the database says that it is down")
        }
        _ => SourceFault::Untrusted("the database refuses the query"),
    }
}

/// What went wrong on the way to the database.
fn connection_fault(error: &sqlx::Error) -> SourceFault {
    use sqlx::Error::{Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
    if matches!(error, PoolTimedOut) {
        SourceFault::Timeout
    } else if matches!(error, Io(_)) {
        SourceFault::Down("no connection")
    } else if matches!(error, Tls(_)) {
        SourceFault::Down("its certificate is not trusted, or it speaks no TLS")
    } else if matches!(error, Protocol(_) | PoolClosed | WorkerCrashed) {
        SourceFault::Down("the connection broke")
    } else {
        SourceFault::Untrusted("the database's answer cannot be read")
    }
}

/// Error numbers of MariaDB and MySQL, which say more than their SQLSTATE.
fn mysql_fault(number: u16) -> SourceFault {
    match number {
        // A statement that took too long, in MariaDB and in MySQL; one that was killed.
        1969 | 3024 | 1317 => SourceFault::Timeout,
        1792 => WRITES,
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698 => REFUSES_ROLE,
        // Too many connections; shutdown.
        1040 | 1053 | 1203 | 1226 => SourceFault::Down("the database says that it is down"),
        _ => SourceFault::Untrusted("the database refuses the query"),
    }
}

#[cfg(test)]
mod tests {
    use super::refuse_variables;

    #[test]
    fn an_identity_of_the_environment_is_refused_by_its_name() {
        assert!(refuse_variables(|_| false).is_ok());
        for name in ["PGOPTIONS", "PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT"] {
            let error = refuse_variables(|set| set == name).unwrap_err().to_string();
            assert!(error.starts_with("engine: ") && error.contains(name), "{error}");
        }
    }
}
