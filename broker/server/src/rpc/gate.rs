//! The gate in front of every RPC: span, caller, allow table, deadline. In that order, and refusal by default.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic_types::StatusExt;
use tower::{Layer, Service};
use tracing::Instrument;
use unefois_consent::registry::Role;
use unefois_consent::{KeyFingerprint, Registry};
use unefois_engine::caller::certificate_ended;
use unefois_engine::{Credential, EngineError, VerifiedParticipant};

use super::access::{Access, DeadlinePolicy, RULES, find};
use super::timely::{ARRIVES_WITHIN, Timely};
use super::{Call, SharedEngine, status};
use crate::tls::Peer;

/// Puts the gate in front of a service.
#[derive(Debug, Clone)]
pub struct GateLayer {
    engine: SharedEngine,
    longest: Duration,
    refusals: Arc<Refusals>,
}

impl GateLayer {
    /// A gate that asks `engine` whom keys belong to and cuts deadlines at `longest`.
    pub fn new(engine: SharedEngine, longest: Duration) -> Self {
        Self { engine, longest, refusals: Arc::default() }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, engine: Arc::clone(&self.engine), longest: self.longest, refusals: Arc::clone(&self.refusals) }
    }
}

/// A service behind the gate.
#[derive(Debug, Clone)]
pub struct Gate<S> {
    inner: S,
    engine: SharedEngine,
    longest: Duration,
    refusals: Arc<Refusals>,
}

impl<S> Gate<S> {
    /// What the call may be told of, or why it is refused.
    fn admit<B>(&self, request: &Request<B>) -> Result<Option<Call>, Status> {
        let path = request.uri().path();
        let rule = find(path).ok_or_else(|| Status::unimplemented("there is no such method"))?;
        let peer = request
            .extensions()
            .get::<Arc<Peer>>()
            .ok_or_else(|| status::refusal("CERTIFICATE_REQUIRED", "connect with a client certificate"))?;
        let roles = match rule.access {
            Access::Certificate => {
                return if peer.is_valid() { Ok(None) } else { Err(status::of(&certificate_ended())) };
            }
            Access::Roles(roles) => roles,
        };
        let (caller, role) = self.verify(peer, roles).map_err(|error| status::of(&error))?;
        let given = grpc_timeout(request)?;
        if given.is_none() && rule.deadline == DeadlinePolicy::Required {
            let rule =
                "set a deadline (header grpc-timeout), 10 seconds for example: it bounds what the source may take";
            return Err(status::bad_request("DEADLINE_REQUIRED", "deadline", rule));
        }
        let deadline = Instant::now() + given.unwrap_or(self.longest).min(self.longest);
        Ok(Some(Call { caller, role, deadline }))
    }

