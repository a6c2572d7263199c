//! The row of a consent: what is its own, and the number of the terms that it shares with others.
//!
//! A procedure asks many persons for the same, so the terms of a consent are one small row for all of them, kept at hand.
//! They name no person: whatever may is in the row of the consent, which goes with its record.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use unefois_consent::frequency::WindowUses;
use unefois_consent::{
    AttributeId, Channel, Consent, ConsentId, ConsentStatus, ConsentUse, DataLife, DataPeriod, DatasetId, Digest,
    EidasLevel, Filter, Grantor, IdentityAssurance, Language, ProcedureId, Siret, SubjectRef, Timestamp,
};

use super::{Stamp, decode, encode, keys};
use crate::rows::Key;
use crate::store::{Fold, StoreError};

/// Most terms that are kept at hand, about 1 KB each. A consent on other terms has them in its own row.
const MAX_SHARED: usize = 65_536;

/// A consent as the fold has it.
#[derive(Debug, Clone)]
pub(super) struct ConsentRow {
    /// Of the entry that recorded this version.
    pub(super) stamp: Stamp,
    /// Index of the entry that used this version last.
    pub(super) last_use: Option<u64>,
    /// Its record is kept for 36 months after this.
    pub(super) kept_after: Timestamp,
    /// With its later decisions and uses.
    pub(super) consent: Consent,
}

impl ConsentRow {
    /// Index of the last use u64, 2^64 - 1 where there is none ‖ kept after u64 ‖ what [`SharedTerms::encode`] gives.
    pub(super) fn encode(&self, terms_row: &[u8]) -> Vec<u8> {
        let (last_use, kept_after) = (self.last_use.unwrap_or(u64::MAX), self.kept_after.as_millis());
        [&last_use.to_be_bytes()[..], &kept_after.to_be_bytes(), terms_row].concat()
    }

    pub(super) fn decode(id: ConsentId, stamp: Stamp, value: &[u8], terms: &SharedTerms) -> Result<Self, StoreError> {
        let malformed = || StoreError::Corrupt("a consent in the fold is malformed".to_owned());
        let (last_use, rest) = value.split_first_chunk::<8>().ok_or_else(malformed)?;
        let (kept_after, row) = rest.split_first_chunk::<8>().ok_or_else(malformed)?;
        let last_use = u64::from_be_bytes(*last_use);
        let last_use = (last_use != u64::MAX).then_some(last_use);
        let kept_after = Timestamp::from_millis(u64::from_be_bytes(*kept_after));
        Ok(Self { stamp, last_use, kept_after, consent: terms.decode(id, row)? })
    }
}

/// What consents of one procedure have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Terms {
    schema: u32,
    consumer: Siret,
    recipients: BTreeSet<Siret>,
    sources: BTreeSet<Siret>,
    procedure: ProcedureId,
    attributes: BTreeSet<AttributeId>,
    notice_version: u32,
    notice_digest: Digest,
    language: Language,
    channel: Channel,
    usage: ConsentUse,
}

/// What only this consent has.
#[derive(Debug, Serialize, Deserialize)]
struct Own<'a> {
    version: u32,
    previous: Option<Digest>,
    subject: SubjectRef,
    grantor: Grantor,
    /// Level, acr and time of authentication.
    #[serde(borrow)]
    assurance: Option<(EidasLevel, Cow<'a, str>, Timestamp)>,
    /// A filter may hold a person's number.
    filters: Cow<'a, BTreeMap<DatasetId, Filter>>,
    period: Option<DataPeriod>,
    data_life: DataLife,
    evidence: Option<Digest>,
    not_before: Timestamp,
    expires_at: Timestamp,
    #[serde(borrow)]
    agent: Cow<'a, str>,
    granted_at: Timestamp,
    status: ConsentStatus,
    uses: u64,
    window: Option<WindowUses>,
}

#[derive(Debug, Serialize, Deserialize)]
enum TermsOf<'a> {
    Shared(u32),
    Own(Cow<'a, Terms>),
}

