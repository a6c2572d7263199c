//! Bench of the connectors: what guard and mapping add to a bare call, and what dead and misbehaving sources take from
//! the others.
//!
//! The source is a server in this process that answers like API Particulier; a dead one takes connections and answers
//! nothing. What the others do is in `tests/src/chaos.rs`. Run: `cargo bench -p unefois-tests --bench connectors`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a bench fails by panicking"
)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use unefois_connectors::{ConnectorConfig, Fetch, Guarded, build};
use unefois_consent::decide::UsedToday;
use unefois_consent::registry::RegistryFile;
use unefois_consent::{
    Channel, Digest, ExchangeId, Facts, Ground, HabilitationId, KeyFingerprint, Language, NoticeShown, OutcomeCode,
    Permit, PersonFacts, PivotIdentity, Question, Registry, SubjectRef, decide,
};
use unefois_proto::common::identity;
use unefois_tests::ask::person;
use unefois_tests::chaos::{self, Does};
use unefois_tests::load::{closed_loop, median, paced_loop};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIRET: &str = "13002526500013";
const DATASET: &str = "dss.quotient_familial";
const BODY: &str = r#"{"data":{"quotient_familial":{"valeur":1234,"fournisseur":"CNAF","annee":2026,"mois":5,"annee_calcul":2026,"mois_calcul":5}},"links":{},"meta":{}}"#;
const SOURCES: usize = 64;
const DEAD: usize = 8;
const CALLERS_EACH: usize = 2;
const ROUNDS: usize = 5;
const CALLS: usize = 1_500;
/// A pause between calls.
const PACE: Duration = Duration::from_millis(1);
/// Sources that are well, beside those that misbehave.
const SOUND: usize = 20;
/// A pause between calls of one caller, there.
const CHAOS_PACE: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct NoneUsed;

impl UsedToday for NoneUsed {
    fn used(&self, _: &HabilitationId, _: u64) -> u64 {
        0
    }
}

/// A question that may be asked.
struct Asked {
    permit: Permit,
    identity: PivotIdentity,
    ground: Ground,
}

impl Asked {
    /// About a person of its own for each `number`: the same question twice at once would be one at the source.
    fn new(number: usize) -> Self {
        let letters: String = number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'A')).collect();
        let person = person(&format!("MARCHAND {letters}"));
        let now = "2026-11-24T00:00:00Z".parse().unwrap();
        let siret = SIRET.parse().unwrap();
        let file: RegistryFile = serde_json::from_value(serde_json::json!({
            "participants": [{"siret": SIRET, "name": "Ville",
                "keys": [{"fingerprint": "07".repeat(32), "roles": ["exchange"]}]}],
            "procedures": [{"id": "cantine", "title": "Cantine", "notices": [{"version": 1, "fr": "Texte", "en": "Text"}]}],
            "datasets": [{"id": DATASET, "title": "QF", "source": SIRET, "connector": "bench", "version": "3",
                "class": "ordinary", "attributes": [{"name": "valeur", "title": "Valeur"}]}],
            "habilitations": [{"id": "h", "participant": SIRET, "legal_basis": "CRPA L114-8", "procedures": ["cantine"],
                "attributes": [format!("{DATASET}.valeur")], "grounds": ["LAW_REQUEST"], "recipients": [SIRET],
                "retention_months": 12, "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2027-01-01T00:00:00Z",
                "dpo_contact": "dpo@ville.example", "status": "active"}],
        }))
        .unwrap();
        let registry = Registry::from_file(file).unwrap();
        let notice = NoticeShown { version: 1, shown_at: now, channel: Channel::Online, language: Language::Fr };
        let question = Question {
            consumer: siret,
            key: KeyFingerprint([7; 32]),
            agent: "bench".to_owned(),
            recipient: siret,
            procedure: "cantine".parse().unwrap(),
            habilitation: None,
            attributes: [format!("{DATASET}.valeur").parse().unwrap()].into(),
            filters: std::collections::BTreeMap::new(),
            ground: Ground::LawRequest { notice: notice.clone() },
            subject: SubjectRef([5; 16]),
            mandate: None,
            request_id: "r-1".parse().unwrap(),
            content: Digest([0; 32]),
        };
        let facts = Facts {
            rules: unefois_consent::Rules::NEWEST,
            registry: &registry,
            person: &PersonFacts::default(),
            used_today: &NoneUsed,
            earlier: None,
        };
        let permit = decide(&facts, &question, ExchangeId([0xe7; 16]), now).unwrap();
        Self { permit, identity: identity("subject", Some(&person)).unwrap(), ground: Ground::LawRequest { notice } }
    }

    async fn ask(&self, guarded: &Guarded) -> OutcomeCode {
        let fetch = Fetch {
            permit: &self.permit,
            dataset: &self.permit.datasets()[0],
            identity: &self.identity,
            access_token: None,
            ground: &self.ground,
            broker: "bench",
            via: &[],
            trial: None,
            deadline: Instant::now() + Duration::from_secs(5),
        };
        guarded.ask(fetch).await.outcomes[0].1.code()
    }
}

