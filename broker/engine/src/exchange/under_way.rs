//! Exchanges under way, by the caller's name for them: a retry joins the one that runs.
//!
//! An exchange runs inside the calls that wait for it, which costs no task of its own. When the last of them goes away, the
//! exchange goes on as a task to its logged end, and a retry can still join it. The table counts who waits, so that between the
//! two nobody finds none and begins a second run.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use unefois_consent::{Digest, RequestId, Siret};

use super::ExchangeAnswer;
use crate::error::EngineError;

/// The result that every caller of one exchange gets.
type Answer = Result<Arc<ExchangeAnswer>, EngineError>;
/// An exchange that several may wait for.
type SharedAnswer = Shared<BoxFuture<'static, Answer>>;
/// A participant and its name for an exchange.
pub(super) type Name = (Siret, RequestId);

/// Whether a call began its exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It did.
    Began,
    /// Another one did.
    Joined,
}

struct Running {
    /// Which run it is: one that has ended leaves the next one of its name alone.
    run: u64,
    content: Digest,
    answer: SharedAnswer,
    /// Calls that wait for it.
    waiters: usize,
    /// It runs on a task of its own, whoever waits.
    is_apart: bool,
}

#[derive(Default)]
struct Table {
    runs: u64,
    running: BTreeMap<Name, Running>,
}

/// The table of exchanges under way.
#[derive(Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<Table>>);

impl std::fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UnderWay({})", self.lock().running.len())
    }
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The exchange that runs under `name` with the same content, or `start`ed now. Where the name is taken by another
    /// content, the new one runs beside it, outside of the table, and the sequencer refuses it.
    pub(super) fn join_or_start<F>(&self, name: Name, content: Digest, start: impl FnOnce() -> F) -> (Role, Waiting)
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let mut table = self.lock();
        let waiting = |run, answer| Waiting {
            answer: Some(answer),
            place: Place { name: name.clone(), run, table: self.clone() },
        };
        match table.running.get_mut(&name) {
            Some(running) if running.content == content => {
                running.waiters += 1;
                return (Role::Joined, waiting(running.run, running.answer.clone()));
            }
            Some(_) | None => {}
        }
        table.runs += 1;
        let run = table.runs;
        let (work, place) = (start(), Place { name: name.clone(), run, table: self.clone() });
        let to_end = async move {
            // A run that panics leaves the table like any other.
            let answer = AssertUnwindSafe(work).catch_unwind().await;
            place.end();
            answer.unwrap_or(Err(EngineError::Internal("an exchange panicked")))
        };
        let answer = to_end.boxed().shared();
        let began = waiting(run, answer.clone());
        // Where the name is taken by another content, the call that began the run is the only one that waits for it.
        table.running.entry(name).or_insert(Running { run, content, answer, waiters: 1, is_apart: false });
        (Role::Began, began)
    }
}

/// The place of a run in the table.
struct Place {
    name: Name,
    run: u64,
    table: UnderWay,
}

impl Place {
    /// The run is in the table no more.
    fn end(&self) {
        let mut table = self.table.lock();
        let ended = table.running.get(&self.name).is_some_and(|running| running.run == self.run);
        let running = if ended { table.running.remove(&self.name) } else { None };
        // Outside of the lock: it may be the last that holds the run.
        drop(table);
        drop(running);
    }

    /// One call less waits. Gives the run where nobody else sees to it.
    fn leave(&self) -> Left {
        let mut table = self.table.lock();
        let Some(running) = table.running.get_mut(&self.name).filter(|running| running.run == self.run) else {
            return Left::Unlisted;
        };
        running.waiters = running.waiters.saturating_sub(1);
        if running.waiters > 0 || running.is_apart {
            return Left::InGoodHands;
        }
        running.is_apart = true;
        Left::Alone
    }
}

/// What a call leaves behind that waits no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Others wait, or a task runs it.
    InGoodHands,
    /// Nobody waits, and the run is in the table.
    Alone,
    /// The run is not in the table: it has ended, or its name was taken.
    Unlisted,
}

/// Waits for an exchange. When the last one goes away, the exchange goes on as a task.
pub(super) struct Waiting {
    /// `None` once it was given.
    answer: Option<SharedAnswer>,
    place: Place,
}

impl Future for Waiting {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(answer) = &mut self.answer else {
            return Poll::Ready(Err(EngineError::Internal("the exchange has ended already")));
        };
        let polled = answer.poll_unpin(cx);
        if polled.is_ready() {
            self.answer = None;
        }
        polled
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        if self.place.leave() == Left::InGoodHands || answer.peek().is_some() {
            return;
        }
        let place = Place { name: self.place.name.clone(), run: self.place.run, table: self.place.table.clone() };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return place.end() };
        // A runtime that shuts down drops the task, and with it the place.
        let to_end = (answer, EndsOnDrop(place));
        runtime.spawn(async move {
            let (answer, _place) = to_end;
            // Whoever joined has it too; nobody else wants it.
            let _ = answer.await;
        });
    }
}

struct EndsOnDrop(Place);

impl Drop for EndsOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests;
