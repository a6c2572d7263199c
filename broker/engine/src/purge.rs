//! The purge: records that are older than their retention become unreadable, because the key of their period is destroyed.
//!
//! First what still has effect is carried over, each fact in an entry that names the old one; then the purge is an entry, which
//! says of each period how many records of each kind it covers, and by digest which; then the keys go. A crash in between is
//! made good at the next start: a period whose purge is in the log has no key. Leaves stay, and with them what each says of
//! how long its record was kept, so the tree and every receipt verify for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use unefois_audit::Hash;
use unefois_consent::event::{Carried, CarriedFact, ConsentUses, Event, Keep, Purged, PurgedPeriod};
use unefois_consent::{ConsentId, Digest, Month, RecordPeriod, Retention, Timestamp};

use crate::by_time::first_not_before;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::seal::Opener;
use crate::sequencer::Turn;
use crate::state::Candidate;
use crate::store::{Batch, Journal, SealedEntry, StoreError, Visit};
use crate::traces::{blocking, visit_entries};

/// Entries whose facts are looked at between two reads of the journal.
const READ_AT_ONCE: u64 = 4_096;
/// So long the deciding thread works for a purge before others have their turn.
const STEP_TIME: Duration = Duration::from_millis(2);

/// What a purge did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// Periods whose keys were destroyed.
    pub periods: Vec<RecordPeriod>,
    /// Facts that were carried over.
    pub carried: u64,
}