async fn healthy() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = || async { ([(axum::http::header::CONTENT_TYPE, "application/json")], BODY) };
    let app = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn dead() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    address
}

fn connector(folder: &Path, address: SocketAddr) -> Guarded {
    let config: ConnectorConfig = serde_json::from_value(serde_json::json!({
        "type": "api-particulier",
        "base_url": format!("http://{address}"),
        "token_file": "token",
        "rates": {"per_token_per_s": 100_000, "per_address_per_min": 10_000_000, "max_waiting": 10_000},
        "limits": {"timeout_ms": 1_000},
    }))
    .unwrap();
    build("bench".parse().unwrap(), &config, folder).unwrap()
}

/// Median times of a bare call and of one through guard and connector, in microseconds: calls take turns.
async fn added(folder: &Path, asked: &Asked) -> (f64, f64) {
    let address = healthy().await;
    let guarded = connector(folder, address);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{address}/v3/dss/quotient_familial/identite?recipient={SIRET}");
    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        tokio::time::sleep(PACE).await;
        let begun = Instant::now();
        let body = client.get(&url).send().await.unwrap().bytes().await.unwrap();
        bare.push(begun.elapsed().as_secs_f64() * 1e6);
        assert_eq!(body.len(), BODY.len());
        tokio::time::sleep(PACE).await;
        let begun = Instant::now();
        let code = asked.ask(&guarded).await;
        whole.push(begun.elapsed().as_secs_f64() * 1e6);
        assert_eq!(code, OutcomeCode::Found);
    }
    (median(&mut bare), median(&mut whole))
}

/// Answers a second of the healthy sources, and their p99 in milliseconds, with or without callers of the dead ones.
async fn throughput(folder: &Path, asked: &Arc<Vec<Asked>>, with_dead: bool) -> (f64, f64) {
    let mut sources = Vec::new();
    for place in 0..SOURCES {
        let address = if place < SOURCES - DEAD { healthy().await } else { dead().await };
        sources.push(Arc::new(connector(folder, address)));
    }
    let sources = Arc::new(sources);
    let mut others = tokio::task::JoinSet::new();
    if with_dead {
        for place in (SOURCES - DEAD)..SOURCES {
            for caller in 0..CALLERS_EACH {
                let (sources, asked) = (Arc::clone(&sources), Arc::clone(asked));
                others.spawn(async move {
                    loop {
                        assert_ne!(asked[caller].ask(&sources[place]).await, OutcomeCode::Found);
                        // As a portal does whose answer has come: it serves another person next.
                        tokio::time::sleep(PACE).await;
                    }
                });
            }
        }
    }
    let asked = Arc::clone(asked);
    let load = closed_loop((SOURCES - DEAD) * CALLERS_EACH, Duration::from_secs(4), move |caller, _| {
        let (sources, asked) = (Arc::clone(&sources), Arc::clone(&asked));
        async move {
            assert_eq!(asked[caller].ask(&sources[caller % (SOURCES - DEAD)]).await, OutcomeCode::Found);
        }
    });
    let load = load.await;
    (load.rate, load.ms(0.99))
}

/// The misbehaving sources in a process of their own and of the lowest priority, since they would be on other machines.
struct Misbehaving {
    process: Child,
    ports: Vec<(Does, u16)>,
}

/// Set in that process: the folder where it leaves the authority of the expired certificate.
const MISBEHAVE: &str = "UNEFOIS_BENCH_MISBEHAVE";

