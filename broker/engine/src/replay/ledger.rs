//! Derives the entries of the consent ledger: each must be one that the broker would have written at its place.

use unefois_consent::collect::{answers, check_answer_by, check_consent, check_mandate, renews};
use unefois_consent::event::{
    Actor, ConsentDecided, ConsentRecorded, Decision, Event, MandateEnded, MandateGranted, ObjectionChanged,
};
use unefois_consent::registry::Role;
use unefois_consent::{Consent, ConsentStatus, MandateId, PersonProof, Siret, Timestamp};

use super::derive::{Derivation, Fault, must, no};

impl Derivation {
    /// Fails where `event`, one of the ledger's, does not follow.
    pub(super) fn ledger(&self, time: Timestamp, event: &Event) -> Result<(), Fault> {
        match event {
            Event::ConsentRequested(recorded) => self.request(time, recorded),
            Event::ConsentGranted(recorded) => self.grant(time, recorded),
            Event::ConsentRenewed(recorded) => self.renewal(time, recorded),
            Event::ConsentRefused(decided) => self.decided(time, Decision::Refuse, decided),
            Event::ConsentPaused(decided) => self.decided(time, Decision::Pause, decided),
            Event::ConsentResumed(decided) => self.decided(time, Decision::Resume, decided),
            Event::ConsentWithdrawn(decided) => self.decided(time, Decision::Withdraw, decided),
            Event::ConsentRevoked(decided) => self.decided(time, Decision::Revoke, decided),
            Event::ConsentInvalidated(decided) => self.decided(time, Decision::Invalidate, decided),
            Event::ObjectionRecorded(changed) => self.objects(changed),
            Event::ObjectionLifted(changed) => self.lifts(changed),
            Event::MandateGranted(granted) => self.mandate(time, granted),
            Event::MandateEnded(ended) => self.mandate_end(ended),
            Event::LogOpened(_)
            | Event::ShardClosed(_)
            | Event::RegistryChanged(_)
            | Event::Carried(_)
            | Event::Purged(_)
            | Event::Requested(_)
            | Event::Refused(_)
            | Event::Answered(_)
            | Event::Dropped(_)
            | Event::Failed(_)
            | Event::TracesRead(_) => no("is no entry of the ledger"),
        }
    }

    /// A consent as it must be when it is given, asked for or renewed at `time`.
    fn consent(&self, time: Timestamp, recorded: &ConsentRecorded) -> Result<(), Fault> {
        let consent = &recorded.consent;
        self.known(consent.subject)?;
        must(consent.granted_at == time && consent.uses == 0 && consent.window.is_none(), "is not a new consent")?;
        self.by(recorded.by, recorded.person.as_ref(), consent.consumer)?;
        let grantor = consent.grantor.mandate();
        if let Some(proof) = &recorded.person {
            must(consent.assurance.as_ref() == Some(&proof.assurance), "was proven in another way than it says")?;
        }
        let mandate = grantor.map(|id| self.state.mandate(id)).transpose()?.flatten();
        check_consent(self.state.registry(), consent, mandate.as_ref(), time)
            .or_else(|fault| no(format!("is a consent that breaks a rule: {fault}")))
    }

    /// Through whom a consent came: its administration, or a portal for a proven person.
    fn by(&self, by: Option<Actor>, person: Option<&PersonProof>, consumer: Siret) -> Result<(), Fault> {
        match (by, person) {
            (None, _) => no("was recorded by nobody"),
            (Some(by), Some(_)) => self.enrolled(by, &[Role::Portal]),
            (Some(by), None) => {
                self.enrolled(by, &[Role::Exchange])?;
                must(by.participant == consumer, "was recorded by another administration")
            }
        }
    }

    fn request(&self, time: Timestamp, recorded: &ConsentRecorded) -> Result<(), Fault> {
        let consent = &recorded.consent;
        must(self.state.consent(consent.id)?.is_none(), "asks for a consent twice")?;
        must(recorded.person.is_none() && consent.version == 1, "is no request of an administration")?;
        self.consent(time, recorded)?;
        let ConsentStatus::Requested { answer_by, .. } = consent.status else { return no("is no request") };
        check_answer_by(consent, answer_by, time)
            .or_else(|fault| no(format!("is a request that breaks a rule: {fault}")))?;
        Ok(())
    }

    fn grant(&self, time: Timestamp, recorded: &ConsentRecorded) -> Result<(), Fault> {
        let consent = &recorded.consent;
        must(consent.status == ConsentStatus::Granted && consent.version == 1, "is not a new consent")?;
        match self.state.consent(consent.id)? {
            None => must(recorded.person.is_none(), "answers a request that is not there")?,
            Some(request) => {
                must(answers(&request, consent, time), "grants a consent twice, or is no answer to its request")?
            }
        }
        self.consent(time, recorded)?;
        Ok(())
    }

