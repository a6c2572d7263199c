//! At most so many questions a second, evenly spaced: the simplest rate that no window of a source can find exceeded.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::SourceFault;

/// The rate of one connector.
#[derive(Debug)]
pub(super) struct Rate {
    /// Between two questions; none where there is no limit.
    interval: Option<Duration>,
    /// When the next one may go.
    next: Mutex<Option<Instant>>,
}

impl Rate {
    pub(super) fn new(per_second: u32) -> Self {
        Self { interval: Duration::from_secs(1).checked_div(per_second), next: Mutex::default() }
    }

    /// Waits for this question's turn. One whose turn comes after its deadline takes none, and fails at once.
    pub(super) async fn pass(&self, deadline: Instant) -> Result<(), SourceFault> {
        let Some(interval) = self.interval else { return Ok(()) };
        let turn = self.turn(interval, deadline)?;
        if turn > Instant::now() {
            sleep_until(turn).await;
        }
        Ok(())
    }

    fn turn(&self, interval: Duration, deadline: Instant) -> Result<Instant, SourceFault> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let turn = next.map_or(now, |next| next.max(now));
        if turn >= deadline {
            return Err(SourceFault::RateLimited("more questions wait than `limits.per_second` lets through in time"));
        }
        *next = Some(turn + interval);
        Ok(turn)
    }
}
