//! How each event changes the state.

use std::borrow::Cow;
use std::sync::Arc;

use unefois_consent::decide::Earlier;
use unefois_consent::event::{
    CarriedFact, ConsentDecided, ConsentRecorded, Decision, Event, MandateEnded, MandateGranted, NewSubject, Requested,
};
use unefois_consent::{
    Consent, HabilitationId, Mandate, Objection, ProcedureId, Question, RecordPeriod, Retention, Siret, SubjectRef,
    Timestamp,
};

use super::{OpenExchange, Stamp, State, Trace, UsageRow, decode, encode, encode_earlier, keys};
use crate::purge::Kept;
use crate::rows::Key;
use crate::store::StoreError;

/// The persons whom an event names. The end of an exchange does so too, but goes with its beginning.
fn names(event: &Event) -> impl Iterator<Item = SubjectRef> {
    let named = match event {
        Event::ConsentRequested(event) | Event::ConsentGranted(event) | Event::ConsentRenewed(event) => {
            [Some(event.consent.subject), None]
        }
        Event::ConsentRefused(event)
        | Event::ConsentPaused(event)
        | Event::ConsentResumed(event)
        | Event::ConsentWithdrawn(event)
        | Event::ConsentRevoked(event)
        | Event::ConsentInvalidated(event) => [Some(event.subject), None],
        Event::ObjectionRecorded(event) | Event::ObjectionLifted(event) => [Some(event.objection.subject), None],
        Event::MandateGranted(event) => [Some(event.mandate.principal), Some(event.mandate.representative)],
        Event::MandateEnded(event) => [Some(event.principal), None],
        Event::Requested(event) => [Some(event.question.subject), None],
        Event::Refused(event) => [Some(event.question.subject), None],
        Event::LogOpened(_)
        | Event::ShardClosed(_)
        | Event::RegistryChanged(_)
        | Event::Carried(_)
        | Event::Purged(_)
        | Event::Answered(_)
        | Event::Dropped(_)
        | Event::Failed(_)
        | Event::TracesRead(_) => [None, None],
    };
    named.into_iter().flatten()
}

