//! Derives each entry from those before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use unefois_audit::VerifierKey;
use unefois_consent::decide::Permit;
use unefois_consent::event::{
    Actor, Carried, CarriedFact, ConsentUses, Event, Keep, KeyMade, LogOpened, Purged, Reader, RegistryChanged,
    RestKind, TraceScope, TracesRead,
};
use unefois_consent::registry::{Registry, Role};
use unefois_consent::{Consent, Digest, Retention, SubjectRef, Timestamp};

use super::folder::Folder;
use super::past::{Destroyed, Gone};
use super::prepare::PreparedEntry;
use super::questions::Questions;
use crate::purge::Kept;
use crate::seal::Opener;
use crate::state::{BUILT_AT_ONCE, State};
use crate::store::{Fold, StoreError};

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Derived {
    /// It decides nothing.
    Nothing,
    /// It decides, and follows from the entries before it.
    Decision,
    /// It decides, and rests on a record that was purged.
    Rests,
}

pub(super) enum Fault {
    DoesNotFollow(String),
    Store(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

pub(super) fn no<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::DoesNotFollow(what.into()))
}

pub(super) fn must(holds: bool, what: &str) -> Result<(), Fault> {
    if holds { Ok(()) } else { no(what) }
}

/// The place of the entry that is derived.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) index: u64,
    pub(super) time: Timestamp,
    /// How long its record is kept, as its leaf commits to.
    pub(super) retention: Retention,
    /// Key of its shard.
    pub(super) key: &'a VerifierKey,
    /// The purged entries before it.
    pub(super) destroyed: Destroyed<'a>,
    pub(super) opener: &'a Opener,
}

impl At<'_> {
    /// How often the exchange that entry `from` began says that its consent was used.
    fn reads_uses(&self, from: u64) -> Result<Option<ConsentUses>, Fault> {
        let Some(entry) = self.destroyed.source.entry(from)? else { return Ok(None) };
        let Some(Event::Requested(requested)) = self.opener.event(from, &entry)? else { return Ok(None) };
        Ok(requested.consent.zip(requested.used).map(|(consent, used)| ConsentUses { consent, used }))
    }

    /// Whether entry `index`, an earlier one, says that somebody proven gave a consent of the same person to the same administration
    /// as `like`.
    pub(super) fn reads_proven_consent(&self, index: u64, like: &Consent) -> Result<bool, Fault> {
        let Some(entry) = self.destroyed.source.entry(index)?.filter(|_| index < self.index) else { return Ok(false) };
        let given = match self.opener.event(index, &entry)? {
            Some(Event::ConsentGranted(given) | Event::ConsentRenewed(given)) => given,
            _ => return Ok(false),
        };
        let is_same = (given.consent.subject, given.consent.consumer) == (like.subject, like.consumer);
        Ok(is_same && given.decided_by().is_proven())
    }
}

/// The state after the entries so far, and the permits of the exchanges under way.
pub(super) struct Derivation {
    folder: Folder,
    pub(super) state: State,
    pub(super) permits: BTreeMap<u64, Permit>,
    /// The questions that may be tried again.
    pub(super) questions: Questions,
    /// The first registry is given by the operator; it ends with the first entry of another kind.
    first_registry: bool,
    /// The changes of the registry since the last entry of another kind.
    changing: Option<Changing>,
}

/// Changes of the registry that follow each other. Single ones of them need not keep the rules, all together must.
struct Changing {
    before: Arc<Registry>,
    /// Index of the last of them.
    last: u64,
}

impl Derivation {
    /// Begins before the first of `total` entries; `fold` must be empty.
    pub(super) fn new(fold: Arc<dyn Fold>, total: u64) -> Result<Self, StoreError> {
        if fold.folded()? != 0 {
            return Err(StoreError::NotWritten("a replay needs an empty fold to build its state in".to_owned()));
        }
        let mut state = State::load(Arc::clone(&fold))?;
        state.build(total);
        let folder = Folder::start(fold)?;
        let (permits, questions) = (BTreeMap::new(), Questions::default());
        Ok(Self { folder, state, permits, questions, first_registry: true, changing: None })
    }

    /// Exchanges under way.
    pub(super) fn open(&self) -> u64 {
        self.permits.len() as u64
    }

