//! Derives each entry from those before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use unefois_audit::VerifierKey;
use unefois_consent::decide::{Earlier, Facts, Permit, decide, still_permitted};
use unefois_consent::event::{
    Actor, Answered, Carried, CarriedFact, Dropped, Event, Purged, Refused, Requested, TraceScope, TracesRead,
};
use unefois_consent::registry::Role;
use unefois_consent::{ExchangeId, Question, Reason, Refusal, SubjectRef, Timestamp};

use super::folder::Folder;
use super::past::PurgedPast;
use super::prepare::PreparedEntry;
use crate::purge::Kept;
use crate::state::{BUILT_AT_ONCE, State, Wanted};
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

/// The state after the entries so far, and the permits of the exchanges under way.
pub(super) struct Derivation {
    folder: Folder,
    pub(super) state: State,
    permits: BTreeMap<u64, Permit>,
    past: PurgedPast,
    /// The first registry is given by the operator; it ends with the first entry of another kind.
    first_registry: bool,
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
        let (permits, past) = (BTreeMap::new(), PurgedPast::default());
        Ok(Self { folder, state, permits, past, first_registry: true })
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

    /// Derives one entry, of the shard whose key is `key`, and folds it.
    pub(super) fn entry(
        &mut self,
        index: u64,
        (entry, key): (&PreparedEntry, &VerifierKey),
        event: &Event,
    ) -> Result<Derived, Fault> {
        let time = entry.time();
        for new in event.new_subjects() {
            must(self.state.subject(&new.tag)?.is_none(), "introduces a person who is known already")?;
            must(self.state.add_reference(new.subject)?, "gives a person the reference of another")?;
        }
        let decided = self.derive(index, (time, key), event)?;
        let kept = self.state.retention(time, event)?;
        must(
            kept == entry.retention || self.past.may_hide_retention(event),
            "is kept for another time than the law says",
        )?;
        self.state.apply(index, time, entry.retention, event)?;
        if self.state.waiting().1 >= BUILT_AT_ONCE {
            self.flush()?;
        }
        Ok(decided)
    }

