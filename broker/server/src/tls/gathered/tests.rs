use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

/// A stream that counts the writes that reach it.
struct Counted {
    inner: tokio::io::DuplexStream,
    writes: usize,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes += 1;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

fn pair(room: usize) -> (Gathered<Counted>, tokio::io::DuplexStream) {
    let (near, far) = duplex(room);
    (Gathered::new(Counted { inner: near, writes: 0 }), far)
}

/// Polls the reader as HTTP/2 does, until the other side has read `count` bytes.
async fn read_while_polled(stream: &mut Gathered<Counted>, far: &mut tokio::io::DuplexStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut unused = [0; 16];
    tokio::select! {
        biased;
        read = stream.read(&mut unused) => panic!("nothing was sent to us, and yet {read:?}"),
        read = far.read_exact(&mut bytes) => { read.unwrap(); }
    }
    bytes
}

#[tokio::test]
async fn flushes_of_one_burst_are_one_write_that_needs_no_further_call() {
    let (mut stream, mut far) = pair(1 << 20);
    for n in 0..10 {
        stream.write_all(&[n; 100]).await.unwrap();
        stream.flush().await.unwrap();
    }
    assert_eq!(stream.inner.writes, 0);
    let bytes = read_while_polled(&mut stream, &mut far, 1000).await;
    assert!(bytes.chunks(100).enumerate().all(|(n, chunk)| chunk.iter().all(|b| usize::from(*b) == n)));
    assert_eq!(stream.inner.writes, 1);
}

#[tokio::test]
async fn a_slow_peer_holds_writes_up_and_gets_every_byte_in_order() {
    let (mut stream, mut far) = pair(1000);
    let sent: Vec<u8> = (0..500_000_u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let writer = async move {
        for chunk in sent.chunks(7_000) {
            stream.write_all(chunk).await.unwrap();
            stream.flush().await.unwrap();
            assert!(stream.buffer.len() <= MOST);
        }
        stream.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let ((), read) = tokio::join!(writer, far.read_to_end(&mut got));
    read.unwrap();
    assert!(got == expected);
}

#[tokio::test]
async fn shutting_down_sends_what_was_gathered() {
    let (mut stream, mut far) = pair(1 << 20);
    stream.write_all(b"last words").await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    let mut got = String::new();
    far.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "last words");
}

#[tokio::test]
async fn a_peer_that_has_gone_is_an_error_at_the_next_poll() {
    let (mut stream, far) = pair(1 << 20);
    drop(far);
    stream.write_all(b"to nobody").await.unwrap();
    stream.flush().await.unwrap();
    tokio::task::yield_now().await;
    assert!(stream.read(&mut [0; 16]).await.is_err());
}
