//! Bench of the exchange: a full, durable exchange with a receipt against a bare server that does nothing.
//!
//! Both are processes of their own with the same TLS, the same messages and the same load from this process. Floor and
//! broker take turns; each figure is the median of the rounds. Run: `cargo bench -p unefois-tests --bench exchange`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench fails by panicking"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use unefois::client::Client;
use unefois_proto::v1::exchange_service_server::{ExchangeService, ExchangeServiceServer};
use unefois_proto::v1::{AttributeStatus, ExchangeRequest, ExchangeResponse};
use unefois_tests::ask::{CHILDREN, exchange};
use unefois_tests::bench::{build_broker, connect, prepare, question, status};
use unefois_tests::load::{Load, closed_loop, median};
use unefois_tests::process::{Process, free_address};

const CONNECTIONS: usize = 8;
const IN_FLIGHT: [usize; 4] = [1, 8, 64, 256];

/// A server that reads the question and sends an answer that it was given.
struct Floor(ExchangeResponse);

#[tonic::async_trait]
impl ExchangeService for Floor {
    async fn exchange(&self, _: Request<ExchangeRequest>) -> Result<Response<ExchangeResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}

/// The loads to run: all of them, or the one that `UNEFOIS_BENCH_ONLY` names, for a look with a profiler.
fn loads() -> Vec<usize> {
    let only = std::env::var("UNEFOIS_BENCH_ONLY").ok().map(|only| only.parse().expect("a number in flight"));
    IN_FLIGHT.into_iter().filter(|n| only.is_none_or(|only: usize| only == *n)).collect()
}

fn pause() -> (u64, Duration, usize) {
    // Quick where a test only wants to know that the bench runs.
    if std::env::var_os("UNEFOIS_BENCH_QUICK").is_some() {
        (1, Duration::from_millis(300), 1)
    } else {
        (3, Duration::from_secs(3), 3)
    }
}

async fn serve_floor(folder: &Path, listen: SocketAddr) {
    use prost_types::value::Kind;
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let receipt = String::from_utf8(read("sample-receipt.json")).unwrap();
    let mut attribute = unefois_proto::v1::Attribute {
        name: CHILDREN.to_owned(),
        status: AttributeStatus::Found as i32,
        value: Some(prost_types::Value { kind: Some(Kind::NumberValue(2.0)) }),
        provenance: None,
    };
    attribute.provenance = Some(unefois_proto::v1::Provenance {
        source: "99999999900017".to_owned(),
        dataset_version: "1".to_owned(),
        obtained_at: Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 0 }),
        reference: String::new(),
    });
    let answer = ExchangeResponse {
        exchange_id: "0".repeat(32),
        attributes: vec![attribute],
        receipt,
        withheld_reasons: Vec::new(),
    };
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read("pki/server.pem"), read("pki/server.key")))
        .client_ca_root(Certificate::from_pem(read("pki/ca.pem")));
    Server::builder()
        .tls_config(tls)
        .unwrap()
        .max_concurrent_streams(1024)
        .add_service(ExchangeServiceServer::new(Floor(answer)))
        .serve(listen)
        .await
        .unwrap();
}

struct FloorProcess(Child);

