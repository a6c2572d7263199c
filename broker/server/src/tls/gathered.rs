//! A stream that gathers the writes of one burst.
//!
//! A commit answers many calls at once. Each answer wakes its connection, and the runtime polls a woken connection first,
//! so that without care each answer costs a TLS record, a system call and a wake-up of the client. Here a flush only marks
//! what is to go out, and it goes out when the worker has run the other tasks that are ready: one write for all answers of
//! a burst, and no timer.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// With so many bytes gathered, writes wait for the peer.
const MOST: usize = 64 << 10;
/// A buffer above this is given back when it is empty: there may be thousands of connections.
const KEPT: usize = 16 << 10;

/// A stream whose flushes are gathered. Its reader must be polled whenever its task wakes, as HTTP/2 does.
#[derive(Debug)]
pub(super) struct Gathered<S> {
    inner: S,
    buffer: Vec<u8>,
    /// Bytes of the buffer that the inner stream has taken.
    taken: usize,
    turn: Turn,
    waker: Option<Arc<AfterOthers>>,
}

/// Whose turn it is.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing is to go out.
    Rest,
    /// The other tasks first.
    Others,
    /// The buffer is on its way.
    Ours,
}

/// Wakes a task, and tells it that the others had their turn.
#[derive(Debug)]
struct AfterOthers {
    they_ran: AtomicBool,
    task: Waker,
}

impl Wake for AfterOthers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.they_ran.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, buffer: Vec::new(), taken: 0, turn: Turn::Rest, waker: None }
    }

    /// Lets the other ready tasks of this worker run first.
    fn give_way(&mut self, cx: &mut Context<'_>) {
        let known = self.waker.take().filter(|waker| waker.task.will_wake(cx.waker()));
        let waker = known
            .unwrap_or_else(|| Arc::new(AfterOthers { they_ran: AtomicBool::new(false), task: cx.waker().clone() }));
        waker.they_ran.store(false, Ordering::Release);
        self.turn = Turn::Others;
        // The runtime keeps the waker, not the future.
        let asked = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&Waker::from(Arc::clone(&waker))));
        self.waker = Some(waker);
        if asked.is_ready() {
            self.turn = Turn::Ours;
            cx.waker().wake_by_ref();
        }
    }

    /// Sends what is due, as far as the peer takes it.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let they_ran = |waker: &Arc<AfterOthers>| waker.they_ran.load(Ordering::Acquire);
        match self.turn {
            Turn::Rest => Ok(()),
            Turn::Others if !self.waker.as_ref().is_some_and(they_ran) => Ok(()),
            Turn::Others | Turn::Ours => match self.poll_send(cx) {
                Poll::Ready(sent) => sent,
                // The inner stream wakes this task.
                Poll::Pending => Ok(()),
            },
        }
    }

    /// Sends the whole buffer.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.turn = Turn::Ours;
        while let Some(rest) = self.buffer.get(self.taken..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken += count;
        }
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.taken = 0;
        self.buffer.clear();
        if self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
        self.turn = Turn::Rest;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_due(cx)?;
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.buffer.len() >= MOST {
            ready!(self.poll_send(cx))?;
        }
        let mut count = 0;
        for slice in slices {
            let room = MOST.saturating_sub(self.buffer.len());
            let taken = slice.get(..room).unwrap_or(slice);
            self.buffer.extend_from_slice(taken);
            count += taken.len();
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Marks what was written as due. It is sent when the other ready tasks have run.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.turn {
            Turn::Rest if self.buffer.is_empty() => Pin::new(&mut self.inner).poll_flush(cx),
            Turn::Rest => {
                self.give_way(cx);
                Poll::Ready(Ok(()))
            }
            Turn::Others | Turn::Ours => Poll::Ready(self.poll_due(cx)),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
