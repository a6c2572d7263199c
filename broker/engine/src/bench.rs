//! The log without a use case: what it costs to append one entry, durably and with its proof.

use std::time::{Duration, Instant};

use unefois_audit::Receipt;
use unefois_consent::Event;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::exchange::ExchangeCall;
use crate::sequencer::Turn;

impl Engine {
    /// Appends `event` and gives its receipt once it is durable. Nothing is decided: the event must follow from the log,
    /// or a replay will name it.
    pub async fn append(&self, event: Event, deadline: Instant) -> Result<Receipt, EngineError> {
        let step = move |turn: &mut Turn<'_>| turn.append(&event);
        let committed = self.sequencer().submit(deadline, step).await?;
        committed.commit.receipt(committed.value)
    }

    /// Decides on each of `calls` at once and writes nothing: how long each decision took, with its look-ups.
    pub async fn time_decisions(&self, calls: Vec<ExchangeCall>) -> Result<Vec<Duration>, EngineError> {
        self.exchanges().time_decisions(calls).await
    }
}