pub(super) fn objection_key(objection: &Objection) -> Key {
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
            Event::LogOpened(_) | Event::ShardClosed(_) | Event::RegistryChanged(_) | Event::Purged(_) => {
                Retention::LOG
            }
            Event::ConsentRequested(event) | Event::ConsentGranted(event) | Event::ConsentRenewed(event) => {
                Retention::of_consent(time, event.consent.expires_at)
            }
            Event::ConsentRefused(event)
            | Event::ConsentPaused(event)
            | Event::ConsentResumed(event)
            | Event::ConsentWithdrawn(event)
            | Event::ConsentRevoked(event)
            | Event::ConsentInvalidated(event) => self
                .consent(event.consent)?
                .map_or(Retention::TRACES, |consent| Retention::of_consent(time, consent.expires_at)),
            Event::MandateGranted(event) => Retention::of_consent(time, event.mandate.expires_at),
            Event::MandateEnded(event) => self
                .mandate(event.mandate)?
                .map_or(Retention::TRACES, |mandate| Retention::of_consent(time, mandate.expires_at)),
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
        for new in event.new_subjects() {
            self.put_subject(&new, stamp);
        }
        for subject in names(event) {
            self.rows.put(keys::trace(subject, index), stamp.row(&Trace::encode(event.kind(), None)));
        }
        match event {
            Event::LogOpened(_) | Event::ShardClosed(_) | Event::Refused(_) | Event::TracesRead(_) => {}
            Event::Carried(event) => self.apply_carried(Stamp { from: event.from, ..stamp }, &event.fact)?,
            Event::Purged(event) => {
                self.purged.insert(event.period);
                self.purged_dirty = true;
                // Nothing of a purged record stays.
                self.subjects.clear();
                self.consents.get_mut().clear();
            }
            Event::RegistryChanged(event) => {
                Arc::make_mut(&mut self.registry).apply(event.change.clone());
                self.registry_version = index.saturating_add(1);
                self.registry_dirty = true;
            }
            Event::ConsentRequested(event) | Event::ConsentGranted(event) | Event::ConsentRenewed(event) => {
                self.apply_consent(index, stamp, event)?;
            }
            Event::ConsentRefused(event) => self.apply_decision(index, time, stamp, Decision::Refuse, event)?,
            Event::ConsentPaused(event) => self.apply_decision(index, time, stamp, Decision::Pause, event)?,
            Event::ConsentResumed(event) => self.apply_decision(index, time, stamp, Decision::Resume, event)?,
            Event::ConsentWithdrawn(event) => self.apply_decision(index, time, stamp, Decision::Withdraw, event)?,
            Event::ConsentRevoked(event) => self.apply_decision(index, time, stamp, Decision::Revoke, event)?,
            Event::ConsentInvalidated(event) => self.apply_decision(index, time, stamp, Decision::Invalidate, event)?,
            Event::ObjectionRecorded(event) => {
                self.put_objection(stamp, &event.objection)?;
                self.put_change(index, stamp, event.objection.consumer);
            }
            Event::ObjectionLifted(event) => {
                self.rows.remove(objection_key(&event.objection));
                self.put_change(index, stamp, event.objection.consumer);
            }
            Event::MandateGranted(event) => self.apply_mandate(index, stamp, event)?,
            Event::MandateEnded(event) => self.apply_mandate_end(index, time, stamp, event)?,
            Event::Requested(event) => self.apply_request(index, time, stamp, event)?,
            Event::Answered(event) => self.close(index, event.requested)?,
            Event::Dropped(event) => self.close(index, event.requested)?,
            Event::Failed(event) => self.close(index, event.requested)?,
        }
        self.size = index.saturating_add(1);
        self.time = self.time.max(time);
        Ok(())
    }

    /// The exchange that began with entry `requested` ends with entry `index`.
    fn close(&mut self, index: u64, requested: u64) -> Result<(), StoreError> {
        let Some(open) = self.open.remove(&requested) else { return Ok(()) };
        let key = keys::trace(open.subject, requested);
        if let Some((stamp, row)) = self.live(&key)? {
            let kind = row.first().copied().unwrap_or_default();
            self.rows.put(key, stamp.row(&Trace::encode(kind, Some(index))));
        }
        Ok(())
    }

    fn put_subject(&mut self, new: &NewSubject, stamp: Stamp) {
        let key = keys::subject(&new.tag);
        self.met.add(&key);
        self.rows.put(key, stamp.row(&new.subject.0));
        // What is at hand may be older.
        self.subjects.remove(&new.tag);
    }

    fn put_objection(&mut self, stamp: Stamp, objection: &Objection) -> Result<(), StoreError> {
        self.rows.put(objection_key(objection), stamp.row(&encode(objection)?));
        Ok(())
    }

    fn apply_carried(&mut self, stamp: Stamp, fact: &CarriedFact) -> Result<(), StoreError> {
        match fact {
            CarriedFact::Subject(new) => self.put_subject(new, stamp),
            CarriedFact::Objection(objection) => self.put_objection(stamp, objection)?,
        }
        Ok(())
    }

    /// The state after an entry whose record was purged: what of it was carried over later is known since then.
    pub(crate) fn apply_purged(&mut self, index: u64, time: Timestamp, kept: &[Kept]) -> Result<(), StoreError> {
        for Kept { carried, period } in kept {
            // Of the record that carries it: it lives on when the first record's period is purged.
            self.apply_carried(Stamp { period: *period, from: index }, &carried.fact)?;
        }
        self.size = index.saturating_add(1);
        self.time = self.time.max(time);
        Ok(())
    }

    fn apply_consent(&mut self, index: u64, stamp: Stamp, event: &ConsentRecorded) -> Result<(), StoreError> {
        let mut consent = Cow::Borrowed(&event.consent);
        match self.consent(consent.id)? {
            None => self.met.add(&keys::consent(consent.id)),
            Some(before) => {
                self.rows.remove(keys::consent_place(&before));
                // The windows go on where they are the same: what was used of one stays used.
                if before.window.is_some() && (before.usage, before.not_before) == (consent.usage, consent.not_before) {
                    consent.to_mut().window = before.window;
                }
            }
        }
        self.rows.put(keys::consent_place(&consent), stamp.row(&[]));
        self.put_consent(stamp, &consent)?;
        self.put_change(index, stamp, consent.consumer);
        Ok(())
    }

    fn put_consent(&mut self, stamp: Stamp, consent: &Consent) -> Result<(), StoreError> {
        let (row, new_terms) = self.terms.encode(consent)?;
        if let Some((key, terms)) = new_terms {
            self.rows.put(key, terms);
        }
        self.rows.put(keys::consent(consent.id), stamp.row(&row));
        // Only what was looked at is kept at hand: most consents are not, for a long time after they are given.
        if let Some(mut at_hand) = self.consents.get_mut().get_mut(&consent.id) {
            *at_hand = (stamp, row.into());
        }
        Ok(())
    }

    /// The administration finds the entry among its changes as long as its record is kept.
    fn put_change(&mut self, index: u64, stamp: Stamp, consumer: Siret) {
        self.rows.put(keys::change(consumer, index), stamp.row(&[]));
    }

    fn apply_decision(
        &mut self,
        index: u64,
        time: Timestamp,
        own: Stamp,
        decision: Decision,
        event: &ConsentDecided,
    ) -> Result<(), StoreError> {
        let Some((stamp, mut consent)) = self.consent_with_stamp(event.consent)? else { return Ok(()) };
        if let Ok(Some(status)) = consent.decided(decision, event.person.is_some(), time) {
            consent.status = status;
            self.put_consent(stamp, &consent)?;
        }
        self.put_change(index, own, consent.consumer);
        Ok(())
    }

    fn apply_mandate(&mut self, index: u64, stamp: Stamp, event: &MandateGranted) -> Result<(), StoreError> {
        let mandate = &event.mandate;
        for subject in [mandate.principal, mandate.representative] {
            self.rows.put(keys::mandate_place(subject, mandate.id), stamp.row(&[]));
        }
        self.put_mandate(stamp, mandate)?;
        self.put_change(index, stamp, mandate.consumer);
        Ok(())
    }

    fn put_mandate(&mut self, stamp: Stamp, mandate: &Mandate) -> Result<(), StoreError> {
        self.rows.put(keys::mandate(mandate.id), stamp.row(&encode(mandate)?));
        Ok(())
    }

    fn apply_mandate_end(
        &mut self,
        index: u64,
        time: Timestamp,
        own: Stamp,
        event: &MandateEnded,
    ) -> Result<(), StoreError> {
        let Some((stamp, mut mandate)) = self.mandate_with_stamp(event.mandate)? else { return Ok(()) };
        mandate.ended_at = Some(time);
        self.put_mandate(stamp, &mandate)?;
        self.put_change(index, own, mandate.consumer);
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
        self.rows.put(key, stamp.row(&encode_earlier(&row)));
        if first {
            self.count_use(time, &event.habilitation)?;
            let consent = event.consent.map(|id| self.consent_with_stamp(id)).transpose()?.flatten();
            if let Some((stamp, mut consent)) = consent {
                consent.count_use(time);
                self.put_consent(stamp, &consent)?;
            }
        }
        let retention = stamp.period.retention;
        self.open.insert(index, OpenExchange { exchange: event.exchange, subject: question.subject, retention });
        Ok(())
    }

    fn count_use(&mut self, time: Timestamp, id: &HabilitationId) -> Result<(), StoreError> {
        if self.registry.habilitation(id).is_none_or(|h| h.quota_per_day.is_none()) {
            return Ok(());
        }
        let key = keys::usage(id);
        let today = time.day();
        let row: Option<UsageRow> = self.rows.get(&key)?.map(|row| decode(&row)).transpose()?;
        let count = row.filter(|row| row.day == today).map_or(0, |row| row.count).saturating_add(1);
        self.rows.put(key, encode(&UsageRow { day: today, count })?);
        Ok(())
    }
}
