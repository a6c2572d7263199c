//! What persons decide: consents and objections, recorded by the administration that collected them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use unefois_consent::consent::{ConsentStatus, ConsentUse};
use unefois_consent::event::{ConsentGranted, ConsentWithdrawn, Event, ObjectionChanged};
use unefois_consent::registry::{Procedure, Registry, Role};
use unefois_consent::{
    AttributeId, Channel, Consent, ConsentId, Digest, GroundKind, Language, Malformed, Objection, PivotIdentity,
    ProcedureId, Retention, Siret, SubjectRef, Timestamp,
};

use crate::caller::VerifiedParticipant;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::sequencer::Turn;
use crate::subject::find_or_draw;

/// Most consents on one page of a list.
pub const MAX_PAGE: usize = 100;

/// A consent to record.
#[derive(Debug)]
pub struct GrantCall {
    /// Who collected it and may use it.
    pub caller: VerifiedParticipant,
    /// The agent or the system that records it.
    pub agent: String,
    /// Who consents.
    pub identity: PivotIdentity,
    /// For which procedure.
    pub procedure: ProcedureId,
    /// For which attributes; one at least.
    pub attributes: BTreeSet<AttributeId>,
    /// Version of the procedure's notice that the person read.
    pub notice_version: u32,
    /// In which language.
    pub language: Language,
    /// How the person indicated it.
    pub channel: Channel,
    /// SHA-256 of the evidence that the caller keeps.
    pub evidence: Option<Digest>,
    /// Start of validity; now where absent.
    pub not_before: Option<Timestamp>,
    /// End of validity.
    pub expires_at: Timestamp,
    /// Once or repeatedly.
    pub usage: ConsentUse,
}

impl Engine {
    /// Records a consent. It is in force when this returns.
    pub async fn grant_consent(&self, call: GrantCall, deadline: Instant) -> Result<Consent, EngineError> {
        let tag = self.tagger().identity(&call.identity);
        let committed = self.sequencer().submit(deadline, move |turn| grant(turn, &call, tag)).await?;
        Ok(committed.value)
    }

    /// Withdraws a consent: no reason, one step. No entry after it in the log uses the consent; an answer whose entry came
    /// before may still be on its way.
    pub async fn withdraw_consent(
        &self,
        caller: VerifiedParticipant,
        id: ConsentId,
        deadline: Instant,
    ) -> Result<Consent, EngineError> {
        let committed = self.sequencer().submit(deadline, move |turn| withdraw(turn, &caller, id)).await?;
        Ok(committed.value)
    }

    /// One of the caller's consents.
    pub async fn consent(
        &self,
        caller: VerifiedParticipant,
        id: ConsentId,
        deadline: Instant,
    ) -> Result<Consent, EngineError> {
        let step = move |turn: &mut Turn<'_>| {
            turn.judge_caller(&caller, Role::Exchange)?;
            own_consent(turn, caller.participant(), id)
        };
        Ok(self.sequencer().submit(deadline, step).await?.value)
    }

    /// A page of the consents that a person gave to the caller, and where the next page starts.
    pub async fn consents(
        &self,
        caller: VerifiedParticipant,
        identity: &PivotIdentity,
        after: Option<ConsentId>,
        limit: usize,
        deadline: Instant,
    ) -> Result<(Vec<Consent>, Option<ConsentId>), EngineError> {
        let tag = self.tagger().identity(identity);
        let limit = limit.clamp(1, MAX_PAGE);
        let step = move |turn: &mut Turn<'_>| {
            turn.judge_caller(&caller, Role::Exchange)?;
            let Some(known) = turn.subject(&tag)? else { return Ok((Vec::new(), None)) };
            let page = turn.state().consents_of(known.subject, caller.participant(), after, limit)?;
            let next = if page.len() == limit { page.last().map(|c| c.id) } else { None };
            Ok((page, next))
        };
        Ok(self.sequencer().submit(deadline, step).await?.value)
    }

    /// Records that a person objects to proactive use by the caller, for one procedure or for all.
    pub async fn record_objection(
        &self,
        caller: VerifiedParticipant,
        identity: &PivotIdentity,
        procedure: Option<ProcedureId>,
        deadline: Instant,
    ) -> Result<Objection, EngineError> {
        self.change_objection(caller, identity, procedure, Event::ObjectionRecorded, deadline).await
    }

    /// Records that a person lifts an objection.
    pub async fn lift_objection(
        &self,
        caller: VerifiedParticipant,
        identity: &PivotIdentity,
        procedure: Option<ProcedureId>,
        deadline: Instant,
    ) -> Result<Objection, EngineError> {
        self.change_objection(caller, identity, procedure, Event::ObjectionLifted, deadline).await
    }

    async fn change_objection(
        &self,
        caller: VerifiedParticipant,
        identity: &PivotIdentity,
        procedure: Option<ProcedureId>,
        event: fn(ObjectionChanged) -> Event,
        deadline: Instant,
    ) -> Result<Objection, EngineError> {
        let tag = self.tagger().identity(identity);
        let step = move |turn: &mut Turn<'_>| {
            turn.judge_caller(&caller, Role::Exchange)?;
            if let Some(id) = &procedure {
                turn.state().registry().procedure(id).ok_or(EngineError::NotFound("this procedure"))?;
            }
            let (subject, new_subject) = find_or_draw(turn, tag)?;
            let objection = Objection { subject, consumer: caller.participant(), procedure };
            turn.append(&event(ObjectionChanged { new_subject, objection: objection.clone(), by: caller.actor() }))?;
            Ok(objection)
        };
        Ok(self.sequencer().submit(deadline, step).await?.value)
    }
}

