//! Which earlier entries a decision rests on. The record of the decision names them, so that a replay can tell a decision that
//! rests on what was destroyed meanwhile from one that rests on nothing.

use super::ground::{concerned, objection_counts};
use super::{Facts, Permit, Refusal};
use crate::event::{Event, RestKind};
use crate::{Ground, GroundKind, MandateId, Question, Reason, Timestamp};

/// Indexes of the entries about the person that `decided` rests on, in order and each once: the earlier attempt, the consent
/// that was judged with its mandate and, where its uses were the reason, its last use; the objection; the mandate of whoever
/// acts.
pub fn rests_on(facts: &Facts<'_>, question: &Question, decided: &Result<Permit, Refusal>, now: Timestamp) -> Vec<u64> {
    let mut indexes: Vec<u64> = facts.earlier.map(|earlier| earlier.index).into_iter().collect();
    let mandate = |id: MandateId| facts.person.mandates.iter().find(|m| m.id == id).map(|m| m.index);
    if let Ground::Consent { consent: named } = question.ground {
        let used = decided.as_ref().ok().and_then(Permit::consent);
        let judged = concerned(facts, question, named).find(|c| used.is_none_or(|id| id == c.id));
        if let Some(judged) = judged {
            indexes.push(judged.index);
            indexes.extend(judged.grantor.mandate().and_then(mandate));
            let is_of_uses = |reason: &Reason| [Reason::ConsentUsed, Reason::ConsentFrequency].contains(reason);
            let for_uses = decided.as_ref().is_err_and(|refusal| refusal.reasons().iter().any(is_of_uses));
            indexes.extend(judged.last_use.filter(|_| for_uses));
        }
    }
    if question.ground.kind() == GroundKind::Proactive {
        let counts = facts.person.objections.iter().filter(|o| objection_counts(o, &question.procedure, now));
        indexes.extend(counts.map(|o| o.index));
    }
    indexes.extend(question.mandate.and_then(mandate));
    indexes.sort_unstable();
    indexes.dedup();
    indexes
}

/// Whether an entry of the kind byte `kind`, whose record was destroyed, can be why a refusal has `reason`, or why a decision
/// that is derived without it has it.
pub fn explained_by(kind: u8, reason: Reason) -> bool {
    use Reason as R;
    let of_consents = [
        R::ConsentMissing,
        R::ConsentPending,
        R::ConsentRefused,
        R::ConsentPaused,
        R::ConsentWithdrawn,
        R::ConsentRevoked,
        R::ConsentInvalidated,
        R::ConsentNotYetValid,
        R::ConsentExpired,
        R::ConsentUsed,
        R::ConsentFrequency,
        R::ConsentScope,
        R::ConsentRecipient,
    ];
    let of_mandates = [R::MandateMissing, R::MandateEnded, R::MandateNotYetValid, R::MandateExpired, R::MandateScope];
    let of_requests =
        [R::RequestIdReused, R::RetryTooLate, R::RetryTooOften, R::ConsentUsed, R::ConsentFrequency, R::QuotaExhausted];
    let explained: &[Reason] = if RestKind::Version.fits(kind) {
        // The mandate of a representative is judged with the consent.
        return of_consents.contains(&reason) || of_mandates.contains(&reason);
    } else if kind == Event::MANDATE_GRANTED {
        &of_mandates
    } else if kind == Event::REQUESTED {
        &of_requests
    } else if kind == Event::OBJECTION_RECORDED {
        &[R::Objection]
    } else {
        &[]
    };
    explained.contains(&reason)
}
