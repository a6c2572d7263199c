//! What a consent and a mandate must be to be recorded: the rules of GDPR 4(11) and 7, in one place for the broker that
//! records and for the replay that checks what was recorded.

use std::time::Duration;

use crate::exchange::is_agent;
use crate::frequency::WindowUses;
use crate::registry::{Habilitation, Procedure, Registry};
use crate::{
    Consent, ConsentStatus, ConsentUse, DataLife, DecidedBy, GroundKind, Malformed, Mandate, ProcedureId, TimeUnit,
    Timestamp,
};

/// Longest time to answer a request.
pub const MAX_ANSWER_TIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Longest validity of a mandate: from birth to majority.
pub const MAX_MANDATE_YEARS: u32 = 18;
/// How long before its start a consent may be given. It keeps the retention of a record, in months, within a byte.
const MAX_AHEAD: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// How far the clock of an identity provider may run ahead.
const CLOCK_SKEW: Duration = Duration::from_secs(120);

/// Whether `consent`, given or asked for at `now`, is specific, informed and bounded. `mandate` is that of its grantor.
pub fn check_consent(
    registry: &Registry,
    consent: &Consent,
    mandate: Option<&Mandate>,
    now: Timestamp,
) -> Result<(), Malformed> {
    let procedure = registry
        .procedure(&consent.procedure)
        .ok_or(Malformed::new("procedure", "the registry has no such procedure"))?;
    check_agent(&consent.agent)?;
    check_informed(registry, consent)?;
    check_specific(registry, consent)?;
    check_bounded(procedure, consent, now)?;
    match (consent.grantor.mandate(), mandate) {
        (None, _) => {}
        (Some(id), Some(mandate)) if mandate.id == id => check_grantor(consent, mandate, now)?,
        (Some(_), _) => return Err(Malformed::new("mandate_id", "you recorded no such mandate for this person")),
    }
    if consent.assurance.as_ref().is_some_and(|a| a.authenticated_at > now.plus(CLOCK_SKEW)) {
        return Err(Malformed::new("assurance.authenticated_at", "is not in the future"));
    }
    Ok(())
}

fn check_agent(agent: &str) -> Result<(), Malformed> {
    if is_agent(agent) {
        Ok(())
    } else {
        Err(Malformed::new("agent", "a name of 1 to 128 bytes without control characters"))
    }
}

/// Informed: by a notice of the procedure, and by exactly its text.
fn check_informed(registry: &Registry, consent: &Consent) -> Result<(), Malformed> {
    let digest = registry
        .notice_digest(&consent.procedure, consent.notice_version, consent.language)
        .ok_or(Malformed::new("notice_version", "the procedure has no notice of this version"))?;
    if digest != consent.notice_digest {
        return Err(Malformed::new("notice_sha256", "is that of the notice's text in this language"));
    }
    Ok(())
}

/// Specific: within one right of the consumer, and as narrow as it says.
fn check_specific(registry: &Registry, consent: &Consent) -> Result<(), Malformed> {
    let covering = |h: &&std::sync::Arc<Habilitation>| covers(h, &consent.procedure, consent);
    let Some(held) = registry.habilitations_of(consent.consumer).find(covering) else {
        let rule = "at least one, and all within one of your habilitations for this procedure that allows CONSENT";
        return Err(Malformed::new("attributes", rule));
    };
    if !consent.recipients.is_subset(&held.recipients) {
        return Err(Malformed::new("recipients", "within those of the habilitation"));
    }
    if !consent.sources.is_empty() && consent.sources != registry.sources(&consent.attributes) {
        return Err(Malformed::new("sources", "those of the datasets"));
    }
    for (dataset, filter) in &consent.filters {
        let asked = consent.attributes.iter().any(|a| a.dataset() == dataset.as_str());
        let known = registry.dataset(dataset.as_str()).is_some_and(|d| filter.keys().all(|k| d.filters.contains(k)));
        if !(asked && known) {
            return Err(Malformed::new("filters", "for a dataset of the attributes, with filters that it takes"));
        }
    }
    if let Some(period) = consent.period {
        let by_year = |d: &str| registry.dataset(d).is_some_and(|d| d.filters.iter().any(|f| f == "annee"));
        if period.from > period.to || !consent.attributes.iter().all(|a| by_year(a.dataset())) {
            let rule = "from is not after to, and each dataset takes the filter annee";
            return Err(Malformed::new("period", rule));
        }
    }
    if let DataLife::Store { value, unit } = consent.data_life {
        let kept = unit.after(consent.not_before, value);
        let longest = TimeUnit::Month.after(consent.not_before, u32::from(held.retention_months));
        if value == 0 || kept > longest {
            return Err(Malformed::new("data_life", "at least 1, and within the habilitation's retention_months"));
        }
    }
    Ok(())
}

fn covers(habilitation: &Habilitation, procedure: &ProcedureId, consent: &Consent) -> bool {
    !consent.attributes.is_empty()
        && habilitation.procedures.contains(procedure)
        && habilitation.grounds.contains(&GroundKind::Consent)
        && consent.attributes.is_subset(&habilitation.attributes)
}

