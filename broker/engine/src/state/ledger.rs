//! The ledger's rows: consents, mandates, objections, and the traces of each person.

use unefois_consent::decide::{Permit, PersonFacts, Recorded};
use unefois_consent::event::Used;
use unefois_consent::{
    Consent, ConsentId, Ground, GroundKind, Mandate, MandateId, Objection, ProcedureId, Question, Siret, SubjectRef,
    Timestamp,
};

use super::apply::objection_key;
use super::consent_row::ConsentRow;
use super::{Stamp, State, decode, keys, malformed};
use crate::store::{Row, StoreError};

/// Most consents of one person that a question without a consent id looks through.
const MAX_CONSENTS_LOOKED_AT: usize = 1_000;
/// Most mandates of one person that are looked through.
const MAX_MANDATES_LOOKED_AT: usize = 1_000;

/// A consent and the entry that it is proven by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerConsent {
    /// The consent as it stands.
    pub consent: Consent,
    /// Index of the entry that recorded this version of it.
    pub log_index: u64,
    /// The mandate of the representative who gave it, as it stands.
    pub mandate: Option<Mandate>,
}

impl LedgerConsent {
    /// Whether it was given under a mandate that is not in force at `now`: then no exchange is permitted by it.
    pub fn has_lost_its_mandate(&self, now: Timestamp) -> bool {
        self.consent.grantor.mandate().is_some() && !self.mandate.as_ref().is_some_and(|m| m.is_in_force(now))
    }
}

/// One entry about a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace {
    /// Its index.
    pub(crate) index: u64,
    /// The kind of its leaf.
    pub(crate) kind: u8,
    /// Index of the end, of an exchange that has one.
    pub(crate) end: Option<u64>,
}

impl Trace {
    /// Kind u8 ‖ end u64, where it has one.
    pub(super) fn encode(kind: u8, end: Option<u64>) -> Vec<u8> {
        let mut row = vec![kind];
        row.extend(end.map(u64::to_be_bytes).into_iter().flatten());
        row
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (kind, end) = value.split_first()?;
        let end = if end.is_empty() { None } else { Some(u64::from_be_bytes(end.try_into().ok()?)) };
        Some(Self { index: !keys::index_at(key)?, kind: *kind, end })
    }
}

impl State {
    /// One consent.
    pub(crate) fn consent(&self, id: ConsentId) -> Result<Option<Consent>, StoreError> {
        Ok(self.consent_row(id)?.map(|row| row.consent))
    }

    /// One consent, the entry that recorded this version and the one that used it last.
    pub(crate) fn consent_recorded(&self, id: ConsentId) -> Result<Option<Recorded<Consent>>, StoreError> {
        let recorded = |row: ConsentRow| Recorded { fact: row.consent, index: row.stamp.from, last_use: row.last_use };
        Ok(self.consent_row(id)?.map(recorded))
    }

    /// How often the consent of `permit` is used with its exchange; `None` where it uses none, or used it before.
    pub(crate) fn used_by(&self, permit: &Permit, now: Timestamp) -> Result<Option<Used>, StoreError> {
        let Some(id) = permit.consent().filter(|_| permit.attempt() == 1) else { return Ok(None) };
        Ok(self.consent_recorded(id)?.map(|Recorded { fact: mut consent, index, .. }| {
            consent.count_use(now);
            Used::of(&consent, index)
        }))
    }

