//! The consent ledger: what persons decide, through the administration that asked them or by themselves.
//!
//! Every change is one step at its place in the log, and in force when its call returns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use unefois_consent::consent::DataPeriod;
use unefois_consent::event::{ConsentDecided, Decision, Event, ObjectionChanged};
use unefois_consent::registry::Role;
use unefois_consent::{
    AttributeId, Channel, ConsentId, ConsentUse, DataLife, DatasetId, Digest, Filter, IdentityAssurance, Language,
    MandateId, Objection, PersonProof, PivotIdentity, ProcedureId, Siret, Timestamp,
};

use crate::caller::VerifiedParticipant;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::sequencer::Turn;
pub use crate::state::LedgerConsent;
use crate::subject::find_or_draw;

mod changes;
mod collect;
mod mandates;
mod mine;
mod standing;
mod steps;

pub use changes::{Change, ChangePage, ChangeReader, MAX_CHANGES};
pub use mandates::MandateCall;
pub use mine::{MyEvent, MyExchange, MyExchangeEnd, MyMandate};
pub use standing::{ProvenPerson, Standing};
pub(crate) use steps::LedgerSteps;

/// Most objections that are listed.
const MAX_OBJECTIONS: usize = 1_000;
/// Most consents on one page of a list.
pub const MAX_PAGE: usize = 100;

/// What is agreed to.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Who may ask.
    pub consumer: Siret,
    /// For which procedure.
    pub procedure: ProcedureId,
    /// For which attributes; one at least.
    pub attributes: BTreeSet<AttributeId>,
    /// Who may use the data; the consumer where empty.
    pub recipients: BTreeSet<Siret>,
    /// With which filters a dataset is to be asked.
    pub filters: BTreeMap<DatasetId, Filter>,
    /// About which months.
    pub period: Option<DataPeriod>,
    /// Version of the procedure's notice that the person reads.
    pub notice_version: u32,
    /// In which language.
    pub language: Language,
    /// Start of validity; now where absent.
    pub not_before: Option<Timestamp>,
    /// End of validity.
    pub expires_at: Timestamp,
    /// How often.
    pub usage: ConsentUse,
    /// What the consumer may do with the data.
    pub data_life: DataLife,
}

/// How a person said yes, as the administration that heard it has it.
#[derive(Debug, Clone)]
pub struct Indication {
    /// How the person indicated it.
    pub channel: Channel,
    /// SHA-256 of the evidence that the administration keeps.
    pub evidence: Option<Digest>,
    /// How it was proven who they are.
    pub assurance: Option<IdentityAssurance>,
    /// The mandate of a representative who gave it.
    pub mandate: Option<MandateId>,
}

/// A consent to record.
#[derive(Debug)]
pub struct RecordCall {
    /// Who collected it and may use it.
    pub caller: VerifiedParticipant,
    /// The agent or the system that records it.
    pub agent: String,
    /// Whom the data is about.
    pub identity: PivotIdentity,
    /// What is agreed to.
    pub terms: Terms,
    /// How the person indicated it.
    pub indication: Indication,
    /// The request that this answers.
    pub answers: Option<ConsentId>,
}

/// A consent to ask a person for.
#[derive(Debug)]
pub struct RequestCall {
    /// Who asks.
    pub caller: VerifiedParticipant,
    /// The agent or the system that asks.
    pub agent: String,
    /// Whom the data is about.
    pub identity: PivotIdentity,
    /// What they are asked to agree to.
    pub terms: Terms,
    /// Until when they may answer; 30 days where absent.
    pub answer_by: Option<Timestamp>,
}

/// A person's yes to a request.
#[derive(Debug)]
pub struct AnswerCall {
    /// The person.
    pub person: ProvenPerson,
    /// The request.
    pub consent: ConsentId,
    /// In which language they read the notice.
    pub language: Language,
    /// Of what was asked, only these attributes.
    pub attributes: Option<BTreeSet<AttributeId>>,
    /// An earlier end.
    pub expires_at: Option<Timestamp>,
}

/// Another version of a consent.
#[derive(Debug)]
pub struct RenewCall {
    /// On whose word.
    pub standing: Standing,
    /// The agent or the system that records it.
    pub agent: String,
    /// The consent.
    pub consent: ConsentId,
    /// Version of the notice that the person reads now.
    pub notice_version: u32,
    /// In which language.
    pub language: Language,
    /// The new end.
    pub expires_at: Timestamp,
    /// How the person indicated it, where an administration records it.
    pub indication: Indication,
}

/// A decision on a consent.
#[derive(Debug)]
pub struct DecideCall {
    /// On whose word.
    pub standing: Standing,
    /// The consent.
    pub consent: ConsentId,
    /// What is decided.
    pub decision: Decision,
    /// SHA-256 of the document that it rests on.
    pub evidence: Option<Digest>,
}

/// Tells whoever watches the ledger when it is dropped: with the reply of its step, so when that is durable, whether or not
/// the caller still waits.
struct ToldLater(Arc<LedgerSteps>, Vec<Siret>);

