//! State: the fold of the log that decisions look at.
//!
//! `apply` is the only way in, for the sequencer, for opening and for replay alike, so that all three reach the same
//! state from the same entries. The registry and the exchanges under way live in memory; everything that grows with the
//! number of persons is in [`Rows`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use unefois_audit::Hash;
use unefois_consent::decide::{Earlier, UsedToday};
use unefois_consent::registry::{Registry, RegistryFile};
use unefois_consent::{
    ConsentId, Digest, ExchangeId, HabilitationId, Month, RecordPeriod, RequestId, Retention, Rules, Siret, SubjectRef,
    Timestamp,
};

use crate::rows::{Chunk, OwnChange, Rows};
use crate::seal::KeyState;
use crate::store::{Fold, StoreError};

mod apply;
mod consent_row;
mod holds;
mod keys;
mod ledger;
mod listing;
mod met;
mod purge;
mod references;
mod stamp;
mod tables;

use consent_row::SharedTerms;
pub(crate) use holds::HeldBack;
pub(crate) use keys::BY_PERSON;
pub use ledger::LedgerConsent;
pub(crate) use ledger::{Trace, Wanted};
pub use listing::live_rows;
pub(crate) use met::{Learner, MetIds};
pub(crate) use purge::{Candidate, Sweeper};
use references::References;
pub(crate) use stamp::PurgedPeriods;
use stamp::Stamp;

/// Which keys and rows this code reads. Another layout in a fold means that it is rebuilt from the journal, so a change of
/// [`keys`] or of a row takes a new number here.
const LAYOUT: &[u8] = b"11";

/// The rows that tie a fold to one history and one layout: the root of the tree at its position, and [`LAYOUT`].
pub(crate) fn tie_rows(root: &Hash) -> [OwnChange; 2] {
    [(keys::ROOT.to_vec(), Some(root.0.to_vec())), (keys::LAYOUT.to_vec(), Some(LAYOUT.to_vec()))]
}

/// An exchange that was permitted and has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenExchange {
    pub(crate) exchange: ExchangeId,
    pub(crate) subject: SubjectRef,
    /// Of its records.
    pub(crate) retention: Retention,
}

/// What is kept of a request id: exchange 16 ‖ content 32 ‖ at u64 ‖ attempts u32 ‖ index u64 ‖ consent 16 or nothing. One row an
/// exchange, so it is not JSON.
fn encode_earlier(row: &Earlier) -> Vec<u8> {
    let consent = row.consent.as_ref().map_or(&[][..], |id| &id.0);
    let (at, attempts) = (row.at.as_millis().to_be_bytes(), row.attempts.to_be_bytes());
    [&row.exchange.0[..], &row.content.0[..], &at, &attempts, &row.index.to_be_bytes(), consent].concat()
}

/// `retention` is that of the stamp.
fn decode_earlier(row: &[u8], retention: Retention) -> Option<Earlier> {
    let (exchange, rest) = row.split_first_chunk::<16>()?;
    let (content, rest) = rest.split_first_chunk::<32>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (attempts, rest) = rest.split_first_chunk::<4>()?;
    let (index, consent) = rest.split_first_chunk::<8>()?;
    let consent = if consent.is_empty() { None } else { Some(ConsentId(consent.try_into().ok()?)) };
    Some(Earlier {
        exchange: ExchangeId(*exchange),
        content: Digest(*content),
        at: Timestamp::from_millis(u64::from_be_bytes(*at)),
        attempts: u32::from_be_bytes(*attempts),
        consent,
        index: u64::from_be_bytes(*index),
        retention,
    })
}

/// Exchanges permitted on one day.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct UsageRow {
    day: u64,
    count: u64,
}

/// What the log says of itself: small, and written with each chunk where it changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogFacts {
    /// By which rules it is decided.
    rules: Option<Rules>,
    /// By which the key of subjects is known again.
    subject_key: Option<Digest>,
    /// The keys of records that were made and whose records were not purged: by which each is known again.
    keys: BTreeMap<RecordPeriod, Digest>,
    /// Month and time of the last purge.
    last_purge: Option<(Month, Timestamp)>,
}

