//! Bench of the audit log: entries of 600 bytes, durable and with their proof, against what the disk can do and against
//! Tessera's POSIX driver; how the fold keeps up; bytes on disk; opening after kill -9; verification.
//!
//! Ours, the raw disk and Tessera take turns on one disk; each figure is the median of the rounds. Run:
//! `cargo bench -p unefois-tests --bench audit_log`. `UNEFOIS_BENCH_ENTRIES` is the size of the largest log, 10 million
//! where not set.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench fails by panicking"
)]

mod bed;
mod load;
mod purge;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bed::{Bed, RECORD_BYTES, soon};
use load::raw;
use unefois_engine::replay::{BatchSource, Report, replay, verify};
use unefois_engine::seal::Opener;
use unefois_engine::store::{Fold, Journal, Row, RowChange, StoreError};
use unefois_store::Options;
use unefois_store::embedded::{FileKeys, JournalReader, open_fold};
use unefois_tests::load::{Load, closed_loop, median};

/// As the broker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SUBMITTERS: [usize; 5] = [1, 16, 256, 1_024, 4_096];
/// Where raw disk and Tessera are measured, too.
const COMPARED: usize = 256;
/// Submitters that fill a log.
const FILLERS: usize = 1_024;

/// Quick where a test only wants to know that the bench runs.
fn quick() -> bool {
    std::env::var_os("UNEFOIS_BENCH_QUICK").is_some()
}

fn largest() -> u64 {
    let set =
        std::env::var("UNEFOIS_BENCH_ENTRIES").ok().map(|n| n.parse().expect("UNEFOIS_BENCH_ENTRIES is a number"));
    set.unwrap_or(if quick() { 20_000 } else { 10_000_000 })
}

fn print_load(who: &str, submitters: usize, load: &Load) {
    let (p50, p99) = (load.ms(0.5), load.ms(0.99));
    println!("{submitters:>10} {who:>10} {:>10.0} {p50:>9.2} {p99:>9.2}", load.rate);
}

async fn append(bed: &Arc<Bed>, submitters: usize, duration: Duration) -> Load {
    let template = Arc::new(bed.template().await);
    let engine = Arc::clone(&bed.engine);
    closed_loop(submitters, duration, move |_, _| {
        let (engine, event) = (Arc::clone(&engine), template.event());
        async move {
            engine.append(event, soon()).await.unwrap();
        }
    })
    .await
}

/// Tessera's rate, and its medians to an index and to a checkpoint in ms; `None` where Go is not there.
struct Tessera(PathBuf);

impl Tessera {
    fn build(into: &Path) -> Option<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("outside");
        let program = into.join("tesserabench");
        let built =
            Command::new("go").args(["build", "-o"]).arg(&program).arg("./tesserabench").current_dir(source).status();
        match built {
            Ok(status) if status.success() => Some(Self(program)),
            Ok(_) | Err(_) => {
                println!("Tessera is not measured: Go 1.24 or later is needed to build it");
                None
            }
        }
    }

    fn run(&self, folder: &Path, submitters: usize, duration: Duration) -> [f64; 3] {
        let output = Command::new(&self.0)
            .arg(folder)
            .args([submitters.to_string(), RECORD_BYTES.to_string(), duration.as_secs_f64().to_string()])
            .stderr(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "tesserabench failed");
        std::fs::remove_dir_all(folder).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let values: Vec<f64> = text.split_whitespace().map(|value| value.parse().unwrap()).collect();
        values.try_into().unwrap()
    }
}

/// Rates and latencies, against the raw disk and Tessera.
async fn rates(root: &Path, rounds: usize, duration: Duration) {
    let folder = root.join("rates");
    bed::make(&folder);
    let bed = Arc::new(Bed::open(&folder).await);
    let tessera = Tessera::build(root);
    let mut rate: Vec<Vec<f64>> = vec![Vec::new(); SUBMITTERS.len()];
    let (mut p50, mut p99, mut raw_ratio) = (Vec::new(), Vec::new(), Vec::new());
    let (mut tessera_ratio, mut tessera_proof) = (Vec::new(), Vec::new());
    println!(
        "{:>10} {:>10} {:>10} {:>9} {:>9}   (rate in /s, latencies in ms)",
        "submitters", "who", "rate", "p50", "p99"
    );
    for round in 0..rounds {
        for (at, submitters) in SUBMITTERS.into_iter().enumerate() {
            let ours = append(&bed, submitters, duration).await;
            print_load("unefois", submitters, &ours);
            rate[at].push(ours.rate);
            if submitters != COMPARED {
                continue;
            }
            p50.push(ours.ms(0.5));
            p99.push(ours.ms(0.99));
            let below = raw(root, submitters, bytes_on_disk(&folder), duration).await;
            print_load("raw disk", submitters, &below);
            raw_ratio.push(ours.rate / below.rate);
            if let Some(tessera) = &tessera {
                let [theirs, index, proof] = tessera.run(&root.join(format!("tessera-{round}")), submitters, duration);
                println!(
                    "{submitters:>10} {:>10} {theirs:>10.0} {index:>9.2} {:>9}   to a checkpoint {proof:.1} ms",
                    "Tessera", ""
                );
                tessera_ratio.push(ours.rate / theirs);
                tessera_proof.push(proof);
            }
        }
    }
    Arc::into_inner(bed).unwrap().close().await;
    for (at, submitters) in SUBMITTERS.into_iter().enumerate() {
        println!("figure audit_rate_{submitters} {:.0} /s", median(&mut rate[at]));
    }
    println!("figure audit_p99_256 {:.2} ms", median(&mut p99));
    println!("figure audit_proof_p50_256 {:.2} ms", median(&mut p50));
    println!("figure audit_ratio_raw_256 {:.2} ratio", median(&mut raw_ratio));
    if tessera.is_some() {
        println!("figure audit_ratio_tessera_256 {:.2} ratio", median(&mut tessera_ratio));
        println!("figure tessera_proof_p50_256 {:.1} ms", median(&mut tessera_proof));
    }
}

