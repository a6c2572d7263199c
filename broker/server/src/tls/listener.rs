//! The listener: TCP, a handshake with a time limit, and a bound on connections.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use unefois_consent::KeyFingerprint;

use super::gathered::Gathered;
use super::{Peer, TlsState};

/// A handshake that takes longer is ended, and so is a connection whose client says nothing after it.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A connection whose client is known.
#[derive(Debug)]
pub struct AcceptedStream {
    stream: Gathered<TlsStream<TcpStream>>,
    peer: Arc<Peer>,
    /// Until the client's first word. HTTP/2 looks after the connection from then on.
    silence: Option<Pin<Box<Sleep>>>,
    // Both free their place when the connection ends.
    _place: OwnedSemaphorePermit,
    _share: Share,
}

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
    bounds: Bounds,
    accepted: mpsc::Sender<io::Result<AcceptedStream>>,
) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let held = Held::default();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
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
        let (state, accepted, held) = (Arc::clone(&state), accepted.clone(), Arc::clone(&held));
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE, handshake(stream, state)).await {
                Ok(Ok((stream, peer))) => {
                    let Some(share) = Share::take(&held, peer.key(), bounds.per_key) else {
                        metrics::counter!("unefois_handshakes_refused_total").increment(1);
                        tracing::warn!(%address, key = %peer.key(), "a client has as many connections as one key may");
                        return;
                    };
                    let _ = accepted
                        .send(Ok(AcceptedStream {
                            stream: Gathered::new(stream),
                            peer,
                            silence: Some(Box::pin(tokio::time::sleep(HANDSHAKE))),
                            _place: place,
                            _share: share,
                        }))
                        .await;
                }
                Ok(Err(error)) => {
                    metrics::counter!("unefois_handshakes_refused_total").increment(1);
                    tracing::warn!(%address, %error, "a client was refused at the handshake");
                }
                Err(_) => {
                    metrics::counter!("unefois_handshakes_refused_total").increment(1);
                    tracing::warn!(%address, "a client did not finish its handshake in time");
                }
            }
        });
    }
}

async fn handshake(stream: TcpStream, state: Arc<TlsState>) -> io::Result<(TlsStream<TcpStream>, Arc<Peer>)> {
    stream.set_nodelay(true)?;
    let trust = state.trust();
    let stream = TlsAcceptor::from(Arc::clone(&trust.server)).accept(stream).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = Peer::new(chain, trust.generation, state)
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
        if let Some(silence) = &mut self.silence {
            if buffer.filled().len() > before {
                self.silence = None;
            } else if read.is_pending() && silence.as_mut().poll(cx).is_ready() {
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
