//! One GET of API Particulier.

use std::time::{Duration, SystemTime};

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

/// Seconds, or a date (RFC 9110 10.2.3); one that is past is no pause.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_named_in_seconds_or_by_its_end() {
        let of = |text: &str| retry_after(&[(RETRY_AFTER, text.parse().unwrap())].into_iter().collect());
        assert_eq!(of("30"), Some(Duration::from_secs(30)));
        let in_a_minute = of(&httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60))).unwrap();
        assert!((58..=60).contains(&in_a_minute.as_secs()), "{in_a_minute:?}");
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(of("soon"), None);
    }
}
