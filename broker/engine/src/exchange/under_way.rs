//! Exchanges under way, by the caller's name for them: a retry joins the one that runs.
//!
//! An exchange runs inside the call that asked for it, which costs no task of its own. When that call goes away, the
//! exchange goes on as a task to its logged end, and a retry can still join it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use unefois_consent::{Digest, RequestId, Siret};

use super::ExchangeAnswer;
use crate::error::EngineError;

/// The result that every caller of one exchange gets.
type Answer = Result<Arc<ExchangeAnswer>, EngineError>;
/// An exchange that several may wait for.
pub(super) type SharedAnswer = Shared<BoxFuture<'static, Answer>>;
/// A participant and its name for an exchange.
pub(super) type Name = (Siret, RequestId);

enum Running {
    /// Inside a call; gone with its last waiter.
    Inside(WeakShared<BoxFuture<'static, Answer>>),
    /// On a task of its own.
    Apart(SharedAnswer),
}

/// The table of exchanges under way.
#[derive(Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<BTreeMap<Name, (Digest, Running)>>>);

impl std::fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UnderWay({})", self.lock().len())
    }
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, (Digest, Running)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The exchange that runs under `name` with the same content, or `start`ed now. Where the name is taken by another
    /// content, the new one runs beside it and the sequencer refuses it.
    pub(super) fn join_or_start<F>(&self, name: Name, content: Digest, start: impl FnOnce() -> F) -> SharedAnswer
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let mut table = self.lock();
        let taken = match table.get(&name) {
            Some((same, running)) => match running {
                Running::Inside(weak) if *same == content => match weak.upgrade() {
                    Some(shared) => return shared,
                    None => false,
                },
                Running::Apart(shared) if *same == content => return shared.clone(),
                Running::Inside(_) | Running::Apart(_) => true,
            },
            None => false,
        };
        let work = start().boxed();
        let shared = GoesOn { work: Some(work), name: name.clone(), content, table: self.clone() }.boxed().shared();
        if !taken && let Some(weak) = shared.downgrade() {
            table.insert(name, (content, Running::Inside(weak)));
        }
        shared
    }

    fn remove(&self, name: &Name, content: Digest) {
        let mut table = self.lock();
        if table.get(name).is_some_and(|(running, _)| *running == content) {
            table.remove(name);
        }
    }
}

/// Work that goes on as a task when it is dropped before its end.
struct GoesOn {
    work: Option<BoxFuture<'static, Answer>>,
    name: Name,
    content: Digest,
    table: UnderWay,
}

impl Future for GoesOn {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(Err(EngineError::Internal("the exchange has ended already")));
        };
        let polled = work.poll_unpin(cx);
        if polled.is_ready() {
            self.work = None;
            self.table.remove(&self.name, self.content);
        }
        polled
    }
}

impl Drop for GoesOn {
    fn drop(&mut self) {
        let (Some(work), Ok(runtime)) = (self.work.take(), tokio::runtime::Handle::try_current()) else { return };
        let (table, name, content) = (self.table.clone(), self.name.clone(), self.content);
        let ends = async move {
            let answer = work.await;
            table.remove(&name, content);
            answer
        };
        let interrupted = |_| Err(EngineError::Internal("the exchange was interrupted"));
        let shared = runtime.spawn(ends).map(move |joined| joined.unwrap_or_else(interrupted)).boxed().shared();
        let mut table = self.table.lock();
        // It may have ended already; then its entry must not come back.
        if table.get(&self.name).is_some_and(|(running, _)| *running == self.content) {
            table.insert(self.name.clone(), (self.content, Running::Apart(shared)));
        }
    }
}