    /// The record of the consent is kept for 36 months after this; `None` where there is no such consent.
    pub(crate) fn consent_kept_after(&self, id: ConsentId) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.consent_row(id)?.map(|row| row.kept_after))
    }

    /// One consent and its entry.
    pub(crate) fn ledger_consent(&self, id: ConsentId) -> Result<Option<LedgerConsent>, StoreError> {
        let Some(row) = self.consent_row(id)? else { return Ok(None) };
        let mandate = row.consent.grantor.mandate().map(|id| self.mandate(id)).transpose()?.flatten();
        Ok(Some(LedgerConsent { consent: row.consent, log_index: row.stamp.from, mandate }))
    }

    pub(super) fn consent_row(&self, id: ConsentId) -> Result<Option<ConsentRow>, StoreError> {
        if let Some((stamp, value)) = self.consents.borrow().get(&id) {
            let is_live = !self.purged.contains(stamp.period);
            return is_live.then(|| ConsentRow::decode(id, *stamp, value, &self.terms)).transpose();
        }
        let key = keys::consent(id);
        if !self.met.may_have(&key) {
            return Ok(None);
        }
        let Some((stamp, value)) = self.live(&key)? else { return Ok(None) };
        let row = ConsentRow::decode(id, stamp, &value, &self.terms)?;
        self.consents.borrow_mut().insert(id, (stamp, value.into()));
        Ok(Some(row))
    }

    /// At most `limit` consents of a person after `after`, newest first: those to `consumer`, or to all by administration.
    pub(crate) fn consents_of(
        &self,
        subject: SubjectRef,
        consumer: Option<Siret>,
        after: Option<ConsentId>,
        limit: usize,
    ) -> Result<Vec<LedgerConsent>, StoreError> {
        let is_listed = |c: &Consent| c.subject == subject && consumer.is_none_or(|consumer| c.consumer == consumer);
        let after = match after {
            None => None,
            // A consent of somebody else is no place in this list.
            Some(id) => match self.consent(id)?.filter(is_listed) {
                None => return Ok(Vec::new()),
                Some(consent) => Some(keys::consent_place(&consent)),
            },
        };
        let prefix =
            consumer.map_or_else(|| keys::consents_of_all(subject), |consumer| keys::consents(subject, consumer));
        let mut consents = Vec::new();
        for (place, _) in self.live_rows(&prefix, after.as_deref(), limit)? {
            let id = keys::consent_at(&place).ok_or_else(|| malformed("a consent's place"))?;
            consents.extend(self.ledger_consent(id)?);
        }
        Ok(consents)
    }

    /// The rows under `prefix` whose record was not purged: `limit`, or all that there are.
    fn live_rows(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let (mut rows, mut after) = (Vec::new(), after.map(<[u8]>::to_vec));
        loop {
            let wanted = limit.saturating_sub(rows.len());
            let page = self.rows.scan(prefix, after.as_deref(), wanted)?;
            let was_full = page.len() == wanted;
            after = page.last().map(|(key, _)| key.clone()).or(after);
            for (key, row) in page {
                let (stamp, value) = Stamp::split(&row)?;
                if !self.purged.contains(stamp.period) {
                    rows.push((key, value.to_vec()));
                }
            }
            // What was purged and not removed yet takes no place on the page.
            if !was_full || rows.len() >= limit {
                return Ok(rows);
            }
        }
    }

    /// One mandate.
    pub(crate) fn mandate(&self, id: MandateId) -> Result<Option<Mandate>, StoreError> {
        Ok(self.mandate_recorded(id)?.map(|recorded| recorded.fact))
    }

    /// One mandate and the entry that granted it.
    pub(crate) fn mandate_recorded(&self, id: MandateId) -> Result<Option<Recorded<Mandate>>, StoreError> {
        let row = self.live(&keys::mandate(id))?;
        row.map(|(stamp, row)| Ok(Recorded::by(stamp.from, decode(&row)?))).transpose()
    }

    /// The mandates that a person gave, or under which somebody acts for them, or they for somebody.
    pub(crate) fn mandates_of(&self, subject: SubjectRef) -> Result<Vec<Mandate>, StoreError> {
        let mut mandates = Vec::new();
        for (place, _) in self.live_rows(&keys::mandates_of(subject), None, MAX_MANDATES_LOOKED_AT)? {
            let id = keys::mandate_at(&place).ok_or_else(|| malformed("a mandate's place"))?;
            mandates.extend(self.mandate(id)?);
        }
        Ok(mandates)
    }

    /// The objection of the same person to the same administration for the same procedure.
    pub(crate) fn objection(&self, like: &Objection) -> Result<Option<Recorded<Objection>>, StoreError> {
        let row = self.live(&objection_key(like))?;
        row.map(|(stamp, row)| Ok(Recorded::by(stamp.from, decode(&row)?))).transpose()
    }

    /// All objections of a person, at most `limit`.
    pub(crate) fn objections_of(&self, subject: SubjectRef, limit: usize) -> Result<Vec<Objection>, StoreError> {
        let rows = self.live_rows(&keys::objections_of(subject), None, limit)?;
        rows.iter().map(|(_, row)| decode(row)).collect()
    }

    /// The objections of a person to proactive use by `consumer`, at most `limit`.
    pub(crate) fn objections_to(
        &self,
        subject: SubjectRef,
        consumer: Siret,
        limit: usize,
    ) -> Result<Vec<Objection>, StoreError> {
        // The key of the objection to all procedures is what those of each begin with.
        let rows = self.live_rows(&keys::objection(subject, consumer, None), None, limit)?;
        rows.iter().map(|(_, row)| decode(row)).collect()
    }

    /// The entries about a person before the one of index `before`, newest first: at most `limit`.
    pub(crate) fn traces(
        &self,
        subject: SubjectRef,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Trace>, StoreError> {
        let after = before.map(|index| keys::trace(subject, index));
        let rows = self.live_rows(&keys::traces(subject), after.as_deref(), limit)?;
        rows.iter().map(|(key, row)| Trace::decode(key, row).ok_or_else(|| malformed("a trace"))).collect()
    }

    /// Indexes of the ledger's entries that concern `consumer` after the one of index `after`: at most `limit`.
    pub(crate) fn changes(&self, consumer: Siret, after: Option<u64>, limit: usize) -> Result<Vec<u64>, StoreError> {
        let after = after.map(|index| keys::change(consumer, index));
        let rows = self.live_rows(&keys::changes(consumer), after.as_deref(), limit)?;
        rows.iter().map(|(key, _)| keys::index_at(key).ok_or_else(|| malformed("a change"))).collect()
    }

    /// What a decision on a question by `consumer` about `subject` looks at: the named consent, or all that this person
    /// gave this consumer, newest first; for proactive use, the person's objections; and the mandates of these consents and
    /// of whoever acts.
    pub(crate) fn person(
        &self,
        subject: SubjectRef,
        consumer: Siret,
        wanted: Wanted<'_>,
        acting: Option<MandateId>,
    ) -> Result<PersonFacts, StoreError> {
        let mut person = PersonFacts::default();
        match wanted {
            Wanted::Nothing => {}
            Wanted::Consent(id) => person.consents.extend(self.consent_recorded(id)?),
            Wanted::Consents => {
                let prefix = keys::consents(subject, consumer);
                for (place, _) in self.live_rows(&prefix, None, MAX_CONSENTS_LOOKED_AT)? {
                    let id = keys::consent_at(&place).ok_or_else(|| malformed("a consent's place"))?;
                    person.consents.extend(self.consent_recorded(id)?);
                }
            }
            Wanted::Objections(procedure) => {
                for procedure in [None, Some(procedure.as_str())] {
                    let row = self.live(&keys::objection(subject, consumer, procedure))?;
                    let objection = row.map(|(stamp, row)| Ok(Recorded::by(stamp.from, decode(&row)?)));
                    person.objections.extend(objection.transpose()?);
                }
            }
        }
        person.consents.retain(|c| c.subject == subject && c.consumer == consumer);
        person.consents.sort_by_key(|c| std::cmp::Reverse((c.granted_at, c.id)));
        let mut mandates: Vec<_> = person.consents.iter().filter_map(|c| c.grantor.mandate()).chain(acting).collect();
        mandates.sort_unstable();
        mandates.dedup();
        for id in mandates {
            person.mandates.extend(self.mandate_recorded(id)?);
        }
        Ok(person)
    }
}

/// What of the person a decision needs, by its ground.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted<'a> {
    Nothing,
    Consent(ConsentId),
    /// The newest [`MAX_CONSENTS_LOOKED_AT`].
    Consents,
    /// Those that cover this procedure.
    Objections(&'a ProcedureId),
}

impl<'a> Wanted<'a> {
    /// For the decision on a question.
    pub(crate) fn by(question: &'a Question) -> Self {
        match &question.ground {
            Ground::Consent { consent: Some(id) } => Self::Consent(*id),
            Ground::Consent { consent: None } => Self::Consents,
            Ground::Proactive { .. } => Self::Objections(&question.procedure),
            Ground::LawRequest { .. } | Ground::ExplicitRequest { .. } => Self::Nothing,
        }
    }

    /// For the second look at a permit.
    pub(crate) fn by_permit(permit: &'a Permit) -> Self {
        match (permit.consent(), permit.ground()) {
            (Some(id), _) => Self::Consent(id),
            (None, GroundKind::Proactive) => Self::Objections(permit.procedure()),
            (None, GroundKind::LawRequest | GroundKind::Consent | GroundKind::ExplicitRequest) => Self::Nothing,
        }
    }
}
