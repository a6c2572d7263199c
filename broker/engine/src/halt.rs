//! The engine's one-way stop: once the store or the signer failed, nothing is decided, asked or answered any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::sync::Notify;

use crate::error::EngineError;
use crate::store::StoreError;

/// Whether the engine has stopped, and why.
#[derive(Debug, Default)]
pub struct Halt {
    why: OnceLock<String>,
    notify: Notify,
    no_room: AtomicBool,
    late_quorum: AtomicBool,
}

impl Halt {
    /// Stops the engine. Only the first reason counts.
    pub(crate) fn halt(&self, why: String) {
        if self.why.set(why).is_ok() {
            tracing::error!(reason = self.why.get().map_or("", String::as_str), "the engine has halted");
            metrics::counter!("unefois_halted_total").increment(1);
            self.notify.notify_waiters();
        }
    }

    /// Starts a thread of the engine. One that panics halts it: the others would wait for it for ever.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, EngineError> {
        let guard = HaltsOnPanic { halt: Arc::clone(self), name: name.to_owned() };
        let guarded = move || {
            let _guard = guard;
            work();
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(guarded);
        thread.map_err(|error| EngineError::Halted(format!("the thread {name} does not start: {error}")))
    }

    /// Whether the store had room at the last step; told to the operator when that changes.
    pub(crate) fn set_room(&self, fault: Option<&StoreError>) {
        let was = self.no_room.swap(fault.is_some(), Ordering::Relaxed);
        match fault {
            Some(error) if !was => tracing::error!(%error, "the store has no room; the broker refuses service"),
            None if was => tracing::info!("the store has room again; the broker serves"),
            Some(_) | None => {}
        }
    }

    /// Whether the store had room when it was last looked for.
    pub(crate) fn has_room(&self) -> bool {
        !self.no_room.load(Ordering::Relaxed)
    }

    /// Whether the witnesses are late by so much that nothing new may begin; told to the operator when that changes.
    pub(crate) fn set_late_quorum(&self, late: bool) {
        let was = self.late_quorum.swap(late, Ordering::Relaxed);
        match (was, late) {
            (false, true) => tracing::error!("no quorum of witnesses; the broker refuses service until there is one"),
            (true, false) => tracing::info!("there is a quorum of witnesses again; the broker serves"),
            (false, false) | (true, true) => {}
        }
    }

    /// Fails while the witnesses are too late.
    pub(crate) fn check_quorum(&self) -> Result<(), EngineError> {
        if self.late_quorum.load(Ordering::Relaxed) { Err(EngineError::LateQuorum) } else { Ok(()) }
    }

    /// Fails where the engine has stopped, has no room for the next entry, or waits for its witnesses.
    pub fn ready(&self) -> Result<(), EngineError> {
        self.check()?;
        self.check_quorum()?;
        if !self.has_room() {
            return Err(EngineError::NoRoom(StoreError::Full("the last step found none".to_owned())));
        }
        Ok(())
    }

    /// Fails once the engine has stopped.
    pub fn check(&self) -> Result<(), EngineError> {
        match self.why.get() {
            None => Ok(()),
            Some(why) => Err(EngineError::Halted(why.clone())),
        }
    }

    /// The error that callers get.
    pub(crate) fn error(&self) -> EngineError {
        EngineError::Halted(self.why.get().cloned().unwrap_or_else(|| "it is shutting down".to_owned()))
    }

    /// Waits until the engine stops.
    pub async fn halted(&self) -> EngineError {
        loop {
            let notified = self.notify.notified();
            if self.check().is_err() {
                return self.error();
            }
            notified.await;
        }
    }
}

struct HaltsOnPanic {
    halt: Arc<Halt>,
    name: String,
}

impl Drop for HaltsOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.halt.halt(format!("the thread {} panicked", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_halts_the_engine_and_one_that_ends_does_not() {
        let halt = Arc::new(Halt::default());
        halt.spawn("ends", || {}).unwrap().join().unwrap();
        assert!(halt.check().is_ok());
        let panics = halt.spawn("panics", || panic!("on purpose")).unwrap();
        assert!(panics.join().is_err());
        let why = halt.check().unwrap_err().to_string();
        assert!(why.contains("the thread panics panicked"), "{why}");
    }
}
