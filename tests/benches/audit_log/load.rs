//! Submitters that work one call after the other, and what the disk can do below them.

use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::oneshot;

/// Calls a second, and their latencies in microseconds.
pub(crate) struct Load {
    pub(crate) rate: f64,
    pub(crate) latencies: Histogram<u64>,
}

impl Load {
    pub(crate) fn ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

/// `submitters` tasks that each call again when the call before has ended. A quarter of `duration` warms up.
pub(crate) async fn closed_loop<F, C>(submitters: usize, duration: Duration, call: C) -> Load
where
    F: Future<Output = ()> + Send,
    C: Fn(u64) -> F + Send + Sync + 'static,
{
    let (stop, warm) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (call, next) = (Arc::new(call), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..submitters)
        .map(|_| {
            let (stop, warm, call, next) = (stop.clone(), warm.clone(), call.clone(), next.clone());
            tokio::spawn(async move {
                let mut latencies = Histogram::<u64>::new(3).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    call(next.fetch_add(1, Ordering::Relaxed)).await;
                    if warm.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
                        latencies.record(u64::try_from(begun.elapsed().as_micros()).unwrap()).unwrap();
                    }
                }
                latencies
            })
        })
        .collect();
    tokio::time::sleep(duration / 4).await;
    warm.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    tokio::time::sleep(duration).await;
    let elapsed = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Histogram::<u64>::new(3).unwrap();
    for task in tasks {
        latencies.add(task.await.unwrap()).unwrap();
    }
    Load { rate: latencies.len() as f64 / elapsed, latencies }
}

/// The least that a durable log can do: one thread appends what waits and calls `fdatasync`, then answers.
pub(crate) async fn raw(folder: &Path, submitters: usize, entry_bytes: usize, duration: Duration) -> Load {
    let (queue, waiting) = crossbeam_channel::bounded::<oneshot::Sender<()>>(16_384);
    let path = folder.join("raw");
    // As ours: the blocks are there before they are used.
    let mut file = std::fs::File::create(&path).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..256 {
        file.write_all(&zeros).unwrap();
    }
    file.sync_all().unwrap();
    let writer = std::thread::spawn(move || {
        use std::os::unix::fs::FileExt;
        let entry = vec![7; entry_bytes];
        let mut offset = 0;
        while let Ok(first) = waiting.recv() {
            let mut replies = vec![first];
            replies.extend(waiting.try_iter().take(4_095));
            let bytes = entry.repeat(replies.len());
            if offset + bytes.len() as u64 > 256 << 20 {
                offset = 0;
            }
            file.write_all_at(&bytes, offset).unwrap();
            file.sync_data().unwrap();
            offset += bytes.len() as u64;
            for reply in replies {
                let _ = reply.send(());
            }
        }
    });
    let load = closed_loop(submitters, duration, move |_| {
        let queue = queue.clone();
        async move {
            let (sender, reply) = oneshot::channel();
            queue.send(sender).unwrap();
            reply.await.unwrap();
        }
    })
    .await;
    writer.join().unwrap();
    std::fs::remove_file(path).unwrap();
    load
}
