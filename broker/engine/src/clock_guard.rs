//! Whether the clock may be believed. An entry of a wrong time cannot be taken back, nor can a purge that came too early. So the
//! clock is held against the time since the machine started, which nobody can set, and at the start against the log's last
//! entry. While it is in doubt nothing is written and nothing is purged.
//!
//! What is not noticed: a clock that was wrong by less than [`MAY_PASS`] when the broker started, and stays so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use unefois_consent::Timestamp;

use crate::by_time::first_of_shard_not_before;
use crate::clock::Clock;
use crate::store::{Journal, SealedEntry, StoreError};

/// By so much the clock may move against the time since the start of the machine, and lie before the log's last entry: what a
/// machine's clock is wrong by when the first correction comes from the network. The log's time stands still meanwhile where the
/// clock went back.
pub const CLOCK_BOUND: Duration = Duration::from_secs(5 * 60);

/// By so much the clock may be past the log's last entry when the broker starts. A town hall may turn its broker off before the
/// summer holidays and on again after them: that is two months and some weeks, and nobody has to be asked. A longer time is
/// more often a clock that was set wrong, and an operator says which it is.
pub const MAY_PASS: Duration = Duration::from_secs(92 * 24 * 60 * 60);

/// The clock was right for so long before anything is purged: time for somebody to notice a clock that is wrong all the same.
const BEFORE_PURGES: Duration = Duration::from_secs(24 * 60 * 60);

const LATELY: Duration = Duration::from_secs(3 * 24 * 60 * 60);
const A_WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A broker that is started anew each day is never up for one. So the entries of its last shard count, too: one of the last three
/// days, and one from a day to a week ago. A clock that is further ahead than three days has none of them.
pub(crate) fn shows_a_right_day(journal: &dyn Journal, now: Timestamp) -> Result<bool, StoreError> {
    let end = journal.end();
    if now.since(Timestamp::from_millis(end.last_time_ms)) > LATELY {
        return Ok(false);
    }
    let week_ago = now.minus(A_WEEK);
    let is_older = |entry: &SealedEntry| Timestamp::from_millis(entry.leaf.time_ms) < week_ago;
    let first = first_of_shard_not_before(journal, end.shard..end.entries(), is_older)?;
    let time = journal.entry(first)?.map(|entry| Timestamp::from_millis(entry.leaf.time_ms));
    Ok(time.is_some_and(|time| now.since(time) >= BEFORE_PURGES))
}

/// The clock is compared with a moment that is older than this only while it is in doubt. So small corrections do not add up
/// to a doubt, and it cannot be led away by more than [`CLOCK_BOUND`] a day.
const ANCHOR_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Why the clock is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockFault {
    /// It was set while the broker ran.
    #[error(
        "the clock of the machine says {now}, and was set {} by {} since it was last right: nothing is written or purged. Put it \
         right, and the broker goes on by itself. If it is right now, restart the broker",
        if now > expected { "ahead" } else { "back" },
        span(now.since(*expected).max(expected.since(*now)))
    )]
    WasSet {
        /// What it says.
        now: Timestamp,
        /// What it would say, by the time since the start of the machine.
        expected: Timestamp,
    },
    /// At the start it was before the log's last entry.
    #[error(
        "the clock of the machine says {now}, and the last entry of the log is of {last}: nothing is written or purged until the \
         clock has passed it. Put the clock right. If it is right, the log's time is wrong: stop the broker and run `unefois \
         audit accept-clock`"
    )]
    BeforeLog {
        /// What it says.
        now: Timestamp,
        /// Time of the last entry.
        last: Timestamp,
    },
    /// At the start it was long after the log's last entry.
    #[error(
        "the clock of the machine says {now}, {} after the last entry of the log: nothing is written or purged. Put the clock \
         right, and the broker goes on by itself. If it is right because the broker was off for so long, stop it and run `unefois \
         audit accept-clock`", span(now.since(*.last))
    )]
    LongAfterLog {
        /// What it says.
        now: Timestamp,
        /// Time of the last entry.
        last: Timestamp,
    },
}

/// A span for people: its two largest units.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min {} s", seconds % 60),
        (0, _) => format!("{hours} h {minutes} min"),
        (_, _) => format!("{days} days {hours} h"),
    }
}

/// What both clocks said at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    wall: Timestamp,
    boot: Duration,
}

