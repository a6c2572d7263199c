//! A running broker: the engine, its services, its listeners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::layer::util::{Identity, Stack};
use unefois_consent::Registry;
use unefois_consent::registry::RegistryFile;
use unefois_engine::registry::RegistryView;
use unefois_engine::store::{Fold, HeadFile, Journal, RecordKeys};
use unefois_engine::{Clock, Engine, EngineError, EngineParts};
use unefois_proto::v1::audit_service_server::AuditServiceServer;
use unefois_proto::v1::citizen_service_server::CitizenServiceServer;
use unefois_proto::v1::consent_service_server::ConsentServiceServer;
use unefois_proto::v1::exchange_service_server::ExchangeServiceServer;
use unefois_proto::v1::registry_service_server::RegistryServiceServer;
use unefois_store::EmbeddedStore;

use crate::assertion::IdentityProviders;
use crate::config::{ConfigError, Loaded, ServerConfig};
use crate::cosigning::Cosigning;
use crate::http::{self, Readiness};
use crate::rpc::gate::GateLayer;
use crate::rpc::{
    Audit, Citizens, Consents, Exchange, MAX_MESSAGE_BYTES, MAX_QUESTION_BYTES, RegistryRpc, Watches, access,
};
use crate::tls::{Bounds, IsEnrolled, accept};
use crate::webhook::Webhooks;

/// Why a broker does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store does not open, or the engine stopped.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An address cannot be listened on.
    #[error("{key}: cannot listen on {address}: {error}")]
    Listen {
        /// The key of the configuration.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The allow table does not fit the contract.
    #[error("{0}")]
    Contract(String),
    /// The transport failed.
    #[error("the gRPC server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A broker that serves.
#[derive(Debug)]
pub struct Broker {
    /// Where gRPC is served.
    pub address: SocketAddr,
    /// Where metrics and health are served.
    pub metrics_address: Option<SocketAddr>,
    /// Where the public log is served.
    pub log_address: Option<SocketAddr>,
    engine: Arc<Engine>,
    stop: watch::Sender<bool>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    helpers: Vec<JoinHandle<()>>,
    cosigning: Option<JoinHandle<()>>,
    patience: Duration,
}

/// Where the engine keeps its data.
#[derive(Debug)]
pub struct Stores {
    /// The truth.
    pub journal: Arc<dyn Journal>,
    /// Rows derived from it.
    pub fold: Arc<dyn Fold>,
    /// Keys of records and subjects.
    pub keys: Arc<dyn RecordKeys>,
    /// The newest head, kept apart.
    pub head: Arc<dyn HeadFile>,
}

impl From<&EmbeddedStore> for Stores {
    fn from(store: &EmbeddedStore) -> Self {
        Self {
            journal: store.journal.clone(),
            fold: store.fold.clone(),
            keys: store.keys.clone(),
            head: store.head.clone(),
        }
    }
}

/// Listens, and says where: port 0 takes a free one.
async fn bind(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let fault = |error| ServeError::Listen { key, address, error };
    let listener = TcpListener::bind(address).await.map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    Ok((listener, bound))
}

/// Serves plain HTTP where the configuration has an address for it.
async fn serve_http<F>(
    key: &'static str,
    address: Option<SocketAddr>,
    helpers: &mut Vec<JoinHandle<()>>,
    serve: impl FnOnce(TcpListener) -> F,
) -> Result<Option<SocketAddr>, ServeError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(address) = address else { return Ok(None) };
    let (listener, bound) = bind(key, address).await?;
    helpers.push(tokio::spawn(serve(listener)));
    Ok(Some(bound))
}

/// What the services for persons and about consents need beside the engine.
struct People {
    providers: Arc<IdentityProviders>,
    webhooks: Webhooks,
    /// The broker stops: streams end.
    stopped: watch::Receiver<bool>,
}

/// Largest message to the services that need no enrolment.
const MAX_PROBE_BYTES: usize = 4 << 10;