/// Bytes of journal and tiles for each entry of the log in `folder`; the fold is derived and counted apart.
fn bytes_on_disk(folder: &Path) -> usize {
    let data = folder.join("data");
    let reader = JournalReader::open(&data).unwrap();
    let mut bytes = 0;
    reader
        .read(0, &mut |batch| {
            bytes += unefois_store::embedded::encode_frame(&batch).unwrap().len();
            unefois_engine::store::Visit::Continue
        })
        .unwrap();
    let tiles = std::fs::read_dir(data.join("tiles")).unwrap();
    bytes += tiles.map(|tile| usize::try_from(tile.unwrap().metadata().unwrap().len()).unwrap()).sum::<usize>();
    bytes / usize::try_from(reader.end().frontier.size()).unwrap()
}

/// A fold that takes longer over each chunk.
#[derive(Debug)]
struct Slow(Arc<dyn Fold>, Duration);

impl Fold for Slow {
    fn accept(&self) -> Result<(), StoreError> {
        self.0.accept()
    }
    fn folded(&self) -> Result<u64, StoreError> {
        self.0.folded()
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key)
    }
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.0.scan(prefix, after, limit)
    }
    fn apply(&self, changes: &[RowChange<'_>], folded: u64) -> Result<(), StoreError> {
        std::thread::sleep(self.1);
        self.0.apply(changes, folded)
    }
    fn clear(&self) -> Result<(), StoreError> {
        self.0.clear()
    }
}

