//! Metrics and health over plain HTTP, for the inside of the machine or cluster. Nothing here is personal.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use unefois_engine::{Engine, EngineError};

pub mod log;

static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the recorder of metrics, once for the process.
pub fn install_metrics() -> Option<PrometheusHandle> {
    // Buckets, because summaries keep every sample until somebody scrapes.
    let builder = PrometheusBuilder::new().set_buckets(&BUCKETS_S);
    METRICS.get_or_init(|| builder.ok()?.install_recorder().ok()).clone()
}

/// Upper bounds of histograms, in seconds.
const BUCKETS_S: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Every so often samples are put into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Keeps metrics small whether or not anybody scrapes. Never returns.
pub async fn keep_metrics_small() {
    let Some(metrics) = install_metrics() else { return };
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.run_upkeep();
    }
}

/// What readiness looks at.
#[derive(Debug, Clone)]
pub struct Readiness(pub Arc<Engine>);

/// Serves `/metrics`, `/healthz` (the process lives) and `/readyz` (the engine decides).
pub async fn serve(listener: TcpListener, readiness: Readiness) {
    let metrics = install_metrics();
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(async move || metrics_text(metrics.as_ref())))
        .with_state(readiness);
    serve_bounded(listener, router).await;
}

/// Most connections at once of one HTTP listener: the others are for gRPC.
const MOST_CONNECTIONS: usize = 512;
/// Patience for the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Longest life of a connection; who reads more dials again.
const CONNECTION_WITHIN: Duration = Duration::from_secs(60);

/// Serves plain HTTP/1 to clients that may be slow on purpose: a bounded number of connections, each for a bounded time.
/// Never returns; when it is dropped, its connections end.
pub(crate) async fn serve_bounded(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    // They end with this.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection was not taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
            // How a client's connection ends is of no account.
            let _ = tokio::time::timeout(CONNECTION_WITHIN, http.serve_connection(TokioIo::new(stream), service)).await;
            drop(place);
        });
    }
}

fn metrics_text(handle: Option<&PrometheusHandle>) -> Response {
    match handle {
        Some(handle) => {
            handle.run_upkeep();
            ([(CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "another recorder is installed\n").into_response(),
    }
}

async fn ready(State(Readiness(engine)): State<Readiness>) -> Response {
    match engine.ready() {
        Ok(()) => "ready\n".into_response(),
        // The operator can do something about it, and it says nothing of anybody.
        Err(EngineError::ClockWrong(fault)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{fault}\n")).into_response(),
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the engine has stopped, its disk is full, or its witnesses are late; see the broker's log\n",
        )
            .into_response(),
    }
}
