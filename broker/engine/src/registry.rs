//! Changes of the registry: planned as a difference, applied as entries.

use std::sync::Arc;
use std::time::Instant;

use unefois_consent::event::{Actor, Event, RegistryChanged};
use unefois_consent::registry::{ChangeSummary, Registry, RegistryChange, RegistryFile};

use crate::caller::VerifiedParticipant;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::sequencer::Turn;

/// The registry at one size of the log.
#[derive(Debug, Clone)]
pub struct RegistryView {
    /// Size of the log after the registry's last change.
    pub version: u64,
    /// The registry.
    pub registry: Arc<Registry>,
}

/// What a change of the registry does.
#[derive(Debug, Clone)]
pub struct RegistryPlan {
    /// Each change in words, in the order of its entries.
    pub changes: Vec<ChangeSummary>,
    /// The registry's version: before the change where it was only planned, after it where it was applied.
    pub version: u64,
}

/// Whether a change is only looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// Says what would change.
    Plan,
    /// Changes it, if the registry still has the version that the caller looked at.
    IfVersion(u64),
}

impl Engine {
    /// Turns the registry into `file`, or says what that would change.
    pub async fn apply_registry(
        &self,
        caller: &VerifiedParticipant,
        file: RegistryFile,
        apply: Apply,
        deadline: Instant,
    ) -> Result<RegistryPlan, EngineError> {
        let by = caller.actor();
        let committed = self.sequencer().submit(deadline, move |turn| change(turn, Some(by), file, apply)).await?;
        let (plan, view) = committed.value;
        self.publish_registry(view);
        Ok(plan)
    }
}

/// Plans, and applies where asked to.
pub(crate) fn change(
    turn: &mut Turn<'_>,
    by: Option<Actor>,
    file: RegistryFile,
    apply: Apply,
) -> Result<(RegistryPlan, RegistryView), EngineError> {
    let before = Arc::clone(turn.state().registry());
    let changes = before.plan(file)?;
    let summaries = summarise(&before, &changes);
    match apply {
        Apply::Plan => {}
        Apply::IfVersion(version) => {
            if version != turn.state().registry_version() {
                return Err(EngineError::RegistryMoved);
            }
            for change in changes {
                turn.append(&Event::RegistryChanged(Box::new(RegistryChanged { by, change })))?;
            }
        }
    }
    let view = RegistryView { version: turn.state().registry_version(), registry: Arc::clone(turn.state().registry()) };
    Ok((RegistryPlan { changes: summaries, version: view.version }, view))
}

fn summarise(before: &Registry, changes: &[RegistryChange]) -> Vec<ChangeSummary> {
    changes.iter().map(|change| before.summary(change)).collect()
}
