//! Bench of the consent ledger: what a decision costs as the ledger grows.
//!
//! Grows one ledger through 10⁴, 10⁵, 10⁶ and 10⁷ consents (three tenths as many persons; `UNEFOIS_CONSENTS` names other
//! sizes) and at each size times decisions with their look-ups on the sequencer's thread, exchanges through the engine, and
//! memory; at the end a replay of the whole log. Run: `cargo bench -p unefois-tests --bench consent_ledger`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a bench fails by panicking"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use unefois::init::{Layout, init};
use unefois_consent::ConsentId;
use unefois_engine::replay::replay;
use unefois_engine::seal::Opener;
use unefois_engine::{Engine, ExchangeCall, VerifiedParticipant};
use unefois_proto::v1;
use unefois_store::Options;
use unefois_store::embedded::{FileKeys, JournalReader, open_fold};
use unefois_tests::ask::{grant, person};
use unefois_tests::caller::{department, exchange_call};
use unefois_tests::load::{closed_loop, median};
use unefois_tests::writers::{close, open, record_call};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WRITERS: usize = 1_024;
const DECISIONS: usize = 20_000;
const IN_FLIGHT: usize = 64;

fn sizes() -> Vec<usize> {
    let given = std::env::var("UNEFOIS_CONSENTS").unwrap_or_else(|_| "10000,100000,1000000,10000000".to_owned());
    given.split(',').map(|size| size.trim().parse().expect("numbers of consents")).collect()
}

/// Person `n`, of whom there are three for ten consents.
fn who(n: usize) -> v1::Identity {
    let letters: String =
        (0..6).map(|place| char::from(b'A' + u8::try_from(n / 26_usize.pow(place) % 26).unwrap())).collect();
    person(&format!("PERSONNE {letters}"))
}

fn persons(consents: usize) -> usize {
    (consents * 3 / 10).max(1)
}

