//! How each event changes the state.

use std::sync::Arc;

use unefois_consent::decide::{Earlier, Recorded};
use unefois_consent::event::{
    CarriedFact, ConsentDecided, ConsentUses, Decision, Event, NewSubject, Purged, Requested, Used,
};
use unefois_consent::{
    Consent, HabilitationId, Mandate, MandateId, Objection, ProcedureId, RecordPeriod, Retention, Timestamp,
};

use super::consent_row::ConsentRow;
use super::{OpenExchange, Stamp, State, Trace, UsageRow, decode, encode, encode_earlier, keys};
use crate::purge::Kept;
use crate::rows::Key;
use crate::store::StoreError;

pub(super) fn objection_key(objection: &Objection) -> Key {
    let procedure = objection.procedure.as_ref().map(ProcedureId::as_str);
    keys::objection(objection.subject, objection.consumer, procedure)
}

impl State {
    /// How long the record of `event` is kept, by the state before it.
    pub(crate) fn retention(&self, time: Timestamp, event: &Event) -> Retention {
        event.facts().keep.retention(time, &self.registry, |requested| self.open.get(&requested).map(|o| o.retention))
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
        let facts = event.facts();
        for new in facts.introduces() {
            self.put_subject(&new, stamp);
        }
        for subject in facts.names() {
            self.rows.put(keys::trace(subject, index), stamp.row(&Trace::encode(event.kind(), None)));
        }
        if let Some(consumer) = facts.consumer {
            // The administration finds the entry among its changes as long as its record is kept.
            self.rows.put(keys::change(consumer, index), stamp.row(&[]));
        }
        if let Some((decision, decided)) = facts.decision {
            self.apply_decision(time, decision, decided)?;
        }
        self.apply_effect(stamp, time, event)?;
        self.size = index.saturating_add(1);
        self.time = self.time.max(time);
        Ok(())
    }

    /// What an entry does besides what [`Event::facts`] tells; what it decides on a consent is done already.
    fn apply_effect(&mut self, stamp: Stamp, time: Timestamp, event: &Event) -> Result<(), StoreError> {
        match event {
            Event::LogOpened(event) => {
                self.log.rules = Some(event.rules);
                self.log.subject_key.get_or_insert(event.subject_key);
                if event.clock.is_some() {
                    self.accept_clock(time);
                }
                self.log_dirty = true;
            }
            Event::KeyMade(event) => {
                self.log.keys.insert(event.period, event.check);
                self.log_dirty = true;
            }
            Event::RulesChanged(event) => {
                self.log.rules = Some(event.rules);
                self.log_dirty = true;
            }
            Event::Purged(event) => self.apply_purge(time, event),
            Event::Carried(event) => match &event.fact {
                CarriedFact::Subject(new) => self.put_subject(new, Stamp { from: event.from, ..stamp }),
                // They are in the row of the consent; only one that is built anew lacks them.
                CarriedFact::Uses(_) => {}
            },
            Event::RegistryChanged(event) => {
                Arc::make_mut(&mut self.registry).apply(event.change.clone());
                self.registry_version = stamp.from.saturating_add(1);
                self.registry_dirty = true;
            }
            Event::ConsentRequested(event) => self.apply_consent(stamp, event.kept_after, &event.consent)?,
            Event::ConsentGranted(event) | Event::ConsentRenewed(event) => {
                self.apply_consent(stamp, event.kept_after, &event.consent)?;
                self.lift_holds(stamp, &event.consent, event.decided_by())?;
            }
            Event::ObjectionRecorded(event) => {
                self.rows.put(objection_key(&event.objection), stamp.row(&encode(&event.objection)?));
            }
            Event::ObjectionLifted(event) => self.rows.remove(objection_key(&event.objection)),
            Event::MandateGranted(event) => self.apply_mandate(stamp, &event.mandate)?,
            Event::MandateEnded(event) => self.apply_mandate_end(time, event.mandate)?,
            Event::Requested(event) => self.apply_request(stamp, time, event)?,
            Event::Answered(event) => self.close(stamp.from, event.requested)?,
            Event::Dropped(event) => self.close(stamp.from, event.requested)?,
            Event::Failed(event) => self.close(stamp.from, event.requested)?,
            Event::ShardClosed(_)
            | Event::Refused(_)
            | Event::TracesRead(_)
            | Event::ConsentRefused(_)
            | Event::ConsentPaused(_)
            | Event::ConsentResumed(_)
            | Event::ConsentWithdrawn(_)
            | Event::ConsentRevoked(_)
            | Event::ConsentInvalidated(_) => {}
        }
        Ok(())
    }

    /// The log goes on from `time`, which may be before that of the last entry.
    fn accept_clock(&mut self, time: Timestamp) {
        self.time = time;
        // A day that comes again is counted anew.
        let habilitations: Vec<_> = self.registry.habilitations().map(|held| keys::usage(&held.id)).collect();
        habilitations.into_iter().for_each(|key| self.rows.remove(key));
        // A purge of a time that does not count any more holds up none until that time comes.
        if let Some((due, at)) = &mut self.log.last_purge {
            (*due, *at) = ((*due).min(time.month()), (*at).min(time));
            self.purged.count_uses_from(*due);
        }
    }

