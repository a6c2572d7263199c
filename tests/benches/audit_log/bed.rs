//! An engine on a folder, and entries to append to it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use unefois::config::Loaded;
use unefois::init::{Layout, init};
use unefois_audit::VerifierKey;
use unefois_consent::registry::Role;
use unefois_consent::{Event, ExchangeId};
use unefois_engine::store::Fold;
use unefois_engine::{Credential, Engine, EngineError, EngineParts, ExchangeCall, SystemClock, VerifiedParticipant};
use unefois_proto::exchange::question;
use unefois_store::EmbeddedStore;
use unefois_tests::ask::{ALLOWANCE, allowance, grant};

/// Bytes of a record, about: those of a refused question.
pub(crate) const RECORD_BYTES: usize = 600;

#[derive(Debug)]
struct Valid;

impl Credential for Valid {
    fn is_valid(&self) -> bool {
        true
    }
}

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
        let loaded = Loaded::open(&folder.join("unefois.toml")).unwrap();
        let store = EmbeddedStore::open(&loaded.config.store.path, &loaded.config.store_options()).unwrap();
        let parts = EngineParts {
            journal: store.journal.clone(),
            fold: paced(store.fold.clone()),
            keys: store.keys.clone(),
            head: store.head.clone(),
            signer: loaded.signer,
            clock: Arc::new(SystemClock),
            sources: loaded.connectors,
            first_registry: loaded.registry,
        };
        let engine = Arc::new(Engine::open(parts, &mut |_, _| {}).await.unwrap());
        let view = engine.registry();
        let enrolled = view.registry.participant(unefois::init::DEPARTMENT.parse().unwrap()).unwrap();
        let exchanging = enrolled.keys.iter().find(|key| key.roles.contains(&Role::Exchange)).unwrap();
        let department =
            VerifiedParticipant::verify(&view.registry, exchanging.fingerprint, Arc::new(Valid), Role::Exchange)
                .unwrap();
        Self { store, engine, department }
    }

    /// A record of [`RECORD_BYTES`] that follows from the log and changes no state: a question that is refused.
    pub(crate) async fn template(&self) -> Template {
        let ask = |agent: String| {
            let asked = question(allowance("MARCHAND", None)).unwrap();
            self.engine.exchange(ExchangeCall {
                caller: self.department.clone(),
                recipient: self.department.participant(),
                agent,
                procedure: asked.procedure,
                habilitation: asked.habilitation,
                attributes: asked.attributes,
                filters: asked.filters,
                ground: asked.ground,
                identity: asked.identity,
                access_token: None,
                request_id: asked.request_id,
                deadline: soon(),
            })
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
        let letters =
            [n / 17_576 % 26, n / 676 % 26, n / 26 % 26, n % 26].map(|l| char::from(b'A' + u8::try_from(l).unwrap()));
        let name = format!("PERSONNE {}", letters.iter().collect::<String>());
        let wanted = unefois_proto::consent::grant(&grant(&name)).unwrap();
        let call = unefois_engine::consents::GrantCall {
            caller: self.department.clone(),
            agent: wanted.agent,
            identity: wanted.identity,
            procedure: ALLOWANCE.parse().unwrap(),
            attributes: wanted.attributes,
            notice_version: wanted.notice_version,
            language: wanted.language,
            channel: wanted.channel,
            evidence: wanted.evidence,
            not_before: wanted.not_before,
            expires_at: wanted.expires_at,
            usage: wanted.usage,
        };
        self.engine.grant_consent(call, soon()).await.unwrap();
    }

    /// Ends the engine and closes the store.
    pub(crate) async fn close(self) {
        let engine = self.engine;
        tokio::task::spawn_blocking(move || engine.close()).await.unwrap();
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
