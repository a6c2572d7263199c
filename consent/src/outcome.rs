//! What became of one attribute that was asked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What became of one attribute, as records and the contract name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutcomeCode {
    /// The source knows it; zero and empty are values.
    Found,
    /// The person is known, or may be, but the source holds no file for this dataset.
    NoFile,
    /// What was given does not identify a person at the source.
    NotIdentified,
    /// Several persons match; nothing is picked.
    Ambiguous,
    /// The source takes no such value of a filter, though its form is right: a year too far back.
    FilterRefused,
    /// The source refuses this broker or this attribute: a fault of configuration that the operator is told of.
    NotAuthorised,
    /// The source asks to slow down.
    RateLimited,
    /// The source did not answer, or not in a form that can be trusted.
    SourceDown,
    /// The right to the data ended while it was fetched; it was dropped.
    Withheld,
}

impl OutcomeCode {
    /// The name of the contract, `NO_FILE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Found => "FOUND",
            Self::NoFile => "NO_FILE",
            Self::NotIdentified => "NOT_IDENTIFIED",
            Self::Ambiguous => "AMBIGUOUS",
            Self::FilterRefused => "FILTER_REFUSED",
            Self::NotAuthorised => "NOT_AUTHORISED",
            Self::RateLimited => "RATE_LIMITED",
            Self::SourceDown => "SOURCE_DOWN",
            Self::Withheld => "WITHHELD",
        }
    }

    /// Whether the source said it of the person, so that it is named as where the answer comes from.
    pub fn is_of_source(self) -> bool {
        match self {
            Self::Found | Self::NoFile | Self::NotIdentified | Self::Ambiguous | Self::FilterRefused => true,
            Self::NotAuthorised | Self::RateLimited | Self::SourceDown | Self::Withheld => false,
        }
    }
}

/// What became of one attribute, with its value where it has one.
#[derive(Clone, PartialEq)]
pub enum Outcome {
    /// The source's value, as JSON.
    Found(serde_json::Value),
    /// See [`OutcomeCode`]; carries no value.
    Missing(OutcomeCode),
}

impl Outcome {
    /// The code without the value.
    pub fn code(&self) -> OutcomeCode {
        match self {
            Self::Found(_) => OutcomeCode::Found,
            Self::Missing(code) => *code,
        }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code().as_str())
    }
}
