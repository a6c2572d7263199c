//! Why a question is refused: one stable code for each check, and a sentence that says what to change.
//!
//! A reason never tells whether a person is known somewhere: what concerns a consent of another consumer or another
//! subject reads exactly as if there were none.

use serde::{Deserialize, Serialize};

/// A check that failed. The order of the variants is the order in which reasons are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// The key is not, or no longer, enrolled for the consumer with the role `exchange`.
    KeyNotEnrolled,
    /// The request id was used for another question.
    RequestIdReused,
    /// The request id is too old to be tried again.
    RetryTooLate,
    /// The exchange was tried too often.
    RetryTooOften,
    /// The registry knows no such procedure.
    ProcedureUnknown,
    /// The registry knows no such attribute.
    AttributeUnknown,
    /// The registry knows no such filter for the dataset.
    FilterUnknown,
    /// The dataset's class may not be exchanged (CRPA R114-9-7: medical and defence secrets).
    DatasetClassRefused,
    /// The consumer holds no habilitation of that name, or none that covers the procedure.
    HabilitationMissing,
    /// The consumer holds several habilitations for the procedure and named none.
    HabilitationNotNamed,
    /// The habilitation is obsolete or revoked.
    HabilitationNotActive,
    /// The habilitation's dates do not include now.
    HabilitationOutOfDate,
    /// The habilitation does not cover the procedure.
    ProcedureNotCovered,
    /// The habilitation does not cover an attribute that was asked.
    AttributeNotCovered,
    /// The habilitation does not list the recipient.
    RecipientNotCovered,
    /// The habilitation does not allow the ground.
    GroundNotCovered,
    /// The habilitation's daily quota is used up.
    QuotaExhausted,
    /// The procedure has no notice of that version.
    NoticeUnknown,
    /// The notice was shown, or the request made, in the future.
    EvidenceInFuture,
    /// The notice was shown too long ago.
    NoticeTooOld,
    /// No consent of this person to this consumer for this procedure.
    ConsentMissing,
    /// The person was asked for this consent and has not answered.
    ConsentPending,
    /// The person refused this consent.
    ConsentRefused,
    /// The person holds the consent back for a while.
    ConsentPaused,
    /// The person withdrew the consent.
    ConsentWithdrawn,
    /// An authority ended the consent.
    ConsentRevoked,
    /// The consent was found never to have been valid.
    ConsentInvalidated,
    /// The consent has not started.
    ConsentNotYetValid,
    /// The consent has ended.
    ConsentExpired,
    /// The one-time consent was used.
    ConsentUsed,
    /// The consent was used as often as this window of time allows.
    ConsentFrequency,
    /// The consent does not cover an attribute that was asked.
    ConsentScope,
    /// The consent does not name the recipient.
    ConsentRecipient,
    /// The person objected (GDPR 21).
    Objection,
    /// The source demands a preview (Regulation (EU) 2018/1724, article 14).
    PreviewMissing,
    /// No such mandate to act for this person towards this consumer.
    MandateMissing,
    /// The mandate was ended.
    MandateEnded,
    /// The mandate has not started.
    MandateNotYetValid,
    /// The mandate is past its end, which for a minor is majority at the latest.
    MandateExpired,
    /// The mandate does not cover the procedure.
    MandateScope,
    /// The certificate is no longer valid or was revoked while the exchange was under way.
    CertificateEnded,
}