/// Uses of the habilitations that a decision may count.
#[derive(Debug, Default)]
pub(crate) struct Usage(BTreeMap<HabilitationId, UsageRow>);

impl UsedToday for Usage {
    fn used(&self, habilitation: &HabilitationId, day: u64) -> u64 {
        self.0.get(habilitation).filter(|row| row.day == day).map_or(0, |row| row.count)
    }
}

/// The state after the entries before `size`.
#[derive(Debug)]
pub(crate) struct State {
    size: u64,
    time: Timestamp,
    registry: Arc<Registry>,
    registry_version: u64,
    registry_dirty: bool,
    open: BTreeMap<u64, OpenExchange>,
    rows: Rows,
    terms: SharedTerms,
    met: Arc<MetIds>,
    purged: Arc<PurgedPeriods>,
    log: LogFacts,
    /// Of `purged` and `log`.
    log_dirty: bool,
    /// Of a replay alone.
    references: References,
    /// Of a replay alone.
    exchanges: References,
    /// Subjects met lately, and the records that they come from.
    subjects: AtHand<Digest, KnownSubject>,
    /// Rows of consents looked at lately: each exchange looks at its own three times.
    consents: RefCell<ConsentRows>,
}

/// A person who was met before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownSubject {
    pub(crate) subject: SubjectRef,
    /// The record that says so.
    pub(crate) stamp: Stamp,
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::Corrupt(format!("a row of the fold does not parse: {error}")))
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::NotWritten(format!("a row cannot be written: {error}")))
}

/// Whether the rows of `fold` are of this code's layout. Rows of another one may not parse.
pub(crate) fn is_of_this_layout(fold: &dyn Fold) -> Result<bool, StoreError> {
    Ok(fold.folded()? == 0 || fold.get(keys::LAYOUT)?.as_deref() == Some(LAYOUT))
}

impl State {
    /// The state that `fold`, which is of this code's layout, holds.
    pub(crate) fn load(fold: Arc<dyn Fold>) -> Result<Self, StoreError> {
        let size = fold.folded()?;
        let terms = SharedTerms::load(&*fold)?;
        let rows = Rows::new(fold);
        let (registry_version, registry) = match rows.get(keys::REGISTRY)? {
            None => (0, Registry::default()),
            Some(row) => {
                let (version, file): (u64, RegistryFile) = decode(&row)?;
                (version, Registry::from_log(file))
            }
        };
        let purged: BTreeSet<RecordPeriod> =
            rows.get(keys::PURGED)?.map(|row| decode(&row)).transpose()?.unwrap_or_default();
        let purged = PurgedPeriods::from_row(purged);
        let log: LogFacts = rows.get(keys::LOG)?.map(|row| decode(&row)).transpose()?.unwrap_or_default();
        if let Some((due, _)) = log.last_purge {
            purged.count_uses_from(due);
        }
        let open = rows.get(keys::OPEN)?.map(|row| decode(&row)).transpose()?.unwrap_or_default();
        Ok(Self {
            size,
            time: Timestamp::default(),
            registry: Arc::new(registry),
            registry_version,
            registry_dirty: false,
            open,
            rows,
            terms,
            met: Arc::new(MetIds::new(size == 0)),
            purged: Arc::new(purged),
            log,
            log_dirty: false,
            references: References::default(),
            exchanges: References::default(),
            subjects: AtHand::new(MAX_SUBJECTS_AT_HAND),
            consents: RefCell::new(AtHand::new(MAX_CONSENTS_AT_HAND)),
        })
    }

    /// The root of the tree of the history that the fold was folded from; absent in an empty fold.
    pub(crate) fn folded_root(&self) -> Result<Option<Hash>, StoreError> {
        let Some(row) = self.rows.get(keys::ROOT)? else { return Ok(None) };
        let root = row
            .as_slice()
            .try_into()
            .map_err(|_| StoreError::Corrupt("the fold's root has not 32 bytes".to_owned()))?;
        Ok(Some(Hash(root)))
    }

    /// The request ids and persons met, for whoever makes them known.
    pub(crate) fn met(&self) -> Arc<MetIds> {
        Arc::clone(&self.met)
    }

