//! Consents and mandates.

use std::collections::{BTreeMap, BTreeSet};

use unefois_consent::consent::DataPeriod;
use unefois_consent::event::Decision;
use unefois_consent::{
    AttributeId, Channel, Consent, ConsentId, ConsentState, ConsentStatus, ConsentUse, DataLife, DatasetId, Digest,
    EidasLevel, Filter, Frequency, IdentityAssurance, Language, Malformed, Mandate, MandateId, MandateKind,
    PivotIdentity, ProcedureId, Siret, TimeUnit, Timestamp,
};

use crate::common::{channel, identity, language, wire_channel, wire_language};
use crate::exchange::{agent, attributes, filters, wire_filters};
use crate::fields::{
    enum_conversion, instant, optional_instant, parse, parse_each, parse_optional, required, wire_instant,
};
use crate::v1;

/// Longest authentication context, in bytes.
const MAX_ACR_BYTES: usize = 128;
/// Most recipients or procedures that one consent or mandate names.
const MAX_NAMED: usize = 100;

enum_conversion!(time_unit, wire_time_unit, v1::TimeUnit => TimeUnit, Unspecified, {
    Hour = Hour, Day = Day, Month = Month, Year = Year,
});
enum_conversion!(eidas_level, wire_eidas_level, v1::EidasLevel => EidasLevel, Unspecified, {
    Low = Low, Substantial = Substantial, High = High,
});
enum_conversion!(mandate_kind, wire_mandate_kind, v1::MandateKind => MandateKind, Unspecified, {
    Parent = Parent, Guardian = Guardian, Mandatary = Mandatary,
});
enum_conversion!(read_decision, wire_decision, v1::Decision => Decision, Unspecified, {
    Refuse = Refuse, Pause = Pause, Resume = Resume, Withdraw = Withdraw, Revoke = Revoke, Invalidate = Invalidate,
});
enum_conversion!(read_state, wire_state, v1::ConsentState => ConsentState, Unspecified, {
    Requested = Requested, Lapsed = Lapsed, Given = Given, Renewed = Renewed, Refused = Refused, Paused = Paused,
    Expired = Expired, Exhausted = Exhausted, Withdrawn = Withdrawn, Revoked = Revoked, Invalidated = Invalidated,
});

/// Well-formed terms of a consent.
#[derive(Debug)]
pub struct Terms {
    /// For which procedure.
    pub procedure: ProcedureId,
    /// For which attributes.
    pub attributes: BTreeSet<AttributeId>,
    /// Who may use the data.
    pub recipients: BTreeSet<Siret>,
    /// With which filters.
    pub filters: BTreeMap<DatasetId, Filter>,
    /// About which months.
    pub period: Option<DataPeriod>,
    /// Version of the notice.
    pub notice_version: u32,
    /// Its language.
    pub language: Language,
    /// Start of validity.
    pub not_before: Option<Timestamp>,
    /// End of validity.
    pub expires_at: Timestamp,
    /// How often.
    pub usage: ConsentUse,
    /// What the consumer may do with the data.
    pub data_life: DataLife,
}

/// How a person said yes.
#[derive(Debug)]
pub struct Indication {
    /// How the person indicated it.
    pub channel: Channel,
    /// Digest of the evidence.
    pub evidence: Option<Digest>,
    /// How it was proven who they are.
    pub assurance: Option<IdentityAssurance>,
    /// The mandate of a representative.
    pub mandate: Option<MandateId>,
}

/// A well-formed consent to record.
#[derive(Debug)]
pub struct Record {
    /// Who records it.
    pub agent: String,
    /// Who consents.
    pub identity: PivotIdentity,
    /// To what.
    pub terms: Terms,
    /// How they indicated it.
    pub indication: Indication,
    /// The request that this answers.
    pub answers: Option<ConsentId>,
}

/// A well-formed consent to ask for.
#[derive(Debug)]
pub struct AskFor {
    /// Who asks.
    pub agent: String,
    /// Who is asked.
    pub identity: PivotIdentity,
    /// For what.
    pub terms: Terms,
    /// Until when they may answer.
    pub answer_by: Option<Timestamp>,
}

