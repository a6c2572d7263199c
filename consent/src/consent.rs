//! What a person decided: consents.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::assurance::{DecidedBy, IdentityAssurance};
use crate::event::Decision;
use crate::frequency::{Frequency, TimeUnit, WindowUses};
use crate::id::RequestCode;
use crate::{
    AttributeId, Channel, ConsentId, DatasetId, Digest, Filter, Language, MandateId, Month, ProcedureId, Siret,
    SubjectRef, Timestamp,
};

/// How often a consent may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentUse {
    /// Once.
    OneTime,
    /// Until it ends.
    Repeated,
    /// So often in each window of time; the windows are counted from the start of validity.
    Periodic(Frequency),
}

/// What was last decided. Expired and used up follow from dates and uses and are not stored; see [`ConsentState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentStatus {
    /// The person was asked.
    Requested {
        /// Until when they may answer.
        answer_by: Timestamp,
        /// By which they find the request.
        code: RequestCode,
    },
    /// In force within its dates.
    Granted,
    /// The person said no; final.
    Refused {
        /// When, in the time of the log.
        at: Timestamp,
        /// On whose word.
        by: DecidedBy,
    },
    /// The person holds it back for a while.
    Paused {
        /// Since when.
        at: Timestamp,
        /// On whose word: who resumes it then follows from this.
        by: DecidedBy,
    },
    /// Taken back by the person; final.
    Withdrawn {
        /// When, in the time of the log.
        at: Timestamp,
        /// On whose word.
        by: DecidedBy,
    },
    /// Ended by an authority; final.
    Revoked {
        /// When, in the time of the log.
        at: Timestamp,
    },
    /// It was never valid, as who collected it found out; final.
    Invalidated {
        /// When that was recorded.
        at: Timestamp,
    },
}

/// The state of a consent at one moment, with what follows from dates and uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConsentState {
    /// The person was asked and has not answered.
    Requested,
    /// The person was asked and did not answer in time.
    Lapsed,
    /// Given.
    Given,
    /// Given again, after an earlier version.
    Renewed,
    /// Refused.
    Refused,
    /// Held back by the person.
    Paused,
    /// Past its end.
    Expired,
    /// For one use, and used.
    Exhausted,
    /// Taken back by the person.
    Withdrawn,
    /// Ended by an authority.
    Revoked,
    /// Never valid.
    Invalidated,
}

impl ConsentState {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Requested,
        Self::Lapsed,
        Self::Given,
        Self::Renewed,
        Self::Refused,
        Self::Paused,
        Self::Expired,
        Self::Exhausted,
        Self::Withdrawn,
        Self::Revoked,
        Self::Invalidated,
    ];

    /// The name of the contract, `GIVEN`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Lapsed => "LAPSED",
            Self::Given => "GIVEN",
            Self::Renewed => "RENEWED",
            Self::Refused => "REFUSED",
            Self::Paused => "PAUSED",
            Self::Expired => "EXPIRED",
            Self::Exhausted => "EXHAUSTED",
            Self::Withdrawn => "WITHDRAWN",
            Self::Revoked => "REVOKED",
            Self::Invalidated => "INVALIDATED",
        }
    }

    /// The consent status of the Data Privacy Vocabulary (DPV 2, `dpv:ConsentStatus`).
    ///
    /// The vocabulary has no word for a consent that is held back or used up: the first is its class of states that allow
    /// no processing, the second its `ConsentExpired`, which includes that the context of a consent has passed.
    pub fn dpv(self) -> &'static str {
        match self {
            Self::Requested => "ConsentRequested",
            Self::Lapsed => "ConsentRequestDeferred",
            Self::Given => "ConsentGiven",
            Self::Renewed => "RenewedConsentGiven",
            Self::Refused => "ConsentRefused",
            Self::Paused => "ConsentStatusInvalidForProcessing",
            Self::Expired | Self::Exhausted => "ConsentExpired",
            Self::Withdrawn => "ConsentWithdrawn",
            Self::Revoked => "ConsentRevoked",
            Self::Invalidated => "ConsentInvalidated",
        }
    }
}

/// Who gave a consent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grantor {
    /// The person concerned.
    #[default]
    Person,
    /// A representative, under a mandate. The consent is in force only as long as the mandate is.
    Representative {
        /// The mandate, which has the digest of its proof.
        mandate: MandateId,
    },
}

impl Grantor {
    /// The mandate of a representative.
    pub fn mandate(self) -> Option<MandateId> {
        match self {
            Self::Person => None,
            Self::Representative { mandate } => Some(mandate),
        }
    }

    fn is_person(&self) -> bool {
        *self == Self::Person
    }
}

/// What the consumer may do with the data after the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataLife {
    /// Use it in the procedure at hand and keep nothing.
    #[default]
    View,
    /// Keep it.
    Store {
        /// For so many.
        value: u32,
        /// Of these.
        unit: TimeUnit,
    },
}

impl DataLife {
    fn is_view(&self) -> bool {
        *self == Self::View
    }
}

