//! That each record is kept for as long as its kind, what it says and the registry at its place say. No state is needed for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use unefois_consent::Retention;
use unefois_consent::event::{Event, Keep};
use unefois_consent::registry::Registry;

use super::prepare::PreparedEntry;
use super::{LogFault, Look, fault};

/// Beginnings of exchanges whose retention is remembered: an end follows its beginning within a day.
const REMEMBERED: usize = 100_000;

/// What is needed to know how long the next record is kept.
#[derive(Debug, Default)]
pub(super) struct KeptAsLaw {
    registry: Arc<Registry>,
    /// Some procedure is, or was, kept for less than others.
    has_shorter: bool,
    /// Of the last entries Requested that are kept for less than others.
    shorter: BTreeMap<u64, Retention>,
}

impl KeptAsLaw {
    /// An entry whose record says what it says.
    pub(super) fn event(&mut self, index: u64, entry: &PreparedEntry, event: &Event) -> Result<(), LogFault> {
        let keep = event.facts().keep;
        let of_request = |requested: u64| self.shorter.get(&requested).copied();
        let expected = keep.retention(entry.time(), &self.registry, of_request);
        if let Keep::Exchange(_) = keep {
            self.remember(index, entry);
        }
        if let Event::RegistryChanged(changed) = event {
            Arc::make_mut(&mut self.registry).apply(changed.change.clone());
            self.has_shorter |= self.registry.procedures().any(|p| p.trace_months < Retention::TRACES.months());
        }
        if expected == entry.retention {
            return Ok(());
        }
        fault(index, "is kept for another time than the law says")
    }

    /// An entry of an exchange that is kept as most are, and whose record was not read.
    pub(super) fn committed(&mut self, index: u64, entry: &PreparedEntry, look: &Look<'_>) -> Result<(), LogFault> {
        if !self.has_shorter {
            return Ok(());
        }
        let sealed = look.source.entry(index)?;
        match sealed.map(|sealed| look.opener.event(index, &sealed)).transpose().map_err(|e| LogFault::at(index, e))? {
            Some(Some(event)) => self.event(index, entry, &event),
            Some(None) | None => Ok(()),
        }
    }

    /// An entry whose record was purged: its leaf committed to how long it was kept.
    pub(super) fn purged(&mut self, index: u64, entry: &PreparedEntry) {
        if entry.leaf.kind == Event::REQUESTED {
            self.remember(index, entry);
        }
    }

    fn remember(&mut self, index: u64, entry: &PreparedEntry) {
        if entry.retention != Retention::TRACES {
            self.shorter.insert(index, entry.retention);
            if self.shorter.len() > REMEMBERED {
                self.shorter.pop_first();
            }
        }
    }
}
