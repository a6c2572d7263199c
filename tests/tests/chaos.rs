//! Sources that do what sources should not, all at once, beside sources that are well: no hang, no crash, no wrong outcome.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use unefois::client::Client;
use unefois_proto::v1::{self, AttributeStatus, ExchangeRequest};
use unefois_proto::value::to_json;
use unefois_tests::ask::{CHILDREN, QUOTIENT, canteen, within_time};
use unefois_tests::process::{self, Process, run};
use unefois_tests::standin::StandIn;

use AttributeStatus::{Found, NotAuthorised, RateLimited, SourceDown};

const LOAD: Duration = Duration::from_secs(6);
/// Of each question; the answer may come a little later, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);
const CALLERS_EACH: usize = 3;
const RIGHT: &str = r#"{"v":7}"#;

/// What a source does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Does {
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

const ALL: [Does; 20] = [
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
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The outcomes that are right.
    fn allowed(self) -> &'static [AttributeStatus] {
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
fn expired() -> (TlsAcceptor, String) {
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

async fn source(does: Does, tls: Option<TlsAcceptor>) -> SocketAddr {
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

/// A folder whose broker has all these sources, and API Particulier's stand-in, which is slow, fails and limits the rate.
struct Bed {
    _root: tempfile::TempDir,
    folder: unefois::init::InitFolder,
    _standin: Option<StandIn>,
}

impl Bed {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("broker");
        let (folder, _) = process::folder(&path, process::free_address());
        let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
        let (mut config, mut registry) = (read("unefois.toml"), read("registry.toml"));
        let (tls, authority) = expired();
        std::fs::write(path.join("expired-ca.pem"), authority).unwrap();
        for does in ALL {
            let is_expired = does == Does::IsExpired;
            let port = source(does, is_expired.then(|| tls.clone())).await.port();
            let (name, scheme) = (does.name(), if is_expired { "https" } else { "http" });
            let ca = if is_expired { "ca_file = \"expired-ca.pem\"" } else { "" };
            config.push_str(&format!(
                "\n[connectors.{name}]\ntype = \"http\"\nbase_url = \"{scheme}://localhost:{port}\"\n{ca}\n\
                 limits = {{ timeout_ms = 1000, max_answer_bytes = 65536 }}\n\
                 [connectors.{name}.datasets.\"chaos.{name}\"]\npath = \"/x\"\n\
                 query = {{ nom = \"{{birth_name}}\" }}\nattributes = {{ v = {{ at = \"$.v\", type = \"integer\" }} }}\n"
            ));
            registry = registry.replacen(&format!("\"{CHILDREN}\""), &format!("\"chaos.{name}.v\", \"{CHILDREN}\""), 1);
            registry.push_str(&format!(
                "\n[[datasets]]\nid = \"chaos.{name}\"\ntitle = \"{name}\"\nsource = \"{}\"\nconnector = \"{name}\"\n\
                 version = \"1\"\nclass = \"ordinary\"\nattributes = [{{ name = \"v\", title = \"V\" }}]\n",
                unefois::init::TOWN_HALL
            ));
        }
        let standin = StandIn::tool()
            .exists()
            .then(|| StandIn::start("chaos", &["--delay-ms", "50", "--fail-rate", "0.3", "--rate", "15"]));
        match &standin {
            None => println!("chaos: API Particulier is left out: there is no stand-in of it beside the checkout"),
            Some(standin) => {
                config = config.replace("https://staging.particulier.api.gouv.fr", &standin.url);
                std::fs::write(path.join("secrets/api-particulier.token"), "chaos").unwrap();
            }
        }
        std::fs::write(path.join("unefois.toml"), config).unwrap();
        std::fs::write(path.join("registry.toml"), registry).unwrap();
        Self { _root: root, folder, _standin: standin }
    }
}

/// What came back for one attribute: how often each status, and the longest that an answer took.
#[derive(Debug, Default)]
struct Told {
    statuses: BTreeMap<i32, usize>,
    longest: Duration,
}

/// Asks for one attribute again and again; what is found must be `value`.
async fn ask_for(client: Client, attribute: String, value: Option<serde_json::Value>, caller: usize) -> (String, Told) {
    let mut told = Told::default();
    let begun = Instant::now();
    for number in 0.. {
        if begun.elapsed() >= LOAD {
            break;
        }
        // Other persons at the sources of the test, which are asked by name; the one whom file and stand-in know elsewhere.
        let letters: String =
            format!("{caller}{number}").bytes().map(|digit| char::from(digit - b'0' + b'A')).collect();
        let name = if attribute.starts_with("chaos.") { format!("MARCHAND {letters}") } else { "MARCHAND".to_owned() };
        let question = ExchangeRequest { attributes: vec![attribute.clone()], ..canteen(&name) };
        let asked = Instant::now();
        let call = client.exchange();
        let answer = { call }.exchange(within_time(question, DEADLINE)).await;
        told.longest = told.longest.max(asked.elapsed());
        let answer = answer.unwrap_or_else(|status| panic!("{attribute}: {status}")).into_inner();
        let said: &v1::Attribute = &answer.attributes[0];
        *told.statuses.entry(said.status).or_default() += 1;
        if said.status() == Found && value.is_some() {
            assert_eq!(said.value.as_ref().map(to_json), value, "{attribute}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (attribute, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_in_chaos_hurt_nobody_but_those_who_ask_them() {
    let bed = Bed::new().await;
    let broker = Process::serve_with(&bed.folder.config(), "off,unefois::serve=info");
    let client = process::client(&bed.folder, "ville").await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS_EACH {
        for does in ALL {
            let attribute = format!("chaos.{}.v", does.name());
            callers.spawn(ask_for(client.clone(), attribute, Some(7.into()), caller));
        }
        callers.spawn(ask_for(client.clone(), CHILDREN.to_owned(), Some(2.into()), caller));
        callers.spawn(ask_for(client.clone(), QUOTIENT.to_owned(), None, caller));
    }
    let mut all: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    while let Some(told) = callers.join_next().await {
        let (attribute, told) = told.unwrap();
        all.entry(attribute).or_default().push(told);
    }
    for (attribute, told) in &all {
        let seen: BTreeSet<_> = told.iter().flat_map(|told| told.statuses.keys().copied()).collect();
        let does = ALL.into_iter().find(|does| *attribute == format!("chaos.{}.v", does.name()));
        let no_file = AttributeStatus::NoFile;
        let allowed = match does {
            Some(does) => does.allowed(),
            None if attribute == CHILDREN => &[Found],
            // The stand-in knows no such person; it fails, and wants pauses.
            None => &[no_file, AttributeStatus::NotIdentified, RateLimited, SourceDown],
        };
        let wrong: Vec<_> = seen.iter().filter(|status| !allowed.iter().any(|a| *a as i32 == **status)).collect();
        assert!(wrong.is_empty(), "{attribute}: {told:?}");
        assert!(told.iter().all(|told| told.longest < PATIENCE), "{attribute}: {told:?}");
    }
    let memory = std::fs::read_to_string(format!("/proc/{}/status", broker.id())).unwrap();
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kb: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("peak memory {} MB", peak_kb / 1024);
    assert!(peak_kb < 512 * 1024, "answers that are too large are not held: {peak}");
    drop(client);
    assert_eq!(broker.stop().await, Some(0));
    for check in ["verify", "replay"] {
        let output = run(&["audit", check, "--config", bed.folder.config().to_str().unwrap()]);
        assert!(output.status.success(), "{check}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