/// The months that the data may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPeriod {
    /// The first.
    pub from: Month,
    /// The last.
    pub to: Month,
}

impl DataPeriod {
    /// Whether a question with `filter` asks for months of this period only. The filters `annee` and `mois` of a dataset say
    /// for which month it is asked; without `mois` the whole year is.
    pub fn contains(&self, filter: Option<&Filter>) -> bool {
        let asked = |name: &str| filter.and_then(|filter| filter.get(name)).map(String::as_str);
        let Some(year) = asked("annee") else { return false };
        let month = |month: &str| format!("{year}-{month:0>2}").parse::<Month>().ok();
        let (first, last) = asked("mois").map_or(("1", "12"), |month| (month, month));
        matches!((month(first), month(last)), (Some(first), Some(last)) if first >= self.from && last <= self.to)
    }
}

/// Layout of [`Consent`] that this code writes.
pub const CONSENT_SCHEMA: u32 = 1;

fn one() -> u32 {
    1
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

/// One consent (GDPR 4(11) and 7): specific, informed, versioned, withdrawable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// Its name in the ledger.
    pub id: ConsentId,
    /// Layout of this record; [`CONSENT_SCHEMA`].
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub schema: u32,
    /// 1, and one more for each renewal.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub version: u32,
    /// SHA-256 of the version before this one, as [`Consent::version_digest`] gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// Whom the data is about.
    pub subject: SubjectRef,
    /// Who gave it.
    #[serde(default, skip_serializing_if = "Grantor::is_person")]
    pub grantor: Grantor,
    /// How it was proven who gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assurance: Option<IdentityAssurance>,
    /// Who may ask by it.
    pub consumer: Siret,
    /// Who may use the data; the consumer where empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub recipients: BTreeSet<Siret>,
    /// Who supplies the data; any source of the datasets where empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sources: BTreeSet<Siret>,
    /// For which procedure.
    pub procedure: ProcedureId,
    /// For which attributes.
    pub attributes: BTreeSet<AttributeId>,
    /// With which filters a dataset is to be asked; any where it is not named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<DatasetId, Filter>,
    /// About which months; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<DataPeriod>,
    /// Version of the procedure's notice that the person read.
    pub notice_version: u32,
    /// SHA-256 of the exact text that was shown.
    pub notice_digest: Digest,
    /// Language of that text.
    pub language: Language,
    /// How the person indicated it.
    pub channel: Channel,
    /// SHA-256 of the consumer's own evidence (signed form, call record), where it keeps one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Digest>,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub expires_at: Timestamp,
    /// Once or repeatedly.
    pub usage: ConsentUse,
    /// What the consumer may do with the data.
    #[serde(default, skip_serializing_if = "DataLife::is_view")]
    pub data_life: DataLife,
    /// The agent or the system that recorded it.
    pub agent: String,
    /// When it was given or asked for, in the time of the log.
    pub granted_at: Timestamp,
    /// Last decision.
    pub status: ConsentStatus,
    /// How many exchanges have used this version.
    pub uses: u64,
    /// Uses in the window of the last one, where it is periodic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowUses>,
}

impl Consent {
    /// Its state at `now`.
    pub fn state(&self, now: Timestamp) -> ConsentState {
        match self.status {
            ConsentStatus::Requested { answer_by, .. } if now >= answer_by => ConsentState::Lapsed,
            ConsentStatus::Requested { .. } => ConsentState::Requested,
            ConsentStatus::Refused { .. } => ConsentState::Refused,
            ConsentStatus::Withdrawn { .. } => ConsentState::Withdrawn,
            ConsentStatus::Revoked { .. } => ConsentState::Revoked,
            ConsentStatus::Invalidated { .. } => ConsentState::Invalidated,
            ConsentStatus::Granted | ConsentStatus::Paused { .. } if now >= self.expires_at => ConsentState::Expired,
            ConsentStatus::Granted | ConsentStatus::Paused { .. } if !self.has_use_left() => ConsentState::Exhausted,
            ConsentStatus::Paused { .. } => ConsentState::Paused,
            ConsentStatus::Granted if self.version > 1 => ConsentState::Renewed,
            ConsentStatus::Granted => ConsentState::Given,
        }
    }

