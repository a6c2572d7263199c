//! An engine on a folder, and entries to append to it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use unefois::config::Loaded;
use unefois::init::{Layout, init};
use unefois_audit::VerifierKey;
use unefois_consent::{Event, ExchangeId};
use unefois_engine::store::Fold;
use unefois_engine::{Clock, Engine, EngineError, SystemClock, VerifiedParticipant};
use unefois_proto::v1;
use unefois_store::EmbeddedStore;
use unefois_tests::ask::allowance;
use unefois_tests::caller::{department, exchange_call};
use unefois_tests::writers;

/// Bytes of a record, about: those of a refused question.
pub(crate) const RECORD_BYTES: usize = 600;

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Makes the folder of a broker.
pub(crate) fn make(folder: &Path) {
    init(folder, &Layout { metrics: None, log: None, ..Layout::development() }).unwrap();
}

pub(crate) fn key(folder: &Path) -> VerifierKey {
    Loaded::open(&folder.join("unefois.toml")).unwrap().signer.verifier_key().clone()
}

pub(crate) struct Bed {
    pub(crate) store: EmbeddedStore,
    pub(crate) engine: Arc<Engine>,
    department: VerifiedParticipant,
}

impl Bed {
    pub(crate) async fn open(folder: &Path) -> Self {
        Self::open_with(folder, |fold| fold).await
    }

    /// Opens with a fold of another pace.
    pub(crate) async fn open_with(folder: &Path, paced: impl FnOnce(Arc<dyn Fold>) -> Arc<dyn Fold>) -> Self {
        Self::opened(Arc::new(SystemClock), folder, paced).await
    }

    /// Opens by another clock.
    pub(crate) async fn open_by(clock: Arc<dyn Clock>, folder: &Path) -> Self {
        Self::opened(clock, folder, |fold| fold).await
    }

    async fn opened(clock: Arc<dyn Clock>, folder: &Path, paced: impl FnOnce(Arc<dyn Fold>) -> Arc<dyn Fold>) -> Self {
        let config = Loaded::open(&folder.join("unefois.toml")).unwrap().config;
        let opened = writers::open_by(clock, folder, &config.store.path, &config.store_options(), paced).await;
        let (store, engine) = opened.unwrap();
        let department = department(&engine);
        Self { store, engine, department }
    }

    /// A record of [`RECORD_BYTES`] that follows from the log and changes no state: a question that is refused.
    pub(crate) async fn template(&self) -> Template {
        let ask = |agent: String| {
            let asked = v1::ExchangeRequest { agent, ..allowance("MARCHAND", None) };
            self.engine.exchange(exchange_call(self.department.clone(), asked, soon()))
        };
        // The first time introduces the person.
        assert!(matches!(ask("a".to_owned()).await, Err(EngineError::Refused(_))));
        let refused = self.refused(ask("a".to_owned()).await.unwrap_err());
        let missing = RECORD_BYTES.saturating_sub(serde_json::to_string(&refused).unwrap().len());
        let event = self.refused(ask("a".repeat(1 + missing)).await.unwrap_err());
        let mut first = [0; 8];
        SystemRandom::new().fill(&mut first).unwrap();
        Template { event, first, next: AtomicU64::new(0) }
    }

    fn refused(&self, error: EngineError) -> Event {
        let EngineError::Refused(logged) = error else { panic!("{error}") };
        let opener = unefois_engine::seal::Opener::new(self.store.keys.clone());
        let mut found = None;
        unefois_engine::store::Journal::read(&*self.store.journal, logged.index, &mut |batch| {
            found = batch.entries.first().cloned();
            unefois_engine::store::Visit::Stop
        })
        .unwrap();
        let record = opener.open(logged.index, &found.unwrap()).unwrap().unwrap().record;
        serde_json::from_str(&record).unwrap()
    }

    /// Records a consent of person `n`: an entry that adds rows to the fold.
    pub(crate) async fn grant(&self, n: usize) {
        writers::consent(&self.engine, self.department.clone(), n, soon()).await.unwrap();
    }

    /// Ends the engine and closes the store.
    pub(crate) async fn close(self) {
        writers::close(self.store, self.engine).await;
    }
}

/// Gives one event after the other.
#[derive(Debug)]
pub(crate) struct Template {
    event: Event,
    /// Tells the exchanges of one template from those of another.
    first: [u8; 8],
    next: AtomicU64,
}

impl Template {
    pub(crate) fn event(&self) -> Event {
        let mut event = self.event.clone();
        let Event::Refused(refused) = &mut event else { panic!("the template is a refusal") };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        refused.exchange = ExchangeId([self.first, number.to_be_bytes()].concat().try_into().unwrap());
        event
    }
}
