//! A request that must arrive in time: what has come of one that does not is kept for nobody.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

/// Every call sends one message of at most some megabytes.
pub(super) const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// A body that fails when it has not ended within a time.
pub(super) struct Timely {
    body: Body,
    until: Pin<Box<Sleep>>,
}

impl Timely {
    pub(super) fn new(body: Body, within: Duration) -> Self {
        Self { body, until: Box::pin(tokio::time::sleep(within)) }
    }
}

impl http_body::Body for Timely {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        self.until.as_mut().poll(cx).map(|()| {
            Some(Err(Status::deadline_exceeded("the request did not arrive in time; send it whole, and at once")))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_fails_after_its_time_and_another_passes() {
        let whole = Body::new(http_body_util::Full::new(Bytes::from_static(b"whole")).map_err(|never| match never {}));
        let read = Timely::new(whole, ARRIVES_WITHIN).collect().await.unwrap().to_bytes();
        assert_eq!(&read[..], b"whole");
        let (_sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Status>>(1);
        let endless = Body::new(http_body_util::StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver)));
        let begun = tokio::time::Instant::now();
        let failed = Timely::new(endless, ARRIVES_WITHIN).collect().await.unwrap_err();
        assert_eq!(failed.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(begun.elapsed().as_secs(), ARRIVES_WITHIN.as_secs());
    }
}
