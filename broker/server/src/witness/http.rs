//! The HTTP interface of a witness. Plain HTTP: put a proxy with TLS in front where it leaves the machine.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use unefois_audit::add_checkpoint::MAX_REQUEST_BYTES;

use super::{Refused, Witness};

/// Requests that are judged at once; more are told to come back.
const MOST_AT_ONCE: usize = 64;
/// Patience for the body of a request.
const PATIENCE: Duration = Duration::from_secs(10);

const TEXT: &str = "text/plain; charset=utf-8";

struct Served {
    witness: Arc<Witness>,
    places: Semaphore,
}

/// Serves the witness until `stopped`. What was cosigned by then is kept, whether or not its answer still leaves.
pub async fn serve(listener: TcpListener, witness: Arc<Witness>, stopped: impl Future<Output = ()> + Send + 'static) {
    let served = Arc::new(Served { witness, places: Semaphore::new(MOST_AT_ONCE) });
    let router = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{origin_hash}/checkpoint", get(checkpoint))
        .with_state(served);
    tokio::select! {
        () = crate::http::serve_bounded(listener, router) => {}
        () = stopped => {}
    }
}

fn answer(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, TEXT)], text).into_response()
}

async fn add_checkpoint(State(served): State<Arc<Served>>, body: Body) -> Response {
    let body = match tokio::time::timeout(PATIENCE, to_bytes(body, MAX_REQUEST_BYTES)).await {
        Err(_) => return answer(StatusCode::REQUEST_TIMEOUT, "the request did not come whole\n".to_owned()),
        Ok(Err(_)) => {
            return answer(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {MAX_REQUEST_BYTES} bytes are read\n"));
        }
        Ok(Ok(body)) => body,
    };
    // After the body: who sends it slowly holds up nobody.
    let Ok(_place) = served.places.try_acquire() else {
        return answer(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once; try again\n".to_owned());
    };
    let Ok(body) = std::str::from_utf8(&body) else {
        return answer(StatusCode::BAD_REQUEST, "the request is not UTF-8\n".to_owned());
    };
    let refused = match served.witness.add_checkpoint(body).await {
        Ok(line) => return answer(StatusCode::OK, line),
        Err(refused) => refused,
    };
    let status = match &refused {
        Refused::Conflict(size) => {
            let headers = [(CONTENT_TYPE, "text/x.tlog.size")];
            return (StatusCode::CONFLICT, headers, format!("{size}\n")).into_response();
        }
        Refused::Malformed(_) => StatusCode::BAD_REQUEST,
        Refused::UnknownLog => StatusCode::NOT_FOUND,
        Refused::Signature(_) => StatusCode::FORBIDDEN,
        Refused::NotConsistent(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::NotKept => StatusCode::INTERNAL_SERVER_ERROR,
    };
    answer(status, format!("{refused}\n"))
}

async fn checkpoint(State(served): State<Arc<Served>>, Path(origin_hash): Path<String>) -> Response {
    match served.witness.latest(&origin_hash).await {
        Some(note) => (StatusCode::OK, [(CONTENT_TYPE, TEXT), (CACHE_CONTROL, "no-cache")], note).into_response(),
        None => answer(StatusCode::NOT_FOUND, "this witness has cosigned no checkpoint of such a log\n".to_owned()),
    }
}