    /// The periods that were purged.
    pub(crate) fn purged(&self) -> &Arc<PurgedPeriods> {
        &self.purged
    }

    /// The last month whose records were purged, all or some, where that is `month` or later.
    pub(crate) fn purged_since(&self, month: Month) -> Option<Month> {
        self.purged.last_month().filter(|purged| *purged >= month)
    }

    /// By which rules the next entry is decided.
    pub(crate) fn rules(&self) -> Rules {
        self.log.rules.unwrap_or(Rules::NEWEST)
    }

    /// By which the log knows the key of subjects again; absent in an empty log.
    pub(crate) fn subject_key_check(&self) -> Option<Digest> {
        self.log.subject_key
    }

    /// By which the log knows the key of the records of `period` again, where it was made and not destroyed.
    pub(crate) fn key_check(&self, period: RecordPeriod) -> Option<Digest> {
        self.log.keys.get(&period).copied()
    }

    /// Whether the key of `period` was made already.
    pub(crate) fn key_state(&self, period: RecordPeriod) -> KeyState {
        if self.log.keys.contains_key(&period) { KeyState::Made } else { KeyState::New }
    }

    /// The periods whose records can be read, with what their keys are known by.
    pub(crate) fn keys_made(&self) -> &BTreeMap<RecordPeriod, Digest> {
        &self.log.keys
    }

    /// The oldest month in which records are due at `now`, and all periods that are due in it.
    pub(crate) fn due(&self, now: Month) -> Option<(Month, BTreeSet<RecordPeriod>)> {
        let mut due: BTreeMap<Month, BTreeSet<RecordPeriod>> = BTreeMap::new();
        for period in self.log.keys.keys() {
            if let Some(month) = period.due().filter(|month| *month <= now) {
                due.entry(month).or_default().insert(*period);
            }
        }
        due.pop_first()
    }

    /// Whether a purge may be written at `now`: a day has passed since the last one, so that a wrong clock does not destroy
    /// years of records before somebody notices.
    pub(crate) fn may_purge(&self, now: Timestamp) -> bool {
        self.log.last_purge.is_none_or(|(_, at)| now.since(at) >= BETWEEN_PURGES)
    }

    /// How many entries the state reflects.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Time of the last entry.
    pub(crate) fn time(&self) -> Timestamp {
        self.time
    }

    /// The registry.
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Size of the log after the registry's last change.
    pub(crate) fn registry_version(&self) -> u64 {
        self.registry_version
    }

    /// Exchanges that have not ended, by the index of their entry Requested.
    pub(crate) fn open(&self) -> &BTreeMap<u64, OpenExchange> {
        &self.open
    }

    /// The row of `key` with its stamp, unless its record was purged.
    fn live(&self, key: &[u8]) -> Result<Option<(Stamp, Vec<u8>)>, StoreError> {
        let Some(row) = self.rows.get(key)? else { return Ok(None) };
        let (stamp, value) = Stamp::split(&row)?;
        Ok((!self.purged.contains(stamp.period)).then(|| (stamp, value.to_vec())))
    }

    /// The person that an identity's tag stands for.
    pub(crate) fn subject(&mut self, tag: &Digest) -> Result<Option<KnownSubject>, StoreError> {
        if let Some(known) = self.subjects.get(tag) {
            return Ok(Some(*known));
        }
        let key = keys::subject(tag);
        if !self.met.may_have(&key) {
            return Ok(None);
        }
        let Some((stamp, value)) = self.live(&key)? else { return Ok(None) };
        let bytes = value.try_into().map_err(|_| StoreError::Corrupt("a subject row has not 16 bytes".to_owned()))?;
        let known = KnownSubject { subject: SubjectRef(bytes), stamp };
        self.subjects.insert(*tag, known);
        Ok(Some(known))
    }

    /// The earlier request of `consumer` with this id.
    pub(crate) fn earlier(&self, consumer: Siret, request_id: &RequestId) -> Result<Option<Earlier>, StoreError> {
        let key = keys::request(consumer, request_id);
        if !self.met.may_have(&key) {
            return Ok(None);
        }
        let Some((stamp, row)) = self.live(&key)? else { return Ok(None) };
        let damaged = || StoreError::Corrupt("a row of an earlier request does not parse".to_owned());
        decode_earlier(&row, stamp.period.retention).map(Some).ok_or_else(damaged)
    }