impl Reason {
    /// Every reason, in order.
    pub const ALL: [Self; 41] = [
        Self::KeyNotEnrolled,
        Self::RequestIdReused,
        Self::RetryTooLate,
        Self::RetryTooOften,
        Self::ProcedureUnknown,
        Self::AttributeUnknown,
        Self::FilterUnknown,
        Self::DatasetClassRefused,
        Self::HabilitationMissing,
        Self::HabilitationNotNamed,
        Self::HabilitationNotActive,
        Self::HabilitationOutOfDate,
        Self::ProcedureNotCovered,
        Self::AttributeNotCovered,
        Self::RecipientNotCovered,
        Self::GroundNotCovered,
        Self::QuotaExhausted,
        Self::NoticeUnknown,
        Self::EvidenceInFuture,
        Self::NoticeTooOld,
        Self::ConsentMissing,
        Self::ConsentPending,
        Self::ConsentRefused,
        Self::ConsentPaused,
        Self::ConsentWithdrawn,
        Self::ConsentRevoked,
        Self::ConsentInvalidated,
        Self::ConsentNotYetValid,
        Self::ConsentExpired,
        Self::ConsentUsed,
        Self::ConsentFrequency,
        Self::ConsentScope,
        Self::ConsentRecipient,
        Self::Objection,
        Self::PreviewMissing,
        Self::MandateMissing,
        Self::MandateEnded,
        Self::MandateNotYetValid,
        Self::MandateExpired,
        Self::MandateScope,
        Self::CertificateEnded,
    ];

