//! The changes of the ledger that concern one administration, in the order of the log.
//!
//! A cursor is the index of an entry, so whoever comes back goes on after the last one that it has: none is lost, none comes
//! twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use unefois_consent::consent::DataLife;
use unefois_consent::event::{Decision, Event};
use unefois_consent::registry::Role;
use unefois_consent::{ConsentId, MandateId, ProcedureId, Siret, SubjectRef, Timestamp};

use super::{Engine, EngineError, LedgerConsent, Turn, VerifiedParticipant};
use crate::store::Visit;
use crate::traces::{blocking, visit_entries};

/// Most changes on one page.
pub const MAX_CHANGES: usize = 256;
/// A change that nobody was woken for is found after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// One change.
#[derive(Debug, Clone)]
pub struct Change {
    /// Index of its entry: the cursor after it.
    pub index: u64,
    /// When, in the time of the log.
    pub at: Timestamp,
    /// The kind of its entry, [`Event::kind`].
    pub kind: u8,
    /// For which procedure; of an objection or a mandate all where absent.
    pub procedure: Option<ProcedureId>,
    /// The consent that it is about, as it stands now.
    pub consent: Option<LedgerConsent>,
    /// The mandate that it is about.
    pub mandate: Option<MandateId>,
    /// Whom it concerns, by the reference that receipts about them have.
    pub subject: SubjectRef,
    /// Whether the administration must erase what it keeps by the consent (GDPR 17(1)(b)).
    pub erase: bool,
}

/// For whom changes are read.
#[derive(Debug, Clone)]
pub enum ChangeReader {
    /// An administration that asks.
    Caller(VerifiedParticipant),
    /// An administration that the operator tells, at an address that the operator configured.
    Operator(Siret),
}

impl ChangeReader {
    /// The administration, where it takes part.
    fn judge(&self, turn: &Turn<'_>) -> Result<Siret, EngineError> {
        match self {
            Self::Caller(caller) => turn.judge_caller(caller, Role::Exchange).map(|()| caller.participant()),
            Self::Operator(consumer) if turn.state().registry().participant(*consumer).is_some() => Ok(*consumer),
            Self::Operator(_) => Err(EngineError::NotAllowed("this administration does not take part")),
        }
    }
}

/// Some changes, and where to go on.
#[derive(Debug, Clone)]
pub struct ChangePage {
    /// The changes.
    pub changes: Vec<Change>,
    /// Index of the last entry looked at.
    pub cursor: Option<u64>,
}

/// What an entry says, before the consent is looked at.
struct Found {
    index: u64,
    at: Timestamp,
    kind: u8,
    /// The consent counts no more, for good.
    ends: bool,
    procedure: Option<ProcedureId>,
    consent: Option<ConsentId>,
    mandate: Option<MandateId>,
    subject: SubjectRef,
}

impl Engine {
    /// The changes after the entry of index `after` that concern the reader, at most `limit`, which is at most
    /// [`MAX_CHANGES`]. Each is durable.
    pub async fn changes(
        &self,
        reader: &ChangeReader,
        after: Option<u64>,
        limit: usize,
        deadline: Instant,
    ) -> Result<ChangePage, EngineError> {
        let reader = reader.clone();
        let look = move |turn: &mut Turn<'_>| {
            let consumer = reader.judge(turn)?;
            Ok(turn.state().changes(consumer, after, limit.min(MAX_CHANGES))?)
        };
        let indexes = self.sequencer().submit(deadline, look).await?.value;
        let cursor = indexes.last().copied().or(after);
        let found = self.read_changes(indexes).await?;
        let complete = move |turn: &mut Turn<'_>| found.into_iter().map(|found| complete(turn, found)).collect();
        let changes: Vec<_> = self.sequencer().submit(deadline, complete).await?.value;
        Ok(ChangePage { changes, cursor })
    }

    /// Waits until the ledger may have changed.
    pub async fn ledger_changed(&self, seen: &mut tokio::sync::watch::Receiver<u64>) {
        // The sender lives as long as somebody receives.
        let _ = tokio::time::timeout(LOOK_AGAIN, seen.changed()).await;
    }

    /// Told of each step that changed what concerns `consumer`, once it is durable.
    pub fn ledger_steps(&self, consumer: Siret) -> tokio::sync::watch::Receiver<u64> {
        self.ledger().of(consumer)
    }

    async fn read_changes(&self, indexes: Vec<u64>) -> Result<Vec<Found>, EngineError> {
        let (journal, opener) = (Arc::clone(self.journal()), Arc::clone(self.opener()));
        blocking(move || {
            let mut found = Vec::with_capacity(indexes.len());
            let mut wanted = indexes.into_iter().peekable();
            // Neighbours are read in one go; what lies far apart is looked for by itself.
            while let Some(first) = wanted.peek().copied() {
                visit_entries(&*journal, first, first.saturating_add(READ_AT_ONCE), |index, entry| {
                    if wanted.next_if_eq(&index).is_some()
                        && let Some(opened) = opener.event(index, entry)?
                    {
                        found.extend(read(index, Timestamp::from_millis(entry.leaf.time_ms), &opened));
                    }
                    Ok(if wanted.peek().is_some() { Visit::Continue } else { Visit::Stop })
                })?;
                // What the journal does not give is not there: a purged log.
                wanted.next_if_eq(&first);
            }
            Ok(found)
        })
        .await
    }
}

/// Entries that are read past one that is wanted, in the hope for the next.
const READ_AT_ONCE: u64 = 512;

fn read(index: u64, at: Timestamp, event: &Event) -> Option<Found> {
    let found = |subject| Found {
        index,
        at,
        kind: event.kind(),
        ends: false,
        procedure: None,
        consent: None,
        mandate: None,
        subject,
    };
    if let Some((decision, decided)) = event.facts().decision {
        let ends = matches!(decision, Decision::Withdraw | Decision::Revoke | Decision::Invalidate);
        return Some(Found { ends, consent: Some(decided.consent), ..found(decided.subject) });
    }
    if let Event::ConsentRequested(e) | Event::ConsentGranted(e) | Event::ConsentRenewed(e) = event {
        let procedure = Some(e.consent.procedure.clone());
        return Some(Found { consent: Some(e.consent.id), procedure, ..found(e.consent.subject) });
    }
    if let Event::ObjectionRecorded(e) | Event::ObjectionLifted(e) = event {
        return Some(Found { procedure: e.objection.procedure.clone(), ..found(e.objection.subject) });
    }
    if let Event::MandateGranted(e) = event {
        return Some(Found { mandate: Some(e.mandate.id), ..found(e.mandate.principal) });
    }
    if let Event::MandateEnded(e) = event {
        return Some(Found { mandate: Some(e.mandate), ..found(e.principal) });
    }
    None
}

fn complete(turn: &Turn<'_>, found: Found) -> Result<Change, EngineError> {
    let consent = found.consent.map(|id| turn.state().ledger_consent(id)).transpose()?.flatten();
    let erase = found.ends
        && consent.as_ref().is_some_and(|c| {
            matches!(c.consent.data_life, DataLife::Store { .. }) && (c.consent.uses > 0 || c.consent.version > 1)
        });
    let procedure = found.procedure.or_else(|| consent.as_ref().map(|c| c.consent.procedure.clone()));
    let Found { index, at, kind, mandate, subject, .. } = found;
    Ok(Change { index, at, kind, procedure, consent, mandate, subject, erase })
}
