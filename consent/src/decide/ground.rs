//! The evidence of each ground: the notice shown, the objection that is not there, the consent, the preview; and the
//! mandate of whoever acts for the person.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{CLOCK_SKEW, Facts, PersonFacts, Recorded};
use crate::registry::{Procedure, Registry};
use crate::{
    Consent, ConsentId, ConsentStatus, Ground, MandateId, NoticeShown, Objection, ProcedureId, Question, Reason, Siret,
    SubjectRef, Timestamp,
};

/// The evidence of the ground holds. Gives the consent that the exchange uses, if it uses one.
pub(super) fn check_ground(
    facts: &Facts<'_>,
    procedure: &Procedure,
    question: &Question,
    now: Timestamp,
    failed: &mut BTreeSet<Reason>,
) -> Option<ConsentId> {
    match &question.ground {
        // CRPA L114-8 I: the person asked and is informed.
        Ground::LawRequest { notice } => {
            check_notice(procedure, notice, now, failed);
            None
        }
        // CRPA L114-8 II: the person is informed and did not object.
        Ground::Proactive { notice } => {
            check_notice(procedure, notice, now, failed);
            if objects(facts.person, &question.procedure, now) {
                failed.insert(Reason::Objection);
            }
            None
        }
        // GDPR 6(1)(a) and 7.
        Ground::Consent { consent } => choose_consent(facts, question, *consent, now, failed),
        // Regulation (EU) 2018/1724, article 14.
        Ground::ExplicitRequest { requested_at, previewed_at } => {
            let latest = previewed_at.map_or(*requested_at, |p| p.max(*requested_at));
            if latest > now.plus(CLOCK_SKEW) {
                failed.insert(Reason::EvidenceInFuture);
            }
            let demanded = question
                .attributes
                .iter()
                .any(|a| facts.registry.dataset(a.dataset()).is_some_and(|d| d.preview_required));
            if demanded && previewed_at.is_none_or(|p| p < *requested_at) {
                failed.insert(Reason::PreviewMissing);
            }
            None
        }
    }
}

fn check_notice(procedure: &Procedure, shown: &NoticeShown, now: Timestamp, failed: &mut BTreeSet<Reason>) {
    if procedure.notice(shown.version).is_none() {
        failed.insert(Reason::NoticeUnknown);
    }
    if shown.shown_at > now.plus(CLOCK_SKEW) {
        failed.insert(Reason::EvidenceInFuture);
    }
    let longest = Duration::from_secs(u64::from(procedure.notice_max_age_days) * 24 * 60 * 60);
    if now.since(shown.shown_at) > longest {
        failed.insert(Reason::NoticeTooOld);
    }
}

pub(super) fn objects(person: &PersonFacts, procedure: &ProcedureId, now: Timestamp) -> bool {
    person.objections.iter().any(|o| objection_counts(o, procedure, now))
}

/// An objection that lapsed counts no more.
pub(super) fn objection_counts(objection: &Objection, procedure: &ProcedureId, now: Timestamp) -> bool {
    objection.is_in_force(now) && objection.procedure.as_ref().is_none_or(|p| p == procedure)
}

/// The named consent, or the newest that passes; where none passes, what fails is reported of the newest. A retry is the
/// same exchange and stands on the consent of its first attempt: it may not use up another one, whose use is not counted.
fn choose_consent(
    facts: &Facts<'_>,
    question: &Question,
    named: Option<ConsentId>,
    now: Timestamp,
    failed: &mut BTreeSet<Reason>,
) -> Option<ConsentId> {
    let earlier = stands_on(facts, question);
    let mut first_failures = None;
    for consent in concerned(facts, question, named) {
        let mut failures = BTreeSet::new();
        check_consent_in_force(facts.person, consent, now, &mut failures);
        check_scope(facts.registry, consent, question, &mut failures);
        if earlier.is_none() {
            check_uses(consent, now, &mut failures);
        }
        if failures.is_empty() {
            return Some(consent.id);
        }
        first_failures.get_or_insert(failures);
    }
    failed.extend(first_failures.unwrap_or_else(|| BTreeSet::from([Reason::ConsentMissing])));
    None
}

/// The consent that a retry stands on.
fn stands_on(facts: &Facts<'_>, question: &Question) -> Option<ConsentId> {
    facts.earlier.filter(|e| e.content == question.content).and_then(|e| e.consent)
}

