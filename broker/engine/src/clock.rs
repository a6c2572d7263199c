//! Time, passed in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use unefois_consent::Timestamp;

/// Where the log's time comes from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The time now. May step back or ahead; the engine notices, and keeps the log's time from going back.
    fn now(&self) -> Timestamp;

    /// Time since the machine started, with the time that it was suspended. Nobody can set it, and it never goes back.
    fn boot(&self) -> Duration;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn boot(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        // It is never negative.
        let (seconds, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
        Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
    }
}

/// A clock that a test moves.
#[derive(Debug)]
pub struct ManualClock {
    wall_ms: AtomicU64,
    boot_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`, of a machine that starts.
    pub fn new(now: Timestamp) -> Self {
        Self { wall_ms: AtomicU64::new(now.as_millis()), boot_ms: AtomicU64::default() }
    }

    /// Time passes until it is `now`. A clock that is later than that is put back.
    pub fn set(&self, now: Timestamp) {
        self.advance_boot(now.since(self.now()));
        self.set_wall(now);
    }

    /// Time passes.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }

    /// Somebody sets the clock to `now`, and no time passes.
    pub fn set_wall(&self, now: Timestamp) {
        self.wall_ms.store(now.as_millis(), Ordering::SeqCst);
    }

    /// Time passes, and the clock stands still.
    pub fn advance_boot(&self, by: Duration) {
        self.boot_ms.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall_ms.load(Ordering::SeqCst))
    }

    fn boot(&self) -> Duration {
        Duration::from_millis(self.boot_ms.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_counts_the_time_since_its_start() {
        let (first, second) = (SystemClock.boot(), SystemClock.boot());
        assert!(first > Duration::ZERO && second >= first, "{first:?} {second:?}");
    }
}