    fn renewal(&self, time: Timestamp, recorded: &ConsentRecorded) -> Result<(), Fault> {
        let consent = &recorded.consent;
        let current = self.state.consent(consent.id)?;
        let next = current.is_some_and(|current| renews(&current, consent, recorded.person.is_some()));
        must(next && consent.status == ConsentStatus::Granted, "renews a consent that is not there to renew")?;
        self.consent(time, recorded)?;
        Ok(())
    }

    fn decided(&self, time: Timestamp, decision: Decision, decided: &ConsentDecided) -> Result<(), Fault> {
        let Some(consent) = self.state.consent(decided.consent)? else {
            return no("decides on a consent that is not there");
        };
        must(consent.subject == decided.subject, "decides on somebody else's consent")?;
        match (&decided.person, decision) {
            (Some(_), Decision::Revoke | Decision::Invalidate) => return no("is not for a person to decide"),
            (Some(_), Decision::Refuse | Decision::Pause | Decision::Resume | Decision::Withdraw) => {
                self.enrolled(decided.by, &[Role::Portal])?;
                self.may_act(decided.mandate, &consent, time)?;
            }
            (None, Decision::Revoke) => self.enrolled(decided.by, &[Role::Registry])?,
            (None, _) => {
                self.enrolled(decided.by, &[Role::Exchange])?;
                must(consent.consumer == decided.by.participant, "decides on another administration's consent")?;
            }
        }
        let changes = matches!(consent.decided(decision, decided.person.is_some(), time), Ok(Some(_)));
        must(changes, "takes a decision that the consent's state does not allow")?;
        Ok(())
    }

    fn may_act(&self, mandate: Option<MandateId>, consent: &Consent, time: Timestamp) -> Result<(), Fault> {
        let Some(id) = mandate else { return Ok(()) };
        let may = self.state.mandate(id)?.is_some_and(|m| {
            m.is_in_force(time)
                && m.principal == consent.subject
                && m.consumer == consent.consumer
                && m.covers(&consent.procedure)
        });
        must(may, "was decided under a mandate that does not allow it")
    }

    fn objection(&self, changed: &ObjectionChanged) -> Result<(), Fault> {
        self.known(changed.objection.subject)?;
        let consumer = changed.objection.consumer;
        must(self.state.registry().participant(consumer).is_some(), "is an objection against nobody")?;
        if changed.person.is_some() {
            self.enrolled(changed.by, &[Role::Portal])?;
        } else {
            self.enrolled(changed.by, &[Role::Exchange])?;
            must(consumer == changed.by.participant, "is an objection against another administration")?;
        }
        Ok(())
    }

    fn objects(&self, changed: &ObjectionChanged) -> Result<(), Fault> {
        self.objection(changed)?;
        let before = self.state.objection(&changed.objection)?.is_some_and(|before| before.by_person);
        let by_person = before || changed.person.is_some();
        must(changed.objection.by_person == by_person, "says of an objection that it is the person's, or not theirs")
    }

    fn lifts(&self, changed: &ObjectionChanged) -> Result<(), Fault> {
        self.objection(changed)?;
        let Some(lifted) = self.state.objection(&changed.objection)? else {
            return no("lifts an objection that is not there");
        };
        must(lifted == changed.objection, "lifts another objection")?;
        must(!lifted.by_person || changed.person.is_some(), "lifts an objection that is the person's to lift")
    }

    fn mandate(&self, time: Timestamp, granted: &MandateGranted) -> Result<(), Fault> {
        let mandate = &granted.mandate;
        self.known(mandate.principal)?;
        self.known(mandate.representative)?;
        must(self.state.mandate(mandate.id)?.is_none(), "grants a mandate twice")?;
        must(mandate.recorded_at == time && mandate.ended_at.is_none(), "is not a new mandate")?;
        self.enrolled(granted.by, &[Role::Exchange])?;
        must(granted.by.participant == mandate.consumer, "is a mandate towards another administration")?;
        check_mandate(self.state.registry(), mandate, time)
            .or_else(|fault| no(format!("is a mandate that breaks a rule: {fault}")))?;
        Ok(())
    }

    fn mandate_end(&self, ended: &MandateEnded) -> Result<(), Fault> {
        let Some(mandate) = self.state.mandate(ended.mandate)?.filter(|m| m.ended_at.is_none()) else {
            return no("ends a mandate that is not there to end");
        };
        must(mandate.principal == ended.principal, "ends somebody else's mandate")?;
        if ended.person.is_some() {
            self.enrolled(ended.by, &[Role::Portal])?;
        } else {
            self.enrolled(ended.by, &[Role::Exchange])?;
            must(mandate.consumer == ended.by.participant, "ends another administration's mandate")?;
        }
        Ok(())
    }
}