/// The consents that a question may stand on, newest first. Another consumer's, subject's or procedure's consent reads as if
/// there were none.
pub(super) fn concerned<'a>(
    facts: &Facts<'a>,
    question: &'a Question,
    named: Option<ConsentId>,
) -> impl Iterator<Item = &'a Recorded<Consent>> + use<'a> {
    let earlier = stands_on(facts, question);
    facts.person.consents.iter().filter(move |consent| {
        consent.consumer == question.consumer
            && consent.subject == question.subject
            && consent.procedure == question.procedure
            && named.is_none_or(|id| id == consent.id)
            && earlier.is_none_or(|id| id == consent.id)
    })
}

/// Given, in force within its dates, and where a representative gave it, under a mandate that still is.
pub(super) fn check_consent_in_force(
    person: &PersonFacts,
    consent: &Consent,
    now: Timestamp,
    failed: &mut BTreeSet<Reason>,
) {
    failed.extend(match consent.status {
        ConsentStatus::Granted => None,
        ConsentStatus::Requested { .. } => Some(Reason::ConsentPending),
        ConsentStatus::Refused { .. } => Some(Reason::ConsentRefused),
        ConsentStatus::Paused { .. } => Some(Reason::ConsentPaused),
        ConsentStatus::Withdrawn { .. } => Some(Reason::ConsentWithdrawn),
        ConsentStatus::Revoked { .. } => Some(Reason::ConsentRevoked),
        ConsentStatus::Invalidated { .. } => Some(Reason::ConsentInvalidated),
    });
    if now < consent.not_before {
        failed.insert(Reason::ConsentNotYetValid);
    }
    if now >= consent.expires_at {
        failed.insert(Reason::ConsentExpired);
    }
    if let Some(mandate) = consent.grantor.mandate() {
        check_mandate(person, mandate, (consent.subject, consent.consumer, &consent.procedure), now, failed);
    }
}

fn check_uses(consent: &Consent, now: Timestamp, failed: &mut BTreeSet<Reason>) {
    if !consent.has_use_left() {
        failed.insert(Reason::ConsentUsed);
    }
    if !consent.frequency_allows(now) {
        failed.insert(Reason::ConsentFrequency);
    }
}

/// What is asked, of whom, about which months and for whom, is what the person agreed to (GDPR 4(11): specific).
fn check_scope(registry: &Registry, consent: &Consent, question: &Question, failed: &mut BTreeSet<Reason>) {
    let filter = |dataset: &str| question.filters.iter().find(|(id, _)| id.as_str() == dataset).map(|(_, f)| f);
    let agreed = question.attributes.iter().all(|attribute| {
        let dataset = attribute.dataset();
        let source = registry.dataset(dataset).map(|d| d.source);
        let narrowed = consent.filters.iter().find(|(id, _)| id.as_str() == dataset).map(|(_, f)| f);
        consent.attributes.contains(attribute)
            && source.is_none_or(|source| consent.sources.is_empty() || consent.sources.contains(&source))
            && narrowed.is_none_or(|narrowed| filter(dataset) == Some(narrowed))
            && consent.period.is_none_or(|period| period.contains(filter(dataset)))
    });
    if !agreed {
        failed.insert(Reason::ConsentScope);
    }
    if !consent.allows_recipient(question.recipient) {
        failed.insert(Reason::ConsentRecipient);
    }
}

/// Somebody acts for `subject` towards `consumer` for `procedure`: the mandate is there, covers that and is in force.
/// Another administration's mandate, or another person's, reads as if there were none.
pub(super) fn check_mandate(
    person: &PersonFacts,
    id: MandateId,
    (subject, consumer, procedure): (SubjectRef, Siret, &ProcedureId),
    now: Timestamp,
    failed: &mut BTreeSet<Reason>,
) {
    let own = person.mandates.iter().find(|m| m.id == id && m.principal == subject && m.consumer == consumer);
    let Some(mandate) = own else {
        failed.insert(Reason::MandateMissing);
        return;
    };
    if mandate.ended_at.is_some() {
        failed.insert(Reason::MandateEnded);
    }
    if now < mandate.not_before {
        failed.insert(Reason::MandateNotYetValid);
    }
    if now >= mandate.expires_at {
        failed.insert(Reason::MandateExpired);
    }
    if !mandate.covers(procedure) {
        failed.insert(Reason::MandateScope);
    }
}
