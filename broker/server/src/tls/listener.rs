//! The listener: TCP, a handshake with a time limit, and bounds on handshakes and on connections.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio::time::error::Elapsed;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use unefois_consent::KeyFingerprint;

use super::gathered::Gathered;
use super::handshakes::Handshakes;
use super::{Peer, TlsState};

/// A handshake that takes longer is ended, and so is a connection whose client does not begin HTTP/2 within this after it.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Bytes of the client's preface and of the header of its first frame (RFC 9113, sections 3.4 and 4.1).
const PREFACE: usize = 24 + 9;
/// Most connections with one key that is not enrolled.
const STRANGERS_PER_KEY: usize = 4;
/// All keys that are not enrolled have one place in so many.
const STRANGERS_SHARE: usize = 8;

/// A connection whose client is known.
#[derive(Debug)]
pub struct AcceptedStream {
    stream: Gathered<TlsStream<TcpStream>>,
    peer: Arc<Peer>,
    /// Until the client has begun HTTP/2, which looks after the connection from then on: the bytes that it has sent.
    silence: Option<(Pin<Box<Sleep>>, usize)>,
    // They free their place when the connection ends.
    _place: Place,
}

/// Tells whether a key is enrolled.
pub type IsEnrolled = Arc<dyn Fn(&KeyFingerprint) -> bool + Send + Sync>;

/// How many connections may be open at once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// In all.
    pub connections: usize,
    /// With one key.
    pub per_key: usize,
}

/// Connections by key.
type Held = Arc<Mutex<HashMap<KeyFingerprint, usize>>>;

/// One connection's place among those of its key.
#[derive(Debug)]
struct Share {
    held: Held,
    key: KeyFingerprint,
}

impl Share {
    /// `None` where the key has all that it may.
    fn take(held: &Held, key: KeyFingerprint, most: usize) -> Option<Self> {
        let mut table = held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.entry(key).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(table);
        Some(Self { held: Arc::clone(held), key })
    }
}

/// Who takes how many places.
struct Places {
    all: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    held: Held,
    per_key: usize,
    is_enrolled: IsEnrolled,
}

/// The place of one connection.
#[derive(Debug)]
struct Place {
    _all: OwnedSemaphorePermit,
    _stranger: Option<OwnedSemaphorePermit>,
    _share: Share,
}

impl Places {
    fn new(bounds: Bounds, is_enrolled: IsEnrolled) -> Self {
        Self {
            all: Arc::new(Semaphore::new(bounds.connections)),
            strangers: Arc::new(Semaphore::new((bounds.connections / STRANGERS_SHARE).max(1))),
            held: Held::default(),
            per_key: bounds.per_key,
            is_enrolled,
        }
    }

    /// A place for a client whose handshake is over, or why there is none.
    fn take(&self, key: KeyFingerprint) -> Result<Place, &'static str> {
        let is_enrolled = (self.is_enrolled)(&key);
        let most = if is_enrolled { self.per_key } else { self.per_key.min(STRANGERS_PER_KEY) };
        let share = Share::take(&self.held, key, most).ok_or("a client has as many connections as one key may")?;
        let of = |semaphore: &Arc<Semaphore>| Arc::clone(semaphore).try_acquire_owned();
        let stranger = if is_enrolled { Ok(None) } else { of(&self.strangers).map(Some) };
        let stranger = stranger.map_err(|_| "keys that are not enrolled have all the connections that they may")?;
        let all = of(&self.all).map_err(|_| "there are as many connections as there may be: server.max_connections")?;
        Ok(Place { _all: all, _stranger: stranger, _share: share })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut table = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = table.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                table.remove(&self.key);
            }
        }
    }
}

/// Accepts connections until the receiver is dropped. Handshakes run beside each other.
pub async fn accept(
    listener: TcpListener,
    state: Arc<TlsState>,
    (bounds, is_enrolled): (Bounds, IsEnrolled),
    accepted: mpsc::Sender<io::Result<AcceptedStream>>,
) {
    let places = Arc::new(Places::new(bounds, is_enrolled));
    let handshakes = Arc::new(Handshakes::default());
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = accepted.closed() => return,
        };
        let (stream, address) = match connection {
            Ok(connection) => connection,
            Err(error) => {
                // Out of files, or the client was gone already: the next one may do better.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let mut under_way = handshakes.begin(address.ip());
        let (state, accepted, places) = (Arc::clone(&state), accepted.clone(), Arc::clone(&places));
        tokio::spawn(async move {
            let handshake = tokio::select! {
                handshake = tokio::time::timeout(HANDSHAKE, handshake(stream, address, state)) => handshake,
                () = under_way.ended() => {
                    metrics::counter!("unefois_handshakes_refused_total").increment(1);
                    tracing::debug!(%address, "a handshake made room for newer ones");
                    return;
                }
            };
            drop(under_way);
            match admit(handshake, &places) {
                Ok(stream) => drop(accepted.send(Ok(stream)).await),
                Err(refusal) => {
                    metrics::counter!("unefois_handshakes_refused_total").increment(1);
                    tracing::warn!(%address, refusal, "a client was refused at the handshake");
                }
            }
        });
    }
}

type Handshake = Result<io::Result<(TlsStream<TcpStream>, Arc<Peer>)>, Elapsed>;

/// The connection of a handshake that succeeded and has a place, or why not.
fn admit(handshake: Handshake, places: &Places) -> Result<AcceptedStream, String> {
    let (stream, peer) =
        handshake.map_err(|_| "it did not end in time".to_owned())?.map_err(|error| error.to_string())?;
    let place = places.take(peer.key()).map_err(|why| format!("{why} (key {})", peer.key()))?;
    let silence = Some((Box::pin(tokio::time::sleep(HANDSHAKE)), 0));
    Ok(AcceptedStream { stream: Gathered::new(stream), peer, silence, _place: place })
}

async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    state: Arc<TlsState>,
) -> io::Result<(TlsStream<TcpStream>, Arc<Peer>)> {
    stream.set_nodelay(true)?;
    let trust = state.trust();
    let stream = TlsAcceptor::from(Arc::clone(&trust.server)).accept(stream).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = Peer::new(address, chain, trust.generation, state)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the client's certificate cannot be read"))?;
    Ok((stream, Arc::new(peer)))
}

impl Connected for AcceptedStream {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        Arc::clone(&self.peer)
    }
}

impl AsyncRead for AcceptedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some((silence, said)) = &mut self.silence {
            *said += buffer.filled().len().saturating_sub(before);
            if *said >= PREFACE {
                self.silence = None;
            } else if silence.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for AcceptedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
