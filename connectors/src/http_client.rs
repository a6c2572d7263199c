//! The HTTP client: TLS by ring and the system's roots, pooled connections, no redirect, no proxy, bodies with a cap.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AGE, CACHE_CONTROL, CONTENT_TYPE, EXPIRES, HeaderMap, HeaderValue, PRAGMA, VARY};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::SourceFault;
use crate::config::ConnectorConfigError;
use crate::files::{read_secret, read_trusted};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter than servers and load balancers keep an idle connection (5 s in Node and in Apache), so that a question seldom meets one
/// just closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const MAX_PEM_BYTES: usize = 256 * 1024;
/// Largest file of roots; that of a whole system has some 250 KB.
pub(crate) const MAX_ROOTS_BYTES: usize = 4 << 20;
const USER_AGENT: &str = concat!("unefois/", env!("CARGO_PKG_VERSION"));
/// Carries the id of the exchange to the source, and the source's own reference back.
pub(crate) const REQUEST_ID: &str = "x-request-id";

/// The base URL of a source: https, or http to this very machine.
pub fn base_url(text: &str) -> Result<Url, ConnectorConfigError> {
    source_url("base_url", text)
}

/// The URL of the key `key`: https, or http to this very machine.
pub(crate) fn source_url(key: &str, text: &str) -> Result<Url, ConnectorConfigError> {
    let refuse = |rule| Err(ConnectorConfigError::invalid(key, rule));
    let Ok(url) = Url::parse(text) else {
        return refuse("an absolute URL such as https://particulier.api.gouv.fr");
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => {
            return refuse("http would send identities and the token in clear: use https (http only for localhost)");
        }
        _ => return refuse("must begin with https://"),
    }
    let extra =
        !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some();
    if extra { refuse("without user, password, query and fragment; secrets go in files") } else { Ok(url) }
}

/// Whether the host of `url` is this very machine.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || literal.is_ok_and(|ip| ip.is_loopback())
}

/// A client for `base`; `ca_file` adds the roots of a private certification authority to the system's.
pub fn client(base: &Url, ca_file: Option<&Path>, max_idle: usize) -> Result<Client, ConnectorConfigError> {
    client_with(Trust { speaks_tls: base.scheme() != "http", ca_file, identity_file: None }, max_idle)
}

/// Whom a client trusts, and as whom it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trust<'a> {
    /// Whether TLS will be spoken at all: a bare container may have no roots.
    pub(crate) speaks_tls: bool,
    /// Roots of a private certification authority, PEM.
    pub(crate) ca_file: Option<&'a Path>,
    /// The client's own certificate chain and its private key in one PEM file, of mode 600.
    pub(crate) identity_file: Option<&'a Path>,
}

/// A client for sources of this trust.
pub(crate) fn client_with(trust: Trust<'_>, max_idle: usize) -> Result<Client, ConnectorConfigError> {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    Client::builder()
        .tls_backend_preconfigured(tls(trust)?)
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(max_idle)
        .build()
        .map_err(|_| ConnectorConfigError::invalid("base_url", "no HTTP client could be made for it"))
}

/// Names its crypto provider, so that it does not depend on a default of the process.
fn tls(trust: Trust<'_>) -> Result<rustls::ClientConfig, ConnectorConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|_| ConnectorConfigError::invalid("base_url", "this build has no version of TLS"))?;
    if !trust.speaks_tls {
        return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    }
    let roots = trust.ca_file.map(ca_roots).transpose()?.unwrap_or_default();
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(roots, provider).map_err(|_| {
        ConnectorConfigError::invalid(
            "ca_file",
            "no root certificate is usable: install the system's (ca-certificates) or name a PEM file",
        )
    })?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match trust.identity_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let refuse = |problem: String| ConnectorConfigError::file("client_identity_file", path, problem);
            let (chain, key) = identity(path).map_err(refuse)?;
            let fits = builder.with_client_auth_cert(chain, key);
            fits.map_err(|_| refuse("its certificate and its private key do not belong together".to_owned()))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A client's own certificate chain and its private key in one PEM file of mode 600, as it is.
pub(crate) fn identity_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let pem = read_secret(path, MAX_PEM_BYTES)?;
    identity_in(&pem).map(|_| pem)
}

/// Certificate chain and private key of a client.
fn identity(path: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    identity_in(&read_secret(path, MAX_PEM_BYTES)?)
}

fn identity_in(pem: &[u8]) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) if !chain.is_empty() => Ok((chain, key)),
        Ok(_) | Err(_) => Err("must hold a certificate chain and its private key, in PEM".to_owned()),
    }
}

/// Refuses a file of roots that holds none.
pub(crate) fn check_roots(path: &Path) -> Result<(), ConnectorConfigError> {
    ca_roots(path).map(drop)
}

fn ca_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectorConfigError> {
    let refuse = |problem: String| Err(ConnectorConfigError::file("ca_file", path, problem));
    let pem = match read_trusted(path, MAX_ROOTS_BYTES) {
        Ok(pem) => pem,
        Err(problem) => return refuse(problem),
    };
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        Ok(_) | Err(_) => refuse("holds no certificates in PEM".to_owned()),
    }
}

