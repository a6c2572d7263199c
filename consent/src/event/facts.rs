//! What each kind of event says of itself: whom it names and introduces, whom it concerns, how long it is kept and which
//! earlier entries it rests on.
//!
//! The fold, replay, traces, changes, purge and retention all ask here, so a new kind is one arm more in one place. What an
//! event does to the state is not here: that is the fold's.

use super::{CarriedFact, ConsentDecided, Decision, Event, NewSubject, TraceScope};
use crate::registry::Registry;
use crate::{ProcedureId, Retention, Siret, SubjectRef, Timestamp};

/// What one event says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventFacts<'e> {
    /// The persons in whose list of traces the entry stands. The end of an exchange stands there with its beginning.
    names: [Option<SubjectRef>; 2],
    /// The persons whom it introduces.
    introduces: [Option<NewSubject>; 2],
    /// The administration whose ledger it changes.
    pub consumer: Option<Siret>,
    /// The person to whom the whole record may be shown. A question names the agent who asked, a mandate two persons.
    pub shown_to: Option<SubjectRef>,
    /// How long the record is kept.
    pub keep: Keep<'e>,
    /// What it decides on a consent that is there.
    pub decision: Option<(Decision, &'e ConsentDecided)>,
    rests: [Option<Rest>; 3],
    listed: &'e [u64],
}

/// How long a record is kept, as far as the event says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep<'e> {
    /// For so long.
    For(Retention),
    /// As the traces of exchanges for this procedure.
    Exchange(&'e ProcedureId),
    /// As the entry Requested of this index.
    AsRequest(u64),
    /// As long as exchanges may rest on what ends then.
    After(Timestamp),
    /// As an objection that lapses then.
    Objection(Timestamp),
}

impl Keep<'_> {
    /// The retention of a record of `time`, by the registry at its place; `of_request` knows that of an entry Requested.
    pub fn retention(
        self,
        time: Timestamp,
        registry: &Registry,
        of_request: impl FnOnce(u64) -> Option<Retention>,
    ) -> Retention {
        match self {
            Self::For(retention) => retention,
            Self::Exchange(procedure) => Retention::of_exchange(registry.procedure(procedure).map(|p| &**p)),
            Self::AsRequest(index) => of_request(index).unwrap_or(Retention::TRACES),
            Self::After(end) => Retention::of_consent(time, end),
            Self::Objection(end) => Retention::of_objection(time, end),
        }
    }
}

/// An earlier entry that an event names because it rests on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// Its index.
    pub index: u64,
    /// What it is.
    pub kind: RestKind,
}

/// What an earlier entry is to the one that rests on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestKind {
    /// It recorded the version of a consent.
    Version,
    /// It granted a mandate.
    Mandate,
    /// It recorded an objection.
    Objection,
    /// It began an exchange.
    Request,
    /// It introduced a person, or carried that over.
    Introduction,
    /// One of those that a decision looks at: a version, a mandate, an objection, or the beginning of an exchange.
    Looked,
}

impl RestKind {
    /// Whether an entry of the kind byte `kind` may be it.
    pub fn fits(self, kind: u8) -> bool {
        let version = [Event::CONSENT_REQUESTED, Event::CONSENT_GRANTED, Event::CONSENT_RENEWED].contains(&kind);
        match self {
            Self::Version => version,
            Self::Mandate => kind == Event::MANDATE_GRANTED,
            Self::Objection => kind == Event::OBJECTION_RECORDED,
            Self::Request => kind == Event::REQUESTED,
            Self::Introduction => Event::may_introduce(kind),
            Self::Looked => {
                version || [Event::MANDATE_GRANTED, Event::OBJECTION_RECORDED, Event::REQUESTED].contains(&kind)
            }
        }
    }
}

impl<'e> EventFacts<'e> {
    /// Of an event that names nobody, rests on nothing and is kept so.
    fn kept(keep: Keep<'e>) -> Self {
        Self {
            names: [None; 2],
            introduces: [None; 2],
            consumer: None,
            shown_to: None,
            keep,
            decision: None,
            rests: [None; 3],
            listed: &[],
        }
    }

    /// The persons in whose list of traces the entry stands.
    pub fn names(&self) -> impl Iterator<Item = SubjectRef> + use<> {
        self.names.into_iter().flatten()
    }

    /// The persons whom it introduces.
    pub fn introduces(&self) -> impl Iterator<Item = NewSubject> + use<> {
        self.introduces.into_iter().flatten()
    }

    /// The earlier entries that it rests on.
    pub fn rests_on(&self) -> impl Iterator<Item = Rest> + use<'e> {
        let listed = self.listed.iter().map(|index| Rest { index: *index, kind: RestKind::Looked });
        self.rests.into_iter().flatten().chain(listed)
    }
}

fn rest(kind: RestKind, index: Option<u64>) -> Option<Rest> {
    index.map(|index| Rest { index, kind })
}

