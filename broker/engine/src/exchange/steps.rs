//! The two steps of an exchange that run in the sequencer, at their place in the log.

use std::collections::BTreeMap;

use unefois_audit::{Salt, answer_digest};
use unefois_consent::decide::{Facts, Permit, decide, rests_on, still_permitted};
use unefois_consent::event::{Answered, Dropped, Event, Failed, FailureCause, Provenance, Refused, Requested};
use unefois_consent::{
    AttributeId, DatasetId, Digest, ExchangeId, OutcomeCode, Question, Reason, Refusal, SubjectRef, Timestamp,
};

use super::{AnsweredAttribute, ExchangeCall, canonical_values, draw_answer_salt};
use crate::error::{EngineError, LoggedRefusal};
use crate::sequencer::{Turn, Written};
use crate::state::Wanted;
use crate::subject::{Person, find_or_draw};

/// A question whose subject is not yet known by its reference.
pub(super) struct Draft {
    question: Question,
    tag: Digest,
}

impl Draft {
    pub(super) fn new(call: &ExchangeCall, tag: Digest, content: Digest) -> Self {
        let question = Question {
            consumer: call.caller.participant(),
            key: call.caller.key(),
            agent: call.agent.clone(),
            recipient: call.recipient,
            procedure: call.procedure.clone(),
            habilitation: call.habilitation.clone(),
            attributes: call.attributes.clone(),
            filters: call.filters.clone(),
            ground: call.ground.clone(),
            // Replaced in the step, where the reference is found or drawn.
            subject: SubjectRef([0; 16]),
            mandate: call.mandate,
            request_id: call.request_id.clone(),
            content,
        };
        Self { question, tag }
    }
}

/// What was decided.
pub(super) enum Begun {
    Permitted { permit: Permit, requested: u64 },
    Refused(LoggedRefusal),
}

/// Most exchanges under way at once. A source that hangs must not make the broker remember without end.
const MAX_UNDER_WAY: usize = 50_000;

/// A question with its decision, of which nothing is written yet.
pub(super) struct Decided {
    found: Person,
    question: Question,
    exchange: ExchangeId,
    decided: Result<Permit, Refusal>,
    rests_on: Vec<u64>,
    /// Of a retry: when the first attempt was permitted.
    first_at: Option<Timestamp>,
}

/// Decides on a question, with all that the decision looks up.
pub(super) fn decide_on(turn: &mut Turn<'_>, draft: Draft) -> Result<Decided, EngineError> {
    let found = find_or_draw(turn, draft.tag)?;
    let question = Question { subject: found.subject, ..draft.question };
    let exchange = turn.draw_exchange()?;
    let state = turn.state();
    let person = state.person(question.subject, question.consumer, Wanted::by(&question), question.mandate)?;
    let usage = state.usage(question.consumer)?;
    let earlier = state.earlier(question.consumer, &question.request_id)?;
    let facts = Facts {
        rules: state.rules(),
        registry: state.registry(),
        person: &person,
        used_today: &usage,
        earlier: earlier.as_ref(),
    };
    let decided = decide(&facts, &question, exchange, turn.now());
    let rests_on = rests_on(&facts, &question, &decided, turn.now());
    let first_at = earlier.map(|earlier| earlier.at);
    Ok(Decided { found, question, exchange, decided, rests_on, first_at })
}

/// Decides on a question and logs the decision.
pub(super) fn begin(turn: &mut Turn<'_>, draft: Draft) -> Result<Begun, EngineError> {
    if turn.state().open().len() >= MAX_UNDER_WAY {
        return Err(EngineError::Overloaded);
    }
    let Decided { found, question, exchange, decided, rests_on, first_at } = decide_on(turn, draft)?;
    let new_subject = found.introduce(turn)?;
    match decided {
        Ok(permit) => {
            let used = turn.state().used_by(&permit, turn.now())?;
            let written = turn.append(&Event::Requested(Box::new(Requested {
                exchange: permit.exchange(),
                attempt: permit.attempt(),
                first_at,
                new_subject,
                habilitation: permit.habilitation().clone(),
                consent: permit.consent(),
                used,
                question,
                rests_on,
            })))?;
            Ok(Begun::Permitted { permit, requested: written.index })
        }
        Err(refusal) => {
            let reasons = refusal.reasons().to_vec();
            let written =
                turn.append(&Event::Refused(Box::new(Refused { exchange, new_subject, question, reasons, rests_on })))?;
            Ok(Begun::Refused(LoggedRefusal { refusal, exchange, index: written.index }))
        }
    }
}

