//! Signed tokens in the compact form (RFC 7515, section 7.1).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::AssertionFault;
use super::claims::Claims;

/// Longest token, in bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 16 << 10;

/// How tokens may be signed (RFC 7518, section 3.1; RFC 8037, section 3.1). Neither `none` nor a shared secret: with
/// `HS256`, whoever knows the public key could sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Es256,
    Rs256,
    Ps256,
    EdDsa,
}

impl Algorithm {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A token in its parts. Nothing in it is true before its signature is verified.
pub(super) struct Jws<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// What was signed: header and payload as they came.
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
    payload: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Takes a token apart. Keys that its header holds or points to (`jwk`, `jku`, `x5c`, `x5u`) are never looked at.
    pub(super) fn read(token: &'a str) -> Result<Self, AssertionFault> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AssertionFault::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(AssertionFault::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(AssertionFault::Malformed)?;
        // A further dot is no character of base64url and is refused with the others. No padding, no stray bits: one
        // token has one text.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| AssertionFault::Malformed);
        let header = Claims::read(&decode(header)?)?;
        // What a `crit` names must be understood, and nothing is (RFC 7515, section 4.1.11); `b64` changes what is
        // signed (RFC 7797).
        if header.has("crit") || header.has("b64") {
            return Err(AssertionFault::Malformed);
        }
        // A token of another kind, as an access token (`at+jwt`), is not taken for an ID token (RFC 8725, section 3.11).
        if header.text("typ")?.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(AssertionFault::Malformed);
        }
        let algorithm = Algorithm::from_name(header.required("alg")?).ok_or(AssertionFault::Algorithm)?;
        let kid = header.text("kid")?.map(str::to_owned);
        Ok(Self { algorithm, kid, signed: signed.as_bytes(), signature: decode(signature)?, payload: decode(payload)? })
    }

    /// What the token claims.
    pub(super) fn claims(&self) -> Result<Claims, AssertionFault> {
        Claims::read(&self.payload)
    }
}
