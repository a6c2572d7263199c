//! How long a purge makes others wait.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use unefois_engine::{Clock, ManualClock, SystemClock};
use unefois_tests::load::{closed_loop, median};

use crate::bed::{self, Bed, soon};

/// Who append an entry each few milliseconds while the purge runs.
const PROBES: usize = 16;
const PAUSE: Duration = Duration::from_millis(2);
/// A purge is followed by the removal of rows, which makes others wait as well.
const AFTERWARDS: Duration = Duration::from_secs(5);
const FILLERS: usize = 1_024;
const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(86_400 * 31);
/// Months that are purged, one a day.
const MONTHS: usize = 3;
/// Traces are kept for 36 months, so these are over.
const MONTHS_LATER: u32 = 38;

/// Entries that are appended all the time, and the longest that one of them took since it was last asked for.
struct Probes {
    longest_us: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Probes {
    async fn start(bed: &Bed) -> Self {
        let template = Arc::new(bed.template().await);
        let (longest_us, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let tasks = (0..PROBES).map(|_| {
            let (engine, template) = (Arc::clone(&bed.engine), Arc::clone(&template));
            let (longest_us, stop) = (Arc::clone(&longest_us), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    engine.append(template.event(), soon()).await.unwrap();
                    longest_us.fetch_max(u64::try_from(begun.elapsed().as_micros()).unwrap(), Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
            })
        });
        Self { tasks: tasks.collect(), longest_us, stop }
    }

    /// In ms.
    fn longest(&self) -> f64 {
        self.longest_us.swap(0, Ordering::Relaxed) as f64 / 1_000.0
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// Fills [`MONTHS`] months with `records` records each, lets them be over, and purges one after the other beside others who write.
pub(crate) async fn stall(root: &Path, records: u64) {
    let folder = root.join("purge");
    bed::make(&folder);
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let bed = Bed::open_by(clock.clone(), &folder).await;
    for _ in 0..MONTHS {
        fill(&bed, records).await;
        clock.advance(MONTH);
    }
    clock.advance(MONTH * MONTHS_LATER);
    let probes = Probes::start(&bed).await;
    // The first of the month makes keys.
    tokio::time::sleep(AFTERWARDS).await;
    let mut added = Vec::new();
    for _ in 0..MONTHS {
        clock.advance(DAY);
        added.push(one(&bed, &probes).await);
    }
    probes.end().await;
    bed.close().await;
    println!("figure purge_stall_max {:.1} ms", median(&mut added));
}

/// Records of this month, `records` at least.
async fn fill(bed: &Bed, records: u64) {
    let template = Arc::new(bed.template().await);
    let filled = bed.engine.head().entries() + records;
    while bed.engine.head().entries() < filled {
        let (engine, template) = (Arc::clone(&bed.engine), Arc::clone(&template));
        closed_loop(FILLERS, Duration::from_secs(1), move |_, _| {
            let (engine, event) = (Arc::clone(&engine), template.event());
            async move { drop(engine.append(event, soon()).await.unwrap()) }
        })
        .await;
    }
}

/// Purges what is due. Gives how much longer the longest wait was beside it than without it, in ms.
async fn one(bed: &Bed, probes: &Probes) -> f64 {
    probes.longest();
    tokio::time::sleep(2 * AFTERWARDS).await;
    let before = probes.longest();
    let begun = Instant::now();
    let purged = bed.engine.purge().await.unwrap();
    let took = begun.elapsed();
    assert!(!purged.periods.is_empty(), "nothing was due");
    let beside = probes.longest();
    tokio::time::sleep(AFTERWARDS).await;
    let swept = probes.longest();
    tokio::time::sleep(took + AFTERWARDS).await;
    let after = probes.longest();
    println!(
        "purge of a month in {:.1} s; the longest wait of {PROBES} others was {before:.1} ms before, {beside:.1} ms beside it, \
         {swept:.1} ms while its rows were removed, and {after:.1} ms later",
        took.as_secs_f64()
    );
    (beside.max(swept) - before.max(after)).max(0.0)
}
