//! A real broker in this process: real certificates, gRPC, store; a scripted source.

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use unefois::client::{Client, Profile};
use unefois::config::Loaded;
use unefois::init::{InitFolder, Layout, init};
use unefois::pki::Issued;
use unefois::serve::{Broker, ServeError, Stores};
use unefois_audit::VerifierKey;
use unefois_connectors::{Guarded, Limits};
use unefois_consent::registry::{RegistryFile, Role};
use unefois_engine::replay::Report;
use unefois_engine::{Clock, SystemClock, VerifiedParticipant};
use unefois_store::{EmbeddedStore, MemoryStore};

use crate::caller::caller;
use crate::source::ScriptedSource;
use crate::world;

/// Entries of a log that has just begun: that it opened, and its first registry.
pub const FIRST_ENTRIES: u64 = 13;

/// A folder with a broker.
pub struct Sandbox {
    /// What `unefois init` made.
    pub folder: InitFolder,
    /// The source behind every dataset.
    pub source: Arc<ScriptedSource>,
    /// The log's key.
    pub key: VerifierKey,
    clock: Arc<dyn Clock>,
    change: fn(&mut Loaded),
    memory: Option<MemoryStore>,
    running: Option<(Broker, Option<EmbeddedStore>)>,
    // Removed with the sandbox.
    _root: TempDir,
}

impl Sandbox {
    /// Starts a broker.
    pub async fn start() -> Self {
        Self::start_with(Arc::new(SystemClock), |_| {}).await
    }

    /// Starts a broker whose store is in memory and can be disturbed.
    pub async fn start_in_memory(memory: MemoryStore) -> Self {
        Self::start_on(Arc::new(SystemClock), |_| {}, Some(memory)).await
    }

    /// Starts a broker with another clock, and with what `change` changes of its configuration at each start.
    pub async fn start_with(clock: Arc<dyn Clock>, change: fn(&mut Loaded)) -> Self {
        Self::start_on(clock, change, None).await
    }

    async fn start_on(clock: Arc<dyn Clock>, change: fn(&mut Loaded), memory: Option<MemoryStore>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout {
            listen: ([127, 0, 0, 1], 0).into(),
            metrics: None,
            log: Some(([127, 0, 0, 1], 0).into()),
            ..Layout::development()
        };
        let folder = init(&root.path().join("broker"), &layout).unwrap();
        let config = folder.config();
        // Tests change files and look at once; a small fold and segment make them light.
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text
            .replace("crl = [\"pki/ca.crl\"]", "crl = [\"pki/ca.crl\"]\nreload_ms = 20")
            .replace("path = \"data\"", "path = \"data\"\nsegment_mb = 1\nmin_free_mb = 0");
        std::fs::write(&config, text).unwrap();
        let key = Loaded::open(&config).unwrap().signer.verifier_key().clone();
        let mut sandbox =
            Self { folder, source: ScriptedSource::new(), key, clock, change, memory, running: None, _root: root };
        sandbox.restart().await.unwrap();
        sandbox
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path.join("data")
    }

    /// The running broker.
    pub fn broker(&self) -> &Broker {
        &self.running.as_ref().unwrap().0
    }

    /// Stops the broker if it runs, and starts it again from its files.
    pub async fn restart(&mut self) -> Result<(), ServeError> {
        self.stop().await;
        let mut loaded = Loaded::open(&self.folder.config())?;
        for name in loaded.connectors.keys().cloned().collect::<Vec<_>>() {
            let guarded = Guarded::new(name.clone(), self.source.clone(), Limits::default());
            loaded.connectors.insert(name, Arc::new(guarded));
        }
        (self.change)(&mut loaded);
        let (store, stores) = match &self.memory {
            Some(memory) => (None, memory_stores(memory)),
            None => {
                let store = EmbeddedStore::open(&loaded.config.store.path, &loaded.config.store_options()).unwrap();
                let stores = Stores::from(&store);
                (Some(store), stores)
            }
        };
        let broker = Broker::start(loaded, stores, self.clock.clone(), &mut |_, _| {}).await?;
        self.running = Some((broker, store));
        Ok(())
    }