    fn apply_purge(&mut self, time: Timestamp, event: &Purged) {
        for covered in &event.periods {
            self.purged.insert(covered.period);
            self.log.keys.remove(&covered.period);
        }
        self.log.last_purge = Some((event.due, time));
        self.purged.count_uses_from(event.due);
        self.log_dirty = true;
        // Nothing of a purged record stays.
        self.subjects.clear();
        self.consents.get_mut().clear();
    }

    /// Whether the exchange that began with entry `requested` has no end yet. Fails where its end could not be applied.
    pub(crate) fn can_close(&self, requested: u64) -> Result<bool, StoreError> {
        let Some(open) = self.open.get(&requested) else { return Ok(false) };
        self.live(&keys::trace(open.subject, requested)).map(|_| true)
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

    /// The state after an entry whose record was purged: what of it was carried over later is known since then.
    pub(crate) fn apply_purged(&mut self, index: u64, time: Timestamp, kept: &[Kept]) -> Result<(), StoreError> {
        for Kept { carried, period } in kept {
            match &carried.fact {
                // Of the record that carries it: it lives on when the first record's period is purged.
                CarriedFact::Subject(new) => self.put_subject(new, Stamp { period: *period, from: index }),
                CarriedFact::Uses(uses) => self.restore_uses(index, uses)?,
            }
        }
        self.size = index.saturating_add(1);
        self.time = self.time.max(time);
        Ok(())
    }

    /// The consent was used so often up to the purged entry `index`.
    fn restore_uses(&mut self, index: u64, uses: &ConsentUses) -> Result<(), StoreError> {
        let Used { recorded, uses: count, window, .. } = uses.used;
        let Some(mut row) = self.consent_row(uses.consent)?.filter(|row| row.stamp.from == recorded) else {
            return Ok(());
        };
        (row.consent.uses, row.consent.window, row.last_use) = (count, window, Some(index));
        self.put_consent(&row)
    }

    fn apply_consent(&mut self, stamp: Stamp, kept_after: Timestamp, consent: &Consent) -> Result<(), StoreError> {
        match self.consent(consent.id)? {
            None => self.met.add(&keys::consent(consent.id)),
            Some(before) => self.rows.remove(keys::consent_place(&before)),
        }
        self.rows.put(keys::consent_place(consent), stamp.row(&[]));
        self.put_consent(&ConsentRow { stamp, last_use: None, kept_after, consent: consent.clone() })
    }

    fn put_consent(&mut self, row: &ConsentRow) -> Result<(), StoreError> {
        let (terms_row, new_terms) = self.terms.encode(&row.consent)?;
        if let Some((key, terms)) = new_terms {
            self.rows.put(key, terms);
        }
        let value = row.encode(&terms_row);
        self.rows.put(keys::consent(row.consent.id), row.stamp.row(&value));
        // Only what was looked at is kept at hand: most consents are not, for a long time after they are given.
        if let Some(mut at_hand) = self.consents.get_mut().get_mut(&row.consent.id) {
            *at_hand = (row.stamp, value.into());
        }
        Ok(())
    }

    fn apply_decision(
        &mut self,
        time: Timestamp,
        decision: Decision,
        event: &ConsentDecided,
    ) -> Result<(), StoreError> {
        let Some(mut row) = self.consent_row(event.consent)? else { return Ok(()) };
        if let Ok(Some(status)) = row.consent.decided(decision, event.decided_by(), time) {
            row.consent.status = status;
            self.put_consent(&row)?;
            self.change_hold(row.stamp, &row.consent, (decision, event))?;
        }
        Ok(())
    }

    fn apply_mandate(&mut self, stamp: Stamp, mandate: &Mandate) -> Result<(), StoreError> {
        for subject in [mandate.principal, mandate.representative] {
            self.rows.put(keys::mandate_place(subject, mandate.id), stamp.row(&[]));
        }
        self.put_mandate(stamp, mandate)
    }

    fn put_mandate(&mut self, stamp: Stamp, mandate: &Mandate) -> Result<(), StoreError> {
        self.rows.put(keys::mandate(mandate.id), stamp.row(&encode(mandate)?));
        Ok(())
    }

    fn apply_mandate_end(&mut self, time: Timestamp, id: MandateId) -> Result<(), StoreError> {
        let Some(Recorded { fact: mut mandate, .. }) = self.mandate_recorded(id)? else { return Ok(()) };
        let Some((stamp, _)) = self.live(&keys::mandate(id))? else { return Ok(()) };
        mandate.ended_at = Some(time);
        self.put_mandate(stamp, &mandate)
    }

    fn apply_request(&mut self, stamp: Stamp, time: Timestamp, event: &Requested) -> Result<(), StoreError> {
        let question = &event.question;
        let row = Earlier {
            exchange: event.exchange,
            content: question.content,
            at: event.first_at.unwrap_or(time),
            attempts: event.attempt,
            consent: event.consent,
            index: stamp.from,
            retention: stamp.period.retention,
        };
        let key = keys::request(question.consumer, &question.request_id);
        self.met.add(&key);
        self.rows.put(key, stamp.row(&encode_earlier(&row)));
        if event.attempt == 1 {
            self.count_use(time, &event.habilitation)?;
            if let Some(mut row) = event.consent.map(|id| self.consent_row(id)).transpose()?.flatten() {
                row.consent.count_use(time);
                row.last_use = Some(stamp.from);
                self.put_consent(&row)?;
            }
        }
        let retention = stamp.period.retention;
        self.open.insert(stamp.from, OpenExchange { exchange: event.exchange, subject: question.subject, retention });
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