    /// After the last entry: the fold has all rows. SHA-256 over all changes of rows, in the order of the log, and over what of
    /// the state lies in memory.
    pub(super) fn end(mut self) -> Result<[u8; 32], StoreError> {
        self.flush()?;
        let Self { folder, state, .. } = self;
        let mut context = folder.end()?;
        for (key, value) in state.rows_in_memory()? {
            context.update(&key);
            context.update(&value.unwrap_or_default());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Ok(digest)
    }

    /// The changes of the registry are at their end: an entry of another kind follows, or none. Gives what is wrong with
    /// the registry to which they led, and the last of them.
    pub(super) fn registry_is_changed(&mut self) -> Option<(u64, String)> {
        let Changing { before, last } = self.changing.take()?;
        let fault = before.check_next(self.state.registry()).err()?;
        Some((last, format!("leads to a registry that breaks the rules: {fault}")))
    }

    /// Derives one entry and folds it, whether or not it follows: what comes after it is derived from what the log says.
    pub(super) fn entry(&mut self, at: At<'_>, event: &Event) -> Result<Derived, Fault> {
        let derived = self.follows(at, event);
        if let Err(Fault::Store(error)) = derived {
            return Err(error.into());
        }
        for new in event.facts().introduces() {
            self.state.add_reference(new.subject)?;
        }
        self.state.apply(at.index, at.time, at.retention, event)?;
        if self.state.waiting().1 >= BUILT_AT_ONCE {
            self.flush()?;
        }
        derived
    }

    fn follows(&mut self, at: At<'_>, event: &Event) -> Result<Derived, Fault> {
        for new in event.facts().introduces() {
            must(self.state.subject(&new.tag)?.is_none(), "introduces a person who is known already")?;
            must(!self.state.has_reference(new.subject)?, "gives a person the reference of another")?;
        }
        self.is_kept_as_it_must(at, event)?;
        self.key_is_known(at, event)?;
        // A person whom the entry introduces is known to it.
        let introduced: Vec<_> = event.facts().introduces().map(|new| new.subject).collect();
        for subject in &introduced {
            self.state.add_reference(*subject)?;
        }
        let derived = self.derive(at, event);
        self.first_registry &= matches!(event, Event::LogOpened(_) | Event::KeyMade(_))
            || matches!(event, Event::RegistryChanged(changed) if changed.by.is_none());
        derived
    }

    /// How long the record is kept follows from its kind, what it says and the registry at its place.
    fn is_kept_as_it_must(&self, at: At<'_>, event: &Event) -> Result<(), Fault> {
        let mut expected = self.state.retention(at.time, event);
        if let Keep::AsRequest(requested) = event.facts().keep
            && let Some(gone) = at.destroyed.at(at.index, RestKind::Request, Some(requested))?
        {
            expected = gone.retention;
        }
        must(expected == at.retention, "is kept for another time than the law says")
    }

    /// The log says of the key that seals the record that it was made; but for the first entry of a shard, and that of the key
    /// itself.
    fn key_is_known(&self, at: At<'_>, event: &Event) -> Result<(), Fault> {
        let period = unefois_consent::RecordPeriod::new(at.time, at.retention);
        let makes_itself_known = matches!(event, Event::KeyMade(made) if made.period == period);
        let known =
            self.state.key_check(period).is_some() || makes_itself_known || matches!(event, Event::LogOpened(_));
        must(known, "is sealed under a key that no entry says was made")
    }

    /// Folds what is known of an entry whose record was purged.
    pub(super) fn purged(&mut self, index: u64, entry: &PreparedEntry, kept: &[Kept]) -> Result<(), Fault> {
        let mut derived = Ok(());
        for Kept { carried, .. } in kept {
            let may_record = match carried.fact {
                CarriedFact::Subject(_) => Event::may_introduce(entry.leaf.kind),
                CarriedFact::Uses(_) => entry.leaf.kind == Event::REQUESTED,
            };
            derived = derived.and(must(may_record, "is no entry that records such a fact as was carried over"));
            if let CarriedFact::Subject(new) = &carried.fact {
                let is_new = self.state.add_reference(new.subject)?;
                derived = derived.and(must(is_new, "gives a person the reference of another"));
            }
        }
        self.state.apply_purged(index, entry.time(), kept)?;
        self.first_registry = false;
        derived
    }

    /// Goes past an entry that says nothing that can be folded.
    pub(super) fn skip(&mut self, index: u64, entry: &PreparedEntry) -> Result<(), StoreError> {
        self.state.apply_purged(index, entry.time(), &[])
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.settle()?;
        let chunk = self.state.take_chunk()?;
        self.folder.send(chunk, self.state.size())
    }

    /// Waits until the fold has the last chunk.
    fn settle(&mut self) -> Result<(), StoreError> {
        if let Some(position) = self.folder.wait()? {
            self.state.folded(position);
        }
        Ok(())
    }

    fn derive(&mut self, at: At<'_>, event: &Event) -> Result<Derived, Fault> {
        match event {
            Event::LogOpened(opened) => self.opened(at, opened),
            Event::ShardClosed(_) => {
                must(self.permits.is_empty(), "closes its shard while exchanges are under way")?;
                Ok(Derived::Nothing)
            }
            Event::KeyMade(made) => self.key_made(at, made),
            Event::RulesChanged(changed) => {
                must(changed.rules != self.state.rules(), "changes to the rules that are in force")?;
                changed.rules.check().or_else(|fault| no(fault.to_string()))?;
                Ok(Derived::Nothing)
            }
            Event::RegistryChanged(changed) => self.registry_changed(at.index, changed),
            Event::ConsentRequested(_)
            | Event::ConsentGranted(_)
            | Event::ConsentRenewed(_)
            | Event::ConsentRefused(_)
            | Event::ConsentPaused(_)
            | Event::ConsentResumed(_)
            | Event::ConsentWithdrawn(_)
            | Event::ConsentRevoked(_)
            | Event::ConsentInvalidated(_)
            | Event::MandateGranted(_)
            | Event::MandateEnded(_)
            | Event::ObjectionRecorded(_)
            | Event::ObjectionLifted(_) => self.ledger(at, event),
            Event::Carried(carried) => self.carried(at, carried),
            Event::Purged(purged) => self.purge(at.time, purged),
            Event::Requested(requested) => self.requested(at, requested),
            Event::Refused(refused) => self.refused(at, refused),
            Event::Answered(answered) => self.answered(at, answered),
            Event::Dropped(dropped) => self.dropped(at, dropped),
            Event::Failed(failed) => self.failed(at, failed),
            Event::TracesRead(read) => self.traces_read(at, read),
        }
    }

    pub(super) fn enrolled(&self, by: Actor, roles: &[Role]) -> Result<(), Fault> {
        let enrolled = roles.iter().any(|role| self.state.registry().is_enrolled(by.participant, &by.key, *role));
        must(enrolled, "was done with a key that was not enrolled for it")
    }

    pub(super) fn known(&self, subject: SubjectRef) -> Result<(), Fault> {
        must(self.state.has_reference(subject)?, "names a person whom no entry introduced")
    }

    fn opened(&self, at: At<'_>, opened: &LogOpened) -> Result<Derived, Fault> {
        let same = opened.origin == at.key.name() && opened.verifier_key == at.key.to_string();
        must(same, "opens another log")?;
        must((at.index > 0) == opened.previous.is_some(), "says that entries come before it, or hides that")?;
        if let Some(clock) = opened.clock {
            must(at.index > 0, "accepts a clock where no entry comes before it")?;
            let purged = self.state.purged_since(clock.to.month());
            must(purged.is_none(), "goes back to a month whose records were purged")?;
        }
        opened.rules.check().or_else(|fault| no(fault.to_string()))?;
        if at.index > 0 {
            must(opened.rules == self.state.rules(), "changes the rules without an entry that says so")?;
            must(Some(opened.subject_key) == self.state.subject_key_check(), "names another key of subjects")?;
        }
        Ok(Derived::Nothing)
    }

    fn key_made(&self, at: At<'_>, made: &KeyMade) -> Result<Derived, Fault> {
        must(made.period.month == at.time.month(), "makes a key of another month")?;
        must(self.state.key_check(made.period).is_none(), "makes a key twice")?;
        must(!self.state.purged().contains(made.period), "makes a key of records that were purged")?;
        let there: Option<Digest> = at.opener.keys().get(made.period)?.map(|key| key.check());
        must(there.is_none_or(|there| there == made.check), "names another key than the one that is there")?;
        Ok(Derived::Nothing)
    }

    fn registry_changed(&mut self, index: u64, changed: &RegistryChanged) -> Result<Derived, Fault> {
        let before = || Arc::clone(self.state.registry());
        self.changing.get_or_insert_with(|| Changing { before: before(), last: index }).last = index;
        match changed.by {
            Some(by) => self.enrolled(by, &[Role::Registry])?,
            None => must(self.first_registry, "changes the registry in nobody's name")?,
        }
        let registry = self.state.registry();
        registry.check_change(&changed.change).or_else(|fault| no(fault.to_string()))?;
        let mut after: Registry = (**registry).clone();
        after.apply(changed.change.clone());
        must(after != **registry, "changes the registry into what it is")?;
        Ok(Derived::Nothing)
    }

    fn carried(&mut self, at: At<'_>, carried: &Carried) -> Result<Derived, Fault> {
        must(carried.from < at.index, "carries over from an entry that comes later")?;
        let month = at.time.month();
        let is_due = at.destroyed.source.entry(carried.from)?.is_some_and(|from| from.period().is_over(month));
        must(is_due, "carries over what is not to be destroyed yet")?;
        let known = match &carried.fact {
            CarriedFact::Subject(new) => self
                .state
                .subject(&new.tag)?
                .is_some_and(|known| known.subject == new.subject && known.stamp.from == carried.from),
            CarriedFact::Uses(uses) => {
                let version = Some(uses.used.recorded);
                if at.destroyed.at(at.index, RestKind::Version, version)?.is_some()
                    || at.destroyed.at(at.index, RestKind::Request, Some(carried.from))?.is_some()
                {
                    return Ok(Derived::Rests);
                }
                at.reads_uses(carried.from)? == Some(*uses)
            }
        };
        must(known, "carries over what was not there")?;
        Ok(Derived::Nothing)
    }

    /// All that was due in the oldest month in which anything was, and no sooner. What the entries of those periods are is
    /// compared with the journal elsewhere.
    fn purge(&mut self, time: Timestamp, purged: &Purged) -> Result<Derived, Fault> {
        must(purged.due <= time.month(), "purges records before their time")?;
        must(self.state.may_purge(time), "purges records within a day of the last purge")?;
        let covered: BTreeSet<_> = purged.periods.iter().map(|covered| covered.period).collect();
        let due = self.state.due(time.month());
        must(due == Some((purged.due, covered)), "purges other records than those that are due first")?;
        Ok(Derived::Nothing)
    }

    fn traces_read(&self, at: At<'_>, TracesRead { by, scope }: &TracesRead) -> Result<Derived, Fault> {
        let roles: &[Role] = match scope {
            TraceScope::Entries { from, to } => {
                must(from < to && *to <= at.index, "reads entries that are not there")?;
                &[Role::Audit]
            }
            TraceScope::Receipt { index } => {
                must(*index < at.index, "reads an entry that comes later")?;
                if self.enrolled(*by, &[Role::Audit]).is_err() {
                    self.may_have(at, *by, *index)?;
                }
                &[Role::Audit, Role::Exchange]
            }
            TraceScope::Person { subject, introduced, reader } => {
                self.introduced(at, *subject, *introduced)?;
                if let Some(reader) = reader {
                    self.may_read(at, *subject, reader)?;
                }
                &[Role::Portal]
            }
        };
        self.enrolled(*by, roles)?;
        Ok(Derived::Nothing)
    }

    /// A consumer has the receipts of the answers that it got, and no others.
    fn may_have(&self, at: At<'_>, by: Actor, index: u64) -> Result<(), Fault> {
        let Some(entry) = at.destroyed.source.entry(index)? else { return no("reads an entry that is not there") };
        match at.opener.event(index, &entry)? {
            Some(Event::Answered(answered)) if answered.consumer == by.participant => Ok(()),
            // Its record was there when it was read.
            None if entry.leaf.kind == Event::ANSWERED => Ok(()),
            Some(_) | None => no("reads a receipt that is somebody else's"),
        }
    }

    /// The person was introduced by entry `introduced`, or that entry was purged.
    fn introduced(&self, at: At<'_>, subject: SubjectRef, introduced: u64) -> Result<Option<Gone>, Fault> {
        let gone = at.destroyed.at(at.index, RestKind::Introduction, Some(introduced))?;
        if gone.is_none() {
            self.known(subject)?;
        }
        Ok(gone)
    }

    fn may_read(&self, at: At<'_>, principal: SubjectRef, reader: &Reader) -> Result<(), Fault> {
        self.introduced(at, reader.subject, reader.introduced)?;
        if at.destroyed.at(at.index, RestKind::Mandate, Some(reader.mandate_entry))?.is_some() {
            return Ok(());
        }
        let mandate = self.state.mandate_recorded(reader.mandate)?.filter(|m| m.index == reader.mandate_entry);
        let may = mandate.is_some_and(|mandate| {
            mandate.is_in_force(at.time) && mandate.principal == principal && mandate.representative == reader.subject
        });
        must(may, "reads a person's traces under a mandate that does not allow it")
    }
}