/// A well-formed renewal.
#[derive(Debug)]
pub struct Renewal {
    /// Who records it.
    pub agent: String,
    /// The consent.
    pub consent: ConsentId,
    /// Version of the notice.
    pub notice_version: u32,
    /// Its language.
    pub language: Language,
    /// The new end.
    pub expires_at: Timestamp,
    /// How the person indicated it.
    pub indication: Indication,
}

/// A well-formed mandate to record.
#[derive(Debug)]
pub struct NewMandate {
    /// Who records it.
    pub agent: String,
    /// For whom somebody acts.
    pub principal: PivotIdentity,
    /// Who acts.
    pub representative: PivotIdentity,
    /// Why.
    pub kind: MandateKind,
    /// For which procedures.
    pub procedures: BTreeSet<ProcedureId>,
    /// Digest of the proof.
    pub proof: Digest,
    /// Start of validity.
    pub not_before: Option<Timestamp>,
    /// End of validity.
    pub expires_at: Option<Timestamp>,
}

/// The terms in `message`.
pub fn terms(message: Option<&v1::ConsentTerms>) -> Result<Terms, Malformed> {
    let message = required("terms", message)?;
    read_terms(message).map_err(|fault| fault.within("terms"))
}

fn read_terms(message: &v1::ConsentTerms) -> Result<Terms, Malformed> {
    Ok(Terms {
        procedure: parse("procedure", &message.procedure)?,
        attributes: attributes(&message.attributes)?.into_iter().collect(),
        recipients: named("recipients", &message.recipients)?,
        filters: filters(message.filters.clone())?,
        period: message.period.as_ref().map(period).transpose()?,
        notice_version: message.notice_version,
        language: language("language", message.language)?,
        not_before: optional_instant("not_before", message.not_before.as_ref())?,
        expires_at: instant("expires_at", message.expires_at.as_ref())?,
        usage: usage(message)?,
        data_life: data_life(message)?,
    })
}

/// At most [`MAX_NAMED`] names, each once.
fn named<T: std::str::FromStr<Err = Malformed> + Ord>(field: &str, texts: &[String]) -> Result<BTreeSet<T>, Malformed> {
    if texts.len() > MAX_NAMED {
        return Err(Malformed::new(field, "at most 100"));
    }
    parse_each(field, texts)
}

fn period(message: &v1::DataPeriod) -> Result<DataPeriod, Malformed> {
    Ok(DataPeriod { from: parse("period.from", &message.from)?, to: parse("period.to", &message.to)? })
}

