//! Sources that do what sources should not: HTTP servers of this process, each with a fault of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use unefois_proto::v1::AttributeStatus::{self, Found, NotAuthorised, RateLimited, SourceDown};

/// The answer of a source that is well: what is asked is at `$.v`, and is 7.
pub const RIGHT: &str = r#"{"v":7}"#;

/// What a source does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Does {
    Well,
    AnswersLate,
    AnswersOrResets,
    ListensToNobody,
    Resets,
    HangsUp,
    Hangs,
    Trickles,
    Floods,
    FloodsHeaders,
    Truncates,
    SaysHtml,
    SaysNoJson,
    SaysAnotherType,
    SpeaksNoHttp,
    Redirects,
    IsDown,
    SlowsDown,
    Refuses,
    IsExpired,
}

/// Every way to be a source, the good one first.
pub const ALL: [Does; 20] = [
    Does::Well,
    Does::AnswersLate,
    Does::AnswersOrResets,
    Does::ListensToNobody,
    Does::Resets,
    Does::HangsUp,
    Does::Hangs,
    Does::Trickles,
    Does::Floods,
    Does::FloodsHeaders,
    Does::Truncates,
    Does::SaysHtml,
    Does::SaysNoJson,
    Does::SaysAnotherType,
    Does::SpeaksNoHttp,
    Does::Redirects,
    Does::IsDown,
    Does::SlowsDown,
    Does::Refuses,
    Does::IsExpired,
];

impl Does {
    /// A name for a dataset and a connector: lower case letters.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The outcomes that are right.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is wrong, the source is down")]
    pub fn allowed(self) -> &'static [AttributeStatus] {
        match self {
            Self::Well | Self::AnswersLate => &[Found],
            Self::AnswersOrResets => &[Found, SourceDown],
            Self::SlowsDown => &[RateLimited, SourceDown],
            Self::Refuses => &[NotAuthorised, SourceDown],
            _ => &[SourceDown],
        }
    }

    async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin, turn: usize) {
        let json = |status: &str, body: &str| with_type(status, "application/json", body);
        loop {
            if !read_head(&mut stream).await {
                return;
            }
            let reply = match self {
                Self::AnswersLate => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    json("200 OK", RIGHT)
                }
                Self::AnswersOrResets if turn.is_multiple_of(3) => return,
                Self::Hangs => return std::future::pending().await,
                Self::HangsUp => return,
                Self::Trickles => {
                    for byte in json("200 OK", &format!("{RIGHT}{}", " ".repeat(500))).as_bytes() {
                        if stream.write_all(&[*byte]).await.is_err() {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    continue;
                }
                Self::Floods => {
                    let head =
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
                    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
                    let mut sent = stream.write_all(head.as_bytes()).await;
                    // 50 MB.
                    for _ in 0..800 {
                        sent = if sent.is_ok() { stream.write_all(chunk.as_bytes()).await } else { return };
                    }
                    format!("7\r\n{RIGHT}\r\n0\r\n\r\n")
                }
                Self::FloodsHeaders => format!("HTTP/1.1 200 OK\r\n{}", "x-more: again\r\n".repeat(200_000)),
                Self::Truncates => {
                    let whole = json("200 OK", &format!("{RIGHT}{}", " ".repeat(100)));
                    let _ = stream.write_all(&whole.as_bytes()[..whole.len() - 50]).await;
                    return;
                }
                Self::SaysHtml => with_type("200 OK", "text/html", RIGHT),
                Self::SaysNoJson => json("200 OK", r#"{"v":7"#),
                Self::SaysAnotherType => json("200 OK", r#"{"v":"seven"}"#),
                Self::SpeaksNoHttp => "220 mail.example ESMTP\r\n".to_owned(),
                Self::Redirects => "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n".to_owned(),
                Self::IsDown => json("503 Service Unavailable", "{}"),
                Self::SlowsDown => json("429 Too Many Requests", "{}"),
                Self::Refuses => json("403 Forbidden", "{}"),
                Self::Well | Self::AnswersOrResets | Self::IsExpired | Self::ListensToNobody | Self::Resets => {
                    json("200 OK", RIGHT)
                }
            };
            if stream.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

fn with_type(status: &str, content_type: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Reads to the end of a request without a body; false where the connection ended.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

/// A certificate for localhost that ended long ago, and its authority, as PEM.
pub fn expired() -> (TlsAcceptor, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let certificate = params.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate.der().to_vec())],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), authority.pem())
}

/// Begins a source at a free port of loopback; it ends with the runtime.
pub async fn source(does: Does, tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    if does == Does::ListensToNobody {
        return address;
    }
    tokio::spawn(async move {
        let turns = AtomicUsize::new(0);
        while let Ok((stream, _)) = listener.accept().await {
            let turn = turns.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(accept(does, stream, tls.clone(), turn));
        }
    });
    address
}

async fn accept(does: Does, stream: TcpStream, tls: Option<TlsAcceptor>, turn: usize) {
    if does == Does::Resets {
        // Closing at once, with what was not sent thrown away, is a reset.
        let _ = stream.set_zero_linger();
        return;
    }
    match tls {
        None => does.serve(stream, turn).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                does.serve(stream, turn).await;
            }
        }
    }
}
