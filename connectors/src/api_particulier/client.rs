//! One GET of API Particulier.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Url};

use super::answer::{self, Received, Said};
use crate::SourceFault;
use crate::http_client::{self, REQUEST_ID};

/// One GET.
#[derive(Clone)]
pub(super) struct Request<'a> {
    /// Names the person: not for logs.
    pub(super) url: Url,
    pub(super) bearer: &'a str,
    /// The exchange, so that the source's traces and ours can be matched.
    pub(super) request_id: &'a str,
}

/// Asks and reads the answer, at most `max_bytes` of it. Gives the source's own reference beside it.
pub(super) async fn get(client: &Client, request: Request<'_>, max_bytes: usize) -> Result<Said, SourceFault> {
    let header = HeaderValue::from_str(request.bearer);
    let mut bearer = header.map_err(|_| SourceFault::NotAuthorised("the token does not fit a header"))?;
    // Kept out of Debug and of HPACK's dictionaries.
    bearer.set_sensitive(true);
    let sent = client.get(request.url).header(AUTHORIZATION, bearer).header(REQUEST_ID, request.request_id).send();
    let mut response = sent.await.map_err(http_client::fault)?;
    let status = response.status().as_u16();
    let received = Received {
        status,
        is_json: http_client::is_json(response.headers()),
        retry_after: retry_after(response.headers()),
        body: http_client::read(&mut response, max_bytes).await,
    };
    let (reference, may_keep) = (http_client::reference(response.headers()), http_client::may_keep(response.headers()));
    Ok(Said { status, verdict: answer::judge(received), reference, may_keep })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
