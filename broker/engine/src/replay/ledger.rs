//! Derives the entries of the consent ledger: each must be one that the broker would have written at its place.

use std::cmp::Ordering;

use unefois_consent::collect::{answers, check_answer_by, check_consent, check_mandate, renews};
use unefois_consent::decide::Recorded;
use unefois_consent::event::{
    Actor, ConsentDecided, ConsentRecorded, Decision, Event, MandateEnded, MandateGranted, ObjectionChanged, RestKind,
};
use unefois_consent::registry::Role;
use unefois_consent::{Consent, ConsentStatus, Grantor, Mandate, MandateId, Objection, Retention, Siret, Timestamp};

use super::derive::{At, Derivation, Derived, Fault, must, no};
use super::past::Gone;

impl Derivation {
    /// Fails where `event`, one of the ledger's, does not follow.
    pub(super) fn ledger(&self, at: At<'_>, event: &Event) -> Result<Derived, Fault> {
        if let Some((decision, decided)) = event.facts().decision {
            return self.decided(at, decision, decided);
        }
        if let Event::ConsentRequested(recorded) = event {
            return self.request(at, recorded);
        }
        if let Event::ConsentGranted(recorded) = event {
            return self.grant(at, recorded);
        }
        if let Event::ConsentRenewed(recorded) = event {
            return self.renewal(at, recorded);
        }
        if let Event::ObjectionRecorded(changed) = event {
            return self.objects(at, changed);
        }
        if let Event::ObjectionLifted(changed) = event {
            return self.lifts(at, changed);
        }
        if let Event::MandateGranted(granted) = event {
            return self.mandate(at.time, granted);
        }
        if let Event::MandateEnded(ended) = event {
            return self.mandate_end(at, ended);
        }
        no("is no entry of the ledger")
    }

    /// A consent as it must be when it is given, asked for or renewed.
    fn consent(&self, at: At<'_>, recorded: &ConsentRecorded) -> Result<Derived, Fault> {
        let consent = &recorded.consent;
        self.known(consent.subject)?;
        must(consent.granted_at == at.time && consent.uses == 0, "is not a new consent")?;
        let role = if recorded.person.is_some() { Role::Portal } else { Role::Exchange };
        self.enrolled(recorded.by, &[role])?;
        let own = recorded.person.is_some() || recorded.by.participant == consent.consumer;
        must(own, "was recorded by another administration")?;
        self.is_kept_as_long(at, recorded)?;
        if let Some(proof) = &recorded.person {
            must(consent.assurance.as_ref() == Some(&proof.assurance), "was proven in another way than it says")?;
        }
        let rule = |fault| no(format!("is a consent that breaks a rule: {fault}"));
        let Some(id) = consent.grantor.mandate() else {
            must(recorded.mandate_entry.is_none(), "names a mandate, and the person gave it")?;
            check_consent(self.state.registry(), consent, None, at.time).or_else(rule)?;
            return Ok(Derived::Decision);
        };
        if at.destroyed.at(at.index, RestKind::Mandate, recorded.mandate_entry)?.is_some() {
            let by_person = Consent { grantor: Grantor::Person, ..consent.clone() };
            check_consent(self.state.registry(), &by_person, None, at.time).or_else(rule)?;
            return Ok(Derived::Rests);
        }
        let mandate = self.mandate_at(id, recorded.mandate_entry)?;
        check_consent(self.state.registry(), consent, mandate.as_deref(), at.time).or_else(rule)?;
        Ok(Derived::Decision)
    }

    /// The record is kept until the version, and each one before it, has ended for 36 months.
    fn is_kept_as_long(&self, at: At<'_>, recorded: &ConsentRecorded) -> Result<(), Fault> {
        let end = recorded.consent.expires_at;
        if let Some(gone) = at.destroyed.at(at.index, RestKind::Version, recorded.before)? {
            let is_longer = recorded.kept_after > end && is_kept_until(gone, recorded.kept_after);
            return must(recorded.kept_after == end || is_longer, "is kept for another time than its versions");
        }
        let before = self.state.consent_kept_after(recorded.consent.id)?;
        must(
            recorded.kept_after == before.map_or(end, |before| before.max(end)),
            "is kept for another time than its versions",
        )
    }

    /// The mandate, where it is the one that entry `named` granted.
    fn mandate_at(&self, id: MandateId, named: Option<u64>) -> Result<Option<Recorded<Mandate>>, Fault> {
        let mandate = self.state.mandate_recorded(id)?;
        let same = mandate.as_ref().map(|mandate| mandate.index) == named;
        must(same, "names another entry of the mandate than the one that granted it")?;
        Ok(mandate)
    }

