//! Consents.

use std::collections::BTreeSet;

use unefois_consent::{
    AttributeId, Channel, Consent, ConsentStatus, ConsentUse, Digest, Language, Malformed, PivotIdentity, ProcedureId,
    Timestamp,
};

use crate::common::{channel, identity, language, wire_channel, wire_language};
use crate::exchange::{agent, attributes};
use crate::fields::{enum_conversion, instant, optional_instant, parse, parse_optional, wire_instant};
use crate::v1;

enum_conversion!(consent_use, wire_consent_use, v1::ConsentUse => ConsentUse, Unspecified, {
    OneTime = OneTime, Repeated = Repeated,
});

/// A well-formed consent to record.
#[derive(Debug)]
pub struct Grant {
    /// Who records it.
    pub agent: String,
    /// Who consents.
    pub identity: PivotIdentity,
    /// For which procedure.
    pub procedure: ProcedureId,
    /// For which attributes.
    pub attributes: BTreeSet<AttributeId>,
    /// Version of the notice.
    pub notice_version: u32,
    /// Its language.
    pub language: Language,
    /// How the person indicated it.
    pub channel: Channel,
    /// Digest of the evidence.
    pub evidence: Option<Digest>,
    /// Start of validity.
    pub not_before: Option<Timestamp>,
    /// End of validity.
    pub expires_at: Timestamp,
    /// Once or repeatedly.
    pub usage: ConsentUse,
}

/// The consent in `message`.
pub fn grant(message: &v1::GrantConsentRequest) -> Result<Grant, Malformed> {
    Ok(Grant {
        agent: agent("agent", &message.agent)?,
        identity: identity("subject", message.subject.as_ref())?,
        procedure: parse("procedure", &message.procedure)?,
        attributes: attributes(&message.attributes)?.into_iter().collect(),
        notice_version: message.notice_version,
        language: language("language", message.language)?,
        channel: channel("channel", message.channel)?,
        evidence: parse_optional("evidence_sha256", &message.evidence_sha256)?,
        not_before: optional_instant("not_before", message.not_before.as_ref())?,
        expires_at: instant("expires_at", message.expires_at.as_ref())?,
        usage: consent_use("use", message.r#use)?,
    })
}

/// A consent on the wire. The subject's reference stays inside.
pub fn wire_consent(consent: &Consent) -> v1::Consent {
    let withdrawn_at = match consent.status {
        ConsentStatus::Granted => None,
        ConsentStatus::Withdrawn { at } => Some(wire_instant(at)),
    };
    v1::Consent {
        id: consent.id.to_string(),
        consumer: consent.consumer.to_string(),
        procedure: consent.procedure.to_string(),
        attributes: consent.attributes.iter().map(ToString::to_string).collect(),
        notice_version: consent.notice_version,
        notice_sha256: consent.notice_digest.to_string(),
        language: wire_language(consent.language),
        channel: wire_channel(consent.channel),
        evidence_sha256: consent.evidence.map(|d| d.to_string()).unwrap_or_default(),
        not_before: Some(wire_instant(consent.not_before)),
        expires_at: Some(wire_instant(consent.expires_at)),
        r#use: wire_consent_use(consent.usage),
        granted_at: Some(wire_instant(consent.granted_at)),
        withdrawn_at,
        uses: consent.uses,
    }
}

#[cfg(test)]
mod tests;
