//! From a question to a request. It names the person, so it has no Debug and its URL is never logged.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use serde_json::Value;

use super::answer::Received;
use super::auth::{Auth, Credentials};
use super::settings::{Method, Prepared};
use super::template::Rendered;
use crate::http_client::{self, REQUEST_ID};
use crate::part::Absent;
use crate::{Fetch, SourceFault};

/// All but the unreserved characters (RFC 3986 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request without the credentials.
pub(super) struct Request {
    method: Method,
    url: Url,
    headers: Vec<(HeaderName, String)>,
    body: Option<Value>,
    request_id: String,
}

/// `text` with no character that has a meaning in a URL, a header or a form.
pub(super) fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The request for this question below `base`.
pub(super) fn of(base: &Url, dataset: &Prepared, fetch: &Fetch<'_>) -> Result<Request, Absent> {
    let mut url = base.clone();
    url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), path(dataset, fetch)?));
    for (name, template) in &dataset.query {
        // Encoded by the form encoding of the URL itself.
        let values = match template.render(fetch, str::to_owned)? {
            Rendered::Text(value) => vec![value],
            Rendered::List(values) => values,
            Rendered::LeftOut => Vec::new(),
        };
        for value in values {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    let mut headers = Vec::with_capacity(dataset.headers.len());
    for (name, template) in &dataset.headers {
        if let Rendered::Text(value) = template.render(fetch, percent_encoded)? {
            headers.push((name.clone(), value));
        }
    }
    let body = match &dataset.body {
        Some(body) => body.render(fetch)?,
        None => None,
    };
    Ok(Request { method: dataset.method, url, headers, body, request_id: fetch.permit.exchange().to_string() })
}

fn path(dataset: &Prepared, fetch: &Fetch<'_>) -> Result<String, Absent> {
    let Rendered::Text(path) = dataset.path.render(fetch, percent_encoded)? else {
        return Err(Absent::FilterRefused);
    };
    // INVARIANT: the path has the segments that the operator wrote. A value cannot add one, since slashes are encoded, and
    // one that makes a segment of dots, which a URL resolves, is not sent.
    let climbs = path.split('/').any(|segment| matches!(segment, "." | ".."));
    if climbs { Err(Absent::FilterRefused) } else { Ok(path) }
}

impl Request {
    /// Sends it, and reads the answer.
    pub(super) async fn send(
        &self,
        client: &Client,
        credentials: Option<&Credentials>,
        max_bytes: usize,
    ) -> Result<Received, SourceFault> {
        let mut request = match self.method {
            Method::Get => client.get(self.url.clone()),
            Method::Post => client.post(self.url.clone()),
        };
        for (name, value) in &self.headers {
            let header = HeaderValue::from_str(value);
            request = request.header(name, header.map_err(|_| SourceFault::Untrusted("a header cannot be sent"))?);
        }
        if let Some(Credentials { name, value }) = credentials {
            request = request.header(name, value);
        }
        if let Some(body) = &self.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let mut response = request.header(REQUEST_ID, &self.request_id).send().await.map_err(http_client::fault)?;
        Ok(Received {
            status: response.status().as_u16(),
            is_json: http_client::is_json_of_any_kind(response.headers()),
            reference: http_client::reference(response.headers()),
            may_keep: http_client::may_keep(response.headers()),
            body: http_client::read(&mut response, max_bytes).await,
        })
    }

    /// For the operator who tries the connector.
    pub(super) fn shown(&self, auth: &Auth) -> String {
        let method = match self.method {
            Method::Get => "GET",
            Method::Post => "POST",
        };
        let mut text = format!("{method} {}", self.url);
        // Writing to a String does not fail.
        for (name, value) in &self.headers {
            let _ = write!(text, "\n{name}: {value}");
        }
        if let Some(credentials) = auth.shown() {
            let _ = write!(text, "\n{credentials}");
        }
        let _ = write!(text, "\n{REQUEST_ID}: {}", self.request_id);
        if let Some(body) = &self.body {
            let _ = write!(text, "\ncontent-type: application/json\n\n{body:#}");
        }
        text
    }
}