impl Misbehaving {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(std::env::current_exe().unwrap()).env(MISBEHAVE, folder);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ports = misbehaving().zip(lines).map(|(does, line)| (does, line.unwrap().parse().unwrap())).collect();
        Self { process, ports }
    }

    /// What that process does: says its ports, and serves until its input ends.
    async fn serve(folder: &Path) {
        let (tls, authority) = chaos::expired();
        std::fs::write(folder.join("expired.pem"), authority).unwrap();
        for does in misbehaving() {
            let tls = (does == Does::IsExpired).then(|| tls.clone());
            println!("{}", chaos::source(does, tls).await.port());
        }
        tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn misbehaving() -> impl Iterator<Item = Does> {
    chaos::ALL.into_iter().filter(|does| *does != Does::Well)
}

/// An `http` connector for the bench's dataset.
fn http(folder: &Path, does: Does, port: u16) -> Guarded {
    let is_expired = does == Does::IsExpired;
    let mut config = serde_json::json!({
        "type": "http",
        "base_url": format!("{}://localhost:{port}", if is_expired { "https" } else { "http" }),
        "limits": {"timeout_ms": 1_000, "max_answer_bytes": 65_536},
        "datasets": {DATASET: {"path": "/x", "query": {"nom": "{birth_name}"},
            "attributes": {"valeur": {"at": "$.v", "type": "integer"}}}},
    });
    if is_expired {
        config["ca_file"] = "expired.pem".into();
    }
    build("bench".parse().unwrap(), &serde_json::from_value(config).unwrap(), folder).unwrap()
}

/// The p99 in milliseconds of sources that are well and asked at an even pace, with others beside them that are asked as often.
async fn tail(folder: &Path, asked: &Arc<Vec<Asked>>, beside: &[(Does, u16)]) -> f64 {
    let mut well = Vec::new();
    for _ in 0..SOUND {
        let port = chaos::source(Does::Well, None).await.port();
        well.push(Arc::new(http(folder, Does::Well, port)));
    }
    let mut others = tokio::task::JoinSet::new();
    for (place, (does, port)) in beside.iter().enumerate() {
        let source = Arc::new(http(folder, *does, *port));
        for caller in 0..CALLERS_EACH {
            let (source, asked) = (Arc::clone(&source), Arc::clone(asked));
            let begins = CHAOS_PACE * u32::try_from(place * CALLERS_EACH + caller).unwrap()
                / u32::try_from(beside.len() * CALLERS_EACH).unwrap();
            others.spawn(async move {
                tokio::time::sleep(begins).await;
                loop {
                    asked[caller].ask(&source).await;
                    tokio::time::sleep(CHAOS_PACE).await;
                }
            });
        }
    }
    let (well, asked) = (Arc::new(well), Arc::clone(asked));
    let load = paced_loop(SOUND * CALLERS_EACH, CHAOS_PACE, Duration::from_secs(4), move |caller, _| {
        let (well, asked) = (Arc::clone(&well), Arc::clone(&asked));
        async move { assert_eq!(asked[caller].ask(&well[caller % SOUND]).await, OutcomeCode::Found) }
    });
    load.await.ms(0.99)
}

/// Seconds to read a file of a million persons, and to find everybody by their identity.
fn load_a_million(folder: &Path) -> f64 {
    let mut text = "birth_name;given_names;birth_date;sex;birth_country;birth_commune;quotient;regime\n".to_owned();
    for number in 0..1_000_000_u32 {
        let name: String = number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'A')).collect();
        text.push_str(&format!("Lefèvre {name};Anne Marie;1982-12-27;F;99100;35238;{number};sans porc\n"));
    }
    std::fs::write(folder.join("million.csv"), text).unwrap();
    let config: ConnectorConfig = serde_json::from_value(serde_json::json!({
        "type": "file", "path": "million.csv", "format": "csv", "dataset": "mairie.cantine", "types": {"quotient": "integer"},
    }))
    .unwrap();
    let begun = Instant::now();
    let loaded = build("million".parse().unwrap(), &config, folder).unwrap();
    let took = begun.elapsed().as_secs_f64();
    drop(loaded);
    took
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some(folder) = std::env::var_os(MISBEHAVE) {
        return Misbehaving::serve(Path::new(&folder)).await;
    }
    let root = tempfile::tempdir().unwrap();
    let token = root.path().join("token");
    std::fs::write(&token, "bench").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let asked = Arc::new((0..SOURCES * CALLERS_EACH).map(Asked::new).collect::<Vec<_>>());
    let mut loads: Vec<f64> = (0..3).map(|_| load_a_million(root.path())).collect();
    let mut differences = Vec::new();
    for _ in 0..ROUNDS {
        let (bare, whole) = added(root.path(), &asked[0]).await;
        println!("bare {bare:.0} µs, guarded {whole:.0} µs");
        differences.push(whole - bare);
    }
    let (mut ratios, mut tails) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (without, p99_without) = throughput(root.path(), &asked, false).await;
        let (with, p99_with) = throughput(root.path(), &asked, true).await;
        println!(
            "healthy {without:.0} /s, p99 {p99_without:.1} ms; beside dead ones {with:.0} /s, p99 {p99_with:.1} ms"
        );
        ratios.push(with / without);
        tails.push(p99_with / p99_without);
    }
    let mut chaos_tails = Vec::new();
    let misbehaving = Misbehaving::start(root.path());
    for _ in 0..ROUNDS {
        let without = tail(root.path(), &asked, &[]).await;
        let with = tail(root.path(), &asked, &misbehaving.ports).await;
        println!("p99 of sound sources {without:.2} ms, beside misbehaving ones {with:.2} ms");
        chaos_tails.push(with / without);
    }
    println!("figure connector_file_million {:.2} s", median(&mut loads));
    println!("figure connector_added_p50 {:.0} us", median(&mut differences));
    println!("figure connector_healthy_ratio {:.3} ratio", median(&mut ratios));
    println!("figure connector_healthy_p99_ratio {:.3} ratio", median(&mut tails));
    println!("figure connector_chaos_p99_ratio {:.3} ratio", median(&mut chaos_tails));
}
