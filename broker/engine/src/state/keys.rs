//! Keys of the rows: one letter for the table, then fixed-width parts, so that a prefix names exactly one owner.

use unefois_consent::{
    Consent, ConsentId, Digest, ExchangeId, HabilitationId, MandateId, RequestId, Siret, SubjectRef,
};

use crate::rows::Key;

pub(super) const REGISTRY: &[u8] = b"r";
pub(super) const OPEN: &[u8] = b"x";
/// What the log says of itself.
pub(super) const LOG: &[u8] = b"y";
/// Uses of habilitations.
pub(super) const USAGE: &[u8] = b"u";
/// All earlier requests.
pub(super) const REQUESTS: &[u8] = b"q";
/// Layout of the rows.
pub(crate) const LAYOUT: &[u8] = b"v";
/// What persons hold back.
pub(super) const HOLDS: &[u8] = b"w";
/// Root of the tree at the fold's position.
pub(crate) const ROOT: &[u8] = b"h";

fn join(parts: &[&[u8]]) -> Key {
    let mut key = Key::new();
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

/// Tag of an identity → subject.
pub(super) fn subject(tag: &Digest) -> Key {
    join(&[b"s", &tag.0])
}

/// All consents of a subject to a consumer.
pub(super) fn consents(subject: SubjectRef, consumer: Siret) -> Key {
    join(&[b"c", &subject.0, consumer.as_str().as_bytes()])
}

/// Subject, consumer, time (newest first) and consent → nothing: the place of a consent in the lists of its person.
pub(super) fn consent_place(consent: &Consent) -> Key {
    let newest_first = !consent.granted_at.as_millis();
    let owner = consents(consent.subject, consent.consumer);
    join(&[&owner, &newest_first.to_be_bytes(), &consent.id.0])
}

/// The consent of such a place.
pub(super) fn consent_at(place: &[u8]) -> Option<ConsentId> {
    place.last_chunk::<16>().map(|id| ConsentId(*id))
}

/// All consents.
pub(super) const CONSENTS: &[u8] = b"i";

/// Consent → its state.
pub(super) fn consent(id: ConsentId) -> Key {
    join(&[CONSENTS, &id.0])
}

/// What a person holds back from an administration.
pub(super) fn holds(subject: SubjectRef, consumer: Siret) -> Key {
    join(&[HOLDS, &subject.0, consumer.as_str().as_bytes()])
}

/// Person, administration and consent → who holds it back.
pub(super) fn hold(consent: &Consent) -> Key {
    join(&[&holds(consent.subject, consent.consumer), &consent.id.0])
}

/// No row: by which a person who holds something back from an administration is met. It ends in what is as good as random.
pub(super) fn held(subject: SubjectRef, consumer: Siret) -> Key {
    join(&[HOLDS, consumer.as_str().as_bytes(), &subject.0])
}

/// The same, by the key of a hold.
pub(super) fn held_at(key: &[u8]) -> Option<Key> {
    let (subject, rest) = key.strip_prefix(HOLDS)?.split_first_chunk::<16>()?;
    let (consumer, _) = rest.split_last_chunk::<16>()?;
    Some(join(&[HOLDS, consumer, subject]))
}

/// Terms that consents share.
pub(super) const TERMS: &[u8] = b"k";

/// Number of terms that consents share → the terms.
pub(super) fn terms(number: u32) -> Key {
    join(&[TERMS, &number.to_be_bytes()])
}

/// Mandate → its state.
pub(super) fn mandate(id: MandateId) -> Key {
    join(&[b"m", &id.0])
}

/// All mandates of a person, as principal or as representative.
pub(super) fn mandates_of(subject: SubjectRef) -> Key {
    join(&[b"n", &subject.0])
}

/// Person and mandate → nothing.
pub(super) fn mandate_place(subject: SubjectRef, id: MandateId) -> Key {
    join(&[b"n", &subject.0, &id.0])
}

/// The mandate of such a place.
pub(super) fn mandate_at(place: &[u8]) -> Option<MandateId> {
    place.last_chunk::<16>().map(|id| MandateId(*id))
}

/// All changes of the ledger that concern an administration.
pub(super) fn changes(consumer: Siret) -> Key {
    join(&[b"l", consumer.as_str().as_bytes()])
}

/// Administration and index of the entry → nothing.
pub(super) fn change(consumer: Siret, index: u64) -> Key {
    join(&[&changes(consumer), &index.to_be_bytes()])
}

/// The index of such a row, and of a trace.
pub(super) fn index_at(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|index| u64::from_be_bytes(*index))
}

/// Subject, consumer and procedure (empty: all) → objection.
pub(super) fn objection(subject: SubjectRef, consumer: Siret, procedure: Option<&str>) -> Key {
    join(&[b"o", &subject.0, consumer.as_str().as_bytes(), procedure.unwrap_or_default().as_bytes()])
}

/// Consumer and request id → earlier request. A digest of half length keeps the rows small; a collision would refuse a
/// new request as reused, never answer it.
pub(super) fn request(consumer: Siret, id: &RequestId) -> Key {
    let digest = Digest::of(&[consumer.as_str().as_bytes(), id.as_str().as_bytes()].concat());
    let (half, _) = digest.0.split_at(16);
    join(&[REQUESTS, half])
}

/// The periods that were purged.
pub(super) const PURGED: &[u8] = b"p";
/// Tables whose rows come from one record each, and go with it.
pub(super) const STAMPED: [&[u8]; 10] = [SUBJECTS, b"c", b"i", b"l", b"m", b"n", OBJECTIONS, REQUESTS, b"t", HOLDS];
/// Tables in which a purge leaves rows that count for nothing.
pub(super) const SWEPT: [&[u8]; 11] =
    [SUBJECTS, b"c", b"i", b"l", b"m", b"n", OBJECTIONS, REQUESTS, b"t", HOLDS, USAGE];
/// Reference of a person → nothing. Only a replay has such rows; they are not state.
pub(super) fn reference(subject: SubjectRef) -> Key {
    join(&[b"\0subject", &subject.0])
}

/// Reference of an exchange → nothing, likewise.
pub(super) fn exchange(exchange: ExchangeId) -> Key {
    join(&[b"\0exchange", &exchange.0])
}

/// The tables that are looked through by person: their keys begin with the letter and the person's 16 bytes.
pub(crate) const BY_PERSON: [u8; 5] = *b"cnotw";

/// All persons.
pub(super) const SUBJECTS: &[u8] = b"s";
/// All objections.
pub(super) const OBJECTIONS: &[u8] = b"o";

/// All consents of a subject.
pub(super) fn consents_of_all(subject: SubjectRef) -> Key {
    join(&[b"c", &subject.0])
}

/// All objections of a subject.
pub(super) fn objections_of(subject: SubjectRef) -> Key {
    join(&[OBJECTIONS, &subject.0])
}

/// The records that name a subject, but for the ends of exchanges.
pub(super) fn traces(subject: SubjectRef) -> Key {
    join(&[b"t", &subject.0])
}

/// Subject and index of the entry, newest first → its kind and, of an exchange, the index of its end.
pub(super) fn trace(subject: SubjectRef, index: u64) -> Key {
    join(&[b"t", &subject.0, &(!index).to_be_bytes()])
}

/// Habilitation → uses today.
pub(super) fn usage(id: &HabilitationId) -> Key {
    join(&[USAGE, id.as_str().as_bytes()])
}
