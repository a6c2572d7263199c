//! The purge: records that are older than their retention become unreadable, because the key of their period is destroyed.
//!
//! First what still has effect is carried over, each fact in an entry that commits to the old one; then the purge is an
//! entry; then the key goes. A crash in between is made good at the next start: a period whose purge is in the log has no
//! key. Leaves stay, so the tree and every receipt verify for ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use unefois_consent::event::{Carried, CarriedFact, Event, Purged};
use unefois_consent::{Digest, RecordPeriod};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::sequencer::Turn;
use crate::state::candidates;
use crate::store::{Batch, Journal, StoreError, Visit};
use crate::traces::blocking;

/// Facts that are carried over in one step, so that exchanges are not held up.
const CARRIED_AT_ONCE: usize = 256;

/// What a purge did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// Periods whose key was destroyed.
    pub periods: Vec<RecordPeriod>,
    /// Facts that were carried over.
    pub carried: u64,
}

impl Engine {
    /// Destroys the key of every period that is over. Exchanges go on meanwhile. Safe to call again after any failure.
    pub async fn purge(&self) -> Result<PurgeReport, EngineError> {
        let keys = Arc::clone(self.keys());
        let mut periods = blocking(move || Ok(keys.periods()?)).await?;
        periods.sort();
        let mut report = PurgeReport::default();
        for period in periods {
            let look = move |turn: &mut Turn<'_>| {
                Ok((period.is_over(turn.now().month()), turn.state().purged().contains(period)))
            };
            let (over, purged) = self.sequencer().submit_to_end(look).await?.value;
            if !over {
                continue;
            }
            if !purged {
                report.carried += self.carry_over(period).await?;
                self.sequencer()
                    .submit_to_end(move |turn| turn.append(&Event::Purged(Purged { period })).map(drop))
                    .await?;
            }
            self.destroy(period).await?;
            tracing::info!(%period, "records are purged: the key of their period is destroyed");
            metrics::counter!("unefois_purged_periods_total").increment(1);
            report.periods.push(period);
        }
        Ok(report)
    }

    async fn carry_over(&self, period: RecordPeriod) -> Result<u64, EngineError> {
        let fold = Arc::clone(self.fold());
        let recent = move |turn: &mut Turn<'_>| Ok(turn.state().recent_candidates(period)?);
        let mut found = self.sequencer().submit_to_end(recent).await?.value;
        // ORDER: a row that the fold gets meanwhile is found by one of the two; one that is carried meanwhile is left out
        // by its step.
        found.extend(blocking(move || Ok(candidates(&*fold, period)?)).await?);
        let mut carried = 0;
        for keys in found.chunks(CARRIED_AT_ONCE) {
            let keys = keys.to_vec();
            let step = move |turn: &mut Turn<'_>| {
                let mut carried = 0;
                for key in &keys {
                    if let Some((from, fact)) = turn.state().to_carry(key, period)? {
                        carry(turn, from, fact)?;
                        carried += 1;
                    }
                }
                Ok(carried)
            };
            carried += self.sequencer().submit_to_end(step).await?.value;
        }
        Ok(carried)
    }

    /// Destroys the keys of periods whose purge is in the log: a crash may have come between the two.
    pub(crate) async fn finish_purges(&self) -> Result<(), EngineError> {
        let keys = Arc::clone(self.keys());
        for period in blocking(move || Ok(keys.periods()?)).await? {
            let purged = move |turn: &mut Turn<'_>| Ok(turn.state().purged().contains(period));
            if self.sequencer().submit_to_end(purged).await?.value {
                self.destroy(period).await?;
            }
        }
        Ok(())
    }

    async fn destroy(&self, period: RecordPeriod) -> Result<(), EngineError> {
        let keys = Arc::clone(self.keys());
        blocking(move || Ok(keys.destroy(period)?)).await?;
        self.opener().forget(period);
        Ok(())
    }
}

/// Appends an entry that carries a fact over from entry `from`.
pub(crate) fn carry(turn: &mut Turn<'_>, from: u64, fact: CarriedFact) -> Result<(), EngineError> {
    let leaf_hash = Digest(turn.leaf_hash(from)?.0);
    turn.append(&Event::Carried(Carried { from, leaf_hash, fact }))?;
    Ok(())
}

/// A fact that outlives its record.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) carried: Carried,
    /// Of the record that carries it.
    pub(crate) period: RecordPeriod,
}

/// What a log says of its purged records, read before its entries are gone through.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// Facts that were carried over, by the entry that recorded them first.
    pub(crate) carried: BTreeMap<u64, Vec<Kept>>,
    /// Periods whose purge is an entry.
    pub(crate) purged: Vec<RecordPeriod>,
}

impl Past {
    /// Reads the whole log once; of its records it opens those two kinds only.
    pub(crate) fn read(
        read: impl FnOnce(&mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError>,
        opener: &crate::seal::Opener,
    ) -> Result<Self, StoreError> {
        let mut past = Self::default();
        let mut fault = None;
        read(&mut |batch| match past.batch(&batch, opener) {
            Ok(()) => Visit::Continue,
            Err(error) => {
                fault = Some(error);
                Visit::Stop
            }
        })?;
        fault.map_or(Ok(past), Err)
    }

    fn batch(&mut self, batch: &Batch, opener: &crate::seal::Opener) -> Result<(), StoreError> {
        let told = |kind| kind == Event::CARRIED || kind == Event::PURGED;
        for (index, entry) in (batch.first..).zip(&batch.entries).filter(|(_, entry)| told(entry.leaf.kind)) {
            let Some(opened) = opener.open(index, entry)? else { continue };
            match serde_json::from_str(&opened.record) {
                Ok(Event::Carried(carried)) => {
                    let facts = self.carried.entry(carried.from).or_default();
                    // A fact whose carrying entry is over is carried over again; the last one counts.
                    facts.retain(|kept| kept.carried.fact != carried.fact);
                    facts.push(Kept { carried, period: entry.period() });
                }
                Ok(Event::Purged(purged)) => self.purged.push(purged.period),
                Ok(_) | Err(_) => {
                    return Err(StoreError::Corrupt(format!(
                        "entry {index}: its leaf says another kind than its record"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The facts that stand for entry `index`, whose record cannot be opened. An error where no entry says that it was
    /// purged.
    pub(crate) fn of(&self, index: u64, period: RecordPeriod) -> Result<&[Kept], StoreError> {
        if !self.purged.contains(&period) {
            return Err(StoreError::Corrupt(format!(
                "the key that opens entry {index} ({period}) is missing, and no entry says that it was purged"
            )));
        }
        Ok(self.carried.get(&index).map_or(&[], Vec::as_slice))
    }
}

/// A reader for [`Past::read`].
pub(crate) fn whole(journal: &dyn Journal) -> impl FnOnce(&mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError> {
    move |visit| journal.read(0, visit)
}