impl Event {
    /// What it says of itself.
    pub fn facts(&self) -> EventFacts<'_> {
        let log = EventFacts::kept(Keep::For(Retention::LOG));
        let traces = EventFacts::kept(Keep::For(Retention::TRACES));
        match self {
            Self::LogOpened(_)
            | Self::ShardClosed(_)
            | Self::RegistryChanged(_)
            | Self::Purged(_)
            | Self::KeyMade(_)
            | Self::RulesChanged(_) => log,
            Self::ConsentRequested(e) | Self::ConsentGranted(e) | Self::ConsentRenewed(e) => EventFacts {
                names: [Some(e.consent.subject), None],
                introduces: [e.new_subject, None],
                consumer: Some(e.consent.consumer),
                shown_to: Some(e.consent.subject),
                rests: [
                    rest(RestKind::Version, e.before),
                    rest(RestKind::Mandate, e.mandate_entry),
                    rest(RestKind::Request, e.window_entry),
                ],
                listed: &e.given_again,
                ..EventFacts::kept(Keep::After(e.kept_after))
            },
            Self::ConsentRefused(e) => decided(Decision::Refuse, e),
            Self::ConsentPaused(e) => decided(Decision::Pause, e),
            Self::ConsentResumed(e) => decided(Decision::Resume, e),
            Self::ConsentWithdrawn(e) => decided(Decision::Withdraw, e),
            Self::ConsentRevoked(e) => decided(Decision::Revoke, e),
            Self::ConsentInvalidated(e) => decided(Decision::Invalidate, e),
            Self::ObjectionRecorded(e) | Self::ObjectionLifted(e) => EventFacts {
                names: [Some(e.objection.subject), None],
                introduces: [e.new_subject, None],
                consumer: Some(e.objection.consumer),
                shown_to: Some(e.objection.subject),
                rests: [rest(RestKind::Objection, e.before), None, None],
                ..EventFacts::kept(Keep::Objection(e.objection.lapses_at))
            },
            Self::MandateGranted(e) => EventFacts {
                names: [Some(e.mandate.principal), Some(e.mandate.representative)],
                introduces: [e.new_principal, e.new_representative],
                consumer: Some(e.mandate.consumer),
                ..EventFacts::kept(Keep::After(e.mandate.expires_at))
            },
            Self::MandateEnded(e) => EventFacts {
                names: [Some(e.principal), None],
                consumer: Some(e.consumer),
                rests: [rest(RestKind::Mandate, Some(e.granted)), None, None],
                ..EventFacts::kept(Keep::After(e.expires_at))
            },
            Self::Requested(e) => EventFacts {
                names: [Some(e.question.subject), None],
                introduces: [e.new_subject, None],
                listed: &e.rests_on,
                ..EventFacts::kept(Keep::Exchange(&e.question.procedure))
            },
            Self::Refused(e) => EventFacts {
                names: [Some(e.question.subject), None],
                introduces: [e.new_subject, None],
                listed: &e.rests_on,
                ..EventFacts::kept(Keep::Exchange(&e.question.procedure))
            },
            Self::Answered(e) => ended(e.requested, e.subject),
            Self::Dropped(e) => ended(e.requested, e.subject),
            Self::Failed(e) => ended(e.requested, e.subject),
            Self::Carried(e) => match e.fact {
                CarriedFact::Subject(_) => traces,
                CarriedFact::Uses(uses) => {
                    EventFacts { rests: [rest(RestKind::Version, Some(uses.used.recorded)), None, None], ..traces }
                }
            },
            Self::TracesRead(e) => match &e.scope {
                TraceScope::Entries { .. } | TraceScope::Receipt { .. } => traces,
                TraceScope::Person { introduced, reader, .. } => EventFacts {
                    rests: [
                        rest(RestKind::Introduction, Some(*introduced)),
                        rest(RestKind::Introduction, reader.map(|reader| reader.introduced)),
                        rest(RestKind::Mandate, reader.map(|reader| reader.mandate_entry)),
                    ],
                    ..traces
                },
            },
        }
    }
}

fn decided(decision: Decision, event: &ConsentDecided) -> EventFacts<'_> {
    EventFacts {
        names: [Some(event.subject), None],
        consumer: Some(event.consumer),
        shown_to: Some(event.subject),
        decision: Some((decision, event)),
        rests: [rest(RestKind::Version, Some(event.recorded)), rest(RestKind::Mandate, event.mandate_entry), None],
        ..EventFacts::kept(Keep::After(event.kept_after))
    }
}

/// The end of an exchange is kept as long as its beginning.
fn ended<'e>(requested: u64, subject: SubjectRef) -> EventFacts<'e> {
    EventFacts {
        shown_to: Some(subject),
        rests: [rest(RestKind::Request, Some(requested)), None, None],
        ..EventFacts::kept(Keep::AsRequest(requested))
    }
}