impl Drop for ToldLater {
    fn drop(&mut self) {
        self.0.tell(&self.1);
    }
}

impl Engine {
    /// The person that `identity` is, proven by `proof`, acting through `portal`.
    pub fn proven(
        &self,
        portal: VerifiedParticipant,
        identity: &PivotIdentity,
        proof: PersonProof,
        mandate: Option<MandateId>,
    ) -> ProvenPerson {
        ProvenPerson { portal, tag: self.tagger().identity(identity), proof, mandate }
    }

    async fn run_step<T: Send + 'static>(
        &self,
        deadline: Instant,
        step: impl FnOnce(&mut Turn<'_>) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let ledger = Arc::clone(self.ledger());
        let step = move |turn: &mut Turn<'_>| {
            let value = step(turn)?;
            Ok((value, ToldLater(ledger, turn.take_concerned())))
        };
        let (value, _told) = self.sequencer().submit(deadline, step).await?.value;
        Ok(value)
    }

    /// Records a consent that an administration collected.
    pub async fn record_consent(&self, call: RecordCall, deadline: Instant) -> Result<LedgerConsent, EngineError> {
        let tag = self.tagger().identity(&call.identity);
        self.run_step(deadline, move |turn| collect::record(turn, &call, tag)).await
    }

    /// Records that a person is asked for a consent. They find it in a portal, or by the code that it has.
    pub async fn request_consent(&self, call: RequestCall, deadline: Instant) -> Result<LedgerConsent, EngineError> {
        let tag = self.tagger().identity(&call.identity);
        self.run_step(deadline, move |turn| collect::request(turn, &call, tag)).await
    }

    /// Records a person's yes to a request.
    pub async fn answer_request(&self, call: AnswerCall, deadline: Instant) -> Result<LedgerConsent, EngineError> {
        self.run_step(deadline, move |turn| collect::answer_in_person(turn, &call)).await
    }

    /// Records another version of a consent.
    pub async fn renew_consent(&self, call: RenewCall, deadline: Instant) -> Result<LedgerConsent, EngineError> {
        self.run_step(deadline, move |turn| collect::renew(turn, &call)).await
    }

    /// Takes a decision on a consent. Once a withdrawal, pause, revocation or invalidation returns, no later entry of the
    /// log uses the consent; an answer whose entry came before may still be on its way. Taking it again changes nothing.
    pub async fn decide_consent(&self, call: DecideCall, deadline: Instant) -> Result<LedgerConsent, EngineError> {
        self.run_step(deadline, move |turn| decide_consent(turn, &call)).await
    }

    /// One of the caller's consents.
    pub async fn consent(
        &self,
        caller: VerifiedParticipant,
        id: ConsentId,
        deadline: Instant,
    ) -> Result<LedgerConsent, EngineError> {
        let step = move |turn: &mut Turn<'_>| {
            turn.judge_caller(&caller, Role::Exchange)?;
            let own = kept_consent(turn, id)?.filter(|found| found.consent.consumer == caller.participant());
            own.ok_or(EngineError::NotFound("this consent"))
        };
        self.run_step(deadline, step).await
    }

    /// A page of the consents that a person gave to the caller, and where the next page starts.
    pub async fn consents(
        &self,
        caller: VerifiedParticipant,
        identity: &PivotIdentity,
        after: Option<ConsentId>,
        limit: usize,
        deadline: Instant,
    ) -> Result<(Vec<LedgerConsent>, Option<ConsentId>), EngineError> {
        let tag = self.tagger().identity(identity);
        let step = move |turn: &mut Turn<'_>| {
            turn.judge_caller(&caller, Role::Exchange)?;
            let Some(known) = turn.subject(&tag)? else { return Ok((Vec::new(), None)) };
            page(turn, (known.subject, Some(caller.participant())), after, limit)
        };
        self.run_step(deadline, step).await
    }

    /// Records that a person objects to proactive use by the caller, for one procedure or for all.
    pub async fn record_objection(
        &self,
        caller: VerifiedParticipant,
        identity: &PivotIdentity,
        procedure: Option<ProcedureId>,
        deadline: Instant,
    ) -> Result<Objection, EngineError> {
        self.change_objection(caller, identity, procedure, Objecting::Object, deadline).await
    }

    /// Records that a person lifts an objection.
    pub async fn lift_objection(
        &self,
        caller: VerifiedParticipant,
        identity: &PivotIdentity,
        procedure: Option<ProcedureId>,
        deadline: Instant,
    ) -> Result<Objection, EngineError> {
        self.change_objection(caller, identity, procedure, Objecting::Lift, deadline).await
    }

    /// The objections of a person to proactive use by the caller.
    pub async fn objections(
        &self,
        caller: VerifiedParticipant,
        identity: &PivotIdentity,
        deadline: Instant,
    ) -> Result<Vec<Objection>, EngineError> {
        let tag = self.tagger().identity(identity);
        let step = move |turn: &mut Turn<'_>| {
            turn.judge_caller(&caller, Role::Exchange)?;
            let Some(known) = turn.subject(&tag)? else { return Ok(Vec::new()) };
            let mut objections = turn.state().objections_to(known.subject, caller.participant(), MAX_OBJECTIONS)?;
            objections.retain(|objection| objection.is_in_force(turn.now()));
            Ok(objections)
        };
        self.run_step(deadline, step).await
    }

    async fn change_objection(
        &self,
        caller: VerifiedParticipant,
        identity: &PivotIdentity,
        procedure: Option<ProcedureId>,
        change: Objecting,
        deadline: Instant,
    ) -> Result<Objection, EngineError> {
        let tag = self.tagger().identity(identity);
        let step = move |turn: &mut Turn<'_>| {
            turn.judge_caller(&caller, Role::Exchange)?;
            change_objection(turn, change, (tag, caller.participant(), procedure), (caller.actor(), None))
        };
        self.run_step(deadline, step).await
    }
}