    fn request(&self, at: At<'_>, recorded: &ConsentRecorded) -> Result<Derived, Fault> {
        let consent = &recorded.consent;
        must(self.state.consent(consent.id)?.is_none() && recorded.before.is_none(), "asks for a consent twice")?;
        let is_first = recorded.person.is_none()
            && recorded.given_again.is_empty()
            && (consent.version, consent.window) == (1, None);
        must(is_first, "is no request of an administration")?;
        let derived = self.consent(at, recorded)?;
        let ConsentStatus::Requested { answer_by, .. } = consent.status else { return no("is no request") };
        check_answer_by(consent, answer_by, at.time)
            .or_else(|fault| no(format!("is a request that breaks a rule: {fault}")))?;
        Ok(derived)
    }

    fn grant(&self, at: At<'_>, recorded: &ConsentRecorded) -> Result<Derived, Fault> {
        let consent = &recorded.consent;
        let is_new = consent.status == ConsentStatus::Granted && consent.version == 1 && consent.window.is_none();
        must(is_new, "is not a new consent")?;
        let derived = self.consent(at, recorded)?;
        let derived = self.held_back(at, recorded)?.unwrap_or(derived);
        if at.destroyed.at(at.index, RestKind::Version, recorded.before)?.is_some() {
            return Ok(Derived::Rests);
        }
        match self.version_before(recorded)? {
            None => must(recorded.person.is_none(), "answers a request that is not there")?,
            Some(request) => {
                must(answers(&request, consent, at.time), "grants a consent twice, or is no answer to its request")?;
            }
        }
        Ok(derived)
    }

    fn renewal(&self, at: At<'_>, recorded: &ConsentRecorded) -> Result<Derived, Fault> {
        let consent = &recorded.consent;
        let derived = self.consent(at, recorded)?;
        let derived = self.held_back(at, recorded)?.unwrap_or(derived);
        must(consent.status == ConsentStatus::Granted && consent.version > 1, "is no renewal")?;
        if at.destroyed.at(at.index, RestKind::Version, recorded.before)?.is_some() {
            return Ok(Derived::Rests);
        }
        let Some(mut current) = self.version_before(recorded)? else {
            return no("renews a consent that is not there to renew");
        };
        let rests = if at.destroyed.at(at.index, RestKind::Request, recorded.window_entry)?.is_some() {
            // How often the window was used is as the entry says it.
            current.fact.window = consent.window;
            Derived::Rests
        } else {
            let last_use = current.last_use.filter(|_| consent.window.is_some());
            must(recorded.window_entry == last_use, "names another entry than the one that used its window last")?;
            derived
        };
        let next = renews(&current, consent, recorded.decided_by());
        must(next, "renews a consent that is not there to renew")?;
        Ok(rests)
    }

    /// No proven person's decision stands in the way of the consent, or what ended it was purged since.
    fn held_back(&self, at: At<'_>, recorded: &ConsentRecorded) -> Result<Option<Derived>, Fault> {
        let found = self.state.held_back(&recorded.consent, recorded.decided_by())?;
        let named = &recorded.given_again;
        must(named.is_sorted_by(|a, b| a < b), "names what was given again twice, or not in order")?;
        must(found.given_again.iter().all(|index| named.contains(index)), "does not name what was given again")?;
        let mut rests = None;
        for index in named.iter().filter(|index| !found.given_again.contains(index)) {
            let gone = at.destroyed.at(at.index, RestKind::Version, Some(*index))?;
            let is_proven = gone.is_some() || at.reads_proven_consent(*index, &recorded.consent)?;
            must(is_proven, "names an entry as given again that is not")?;
            rests = rests.or(gone.map(|_| Derived::Rests));
        }
        must(!found.is_held || rests.is_some(), "gives a consent that the person, proven, holds back")?;
        Ok(rests)
    }

    /// The version that is there, which must be the one that the entry says it answers or renews.
    fn version_before(&self, recorded: &ConsentRecorded) -> Result<Option<Recorded<Consent>>, Fault> {
        let there = self.state.consent_recorded(recorded.consent.id)?;
        let same = there.as_ref().map(|there| there.index) == recorded.before;
        must(same, "grants a consent twice, or answers or renews another entry than the one that is there")?;
        Ok(there)
    }