    /// Its status once `decision` is taken at `now` on the word of `by`, `None` where that changes nothing, or why it may not be
    /// taken.
    ///
    /// What a proven person decided, no administration undoes in their name (GDPR 7(3)), and no representative: see
    /// [`DecidedBy::yields_to`]. A final state stays: who withdrew a consent gives a new one. Withdrawing twice is no fault, since
    /// no retry of it may fail. A person makes a decision their own that an administration recorded.
    pub fn decided(
        &self,
        decision: Decision,
        by: DecidedBy,
        now: Timestamp,
    ) -> Result<Option<ConsentStatus>, &'static str> {
        use ConsentStatus as Status;
        let is_open = matches!(self.status, Status::Requested { .. } | Status::Granted | Status::Paused { .. });
        match (decision, self.status) {
            (Decision::Refuse, Status::Refused { at, by: already }) => {
                Ok(by.takes_over(already).then_some(Status::Refused { at, by }))
            }
            (Decision::Withdraw, Status::Withdrawn { at, by: already }) => {
                Ok(by.takes_over(already).then_some(Status::Withdrawn { at, by }))
            }
            (Decision::Resume, Status::Granted)
            | (Decision::Revoke, Status::Revoked { .. })
            | (Decision::Invalidate, Status::Invalidated { .. }) => Ok(None),
            (Decision::Refuse, Status::Requested { answer_by, .. }) if now < answer_by => {
                Ok(Some(Status::Refused { at: now, by }))
            }
            (Decision::Refuse, _) => Err("only a request that waits for an answer can be refused"),
            (Decision::Pause, Status::Paused { by: already, .. }) if !by.takes_over(already) => Ok(None),
            (Decision::Pause, Status::Granted | Status::Paused { .. }) if now < self.expires_at => {
                Ok(Some(Status::Paused { at: now, by }))
            }
            (Decision::Pause, _) => Err("only a consent in force can be paused"),
            (Decision::Resume, Status::Paused { by: already, .. }) if !already.yields_to(by) => {
                Err("the person, proven, paused it, or their representative did; they resume it in the portal")
            }
            (Decision::Resume, Status::Paused { .. }) => Ok(Some(Status::Granted)),
            (Decision::Resume, _) => Err("only a paused consent can be resumed"),
            (Decision::Withdraw, Status::Granted | Status::Paused { .. }) => {
                Ok(Some(Status::Withdrawn { at: now, by }))
            }
            (Decision::Withdraw, _) => Err("only a consent that was given can be withdrawn"),
            (Decision::Revoke, _) if is_open => Ok(Some(Status::Revoked { at: now })),
            (Decision::Invalidate, _) if is_open => Ok(Some(Status::Invalidated { at: now })),
            (Decision::Revoke | Decision::Invalidate, _) => Err("the consent has ended already"),
        }
    }

    /// By which the person finds it, while it is a request.
    pub fn code(&self) -> Option<RequestCode> {
        match self.status {
            ConsentStatus::Requested { code, .. } => Some(code),
            ConsentStatus::Granted
            | ConsentStatus::Refused { .. }
            | ConsentStatus::Paused { .. }
            | ConsentStatus::Withdrawn { .. }
            | ConsentStatus::Revoked { .. }
            | ConsentStatus::Invalidated { .. } => None,
        }
    }

    /// Whether it was not for one use, or was not used.
    pub fn has_use_left(&self) -> bool {
        match self.usage {
            ConsentUse::OneTime => self.uses == 0,
            ConsentUse::Repeated | ConsentUse::Periodic(_) => true,
        }
    }

    /// Whether its frequency allows one more use at `now`.
    pub fn frequency_allows(&self, now: Timestamp) -> bool {
        match self.usage {
            ConsentUse::OneTime | ConsentUse::Repeated => true,
            ConsentUse::Periodic(frequency) => frequency.allows(self.not_before, self.window.unwrap_or_default(), now),
        }
    }

    /// Counts one use at `now`.
    pub fn count_use(&mut self, now: Timestamp) {
        self.uses = self.uses.saturating_add(1);
        match self.usage {
            ConsentUse::OneTime | ConsentUse::Repeated => {}
            ConsentUse::Periodic(frequency) => {
                let mut used = frequency.uses_in(self.not_before, self.window.unwrap_or_default(), now);
                used.uses = used.uses.saturating_add(1);
                self.window = Some(used);
            }
        }
    }

    /// Whether `recipient` may use the data.
    pub fn allows_recipient(&self, recipient: Siret) -> bool {
        if self.recipients.is_empty() { recipient == self.consumer } else { self.recipients.contains(&recipient) }
    }

    /// Who may use the data.
    fn all_recipients(&self) -> BTreeSet<Siret> {
        if self.recipients.is_empty() { [self.consumer].into() } else { self.recipients.clone() }
    }

    /// Whether `given` asks for what this one was about: it is for the same procedure, or for one of the attributes and one of
    /// the recipients.
    pub fn is_asked_again_by(&self, given: &Self) -> bool {
        let shares = || {
            !self.attributes.is_disjoint(&given.attributes)
                && !self.all_recipients().is_disjoint(&given.all_recipients())
        };
        (self.subject, self.consumer) == (given.subject, given.consumer)
            && (self.procedure == given.procedure || shares())
    }

    /// Whether `given` allows all that this one is about.
    pub fn is_all_within(&self, given: &Self) -> bool {
        (self.subject, self.consumer, &self.procedure) == (given.subject, given.consumer, &given.procedure)
            && self.attributes.is_subset(&given.attributes)
            && self.all_recipients().is_subset(&given.all_recipients())
    }

    /// SHA-256 of the JSON of this version as it was given, so without its later uses: what the next version names.
    pub fn version_digest(&self) -> Digest {
        let given = Self { status: ConsentStatus::Granted, uses: 0, window: None, ..self.clone() };
        // A consent is always JSON: its maps have text for keys.
        Digest::of(&serde_json::to_vec(&given).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
