//! What a proven person sees and does: their requests, consents, objections, mandates, exchanges and receipts.
//!
//! Every call acts for the person whom an identity provider has proven, or for another under a mandate; no field of a request
//! says who that is. Reading traces leaves a trace, also where persons read their own.

use std::sync::Arc;
use std::time::Instant;

use unefois_audit::Receipt;
use unefois_consent::event::{Answered, Event, FailureCause, TraceScope, TracesRead};
use unefois_consent::{
    AttributeId, ConsentId, ExchangeId, GroundKind, Mandate, MandateId, Objection, ProcedureId, Reason, Siret,
    SubjectRef, Timestamp,
};

use super::standing::Principal;
use super::{
    Engine, EngineError, LedgerConsent, MAX_OBJECTIONS, MAX_PAGE, Objecting, ProvenPerson, Turn, change_objection, page,
};
use crate::state::Trace;
use crate::traces::blocking;

/// Most entries about a person that one page of exchanges looks through.
const LOOKED_THROUGH: usize = 512;

/// One exchange about a person, as that person sees it: the administrations, not their agents.
#[derive(Debug, Clone)]
pub struct MyExchange {
    /// Index of its first entry.
    pub index: u64,
    /// When it was asked.
    pub at: Timestamp,
    /// Its name.
    pub exchange: ExchangeId,
    /// Who asked.
    pub consumer: Siret,
    /// Who uses the data.
    pub recipient: Siret,
    /// For which procedure.
    pub procedure: ProcedureId,
    /// What was asked.
    pub attributes: Vec<AttributeId>,
    /// On which ground.
    pub ground: GroundKind,
    /// By which consent.
    pub consent: Option<ConsentId>,
    /// Under which mandate.
    pub mandate: Option<MandateId>,
    /// How it ended; absent while it is under way.
    pub end: Option<MyExchangeEnd>,
    /// Index of the entry of its end.
    pub end_index: Option<u64>,
}

/// How an exchange ended.
#[derive(Debug, Clone)]
pub enum MyExchangeEnd {
    /// It was refused before any source was asked.
    Refused(Vec<Reason>),
    /// It was answered: what became of each attribute, and where values came from.
    Answered(Box<Answered>),
    /// The right ended meanwhile; the data was thrown away.
    Dropped(Vec<Reason>),
    /// It ended without an answer.
    Failed(FailureCause),
}

