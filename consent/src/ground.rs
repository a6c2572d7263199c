//! Why an exchange is lawful (CRPA L114-8 and GDPR 6 and 7). Each ground carries the evidence that the law wants with it.

use serde::{Deserialize, Serialize};

use crate::{ConsentId, Timestamp};

/// How the person was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// On a web page.
    Online,
    /// At a counter.
    Counter,
    /// By telephone.
    Phone,
    /// By post.
    Post,
}

/// The language of the notice that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// French.
    Fr,
    /// English.
    En,
}

/// That the person was informed: which version of the procedure's notice, when, how and in which language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeShown {
    /// Version of the notice of the procedure.
    pub version: u32,
    /// When it was shown.
    pub shown_at: Timestamp,
    /// How it was shown.
    pub channel: Channel,
    /// Language in which it was shown.
    pub language: Language,
}

/// The ground of one exchange with its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ground {
    /// CRPA L114-8 I: the person made a request and was informed.
    LawRequest {
        /// The notice that informed the person.
        notice: NoticeShown,
    },
    /// CRPA L114-8 II: to inform a person of a right and grant it. An objection blocks it.
    Proactive {
        /// The notice by which persons are informed of the proactive use.
        notice: NoticeShown,
    },
    /// GDPR 6(1)(a) and 7: a consent in the ledger.
    Consent {
        /// The consent; where absent, the newest one that covers the question.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        consent: Option<ConsentId>,
    },
    /// Regulation (EU) 2018/1724, article 14: explicit request, and preview where the source demands it.
    ExplicitRequest {
        /// When the person asked.
        requested_at: Timestamp,
        /// When the person previewed the data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previewed_at: Option<Timestamp>,
    },
}

/// The kind of a ground, as habilitations list it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum GroundKind {
    /// [`Ground::LawRequest`].
    LawRequest,
    /// [`Ground::Proactive`].
    Proactive,
    /// [`Ground::Consent`].
    Consent,
    /// [`Ground::ExplicitRequest`].
    ExplicitRequest,
}

impl Ground {
    /// The kind of this ground.
    pub fn kind(&self) -> GroundKind {
        match self {
            Self::LawRequest { .. } => GroundKind::LawRequest,
            Self::Proactive { .. } => GroundKind::Proactive,
            Self::Consent { .. } => GroundKind::Consent,
            Self::ExplicitRequest { .. } => GroundKind::ExplicitRequest,
        }
    }
}

impl GroundKind {
    /// The name of the contract, `LAW_REQUEST`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LawRequest => "LAW_REQUEST",
            Self::Proactive => "PROACTIVE",
            Self::Consent => "CONSENT",
            Self::ExplicitRequest => "EXPLICIT_REQUEST",
        }
    }
}
