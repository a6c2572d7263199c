//! How each event changes the state.

use std::sync::Arc;

use unefois_consent::decide::Earlier;
use unefois_consent::event::{CarriedFact, ConsentGranted, ConsentWithdrawn, Event, NewSubject, Requested};
use unefois_consent::{
    Consent, ConsentStatus, HabilitationId, Objection, ProcedureId, Question, RecordPeriod, Retention, SubjectRef,
    Timestamp,
};

use super::{OpenExchange, Stamp, State, UsageRow, decode, encode, encode_earlier, keys};
use crate::purge::Kept;
use crate::store::StoreError;

/// The person whom an event names. The end of an exchange does so too, but goes with its beginning.
fn names(event: &Event) -> Option<SubjectRef> {
    match event {
        Event::ConsentGranted(event) => Some(event.consent.subject),
        Event::ConsentWithdrawn(event) => Some(event.subject),
        Event::ObjectionRecorded(event) | Event::ObjectionLifted(event) => Some(event.objection.subject),
        Event::Requested(event) => Some(event.question.subject),
        Event::Refused(event) => Some(event.question.subject),
        Event::LogOpened(_)
        | Event::RegistryChanged(_)
        | Event::Carried(_)
        | Event::Purged(_)
        | Event::Answered(_)
        | Event::Dropped(_)
        | Event::Failed(_)
        | Event::TracesRead(_) => None,
    }
}

pub(super) fn objection_key(objection: &Objection) -> Vec<u8> {
    let procedure = objection.procedure.as_ref().map(ProcedureId::as_str);
    keys::objection(objection.subject, objection.consumer, procedure)
}

impl State {
    /// How long the record of `event` is kept, by the state before it.
    pub(crate) fn retention(&self, time: Timestamp, event: &Event) -> Result<Retention, StoreError> {
        let of = |question: &Question| {
            let procedure = self.registry.procedure(&question.procedure);
            Retention::of_exchange(procedure.map(|procedure| &**procedure), question.ground.kind())
        };
        // An end is kept as long as its beginning.
        let ends = |requested| self.open.get(requested).map_or(Retention::TRACES, |open| open.retention);
        Ok(match event {
            Event::LogOpened(_) | Event::RegistryChanged(_) | Event::Purged(_) => Retention::LOG,
            Event::ConsentGranted(event) => Retention::of_consent(time, event.consent.expires_at),
            Event::ConsentWithdrawn(event) => self
                .consent(event.consent)?
                .map_or(Retention::TRACES, |consent| Retention::of_consent(time, consent.expires_at)),
            Event::ObjectionRecorded(_) | Event::ObjectionLifted(_) | Event::Carried(_) | Event::TracesRead(_) => {
                Retention::TRACES
            }
            Event::Requested(event) => of(&event.question),
            Event::Refused(event) => of(&event.question),
            Event::Answered(event) => ends(&event.requested),
            Event::Dropped(event) => ends(&event.requested),
            Event::Failed(event) => ends(&event.requested),
        })
    }

    /// The state after one more entry, whose record is kept for `retention`. Fails only where the store does.
    pub(crate) fn apply(
        &mut self,
        index: u64,
        time: Timestamp,
        retention: Retention,
        event: &Event,
    ) -> Result<(), StoreError> {
        let stamp = Stamp { period: RecordPeriod::new(time, retention), from: index };
        if let Some(new) = event.new_subject() {
            self.put_subject(index, &new, stamp);
        }
        if let Some(subject) = names(event) {
            self.rows.put(index, keys::trace(subject, stamp.period), Stamp { from: 0, ..stamp }.row(&[]));
        }
        match event {
            Event::LogOpened(_) | Event::Refused(_) | Event::TracesRead(_) => {}
            Event::Carried(event) => self.apply_carried(index, Stamp { from: event.from, ..stamp }, &event.fact)?,
            Event::Purged(event) => {
                self.purged.insert(event.period);
                self.purged_dirty = true;
                self.subjects.clear();
            }
            Event::RegistryChanged(event) => {
                Arc::make_mut(&mut self.registry).apply(event.change.clone());
                self.registry_version = index.saturating_add(1);
                self.registry_dirty = true;
            }
            Event::ConsentGranted(event) => self.apply_grant(index, stamp, event)?,
            Event::ConsentWithdrawn(event) => self.apply_withdrawal(index, time, event)?,
            Event::ObjectionRecorded(event) => self.put_objection(index, stamp, &event.objection)?,
            Event::ObjectionLifted(event) => self.rows.remove(index, objection_key(&event.objection)),
            Event::Requested(event) => self.apply_request(index, time, stamp, event)?,
            Event::Answered(event) => self.close(event.requested),
            Event::Dropped(event) => self.close(event.requested),
            Event::Failed(event) => self.close(event.requested),
        }
        self.size = index.saturating_add(1);
        self.time = self.time.max(time);
        Ok(())
    }

