//! Soak: a broker answers 220 mixed calls a second for half an hour, and is as quick and as small at the end as it was at first.
//!
//! Exchanges, new consents and exchanges by them, receipts of any entry, pages of the log, and persons who read who asked about
//! them. Each call is due at its time, whether or not the ones before are answered; latency counts from when it was due. Run:
//! `cargo bench -p unefois-tests --bench soak`. `UNEFOIS_SOAK_MINUTES` is how long, 30 where not set.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use unefois::client::Client;
use unefois_engine::{Clock, SystemClock};
use unefois_proto::common::identity;
use unefois_proto::v1;
use unefois_tests::ask::{allowance, exchange, grant, person, within};
use unefois_tests::bench::{PERSONS, build_broker, connect, name, prepare, question, status};
use unefois_tests::load::median;
use unefois_tests::process::{Process, free_address};
use unefois_tests::world;

const RATE: u64 = 220;
const MINUTE: Duration = Duration::from_secs(60);
/// Looks at memory and threads within a minute.
const LOOKS: u32 = 10;
const KINDS: [Kind; 7] =
    [Kind::Exchange, Kind::Consent, Kind::ByConsent, Kind::Receipt, Kind::Entries, Kind::MyExchanges, Kind::MyConsents];
/// What eleven calls after each other are.
const MIX: [Kind; 11] = [
    Kind::Exchange,
    Kind::Consent,
    Kind::Exchange,
    Kind::Receipt,
    Kind::Exchange,
    Kind::ByConsent,
    Kind::Exchange,
    Kind::MyExchanges,
    Kind::Exchange,
    Kind::Entries,
    Kind::MyConsents,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exchange,
    Consent,
    ByConsent,
    Receipt,
    Entries,
    MyExchanges,
    MyConsents,
}

/// Who calls.
struct Callers {
    town_hall: Client,
    department: Client,
    dpo: Client,
    portal: Client,
    identity_key: String,
    /// The last consent that was given.
    consent: Mutex<Option<(usize, String)>>,
    entries: AtomicU64,
}

impl Callers {
    async fn connect(folder: &Path, listen: std::net::SocketAddr) -> Self {
        let client = |name| connect(folder, name, listen);
        Self {
            town_hall: client("ville").await,
            department: client("departement").await,
            dpo: client("dpo").await,
            portal: client("portail").await,
            identity_key: std::fs::read_to_string(folder.join("pki/identite.key")).unwrap(),
            consent: Mutex::default(),
            entries: AtomicU64::new(1),
        }
    }

    fn assertion(&self, n: usize) -> Option<v1::IdentityAssertion> {
        let who = identity("subject", Some(&person(&name(n)))).unwrap();
        let token = unefois::init::development_token(&self.identity_key, &who, "eidas2", SystemClock.now());
        Some(v1::IdentityAssertion { id_token: token.unwrap(), ..Default::default() })
    }

    /// Call `n`. It panics where it is not answered as it should be.
    async fn call(&self, kind: Kind, n: u64) {
        let who = usize::try_from(n).unwrap() % PERSONS;
        match kind {
            Kind::Exchange => {
                let answer = exchange(&self.town_hall, question(who)).await.unwrap();
                assert_eq!(answer.attributes[0].status(), v1::AttributeStatus::Found);
            }
            Kind::Consent => {
                let recorded = self.department.consent().record_consent(within(grant(&name(who)))).await.unwrap();
                *self.consent.lock().await = Some((who, recorded.into_inner().consent.unwrap().id));
            }
            Kind::ByConsent => {
                let Some((who, id)) = self.consent.lock().await.clone() else { return };
                exchange(&self.department, allowance(&name(who), Some(&id))).await.unwrap();
            }
            Kind::Receipt => {
                // Some entry of the whole log.
                let index = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % self.entries.load(Ordering::Relaxed);
                let wanted = v1::GetReceiptRequest { index, origin: String::new() };
                assert!(!self.dpo.audit().get_receipt(within(wanted)).await.unwrap().into_inner().receipt.is_empty());
            }
            Kind::Entries => {
                let size = self.dpo.audit().get_checkpoint(within(v1::GetCheckpointRequest::default())).await.unwrap();
                let size = size.into_inner().checkpoint.lines().nth(1).unwrap().parse::<u64>().unwrap();
                self.entries.store(size, Ordering::Relaxed);
                let wanted = v1::ListEntriesRequest { start: size.saturating_sub(20), page_size: 20 };
                assert!(!self.dpo.audit().list_entries(within(wanted)).await.unwrap().into_inner().entries.is_empty());
            }
            Kind::MyExchanges => {
                let wanted =
                    v1::ListMyExchangesRequest { assertion: self.assertion(who), page_size: 20, ..Default::default() };
                self.portal.citizen().list_my_exchanges(within(wanted)).await.unwrap();
            }
            Kind::MyConsents => {
                let wanted = v1::ListMyConsentsRequest { assertion: self.assertion(who), ..Default::default() };
                self.portal.citizen().list_my_consents(within(wanted)).await.unwrap();
            }
        }
    }
}