impl Engine {
    /// Destroys the keys of all periods that were due in the oldest month in which any was. The periods of a later month wait
    /// for the next day. Nothing is destroyed before the clock was right for a day. Exchanges go on meanwhile. Safe to call
    /// again after any failure.
    ///
    /// # Errors
    /// [`EngineError::ClockWrong`] while the clock is in doubt.
    pub async fn purge(&self) -> Result<PurgeReport, EngineError> {
        let _alone = self.purging().lock().await;
        if !self.clock_guard().may_purge()? {
            return Ok(PurgeReport::default());
        }
        let look = |turn: &mut Turn<'_>| {
            let due = turn.state().due(turn.now().month()).filter(|_| turn.state().may_purge(turn.now()));
            Ok(due)
        };
        let Some((month, due)) = self.sequencer().submit_to_end(look).await?.value else {
            return Ok(PurgeReport::default());
        };
        let due = Arc::new(due);
        let (contents, carried) = self.carry_over(&due).await?;
        let purged = purged(month, &due, contents);
        let periods = due.iter().copied().collect();
        let step = move |turn: &mut Turn<'_>| {
            if turn.state().due(turn.now().month()).is_none_or(|(_, still)| still != *due) {
                return Err(EngineError::Internal("other periods are due than those that were looked at; try again"));
            }
            turn.append(&Event::Purged(purged)).map(drop)
        };
        self.sequencer().submit_to_end(step).await?;
        let report = PurgeReport { periods, carried };
        for period in &report.periods {
            self.destroy(*period).await?;
            tracing::info!(%period, "records are purged: the key of their period is destroyed");
        }
        metrics::counter!("unefois_purged_periods_total").increment(report.periods.len() as u64);
        Ok(report)
    }

    /// Goes through the entries of the periods `due`, and carries over what of them still has effect. Gives what the entries
    /// are, and how many facts were carried over. Each record is opened once more: one that does not open is not of its
    /// period, whatever its frame says, and then nothing is purged.
    async fn carry_over(&self, due: &Arc<BTreeSet<RecordPeriod>>) -> Result<(Contents, u64), EngineError> {
        let (mut contents, mut carried, mut next) = (Contents::default(), 0, self.first_of(due).await?);
        // Of each consent the last of the uses that go.
        let mut last_uses: BTreeMap<ConsentId, (u64, ConsentUses)> = BTreeMap::new();
        let end = self.head().entries();
        while next < end {
            let (journal, opener, wanted) = (Arc::clone(self.journal()), Arc::clone(self.opener()), Arc::clone(due));
            let upto = next.saturating_add(READ_AT_ONCE).min(end);
            let read = move || {
                let mut candidates = Vec::new();
                visit_entries(&*journal, next, upto, |index, entry| {
                    if wanted.contains(&entry.period()) {
                        contents.add(index, entry);
                        candidates.extend(candidates_of(index, entry, &opener)?);
                    }
                    Ok(Visit::Continue)
                })?;
                Ok((contents, candidates))
            };
            let begun = Instant::now();
            let candidates;
            (contents, candidates) = blocking(read).await?;
            let read_for = begun.elapsed();
            let (uses, subjects): (Vec<_>, Vec<_>) =
                candidates.into_iter().partition(|candidate| matches!(candidate, Candidate::Uses { .. }));
            for candidate in uses {
                if let Candidate::Uses { uses, from } = candidate {
                    let last = last_uses.entry(uses.consent).or_insert((from, uses));
                    *last = if last.0 < from { (from, uses) } else { *last };
                }
            }
            carried += self.carry_all(subjects, due).await?;
            next = upto;
            // A purge takes half of a processor at most.
            tokio::time::sleep(read_for).await;
        }
        let last_uses = last_uses.into_values().map(|(from, uses)| Candidate::Uses { uses, from });
        carried += self.carry_all(last_uses.collect(), due).await?;
        Ok((contents, carried))
    }

    /// Index of an entry before which no record of the periods `due` lies.
    async fn first_of(&self, due: &BTreeSet<RecordPeriod>) -> Result<u64, EngineError> {
        let Some(month) = due.iter().map(|period| period.month).min() else { return Ok(0) };
        let journal = Arc::clone(self.journal());
        blocking(move || Ok(first_in_month(&*journal, month)?)).await
    }

    /// Carries over which of `candidates` still have effect, in steps that hold nobody up.
    async fn carry_all(
        &self,
        candidates: Vec<Candidate>,
        due: &Arc<BTreeSet<RecordPeriod>>,
    ) -> Result<u64, EngineError> {
        let (mut left, mut carried) = (candidates, 0);
        // From the end, so that those that are done are cut off.
        left.reverse();
        while !left.is_empty() {
            let due = Arc::clone(due);
            let step = move |turn: &mut Turn<'_>| {
                let (begun, mut carried) = (Instant::now(), 0);
                while let Some(candidate) = left.pop() {
                    if let Some((from, fact)) = turn.state().to_carry(candidate, &due)? {
                        carry(turn, from, fact)?;
                        carried += 1;
                    }
                    if begun.elapsed() >= STEP_TIME {
                        break;
                    }
                }
                Ok((left, carried))
            };
            let (rest, done) = self.sequencer().submit_to_end(step).await?.value;
            left = rest;
            carried += done;
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
        for period in self.sequencer().submit_in_doubt(purged).await?.value {
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
    turn.append(&Event::Carried(Carried { from, fact }))?;
    Ok(())
}

/// An index before which no entry of `month` or later lies.
fn first_in_month(journal: &dyn Journal, month: Month) -> Result<u64, StoreError> {
    first_not_before(journal, |entry| entry.period().month < month)
}

/// What of the record of an entry may have to be carried over.
fn candidates_of(index: u64, entry: &SealedEntry, opener: &Opener) -> Result<Vec<Candidate>, StoreError> {
    let period = entry.period();
    let Some(event) = opener.event(index, entry)? else {
        return Err(StoreError::Corrupt(format!("the key that opens entry {index} ({period}) is missing")));
    };
    if event.kind() != entry.leaf.kind {
        return Err(StoreError::Corrupt(format!("entry {index}: its leaf says another kind than its record")));
    }
    if !may_be_kept(entry, &event) {
        return Err(StoreError::Corrupt(format!("entry {index} is kept for another time than its record says")));
    }
    let introduces = event.facts().introduces().map(|new| Candidate::Subject { tag: new.tag, from: index });
    let mut candidates: Vec<_> = introduces.collect();
    if let Event::Carried(Carried { from, fact }) = event {
        candidates.push(match fact {
            CarriedFact::Subject(new) => Candidate::Subject { tag: new.tag, from },
            CarriedFact::Uses(uses) => Candidate::Uses { uses, from },
        });
    } else if let Event::Requested(requested) = event {
        let uses = requested.consent.zip(requested.used).map(|(consent, used)| ConsentUses { consent, used });
        candidates.extend(uses.map(|uses| Candidate::Uses { uses, from: index }));
    }
    Ok(candidates)
}

/// Whether the record may be kept for as long as the entry is. How long that of an exchange is kept depends on the registry, and
/// it names no fact that would be kept longer.
fn may_be_kept(entry: &SealedEntry, event: &Event) -> bool {
    let (time, retention) = (Timestamp::from_millis(entry.leaf.time_ms), entry.opening.retention);
    match event.facts().keep {
        Keep::For(kept) => kept == retention,
        Keep::After(end) => Retention::of_consent(time, end) == retention,
        Keep::Objection(end) => Retention::of_objection(time, end) == retention,
        Keep::Exchange(_) | Keep::AsRequest(_) => retention <= Retention::TRACES && retention != Retention::LOG,
    }
}

fn purged(due: Month, periods: &BTreeSet<RecordPeriod>, contents: Contents) -> Purged {
    let mut contents = contents.0;
    let covered = periods.iter().map(|period| contents.remove(period).unwrap_or_default().covered(*period));
    Purged { due, periods: covered.collect() }
}

/// The entries of each period so far.
#[derive(Debug, Default)]
pub(crate) struct Contents(BTreeMap<RecordPeriod, Content>);

impl Contents {
    /// Counts entry `index`, as its frame and leaf say it.
    pub(crate) fn add(&mut self, index: u64, entry: &SealedEntry) {
        self.add_leaf(index, entry.period(), entry.leaf.kind, &entry.leaf.hash());
    }

    /// The same.
    pub(crate) fn add_leaf(&mut self, index: u64, period: RecordPeriod, kind: u8, leaf_hash: &Hash) {
        self.0.entry(period).or_default().add(index, kind, leaf_hash);
    }

    /// Whether `covered` says of its period what is in it.
    pub(crate) fn are(&self, covered: &PurgedPeriod) -> bool {
        let content = self.0.get(&covered.period).cloned().unwrap_or_default();
        content.covered(covered.period) == *covered
    }
}

/// The entries of one period so far.
#[derive(Clone)]
struct Content {
    entries: BTreeMap<u8, u64>,
    hash: ring::digest::Context,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({:?})", self.entries)
    }
}