/// What is left of the sources' answers.
pub(super) struct Kept {
    pub(super) attributes: Vec<AnsweredAttribute>,
    pub(super) answer_salt: Salt,
    provenance: BTreeMap<DatasetId, Provenance>,
}

/// What the log keeps of it: codes and digests, no value.
pub(super) struct KeptEntry {
    attributes: BTreeMap<AttributeId, OutcomeCode>,
    provenance: BTreeMap<DatasetId, Provenance>,
    answer: Digest,
}

impl Kept {
    pub(super) fn new(
        attributes: Vec<AnsweredAttribute>,
        provenance: BTreeMap<DatasetId, Provenance>,
    ) -> Result<Self, EngineError> {
        Ok(Self { attributes, answer_salt: draw_answer_salt()?, provenance })
    }

    pub(super) fn entry(&self) -> KeptEntry {
        KeptEntry {
            attributes: self.attributes.iter().map(|a| (a.attribute.clone(), a.outcome.code())).collect(),
            provenance: self.provenance.clone(),
            answer: Digest(answer_digest(&self.answer_salt, canonical_values(&self.attributes).as_bytes()).0),
        }
    }
}

/// How an exchange ended.
pub(super) enum Finished {
    Answered(Written),
    Dropped(Written, Vec<Reason>),
    Failed,
}

/// What the end of an exchange is logged from.
pub(super) struct End {
    pub(super) permit: Permit,
    /// Index of the entry Requested.
    pub(super) requested: u64,
    pub(super) entry: KeptEntry,
}

/// An exchange that has not ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) exchange: ExchangeId,
    /// Index of the entry Requested.
    pub(super) requested: u64,
    pub(super) subject: SubjectRef,
}

/// Logs that the exchange failed, where it has no end yet.
pub(super) fn fail(turn: &mut Turn<'_>, open: Open, cause: FailureCause) -> Result<(), EngineError> {
    // What the entry changes is read before: a read that fails afterwards would halt the engine.
    if !turn.state().can_close(open.requested)? {
        return Ok(());
    }
    let Open { exchange, requested, subject } = open;
    turn.append(&Event::Failed(Failed { exchange, requested, subject, cause })).map(drop)
}

/// Judges the permit again and logs the end of the exchange.
pub(super) fn finish(
    turn: &mut Turn<'_>,
    End { permit, requested, entry }: End,
    is_late: bool,
    certificate: Option<Reason>,
) -> Result<Finished, EngineError> {
    let (exchange, subject) = (permit.exchange(), permit.subject());
    if is_late {
        fail(turn, Open { exchange, requested, subject }, FailureCause::DeadlineExceeded)?;
        return Ok(Finished::Failed);
    }
    let person = turn.state().person(subject, permit.consumer(), Wanted::by_permit(&permit), permit.mandate())?;
    let judged = still_permitted(turn.state().registry(), &person, &permit, turn.now());
    let mut reasons = judged.err().map(|refusal| refusal.reasons().to_vec()).unwrap_or_default();
    reasons.extend(certificate);
    if !reasons.is_empty() {
        let written =
            turn.append(&Event::Dropped(Dropped { exchange, requested, subject, reasons: reasons.clone() }))?;
        return Ok(Finished::Dropped(written, reasons));
    }
    let written = turn.append(&Event::Answered(Box::new(Answered {
        exchange,
        requested,
        request_id: permit.request_id().clone(),
        consumer: permit.consumer(),
        recipient: permit.recipient(),
        procedure: permit.procedure().clone(),
        ground: permit.ground(),
        subject,
        attributes: entry.attributes,
        provenance: entry.provenance,
        answer: entry.answer,
    })))?;
    Ok(Finished::Answered(written))
}
