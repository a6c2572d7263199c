//! What commands print, how they fail, and their exit codes.

use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use unefois_engine::EngineError;

use crate::client::{ClientError, chain, explain_transport};
use crate::config::ConfigError;
use crate::serve::ServeError;

/// Why a command failed, told apart by what the caller does about it.
#[derive(Debug)]
pub enum Failure {
    /// Wrong usage or configuration: exit code 2.
    Usage(String),
    /// Refused by law, right or rule: exit code 3.
    Refused(String),
    /// Broken, unreachable, or does not verify: exit code 1.
    Failed(String),
}

impl Failure {
    /// The text for people.
    pub fn message(&self) -> &str {
        match self {
            Self::Usage(text) | Self::Refused(text) | Self::Failed(text) => text,
        }
    }
}

/// The exit code of a failure.
pub fn exit_code(failure: &Failure) -> u8 {
    match failure {
        Failure::Failed(_) => 1,
        Failure::Usage(_) => 2,
        Failure::Refused(_) => 3,
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Profile(text) => Self::Usage(text),
            ClientError::Connect(text) => Self::Failed(text),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Config(error) => error.into(),
            ServeError::Engine(_) | ServeError::Listen { .. } | ServeError::Contract(_) | ServeError::Transport(_) => {
                Self::Failed(error.to_string())
            }
        }
    }
}

/// Reads a file that somebody else made: a receipt, an answer, a token.
///
/// # Errors
/// [`Failure::Usage`] where it cannot be read, [`Failure::Failed`] where it is not UTF-8.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::Failed(format!("{}: it is not UTF-8, so it is damaged or of another kind", path.display()))
    })
}

/// A status for people: what was refused, why, and what to do.
pub(crate) fn describe(status: &Status) -> String {
    let info = status.get_details_error_info();
    let mut text = match &info {
        Some(info) => format!("{} [{}]", status.message(), info.reason),
        // The status' own text repeats its source in full; the source alone reads better.
        None => match std::error::Error::source(status) {
            Some(cause) => explain_transport(&chain(cause), "the broker"),
            None => status.message().to_owned(),
        },
    };
    if let Some(info) = &info {
        if let Some(reasons) = info.metadata.get("reasons").filter(|reasons| reasons.contains(',')) {
            text.push_str(&format!("\n  all reasons: {}", reasons.replace(',', ", ")));
        }
        if let Some(index) = info.metadata.get("entry_index") {
            text.push_str(&format!("\n  logged as entry {index}"));
        }
    }
    text
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let text = describe(&status);
        match status.code() {
            Code::PermissionDenied | Code::NotFound | Code::FailedPrecondition | Code::Aborted => Self::Refused(text),
            Code::InvalidArgument | Code::OutOfRange => Self::Usage(text),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => Self::Failed(text),
        }
    }
}

/// Prints a line; a closed pipe is no fault of ours.
pub(crate) fn line(text: impl AsRef<str>) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
}

/// Prints for people beside what scripts read.
pub(crate) fn note(text: impl AsRef<str>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
}

/// Prints JSON.
pub(crate) fn json(value: &serde_json::Value) {
    line(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// `500ms`, `10s`, `1m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let amount: u64 = digits.parse().map_err(|_| "a number and a unit: 500ms, 10s, 1m".to_owned())?;
    match unit {
        "ms" => Ok(Duration::from_millis(amount)),
        "s" | "" => Ok(Duration::from_secs(amount)),
        "m" => Ok(Duration::from_secs(amount.saturating_mul(60))),
        _ => Err("the unit is ms, s or m".to_owned()),
    }
}

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn progress(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} {eta}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

/// Moves a bar.
pub(crate) fn moves(bar: &ProgressBar) -> impl FnMut(u64, u64) + Send + '_ {
    |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    }
}

/// When an objection lapses, in the words of a list.
pub(crate) fn lapse_text(lapses_at: Option<&prost_types::Timestamp>) -> String {
    let at = lapses_at.map(crate::text::time_text).unwrap_or_default();
    format!(" · until {at}, unless it is said again in the six months before")
}