impl Default for Content {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), hash: ring::digest::Context::new(&ring::digest::SHA256) }
    }
}

impl Content {
    fn add(&mut self, index: u64, kind: u8, leaf_hash: &Hash) {
        *self.entries.entry(kind).or_default() += 1;
        self.hash.update(&index.to_be_bytes());
        self.hash.update(&leaf_hash.0);
    }

    fn covered(self, period: RecordPeriod) -> PurgedPeriod {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.hash.finish().as_ref());
        PurgedPeriod { period, entries: self.entries, digest: Digest(digest) }
    }
}

/// A fact that outlives its record.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) carried: Carried,
    /// Of the record that carries it.
    pub(crate) period: RecordPeriod,
}

/// What a log says of its purged records, read before its entries are gone through.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// Facts that were carried over, by the entry that recorded them first.
    carried: BTreeMap<u64, Vec<Kept>>,
    /// Periods whose purge is an entry, with the index of that entry.
    purged: BTreeMap<RecordPeriod, u64>,
}

impl Past {
    /// Reads the whole log once; of its records it opens those two kinds only.
    pub(crate) fn read(
        read: impl FnOnce(&mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError>,
        opener: &Opener,
    ) -> Result<Self, StoreError> {
        let (mut past, mut contents) = (Self::default(), Contents::default());
        let mut fault = None;
        read(&mut |batch| match past.batch(&batch, opener, &mut contents) {
            Ok(()) => Visit::Continue,
            Err(error) => {
                fault = Some(error);
                Visit::Stop
            }
        })?;
        fault.map_or(Ok(past), Err)
    }

    fn batch(&mut self, batch: &Batch, opener: &Opener, contents: &mut Contents) -> Result<(), StoreError> {
        for (index, entry) in (batch.first..).zip(&batch.entries) {
            let tells = matches!(entry.leaf.kind, Event::CARRIED | Event::PURGED);
            match if tells { opener.event(index, entry)? } else { None } {
                Some(Event::Carried(carried)) => {
                    let facts = self.carried.entry(carried.from).or_default();
                    // A fact whose carrying entry is over is carried over again; the last one counts.
                    facts.retain(|kept| kept.carried.fact != carried.fact);
                    facts.push(Kept { carried, period: entry.period() });
                }
                // ORDER: before the entry itself is counted: a purge names what came before it.
                Some(Event::Purged(purged)) => self.purge(index, &purged, contents)?,
                Some(_) => {
                    return Err(StoreError::Corrupt(format!(
                        "entry {index}: its leaf says another kind than its record"
                    )));
                }
                None => {}
            }
            contents.add(index, entry);
        }
        Ok(())
    }

    fn purge(&mut self, index: u64, purged: &Purged, contents: &Contents) -> Result<(), StoreError> {
        for covered in &purged.periods {
            if !contents.are(covered) {
                return Err(StoreError::Corrupt(format!(
                    "entry {index} says what was purged of {}, and the journal has other entries of that period",
                    covered.period
                )));
            }
            self.purged.insert(covered.period, index);
        }
        Ok(())
    }

    /// Whether the record of an entry of `period` and index `index` is covered by a purge that came after it.
    pub(crate) fn covers(&self, index: u64, period: RecordPeriod) -> bool {
        self.purged.get(&period).is_some_and(|purge| *purge > index)
    }

    /// The facts that stand for entry `index`, whose record cannot be opened. An error where no entry says that it was
    /// purged.
    pub(crate) fn of(&self, index: u64, period: RecordPeriod) -> Result<&[Kept], StoreError> {
        if !self.covers(index, period) {
            return Err(StoreError::Corrupt(format!(
                "the key that opens entry {index} ({period}) is missing, and no entry says that it was purged"
            )));
        }
        Ok(self.carried.get(&index).map_or(&[], Vec::as_slice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Plain;
    use unefois_audit::{Leaf, Salt};
    use unefois_consent::Objection;
    use unefois_consent::event::{Actor, ObjectionChanged, TraceScope, TracesRead};

    #[test]
    fn a_record_that_is_kept_for_another_time_than_it_says_is_not_purged() {
        let month = |text: &str| format!("{text}-15T12:00:00Z").parse::<Timestamp>().unwrap();
        let (now, lapses_at) = (month("2027-03"), month("2029-03"));
        let by =
            Actor { participant: "13002526500013".parse().unwrap(), key: unefois_consent::KeyFingerprint([1; 32]) };
        let read = Event::TracesRead(TracesRead { by, scope: TraceScope::Receipt { index: 3 } });
        let objection = Objection {
            subject: unefois_consent::SubjectRef([1; 16]),
            consumer: by.participant,
            procedure: None,
            by_person: false,
            lapses_at,
        };
        let changed = ObjectionChanged { new_subject: None, objection, before: None, by, person: None };
        let objected = Event::ObjectionRecorded(Box::new(changed));
        for (event, right) in [(read, Retention::TRACES), (objected, Retention::OBJECTIONS)] {
            for retention in [0, 1, 12, 24, 36, 255].map(Retention::from_months) {
                let [record_salt, retention_salt, links_salt] = [1, 2, 3].map(|byte| Salt([byte; 32]));
                let plain = Plain { record_salt, retention_salt, links_salt, links: &[], record: "{}" };
                let opening = plain.opening(retention);
                let commitment = opening.parts().commitment();
                let leaf = Leaf { kind: event.kind(), time_ms: now.as_millis(), commitment };
                let entry = SealedEntry { leaf, opening, sealed: Vec::new() };
                assert_eq!(may_be_kept(&entry, &event), retention == right, "{event:?} {retention:?}");
            }
        }
    }
}
