//! Who a citizen is: what an identity provider signed, as a portal passes it on.
//!
//! A portal sends the OpenID Connect ID token of its user and, where the identity is not in it (FranceConnect v2), the
//! signed answer of the UserInfo endpoint. Both are checked offline against the provider's keys in a file. Whatever is
//! not of the right form is refused and never skipped. Deliberately absent: fetching keys, asking the provider whether a
//! session still lives, and a memory of tokens: a token may be shown again until it ends or is too old.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use unefois_consent::{Digest, EidasLevel, IdentityAssurance, PersonProof, PivotIdentity, Timestamp};

use crate::config::ConfigError;

mod claims;
mod fault;
mod identity;
pub mod issue;
mod jwks;
mod jws;

pub use fault::AssertionFault;

use claims::Claims;
use jwks::KeyFile;
use jws::Jws;

/// How far the provider's clock and ours may be apart (RFC 7519, sections 4.1.4 and 4.1.5: "a few minutes" at most).
const SKEW: Duration = Duration::from_secs(60);
/// Longest issuer, client id or `acr` of the configuration, in bytes.
const MAX_WORD_BYTES: usize = 255;

/// `[[identity_providers]]`: one identity provider and what is asked of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityProviderConfig {
    /// The provider's `iss`, character by character.
    pub issuer: String,
    /// Client ids of the portals, of which one must be in `aud`; at least one.
    pub audiences: Vec<String>,
    /// The provider's public keys: a JWKS file (RFC 7517), read again when it changes.
    pub jwks: PathBuf,
    /// Longest time since the person was authenticated, in seconds. Default 1800.
    #[serde(default = "defaults::max_age_s")]
    pub max_age_s: u64,
    /// The level of each `acr` that is known. Default eidas1, eidas2 and eidas3.
    #[serde(default = "defaults::levels")]
    pub levels: BTreeMap<String, EidasLevel>,
    /// Lowest level that is accepted. Default low.
    #[serde(default = "defaults::lowest")]
    pub lowest: EidasLevel,
}

mod defaults {
    use super::{BTreeMap, EidasLevel};

    pub(super) fn max_age_s() -> u64 {
        1800
    }
    pub(super) fn levels() -> BTreeMap<String, EidasLevel> {
        let levels = [("eidas1", EidasLevel::Low), ("eidas2", EidasLevel::Substantial), ("eidas3", EidasLevel::High)];
        levels.into_iter().map(|(acr, level)| (acr.to_owned(), level)).collect()
    }
    pub(super) fn lowest() -> EidasLevel {
        EidasLevel::Low
    }
}

impl IdentityProviderConfig {
    /// Checks what needs no file. `key` is the name of the table in errors.
    ///
    /// # Errors
    /// The first key that breaks a rule.
    pub fn validate(&self, key: &str) -> Result<(), ConfigError> {
        let fault = |name: &str, problem: &str| Err(ConfigError::new(&format!("{key}.{name}"), problem));
        let is_word = |text: &String| !text.is_empty() && text.len() <= MAX_WORD_BYTES;
        if !is_word(&self.issuer) {
            return fault("issuer", "must be the provider's iss, 1 to 255 bytes");
        }
        if self.audiences.is_empty() || !self.audiences.iter().all(is_word) {
            return fault("audiences", "name at least one client id, each of 1 to 255 bytes");
        }
        if !(1..=86_400).contains(&self.max_age_s) {
            return fault("max_age_s", "must be from 1 to 86400");
        }
        if !self.levels.keys().all(is_word) {
            return fault("levels", "each acr has 1 to 255 bytes");
        }
        if !self.levels.values().any(|level| *level >= self.lowest) {
            return fault("levels", "no acr reaches the lowest level, so that nobody could be accepted");
        }
        Ok(())
    }
}

/// The identity providers that are trusted.
#[derive(Debug)]
pub struct IdentityProviders(BTreeMap<String, Provider>);

#[derive(Debug)]
struct Provider {
    config: IdentityProviderConfig,
    keys: KeyFile,
}

impl IdentityProviders {
    /// Checks the tables and reads the keys. None is right too: then every assertion is refused.
    ///
    /// # Errors
    /// The key that is wrong: a rule is broken, an issuer is there twice, or a file of keys is not usable.
    pub fn open(providers: Vec<IdentityProviderConfig>) -> Result<Self, ConfigError> {
        let mut known = BTreeMap::new();
        for (place, config) in providers.into_iter().enumerate() {
            let key = format!("identity_providers[{place}]");
            config.validate(&key)?;
            if known.contains_key(&config.issuer) {
                return Err(ConfigError::new(&format!("{key}.issuer"), "is there twice"));
            }
            let keys = KeyFile::open(&config.jwks).map_err(|p| ConfigError::new(&format!("{key}.jwks"), p))?;
            known.insert(config.issuer.clone(), Provider { config, keys });
        }
        Ok(Self(known))
    }

