//! A thread that does one thing whenever it is woken, and ends when it is dropped.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

#[derive(Debug, Default)]
struct Orders {
    is_woken: bool,
    ends: bool,
}

#[derive(Debug, Default)]
struct Bell {
    orders: Mutex<Orders>,
    rings: Condvar,
}

/// Wakes a [`Worker`].
#[derive(Debug, Clone, Default)]
pub(super) struct Waker(Arc<Bell>);

impl Waker {
    pub(super) fn wake(&self) {
        lock(&self.0.orders).is_woken = true;
        self.0.rings.notify_one();
    }

    fn end(&self) {
        lock(&self.0.orders).ends = true;
        self.0.rings.notify_one();
    }

    /// Waits to be woken, or for `at_most`; `false` at the end.
    fn wait(&self, at_most: Duration) -> bool {
        let orders = lock(&self.0.orders);
        let waited = self.0.rings.wait_timeout_while(orders, at_most, |orders| !orders.is_woken && !orders.ends);
        let (mut orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
        orders.is_woken = false;
        !orders.ends
    }
}

/// The thread.
#[derive(Debug)]
pub(super) struct Worker {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread that does `work` when `waker` wakes it, and each `at_least_every`.
    pub(super) fn start(
        name: &str,
        waker: &Waker,
        at_least_every: Duration,
        mut work: impl FnMut() + Send + 'static,
    ) -> std::io::Result<Self> {
        let bell = waker.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            while bell.wait(at_least_every) {
                work();
            }
        })?;
        Ok(Self { waker: waker.clone(), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.waker.end();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// A thread that panicked leaves nothing half done that these locks guard.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
