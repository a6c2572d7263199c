//! gRPC towards a source: a channel over mutual TLS or a Unix socket, and what a status of gRPC means.

use std::error::Error as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, TimeoutExpired};

use crate::config::ConnectorConfigError;
use crate::files::read_trusted;
use crate::reloaded::Reloaded;
use crate::{SourceFault, http_client};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A source that vanished without a word is noticed after both.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(5));
pub(crate) const UNTRUSTED: &str = "its certificate is not trusted: check ca_file and server_name";
/// What a message has beside the JSON of its values.
const MESSAGE_OVERHEAD: usize = 64 * 1024;

/// Where a source is that is reached over mutual TLS, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) url: String,
    pub(crate) ca_file: PathBuf,
    pub(crate) client_identity_file: PathBuf,
    pub(crate) server_name: Option<String>,
}

impl Remote {
    /// Refuses a URL that is none of a gRPC source.
    pub(crate) fn check_url(url: &str) -> Result<(), ConnectorConfigError> {
        let parsed = http_client::source_url("url", url)?;
        if parsed.scheme() == "https" && matches!(parsed.path(), "" | "/") {
            Ok(())
        } else {
            Err(ConnectorConfigError::invalid(
                "url",
                "https with a name and a port, such as https://broker.example:7443",
            ))
        }
    }

    fn endpoint(&self) -> Result<Endpoint, String> {
        let roots = read_trusted(&self.ca_file, http_client::MAX_ROOTS_BYTES)
            .map_err(|problem| format!("{}: {problem}", self.ca_file.display()))?;
        let pem = http_client::identity_pem(&self.client_identity_file)?;
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(roots))
            .identity(Identity::from_pem(pem.as_slice(), pem.as_slice()));
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        // The library's words may hold a path; what is wrong is a certificate or a key.
        let endpoint = Endpoint::from_shared(self.url.clone()).and_then(|endpoint| endpoint.tls_config(tls));
        endpoint.map(patient).map_err(|_| "certificate and private key do not make an identity of TLS".to_owned())
    }
}

fn patient(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .initial_connection_window_size(1 << 20)
}

/// A way to a source, connected at its first use and again whenever the connection broke.
pub(crate) struct Line {
    endpoint: Endpoint,
    channel: OnceLock<Channel>,
}

impl Line {
    fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, channel: OnceLock::new() }
    }

    /// Over a Unix socket.
    pub(crate) fn to_socket(path: &Path) -> Result<Self, ConnectorConfigError> {
        let refuse = || ConnectorConfigError::invalid("socket", "the path of a Unix socket, in UTF-8");
        let path = path.to_str().ok_or_else(refuse)?;
        Endpoint::from_shared(format!("unix://{path}")).map(|e| Self::new(patient(e))).map_err(|_| refuse())
    }

    /// Over mutual TLS; the client's certificate is read again when it changes.
    pub(crate) fn to_remote(remote: Remote) -> Result<Reloaded<RemoteLine>, ConnectorConfigError> {
        let path = remote.client_identity_file.clone();
        http_client::check_roots(&remote.ca_file)?;
        let endpoint = remote.endpoint().map_err(|p| ConnectorConfigError::file("client_identity_file", &path, p))?;
        let open = RemoteLine { line: Self::new(endpoint), remote };
        Reloaded::open(&path, &open, |_, before| {
            Ok(RemoteLine { line: Self::new(before.remote.endpoint()?), remote: before.remote.clone() })
        })
        .map_err(|problem| ConnectorConfigError::file("client_identity_file", &path, problem))
    }

    /// The channel, which many calls share.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.get_or_init(|| self.endpoint.connect_lazy()).clone()
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

/// A line with the files that it was made of.
#[derive(Debug)]
pub(crate) struct RemoteLine {
    pub(crate) line: Line,
    remote: Remote,
}

/// Largest message that a source may send, for answers of at most `max_answer_bytes` of JSON.
pub(crate) fn max_message_bytes(max_answer_bytes: usize) -> usize {
    // Numbers and short members are longer in protobuf than in JSON, texts are not. No more than that: two bytes of a message may
    // be a value of thirty in memory.
    max_answer_bytes.saturating_mul(2).saturating_add(MESSAGE_OVERHEAD)
}

/// A request that says until when an answer is of use.
pub(crate) fn request<T>(message: T, deadline: Instant) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    request
}

/// What a status means for the exchange. Its message is thrown away: it is the source's, and may name a person.
pub(crate) fn fault(status: &Status) -> SourceFault {
    if std::iter::successors(status.source(), |&cause| cause.source()).any(|cause| cause.is::<TimeoutExpired>()) {
        // This side's own clock, which may be quicker than that of the guard.
        return SourceFault::Timeout;
    }
    match status.source() {
        // What the source says has no cause on this side; the connection's own end has.
        Some(cause) if http_client::is_certificate_refused(cause) => {
            return SourceFault::Down(UNTRUSTED);
        }
        Some(cause) if http_client::is_refused_by_alert(cause) => {
            return SourceFault::Down("it refuses this broker's certificate: check client_identity_file");
        }
        Some(cause) if http_client::is_connection_refused(cause) => {
            return SourceFault::Down("nobody listens there: check the address");
        }
        Some(_) if status.code() != Code::DeadlineExceeded => return SourceFault::Down("the connection broke"),
        Some(_) | None => {}
    }
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => SourceFault::Timeout,
        Code::Unavailable => SourceFault::Down("it is not reached, or says that it is down"),
        Code::ResourceExhausted => SourceFault::RateLimited("it says so"),
        Code::Unauthenticated | Code::PermissionDenied => SourceFault::NotAuthorised("it does not let this broker ask"),
        // An answer beyond the limit.
        Code::OutOfRange => SourceFault::Untrusted("the answer is too large"),
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => SourceFault::Untrusted("it failed with a status that it has no reason for"),
    }
}
