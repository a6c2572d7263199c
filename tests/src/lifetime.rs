//! A log that lives for years: a real engine over a store in memory, a clock that a test moves, and everything that an
//! administration, a person, a DPO and an operator may do, at any time.
//!
//! A life is a list of [`Deed`]s for each month. What the broker refuses is refused; what it may never do is fail by itself. What
//! must hold after each month is checked by [`Lifetime::month_ends`].

mod deeds;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use unefois::config::Loaded;
use unefois::init::{Layout, init};
use unefois_connectors::{Guarded, Limits};
use unefois_consent::id::ConnectorName;
use unefois_consent::registry::RegistryFile;
use unefois_consent::{ConsentId, GroundKind, MandateId, Month, PivotIdentity, Timestamp};
use unefois_engine::replay::{JournalSource, live_rows, replay, verify};
use unefois_engine::seal::Opener;
use unefois_engine::store::{Fold, Journal};
use unefois_engine::{Clock, Ed25519Signer, Engine, EngineError, EngineParts, ManualClock, Signer};
use unefois_proto::common::identity;
use unefois_proto::v1;
use unefois_store::MemoryStore;

use crate::ask::{CANTEEN, person};
use crate::source::ScriptedSource;
use crate::world;

/// A procedure whose traces an article keeps for twelve months.
const SHORT: &str = "demande-europeenne";
const HOUR: Duration = Duration::from_secs(3_600);

/// What may be done. Numbers are taken modulo what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Act {
    AskByLaw,
    AskShort,
    AskProactively,
    AskByConsent,
    AskByAnyConsent,
    AskUnderMandate,
    AskAgain,
    AskTooMuch,
    AskAndWithdrawMeanwhile,
    AskTooLate,
    AskAndRestart,
    Record,
    RecordUnderMandate,
    Request,
    Answer,
    Renew,
    RenewInPerson,
    Decide,
    DecideInPerson,
    DecideUnderMandate,
    PauseAndResume,
    Revoke,
    Object,
    ObjectInPerson,
    Lift,
    LiftInPerson,
    Mandate,
    EndMandate,
    EndMandateInPerson,
    ReadOwn,
    ReadUnderMandate,
    ReadReceipt,
    ReadAsDpo,
    ChangeRegistry,
    ChangeRules,
}

impl Act {
    /// Every act.
    pub const ALL: [Self; 35] = [
        Self::AskByLaw,
        Self::AskShort,
        Self::AskProactively,
        Self::AskByConsent,
        Self::AskByAnyConsent,
        Self::AskUnderMandate,
        Self::AskAgain,
        Self::AskTooMuch,
        Self::AskAndWithdrawMeanwhile,
        Self::AskTooLate,
        Self::AskAndRestart,
        Self::Record,
        Self::RecordUnderMandate,
        Self::Request,
        Self::Answer,
        Self::Renew,
        Self::RenewInPerson,
        Self::Decide,
        Self::DecideInPerson,
        Self::DecideUnderMandate,
        Self::PauseAndResume,
        Self::Revoke,
        Self::Object,
        Self::ObjectInPerson,
        Self::Lift,
        Self::LiftInPerson,
        Self::Mandate,
        Self::EndMandate,
        Self::EndMandateInPerson,
        Self::ReadOwn,
        Self::ReadUnderMandate,
        Self::ReadReceipt,
        Self::ReadAsDpo,
        Self::ChangeRegistry,
        Self::ChangeRules,
    ];
}

/// One deed.
#[derive(Debug, Clone, Copy)]
pub struct Deed {
    /// What.
    pub act: Act,
    /// By or about which person.
    pub who: u8,
    /// Which consent, mandate, question, decision.
    pub which: u8,
    /// How long something lasts.
    pub span: u8,
    /// In the last minutes of the month.
    pub at_the_end: bool,
}

/// How a month ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct MonthEnd {
    /// The fold is built anew from the journal.
    pub rebuilds: bool,
    /// The log goes on under another key.
    pub closes_shard: bool,
    /// So many days the clock is ahead at a start, until somebody notices it some days later.
    pub clock_ahead: Option<u8>,
}

/// A log over years.
pub struct Lifetime {
    store: MemoryStore,
    clock: Arc<ManualClock>,
    source: Arc<ScriptedSource>,
    connectors: Vec<ConnectorName>,
    registry: RegistryFile,
    signer: Arc<dyn Signer>,
    shards: u32,
    engine: Option<Arc<Engine>>,
    /// The last question.
    asked: Option<v1::ExchangeRequest>,
    /// With the person that each is of.
    consents: Vec<(ConsentId, u8)>,
    /// With whoever gave each and whoever got it.
    mandates: Vec<(MandateId, u8, u8)>,
}