impl Terms {
    fn of(consent: &Consent) -> Self {
        Self {
            schema: consent.schema,
            consumer: consent.consumer,
            recipients: consent.recipients.clone(),
            sources: consent.sources.clone(),
            procedure: consent.procedure.clone(),
            attributes: consent.attributes.clone(),
            notice_version: consent.notice_version,
            notice_digest: consent.notice_digest,
            language: consent.language,
            channel: consent.channel,
            usage: consent.usage,
        }
    }

    fn are_of(&self, consent: &Consent) -> bool {
        let Self {
            schema,
            consumer,
            recipients,
            sources,
            procedure,
            attributes,
            notice_version,
            notice_digest,
            language,
            channel,
            usage,
        } = self;
        (*schema, *consumer, *notice_version) == (consent.schema, consent.consumer, consent.notice_version)
            && (*notice_digest, *language) == (consent.notice_digest, consent.language)
            && (*channel, *usage) == (consent.channel, consent.usage)
            && *procedure == consent.procedure
            && *recipients == consent.recipients
            && *sources == consent.sources
            && *attributes == consent.attributes
    }

    fn with(&self, id: ConsentId, own: Own<'_>) -> Consent {
        let assurance = own.assurance.map(|(level, acr, authenticated_at)| IdentityAssurance {
            level,
            acr: acr.into_owned(),
            authenticated_at,
        });
        Consent {
            id,
            schema: self.schema,
            version: own.version,
            previous: own.previous,
            subject: own.subject,
            grantor: own.grantor,
            assurance,
            consumer: self.consumer,
            recipients: self.recipients.clone(),
            sources: self.sources.clone(),
            procedure: self.procedure.clone(),
            attributes: self.attributes.clone(),
            filters: own.filters.into_owned(),
            period: own.period,
            notice_version: self.notice_version,
            notice_digest: self.notice_digest,
            language: self.language,
            channel: self.channel,
            evidence: own.evidence,
            not_before: own.not_before,
            expires_at: own.expires_at,
            usage: self.usage,
            data_life: own.data_life,
            agent: own.agent.into_owned(),
            granted_at: own.granted_at,
            status: own.status,
            uses: own.uses,
            window: own.window,
        }
    }
}

impl<'a> Own<'a> {
    fn of(consent: &'a Consent) -> Self {
        let assurance = consent.assurance.as_ref();
        Self {
            version: consent.version,
            previous: consent.previous,
            subject: consent.subject,
            grantor: consent.grantor,
            assurance: assurance.map(|a| (a.level, Cow::Borrowed(a.acr.as_str()), a.authenticated_at)),
            filters: Cow::Borrowed(&consent.filters),
            period: consent.period,
            data_life: consent.data_life,
            evidence: consent.evidence,
            not_before: consent.not_before,
            expires_at: consent.expires_at,
            agent: Cow::Borrowed(&consent.agent),
            granted_at: consent.granted_at,
            status: consent.status,
            uses: consent.uses,
            window: consent.window,
        }
    }
}

/// Key and value.
type TermsRow = (Key, Vec<u8>);

/// The terms that rows name by number, in the order in which the log first used them.
#[derive(Debug)]
pub(super) struct SharedTerms {
    most: usize,
    terms: Vec<Arc<Terms>>,
    numbers: HashMap<Arc<Terms>, u32>,
    /// Of the last consent: the next one often has the same.
    last: u32,
}

impl SharedTerms {
    pub(super) fn load(fold: &dyn Fold) -> Result<Self, StoreError> {
        let mut shared = Self::of_at_most(MAX_SHARED);
        for (_, row) in fold.scan(keys::TERMS, None, MAX_SHARED)? {
            shared.add(Arc::new(decode(&row)?));
        }
        Ok(shared)
    }

    fn of_at_most(most: usize) -> Self {
        Self { most, terms: Vec::new(), numbers: HashMap::new(), last: 0 }
    }

    fn add(&mut self, terms: Arc<Terms>) -> u32 {
        // There are `most` at most.
        let number = u32::try_from(self.terms.len()).unwrap_or(u32::MAX);
        self.terms.push(Arc::clone(&terms));
        self.numbers.insert(terms, number);
        number
    }

