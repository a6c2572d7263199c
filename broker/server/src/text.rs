//! Consents, mandates and changes as text: for people and, as JSON, for scripts and webhooks.

use unefois_consent::Timestamp;
use unefois_proto::consent::state;
use unefois_proto::v1;

/// A wire instant as RFC 3339.
pub(crate) fn time_text(wire: &prost_types::Timestamp) -> String {
    let seconds = u64::try_from(wire.seconds).unwrap_or(0);
    let millis = seconds.saturating_mul(1_000).saturating_add(u64::try_from(wire.nanos).unwrap_or(0) / 1_000_000);
    Timestamp::from_millis(millis).to_string()
}

fn time(wire: Option<&prost_types::Timestamp>) -> Option<String> {
    wire.map(time_text)
}

fn state_name(consent: &v1::Consent) -> &'static str {
    state(consent).map_or("UNKNOWN", unefois_consent::ConsentState::as_str)
}

/// A consent for people.
pub(crate) fn consent_text(consent: &v1::Consent) -> String {
    let terms = consent.terms.clone().unwrap_or_default();
    let until = time(terms.expires_at.as_ref()).unwrap_or_default();
    let since = time(consent.state_since.as_ref());
    let state = match (state(consent), since) {
        (Ok(unefois_consent::ConsentState::Given | unefois_consent::ConsentState::Renewed), _)
            if consent.mandate_lost =>
        {
            "given under a mandate that is not in force any more".to_owned()
        }
        (Ok(unefois_consent::ConsentState::Given | unefois_consent::ConsentState::Renewed), _) => {
            format!("in force until {until}")
        }
        (Ok(unefois_consent::ConsentState::Requested), _) => {
            format!("waits for the person until {}", time(consent.answer_by.as_ref()).unwrap_or_default())
        }
        (_, Some(since)) => format!("{} {since}", state_name(consent).to_lowercase()),
        (_, None) => format!("{} (end {until})", state_name(consent).to_lowercase()),
    };
    let often = match (v1::ConsentUse::try_from(terms.r#use), &terms.frequency) {
        (Ok(v1::ConsentUse::OneTime), _) => ", for one use".to_owned(),
        (_, Some(frequency)) => {
            let per = frequency.per().as_str_name().trim_start_matches("TIME_UNIT_").to_lowercase();
            format!(", {} times a {per}", frequency.times)
        }
        (_, None) => String::new(),
    };
    format!(
        "consent {} for {}: {state}{often}, used {} times\n  {}",
        consent.id,
        terms.procedure,
        consent.uses,
        terms.attributes.join(", ")
    )
}

/// A consent for scripts.
pub(crate) fn consent_json(consent: &v1::Consent) -> serde_json::Value {
    let terms = consent.terms.clone().unwrap_or_default();
    let unit = |unit: v1::TimeUnit| unit.as_str_name().trim_start_matches("TIME_UNIT_").to_lowercase();
    let filters = terms.filters.iter().map(|f| (f.dataset.clone(), serde_json::json!(f.parameters)));
    serde_json::json!({
        "id": consent.id,
        "state": state_name(consent),
        "dpv_status": state(consent).map(unefois_consent::ConsentState::dpv).ok(),
        "state_since": time(consent.state_since.as_ref()),
        "version": consent.version,
        "previous_sha256": consent.previous_sha256,
        "consumer": consent.consumer,
        "recipients": terms.recipients,
        "sources": consent.sources,
        "procedure": terms.procedure,
        "attributes": terms.attributes,
        "filters": filters.collect::<serde_json::Map<_, _>>(),
        "months": terms.period.as_ref().map(|p| serde_json::json!({ "from": p.from, "to": p.to })),
        "notice_version": terms.notice_version,
        "notice_sha256": consent.notice_sha256,
        "language": terms.language().as_str_name().trim_start_matches("LANGUAGE_").to_lowercase(),
        "channel": consent.channel().as_str_name().trim_start_matches("CHANNEL_").to_lowercase(),
        "evidence_sha256": consent.evidence_sha256,
        "mandate": consent.mandate_id,
        "not_before": time(terms.not_before.as_ref()),
        "expires_at": time(terms.expires_at.as_ref()),
        "granted_at": time(consent.granted_at.as_ref()),
        "answer_by": time(consent.answer_by.as_ref()),
        "code": consent.code,
        "one_time": terms.r#use == v1::ConsentUse::OneTime as i32,
        "frequency": terms.frequency.as_ref().map(|f| serde_json::json!({ "times": f.times, "per": unit(f.per()) })),
        "storage": terms.storage.as_ref().map(|s| serde_json::json!({ "value": s.value, "unit": unit(s.unit()) })),
        "uses": consent.uses,
        "log_index": consent.log_index,
        "mandate_lost": consent.mandate_lost,
    })
}

/// A mandate for people.
pub(crate) fn mandate_text(mandate: &v1::Mandate) -> String {
    let kind = mandate.kind().as_str_name().trim_start_matches("MANDATE_KIND_").to_lowercase();
    let state = match time(mandate.ended_at.as_ref()) {
        Some(ended) => format!("ended {ended}"),
        None => format!("until {}", time(mandate.expires_at.as_ref()).unwrap_or_default()),
    };
    let procedures =
        if mandate.procedures.is_empty() { "all procedures".to_owned() } else { mandate.procedures.join(", ") };
    format!("mandate {} ({kind}) towards {}: {state}\n  for {procedures}", mandate.id, mandate.consumer)
}

/// A mandate for scripts.
pub(crate) fn mandate_json(mandate: &v1::Mandate) -> serde_json::Value {
    serde_json::json!({
        "id": mandate.id,
        "consumer": mandate.consumer,
        "kind": mandate.kind().as_str_name().trim_start_matches("MANDATE_KIND_").to_lowercase(),
        "procedures": mandate.procedures,
        "proof_sha256": mandate.proof_sha256,
        "not_before": time(mandate.not_before.as_ref()),
        "expires_at": time(mandate.expires_at.as_ref()),
        "recorded_at": time(mandate.recorded_at.as_ref()),
        "ended_at": time(mandate.ended_at.as_ref()),
    })
}

fn kind(change: &v1::WatchConsentsResponse) -> String {
    change.kind().as_str_name().trim_start_matches("CHANGE_KIND_").to_owned()
}

/// A change for people.
pub(crate) fn change_text(change: &v1::WatchConsentsResponse) -> String {
    let about = match (&change.consent, change.mandate_id.as_str()) {
        (Some(consent), _) => consent.id.as_str(),
        (None, "") => change.subject.as_str(),
        (None, mandate) => mandate,
    };
    let what = kind(change).replace('_', " ").to_lowercase();
    let erase = if change.erase { "; erase what you keep by it" } else { "" };
    let at = time(change.at.as_ref()).unwrap_or_default();
    format!("{}  {at}  {what} {about}{erase}", change.cursor)
}

/// A change for scripts.
pub(crate) fn change_json(change: &v1::WatchConsentsResponse) -> serde_json::Value {
    serde_json::json!({
        "cursor": change.cursor,
        "at": time(change.at.as_ref()),
        "kind": kind(change),
        "procedure": change.procedure,
        "consent": change.consent.as_ref().map(consent_json),
        "mandate": change.mandate_id,
        "subject": change.subject,
        "erase": change.erase,
    })
}
