//! The public log over HTTP: C2SP tlog-tiles, without authentication, since leaves hold nothing personal.
//!
//! `/checkpoint` is the newest head that a quorum of witnesses cosigned; before the first one, and where no policy names
//! witnesses, the newest signed head. Tiles and entry bundles never change, so that any cache may keep them: put
//! one in front where many read.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use unefois_audit::TilePath;
use unefois_engine::Engine;

/// Tiles that are read from the disk at once; more are told to come back, so that readers never hold up an exchange.
const MOST_AT_ONCE: usize = 16;

type Headers = [(HeaderName, &'static str); 2];

const CHECKPOINT: Headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
const TILE: Headers =
    [(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
const ABSENT: Headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];

struct PublicLog {
    engine: Arc<Engine>,
    places: Semaphore,
}

/// Serves the log until the process ends.
pub async fn serve(listener: TcpListener, engine: Arc<Engine>) {
    let log = Arc::new(PublicLog { engine, places: Semaphore::new(MOST_AT_ONCE) });
    let router = Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*path}", get(tile))
        .fallback(async || absent())
        .with_state(log);
    super::serve_bounded(listener, router).await;
}

async fn checkpoint(State(log): State<Arc<PublicLog>>) -> Response {
    (CHECKPOINT, log.engine.published_head().note.clone()).into_response()
}

async fn tile(State(log): State<Arc<PublicLog>>, Path(path): Path<String>) -> Response {
    let Ok(path) = format!("tile/{path}").parse::<TilePath>() else { return absent() };
    let Ok(_place) = log.places.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, ABSENT, [(RETRY_AFTER, "1")], "too many readers at once\n")
            .into_response();
    };
    match log.engine.tile(path).await {
        Ok(Some(bytes)) => (TILE, bytes).into_response(),
        Ok(None) => absent(),
        Err(error) => {
            tracing::error!(%error, %path, "a tile could not be read");
            (StatusCode::INTERNAL_SERVER_ERROR, ABSENT, "the tile could not be read; see the broker's log\n")
                .into_response()
        }
    }
}

fn absent() -> Response {
    let text = "there is no such tile; the log's paths are /checkpoint, /tile/L/N, /tile/entries/N (C2SP tlog-tiles)\n";
    (StatusCode::NOT_FOUND, ABSENT, text).into_response()
}