/// Numbers that look random and are the same in each run.
fn scattered(n: usize) -> usize {
    let mixed = (n as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from((mixed ^ (mixed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 20).unwrap()
}

fn status_mb(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

/// Records consents `from..to`, and keeps the id of some of them with its person.
async fn grow(
    engine: &Arc<Engine>,
    caller: &VerifiedParticipant,
    (from, to): (usize, usize),
    kept: &mut Vec<(usize, ConsentId)>,
) {
    let keep_every = (to / 50_000).max(1);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (engine, caller) = (Arc::clone(engine), caller.clone());
        writers.spawn(async move {
            let mut some = Vec::new();
            for n in (from + writer..to).step_by(WRITERS) {
                let holder = n % persons(to);
                let wanted = v1::RecordConsentRequest { subject: Some(who(holder)), ..grant("X") };
                let deadline = Instant::now() + Duration::from_secs(600);
                let found = engine.record_consent(record_call(caller.clone(), &wanted), deadline).await.unwrap();
                if scattered(n).is_multiple_of(keep_every) {
                    some.push((holder, found.consent.id));
                }
            }
            some
        });
    }
    while let Some(some) = writers.join_next().await {
        kept.extend(some.unwrap());
    }
}

fn question(caller: &VerifiedParticipant, (holder, id): (usize, ConsentId), named: bool) -> ExchangeCall {
    let consent = named.then(|| id.to_string());
    let asked = unefois_tests::ask::allowance("X", consent.as_deref());
    let asked = v1::ExchangeRequest { subject: Some(who(holder)), ..asked };
    exchange_call(caller.clone(), asked, Instant::now() + Duration::from_secs(60))
}

/// Decisions on one core.
struct Decisions {
    /// A second, of consents that were not looked at lately.
    cold: f64,
    /// A second, of the same ones again: the median of three rounds.
    warm: f64,
    /// Of the warm ones, in microseconds.
    p99: f64,
}

async fn decisions(
    engine: &Engine,
    caller: &VerifiedParticipant,
    kept: &[(usize, ConsentId)],
    named: bool,
) -> Decisions {
    let (mut cold, mut rates, mut slowest) = (0.0, Vec::new(), Vec::new());
    for round in 0..4 {
        // The same questions each time: the state is warm after the first round.
        let pick = |n: usize| kept[scattered(n) % kept.len()];
        let calls = (0..DECISIONS).map(|n| question(caller, pick(n), named)).collect();
        let mut times = engine.time_decisions(calls).await.unwrap();
        let rate = times.len() as f64 / times.iter().sum::<Duration>().as_secs_f64();
        if round == 0 {
            cold = rate;
        } else {
            rates.push(rate);
            times.sort();
            slowest.push(times[times.len() * 99 / 100].as_secs_f64() * 1e6);
        }
    }
    Decisions { cold, warm: median(&mut rates), p99: median(&mut slowest) }
}

/// Whole exchanges a second through the engine, by consents that are named: the median of three rounds after a short one, each
/// of consents of its own.
async fn exchanges(engine: &Arc<Engine>, caller: &VerifiedParticipant, kept: &[(usize, ConsentId)]) -> f64 {
    let kept = Arc::new(kept.to_vec());
    let mut rates = Vec::new();
    for (round, seconds) in [1, 3, 3, 3].into_iter().enumerate() {
        let (engine, caller, kept) = (Arc::clone(engine), caller.clone(), Arc::clone(&kept));
        let load = closed_loop(IN_FLIGHT, Duration::from_secs(seconds), move |_, n| {
            let (engine, kept) = (Arc::clone(&engine), Arc::clone(&kept));
            let place = scattered(usize::try_from(n).unwrap() + (round << 32)) % kept.len();
            let call = question(&caller, kept[place], true);
            async move { drop(engine.exchange(call).await.unwrap()) }
        });
        let rate = load.await.rate;
        if round > 0 {
            rates.push(rate);
        }
    }
    median(&mut rates)
}

/// Waits until the process does next to nothing: what was recorded is folded, and its tables are merged. Ten minutes at most.
async fn settled() {
    let busy = || {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        // User and system time, in hundredths of a second.
        let fields = stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2);
        fields.map(|field| field.parse::<u64>().unwrap()).sum::<u64>()
    };
    let begun = Instant::now();
    let mut before = busy();
    let mut quiet = 0;
    while quiet < 2 && begun.elapsed() < Duration::from_secs(600) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = busy();
        quiet = if now - before < 10 { quiet + 1 } else { 0 };
        before = now;
    }
}

fn replay_all(data: &Path, folder: &unefois::init::InitFolder) -> (u64, f64) {
    let loaded = unefois::config::Loaded::open(&folder.config()).unwrap();
    let key = loaded.signer.verifier_key();
    let opener = Opener::new(Arc::new(FileKeys::open(&data.join("keys")).unwrap()));
    // As `unefois audit replay` does it.
    let scratch = open_fold(&data.join("scratch"), &Options::scratch()).unwrap();
    let begun = Instant::now();
    let reader = JournalReader::open(data).unwrap();
    let report = replay(&reader, key, &opener, scratch, &mut |_, _| {}).unwrap();
    (report.entries, begun.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() {
    let root = tempfile::tempdir().unwrap();
    let layout =
        Layout { api_particulier: "http://127.0.0.1:9".to_owned(), token: "bench".to_owned(), ..Layout::development() };
    let folder = init(&root.path().join("broker"), &layout).unwrap();
    // A quota would end the load.
    let registry = std::fs::read_to_string(folder.path.join("registry.toml")).unwrap();
    std::fs::write(folder.path.join("registry.toml"), registry.replace("quota_per_day = 10000\n", "")).unwrap();
    // So would the budget of a source that is not there.
    let config = std::fs::read_to_string(folder.config()).unwrap();
    let token = "token_file = \"secrets/api-particulier.token\"\n";
    let rates = "rates = { per_token_per_s = 100000, per_address_per_min = 10000000, max_waiting = 10000 }\n";
    assert!(config.contains(token), "the configuration has another form");
    std::fs::write(folder.config(), config.replace(token, &format!("{token}{rates}"))).unwrap();
    let data = root.path().join("data");
    let options = Options { fold_cache_bytes: 512 << 20, fold_memory_bytes: 64 << 20, ..Options::default() };
    let (store, engine) = open(&folder.path, &data, &options).await.unwrap();
    let caller = department(&engine);
    let (mut done, mut kept, mut rates) = (0, Vec::new(), Vec::new());
    println!(
        "| consents | recorded/s | decide/s by id | p99 µs | cold/s | decide/s by person | p99 µs | exchanges/s | RSS MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for size in sizes() {
        let begun = Instant::now();
        grow(&engine, &caller, (done, size), &mut kept).await;
        let recorded = (size - done) as f64 / begun.elapsed().as_secs_f64();
        done = size;
        settled().await;
        let by_id = decisions(&engine, &caller, &kept, true).await;
        let by_person = decisions(&engine, &caller, &kept, false).await;
        let rate = exchanges(&engine, &caller, &kept).await;
        let rss = status_mb("VmRSS:");
        println!(
            "| {size} | {recorded:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {rate:.0} | {rss} |",
            by_id.warm, by_id.p99, by_id.cold, by_person.warm, by_person.p99
        );
        rates.push((size, by_id.warm, by_id.p99, rate, rss));
    }
    close(store, engine).await;
    let (first, last) = (rates[0], rates[rates.len() - 1]);
    let (entries, seconds) = replay_all(&data, &folder);
    println!("replayed {entries} entries in {seconds:.1} s; peak memory {} MB", status_mb("VmHWM:"));
    println!("largest ledger: {} consents", last.0);
    println!("figure consent_decide_rate {:.0} /s", last.1);
    println!("figure consent_decide_p99 {:.0} us", last.2);
    println!("figure consent_scale_ratio {:.3} ratio", last.3 / first.3);
    if last.0 >= 10_000_000 {
        println!("figure consent_rss_10m {} MB", last.4);
        println!("figure consent_replay_10m {:.1} s", seconds * 10_000_000.0 / entries as f64);
    }
}