impl Engine {
    /// A page of the consents that the person gave or is asked for, by administration and newest first.
    pub async fn my_consents(
        &self,
        person: ProvenPerson,
        after: Option<ConsentId>,
        limit: usize,
        deadline: Instant,
    ) -> Result<(Vec<LedgerConsent>, Option<ConsentId>), EngineError> {
        let step = move |turn: &mut Turn<'_>| {
            let Some(principal) = person.principal(turn)? else { return Ok((Vec::new(), None)) };
            let consumer = principal.mandate.as_ref().map(|m| m.consumer);
            let (mut consents, next) = page(turn, (principal.subject, consumer), after, limit)?;
            consents.retain(|c| principal.may_decide(c.consent.consumer, &c.consent.procedure));
            Ok((consents, next))
        };
        self.run_step(deadline, step).await
    }

    /// One consent or request of the person.
    pub async fn my_consent(
        &self,
        person: ProvenPerson,
        id: ConsentId,
        deadline: Instant,
    ) -> Result<LedgerConsent, EngineError> {
        let step = move |turn: &mut Turn<'_>| {
            let not_found = EngineError::NotFound("this consent");
            let principal = person.principal(turn)?.ok_or(not_found.clone())?;
            let found = super::kept_consent(turn, id)?.filter(|c| {
                c.consent.subject == principal.subject && principal.may_decide(c.consent.consumer, &c.consent.procedure)
            });
            found.ok_or(not_found)
        };
        self.run_step(deadline, step).await
    }

    /// The person objects to proactive use by `consumer`, or lifts that, for one procedure or for all.
    pub async fn my_objection(
        &self,
        person: ProvenPerson,
        (consumer, procedure): (Siret, Option<ProcedureId>),
        lift: bool,
        deadline: Instant,
    ) -> Result<Objection, EngineError> {
        let step = move |turn: &mut Turn<'_>| {
            turn.judge_caller(&person.portal, unefois_consent::registry::Role::Portal)?;
            if person.mandate.is_some() {
                return Err(EngineError::NotAllowed("an objection is recorded for oneself; leave the mandate out"));
            }
            if turn.state().registry().participant(consumer).is_none() {
                return Err(EngineError::NotFound("this administration"));
            }
            let change = if lift { Objecting::Lift } else { Objecting::Object };
            let word = (person.portal.actor(), Some(person.proof.clone()));
            change_objection(turn, change, (person.tag, consumer, procedure), word)
        };
        self.run_step(deadline, step).await
    }

    /// The person's objections in force.
    pub async fn my_objections(&self, person: ProvenPerson, deadline: Instant) -> Result<Vec<Objection>, EngineError> {
        let step = move |turn: &mut Turn<'_>| {
            let Some(principal) = person.principal(turn)? else { return Ok(Vec::new()) };
            let mut objections = turn.state().objections_of(principal.subject, MAX_OBJECTIONS)?;
            objections.retain(|o| principal.mandate.as_ref().is_none_or(|m| m.consumer == o.consumer));
            Ok(objections)
        };
        self.run_step(deadline, step).await
    }

    /// The mandates that name the person.
    pub async fn my_mandates(&self, person: ProvenPerson, deadline: Instant) -> Result<Vec<MyMandate>, EngineError> {
        let step = move |turn: &mut Turn<'_>| {
            let own = ProvenPerson { mandate: None, ..person };
            let Some(principal) = own.principal(turn)? else { return Ok(Vec::new()) };
            let all = turn.state().mandates_of(principal.subject)?;
            let mine = |mandate: Mandate| MyMandate { acts: mandate.representative == principal.subject, mandate };
            Ok(all.into_iter().map(mine).collect())
        };
        self.run_step(deadline, step).await
    }

    /// A page of the exchanges about the person before the one of index `before`, newest first, and where the next page
    /// starts. The reading is an entry too.
    pub async fn my_exchanges(
        &self,
        person: ProvenPerson,
        before: Option<u64>,
        limit: usize,
        deadline: Instant,
    ) -> Result<(Vec<MyExchange>, Option<u64>), EngineError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let look = move |turn: &mut Turn<'_>| {
            let Some(principal) = person.principal(turn)? else { return Ok(None) };
            let subject = principal.subject;
            let scope = TraceScope::Person { subject };
            turn.append(&Event::TracesRead(TracesRead { by: person.portal.actor(), scope }))?;
            let traces = turn.state().traces(subject, before, LOOKED_THROUGH)?;
            Ok(Some((principal, traces)))
        };
        let Some((principal, traces)) = self.run_step(deadline, look).await? else { return Ok((Vec::new(), None)) };
        let was_full = traces.len() == LOOKED_THROUGH;
        let last = traces.last().map(|trace| trace.index);
        let mut exchanges = Vec::new();
        let begun = traces.into_iter().filter(|trace| [Event::REQUESTED, Event::REFUSED].contains(&trace.kind));
        for trace in begun {
            exchanges.extend(self.read_exchange(&principal, trace).await?);
            if exchanges.len() == limit {
                return Ok((exchanges, Some(trace.index)));
            }
        }
        Ok((exchanges, last.filter(|_| was_full)))
    }

    /// A page of the person's events in the ledger before the entry of index `before`, newest first, and where the next page
    /// starts. Those of mandates name another person too, and are left out. The reading is an entry too.
    pub async fn my_events(
        &self,
        person: ProvenPerson,
        before: Option<u64>,
        deadline: Instant,
    ) -> Result<(Vec<MyEvent>, Option<u64>), EngineError> {
        let look = move |turn: &mut Turn<'_>| {
            let Some(principal) = person.principal(turn)?.filter(|principal| principal.mandate.is_none()) else {
                return Ok(None);
            };
            let subject = principal.subject;
            let scope = TraceScope::Person { subject };
            turn.append(&Event::TracesRead(TracesRead { by: person.portal.actor(), scope }))?;
            Ok(Some((subject, turn.state().traces(subject, before, LOOKED_THROUGH)?)))
        };
        let Some((subject, traces)) = self.run_step(deadline, look).await? else { return Ok((Vec::new(), None)) };
        let next = traces.last().map(|trace| trace.index).filter(|_| traces.len() == LOOKED_THROUGH);
        let mut events = Vec::new();
        for trace in traces.into_iter().filter(|trace| Event::is_of_consents(trace.kind)) {
            if let Some((at, event)) = self.read_event(trace.index).await?
                && about(&event) == Some(subject)
            {
                events.push(MyEvent { index: trace.index, at, event });
            }
        }
        Ok((events, next))
    }

    async fn read_exchange(&self, principal: &Principal, trace: Trace) -> Result<Option<MyExchange>, EngineError> {
        let Some((at, event)) = self.read_event(trace.index).await? else { return Ok(None) };
        let (exchange, consent, question, end) = if let Event::Refused(refused) = event {
            (refused.exchange, None, refused.question, Some(MyExchangeEnd::Refused(refused.reasons)))
        } else if let Event::Requested(requested) = event {
            let end = match trace.end {
                None => None,
                Some(index) => self.read_event(index).await?.and_then(|(_, event)| end_of(event)),
            };
            (requested.exchange, requested.consent, requested.question, end)
        } else {
            return Ok(None);
        };
        if question.subject != principal.subject || !principal.may_decide(question.consumer, &question.procedure) {
            return Ok(None);
        }
        Ok(Some(MyExchange {
            index: trace.index,
            at,
            exchange,
            consumer: question.consumer,
            recipient: question.recipient,
            procedure: question.procedure,
            attributes: question.attributes,
            ground: question.ground.kind(),
            consent,
            mandate: question.mandate,
            end,
            end_index: trace.end,
        }))
    }

    /// The receipt of an entry about the person: the end of an exchange, or a decision of theirs. The reading is an entry
    /// too.
    pub async fn my_receipt(
        &self,
        person: ProvenPerson,
        index: u64,
        deadline: Instant,
    ) -> Result<Receipt, EngineError> {
        let not_found = EngineError::NotFound("this receipt");
        let who = person.clone();
        let look = move |turn: &mut Turn<'_>| who.principal(turn);
        let principal = self.run_step(deadline, look).await?.ok_or(not_found.clone())?;
        let subject = principal.subject;
        let event = if index < self.head().entries() { self.read_event(index).await? } else { None };
        if event.and_then(|(_, event)| about(&event)) != Some(subject) || principal.mandate.is_some() {
            return Err(not_found);
        }
        let read = move |turn: &mut Turn<'_>| {
            turn.judge_caller(&person.portal, unefois_consent::registry::Role::Portal)?;
            let scope = TraceScope::Person { subject };
            turn.append(&Event::TracesRead(TracesRead { by: person.portal.actor(), scope })).map(drop)
        };
        self.run_step(deadline, read).await?;
        self.receipt_at(index).await
    }

    async fn read_event(&self, index: u64) -> Result<Option<(Timestamp, Event)>, EngineError> {
        let (journal, opener) = (Arc::clone(self.journal()), Arc::clone(self.opener()));
        blocking(move || {
            let Some(entry) = journal.entry(index)? else { return Ok(None) };
            let at = Timestamp::from_millis(entry.leaf.time_ms);
            Ok(opener.event(index, &entry)?.map(|event| (at, event)))
        })
        .await
    }
}