/// Consents, which change rows: the rate of the commits, that of the fold, and how far it falls behind.
async fn folding(root: &Path, what: &str, pause: Duration, duration: Duration) {
    let folder = root.join(format!("folding-{}", pause.as_millis()));
    bed::make(&folder);
    let bed = Arc::new(Bed::open_with(&folder, |fold| Arc::new(Slow(fold, pause))).await);
    let stop = Arc::new(AtomicBool::new(false));
    let lag = Arc::new(AtomicU64::new(0));
    let watch = std::thread::spawn({
        let (bed, stop, lag) = (Arc::clone(&bed), Arc::clone(&stop), Arc::clone(&lag));
        move || {
            while !stop.load(Ordering::Relaxed) {
                let behind = bed.engine.head().size.saturating_sub(bed.store.fold.folded().unwrap());
                lag.fetch_max(behind, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    let (begun, from) = (Instant::now(), bed.store.fold.folded().unwrap());
    let load = closed_loop(COMPARED, duration, {
        let bed = Arc::clone(&bed);
        move |_, n| {
            let bed = Arc::clone(&bed);
            async move { bed.grant(usize::try_from(n % 100_000).unwrap()).await }
        }
    })
    .await;
    let folded = (bed.store.fold.folded().unwrap() - from) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    watch.join().unwrap();
    println!(
        "consents at {COMPARED}, {what}: {:.0}/s committed (p99 {:.1} ms), {folded:.0}/s folded, at most {} entries behind",
        load.rate,
        load.ms(0.99),
        lag.load(Ordering::Relaxed)
    );
    Arc::into_inner(bed).unwrap().close().await;
}

/// In a process of its own: appends, and says how many there are, until it is killed.
async fn fill(folder: &Path) {
    let bed = Arc::new(Bed::open(folder).await);
    let engine = Arc::clone(&bed.engine);
    std::thread::spawn(move || {
        loop {
            println!("{}", engine.head().size);
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    append(&bed, FILLERS, Duration::from_secs(100_000)).await;
}

fn this_program(mode: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(mode).arg(folder);
    command
}

/// Fills the log in `folder` to `size` entries by a process that is killed under load.
fn fill_and_kill(folder: &Path, size: u64) {
    let mut child = this_program("fill", folder).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines {
        if line.unwrap().parse::<u64>().is_ok_and(|entries| entries >= size) {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_024.0
}

/// In a process of its own, so that its memory can be told: checks the log in `folder`.
fn check(folder: &Path, deep: bool) {
    let (data, key) = (folder.join("data"), bed::key(folder));
    let files = JournalReader::open(&data).unwrap();
    let opener = Opener::new(Arc::new(FileKeys::open(&data.join("keys")).unwrap()));
    let begun = Instant::now();
    let report: Report = if deep {
        let scratch = tempfile::tempdir().unwrap();
        let options = Options { fold_cache_bytes: 256 << 20, ..Options::default() };
        let fold = open_fold(&scratch.path().join("fold"), &options).unwrap();
        replay(&files, &key, &opener, fold, &mut |_, _| {}).unwrap()
    } else {
        verify(&files, &key, &opener, &mut |_, _| {}).unwrap()
    };
    println!("{} {} {}", report.entries, begun.elapsed().as_secs_f64(), peak_mb());
}

fn checked(folder: &Path, mode: &str) -> f64 {
    let output = this_program(mode, folder).output().unwrap();
    assert!(output.status.success(), "{mode}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let values: Vec<f64> = text.split_whitespace().map(|value| value.parse().unwrap()).collect();
    let rate = values[0] / values[1];
    println!("{mode}: {:.0} entries in {:.1} s, {rate:.0}/s, peak memory {:.0} MB", values[0], values[1], values[2]);
    rate
}

async fn reopen(folder: &Path) -> f64 {
    let begun = Instant::now();
    let bed = Bed::open(folder).await;
    let seconds = begun.elapsed().as_secs_f64();
    println!("opening {} entries after kill -9: {seconds:.2} s", bed.engine.head().size);
    bed.close().await;
    seconds
}

/// One entry after the other, anywhere in the log, found and opened.
async fn entry_reads(folder: &Path) {
    let bed = Bed::open(folder).await;
    let (opener, size) = (Opener::new(bed.store.keys.clone()), bed.engine.head().size);
    let mut place = 0x9e37_79b9_7f4a_7c15_u64;
    let mut times = Vec::new();
    for read in 0..30_000 {
        place = place.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let index = (place >> 20) % size;
        let begun = Instant::now();
        let entry = bed.store.journal.entry(index).unwrap().unwrap();
        assert!(opener.open(index, &entry).unwrap().is_some());
        // The first ones warm up.
        if read >= 10_000 {
            times.push(begun.elapsed().as_secs_f64() * 1e6);
        }
    }
    bed.close().await;
    let p50 = median(&mut times);
    println!("reading one of {size} entries: p50 {p50:.1} µs, p99 {:.1} µs", times[times.len() * 99 / 100]);
    println!("figure entry_read_p50 {p50:.1} µs");
}

/// Logs of a million entries and of the largest size: bytes, opening, verification.
async fn sizes(root: &Path) {
    let folder = root.join("sizes");
    bed::make(&folder);
    let (some, all) = (largest().min(1_000_000), largest());
    fill_and_kill(&folder, some);
    println!("figure audit_bytes_per_entry {} bytes", bytes_on_disk(&folder));
    println!("figure audit_reopen_1m {:.2} s", reopen(&folder).await);
    let mut rates: Vec<f64> = (0..3).map(|_| checked(&folder, "verify")).collect();
    println!("figure audit_verify_rate {:.0} /s", median(&mut rates));
    println!("figure audit_replay_rate {:.0} /s", checked(&folder, "replay"));
    if all > some {
        fill_and_kill(&folder, all);
        println!("figure audit_reopen_10m {:.2} s", reopen(&folder).await);
        checked(&folder, "verify");
        checked(&folder, "replay");
    }
    entry_reads(&folder).await;
}

async fn run() {
    let (rounds, duration) = if quick() { (1, Duration::from_millis(300)) } else { (3, Duration::from_secs(4)) };
    let root = tempfile::tempdir().unwrap();
    let only = std::env::var("UNEFOIS_BENCH_ONLY").ok();
    let part = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if part("rates") {
        rates(root.path(), rounds, duration).await;
        folding(root.path(), "the fold as it is", Duration::ZERO, duration).await;
        folding(root.path(), "a fold that rests a second over each chunk", Duration::from_secs(1), duration).await;
    }
    if part("purge") {
        purge::stall(root.path(), largest().min(1_000_000)).await;
    }
    if part("sizes") {
        sizes(root.path()).await;
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = arguments.get(2).map(PathBuf::from);
    match (arguments.get(1).map(String::as_str), folder) {
        (Some("fill"), Some(folder)) => runtime.block_on(fill(&folder)),
        (Some("verify"), Some(folder)) => check(&folder, false),
        (Some("replay"), Some(folder)) => check(&folder, true),
        _ => runtime.block_on(run()),
    }
}
