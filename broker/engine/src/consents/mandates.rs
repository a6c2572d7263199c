//! Mandates: who may act for whom towards one administration (code civil 371-1, 390, 425, 1984).

use std::collections::BTreeSet;
use std::time::Instant;

use unefois_consent::collect::check_mandate;
use unefois_consent::decide::Recorded;
use unefois_consent::event::{Actor, Event, MandateEnded, MandateGranted};
use unefois_consent::registry::Role;
use unefois_consent::{
    Digest, Malformed, Mandate, MandateId, MandateKind, PersonProof, PivotIdentity, ProcedureId, Timestamp, majority,
};

use super::ProvenPerson;
use crate::caller::VerifiedParticipant;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::sequencer::Turn;
use crate::subject::find_or_draw;

/// A mandate to record.
#[derive(Debug)]
pub struct MandateCall {
    /// Who saw the proof, and towards whom the mandate counts.
    pub caller: VerifiedParticipant,
    /// The agent or the system that records it.
    pub agent: String,
    /// For whom somebody acts.
    pub principal: PivotIdentity,
    /// Who acts.
    pub representative: PivotIdentity,
    /// Why.
    pub kind: MandateKind,
    /// For which procedures; all where empty.
    pub procedures: BTreeSet<ProcedureId>,
    /// SHA-256 of the proof.
    pub proof: Digest,
    /// Start of validity; now where absent.
    pub not_before: Option<Timestamp>,
    /// End of validity; for a minor majority where absent.
    pub expires_at: Option<Timestamp>,
}

impl Engine {
    /// Records that somebody may act for another.
    pub async fn record_mandate(&self, call: MandateCall, deadline: Instant) -> Result<Mandate, EngineError> {
        let tags = (self.tagger().identity(&call.principal), self.tagger().identity(&call.representative));
        self.run_step(deadline, move |turn| record(turn, &call, tags)).await
    }

    /// Ends a mandate that the caller recorded. What was decided under it no longer counts.
    pub async fn end_mandate(
        &self,
        caller: VerifiedParticipant,
        id: MandateId,
        deadline: Instant,
    ) -> Result<Mandate, EngineError> {
        let step = move |turn: &mut Turn<'_>| {
            turn.judge_caller(&caller, Role::Exchange)?;
            let own = turn.state().mandate_recorded(id)?.filter(|m| m.consumer == caller.participant());
            end(turn, own, (caller.actor(), None))
        };
        self.run_step(deadline, step).await
    }

    /// A proven person ends a mandate: one to act for them, or one that they hold.
    pub async fn end_my_mandate(
        &self,
        person: ProvenPerson,
        id: MandateId,
        deadline: Instant,
    ) -> Result<Mandate, EngineError> {
        let step = move |turn: &mut Turn<'_>| {
            let principal = ProvenPerson { mandate: None, ..person.clone() }.principal(turn)?;
            let subject = principal.ok_or(EngineError::NotFound("this mandate"))?.subject;
            // A parent's authority does not end because the child says so; a mandate that one gave does.
            let own = turn.state().mandate_recorded(id)?.filter(|m| {
                m.representative == subject || (m.principal == subject && m.kind == MandateKind::Mandatary)
            });
            end(turn, own, (person.portal.actor(), Some(person.proof.clone())))
        };
        self.run_step(deadline, step).await
    }

    /// The caller's mandate.
    pub async fn mandate(
        &self,
        caller: VerifiedParticipant,
        id: MandateId,
        deadline: Instant,
    ) -> Result<Mandate, EngineError> {
        let step = move |turn: &mut Turn<'_>| {
            turn.judge_caller(&caller, Role::Exchange)?;
            let own = turn.state().mandate(id)?.filter(|m| m.consumer == caller.participant());
            own.ok_or(EngineError::NotFound("this mandate"))
        };
        self.run_step(deadline, step).await
    }
}

fn end(
    turn: &mut Turn<'_>,
    own: Option<Recorded<Mandate>>,
    (by, person): (Actor, Option<PersonProof>),
) -> Result<Mandate, EngineError> {
    let not_found = EngineError::NotFound("this mandate");
    let Recorded { fact: mandate, index: granted, .. } = own.ok_or(not_found.clone())?;
    if mandate.ended_at.is_some() {
        return Ok(mandate);
    }
    let (principal, consumer, expires_at) = (mandate.principal, mandate.consumer, mandate.expires_at);
    let ended = MandateEnded { mandate: mandate.id, granted, principal, consumer, expires_at, by, person };
    turn.append(&Event::MandateEnded(Box::new(ended)))?;
    turn.state().mandate(mandate.id)?.ok_or(not_found)
}

fn record(
    turn: &mut Turn<'_>,
    call: &MandateCall,
    (principal, representative): (Digest, Digest),
) -> Result<Mandate, EngineError> {
    turn.judge_caller(&call.caller, Role::Exchange)?;
    let now = turn.now();
    let expires_at = end_of(call, now)?;
    let principal = find_or_draw(turn, principal)?;
    let representative = find_or_draw(turn, representative)?;
    let mandate = Mandate {
        id: turn.draw_mandate()?,
        principal: principal.subject,
        representative: representative.subject,
        kind: call.kind,
        consumer: call.caller.participant(),
        procedures: call.procedures.clone(),
        proof: call.proof,
        not_before: call.not_before.unwrap_or(now),
        expires_at,
        agent: call.agent.clone(),
        recorded_at: now,
        ended_at: None,
    };
    if call.principal.normalised() == call.representative.normalised() {
        return Err(Malformed::new("representative", "another person than the principal").into());
    }
    check_mandate(turn.state().registry(), &mandate, now)?;
    let new_principal = principal.introduce(turn)?;
    let new_representative = representative.introduce(turn)?;
    let by = call.caller.actor();
    let granted = MandateGranted { new_principal, new_representative, mandate: mandate.clone(), by };
    turn.append(&Event::MandateGranted(Box::new(granted)))?;
    Ok(mandate)
}

/// When the mandate ends. To act for a minor ends at majority (code civil 414, 371-1); a minor gives no mandate, and none
/// acts for another.
fn end_of(call: &MandateCall, now: Timestamp) -> Result<Timestamp, Malformed> {
    if majority(call.representative.birth_date).is_some_and(|of_age| of_age > now) {
        return Err(Malformed::new("representative.birth_date", "of somebody who is of age"));
    }
    let majority = majority(call.principal.birth_date);
    let minor_until = majority.filter(|of_age| *of_age > now);
    match (call.kind, minor_until) {
        (MandateKind::Parent, None) => {
            Err(Malformed::new("principal.birth_date", "of a minor, with the year at least"))
        }
        (MandateKind::Mandatary, Some(_)) => {
            Err(Malformed::new("kind", "parent or guardian, because the principal is a minor"))
        }
        (MandateKind::Parent | MandateKind::Guardian, Some(of_age)) => match call.expires_at {
            Some(end) if end > of_age => Err(Malformed::new("expires_at", "not after the principal's majority")),
            Some(end) => Ok(end),
            None => Ok(of_age),
        },
        (MandateKind::Guardian | MandateKind::Mandatary, None) => {
            call.expires_at.ok_or(Malformed::new("expires_at", "is required for somebody who is of age"))
        }
    }
}