    fn close(&mut self, requested: u64) {
        self.open.remove(&requested);
    }

    fn put_subject(&mut self, index: u64, new: &NewSubject, stamp: Stamp) {
        let key = keys::subject(&new.tag);
        self.met.add(&key);
        self.rows.put(index, key, stamp.row(&new.subject.0));
        // What is at hand may be older.
        self.subjects.remove(&new.tag);
    }

    fn put_objection(&mut self, index: u64, stamp: Stamp, objection: &Objection) -> Result<(), StoreError> {
        self.rows.put(index, objection_key(objection), stamp.row(&encode(objection)?));
        Ok(())
    }

    fn apply_carried(&mut self, index: u64, stamp: Stamp, fact: &CarriedFact) -> Result<(), StoreError> {
        match fact {
            CarriedFact::Subject(new) => self.put_subject(index, new, stamp),
            CarriedFact::Objection(objection) => self.put_objection(index, stamp, objection)?,
        }
        Ok(())
    }

    /// The state after an entry whose record was purged: what of it was carried over later is known since then.
    pub(crate) fn apply_purged(&mut self, index: u64, time: Timestamp, kept: &[Kept]) -> Result<(), StoreError> {
        for Kept { carried, period } in kept {
            // Of the record that carries it: it lives on when the first record's period is purged.
            self.apply_carried(index, Stamp { period: *period, from: index }, &carried.fact)?;
        }
        self.size = index.saturating_add(1);
        self.time = self.time.max(time);
        Ok(())
    }

    fn apply_grant(&mut self, index: u64, stamp: Stamp, event: &ConsentGranted) -> Result<(), StoreError> {
        let consent = &event.consent;
        self.rows.put(index, keys::consent_place(consent.id), stamp.row(&keys::consent(consent)));
        self.put_consent(index, stamp, consent)
    }

    fn put_consent(&mut self, index: u64, stamp: Stamp, consent: &Consent) -> Result<(), StoreError> {
        self.rows.put(index, keys::consent(consent), stamp.row(&encode(consent)?));
        Ok(())
    }

    fn apply_withdrawal(&mut self, index: u64, time: Timestamp, event: &ConsentWithdrawn) -> Result<(), StoreError> {
        if let Some((stamp, mut consent)) = self.consent_with_stamp(event.consent)? {
            consent.status = ConsentStatus::Withdrawn { at: time };
            self.put_consent(index, stamp, &consent)?;
        }
        Ok(())
    }

    fn apply_request(
        &mut self,
        index: u64,
        time: Timestamp,
        stamp: Stamp,
        event: &Requested,
    ) -> Result<(), StoreError> {
        let question = &event.question;
        let first = event.attempt == 1;
        let at =
            if first { time } else { self.earlier(question.consumer, &question.request_id)?.map_or(time, |e| e.at) };
        let row = Earlier {
            exchange: event.exchange,
            content: question.content,
            at,
            attempts: event.attempt,
            consent: event.consent,
        };
        let key = keys::request(question.consumer, &question.request_id);
        self.met.add(&key);
        self.rows.put(index, key, stamp.row(&encode_earlier(&row)));
        if first {
            self.count_use(index, time, &event.habilitation)?;
            let consent = event.consent.map(|id| self.consent_with_stamp(id)).transpose()?.flatten();
            if let Some((stamp, mut consent)) = consent {
                consent.uses = consent.uses.saturating_add(1);
                self.put_consent(index, stamp, &consent)?;
            }
        }
        let retention = stamp.period.retention;
        self.open.insert(index, OpenExchange { exchange: event.exchange, subject: question.subject, retention });
        Ok(())
    }

    fn count_use(&mut self, index: u64, time: Timestamp, id: &HabilitationId) -> Result<(), StoreError> {
        if self.registry.habilitation(id).is_none_or(|h| h.quota_per_day.is_none()) {
            return Ok(());
        }
        let key = keys::usage(id);
        let today = time.day();
        let row: Option<UsageRow> = self.rows.get(&key)?.map(|row| decode(&row)).transpose()?;
        let count = row.filter(|row| row.day == today).map_or(0, |row| row.count).saturating_add(1);
        self.rows.put(index, key, encode(&UsageRow { day: today, count })?);
        Ok(())
    }
}
