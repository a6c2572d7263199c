//! Load for the benches: callers that work one call after the other.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The middle one.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Calls a second, and their latencies in microseconds.
#[derive(Debug)]
pub struct Load {
    /// Calls a second.
    pub rate: f64,
    /// In microseconds.
    pub latencies: Histogram<u64>,
}

impl Load {
    /// A quantile of the latencies, in milliseconds.
    pub fn ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

/// `callers` tasks that each call again when the call before has ended; `call` is told which caller calls, and the number
/// of the call among all. A quarter of `duration` warms up.
pub async fn closed_loop<F, C>(callers: usize, duration: Duration, call: C) -> Load
where
    F: Future<Output = ()> + Send,
    C: Fn(usize, u64) -> F + Send + Sync + 'static,
{
    paced_loop(callers, Duration::ZERO, duration, call).await
}

/// As [`closed_loop`], with a pause before each next call. The callers begin one after the other within the first pause, so
/// that they do not all call at once.
pub async fn paced_loop<F, C>(callers: usize, pause: Duration, duration: Duration, call: C) -> Load
where
    F: Future<Output = ()> + Send,
    C: Fn(usize, u64) -> F + Send + Sync + 'static,
{
    let (stop, warm) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (call, next) = (Arc::new(call), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (stop, warm, call, next) = (stop.clone(), warm.clone(), call.clone(), next.clone());
            tokio::spawn(async move {
                let mut latencies = Histogram::<u64>::new(3).unwrap();
                if !pause.is_zero() {
                    tokio::time::sleep(pause * u32::try_from(caller).unwrap() / u32::try_from(callers).unwrap()).await;
                }
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    call(caller, next.fetch_add(1, Ordering::Relaxed)).await;
                    if warm.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
                        latencies.record(u64::try_from(begun.elapsed().as_micros()).unwrap()).unwrap();
                    }
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
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