    /// Verifies an ID token and, unless it is empty, the answer of UserInfo that goes with it (OpenID Connect Core 1.0,
    /// sections 3.1.3.7 and 5.3.4). The identity is that of UserInfo where there is one, else that of the ID token.
    ///
    /// Looks at the provider's file of keys, and reads it where it changed: one call of the file system.
    ///
    /// # Errors
    /// The first check that fails, in the order: form, issuer, key, signature, audience, time, level, subject, identity.
    pub fn verify(
        &self,
        id_token: &str,
        user_info: &str,
        now: Timestamp,
    ) -> Result<(PivotIdentity, PersonProof), AssertionFault> {
        let token = Jws::read(id_token)?;
        let claims = token.claims()?;
        let issuer = claims.text("iss")?.ok_or(AssertionFault::Malformed)?;
        let provider = self.0.get(issuer).ok_or(AssertionFault::IssuerUnknown)?;
        let keys = provider.keys.current();
        keys.verify(&token)?;
        provider.check_audience(&claims)?;
        check_times(&claims, now, Times::Required)?;
        let assurance = provider.assurance(&claims, now)?;
        let subject = claims.required("sub")?;

        let answer = if user_info.is_empty() {
            None
        } else {
            let answer = Jws::read(user_info)?;
            let told = answer.claims()?;
            if told.text("iss")? != Some(issuer) {
                return Err(AssertionFault::IssuerUnknown);
            }
            keys.verify(&answer)?;
            provider.check_audience(&told)?;
            check_times(&told, now, Times::WherePresent)?;
            // An answer of another subject is another person's (section 5.3.2).
            if told.required("sub")? != subject {
                return Err(AssertionFault::Subject);
            }
            Some(told)
        };
        let person = identity::pivot(answer.as_ref().unwrap_or(&claims), now)?;
        let proof = PersonProof { issuer: issuer.to_owned(), assertion: Digest::of(id_token.as_bytes()), assurance };
        Ok((person, proof))
    }
}

/// Whether `exp` and `iat` must be there: in an ID token (OpenID Connect Core 1.0, section 2), not in UserInfo.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Required,
    WherePresent,
}

impl Provider {
    /// `aud` and `azp` (OpenID Connect Core 1.0, section 3.1.3.7, points 3 to 5).
    fn check_audience(&self, claims: &Claims) -> Result<(), AssertionFault> {
        let is_ours = |id: &str| self.config.audiences.iter().any(|ours| ours == id);
        let audiences: BTreeSet<&str> = claims.text_or_list("aud")?.into_iter().collect();
        let party = claims.text("azp")?;
        if !audiences.iter().any(|id| is_ours(id)) || party.is_some_and(|id| !is_ours(id)) {
            return Err(AssertionFault::Audience);
        }
        // With several audiences only `azp` says for whom the person authenticated.
        if audiences.len() > 1 && party.is_none() {
            return Err(AssertionFault::Audience);
        }
        Ok(())
    }

    /// `auth_time` and `acr`: when, and how well, the person was authenticated.
    fn assurance(&self, claims: &Claims, now: Timestamp) -> Result<IdentityAssurance, AssertionFault> {
        let authenticated_at = claims.time("auth_time")?.ok_or(AssertionFault::Malformed)?;
        if authenticated_at > now.plus(SKEW) {
            return Err(AssertionFault::NotYetValid);
        }
        if now.since(authenticated_at) > Duration::from_secs(self.config.max_age_s) {
            return Err(AssertionFault::TooOld);
        }
        let acr = claims.required("acr")?;
        let level = self.config.levels.get(acr).copied().filter(|level| *level >= self.config.lowest);
        let level = level.ok_or(AssertionFault::Level)?;
        // A clock that is ahead of ours must not put the authentication after the decision that it proves.
        Ok(IdentityAssurance { level, acr: acr.to_owned(), authenticated_at: authenticated_at.min(now) })
    }
}

/// `exp`, `iat` and `nbf` (RFC 7519, sections 4.1.4 to 4.1.6).
fn check_times(claims: &Claims, now: Timestamp, times: Times) -> Result<(), AssertionFault> {
    let (exp, iat, nbf) = (claims.time("exp")?, claims.time("iat")?, claims.time("nbf")?);
    if times == Times::Required && (exp.is_none() || iat.is_none()) {
        return Err(AssertionFault::Malformed);
    }
    if exp.is_some_and(|exp| exp.plus(SKEW) <= now) {
        return Err(AssertionFault::Expired);
    }
    if iat.into_iter().chain(nbf).any(|from| from > now.plus(SKEW)) {
        return Err(AssertionFault::NotYetValid);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