/// Whether the clock is believed, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trust {
    /// Time of the last entry at the start; `None` in an empty log.
    last: Option<Timestamp>,
    /// When the clock was last right; `None` until it was.
    anchor: Option<Reading>,
    /// Since when it is right; `None` while it is in doubt.
    right: Option<Right>,
}

/// Since when the clock is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// By the time since the start of the machine.
    Since(Duration),
    /// For [`BEFORE_PURGES`] before the broker started, as the log shows.
    BeforeTheStart,
}

impl Trust {
    fn new(last: Option<Timestamp>) -> Self {
        Self { last, anchor: None, right: None }
    }

    fn look(&mut self, reading: Reading) -> Result<(), ClockFault> {
        let looked = match self.anchor {
            Some(anchor) => against_boot(anchor, reading),
            None => self.last.map_or(Ok(()), |last| against_log(last, reading.wall)),
        };
        if looked.is_err() {
            self.right = None;
            return looked;
        }
        self.right.get_or_insert(Right::Since(reading.boot));
        if self.anchor.is_none_or(|anchor| reading.boot.saturating_sub(anchor.boot) >= ANCHOR_FOR) {
            self.anchor = Some(reading);
        }
        Ok(())
    }

    fn is_right_for_purges(&self, boot: Duration) -> bool {
        match self.right {
            None => false,
            Some(Right::Since(since)) => boot.saturating_sub(since) >= BEFORE_PURGES,
            Some(Right::BeforeTheStart) => true,
        }
    }
}

fn against_boot(anchor: Reading, Reading { wall, boot }: Reading) -> Result<(), ClockFault> {
    let expected = anchor.wall.plus(boot.saturating_sub(anchor.boot));
    if wall.since(expected).max(expected.since(wall)) > CLOCK_BOUND {
        return Err(ClockFault::WasSet { now: wall, expected });
    }
    Ok(())
}

fn against_log(last: Timestamp, now: Timestamp) -> Result<(), ClockFault> {
    if last.since(now) > CLOCK_BOUND {
        Err(ClockFault::BeforeLog { now, last })
    } else if now.since(last) > MAY_PASS {
        Err(ClockFault::LongAfterLog { now, last })
    } else {
        Ok(())
    }
}

/// Holds the clock against the time since the start of the machine and against the log.
#[derive(Debug)]
pub(crate) struct ClockGuard {
    clock: Arc<dyn Clock>,
    looked: Mutex<Looked>,
}

#[derive(Debug)]
struct Looked {
    trust: Trust,
    /// What the last look found, which the operator was told; `None` before the first one.
    was_right: Option<bool>,
}

impl ClockGuard {
    /// Begins with the time of the log's last entry; `None` for an empty log, which takes any time.
    pub(crate) fn new(clock: Arc<dyn Clock>, last: Option<Timestamp>) -> Self {
        Self { clock, looked: Mutex::new(Looked { trust: Trust::new(last), was_right: None }) }
    }

    /// The log shows that the clock was right for a day before the start, where it is right now.
    #[must_use]
    pub(crate) fn after_a_right_day(self) -> Self {
        self.looked().trust.right = Some(Right::BeforeTheStart);
        self
    }

    /// The time now, where the clock is right.
    ///
    /// # Errors
    /// [`ClockFault`] while it is in doubt.
    pub(crate) fn now(&self) -> Result<Timestamp, ClockFault> {
        self.look().map(|reading| reading.wall)
    }

    /// Whether the clock is right, and has been for long enough that what is over may be destroyed.
    ///
    /// # Errors
    /// [`ClockFault`] while it is in doubt.
    pub(crate) fn may_purge(&self) -> Result<bool, ClockFault> {
        let reading = self.look()?;
        Ok(self.looked().trust.is_right_for_purges(reading.boot))
    }

    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> Result<Reading, ClockFault> {
        let reading = Reading { wall: self.clock.now(), boot: self.clock.boot() };
        let mut looked = self.looked();
        let found = looked.trust.look(reading);
        let was_right = looked.was_right.replace(found.is_ok());
        drop(looked);
        match (&found, was_right) {
            (Err(fault), None | Some(true)) => {
                tracing::error!(%fault, "the clock is wrong; the broker refuses service")
            }
            (Ok(()), Some(false)) => tracing::info!("the clock is right again; the broker serves"),
            (Err(_), Some(false)) | (Ok(()), None | Some(true)) => {}
        }
        found.map(|()| reading)
    }
}

#[cfg(test)]
mod tests;