fn usage(message: &v1::ConsentTerms) -> Result<ConsentUse, Malformed> {
    let use_ = v1::ConsentUse::try_from(message.r#use).unwrap_or(v1::ConsentUse::Unspecified);
    match (use_, &message.frequency) {
        (v1::ConsentUse::Periodic, Some(frequency)) => Ok(ConsentUse::Periodic(Frequency {
            times: frequency.times,
            per: time_unit("frequency.per", frequency.per)?,
        })),
        (v1::ConsentUse::Periodic, None) => Err(Malformed::new("frequency", "is required for PERIODIC")),
        (v1::ConsentUse::OneTime | v1::ConsentUse::Repeated, Some(_)) => {
            Err(Malformed::new("frequency", "is for PERIODIC and for nothing else"))
        }
        (v1::ConsentUse::OneTime, None) => Ok(ConsentUse::OneTime),
        (v1::ConsentUse::Repeated, None) => Ok(ConsentUse::Repeated),
        (v1::ConsentUse::Unspecified, _) => Err(Malformed::new("use", "must be one of OneTime Repeated Periodic")),
    }
}

fn data_life(message: &v1::ConsentTerms) -> Result<DataLife, Malformed> {
    match (message.store, &message.storage) {
        (false, None) => Ok(DataLife::View),
        (true, Some(storage)) => {
            Ok(DataLife::Store { value: storage.value, unit: time_unit("storage.unit", storage.unit)? })
        }
        (true, None) => Err(Malformed::new("storage", "is required where the data is stored")),
        (false, Some(_)) => Err(Malformed::new("storage", "is for `store` and for nothing else")),
    }
}

/// Terms on the wire.
fn wire_terms(consent: &Consent) -> v1::ConsentTerms {
    let (use_, frequency) = match consent.usage {
        ConsentUse::OneTime => (v1::ConsentUse::OneTime, None),
        ConsentUse::Repeated => (v1::ConsentUse::Repeated, None),
        ConsentUse::Periodic(frequency) => {
            let frequency = v1::Frequency { times: frequency.times, per: wire_time_unit(frequency.per) };
            (v1::ConsentUse::Periodic, Some(frequency))
        }
    };
    let storage = match consent.data_life {
        DataLife::View => None,
        DataLife::Store { value, unit } => Some(v1::DataStorage { value, unit: wire_time_unit(unit) }),
    };
    v1::ConsentTerms {
        procedure: consent.procedure.to_string(),
        attributes: consent.attributes.iter().map(ToString::to_string).collect(),
        recipients: consent.recipients.iter().map(ToString::to_string).collect(),
        filters: wire_filters(&consent.filters),
        period: consent.period.map(|p| v1::DataPeriod { from: p.from.to_string(), to: p.to.to_string() }),
        notice_version: consent.notice_version,
        language: wire_language(consent.language),
        not_before: Some(wire_instant(consent.not_before)),
        expires_at: Some(wire_instant(consent.expires_at)),
        r#use: use_ as i32,
        frequency,
        store: storage.is_some(),
        storage,
    }
}

fn assurance(message: &v1::IdentityAssurance) -> Result<IdentityAssurance, Malformed> {
    let printable = message.acr.bytes().all(|b| b.is_ascii_graphic());
    if message.acr.len() > MAX_ACR_BYTES || !printable {
        return Err(Malformed::new("assurance.acr", "at most 128 visible ASCII characters"));
    }
    Ok(IdentityAssurance {
        level: eidas_level("assurance.level", message.level)?,
        acr: message.acr.clone(),
        authenticated_at: instant("assurance.authenticated_at", message.authenticated_at.as_ref())?,
    })
}

/// The fields of a message that say how a person said yes.
macro_rules! indication {
    ($message:expr) => {
        Ok::<_, Malformed>(Indication {
            channel: channel("channel", $message.channel)?,
            evidence: parse_optional("evidence_sha256", &$message.evidence_sha256)?,
            assurance: $message.assurance.as_ref().map(assurance).transpose()?,
            mandate: parse_optional("mandate_id", &$message.mandate_id)?,
        })
    };
}

/// The consent in `message`.
pub fn record(message: &v1::RecordConsentRequest) -> Result<Record, Malformed> {
    Ok(Record {
        agent: agent("agent", &message.agent)?,
        identity: identity("subject", message.subject.as_ref())?,
        terms: terms(message.terms.as_ref())?,
        indication: indication!(message)?,
        answers: parse_optional("request_id", &message.request_id)?,
    })
}

/// The request in `message`.
pub fn ask_for(message: &v1::RequestConsentRequest) -> Result<AskFor, Malformed> {
    Ok(AskFor {
        agent: agent("agent", &message.agent)?,
        identity: identity("subject", message.subject.as_ref())?,
        terms: terms(message.terms.as_ref())?,
        answer_by: optional_instant("answer_by", message.answer_by.as_ref())?,
    })
}

/// The renewal in `message`.
pub fn renewal(message: &v1::RenewConsentRequest) -> Result<Renewal, Malformed> {
    Ok(Renewal {
        agent: agent("agent", &message.agent)?,
        consent: parse("consent_id", &message.consent_id)?,
        notice_version: message.notice_version,
        language: language("language", message.language)?,
        expires_at: instant("expires_at", message.expires_at.as_ref())?,
        indication: indication!(message)?,
    })
}

/// The mandate in `message`.
pub fn new_mandate(message: &v1::RecordMandateRequest) -> Result<NewMandate, Malformed> {
    Ok(NewMandate {
        agent: agent("agent", &message.agent)?,
        principal: identity("principal", message.principal.as_ref())?,
        representative: identity("representative", message.representative.as_ref())?,
        kind: mandate_kind("kind", message.kind)?,
        procedures: named("procedures", &message.procedures)?,
        proof: parse("proof_sha256", &message.proof_sha256)?,
        not_before: optional_instant("not_before", message.not_before.as_ref())?,
        expires_at: optional_instant("expires_at", message.expires_at.as_ref())?,
    })
}

/// The kind of a ground on the wire.
pub fn ground(kind: unefois_consent::GroundKind) -> v1::GroundKind {
    v1::GroundKind::try_from(crate::common::wire_ground_kind(kind)).unwrap_or_default()
}

/// The language at the field `language`.
pub fn chosen_language(number: i32) -> Result<Language, Malformed> {
    language("language", number)
}

/// The decision at the field `decision`.
pub fn decision(number: i32) -> Result<Decision, Malformed> {
    read_decision("decision", number)
}

/// A decision on the wire, for clients.
pub fn to_wire_decision(decision: Decision) -> v1::Decision {
    v1::Decision::try_from(wire_decision(decision)).unwrap_or_default()
}

/// The state of a consent, for clients.
pub fn state(consent: &v1::Consent) -> Result<ConsentState, Malformed> {
    read_state("state", consent.state)
}

/// Attributes of which none may be named, each once.
pub fn some_attributes(texts: &[String]) -> Result<Option<BTreeSet<AttributeId>>, Malformed> {
    if texts.is_empty() { Ok(None) } else { Ok(Some(attributes(texts)?.into_iter().collect())) }
}

/// An instant that may be absent, at the field `expires_at`.
pub fn optional_end(wire: Option<&prost_types::Timestamp>) -> Result<Option<Timestamp>, Malformed> {
    optional_instant("expires_at", wire)
}

/// An instant at the field `expires_at`.
pub fn end(wire: Option<&prost_types::Timestamp>) -> Result<Timestamp, Malformed> {
    instant("expires_at", wire)
}

/// A consent on the wire, as it stands at `now`. The subject's reference stays inside.
pub fn wire_consent(consent: &Consent, log_index: u64, now: Timestamp) -> v1::Consent {
    let (since, request) = match consent.status {
        ConsentStatus::Requested { answer_by, code } => (None, Some((answer_by, code))),
        ConsentStatus::Granted => (None, None),
        ConsentStatus::Refused { at, .. }
        | ConsentStatus::Paused { at, .. }
        | ConsentStatus::Withdrawn { at, .. }
        | ConsentStatus::Revoked { at }
        | ConsentStatus::Invalidated { at } => (Some(wire_instant(at)), None),
    };
    v1::Consent {
        id: consent.id.to_string(),
        consumer: consent.consumer.to_string(),
        terms: Some(wire_terms(consent)),
        sources: consent.sources.iter().map(ToString::to_string).collect(),
        notice_sha256: consent.notice_digest.to_string(),
        channel: wire_channel(consent.channel),
        evidence_sha256: consent.evidence.map(|d| d.to_string()).unwrap_or_default(),
        assurance: consent.assurance.as_ref().map(|a| v1::IdentityAssurance {
            level: wire_eidas_level(a.level),
            acr: a.acr.clone(),
            authenticated_at: Some(wire_instant(a.authenticated_at)),
        }),
        mandate_id: consent.grantor.mandate().map(|id| id.to_string()).unwrap_or_default(),
        granted_at: Some(wire_instant(consent.granted_at)),
        state: wire_state(consent.state(now)),
        state_since: since,
        answer_by: request.map(|(answer_by, _)| wire_instant(answer_by)),
        code: request.map(|(_, code)| code.to_string()).unwrap_or_default(),
        uses: consent.uses,
        version: consent.version,
        previous_sha256: consent.previous.map(|d| d.to_string()).unwrap_or_default(),
        log_index,
        mandate_lost: false,
    }
}

/// A mandate on the wire. The references of the persons stay inside.
pub fn wire_mandate(mandate: &Mandate) -> v1::Mandate {
    v1::Mandate {
        id: mandate.id.to_string(),
        consumer: mandate.consumer.to_string(),
        kind: wire_mandate_kind(mandate.kind),
        procedures: mandate.procedures.iter().map(ToString::to_string).collect(),
        proof_sha256: mandate.proof.to_string(),
        not_before: Some(wire_instant(mandate.not_before)),
        expires_at: Some(wire_instant(mandate.expires_at)),
        recorded_at: Some(wire_instant(mandate.recorded_at)),
        ended_at: mandate.ended_at.map(wire_instant),
    }
}

#[cfg(test)]
mod tests;