    /// Folds what is known of an entry whose record was purged.
    pub(super) fn purged(&mut self, index: u64, entry: &PreparedEntry, kept: &[Kept]) -> Result<(), Fault> {
        for Kept { carried, .. } in kept {
            must(carried.leaf_hash.0 == entry.leaf_hash.0, "is not the entry that its fact was carried over from")?;
            let may_record = match carried.fact {
                CarriedFact::Subject(_) => Event::may_introduce(entry.leaf.kind),
                CarriedFact::Objection(_) => entry.leaf.kind == Event::OBJECTION_RECORDED,
            };
            must(may_record, "is no entry that records such a fact as was carried over")?;
            if let CarriedFact::Subject(new) = &carried.fact {
                must(self.state.add_reference(new.subject)?, "gives a person the reference of another")?;
            }
        }
        self.past.purged(index, entry.leaf.kind, entry.time());
        self.state.apply_purged(index, entry.time(), kept)?;
        self.first_registry = false;
        Ok(())
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

    fn derive(&mut self, index: u64, (time, key): (Timestamp, &VerifierKey), event: &Event) -> Result<Derived, Fault> {
        let decides = match event {
            Event::LogOpened(opened) => {
                let same = opened.origin == key.name() && opened.verifier_key == key.to_string();
                must(same, "opens another log")?;
                must((index > 0) == opened.previous.is_some(), "says that entries come before it, or hides that")?;
                return Ok(Derived::Nothing);
            }
            Event::ShardClosed(_) => {
                must(self.permits.is_empty(), "closes its shard while exchanges are under way")?;
                return Ok(Derived::Nothing);
            }
            Event::RegistryChanged(changed) => {
                match changed.by {
                    Some(by) => self.enrolled(by, &[Role::Registry])?,
                    None => must(self.first_registry, "changes the registry in nobody's name")?,
                }
                self.state.registry().check_change(&changed.change).or_else(|fault| no(fault.to_string()))?;
                self.first_registry &= changed.by.is_none();
                return Ok(Derived::Nothing);
            }
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
            | Event::ObjectionLifted(_) => {
                self.ledger(time, event)?;
                Derived::Decision
            }
            Event::Carried(carried) => self.carried(carried)?,
            Event::Purged(purged) => self.purge(time, purged)?,
            Event::Requested(requested) => self.requested(index, time, requested)?,
            Event::Refused(refused) => self.refused(time, refused)?,
            Event::Answered(answered) => self.answered(time, answered)?,
            Event::Dropped(dropped) => self.dropped(time, dropped)?,
            Event::Failed(failed) => {
                self.take_permit(failed.requested, (failed.exchange, failed.subject), (time, true))?;
                Derived::Nothing
            }
            Event::TracesRead(TracesRead { by, scope }) => {
                let roles: &[Role] = match scope {
                    TraceScope::Entries { .. } => &[Role::Audit],
                    TraceScope::Receipt { .. } => &[Role::Audit, Role::Exchange],
                    TraceScope::Person { subject } => {
                        self.known(*subject)?;
                        &[Role::Portal]
                    }
                };
                self.enrolled(*by, roles)?;
                Derived::Nothing
            }
        };
        self.first_registry = false;
        Ok(decides)
    }

    pub(super) fn enrolled(&self, by: Actor, roles: &[Role]) -> Result<(), Fault> {
        let enrolled = roles.iter().any(|role| self.state.registry().is_enrolled(by.participant, &by.key, *role));
        must(enrolled, "was done with a key that was not enrolled for it")
    }

    pub(super) fn known(&self, subject: SubjectRef) -> Result<(), Fault> {
        must(self.state.has_reference(subject)?, "names a person whom no entry introduced")
    }

    fn carried(&mut self, carried: &Carried) -> Result<Derived, Fault> {
        let known = match &carried.fact {
            CarriedFact::Subject(new) => self
                .state
                .subject(&new.tag)?
                .is_some_and(|known| known.subject == new.subject && known.stamp.from == carried.from),
            CarriedFact::Objection(objection) => self.state.has_objection(objection, carried.from)?,
        };
        must(known, "carries over what was not there")?;
        Ok(Derived::Nothing)
    }

    fn purge(&mut self, time: Timestamp, purged: &Purged) -> Result<Derived, Fault> {
        must(purged.period.is_over(time.month()), "purges records before their time")?;
        must(!self.state.purged().contains(purged.period), "purges records twice")?;
        // What is recent is in no order while a fold is built: a look through all objections is one into the fold.
        self.flush()?;
        self.settle()?;
        let forgotten = self.state.has_objection_of(purged.period)?;
        must(!forgotten, "purges an objection that is in force and was not carried over")?;
        Ok(Derived::Nothing)
    }

    fn decide_again(
        &self,
        question: &Question,
        exchange: ExchangeId,
        time: Timestamp,
        purged_attempt: Option<Earlier>,
    ) -> Result<Result<Permit, Refusal>, Fault> {
        self.known(question.subject)?;
        let person = self.state.person(question.subject, question.consumer, Wanted::by(question), question.mandate)?;
        let usage = self.state.usage(question.consumer)?;
        let earlier = self.state.earlier(question.consumer, &question.request_id)?.or(purged_attempt);
        let registry = self.state.registry();
        let facts = Facts { registry, person: &person, used_today: &usage, earlier: earlier.as_ref() };
        Ok(decide(&facts, question, exchange, time))
    }

    fn requested(&mut self, index: u64, time: Timestamp, requested: &Requested) -> Result<Derived, Fault> {
        let purged_attempt = self.past.attempt_before(time, requested);
        let rests = purged_attempt.is_some();
        let permit = match self.decide_again(&requested.question, requested.exchange, time, purged_attempt)? {
            Ok(permit) => permit,
            Err(refusal) => return no(format!("was permitted and must be refused: {}", refusal.first().code())),
        };
        let same = permit.exchange() == requested.exchange
            && permit.attempt() == requested.attempt
            && *permit.habilitation() == requested.habilitation
            && permit.consent() == requested.consent;
        must(same, "was permitted on other terms")?;
        self.permits.insert(index, permit);
        Ok(if rests { Derived::Rests } else { Derived::Decision })
    }

    fn refused(&self, time: Timestamp, refused: &Refused) -> Result<Derived, Fault> {
        match self.decide_again(&refused.question, refused.exchange, time, None)? {
            Err(refusal) if refusal.reasons() == refused.reasons => Ok(Derived::Decision),
            Ok(_) if self.past.may_explain(&refused.reasons, &[]) => Ok(Derived::Rests),
            Ok(_) => no("was refused and must be permitted"),
            Err(refusal) if self.past.may_explain(&refused.reasons, refusal.reasons()) => Ok(Derived::Rests),
            Err(refusal) => no(format!("was refused for other reasons than {}", refusal.first().code())),
        }
    }

    /// The permit of the exchange that ends; `None` where the record of its beginning was purged.
    fn take_permit(
        &mut self,
        requested: u64,
        (exchange, subject): (ExchangeId, SubjectRef),
        (time, is_failure): (Timestamp, bool),
    ) -> Result<Option<Permit>, Fault> {
        match self.permits.remove(&requested) {
            Some(permit) if permit.exchange() == exchange && permit.subject() == subject => Ok(Some(permit)),
            Some(_) => no("ends an exchange that is another"),
            None if self.past.ends(requested, time, is_failure) => Ok(None),
            None => no("ends an exchange that was not under way"),
        }
    }

    fn judge_again(&self, permit: &Permit, time: Timestamp) -> Result<Vec<Reason>, Fault> {
        let person =
            self.state.person(permit.subject(), permit.consumer(), Wanted::by_permit(permit), permit.mandate())?;
        let judged = still_permitted(self.state.registry(), &person, permit, time);
        Ok(judged.err().map(|refusal| refusal.reasons().to_vec()).unwrap_or_default())
    }

    fn answered(&mut self, time: Timestamp, answered: &Answered) -> Result<Derived, Fault> {
        let Some(permit) =
            self.take_permit(answered.requested, (answered.exchange, answered.subject), (time, false))?
        else {
            return Ok(Derived::Rests);
        };
        let reasons = self.judge_again(&permit, time)?;
        if let Some(reason) = reasons.first() {
            return no(format!("was answered and must be dropped: {}", reason.code()));
        }
        let asked: BTreeSet<_> = permit.datasets().iter().flat_map(|d| &d.attributes).collect();
        must(answered.attributes.keys().collect::<BTreeSet<_>>() == asked, "answers other attributes than were asked")?;
        let same = answered.request_id.as_ref().is_none_or(|id| id == permit.request_id())
            && answered.consumer == permit.consumer()
            && answered.recipient == permit.recipient()
            && answered.procedure == *permit.procedure()
            && answered.ground == permit.ground();
        must(same, "answers another question")?;
        Ok(Derived::Decision)
    }

    fn dropped(&mut self, time: Timestamp, dropped: &Dropped) -> Result<Derived, Fault> {
        let Some(permit) = self.take_permit(dropped.requested, (dropped.exchange, dropped.subject), (time, false))?
        else {
            return Ok(Derived::Rests);
        };
        let reasons = self.judge_again(&permit, time)?;
        // A certificate lies outside the log: that it ended cannot be derived.
        let mut derived = dropped.reasons.clone();
        derived.retain(|reason| *reason != Reason::CertificateEnded);
        must(derived == reasons && !dropped.reasons.is_empty(), "was dropped for other reasons")?;
        Ok(Derived::Decision)
    }
}