/// Reads the body, at most `max_bytes` of it.
pub async fn read(response: &mut Response, max_bytes: usize) -> Result<Vec<u8>, SourceFault> {
    const TOO_LARGE: SourceFault = SourceFault::Untrusted("the answer is too large");
    let announced = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
    if announced > max_bytes {
        return Err(TOO_LARGE);
    }
    let mut body = Vec::with_capacity(announced);
    while let Some(chunk) = response.chunk().await.map_err(fault)? {
        if chunk.len() > max_bytes - body.len() {
            return Err(TOO_LARGE);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Whether the answer says that it is `application/json`.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// The same, or one of the kinds that are JSON too, `application/problem+json`.
pub(crate) fn is_json_of_any_kind(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    is_json(headers) || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// For how long an answer may be kept by one who asked for it (RFC 9111 5.2.2): nothing where it is forbidden, or allowed to
/// an end user alone, or left unclear; none where nothing is said.
pub(crate) fn may_keep(headers: &HeaderMap) -> Option<Duration> {
    // What may differ by a header that this client sends anew each time, or does not know.
    let same = |header: &HeaderValue| header.to_str().is_ok_and(|name| name.eq_ignore_ascii_case("accept-encoding"));
    if !headers.get_all(VARY).iter().all(same) {
        return Some(Duration::ZERO);
    }
    let mut rule = None;
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in value.to_str().unwrap_or("no-store").split(',') {
            let (name, value) = directive.trim().split_once('=').unwrap_or((directive.trim(), ""));
            let forbids = ["no-store", "no-cache", "private"].iter().any(|forbids| name.eq_ignore_ascii_case(forbids));
            // A directive that is no token may be one that forbids, written wrongly.
            if forbids || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
                return Some(Duration::ZERO);
            }
            if name.eq_ignore_ascii_case("max-age") || name.eq_ignore_ascii_case("s-maxage") {
                let seconds = Duration::from_secs(value.trim_matches('"').parse().unwrap_or(0));
                rule = Some(rule.map_or(seconds, |rule: Duration| rule.min(seconds)));
            }
        }
    }
    // Older headers, which Cache-Control stands above.
    let is_dated = [EXPIRES, PRAGMA].iter().any(|name| headers.contains_key(name));
    let rule = rule.or(is_dated.then_some(Duration::ZERO));
    match headers.get(AGE).map(|age| age.to_str().ok().and_then(|age| age.parse().ok())) {
        None => rule,
        // It was kept by somebody before, and for how long or how long it may be is not said.
        Some(None) => Some(Duration::ZERO),
        Some(Some(age)) => Some(rule.unwrap_or_default().saturating_sub(Duration::from_secs(age))),
    }
}

/// The source's own reference of its answer.
pub(crate) fn reference(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(REQUEST_ID)?.to_str().ok()?;
    let fits = (1..=128).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| value.to_owned())
}

/// The error's text holds the URL, and with it the person: only its kind is kept.
pub(crate) fn fault(error: reqwest::Error) -> SourceFault {
    let error = error.without_url();
    if error.source().is_some_and(is_certificate_refused) {
        SourceFault::Down("its certificate is not trusted: check the system's roots or ca_file")
    } else if error.is_connect() {
        SourceFault::Down("no connection")
    } else if error.is_timeout() {
        SourceFault::Timeout
    } else {
        SourceFault::Down("the connection broke")
    }
}

/// Whether `cause`, or what is behind it, is a certificate of the other side that is not trusted.
pub(crate) fn is_certificate_refused(cause: &(dyn std::error::Error + 'static)) -> bool {
    causes(cause).any(|cause| matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))))
}

/// Whether the other side ended TLS with an alert: in TLS 1.3 that is how it refuses a client's certificate.
pub(crate) fn is_refused_by_alert(cause: &(dyn std::error::Error + 'static)) -> bool {
    causes(cause).any(|cause| matches!(cause.downcast_ref(), Some(rustls::Error::AlertReceived(_))))
}

/// Whether nobody listens there.
pub(crate) fn is_connection_refused(cause: &(dyn std::error::Error + 'static)) -> bool {
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    causes(cause).any(|cause| cause.downcast_ref().is_some_and(refused))
}

/// An error and all that is behind it.
fn causes<'a>(
    cause: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(cause), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        // An io::Error's source skips the error that it wraps.
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    })
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    #[test]
    fn an_answer_is_kept_as_long_as_its_headers_let_it() {
        let of = |headers: &[(&str, &str)]| {
            let pair = |(name, value): &(&str, &str)| {
                (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
            };
            may_keep(&HeaderMap::from_iter(headers.iter().map(pair))).map(|keep| keep.as_secs())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("cache-control", "max-age=60")]), Some(60));
        assert_eq!(of(&[("cache-control", "public, Max-Age=60, s-maxage=30")]), Some(30));
        assert_eq!(of(&[("cache-control", "max-age=60"), ("age", "45")]), Some(15));
        assert_eq!(of(&[("cache-control", "max-age=60"), ("age", "90")]), Some(0));
        assert_eq!(of(&[("cache-control", "max-age=60"), ("expires", "0")]), Some(60));
        let forbidding =
            ["no-store", "no-cache", "private, max-age=60", "max-age=x", "max-age=60, no-store", "no-store; private"];
        for forbids in forbidding {
            assert_eq!(of(&[("cache-control", forbids)]), Some(0), "{forbids}");
        }
        assert_eq!(of(&[("vary", "Accept-Encoding")]), None);
        assert_eq!(of(&[("vary", "x-request-id"), ("cache-control", "max-age=60")]), Some(0));
        for unclear in ["expires", "pragma", "vary"] {
            assert_eq!(of(&[(unclear, "x")]), Some(0), "{unclear}");
        }
        assert_eq!(of(&[("cache-control", "must-revalidate")]), None);
        assert_eq!(of(&[("age", "5"), ("cache-control", "must-revalidate")]), Some(0));
        assert_eq!(of(&[("age", "old"), ("cache-control", "max-age=60")]), Some(0));
    }
}