/// Bounded in time and in uses.
fn check_bounded(procedure: &Procedure, consent: &Consent, now: Timestamp) -> Result<(), Malformed> {
    if consent.expires_at <= consent.not_before || consent.expires_at <= now {
        return Err(Malformed::new("expires_at", "after not_before and after now"));
    }
    if consent.not_before.since(now) > MAX_AHEAD {
        return Err(Malformed::new("not_before", "within a year"));
    }
    let longest = Duration::from_secs(u64::from(procedure.consent_max_days) * 24 * 60 * 60);
    if consent.expires_at.since(consent.not_before.max(now)) > longest {
        return Err(Malformed::new("expires_at", "within the procedure's consent_max_days"));
    }
    match consent.usage {
        ConsentUse::Periodic(frequency) if frequency.times == 0 => {
            Err(Malformed::new("frequency.times", "at least 1 in each window"))
        }
        ConsentUse::OneTime | ConsentUse::Repeated | ConsentUse::Periodic(_) => Ok(()),
    }
}

/// Given by somebody who may: the mandate is in force, covers the procedure and lasts as long as the consent.
fn check_grantor(consent: &Consent, mandate: &Mandate, now: Timestamp) -> Result<(), Malformed> {
    let own = mandate.principal == consent.subject && mandate.consumer == consent.consumer;
    if !own {
        return Err(Malformed::new("mandate_id", "you recorded no such mandate for this person"));
    }
    if !mandate.is_in_force(now) || !mandate.covers(&consent.procedure) {
        return Err(Malformed::new("mandate_id", "the mandate is in force and covers the procedure"));
    }
    if consent.expires_at > mandate.expires_at {
        return Err(Malformed::new("expires_at", "not after the end of the mandate"));
    }
    Ok(())
}

/// Whether a request may wait for its answer until `answer_by`.
pub fn check_answer_by(consent: &Consent, answer_by: Timestamp, now: Timestamp) -> Result<(), Malformed> {
    if answer_by <= now || answer_by.since(now) > MAX_ANSWER_TIME || answer_by > consent.expires_at {
        let rule = "after now, within 90 days and not after expires_at";
        return Err(Malformed::new("answer_by", rule));
    }
    Ok(())
}

/// Whether `given` answers `request` at `now`: what was asked for, or less of it.
pub fn answers(request: &Consent, given: &Consent, now: Timestamp) -> bool {
    let waits = matches!(request.status, ConsentStatus::Requested { answer_by, .. } if now < answer_by);
    // What the person, or the channel, adds to the request when it is answered.
    let as_asked = Consent {
        attributes: request.attributes.clone(),
        sources: request.sources.clone(),
        expires_at: request.expires_at,
        not_before: request.not_before,
        language: request.language,
        notice_digest: request.notice_digest,
        channel: request.channel,
        evidence: request.evidence,
        grantor: request.grantor,
        assurance: request.assurance.clone(),
        agent: request.agent.clone(),
        granted_at: request.granted_at,
        status: request.status,
        ..given.clone()
    };
    waits
        && as_asked == *request
        && given.attributes.is_subset(&request.attributes)
        && given.sources.is_subset(&request.sources)
        && given.expires_at <= request.expires_at
        && given.not_before >= request.not_before
}

/// Whether `next`, given on the word of `by`, renews `current`: another version for the same person, consumer and procedure, of
/// no more attributes. What a proven person paused, that person renews.
pub fn renews(current: &Consent, next: &Consent, by: DecidedBy) -> bool {
    let renewable = match current.status {
        ConsentStatus::Granted => true,
        ConsentStatus::Paused { by: already, .. } => already.yields_to(by),
        ConsentStatus::Requested { .. }
        | ConsentStatus::Refused { .. }
        | ConsentStatus::Withdrawn { .. }
        | ConsentStatus::Revoked { .. }
        | ConsentStatus::Invalidated { .. } => false,
    };
    renewable
        && next.id == current.id
        && next.version == current.version.saturating_add(1)
        && next.previous == Some(current.version_digest())
        && next.subject == current.subject
        && next.consumer == current.consumer
        && next.procedure == current.procedure
        && next.attributes.is_subset(&current.attributes)
        && next.not_before == renewed_from(current, next.granted_at)
        && next.window == renewed_window(current, next)
}

/// From when a consent counts that is given again at `now`. The windows of a periodic one go on: giving it again is no way to
/// ask more often.
pub fn renewed_from(current: &Consent, now: Timestamp) -> Timestamp {
    match current.usage {
        ConsentUse::Periodic(_) => current.not_before.min(now),
        ConsentUse::OneTime | ConsentUse::Repeated => now,
    }
}

/// What is used of the window under way when `current` is given again as `next`: where the windows go on, what was used stays
/// used. It stands in the record, because the exchanges that used it are destroyed earlier.
pub fn renewed_window(current: &Consent, next: &Consent) -> Option<WindowUses> {
    let go_on = (current.usage, current.not_before) == (next.usage, next.not_before);
    current.window.filter(|_| go_on)
}

/// Whether `mandate`, recorded at `now`, is bounded, for procedures that exist, and between two persons.
pub fn check_mandate(registry: &Registry, mandate: &Mandate, now: Timestamp) -> Result<(), Malformed> {
    check_agent(&mandate.agent)?;
    if mandate.principal == mandate.representative {
        return Err(Malformed::new("representative", "another person than the principal"));
    }
    if mandate.procedures.iter().any(|id| registry.procedure(id).is_none()) {
        return Err(Malformed::new("procedures", "the registry has each of them"));
    }
    if mandate.expires_at <= mandate.not_before || mandate.expires_at <= now {
        return Err(Malformed::new("expires_at", "after not_before and after now"));
    }
    if mandate.expires_at > TimeUnit::Year.after(now, MAX_MANDATE_YEARS) {
        return Err(Malformed::new("expires_at", "within 18 years"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
