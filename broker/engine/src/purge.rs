//! The purge: records that are older than their retention become unreadable, because the key of their period is destroyed.
//!
//! First what still has effect is carried over, each fact in an entry that commits to the old one; then the purge is an
//! entry; then the key goes. A crash in between is made good at the next start: a period whose purge is in the log has no
//! key. Leaves stay, so the tree and every receipt verify for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use unefois_audit::Hash;
use unefois_consent::event::{Carried, CarriedFact, Event, Purged};
use unefois_consent::{Digest, RecordPeriod};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::seal::Opener;
use crate::sequencer::Turn;
use crate::state::candidates;
use crate::store::{Batch, StoreError, Visit};
use crate::traces::{blocking, visit_entries};

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
        let look = move |turn: &mut Turn<'_>| {
            let month = turn.now().month();
            periods.retain(|period| period.is_over(month));
            let purged = turn.state().purged();
            Ok(periods.into_iter().map(|period| (period, purged.contains(period))).collect::<Vec<_>>())
        };
        let over = self.sequencer().submit_to_end(look).await?.value;
        if !over.is_empty() && self.clock_jumped() {
            tracing::error!(
                "the clock was weeks past the log's last entry when the broker started, so nothing is purged until its next \
                 start: check the clock"
            );
            return Ok(PurgeReport::default());
        }
        let wanted = over.iter().filter(|(_, purged)| !purged).map(|(period, _)| *period).collect();
        let contents = self.contents(wanted).await?;
        let mut report = PurgeReport::default();
        for (period, purged) in over {
            if !purged {
                report.carried += self.carry_over(period).await?;
                let content = contents.get(&period).cloned().unwrap_or_default();
                let (entries, digest) = (content.entries, content.digest());
                let purge = move |turn: &mut Turn<'_>| {
                    if turn.state().has_objection_of(period)? {
                        return Err(EngineError::Internal("an objection was not carried over; nothing was purged"));
                    }
                    turn.append(&Event::Purged(Purged { period, entries, digest })).map(drop)
                };
                self.sequencer().submit_to_end(purge).await?;
            }
            self.destroy(period).await?;
            tracing::info!(%period, "records are purged: the key of their period is destroyed");
            metrics::counter!("unefois_purged_periods_total").increment(1);
            report.periods.push(period);
        }
        Ok(report)
    }

    /// What the entries of these periods are. Each record is opened once more: one that does not open is not of its period,
    /// whatever its frame says, and then nothing is purged.
    async fn contents(&self, wanted: BTreeSet<RecordPeriod>) -> Result<BTreeMap<RecordPeriod, Content>, EngineError> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (journal, opener) = (Arc::clone(self.journal()), Arc::clone(self.opener()));
        blocking(move || {
            let mut contents: BTreeMap<_, Content> = BTreeMap::new();
            visit_entries(&*journal, 0, u64::MAX, |index, entry| {
                let period = entry.period();
                if wanted.contains(&period) {
                    if opener.open(index, entry)?.is_none() {
                        return Err(StoreError::Corrupt(format!(
                            "the key that opens entry {index} ({period}) is missing"
                        )));
                    }
                    contents.entry(period).or_default().add(index, &entry.leaf.hash());
                }
                Ok(Visit::Continue)
            })?;
            Ok(contents)
        })
        .await
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
        let mut periods = blocking(move || Ok(keys.periods()?)).await?;
        let purged = move |turn: &mut Turn<'_>| {
            periods.retain(|period| turn.state().purged().contains(*period));
            Ok(periods)
        };
        for period in self.sequencer().submit_to_end(purged).await?.value {
            self.destroy(period).await?;
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

/// The entries of one period so far.
#[derive(Clone)]
struct Content {
    entries: u64,
    hash: ring::digest::Context,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} entries)", self.entries)
    }
}

impl Default for Content {
    fn default() -> Self {
        Self { entries: 0, hash: ring::digest::Context::new(&ring::digest::SHA256) }
    }
}

impl Content {
    fn add(&mut self, index: u64, leaf_hash: &Hash) {
        self.entries += 1;
        self.hash.update(&index.to_be_bytes());
        self.hash.update(&leaf_hash.0);
    }

    fn digest(&self) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.hash.clone().finish().as_ref());
        Digest(digest)
    }
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
    contents: BTreeMap<RecordPeriod, Content>,
}

impl Past {
    /// Reads the whole log once; of its records it opens those two kinds only.
    pub(crate) fn read(
        read: impl FnOnce(&mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError>,
        opener: &Opener,
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

    fn batch(&mut self, batch: &Batch, opener: &Opener) -> Result<(), StoreError> {
        for (index, entry) in (batch.first..).zip(&batch.entries) {
            let tells = matches!(entry.leaf.kind, Event::CARRIED | Event::PURGED);
            // Before it is counted: a purge names what came before it. One that was purged itself was carried over again.
            match if tells { opener.event(index, entry)? } else { None } {
                Some(Event::Carried(carried)) => {
                    let facts = self.carried.entry(carried.from).or_default();
                    // A fact whose carrying entry is over is carried over again; the last one counts.
                    facts.retain(|kept| kept.carried.fact != carried.fact);
                    facts.push(Kept { carried, period: entry.period() });
                }
                Some(Event::Purged(purged)) => {
                    let content = self.contents.get(&purged.period).cloned().unwrap_or_default();
                    if (content.entries, content.digest()) != (purged.entries, purged.digest) {
                        return Err(StoreError::Corrupt(format!(
                            "entry {index} says what was purged of {}, and the journal has other entries of that period: \
                             the retention of an entry was changed",
                            purged.period
                        )));
                    }
                    self.purged.push(purged.period);
                }
                Some(_) => {
                    return Err(StoreError::Corrupt(format!(
                        "entry {index}: its leaf says another kind than its record"
                    )));
                }
                None => {}
            }
            self.contents.entry(entry.period()).or_default().add(index, &entry.leaf.hash());
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