    fn verify(&self, peer: &Arc<Peer>, roles: &[Role]) -> Result<(VerifiedParticipant, Role), EngineError> {
        let view = self.engine.registry();
        let mut refusal = certificate_ended();
        for role in roles {
            let credential = Arc::clone(peer) as Arc<dyn Credential>;
            match VerifiedParticipant::verify(&view.registry, peer.key(), credential, *role) {
                Ok(caller) => return Ok((caller, *role)),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }
}

/// Shortest time between two lines about refusals of one key.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Keys that are told of apart; beyond, all are told of anew.
const TOLD_KEYS: usize = 1_024;

/// The refusals that the operator was told of, by key: when, and how many since. A client that calls again and again must not fill
/// the disk.
#[derive(Debug, Default)]
struct Refusals(Mutex<HashMap<KeyFingerprint, (Instant, u64)>>);

impl Refusals {
    fn tell(&self, status: &Status, peer: Option<&Peer>, registry: &Registry) {
        let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        let Some(peer) = peer else {
            tracing::info!(reason, code = ?status.code(), "refused at the gate: no client certificate");
            return;
        };
        let (key, address) = (peer.key(), peer.address());
        let Some(before) = self.count(key) else { return };
        match registry.holder(&key) {
            Some((participant, _)) => {
                tracing::info!(reason, code = ?status.code(), %key, %participant, %address, before, "refused at the gate");
            }
            None => tracing::warn!(
                reason, %key, %address, before,
                "refused at the gate: no participant has this key. If it is one's own, add this to its keys in the registry and apply it: \
                 {{ fingerprint = \"{key}\", roles = [\"exchange\"], label = \"\" }}"
            ),
        }
    }

    /// How many refusals of the key were not told of, where it is time to tell of one.
    fn count(&self, key: KeyFingerprint) -> Option<u64> {
        let now = Instant::now();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= TOLD_KEYS && !told.contains_key(&key) {
            told.clear();
        }
        match told.get_mut(&key) {
            Some((last, untold)) if now.duration_since(*last) < TOLD_EVERY => {
                *untold += 1;
                None
            }
            _ => told.insert(key, (now, 0)).map_or(Some(0), |(_, untold)| Some(untold)),
        }
    }
}

/// The deadline that the caller set (gRPC over HTTP/2: at most eight digits and a unit).
fn grpc_timeout<B>(request: &Request<B>) -> Result<Option<Duration>, Status> {
    let Some(value) = request.headers().get("grpc-timeout") else { return Ok(None) };
    let fault = || status::bad_request("INVALID_FIELD", "grpc-timeout", "at most eight digits and one of H M S m u n");
    let text = value.to_str().map_err(|_| fault())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(fault)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(fault());
    }
    let amount: u64 = digits.parse().map_err(|_| fault())?;
    let duration = match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return Err(fault()),
    };
    Ok(Some(duration))
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let begun = Instant::now();
        let method = find(request.uri().path()).map_or("unknown", |rule| rule.path);
        let admitted = self.admit(&request);
        let participant = match &admitted {
            Ok(Some(call)) => Some(call.caller.participant()),
            Ok(None) | Err(_) => None,
        };
        let span = tracing::info_span!("rpc", method, participant = participant.map(tracing::field::display));
        match admitted {
            Err(status) => {
                let peer = request.extensions().get::<Arc<Peer>>();
                span.in_scope(|| self.refusals.tell(&status, peer.map(Arc::as_ref), &self.engine.registry().registry));
                count(method, |meter| &meter.refused, begun);
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
            Ok(call) => {
                if let Some(call) = call {
                    request.extensions_mut().insert(call);
                }
                let request = request.map(|body| Body::new(Timely::new(body, ARRIVES_WITHIN)));
                let answer = self.inner.call(request);
                let counted = async move {
                    let answer = answer.await;
                    count(method, if answer.is_ok() { |meter| &meter.passed } else { |meter| &meter.failed }, begun);
                    answer
                };
                Box::pin(counted.instrument(span))
            }
        }
    }
}

/// Instruments of one method, bound once: looking them up by name at each call costs more than recording.
struct Meter {
    passed: metrics::Counter,
    failed: metrics::Counter,
    refused: metrics::Counter,
    seconds: metrics::Histogram,
}

impl Meter {
    fn bind(method: &'static str) -> Self {
        let calls =
            |result: &'static str| metrics::counter!("unefois_rpcs_total", "method" => method, "result" => result);
        let seconds = metrics::histogram!("unefois_rpc_seconds", "method" => method);
        Self { passed: calls("passed"), failed: calls("failed"), refused: calls("refused"), seconds }
    }
}

static METERS: LazyLock<BTreeMap<&'static str, Meter>> = LazyLock::new(|| {
    RULES.iter().map(|rule| rule.path).chain(["unknown"]).map(|path| (path, Meter::bind(path))).collect()
});

fn count(method: &'static str, result: fn(&Meter) -> &metrics::Counter, begun: Instant) {
    if let Some(meter) = METERS.get(method) {
        result(meter).increment(1);
        meter.seconds.record(begun.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_one_key_are_told_once_a_minute_and_others_beside_them() {
        let (refusals, key) = (Refusals::default(), KeyFingerprint([1; 32]));
        assert_eq!(refusals.count(key), Some(0));
        assert_eq!((refusals.count(key), refusals.count(key)), (None, None));
        assert_eq!(refusals.count(KeyFingerprint([2; 32])), Some(0));
        let minute_ago = Instant::now().checked_sub(TOLD_EVERY).unwrap();
        refusals.0.lock().unwrap().get_mut(&key).unwrap().0 = minute_ago;
        assert_eq!(refusals.count(key), Some(2));
    }

    #[test]
    fn a_timeout_reads_as_grpc_writes_it() {
        let read = |text: &str| grpc_timeout(&Request::builder().header("grpc-timeout", text).body(()).unwrap());
        assert_eq!(read("10S").unwrap(), Some(Duration::from_secs(10)));
        assert_eq!(read("99999999n").unwrap(), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(read("0m").unwrap(), Some(Duration::ZERO));
        for bad in ["", "S", "10", "-1S", "1.5S", "999999999S", "10X", "é"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(grpc_timeout(&Request::new(())).unwrap(), None);
    }
}