/// The gRPC services behind the gate.
fn services(
    engine: &Arc<Engine>,
    config: &ServerConfig,
    verifier_key: String,
    people: People,
    health: HealthServer<impl Health>,
) -> Result<Router<Stack<GateLayer, Identity>>, ServeError> {
    let exchanges = ExchangeServiceServer::new(Exchange(Arc::clone(engine)));
    let consents = ConsentServiceServer::new(Consents {
        engine: Arc::clone(engine),
        portal: config.portal_url.clone(),
        webhooks: people.webhooks,
        stopped: people.stopped,
        watches: Watches::default(),
    });
    let citizens = CitizenServiceServer::new(Citizens { engine: Arc::clone(engine), providers: people.providers });
    let registry = RegistryServiceServer::new(RegistryRpc(Arc::clone(engine)));
    let audit = AuditServiceServer::new(Audit { engine: Arc::clone(engine), verifier_key });
    Ok(Server::builder()
        .max_concurrent_streams(config.max_streams_per_connection)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .initial_connection_window_size(1 << 20)
        .layer(GateLayer::new(Arc::clone(engine), config.max_deadline()))
        .add_service(health.max_decoding_message_size(MAX_PROBE_BYTES))
        .add_service(reflection()?.max_decoding_message_size(MAX_PROBE_BYTES))
        .add_service(reflection_v1alpha()?.max_decoding_message_size(MAX_PROBE_BYTES))
        .add_service(exchanges.max_decoding_message_size(MAX_QUESTION_BYTES))
        .add_service(consents.max_decoding_message_size(MAX_QUESTION_BYTES))
        .add_service(citizens.max_decoding_message_size(MAX_QUESTION_BYTES))
        .add_service(registry.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(audit))
}

/// The file of the first registry is not read after the first start; an operator who edits it should learn that.
fn tell_another_registry(in_force: &RegistryView, bootstrap: RegistryFile) {
    let changes = Registry::from_file(bootstrap).map_or(0, |bootstrap| in_force.registry.changes_to(&bootstrap).len());
    if changes > 0 {
        tracing::warn!(
            version = in_force.version,
            changes,
            "the file registry.bootstrap differs from the registry in force and counts for an empty log only; apply it with `unefois \
             registry apply`, or replace it with `unefois registry show`"
        );
    }
}

impl Broker {
    /// Opens the store and serves until [`Broker::stop`].
    pub async fn start(
        loaded: Loaded,
        stores: Stores,
        clock: Arc<dyn Clock>,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Self, ServeError> {
        access::check_complete().map_err(ServeError::Contract)?;
        let Loaded { config, tls, signer, policy, registry, connectors, providers, webhooks } = loaded;
        let verifier_key = signer.verifier_key().to_string();
        for connector in connectors.values() {
            connector.start();
        }
        let Stores { journal, fold, keys, head } = stores;
        let bootstrap = registry.clone();
        let parts =
            EngineParts { journal, fold, keys, head, signer, clock, sources: connectors, first_registry: registry };
        let clock = Arc::clone(&parts.clock);
        let engine = Arc::new(Engine::open(parts, progress).await?);
        tell_another_registry(&engine.registry(), bootstrap);
        let cosigning = match policy {
            None => None,
            Some(policy) => Some(Cosigning::open(Arc::clone(&engine), policy, &config, clock).await?),
        };
        let (listener, address) = bind("server.listen", config.server.listen).await?;
        let (stop, stopped) = watch::channel(false);
        let (accepted, incoming) = mpsc::channel(64);
        let (health_reporter, health) = tonic_health::server::health_reporter();
        health_reporter.set_service_status(EXCHANGE_SERVICE, ServingStatus::Serving).await;
        let webhooks = Webhooks::start(&engine, &config.store.path, webhooks)?;
        let telling: Vec<_> = webhooks.run().collect();
        let people = People { providers: Arc::new(providers), webhooks, stopped: stopped.clone() };
        let server = services(&engine, &config.server, verifier_key, people, health)?;
        let bounds =
            Bounds { connections: config.server.max_connections, per_key: config.server.max_connections_per_key };
        let registry = Arc::clone(&engine);
        let is_enrolled: IsEnrolled = Arc::new(move |key| registry.registry().registry.holder(key).is_some());
        let mut helpers = vec![
            tokio::spawn(accept(listener, Arc::clone(&tls), (bounds, is_enrolled), accepted)),
            tokio::spawn(Arc::clone(&tls).watch(Duration::from_millis(config.tls.reload_ms))),
            tokio::spawn(purge(Arc::clone(&engine))),
            tokio::spawn(tell_health(health_reporter, Arc::clone(&engine))),
        ];
        helpers.extend(telling);
        let cosigning = cosigning.map(|cosigning| tokio::spawn(cosigning.run(wait(stopped.clone()))));
        let readiness = Readiness(Arc::clone(&engine));
        let metrics_address = serve_http("metrics.listen", config.metrics.listen, &mut helpers, |listener| {
            http::serve(listener, readiness)
        })
        .await?;
        let public = Arc::clone(&engine);
        let log_address = serve_http("log.listen", config.log.listen, &mut helpers, |listener| {
            http::log::serve(listener, public, config.log.prune_after_months)
        })
        .await?;
        let server = tokio::spawn(server.serve_with_incoming_shutdown(ReceiverStream::new(incoming), wait(stopped)));
        tracing::info!(%address, entries = engine.head().entries(), "the broker serves");
        let patience = Duration::from_millis(config.server.shutdown_ms);
        Ok(Self { address, metrics_address, log_address, engine, stop, server, helpers, cosigning, patience })
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Waits until the engine stops by itself, and says why.
    pub async fn halted(&self) -> EngineError {
        self.engine.halted().await
    }

    /// Takes no more calls, lets those under way end, and closes the engine.
    pub async fn stop(self) {
        let Self { engine, stop, mut server, helpers, cosigning, patience, .. } = self;
        // The receiver lives in the server's task.
        let _ = stop.send(true);
        for helper in &helpers {
            helper.abort();
        }
        if tokio::time::timeout(patience, &mut server).await.is_err() {
            tracing::warn!("calls under way took too long and are cut off");
            server.abort();
            let _ = server.await;
        }
        for helper in helpers.into_iter().chain(cosigning) {
            let _ = helper.await;
        }
        let closing = Arc::clone(&engine);
        // Joining threads would block the runtime.
        let _ = tokio::task::spawn_blocking(move || closing.close()).await;
        // Streams that are being given up hold the engine, and by it the store, for a moment more.
        let begun = Instant::now();
        while Arc::strong_count(&engine) > 1 && begun.elapsed() < LAST_STREAMS {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// How long [`Broker::stop`] waits for whoever still holds the engine.
const LAST_STREAMS: Duration = Duration::from_secs(5);

/// As health checks name it.
const EXCHANGE_SERVICE: &str = <ExchangeServiceServer<Exchange> as tonic::server::NamedService>::NAME;

/// How often health follows readiness.
const HEALTH_EVERY: Duration = Duration::from_millis(500);

/// Says over gRPC what `/readyz` says.
async fn tell_health(reporter: tonic_health::server::HealthReporter, engine: Arc<Engine>) {
    let mut was_ready = true;
    loop {
        tokio::time::sleep(HEALTH_EVERY).await;
        let is_ready = engine.ready().is_ok();
        if is_ready != was_ready {
            was_ready = is_ready;
            let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status("", status).await;
            reporter.set_service_status(EXCHANGE_SERVICE, status).await;
        }
    }
}

/// How often records that are over are looked for. They are over by the month.
const PURGE_EVERY: Duration = Duration::from_secs(60 * 60);

/// Purges what is over, now and from time to time.
async fn purge(engine: Arc<Engine>) {
    loop {
        if let Err(error) = engine.purge().await {
            tracing::error!(%error, code = error.code(), "records that are over could not be purged; it is tried again");
            metrics::counter!("unefois_purge_failures_total").increment(1);
        }
        tokio::time::sleep(PURGE_EVERY).await;
    }
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    // An error means that the broker was dropped, which stops it too.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Reflection of our contract and of health, in the current version of the protocol.
fn reflection() -> Result<
    tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection>,
    ServeError,
> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(unefois_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| ServeError::Contract(error.to_string()))
}

/// Reflection in the older version, which some clients still speak.
fn reflection_v1alpha() -> Result<
    tonic_reflection::server::v1alpha::ServerReflectionServer<impl tonic_reflection::server::v1alpha::ServerReflection>,
    ServeError,
> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(unefois_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1alpha()
        .map_err(|error| ServeError::Contract(error.to_string()))
}