fn name(who: u8) -> &'static str {
    ["MARCHAND", "DURAND", "MOREAU", "PETIT", "ROUX"][usize::from(who) % 5]
}

fn identity_of(who: u8) -> PivotIdentity {
    identity("subject", Some(&person(name(who)))).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// The registry of `unefois init` for long, with procedures of several lengths.
fn for_long(file: &mut RegistryFile) {
    let forever = "2999-01-01T00:00:00Z".parse().unwrap();
    for procedure in &mut file.procedures {
        procedure.consent_max_days = 1_095;
    }
    for held in &mut file.habilitations {
        held.valid_until = forever;
        held.quota_per_day = Some(50);
        if held.procedures.iter().any(|id| id.as_str() == CANTEEN) {
            held.grounds.insert(GroundKind::Proactive);
            held.retention_months = 12;
        }
    }
    let mut short = file.procedures.iter().find(|p| p.id.as_str() == CANTEEN).unwrap().clone();
    short.id = SHORT.parse().unwrap();
    (short.trace_months, short.trace_article) = (12, "2022/1463 art. 17".to_owned());
    file.procedures.push(short);
    let of_canteen =
        |held: &&unefois_consent::registry::Habilitation| held.procedures.iter().any(|id| id.as_str() == CANTEEN);
    let mut held = file.habilitations.iter().find(of_canteen).unwrap().clone();
    held.id = "saint-exemple-europe".parse().unwrap();
    held.procedures = [SHORT.parse().unwrap()].into();
    file.habilitations.push(held);
}

impl Lifetime {
    /// A log that begins in the first hours of `month`.
    pub async fn begin(month: Month) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = init(&folder.path().join("broker"), &Layout::development()).unwrap();
        let mut loaded = Loaded::open(&made.config()).unwrap();
        for_long(&mut loaded.registry);
        let mut life = Self {
            store: MemoryStore::new(),
            clock: Arc::new(ManualClock::new(first_of(month))),
            source: ScriptedSource::new(),
            connectors: loaded.connectors.keys().cloned().collect(),
            registry: loaded.registry,
            signer: loaded.signer,
            shards: 0,
            engine: None,
            asked: None,
            consents: Vec::new(),
            mandates: Vec::new(),
        };
        life.open().await;
        life
    }

    async fn open(&mut self) {
        let sources = self.connectors.iter().map(|name| {
            let guarded = Guarded::new(name.clone(), self.source.clone(), Limits::default());
            (name.clone(), Arc::new(guarded))
        });
        let store = Arc::new(self.store.clone());
        let parts = EngineParts {
            journal: store.clone(),
            fold: store.clone(),
            keys: store.clone(),
            head: store,
            signer: self.signer.clone(),
            clock: self.clock.clone(),
            sources: sources.collect::<BTreeMap<_, _>>(),
            first_registry: self.registry.clone(),
        };
        self.engine = Some(Arc::new(Engine::open(parts, &mut |_, _| {}).await.unwrap()));
    }

    /// Opens, and accepts the clock as an operator does where it is in doubt because nothing was written for months.
    async fn start(&mut self) {
        self.open().await;
        if self.engine().check_clock().is_err() {
            self.next_shard(true).await;
        }
    }

    /// Goes on in another shard, because the key changes or because the clock is accepted.
    async fn next_shard(&mut self, accepts_clock: bool) {
        self.shards += 1;
        let pkcs8 = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let origin = format!("lifetime.example/{}", self.shards);
        let next: Arc<dyn Signer> = Arc::new(Ed25519Signer::from_pkcs8(&origin, pkcs8.as_ref()).unwrap());
        let closed = if accepts_clock {
            self.engine().accept_clock(&*self.signer, &*next).await
        } else {
            self.engine().close_shard(&*self.signer, &*next).await
        };
        closed.unwrap();
        self.signer = next;
        // The next start folds the two ends.
        self.close().await;
        self.open().await;
    }

    async fn close(&mut self) {
        let engine = self.engine.take().unwrap();
        tokio::task::spawn_blocking(move || engine.close()).await.unwrap();
        self.store.reopen();
    }

    fn engine(&self) -> &Arc<Engine> {
        self.engine.as_ref().unwrap()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Time passes until it is `time`; none does where it is later.
    fn time_passes_until(&self, time: Timestamp) {
        self.clock.advance(time.since(self.now()));
    }

    /// Kinds of all entries so far.
    pub fn kinds(&self) -> BTreeSet<u8> {
        let mut kinds = BTreeSet::new();
        self.store
            .read(0, &mut |batch| {
                kinds.extend(batch.entries.iter().map(|entry| entry.leaf.kind));
                unefois_engine::store::Visit::Continue
            })
            .unwrap();
        kinds
    }

    /// Lives through the month of the clock: `deeds` in it, in their order, those at its end in its last minutes.
    pub async fn month(&mut self, deeds: &[Deed]) {
        let month = self.now().month();
        let end = first_of(Month::from_number(month.number() + 1));
        let pause = end.since(self.now()) / (u32::try_from(deeds.len()).unwrap() + 2);
        for deed in deeds.iter().filter(|deed| !deed.at_the_end) {
            self.clock.advance(pause);
            self.may_be_refused(*deed).await;
        }
        self.time_passes_until(end.minus(HOUR / 8));
        for deed in deeds.iter().filter(|deed| deed.at_the_end) {
            self.clock.advance(HOUR / 360);
            self.may_be_refused(*deed).await;
        }
        self.time_passes_until(end.plus(HOUR / 60));
        // What was asked last is asked again on the other side of midnight, within the quarter of an hour.
        if deeds.iter().any(|deed| deed.at_the_end) {
            self.may_be_refused(Deed { act: Act::AskAgain, who: 0, which: 0, span: 0, at_the_end: false }).await;
        }
    }

    /// The broker may refuse anything, and must not fail by itself.
    async fn may_be_refused(&mut self, deed: Deed) {
        match self.deed(deed).await {
            Ok(())
            | Err(
                EngineError::Refused(_)
                | EngineError::Malformed(_)
                | EngineError::Registry(_)
                | EngineError::NotFound(_)
                | EngineError::NotAllowed(_)
                | EngineError::WrongState(_)
                | EngineError::DeadlineExceeded,
            ) => {}
            Err(other) => panic!("{deed:?} at {}: {other}", self.now()),
        }
    }

    /// Purges what is due, day by day; then the log verifies and replays, and the fold holds what a replay gives, row by row,
    /// also where it was built anew from what the purges left.
    pub async fn month_ends(&mut self, ends: MonthEnd) {
        loop {
            // A broker purges once a day, and not before its clock was right for one.
            self.clock.advance(24 * HOUR);
            if self.engine().purge().await.unwrap().periods.is_empty() {
                break;
            }
        }
        if ends.closes_shard {
            self.next_shard(false).await;
        }
        self.close().await;
        self.holds();
        if ends.rebuilds {
            let lived = live_rows(&self.store).unwrap();
            self.store.clear().unwrap();
            self.open().await;
            self.close().await;
            let rebuilt = live_rows(&self.store).unwrap();
            assert!(lived == rebuilt, "{}", world::difference(&lived, &rebuilt));
        }
        if let Some(days) = ends.clock_ahead {
            self.clock_is_ahead(days).await;
        }
        self.start().await;
    }

    /// The broker starts under a clock that is ahead, lives by it for two days, and stops when the clock is right again.
    async fn clock_is_ahead(&mut self, days: u8) {
        let ahead = HOUR * 24 * u32::from(days);
        self.clock.set_wall(self.now().plus(ahead));
        self.start().await;
        for (act, which) in [(Act::AskByLaw, days), (Act::AskByConsent, days), (Act::Record, days), (Act::Object, days)]
        {
            self.may_be_refused(Deed { act, who: days, which, span: days, at_the_end: false }).await;
            self.clock.advance(12 * HOUR);
        }
        self.engine().purge().await.unwrap();
        self.close().await;
        self.holds();
        self.clock.set_wall(self.now().minus(ahead));
    }

    fn holds(&self) {
        let (source, key) = (JournalSource(&self.store), self.signer.verifier_key());
        let opener = Opener::new(Arc::new(self.store.clone()));
        verify(&source, key, &opener, &mut |_, _| {}).unwrap();
        let scratch = MemoryStore::new();
        let report = replay(&source, key, &opener, Arc::new(scratch.clone()), &mut |_, _| {}).unwrap();
        assert_eq!((report.entries, report.open), (self.store.end().entries(), 0));
        assert_eq!(self.store.folded().unwrap(), report.entries, "the fold is behind after closing");
        world::assert_same_state(&self.store, &scratch);
    }
}

fn first_of(month: Month) -> Timestamp {
    format!("{month}-01T00:00:00Z").parse().unwrap()
}