    /// The value of the row of `consent`, and the row of its terms where they are new.
    pub(super) fn encode(&mut self, consent: &Consent) -> Result<(Vec<u8>, Option<TermsRow>), StoreError> {
        let last = self.last;
        if self.number(last).is_some_and(|terms| terms.are_of(consent)) {
            return Ok((row(TermsOf::Shared(last), consent)?, None));
        }
        let terms = Terms::of(consent);
        let (of, new) = match self.numbers.get(&terms) {
            Some(number) => {
                self.last = *number;
                (TermsOf::Shared(*number), None)
            }
            None if self.terms.len() >= self.most => (TermsOf::Own(Cow::Owned(terms)), None),
            None => {
                let row = encode(&terms)?;
                let number = self.add(Arc::new(terms));
                self.last = number;
                (TermsOf::Shared(number), Some((keys::terms(number), row)))
            }
        };
        Ok((row(of, consent)?, new))
    }

    fn number(&self, number: u32) -> Option<&Arc<Terms>> {
        usize::try_from(number).ok().and_then(|number| self.terms.get(number))
    }

    /// The consent `id` of such a value.
    pub(super) fn decode(&self, id: ConsentId, row: &[u8]) -> Result<Consent, StoreError> {
        let damaged = || StoreError::Corrupt("the row of a consent does not parse".to_owned());
        let (of, own): (TermsOf<'_>, Own<'_>) = postcard::from_bytes(row).map_err(|_| damaged())?;
        Ok(match of {
            TermsOf::Own(terms) => terms.with(id, own),
            TermsOf::Shared(number) => self.number(number).ok_or_else(damaged)?.with(id, own),
        })
    }
}

fn row(of: TermsOf<'_>, consent: &Consent) -> Result<Vec<u8>, StoreError> {
    postcard::to_stdvec(&(of, Own::of(consent)))
        .map_err(|error| StoreError::NotWritten(format!("the row of a consent cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use unefois_consent::Event;

    use super::*;
    use unefois_consent::DecidedBy;

    /// The consents of every layout that a log may hold, each in the states that its events lead to.
    fn consents() -> Vec<Consent> {
        let events = include_str!("../../../../consent/testdata/events-v1.jsonl").lines();
        let recorded = events.filter_map(|line| {
            let event: Event = serde_json::from_str(line).unwrap();
            if let Event::ConsentRequested(e) | Event::ConsentGranted(e) | Event::ConsentRenewed(e) = event {
                Some(e.consent)
            } else {
                None
            }
        });
        let mut all: Vec<Consent> = recorded.collect();
        let mut used = all.clone();
        for (n, consent) in used.iter_mut().enumerate() {
            consent.count_use(consent.not_before);
            consent.status = ConsentStatus::Paused { at: consent.not_before, by: DecidedBy::Person };
            consent.notice_version += u32::try_from(n).unwrap();
        }
        all.extend(used);
        assert!(all.len() > 6);
        all
    }

    #[test]
    fn a_consent_comes_back_as_it_was_whether_or_not_its_terms_are_shared() {
        for most in [0, 2, 100] {
            let mut shared = SharedTerms::of_at_most(most);
            let rows: Vec<_> = consents().iter().map(|consent| shared.encode(consent).unwrap().0).collect();
            for (consent, row) in consents().iter().zip(&rows) {
                assert_eq!(shared.decode(consent.id, row).unwrap(), *consent);
            }
            assert!(shared.terms.len() <= most);
        }
    }

    #[test]
    fn terms_are_written_once() {
        let mut shared = SharedTerms::of_at_most(100);
        let consent = consents().remove(0);
        assert!(shared.encode(&consent).unwrap().1.is_some());
        let another = Consent { id: ConsentId([9; 16]), agent: "guichet-4".to_owned(), uses: 8, ..consent };
        assert!(shared.encode(&another).unwrap().1.is_none());
    }

    #[test]
    fn a_row_of_terms_that_are_not_there_is_damage() {
        let consent = consents().remove(0);
        let (row, _) = SharedTerms::of_at_most(1).encode(&consent).unwrap();
        assert!(matches!(SharedTerms::of_at_most(1).decode(consent.id, &row), Err(StoreError::Corrupt(_))));
        assert!(matches!(SharedTerms::of_at_most(1).decode(consent.id, &row[..9]), Err(StoreError::Corrupt(_))));
    }
}
