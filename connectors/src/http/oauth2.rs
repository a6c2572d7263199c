//! Tokens of the grant of client credentials (RFC 6749 4.4), renewed before they expire and when the source refuses one.
//!
//! One question at a time gets a token and the others wait for it, so a token that expires is asked for once. Cancel-safe:
//! where the one who gets it leaves, the next one does.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::auth::{Credentials, Oauth2Config, basic};
use super::request::percent_encoded;
use crate::config::ConnectorConfigError;
use crate::reloaded::Reloaded;
use crate::secret::Secret;
use crate::{Fetch, SourceFault, http_client};

const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// A token is renewed so long before it expires, or a quarter of its life where that is shorter.
const MARGIN: Duration = Duration::from_secs(30);
/// Longest life that is believed.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A client of an authorisation server.
#[derive(Debug)]
pub(super) struct Oauth2 {
    token_url: Url,
    client_id: String,
    secret: Reloaded<Secret>,
    scope: Option<String>,
    granted: Mutex<Option<Granted>>,
}

/// A token at hand.
#[derive(Debug)]
struct Granted {
    credentials: Credentials,
    /// With what it was got: another secret gets another token.
    secret: Arc<Secret>,
    /// None: until it is refused.
    until: Option<Instant>,
}

/// RFC 6749 5.1.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: String,
    /// Seconds; some servers write them as a text.
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
}

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let seconds = match Option::<serde_json::Value>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(serde_json::Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_u64(),
    };
    seconds.map(Some).ok_or_else(|| serde::de::Error::custom("expires_in is no number of seconds"))
}

impl Oauth2 {
    pub(super) fn check(config: &Oauth2Config) -> Result<(), ConnectorConfigError> {
        let refuse = |key: &str, rule: &str| Err(ConnectorConfigError::invalid(key, rule));
        http_client::source_url("auth.token_url", &config.token_url)?;
        if config.client_id.is_empty() || config.client_id.chars().any(char::is_control) {
            return refuse("auth.client_id", "must not be empty or have control characters");
        }
        if config.scope.as_ref().is_some_and(|scope| !scope.bytes().all(|b| b == b' ' || b.is_ascii_graphic())) {
            return refuse("auth.scope", "visible ASCII, separated by spaces");
        }
        Ok(())
    }

    pub(super) fn new(config: &Oauth2Config, secret: Reloaded<Secret>) -> Result<Self, ConnectorConfigError> {
        Ok(Self {
            token_url: http_client::source_url("auth.token_url", &config.token_url)?,
            client_id: config.client_id.clone(),
            secret,
            scope: config.scope.clone(),
            granted: Mutex::default(),
        })
    }

    pub(super) fn speaks_tls(&self) -> bool {
        self.token_url.scheme() != "http"
    }

    pub(super) fn token_url(&self) -> &Url {
        &self.token_url
    }

    /// The token at hand, or a new one.
    pub(super) async fn token(&self, client: &Client, fetch: &Fetch<'_>) -> Result<Credentials, SourceFault> {
        let secret = self.secret.get().await;
        let mut granted = self.granted.lock().await;
        if let Some(known) = granted.as_ref()
            && Arc::ptr_eq(&known.secret, &secret)
            && known.until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(known.credentials.clone());
        }
        let (credentials, until) = self.grant(client, &secret, fetch).await?;
        *granted = Some(Granted { credentials: credentials.clone(), secret, until });
        Ok(credentials)
    }

    /// Forgets a token that was refused, unless another one took its place already.
    pub(super) async fn forget(&self, refused: &Credentials) {
        self.granted.lock().await.take_if(|granted| granted.credentials == *refused);
    }

    async fn grant(
        &self,
        client: &Client,
        secret: &Secret,
        fetch: &Fetch<'_>,
    ) -> Result<(Credentials, Option<Instant>), SourceFault> {
        let mut form = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &self.scope {
            form.push_str("&scope=");
            form.push_str(&percent_encoded(scope));
        }
        // RFC 6749 2.3.1: id and secret are encoded as in a form before they are joined.
        let encoded = Zeroizing::new(percent_encoded(secret.expose()));
        let client_id = percent_encoded(&self.client_id);
        let Credentials { name, value } = Credentials::new(AUTHORIZATION, &basic(&client_id, &encoded))?;
        let asked = Instant::now();
        let request = client.post(self.token_url.clone()).header(name, value);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let mut response = request.send().await.map_err(http_client::fault)?;
        let status = response.status().as_u16();
        fetch.heard(|| format!("HTTP status {status} of {}", self.token_url));
        match status {
            200 => {}
            400 | 401 | 403 => return Err(SourceFault::NotAuthorised("the token endpoint refuses the client")),
            429 => return Err(SourceFault::RateLimited("the token endpoint asks to slow down")),
            _ => return Err(SourceFault::Down("the token endpoint gives no token")),
        }
        let body = Zeroizing::new(http_client::read(&mut response, MAX_ANSWER_BYTES).await?);
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| SourceFault::Untrusted("the token endpoint's answer is no token (RFC 6749 5.1)"))?;
        let token = Zeroizing::new(answer.access_token);
        if !answer.token_type.eq_ignore_ascii_case("bearer") {
            return Err(SourceFault::Untrusted("the token endpoint gives another token than a bearer's"));
        }
        let until = answer.expires_in.map(|life_s| {
            let life = Duration::from_secs(life_s).min(LONGEST_LIFE);
            asked + life - MARGIN.min(life / 4)
        });
        Ok((Credentials::bearer(&token)?, until))
    }
}