/// What becomes of an objection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Objecting {
    Object,
    Lift,
}

/// Records an objection, or that one is lifted. What the person objected to by themselves, only they lift.
fn change_objection(
    turn: &mut Turn<'_>,
    change: Objecting,
    (tag, consumer, procedure): (Digest, Siret, Option<ProcedureId>),
    (by, person): (unefois_consent::event::Actor, Option<PersonProof>),
) -> Result<Objection, EngineError> {
    if let Some(id) = &procedure {
        turn.state().registry().procedure(id).ok_or(EngineError::NotFound("this procedure"))?;
    }
    let found = find_or_draw(turn, tag)?;
    let now = turn.now();
    let by_person = person.is_some();
    let lapses_at = Objection::lapses_after(now);
    let new = Objection { subject: found.subject, consumer, procedure, by_person, lapses_at };
    let there = turn.state().objection(&new)?.filter(|there| there.is_in_force(now));
    let before = there.as_ref().map(|there| there.index);
    let (event, objection): (fn(Box<ObjectionChanged>) -> Event, _) = match (change, there) {
        (Objecting::Object, None) => (Event::ObjectionRecorded, new),
        (Objecting::Object, Some(there)) => match there.confirmed(by_person, now) {
            Some(confirmed) => (Event::ObjectionRecorded, confirmed),
            // It is there already: nothing changes, so the log does not grow.
            None => return Ok(there.fact),
        },
        (Objecting::Lift, None) => return Err(EngineError::NotFound("an objection like this")),
        (Objecting::Lift, Some(there)) if there.by_person && !by_person => {
            return Err(EngineError::NotAllowed("the person objected by themselves; they lift it in their portal"));
        }
        (Objecting::Lift, Some(there)) => (Event::ObjectionLifted, there.fact),
    };
    let new_subject = found.introduce(turn)?;
    turn.append(&event(Box::new(ObjectionChanged { new_subject, objection: objection.clone(), before, by, person })))?;
    Ok(objection)
}

fn kept_consent(turn: &Turn<'_>, id: ConsentId) -> Result<Option<LedgerConsent>, EngineError> {
    Ok(turn.state().ledger_consent(id)?.filter(|found| standing::is_kept(turn, &found.consent)))
}

/// A page of somebody's consents, and where the next one starts.
fn page(
    turn: &Turn<'_>,
    (subject, consumer): (unefois_consent::SubjectRef, Option<Siret>),
    after: Option<ConsentId>,
    limit: usize,
) -> Result<(Vec<LedgerConsent>, Option<ConsentId>), EngineError> {
    let limit = limit.clamp(1, MAX_PAGE);
    let page = turn.state().consents_of(subject, consumer, after, limit)?;
    let next = if page.len() == limit { page.last().map(|found| found.consent.id) } else { None };
    Ok((page, next))
}

fn decide_consent(turn: &mut Turn<'_>, call: &DecideCall) -> Result<LedgerConsent, EngineError> {
    let not_found = EngineError::NotFound("this consent");
    let found = kept_consent(turn, call.consent)?.ok_or(not_found.clone())?;
    let word = call.standing.judge(turn, &found.consent, call.decision)?;
    let changes = found.consent.decided(call.decision, word.decided_by(), turn.now());
    let changes = changes.map_err(EngineError::WrongState)?;
    if changes.is_none() {
        return Ok(found);
    }
    let kept_after = turn.state().consent_kept_after(call.consent)?.ok_or(not_found.clone())?;
    let mandate = word.mandate.map(|id| turn.state().mandate_recorded(id)).transpose()?.flatten();
    let decided = ConsentDecided {
        consent: call.consent,
        recorded: found.log_index,
        subject: found.consent.subject,
        consumer: found.consent.consumer,
        kept_after,
        by: word.by,
        person: word.person,
        mandate: word.mandate,
        mandate_entry: mandate.map(|mandate| mandate.index),
        evidence: call.evidence,
    };
    turn.append(&Event::decided(call.decision, decided))?;
    turn.state().ledger_consent(call.consent)?.ok_or(not_found)
}
