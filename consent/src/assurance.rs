//! How it was proven who somebody is.

use serde::{Deserialize, Serialize};

use crate::{Digest, Timestamp};

/// Level of assurance of an identification (Regulation (EU) 910/2014, article 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EidasLevel {
    /// Low.
    Low,
    /// Substantial.
    Substantial,
    /// High.
    High,
}

/// How a person's identity was proven when they decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityAssurance {
    /// Level of the identification.
    pub level: EidasLevel,
    /// Authentication context of the identity provider (OpenID Connect `acr`: `eidas1`); empty where there was none, as at
    /// a counter.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub acr: String,
    /// When the person was authenticated.
    pub authenticated_at: Timestamp,
}

/// That the person was proven by an identity provider, and not only named by whoever calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonProof {
    /// The identity provider (OpenID Connect `iss`).
    pub issuer: String,
    /// SHA-256 of the signed assertion. It holds the provider's signature, so that it cannot be guessed from the person.
    pub assertion: Digest,
    /// What the provider says of the identification.
    pub assurance: IdentityAssurance,
}