    /// The stable code of the contract.
    pub fn code(self) -> &'static str {
        match self {
            Self::KeyNotEnrolled => "KEY_NOT_ENROLLED",
            Self::ProcedureUnknown => "PROCEDURE_UNKNOWN",
            Self::AttributeUnknown => "ATTRIBUTE_UNKNOWN",
            Self::FilterUnknown => "FILTER_UNKNOWN",
            Self::DatasetClassRefused => "DATASET_CLASS_REFUSED",
            Self::HabilitationMissing => "HABILITATION_MISSING",
            Self::HabilitationNotNamed => "HABILITATION_NOT_NAMED",
            Self::HabilitationNotActive => "HABILITATION_NOT_ACTIVE",
            Self::HabilitationOutOfDate => "HABILITATION_OUT_OF_DATE",
            Self::ProcedureNotCovered => "PROCEDURE_NOT_COVERED",
            Self::AttributeNotCovered => "ATTRIBUTE_NOT_COVERED",
            Self::RecipientNotCovered => "RECIPIENT_NOT_COVERED",
            Self::GroundNotCovered => "GROUND_NOT_COVERED",
            Self::QuotaExhausted => "QUOTA_EXHAUSTED",
            Self::NoticeUnknown => "NOTICE_UNKNOWN",
            Self::EvidenceInFuture => "EVIDENCE_IN_FUTURE",
            Self::NoticeTooOld => "NOTICE_TOO_OLD",
            Self::ConsentMissing => "CONSENT_MISSING",
            Self::ConsentPending => "CONSENT_PENDING",
            Self::ConsentRefused => "CONSENT_REFUSED",
            Self::ConsentPaused => "CONSENT_PAUSED",
            Self::ConsentWithdrawn => "CONSENT_WITHDRAWN",
            Self::ConsentRevoked => "CONSENT_REVOKED",
            Self::ConsentInvalidated => "CONSENT_INVALIDATED",
            Self::ConsentNotYetValid => "CONSENT_NOT_YET_VALID",
            Self::ConsentExpired => "CONSENT_EXPIRED",
            Self::ConsentUsed => "CONSENT_USED",
            Self::ConsentFrequency => "CONSENT_FREQUENCY",
            Self::ConsentScope => "CONSENT_SCOPE",
            Self::ConsentRecipient => "CONSENT_RECIPIENT",
            Self::Objection => "OBJECTION",
            Self::PreviewMissing => "PREVIEW_MISSING",
            Self::MandateMissing => "MANDATE_MISSING",
            Self::MandateEnded => "MANDATE_ENDED",
            Self::MandateNotYetValid => "MANDATE_NOT_YET_VALID",
            Self::MandateExpired => "MANDATE_EXPIRED",
            Self::MandateScope => "MANDATE_SCOPE",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::RetryTooLate => "RETRY_TOO_LATE",
            Self::RetryTooOften => "RETRY_TOO_OFTEN",
            Self::CertificateEnded => "CERTIFICATE_ENDED",
        }
    }

    /// What happened and what to do next, for the developer of the consumer.
    pub fn advice(self) -> &'static str {
        match self {
            Self::KeyNotEnrolled => "this key is not enrolled with the role exchange; ask the operator to enrol it",
            Self::ProcedureUnknown => "the registry has no such procedure; `unefois registry show` lists them",
            Self::AttributeUnknown => "the registry has no such attribute; `unefois registry show` lists them",
            Self::FilterUnknown => "the dataset takes no such filter; `unefois registry show` lists its filters",
            Self::DatasetClassRefused => {
                "medical and defence data may not be exchanged (CRPA R114-9-7); ask the person for the supporting document"
            }
            Self::HabilitationMissing => "you hold no habilitation for this procedure; apply for one first",
            Self::HabilitationNotNamed => {
                "several of your habilitations cover this procedure; name one in `habilitation`"
            }
            Self::HabilitationNotActive => "the habilitation is obsolete or revoked; renew it",
            Self::HabilitationOutOfDate => "the habilitation is not valid today; see its dates",
            Self::ProcedureNotCovered => {
                "the habilitation does not cover this procedure; name one that does, or apply for it"
            }
            Self::AttributeNotCovered => {
                "the habilitation does not cover every attribute asked; ask only those it covers"
            }
            Self::RecipientNotCovered => {
                "the habilitation does not list this recipient; have it added, or ask in your own name"
            }
            Self::GroundNotCovered => {
                "the habilitation does not allow this ground; ask on one that it allows, or have it extended"
            }
            Self::QuotaExhausted => "the habilitation's quota for today is used up; try again tomorrow (UTC)",
            Self::NoticeUnknown => "the procedure has no notice of this version; show the current one",
            Self::EvidenceInFuture => "the notice or request is dated in the future; check the clock of your system",
            Self::NoticeTooOld => "the notice was shown too long ago; inform the person again",
            Self::ConsentMissing => "the person gave you no consent for this procedure; ask for it first",
            Self::ConsentWithdrawn => "the person withdrew this consent; ask for the supporting document instead",
            Self::ConsentNotYetValid => "this consent has not started; ask again from its `not_before` on",
            Self::ConsentExpired => "this consent has ended; ask for a new one",
            Self::ConsentUsed => "this consent was for one use and was used; ask for a new one",
            Self::ConsentScope => "the consent does not cover every attribute asked; ask only those it covers",
            Self::Objection => "the person objected to proactive use; ask when the person makes a request",
            Self::PreviewMissing => "the source demands that the person previews the data; give `previewed_at`",
            Self::RequestIdReused => "this request_id was used for another question; draw a new one",
            Self::RetryTooLate => "this request_id is not of the last 15 minutes; draw a new one",
            Self::RetryTooOften => "this exchange was tried too often; draw a new request_id",
            Self::ConsentPending => {
                "the person has not answered yet; wait for the change, or ask for the supporting document"
            }
            Self::ConsentRefused => "the person refused this consent; ask for the supporting document instead",
            Self::ConsentPaused => {
                "the person holds this consent back; ask for the supporting document, or again when it is resumed"
            }
            Self::ConsentRevoked => "an authority ended this consent; ask for the supporting document instead",
            Self::ConsentInvalidated => "this consent was found invalid; ask for a new one",
            Self::ConsentFrequency => {
                "this consent was used as often as it allows for now; ask again in the next window"
            }
            Self::ConsentRecipient => "the consent does not name this recipient; ask in the name of one that it names",
            Self::MandateMissing => "you recorded no such mandate for this person; record it first",
            Self::MandateEnded => "this mandate was ended; the person acts, or a new mandate is recorded",
            Self::MandateNotYetValid => "this mandate has not started; see its `not_before`",
            Self::MandateExpired => "this mandate is past its end (for a minor, majority); the person acts now",
            Self::MandateScope => "the mandate does not cover this procedure; name one that does",
            Self::CertificateEnded => "your certificate ended or was revoked meanwhile; renew it",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_one_code_of_its_own_and_the_order_is_fixed() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{}\"", reason.code()));
        }
        assert!(Reason::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}