/// What a person, or somebody for them, decided.
#[derive(Debug, Clone)]
pub struct MyEvent {
    /// Index of its entry.
    pub index: u64,
    /// When.
    pub at: Timestamp,
    /// What the entry says: of a consent or an objection.
    pub event: Event,
}

/// A mandate that names the person.
#[derive(Debug, Clone)]
pub struct MyMandate {
    /// The mandate.
    pub mandate: Mandate,
    /// Whether the person acts for another; else another acts for them.
    pub acts: bool,
}

fn end_of(event: Event) -> Option<MyExchangeEnd> {
    if let Event::Answered(answered) = event {
        Some(MyExchangeEnd::Answered(answered))
    } else if let Event::Dropped(dropped) = event {
        Some(MyExchangeEnd::Dropped(dropped.reasons))
    } else if let Event::Failed(failed) = event {
        Some(MyExchangeEnd::Failed(failed.cause))
    } else {
        None
    }
}

/// Whom an entry is about that may be shown to that person with its whole record. Questions name the agent who asked, and
/// stay with the auditors.
fn about(event: &Event) -> Option<SubjectRef> {
    match event {
        Event::Answered(e) => Some(e.subject),
        Event::Dropped(e) => Some(e.subject),
        Event::Failed(e) => Some(e.subject),
        Event::ConsentRequested(e) | Event::ConsentGranted(e) | Event::ConsentRenewed(e) => Some(e.consent.subject),
        Event::ObjectionRecorded(e) | Event::ObjectionLifted(e) => Some(e.objection.subject),
        Event::ConsentRefused(e)
        | Event::ConsentPaused(e)
        | Event::ConsentResumed(e)
        | Event::ConsentWithdrawn(e)
        | Event::ConsentRevoked(e)
        | Event::ConsentInvalidated(e) => Some(e.subject),
        // A mandate names two persons.
        Event::MandateGranted(_)
        | Event::MandateEnded(_)
        | Event::LogOpened(_)
        | Event::ShardClosed(_)
        | Event::RegistryChanged(_)
        | Event::Carried(_)
        | Event::Purged(_)
        | Event::Requested(_)
        | Event::Refused(_)
        | Event::TracesRead(_) => None,
    }
}
