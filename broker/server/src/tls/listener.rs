//! The listener: TCP, a handshake with a time limit, and a bound on connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::gathered::Gathered;
use super::{Peer, TlsState};

/// A handshake that takes longer is ended.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A connection whose client is known.
#[derive(Debug)]
pub struct AcceptedStream {
    stream: Gathered<TlsStream<TcpStream>>,
    peer: Arc<Peer>,
    // Frees its place when the connection ends.
    _place: OwnedSemaphorePermit,
}

/// Accepts connections until the receiver is dropped. Handshakes run beside each other.
pub async fn accept(
    listener: TcpListener,
    state: Arc<TlsState>,
    max_connections: usize,
    accepted: mpsc::Sender<io::Result<AcceptedStream>>,
) {
    let places = Arc::new(Semaphore::new(max_connections));
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
        let (state, accepted) = (Arc::clone(&state), accepted.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE, handshake(stream, state)).await {
                Ok(Ok((stream, peer))) => {
                    let _ =
                        accepted.send(Ok(AcceptedStream { stream: Gathered::new(stream), peer, _place: place })).await;
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
        Pin::new(&mut self.stream).poll_read(cx, buffer)
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
