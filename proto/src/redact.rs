//! What may be seen of messages that hold names, values or tokens, in logs and errors that print them with `{:?}`.
//!
//! prost's own `Debug` is left out for these in `build.rs`. Messages around them derive theirs and print these inside.

use std::fmt::{Debug, Formatter, Result};

use crate::connector::v1 as connector;
use crate::exchange::ExchangeQuestion;
use crate::v1;

impl Debug for v1::Identity {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("[identity]")
    }
}

impl Debug for v1::IdentityAssertion {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("[identity assertion]")
    }
}

impl Debug for v1::ExchangeRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("ExchangeRequest")
            .field("request_id", &self.request_id)
            .field("procedure", &self.procedure)
            .field("attributes", &self.attributes.len())
            .finish_non_exhaustive()
    }
}

impl Debug for v1::exchange_request::Ground {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::LawRequest(_) => "LAW_REQUEST",
            Self::Proactive(_) => "PROACTIVE",
            Self::Consent(_) => "CONSENT",
            Self::ExplicitRequest(_) => "EXPLICIT_REQUEST",
        })
    }
}

impl Debug for v1::Attribute {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Attribute").field("name", &self.name).field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Debug for v1::ExchangeResponse {
    // The receipt holds the salt of the answer's digest, from which a small value can be found by trying.
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("ExchangeResponse")
            .field("exchange_id", &self.exchange_id)
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}

impl Debug for connector::FetchRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("FetchRequest")
            .field("exchange_id", &self.exchange_id)
            .field("dataset", &self.dataset)
            .field("attributes", &self.attributes.len())
            .finish_non_exhaustive()
    }
}

impl Debug for connector::AttributeOutcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("AttributeOutcome").field("code", &self.code()).finish_non_exhaustive()
    }
}

impl Debug for connector::FetchResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("FetchResponse").field("attributes", &self.attributes).finish_non_exhaustive()
    }
}

impl Debug for ExchangeQuestion {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("ExchangeQuestion")
            .field("request_id", &self.request_id)
            .field("procedure", &self.procedure)
            .field("attributes", &self.attributes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