    /// Today's uses of the consumer's habilitations that have a quota.
    pub(crate) fn usage(&self, consumer: Siret) -> Result<Usage, StoreError> {
        let mut usage = Usage::default();
        for habilitation in self.registry.habilitations_of(consumer).filter(|h| h.quota_per_day.is_some()) {
            if let Some(row) = self.rows.get(&keys::usage(&habilitation.id))? {
                usage.0.insert(habilitation.id.clone(), decode(&row)?);
            }
        }
        Ok(usage)
    }

    /// The last entry is of `time`.
    pub(crate) fn set_time(&mut self, time: Timestamp) {
        self.time = time;
    }

    /// From here on the fold is built from so many entries, in chunks of [`BUILT_AT_ONCE`] rows, until [`State::built`].
    pub(crate) fn build(&mut self, entries: u64) {
        let rows = usize::try_from(entries).unwrap_or(usize::MAX).saturating_mul(ROWS_OF_ENTRY);
        self.rows.build(rows.min(BUILT_AT_ONCE));
    }

    /// The fold is built, and has all that was derived.
    pub(crate) fn built(&mut self) {
        self.rows.built();
    }

    /// Rows that wait for the fold, and how many of them no chunk has taken.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.rows.waiting(), self.rows.dirty())
    }

    /// What brings the fold to this state. The rows stay visible here until [`State::folded`], and only then may the next
    /// chunk be taken.
    pub(crate) fn take_chunk(&mut self) -> Result<Chunk, StoreError> {
        let mut chunk = self.rows.take_chunk(self.size);
        chunk.extend([self.open_row()?]);
        if std::mem::take(&mut self.log_dirty) {
            chunk.extend([self.purged_row()?, self.log_row()?]);
        }
        if std::mem::take(&mut self.registry_dirty) {
            chunk.extend([self.registry_row()?]);
        }
        Ok(chunk)
    }

    fn open_row(&self) -> Result<OwnChange, StoreError> {
        Ok((keys::OPEN.to_vec(), Some(encode(&self.open)?)))
    }

    fn purged_row(&self) -> Result<OwnChange, StoreError> {
        Ok((keys::PURGED.to_vec(), Some(encode(&self.purged.all())?)))
    }

    fn log_row(&self) -> Result<OwnChange, StoreError> {
        Ok((keys::LOG.to_vec(), Some(encode(&self.log)?)))
    }

    fn registry_row(&self) -> Result<OwnChange, StoreError> {
        Ok((keys::REGISTRY.to_vec(), Some(encode(&(self.registry_version, self.registry.to_file()))?)))
    }

    /// What lies in memory and is written with each chunk, as the fold has it.
    pub(crate) fn rows_in_memory(&self) -> Result<[OwnChange; 4], StoreError> {
        Ok([self.open_row()?, self.purged_row()?, self.log_row()?, self.registry_row()?])
    }

    /// The fold has all entries before `position`.
    pub(crate) fn folded(&mut self, position: u64) {
        self.rows.folded(position);
    }
}

fn malformed(what: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} in the fold is malformed"))
}

/// At least so long lies between two purges.
const BETWEEN_PURGES: Duration = Duration::from_secs(24 * 60 * 60);

/// Rows that are kept in memory because they are looked at again and again.
type AtHand<K, V> = quick_cache::unsync::Cache<K, V>;
type ConsentRows = AtHand<ConsentId, (Stamp, Box<[u8]>)>;
/// A fold that is built anew gets its rows in chunks of so many, about 120 MB: each is a table that a look into the fold asks.
pub(crate) const BUILT_AT_ONCE: usize = 1_000_000;
/// Most entries change fewer rows.
const ROWS_OF_ENTRY: usize = 5;
/// Subjects that are kept at hand: about 90 bytes each. Every exchange begins with one, and a read from the fold takes longer
/// than the decision.
const MAX_SUBJECTS_AT_HAND: usize = 4_000_000;
/// Consents that are kept at hand: about 250 bytes each.
const MAX_CONSENTS_AT_HAND: usize = 250_000;
