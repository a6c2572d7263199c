//! Why an assertion is refused.

use std::borrow::Cow;

/// Why an assertion is refused. Holds no word of the token nor of the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", self.code(), self.advice())]
pub enum AssertionFault {
    /// Not a token of the form that is asked for.
    Malformed,
    /// Signed in a way that is not accepted, or that does not fit the key.
    Algorithm,
    /// No provider of the configuration has this `iss`.
    IssuerUnknown,
    /// The provider has no such key in its file.
    KeyUnknown,
    /// The signature is not the key's.
    Signature,
    /// Made for another client.
    Audience,
    /// Past its end.
    Expired,
    /// Its time has not begun.
    NotYetValid,
    /// The person was authenticated too long ago.
    TooOld,
    /// The level of assurance is unknown or too low.
    Level,
    /// The answer of UserInfo is of another subject.
    Subject,
    /// The identity is not whole or not of the right form.
    Identity {
        /// The claim that is missing or that is not of its form.
        claim: &'static str,
    },
}

impl AssertionFault {
    /// Stable code for clients, logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "ASSERTION_MALFORMED",
            Self::Algorithm => "ASSERTION_ALGORITHM",
            Self::IssuerUnknown => "ASSERTION_ISSUER_UNKNOWN",
            Self::KeyUnknown => "ASSERTION_KEY_UNKNOWN",
            Self::Signature => "ASSERTION_SIGNATURE",
            Self::Audience => "ASSERTION_AUDIENCE",
            Self::Expired => "ASSERTION_EXPIRED",
            Self::NotYetValid => "ASSERTION_NOT_YET_VALID",
            Self::TooOld => "ASSERTION_TOO_OLD",
            Self::Level => "ASSERTION_LEVEL",
            Self::Subject => "ASSERTION_SUBJECT",
            Self::Identity { .. } => "ASSERTION_IDENTITY",
        }
    }

    /// What to change.
    pub fn advice(self) -> Cow<'static, str> {
        let advice = match self {
            Self::Malformed => {
                "send the ID token and the UserInfo answer as the provider signed them, each at most 16 KiB, with exp, \
                 iat, auth_time, acr and sub"
            }
            Self::Algorithm => "have the provider sign with ES256, RS256, PS256 or EdDSA, by the key that is for it",
            Self::IssuerUnknown => "use an identity provider of the broker's configuration, for both tokens the same",
            Self::KeyUnknown => "ask the operator to refresh the provider's JWKS file",
            Self::Signature => "send the tokens unchanged, as the provider signed them",
            Self::Audience => {
                "use the client id that the operator accepts, and an azp where there are several audiences"
            }
            Self::Expired => "ask the provider for a new token",
            Self::NotYetValid => "check the clocks: the token's time has not begun",
            Self::TooOld => "have the person authenticate again",
            Self::Level => "ask the provider for a higher level of assurance (acr_values)",
            Self::Subject => "send the UserInfo answer that belongs to the ID token",
            Self::Identity { claim } => {
                return format!(
                    "the claim {claim} is missing or not of its form; ask the provider for the whole pivot identity (scope \
                     identite_pivot)"
                )
                .into();
            }
        };
        advice.into()
    }
}