fn own_consent(turn: &Turn<'_>, consumer: Siret, id: ConsentId) -> Result<Consent, EngineError> {
    // Another consumer's consent reads as if there were none.
    let own = turn.state().consent(id)?.filter(|c| c.consumer == consumer);
    // One that ended so long ago that its record is about to be purged is as good as gone.
    let month = turn.now().month();
    own.filter(|c| !Retention::TRACES.is_over(c.expires_at.month(), month)).ok_or(EngineError::NotFound("this consent"))
}

fn grant(turn: &mut Turn<'_>, call: &GrantCall, tag: Digest) -> Result<Consent, EngineError> {
    turn.judge_caller(&call.caller, Role::Exchange)?;
    let (subject, new_subject) = find_or_draw(turn, tag)?;
    let consent = check_grant(turn, call, subject)?;
    let by = Some(call.caller.actor());
    turn.append(&Event::ConsentGranted(Box::new(ConsentGranted { new_subject, by, consent: consent.clone() })))?;
    Ok(consent)
}

/// GDPR 4(11) and 7: specific (attributes within a habilitation), informed (a notice of the procedure), bounded in time.
fn check_grant(turn: &mut Turn<'_>, call: &GrantCall, subject: SubjectRef) -> Result<Consent, EngineError> {
    let id = turn.draw_consent()?;
    let registry = turn.state().registry();
    let consumer = call.caller.participant();
    let now = turn.now();
    let procedure =
        registry.procedure(&call.procedure).ok_or(Malformed::new("procedure", "the registry has no such procedure"))?;
    let notice = procedure
        .notice(call.notice_version)
        .ok_or(Malformed::new("notice_version", "the procedure has no notice of this version"))?;
    if !may_collect(registry, consumer, &call.procedure, &call.attributes) {
        let rule = "at least one, and all within one of your habilitations for this procedure that allows CONSENT";
        return Err(Malformed::new("attributes", rule).into());
    }
    let not_before = call.not_before.unwrap_or(now);
    if call.expires_at <= not_before || call.expires_at <= now {
        return Err(Malformed::new("expires_at", "after not_before and after now").into());
    }
    if call.expires_at.since(not_before.max(now)) > longest(procedure) {
        return Err(Malformed::new("expires_at", "within the procedure's consent_max_days").into());
    }
    Ok(Consent {
        id,
        subject,
        consumer,
        procedure: call.procedure.clone(),
        attributes: call.attributes.clone(),
        notice_version: call.notice_version,
        notice_digest: notice.digest(call.language),
        language: call.language,
        channel: call.channel,
        evidence: call.evidence,
        not_before,
        expires_at: call.expires_at,
        usage: call.usage,
        agent: call.agent.clone(),
        granted_at: now,
        status: ConsentStatus::Granted,
        uses: 0,
    })
}

/// Whether one habilitation of `consumer` covers all of `attributes` for `procedure` on the ground of consent.
pub(crate) fn may_collect(
    registry: &Registry,
    consumer: Siret,
    procedure: &ProcedureId,
    attributes: &BTreeSet<AttributeId>,
) -> bool {
    !attributes.is_empty()
        && registry.habilitations_of(consumer).any(|h| {
            h.procedures.contains(procedure)
                && h.grounds.contains(&GroundKind::Consent)
                && attributes.is_subset(&h.attributes)
        })
}

/// Longest validity of a consent for `procedure`.
pub(crate) fn longest(procedure: &Procedure) -> Duration {
    Duration::from_secs(u64::from(procedure.consent_max_days) * 24 * 60 * 60)
}

fn withdraw(turn: &mut Turn<'_>, caller: &VerifiedParticipant, id: ConsentId) -> Result<Consent, EngineError> {
    turn.judge_caller(caller, Role::Exchange)?;
    let consent = own_consent(turn, caller.participant(), id)?;
    match consent.status {
        ConsentStatus::Withdrawn { .. } => Ok(consent),
        ConsentStatus::Granted => {
            turn.append(&Event::ConsentWithdrawn(ConsentWithdrawn {
                consent: id,
                subject: consent.subject,
                by: caller.actor(),
            }))?;
            own_consent(turn, caller.participant(), id)
        }
    }
}