/// One minute.
struct Minute {
    all: Histogram<u64>,
    of_kind: Vec<Histogram<u64>>,
    /// In MB, the median of the looks.
    resident: f64,
    threads: f64,
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).unwrap()
}

impl Minute {
    async fn live(callers: &Arc<Callers>, broker: u32, first: u64) -> Self {
        let begun = Instant::now();
        let mut calls = JoinSet::new();
        let (mut resident, mut threads) = (Vec::new(), Vec::new());
        let count = RATE * MINUTE.as_secs();
        for n in 0..count {
            let due = begun + Duration::from_nanos(n * 1_000_000_000 / RATE);
            tokio::time::sleep_until(due.into()).await;
            let (callers, kind) = (Arc::clone(callers), MIX[usize::try_from(n).unwrap() % MIX.len()]);
            calls.spawn(async move {
                callers.call(kind, first + n).await;
                (kind, u64::try_from(due.elapsed().as_micros()).unwrap())
            });
            if n % (count / u64::from(LOOKS)) == 0 {
                resident.push(status(broker, "VmRSS:") as f64 / 1_024.0);
                threads.push(status(broker, "Threads:") as f64);
            }
        }
        let (mut all, mut of_kind) = (histogram(), vec![histogram(); KINDS.len()]);
        while let Some(done) = calls.join_next().await {
            let (kind, took) = done.unwrap();
            all.record(took).unwrap();
            of_kind[KINDS.iter().position(|other| *other == kind).unwrap()].record(took).unwrap();
        }
        Self { all, of_kind, resident: median(&mut resident), threads: median(&mut threads) }
    }

    fn print(&self, number: u64) {
        let ms = |histogram: &Histogram<u64>, at| histogram.value_at_quantile(at) as f64 / 1_000.0;
        let kinds = KINDS.iter().zip(&self.of_kind).map(|(kind, one)| format!("{kind:?} {:.2}", ms(one, 0.5)));
        println!(
            "minute {number:>3}: p50 {:.2} ms, p99 {:.2} ms, {:.0} MB, {:.0} threads; p50 of {}",
            ms(&self.all, 0.5),
            ms(&self.all, 0.99),
            self.resident,
            self.threads,
            kinds.collect::<Vec<_>>().join(", ")
        );
    }
}

fn main() {
    let minutes: u64 = std::env::var("UNEFOIS_SOAK_MINUTES").map_or(30, |n| n.parse().expect("UNEFOIS_SOAK_MINUTES"));
    assert!(minutes > 1, "one minute has no last one");
    build_broker();
    let root = tempfile::tempdir().unwrap();
    let folder: PathBuf = root.path().join("broker");
    let listen = free_address();
    let made = prepare(&folder, listen);
    // Half an hour asks more than the sample habilitations allow in a day.
    let registry = folder.join("registry.toml");
    let text = std::fs::read_to_string(&registry).unwrap();
    let unlimited = text.lines().filter(|line| !line.starts_with("quota_per_day")).collect::<Vec<_>>().join("\n");
    assert_ne!(unlimited.len() + 1, text.len(), "no habilitation has a quota");
    std::fs::write(&registry, unlimited).unwrap();
    let broker = Process::serve_with(&made.config(), "warn,unefois::serve=info");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let callers = Arc::new(Callers::connect(&folder, listen).await);
        // Connections, caches of certificates and the first segment are there then.
        for n in 0..10 * RATE {
            callers.call(MIX[usize::try_from(n).unwrap() % MIX.len()], n).await;
        }
        let (mut first, mut last) = (None, None);
        for minute in 0..minutes {
            let lived = Minute::live(&callers, broker.id(), minute * RATE * MINUTE.as_secs()).await;
            lived.print(minute + 1);
            if first.is_none() { first = Some(lived) } else { last = Some(lived) }
        }
        let (first, last) = (first.unwrap(), last.unwrap());
        let p50 = |minute: &Minute| minute.all.value_at_quantile(0.5) as f64;
        println!("figure soak_p50_ratio {:.2} ratio", p50(&last) / p50(&first));
        println!("figure soak_rss_ratio {:.2} ratio", last.resident / first.resident);
        println!("figure soak_threads_ratio {:.2} ratio", last.threads / first.threads);
        assert_eq!(broker.stop().await, Some(0), "the broker did not end well");
    });
    let key = unefois::config::Loaded::open(&made.config()).unwrap().signer.verifier_key().clone();
    let report = world::check(&folder.join("data"), &key);
    println!("{} entries verify and replay", report.entries);
}