    fn decided(&self, at: At<'_>, decision: Decision, decided: &ConsentDecided) -> Result<Derived, Fault> {
        self.may_decide(decision, decided)?;
        if let Some(gone) = at.destroyed.at(at.index, RestKind::Version, Some(decided.recorded))? {
            must(is_kept_until(gone, decided.kept_after), "was decided on a version that is kept for another time")?;
            return Ok(Derived::Rests);
        }
        let there = self.state.consent_recorded(decided.consent)?.filter(|there| there.index == decided.recorded);
        let Some(consent) = there else { return no("decides on a consent that is not there") };
        let same = (decided.subject, decided.consumer) == (consent.subject, consent.consumer);
        must(same, "decides on somebody else's consent")?;
        let kept = self.state.consent_kept_after(decided.consent)? == Some(decided.kept_after);
        must(kept, "is kept for another time than the version that it was decided on")?;
        let derived = self.may_act(at, decided, &consent)?;
        let changes = matches!(consent.decided(decision, decided.decided_by(), at.time), Ok(Some(_)));
        must(changes, "takes a decision that the consent's state does not allow")?;
        Ok(derived)
    }

    /// Who decides may take such a decision.
    fn may_decide(&self, decision: Decision, decided: &ConsentDecided) -> Result<(), Fault> {
        let is_of_person =
            matches!(decision, Decision::Refuse | Decision::Pause | Decision::Resume | Decision::Withdraw);
        match (&decided.person, decision) {
            (Some(_), _) => {
                must(is_of_person, "is not for a person to decide")?;
                self.enrolled(decided.by, &[Role::Portal])
            }
            (None, Decision::Revoke) => self.enrolled(decided.by, &[Role::Registry]),
            (None, _) => {
                self.enrolled(decided.by, &[Role::Exchange])?;
                must(decided.consumer == decided.by.participant, "decides on another administration's consent")
            }
        }
    }

    fn may_act(&self, at: At<'_>, decided: &ConsentDecided, consent: &Consent) -> Result<Derived, Fault> {
        let Some(id) = decided.mandate else {
            must(decided.mandate_entry.is_none(), "names a mandate, and nobody acted under one")?;
            return Ok(Derived::Decision);
        };
        if at.destroyed.at(at.index, RestKind::Mandate, decided.mandate_entry)?.is_some() {
            return Ok(Derived::Rests);
        }
        let may = self.mandate_at(id, decided.mandate_entry)?.is_some_and(|m| {
            m.is_in_force(at.time)
                && m.principal == consent.subject
                && m.consumer == consent.consumer
                && m.covers(&consent.procedure)
        });
        must(may, "was decided under a mandate that does not allow it")?;
        Ok(Derived::Decision)
    }

    fn objection(&self, changed: &ObjectionChanged) -> Result<(), Fault> {
        self.known(changed.objection.subject)?;
        let consumer = changed.objection.consumer;
        let registry = self.state.registry();
        must(registry.participant(consumer).is_some(), "is an objection against nobody")?;
        let is_there = changed.objection.procedure.as_ref().is_none_or(|id| registry.procedure(id).is_some());
        must(is_there, "is an objection to a procedure that is not there")?;
        if changed.person.is_some() {
            self.enrolled(changed.by, &[Role::Portal])
        } else {
            self.enrolled(changed.by, &[Role::Exchange])?;
            must(consumer == changed.by.participant, "is an objection against another administration")
        }
    }

    /// The objection that was there and in force, which must be the one that the entry names.
    fn objection_before(&self, at: At<'_>, changed: &ObjectionChanged) -> Result<Option<Objection>, Fault> {
        let there = self.state.objection(&changed.objection)?.filter(|there| there.is_in_force(at.time));
        let same = there.as_ref().map(|there| there.index) == changed.before;
        must(same, "says of an objection that another one was there, or none")?;
        Ok(there.map(|there| there.fact))
    }

