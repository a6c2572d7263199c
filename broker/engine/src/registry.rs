//! Changes of the registry: planned as a difference, applied as entries.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use unefois_consent::Malformed;
use unefois_consent::event::{Actor, Event, RegistryChanged};
use unefois_consent::registry::{ChangeSummary, Dataset, Registry, RegistryChange, RegistryFile, Role};

use crate::caller::VerifiedParticipant;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::sequencer::{MAX_STEP_BYTES, Turn};

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
        self.check_sources(&file)?;
        let caller = caller.clone();
        let (sequencer, current) = (self.sequencer().clone(), Arc::clone(self.current_registry()));
        let followers = Arc::clone(self.ledger());
        // A task of its own: a caller that goes away must not leave the gate with the registry of before the change.
        let work = tokio::spawn(async move {
            let step = move |turn: &mut Turn<'_>| {
                turn.judge_caller(&caller, Role::Registry)?;
                change(turn, Some(caller.actor()), file, apply)
            };
            let committed = sequencer.submit_to_end(step).await?;
            let (plan, view) = committed.value;
            publish(&current, view);
            followers.tell_all();
            Ok(plan)
        });
        let done = tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| EngineError::DeadlineExceeded)?;
        done.unwrap_or(Err(EngineError::Internal("a change of the registry was interrupted")))
    }

    /// Refuses a new or changed dataset that no connector of this broker serves. One that stays as it is hinders no change.
    fn check_sources(&self, file: &RegistryFile) -> Result<(), EngineError> {
        let current = self.registry();
        let is_other =
            |dataset: &&Dataset| current.registry.dataset(dataset.id.as_str()).is_none_or(|d| **d != **dataset);
        file.datasets.iter().filter(is_other).try_for_each(|dataset| self.exchanges().check_served(dataset))?;
        Ok(())
    }
}

/// Puts a registry in force whose change is durable.
pub(crate) fn publish(current: &ArcSwap<RegistryView>, view: RegistryView) {
    let view = Arc::new(view);
    // Two changes may come back in another order than they were decided in; the newer one stays.
    current.rcu(|current| if current.version > view.version { Arc::clone(current) } else { Arc::clone(&view) });
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
    let events: Vec<_> =
        changes.into_iter().map(|change| Event::RegistryChanged(Box::new(RegistryChanged { by, change }))).collect();
    check_size(&events, turn.room_bytes())?;
    match apply {
        Apply::Plan => {}
        Apply::IfVersion(version) => {
            if version != turn.state().registry_version() {
                return Err(EngineError::RegistryMoved);
            }
            for event in &events {
                turn.append(event)?;
            }
        }
    }
    let view = RegistryView { version: turn.state().registry_version(), registry: Arc::clone(turn.state().registry()) };
    Ok((RegistryPlan { changes: summaries, version: view.version }, view))
}

/// Refuses what one commit cannot hold, before anything of it is appended.
fn check_size(events: &[Event], room_bytes: usize) -> Result<(), EngineError> {
    let bytes = events.iter().map(|event| serde_json::to_string(event).map_or(MAX_STEP_BYTES, |text| text.len()));
    if bytes.fold(0, usize::saturating_add) <= room_bytes {
        return Ok(());
    }
    let rule = "this change is larger than one commit holds (4 MiB of records); cut it into several";
    Err(Malformed::new("registry", rule).into())
}

fn summarise(before: &Registry, changes: &[RegistryChange]) -> Vec<ChangeSummary> {
    changes.iter().map(|change| before.summary(change)).collect()
}
