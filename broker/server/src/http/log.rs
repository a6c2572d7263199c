//! The public log over HTTP: C2SP tlog-tiles, without authentication, since leaves hold nothing personal.
//!
//! `/checkpoint` is the newest head that a quorum of witnesses cosigned; before the first one, and where no policy names
//! witnesses, the newest signed head. Tiles and entry bundles never change, so that any cache may keep them: put
//! one in front where many read.
//!
//! The same below `/shard/FIRST`, where `FIRST` is the index of a shard's first entry: an address that stays that shard's when
//! it is closed, while `/checkpoint` and `/tile` are always those of the shard under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use unefois_audit::TilePath;
use unefois_engine::{Engine, SignedHead};

/// Tiles that are read from the disk at once; more are told to come back, so that readers never hold up an exchange.
const MOST_AT_ONCE: usize = 16;

type Headers = [(HeaderName, &'static str); 2];

const CHECKPOINT: Headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
const TILE: Headers =
    [(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
const ABSENT: Headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];

/// How often it is looked what is older than the log shows. Entries grow old by the month.
const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);

struct PublicLog {
    engine: Arc<Engine>,
    /// The *minimum index* of tlog-tiles, counted through all shards: full tiles of entries before it are not shown.
    minimum: AtomicU64,
    places: Semaphore,
}

/// Serves the log until the process ends.
pub async fn serve(listener: TcpListener, engine: Arc<Engine>, prune_after_months: Option<u32>) {
    let log = Arc::new(PublicLog { engine, minimum: AtomicU64::new(0), places: Semaphore::new(MOST_AT_ONCE) });
    let prune = prune(Arc::clone(&log), prune_after_months);
    let router = Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*path}", get(tile))
        .route("/shard/{first}/checkpoint", get(shard_checkpoint))
        .route("/shard/{first}/tile/{*path}", get(shard_tile))
        .fallback(async || absent())
        .with_state(log);
    tokio::join!(super::serve_bounded(listener, router), prune);
}

/// Moves the minimum index on, where the operator wants old entries not to be shown.
async fn prune(log: Arc<PublicLog>, after_months: Option<u32>) {
    let Some(months) = after_months else { return };
    loop {
        match log.engine.first_within(months).await {
            Ok(first) => log.minimum.store(first, Ordering::Relaxed),
            Err(error) => tracing::error!(%error, "it could not be looked what of the public log is to be pruned"),
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}

async fn checkpoint(State(log): State<Arc<PublicLog>>) -> Response {
    (CHECKPOINT, log.engine.published_head().note.clone()).into_response()
}

async fn shard_checkpoint(State(log): State<Arc<PublicLog>>, Path(first): Path<String>) -> Response {
    match log.shown(&first) {
        Some(head) => (CHECKPOINT, head.note.clone()).into_response(),
        None => absent(),
    }
}

async fn shard_tile(State(log): State<Arc<PublicLog>>, Path((first, path)): Path<(String, String)>) -> Response {
    match log.newest(&first) {
        Some(head) => log.tile(&head, &path).await,
        None => absent(),
    }
}

async fn tile(State(log): State<Arc<PublicLog>>, Path(path): Path<String>) -> Response {
    log.tile(&log.engine.head(), &path).await
}

impl PublicLog {
    /// The newest head of the shard that begins with entry `first`.
    fn newest(&self, first: &str) -> Option<Arc<SignedHead>> {
        let first: u64 = first.parse().ok()?;
        let head = self.engine.closed_head(first).unwrap_or_else(|| self.engine.head());
        (head.shard == first).then_some(head)
    }

    /// The head of that shard that is shown to the world.
    fn shown(&self, first: &str) -> Option<Arc<SignedHead>> {
        let newest = self.newest(first)?;
        Some(if newest.shard == self.engine.head().shard { self.engine.published_head() } else { newest })
    }

    async fn tile(&self, head: &SignedHead, path: &str) -> Response {
        let Ok(path) = format!("tile/{path}").parse::<TilePath>() else { return absent() };
        // Partial ones, too: the full tile in their place was pruned.
        if head.shard.saturating_add(path.end_index()) <= self.minimum.load(Ordering::Relaxed) {
            let text = "pruned: the log does not show entries of so long ago; ask its operator where they are needed\n";
            return (StatusCode::GONE, ABSENT, text).into_response();
        }
        let Ok(_place) = self.places.try_acquire() else {
            return (StatusCode::SERVICE_UNAVAILABLE, ABSENT, [(RETRY_AFTER, "1")], "too many readers at once\n")
                .into_response();
        };
        match self.engine.tile(head, path).await {
            Ok(Some(bytes)) => (TILE, bytes).into_response(),
            Ok(None) => absent(),
            Err(error) => {
                tracing::error!(%error, %path, "a tile could not be read");
                (StatusCode::INTERNAL_SERVER_ERROR, ABSENT, "the tile could not be read; see the broker's log\n")
                    .into_response()
            }
        }
    }
}

fn absent() -> Response {
    let text = "there is no such tile; the log's paths are /checkpoint, /tile/L/N, /tile/entries/N (C2SP tlog-tiles), and the \
                same below /shard/FIRST for each of its shards\n";
    (StatusCode::NOT_FOUND, ABSENT, text).into_response()
}
