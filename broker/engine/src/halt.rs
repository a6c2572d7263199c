//! The engine's one-way stop: once the store or the signer failed, nothing is decided, asked or answered any more.

use std::sync::OnceLock;

use tokio::sync::Notify;

use crate::error::EngineError;

/// Whether the engine has stopped, and why.
#[derive(Debug, Default)]
pub struct Halt {
    why: OnceLock<String>,
    notify: Notify,
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
