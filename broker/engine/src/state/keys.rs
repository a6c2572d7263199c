//! Keys of the rows: one letter for the table, then fixed-width parts, so that a prefix names exactly one owner.

use unefois_consent::{Consent, ConsentId, Digest, HabilitationId, RecordPeriod, RequestId, Siret, SubjectRef};

pub(super) const REGISTRY: &[u8] = b"r";
pub(super) const OPEN: &[u8] = b"x";
/// All earlier requests.
pub(super) const REQUESTS: &[u8] = b"q";
/// Layout of the rows.
pub(crate) const LAYOUT: &[u8] = b"v";
/// Root of the tree at the fold's position.
pub(crate) const ROOT: &[u8] = b"h";

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Tag of an identity → subject.
pub(super) fn subject(tag: &Digest) -> Vec<u8> {
    join(&[b"s", &tag.0])
}

/// All consents of a subject to a consumer.
pub(super) fn consents(subject: SubjectRef, consumer: Siret) -> Vec<u8> {
    join(&[b"c", &subject.0, consumer.as_str().as_bytes()])
}

/// Subject, consumer, time (newest first) and consent → consent.
pub(super) fn consent(consent: &Consent) -> Vec<u8> {
    let newest_first = !consent.granted_at.as_millis();
    let owner = consents(consent.subject, consent.consumer);
    join(&[&owner, &newest_first.to_be_bytes(), &consent.id.0])
}

/// Consent → the key of its row.
pub(super) fn consent_place(id: ConsentId) -> Vec<u8> {
    join(&[b"i", &id.0])
}

/// Subject, consumer and procedure (empty: all) → objection.
pub(super) fn objection(subject: SubjectRef, consumer: Siret, procedure: Option<&str>) -> Vec<u8> {
    join(&[b"o", &subject.0, consumer.as_str().as_bytes(), procedure.unwrap_or_default().as_bytes()])
}

/// Consumer and request id → earlier request. A digest of half length keeps the rows small; a collision would refuse a
/// new request as reused, never answer it.
pub(super) fn request(consumer: Siret, id: &RequestId) -> Vec<u8> {
    let digest = Digest::of(&join(&[consumer.as_str().as_bytes(), id.as_str().as_bytes()]));
    let (half, _) = digest.0.split_at(16);
    join(&[REQUESTS, half])
}

/// The periods that were purged.
pub(super) const PURGED: &[u8] = b"p";
/// Tables whose rows come from one record each, and go with it.
pub(super) const STAMPED: [&[u8]; 6] = [SUBJECTS, b"c", b"i", OBJECTIONS, REQUESTS, b"t"];
/// All persons.
pub(super) const SUBJECTS: &[u8] = b"s";
/// All objections.
pub(super) const OBJECTIONS: &[u8] = b"o";

/// All consents of a subject.
pub(super) fn consents_of_all(subject: SubjectRef) -> Vec<u8> {
    join(&[b"c", &subject.0])
}

/// All objections of a subject.
pub(super) fn objections_of(subject: SubjectRef) -> Vec<u8> {
    join(&[OBJECTIONS, &subject.0])
}

/// The periods of the records that name a subject, but for the ends of exchanges.
pub(super) fn traces(subject: SubjectRef) -> Vec<u8> {
    join(&[b"t", &subject.0])
}

/// Subject and period → nothing: one row for all records of a period that name a person.
pub(super) fn trace(subject: SubjectRef, period: RecordPeriod) -> Vec<u8> {
    join(&[b"t", &subject.0, &period.month.number().to_be_bytes(), &[period.retention.months()]])
}

/// Habilitation → uses today.
pub(super) fn usage(id: &HabilitationId) -> Vec<u8> {
    join(&[b"u", id.as_str().as_bytes()])
}