impl FloorProcess {
    fn start(folder: &Path, listen: SocketAddr) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["floor", folder.to_str().unwrap(), &listen.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(listen).is_err() {
            assert!(Instant::now() < deadline, "the floor does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self(child)
    }
}

impl Drop for FloorProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn call(client: &Client, n: usize) {
    let answer = exchange(client, question(n)).await.expect("an answer");
    assert_eq!(answer.attributes[0].status(), AttributeStatus::Found);
}

/// As many calls as `in_flight` callers make one after the other, each on its connection.
async fn callers(clients: &[Client], in_flight: usize, duration: Duration) -> Load {
    let clients = clients.to_vec();
    closed_loop(in_flight, duration, move |caller, n| {
        let client = clients[caller % clients.len()].clone();
        async move { call(&client, usize::try_from(n).unwrap()).await }
    })
    .await
}

/// `rate` calls a second, whether or not the ones before are answered; latency counts from when a call was due.
async fn open_loop(clients: &[Client], rate: u64, duration: Duration) -> Load {
    let begun = Instant::now();
    let count = rate * duration.as_secs().max(1);
    let mut calls = Vec::new();
    for n in 0..count {
        let due = begun + Duration::from_nanos(n * 1_000_000_000 / rate);
        tokio::time::sleep_until(due.into()).await;
        let client = clients[usize::try_from(n).unwrap() % clients.len()].clone();
        calls.push(tokio::spawn(async move {
            call(&client, usize::try_from(n).unwrap()).await;
            due.elapsed()
        }));
    }
    let mut latencies = Histogram::<u64>::new(3).unwrap();
    for call in calls {
        latencies.record(u64::try_from(call.await.unwrap().as_micros()).unwrap()).unwrap();
    }
    Load { rate: count as f64 / begun.elapsed().as_secs_f64(), latencies }
}

async fn connections(folder: &Path, listen: SocketAddr) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(connect(folder, "ville", listen).await);
    }
    clients
}

async fn run() {
    let (rounds, duration, _) = pause();
    build_broker();
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("broker");
    let (listen, floor_listen) = (free_address(), free_address());
    prepare(&folder, listen);
    let broker = Process::serve_with(&folder.join("unefois.toml"), "warn,unefois::serve=info");
    let clients = connections(&folder, listen).await;
    let sample = exchange(&clients[0], question(0)).await.unwrap();
    std::fs::write(folder.join("sample-receipt.json"), &sample.receipt).unwrap();
    let floor = FloorProcess::start(&folder, floor_listen);
    let floor_clients = connections(&folder, floor_listen).await;

    let mut rates: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); IN_FLIGHT.len()];
    let mut ratios = Vec::new();
    println!(
        "{:>9} {:>10} {:>9} {:>9} {:>9}   (rate in /s, latencies in ms)",
        "in flight", "who", "rate", "p50", "p99"
    );
    for _ in 0..rounds {
        for (at, in_flight) in loads().into_iter().enumerate() {
            let below = callers(&floor_clients, in_flight, duration).await;
            let ours = callers(&clients, in_flight, duration).await;
            for (who, load) in [("floor", &below), ("broker", &ours)] {
                let (p50, p99) = (load.ms(0.5), load.ms(0.99));
                println!("{in_flight:>9} {who:>10} {:>9.0} {p50:>9.2} {p99:>9.2}", load.rate);
            }
            rates[at].0.push(below.rate);
            rates[at].1.push(ours.rate);
            if in_flight == 64 {
                ratios.push(ours.rate / below.rate);
            }
        }
    }
    let mut tails = Vec::new();
    for _ in 0..rounds {
        let load = open_loop(&clients, 1_000, duration * 2).await;
        println!("1000 a second: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms", load.rate, load.ms(0.5), load.ms(0.99));
        tails.push(load.ms(0.99));
    }
    let id = broker.id();
    let (resident, peak) = (status(id, "VmRSS:"), status(id, "VmHWM:"));
    drop(floor);

    for (at, in_flight) in loads().into_iter().enumerate() {
        println!("figure exchange_floor_{in_flight} {:.0} /s", median(&mut rates[at].0));
        println!("figure exchange_rate_{in_flight} {:.0} /s", median(&mut rates[at].1));
    }
    if !ratios.is_empty() {
        println!("figure exchange_ratio_64 {:.3} ratio", median(&mut ratios));
    }
    println!("figure exchange_p99_at_1000 {:.2} ms", median(&mut tails));
    println!("figure exchange_broker_rss {:.1} MB", resident as f64 / 1024.0);
    println!("figure exchange_broker_rss_peak {:.1} MB", peak as f64 / 1024.0);
    assert_eq!(broker.stop().await, Some(0), "the broker did not end well");
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match arguments.iter().position(|argument| argument == "floor") {
        Some(at) => runtime.block_on(serve_floor(Path::new(&arguments[at + 1]), arguments[at + 2].parse().unwrap())),
        None => runtime.block_on(run()),
    }
}
