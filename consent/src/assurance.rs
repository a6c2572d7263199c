//! How it was proven who somebody is.

use serde::{Deserialize, Serialize};

use crate::{Digest, MandateId, Timestamp};

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

/// On whose word something was decided. A proof of identity is the portal's; what an administration keeps as evidence is its own
/// word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// An administration says what a person told it, or carries out an order.
    Administration,
    /// Somebody proven, for another under this mandate.
    Representative {
        /// The mandate.
        mandate: MandateId,
    },
    /// The person, proven.
    Person,
}

impl DecidedBy {
    /// Of a decision: whether somebody was proven, and the mandate under which they acted.
    pub fn of(is_proven: bool, mandate: Option<MandateId>) -> Self {
        match (is_proven, mandate) {
            (false, _) => Self::Administration,
            (true, None) => Self::Person,
            (true, Some(mandate)) => Self::Representative { mandate },
        }
    }

    /// Whether somebody was proven.
    pub fn is_proven(self) -> bool {
        self != Self::Administration
    }

    /// Whether what was decided on this word is undone on the word of `other`: what the person decided by the person alone, and
    /// what was decided under a mandate also under that mandate.
    pub fn yields_to(self, other: Self) -> bool {
        match self {
            Self::Administration => true,
            Self::Representative { .. } => other == Self::Person || other == self,
            Self::Person => other == Self::Person,
        }
    }

    /// Whether the same decision, taken again on this word, is no longer that of `already`.
    pub fn takes_over(self, already: Self) -> bool {
        self != already && self.is_proven() && already.yields_to(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proven_person_decided_yields_to_that_person_and_under_a_mandate_also_to_that_mandate() {
        use DecidedBy::{Administration, Person, Representative};
        let under = |byte| Representative { mandate: MandateId([byte; 16]) };
        let all = [Administration, under(1), under(2), Person];
        let yields = |by: DecidedBy| all.map(|other| by.yields_to(other));
        assert_eq!(yields(Administration), [true; 4]);
        assert_eq!(yields(under(1)), [false, true, false, true]);
        assert_eq!(yields(Person), [false, false, false, true]);
        let takes_over = |by: DecidedBy| all.map(|already| by.takes_over(already));
        assert_eq!(takes_over(Administration), [false; 4]);
        assert_eq!(takes_over(under(1)), [true, false, false, false]);
        assert_eq!(takes_over(Person), [true, true, true, false]);
        assert_eq!(DecidedBy::of(false, Some(MandateId([1; 16]))), Administration);
    }
}