    fn objects(&self, at: At<'_>, changed: &ObjectionChanged) -> Result<Derived, Fault> {
        self.objection(changed)?;
        let (objection, by_person) = (&changed.objection, changed.person.is_some());
        let lapses_at = Objection::lapses_after(at.time);
        if let Some(gone) = at.destroyed.at(at.index, RestKind::Objection, changed.before)? {
            must(was_in_force(gone, at.time), "confirms an objection that had lapsed")?;
            let as_before = objection.lapses_at > lapses_at && is_of_objection(gone, objection.lapses_at);
            must(objection.lapses_at == lapses_at || as_before, OTHER_LAPSE)?;
            must(objection.by_person || !by_person, "says of an objection that it is not the person's")?;
            return Ok(Derived::Rests);
        }
        let expected = match self.objection_before(at, changed)? {
            None => Some(Objection { by_person, lapses_at, ..objection.clone() }),
            Some(before) => before.confirmed(by_person, at.time),
        };
        must(expected.is_some(), "records an objection that is there already")?;
        must(expected.as_ref().is_some_and(|expected| expected.lapses_at == objection.lapses_at), OTHER_LAPSE)?;
        let is_same = expected.as_ref() == Some(objection);
        must(is_same, "says of an objection that it is the person's, or not theirs")?;
        Ok(Derived::Decision)
    }

    fn lifts(&self, at: At<'_>, changed: &ObjectionChanged) -> Result<Derived, Fault> {
        self.objection(changed)?;
        let may = !changed.objection.by_person || changed.person.is_some();
        must(may, "lifts an objection that is the person's to lift")?;
        if let Some(gone) = at.destroyed.at(at.index, RestKind::Objection, changed.before)? {
            let lifted = &changed.objection;
            let may_be = lifted.is_in_force(at.time) && is_of_objection(gone, lifted.lapses_at);
            must(may_be, "lifts another objection")?;
            return Ok(Derived::Rests);
        }
        let Some(lifted) = self.objection_before(at, changed)? else {
            return no("lifts an objection that is not there");
        };
        must(lifted == changed.objection, "lifts another objection")?;
        Ok(Derived::Decision)
    }

    fn mandate(&self, time: Timestamp, granted: &MandateGranted) -> Result<Derived, Fault> {
        let mandate = &granted.mandate;
        self.known(mandate.principal)?;
        self.known(mandate.representative)?;
        must(self.state.mandate(mandate.id)?.is_none(), "grants a mandate twice")?;
        must(mandate.recorded_at == time && mandate.ended_at.is_none(), "is not a new mandate")?;
        self.enrolled(granted.by, &[Role::Exchange])?;
        must(granted.by.participant == mandate.consumer, "is a mandate towards another administration")?;
        check_mandate(self.state.registry(), mandate, time)
            .or_else(|fault| no(format!("is a mandate that breaks a rule: {fault}")))?;
        Ok(Derived::Decision)
    }

    fn mandate_end(&self, at: At<'_>, ended: &MandateEnded) -> Result<Derived, Fault> {
        self.may_end(ended.by, ended.person.is_some(), ended.consumer)?;
        if let Some(gone) = at.destroyed.at(at.index, RestKind::Mandate, Some(ended.granted))? {
            must(is_kept_until(gone, ended.expires_at), "ends a mandate that would have ended at another time")?;
            return Ok(Derived::Rests);
        }
        let there = self.state.mandate_recorded(ended.mandate)?;
        let Some(mandate) = there.filter(|m| m.ended_at.is_none() && m.index == ended.granted) else {
            return no("ends a mandate that is not there to end");
        };
        let same = (ended.principal, ended.consumer, ended.expires_at)
            == (mandate.principal, mandate.consumer, mandate.expires_at);
        must(same, "ends somebody else's mandate")?;
        Ok(Derived::Decision)
    }

    fn may_end(&self, by: Actor, is_person: bool, consumer: Siret) -> Result<(), Fault> {
        if is_person {
            return self.enrolled(by, &[Role::Portal]);
        }
        self.enrolled(by, &[Role::Exchange])?;
        must(consumer == by.participant, "ends another administration's mandate")
    }
}

const OTHER_LAPSE: &str = "lapses at another time than the law says";

/// Whether a purged record was kept as one is of what ends at `end`.
fn is_kept_until(gone: Gone, end: Timestamp) -> bool {
    gone.retention == Retention::of_consent(gone.time, end)
}

/// Whether a purged objection may have lapsed at `end`.
fn is_of_objection(gone: Gone, end: Timestamp) -> bool {
    gone.retention == Retention::of_objection(gone.time, end) && end >= Objection::lapses_after(gone.time)
}

/// Whether a purged objection may have been in force at `time`.
fn was_in_force(gone: Gone, time: Timestamp) -> bool {
    match gone.retention.cmp(&Retention::OBJECTIONS) {
        Ordering::Less => false,
        Ordering::Equal => time < Objection::lapses_after(gone.time),
        // It lapsed in that month, at an hour that went with its record.
        Ordering::Greater => !gone.retention.is_over(gone.time.month(), time.month()),
    }
}