    /// Stops the broker.
    pub async fn stop(&mut self) {
        if let Some((broker, store)) = self.running.take() {
            broker.stop().await;
            drop(store);
        }
    }

    /// Stops the broker and checks the world.
    pub async fn finish(mut self) -> Report {
        self.stop().await;
        match &self.memory {
            Some(memory) => world::check_memory(memory, &self.key),
            None => world::check(&self.data(), &self.key),
        }
    }

    /// The profile of a client of `unefois init`, with the port that the broker listens on.
    pub fn profile(&self, name: &str) -> Profile {
        let mut profile = Profile::read(&self.folder.profile(name)).unwrap();
        profile.endpoint = format!("https://{}", self.broker().address);
        profile
    }

    /// A connected client of `unefois init`.
    pub async fn client(&self, name: &str) -> Client {
        self.profile(name).connect().await.unwrap()
    }

    /// The profile of a client with a certificate of its own.
    pub fn profile_of(&self, name: &str, issued: &Issued) -> Profile {
        use std::os::unix::fs::PermissionsExt;
        let folder = self.folder.path.join("clients");
        let (certificate, private_key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&certificate, &issued.certificate).unwrap();
        std::fs::write(&private_key, &issued.private_key).unwrap();
        std::fs::set_permissions(&private_key, std::fs::Permissions::from_mode(0o600)).unwrap();
        Profile { certificate, private_key, ..self.profile("ville") }
    }

    /// The certificate of a client of `unefois init`.
    pub fn issued(&self, name: &str) -> &Issued {
        &self.folder.clients.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// A caller as the gate lets it in, for calls that go past the gate to the engine. Its certificate stays valid.
    pub fn caller(&self, name: &str, role: Role) -> VerifiedParticipant {
        caller(self.broker().engine(), self.issued(name).fingerprint, role)
    }

    /// Puts a revocation list of `revoked` in force.
    pub fn revoke(&self, revoked: &[&Issued]) {
        let list = self.folder.ca.revocation_list(revoked).unwrap();
        let path = self.folder.path.join("pki/ca.crl");
        let draft = path.with_extension("draft");
        std::fs::write(&draft, list).unwrap();
        std::fs::rename(draft, path).unwrap();
    }

    /// Exchanges until the log has at least `size` entries.
    pub async fn grow(&self, size: u64) {
        let client = self.client("ville").await;
        while self.broker().engine().head().size < size {
            let mut calls = tokio::task::JoinSet::new();
            for _ in 0..64 {
                let client = client.clone();
                calls.spawn(
                    async move { crate::ask::exchange(&client, crate::ask::canteen("MARCHAND")).await.unwrap() },
                );
            }
            calls.join_all().await;
        }
    }

    /// Changes the registry through the operator's client.
    pub async fn change_registry(&self, change: impl FnOnce(&mut RegistryFile)) {
        self.try_change_registry(false, change).await.unwrap();
    }

    /// Like [`Sandbox::change_registry`], or only looks at the difference, and gives the broker's refusal.
    pub async fn try_change_registry(
        &self,
        validate_only: bool,
        change: impl FnOnce(&mut RegistryFile),
    ) -> Result<(), tonic::Status> {
        use unefois_proto::registry::{registry, wire_registry};
        use unefois_proto::v1;
        let operator = self.client("operateur").await;
        let request = crate::ask::within(v1::GetRegistryRequest {});
        let current = operator.registry().get_registry(request).await.unwrap().into_inner();
        let mut file = registry(&current.registry.unwrap()).unwrap();
        change(&mut file);
        let registry = Some(wire_registry(&file));
        let apply = v1::ApplyRegistryRequest { registry, validate_only, expected_version: current.version };
        operator.registry().apply_registry(crate::ask::within(apply)).await.map(drop)
    }
}

fn memory_stores(memory: &MemoryStore) -> Stores {
    let memory = Arc::new(memory.clone());
    Stores { journal: memory.clone(), fold: memory.clone(), keys: memory.clone(), head: memory }
}
