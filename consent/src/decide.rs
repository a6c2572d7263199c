//! The decision: may this question be asked of the sources, now?
//!
//! [`decide()`] is pure and total. It is the only maker of a [`Permit`], and only a `&Permit` reaches a connector. Every
//! check that fails is reported, in the order of [`Reason`]; [`still_permitted`] judges again when the answer is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::registry::{Dataset, DatasetClass, Habilitation, HabilitationStatus, Registry, Role};
use crate::{
    AttributeId, Consent, ConsentId, Digest, ExchangeId, Filter, GroundKind, HabilitationId, Mandate, MandateId,
    Objection, ProcedureId, Question, Reason, RequestId, Retention, Rules, Siret, SubjectRef, Timestamp,
};

mod ground;
mod rests;

use ground::{check_consent_in_force, check_ground, check_mandate, objects};
pub use rests::{explained_by, rests_on};

/// How long a request id may be tried again after its first request.
pub const RETRY_WINDOW: Duration = Duration::from_secs(15 * 60);
/// How far a consumer's clock may run ahead of the log's.
const CLOCK_SKEW: Duration = Duration::from_secs(120);

/// What the log says of the person, as far as this consumer's question is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersonFacts {
    /// The person's consents to this consumer, newest first.
    pub consents: Vec<Recorded<Consent>>,
    /// The person's objections against this consumer.
    pub objections: Vec<Recorded<Objection>>,
    /// Mandates to act for the person: that of the question, and those under which the consents were given.
    pub mandates: Vec<Recorded<Mandate>>,
}

/// A fact and the entry that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded<T> {
    /// The fact as it stands.
    pub fact: T,
    /// Index of the entry that recorded it.
    pub index: u64,
    /// Of a consent: index of the entry that used this version last.
    pub last_use: Option<u64>,
}

impl<T> Recorded<T> {
    /// What entry `index` recorded.
    pub fn by(index: u64, fact: T) -> Self {
        Self { fact, index, last_use: None }
    }
}

impl<T> std::ops::Deref for Recorded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.fact
    }
}

/// An earlier request with the same request id by the same consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// Its exchange.
    pub exchange: ExchangeId,
    /// Its question's content.
    pub content: Digest,
    /// When it was first permitted.
    pub at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// The consent that its first attempt used.
    pub consent: Option<ConsentId>,
    /// Index of the entry of its last attempt.
    pub index: u64,
    /// How long the record of that is kept.
    pub retention: Retention,
}

/// All that a decision depends on besides the question and the time.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The version of the rules at this point of the log.
    pub rules: Rules,
    /// The registry at this point of the log.
    pub registry: &'a Registry,
    /// The person at this point of the log.
    pub person: &'a PersonFacts,
    /// Exchanges permitted today for a habilitation.
    pub used_today: &'a dyn UsedToday,
    /// An earlier request with this request id.
    pub earlier: Option<&'a Earlier>,
}

/// Counts for quotas.
pub trait UsedToday: std::fmt::Debug {
    /// How many exchanges `habilitation` has permitted on `day` ([`Timestamp::day`]).
    fn used(&self, habilitation: &HabilitationId, day: u64) -> u64;
}

/// The right to ask the sources for one exchange. Made by [`decide()`] alone.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    exchange: ExchangeId,
    attempt: u32,
    request_id: RequestId,
    consumer: Siret,
    key: crate::KeyFingerprint,
    recipient: Siret,
    procedure: ProcedureId,
    habilitation: HabilitationId,
    ground: GroundKind,
    consent: Option<ConsentId>,
    mandate: Option<MandateId>,
    subject: SubjectRef,
    datasets: Vec<PermittedDataset>,
    decided_at: Timestamp,
}

/// What a permit allows to ask of one dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermittedDataset {
    /// The dataset.
    pub dataset: Arc<Dataset>,
    /// The attributes asked, in order.
    pub attributes: Vec<AttributeId>,
    /// The filter.
    pub filter: Filter,
}

impl Permit {
    /// The exchange it is for.
    pub fn exchange(&self) -> ExchangeId {
        self.exchange
    }
    /// 1, and more for a retry.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
    /// The consumer's own name of the exchange.
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }
    /// Who asks.
    pub fn consumer(&self) -> Siret {
        self.consumer
    }
    /// Who uses the data.
    pub fn recipient(&self) -> Siret {
        self.recipient
    }
    /// For which procedure.
    pub fn procedure(&self) -> &ProcedureId {
        &self.procedure
    }
    /// Under which habilitation.
    pub fn habilitation(&self) -> &HabilitationId {
        &self.habilitation
    }
    /// On which ground.
    pub fn ground(&self) -> GroundKind {
        self.ground
    }
    /// By which consent.
    pub fn consent(&self) -> Option<ConsentId> {
        self.consent
    }
    /// Under which mandate somebody acts for the person.
    pub fn mandate(&self) -> Option<MandateId> {
        self.mandate
    }
    /// About whom.
    pub fn subject(&self) -> SubjectRef {
        self.subject
    }
    /// What may be asked, by dataset.
    pub fn datasets(&self) -> &[PermittedDataset] {
        &self.datasets
    }
    /// When it was given, in the time of the log.
    pub fn decided_at(&self) -> Timestamp {
        self.decided_at
    }
}

/// Why a question may not be asked: every check that failed, in the order of [`Reason`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    reasons: Vec<Reason>,
}

impl Refusal {
    fn from_set(reasons: BTreeSet<Reason>) -> Result<(), Self> {
        if reasons.is_empty() { Ok(()) } else { Err(Self { reasons: reasons.into_iter().collect() }) }
    }

    /// A refusal for one reason that lies outside the log, such as a certificate that ended.
    pub fn because(reason: Reason) -> Self {
        Self { reasons: vec![reason] }
    }

    /// Every check that failed.
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// The first check that failed.
    pub fn first(&self) -> Reason {
        self.reasons.first().copied().unwrap_or(Reason::KeyNotEnrolled)
    }
}

/// May `question` be asked at `now`? `exchange` is the name of the exchange if it is a new one.
pub fn decide(facts: &Facts<'_>, question: &Question, exchange: ExchangeId, now: Timestamp) -> Result<Permit, Refusal> {
    let mut failed = BTreeSet::new();
    if let Some(earlier) = facts.earlier {
        check_retry(facts, earlier, question, now, &mut failed);
    }
    check_names(facts.registry, question, &mut failed);
    let procedure = facts.registry.procedure(&question.procedure);
    let habilitation = choose_habilitation(facts.registry, question, now, &mut failed);
    if let Some(habilitation) = habilitation {
        let asked = Asked {
            procedure: &question.procedure,
            attributes: question.attributes.iter(),
            recipient: question.recipient,
            ground: question.ground.kind(),
        };
        check_habilitation(habilitation, asked, now, &mut failed);
        if facts.earlier.is_none() {
            check_quota(habilitation, facts.used_today, now, &mut failed);
        }
    }
    let consent = procedure.and_then(|procedure| check_ground(facts, procedure, question, now, &mut failed));
    if let Some(mandate) = question.mandate {
        let acting = (question.subject, question.consumer, &question.procedure);
        check_mandate(facts.person, mandate, acting, now, &mut failed);
    }
    Refusal::from_set(failed)?;
    // Without failures there is a habilitation; the refusal below only satisfies the compiler.
    let habilitation = habilitation.ok_or_else(|| Refusal::because(Reason::HabilitationMissing))?;
    Ok(Permit {
        exchange: facts.earlier.map_or(exchange, |e| e.exchange),
        attempt: facts.earlier.map_or(1, |e| e.attempts + 1),
        request_id: question.request_id.clone(),
        consumer: question.consumer,
        key: question.key,
        recipient: question.recipient,
        procedure: question.procedure.clone(),
        habilitation: habilitation.id.clone(),
        ground: question.ground.kind(),
        consent,
        mandate: question.mandate,
        subject: question.subject,
        datasets: permitted_datasets(facts.registry, question),
        decided_at: now,
    })
}

/// Is the right that `permit` gave still there at `now`? Asked when the sources have answered, so that what was
/// withdrawn, objected to, revoked or narrowed meanwhile drops the data.
pub fn still_permitted(
    registry: &Registry,
    person: &PersonFacts,
    permit: &Permit,
    now: Timestamp,
) -> Result<(), Refusal> {
    let mut failed = BTreeSet::new();
    if !registry.is_enrolled(permit.consumer, &permit.key, Role::Exchange) {
        failed.insert(Reason::KeyNotEnrolled);
    }
    match registry.habilitation(&permit.habilitation).filter(|h| h.participant == permit.consumer) {
        None => {
            failed.insert(Reason::HabilitationMissing);
        }
        Some(habilitation) => {
            let asked = Asked {
                procedure: &permit.procedure,
                attributes: permit.datasets.iter().flat_map(|d| &d.attributes),
                recipient: permit.recipient,
                ground: permit.ground,
            };
            check_habilitation(habilitation, asked, now, &mut failed);
        }
    }
    if let Some(id) = permit.consent {
        match person.consents.iter().find(|c| c.id == id) {
            None => {
                failed.insert(Reason::ConsentMissing);
            }
            Some(consent) => check_consent_in_force(person, consent, now, &mut failed),
        }
    }
    if let Some(mandate) = permit.mandate {
        check_mandate(person, mandate, (permit.subject, permit.consumer, &permit.procedure), now, &mut failed);
    }
    if permit.ground == GroundKind::Proactive && objects(person, &permit.procedure, now) {
        failed.insert(Reason::Objection);
    }
    Refusal::from_set(failed)
}

fn check_retry(
    facts: &Facts<'_>,
    earlier: &Earlier,
    question: &Question,
    now: Timestamp,
    failed: &mut BTreeSet<Reason>,
) {
    // An attempt that is kept for another time than the one before would be forgotten before it, or outlive it.
    let procedure = facts.registry.procedure(&question.procedure).map(|procedure| &**procedure);
    if earlier.content != question.content || earlier.retention != Retention::of_exchange(procedure) {
        failed.insert(Reason::RequestIdReused);
        return;
    }
    // A retry that is before its first attempt, because an operator put the clock back, would be forgotten before it.
    if now < earlier.at || now.since(earlier.at) > RETRY_WINDOW {
        failed.insert(Reason::RetryTooLate);
    }
    if earlier.attempts >= facts.rules.max_attempts() {
        failed.insert(Reason::RetryTooOften);
    }
}

/// The key, the procedure, the attributes and the filters exist.
fn check_names(registry: &Registry, question: &Question, failed: &mut BTreeSet<Reason>) {
    if !registry.is_enrolled(question.consumer, &question.key, Role::Exchange) {
        failed.insert(Reason::KeyNotEnrolled);
    }
    if registry.procedure(&question.procedure).is_none() {
        failed.insert(Reason::ProcedureUnknown);
    }
    for attribute in &question.attributes {
        match registry.dataset(attribute.dataset()).filter(|d| d.has_attribute(attribute.name())) {
            None => {
                failed.insert(Reason::AttributeUnknown);
            }
            Some(dataset) => match dataset.class {
                DatasetClass::Ordinary => {}
                DatasetClass::Medical | DatasetClass::Defence => {
                    failed.insert(Reason::DatasetClassRefused);
                }
            },
        }
    }
    for (dataset, filter) in &question.filters {
        let asked = question.attributes.iter().any(|a| a.dataset() == dataset.as_str());
        let known = registry.dataset(dataset.as_str()).is_some_and(|d| filter.keys().all(|k| d.filters.contains(k)));
        if !(asked && known) {
            failed.insert(Reason::FilterUnknown);
        }
    }
}

fn choose_habilitation<'a>(
    registry: &'a Registry,
    question: &Question,
    now: Timestamp,
    failed: &mut BTreeSet<Reason>,
) -> Option<&'a Habilitation> {
    if let Some(id) = &question.habilitation {
        // Another participant's habilitation reads as if there were none.
        let own = registry.habilitation(id).filter(|h| h.participant == question.consumer);
        if own.is_none() {
            failed.insert(Reason::HabilitationMissing);
        }
        return own.map(Arc::as_ref);
    }
    // One that is not in date is no choice: added for next year, it must not hinder who names none today.
    let covers = |h: &&Arc<Habilitation>| h.procedures.contains(&question.procedure);
    let mut in_force = registry
        .habilitations_of(question.consumer)
        .filter(covers)
        .filter(|h| h.status == HabilitationStatus::Active && h.is_in_date(now));
    let mut any = registry.habilitations_of(question.consumer).filter(covers);
    let (first, second) = match (in_force.next(), in_force.next()) {
        // Why the only one does not count is said of it.
        (None, _) => (any.next(), any.next()),
        chosen => chosen,
    };
    match (first, second) {
        (Some(only), None) => Some(only),
        (Some(_), Some(_)) => {
            failed.insert(Reason::HabilitationNotNamed);
            None
        }
        (None, _) => {
            failed.insert(Reason::HabilitationMissing);
            None
        }
    }
}

/// What a habilitation must cover, of a question or of the permit that it got.
struct Asked<'a, I> {
    procedure: &'a ProcedureId,
    attributes: I,
    recipient: Siret,
    ground: GroundKind,
}

fn check_habilitation<'a>(
    habilitation: &Habilitation,
    mut asked: Asked<'a, impl Iterator<Item = &'a AttributeId>>,
    now: Timestamp,
    failed: &mut BTreeSet<Reason>,
) {
    match habilitation.status {
        HabilitationStatus::Active => {}
        HabilitationStatus::Obsolete | HabilitationStatus::Revoked => {
            failed.insert(Reason::HabilitationNotActive);
        }
    }
    if !habilitation.is_in_date(now) {
        failed.insert(Reason::HabilitationOutOfDate);
    }
    if !habilitation.procedures.contains(asked.procedure) {
        failed.insert(Reason::ProcedureNotCovered);
    }
    if asked.attributes.any(|a| !habilitation.attributes.contains(a)) {
        failed.insert(Reason::AttributeNotCovered);
    }
    if !habilitation.recipients.contains(&asked.recipient) {
        failed.insert(Reason::RecipientNotCovered);
    }
    if !habilitation.grounds.contains(&asked.ground) {
        failed.insert(Reason::GroundNotCovered);
    }
}

fn check_quota(habilitation: &Habilitation, used: &dyn UsedToday, now: Timestamp, failed: &mut BTreeSet<Reason>) {
    if habilitation.quota_per_day.is_some_and(|quota| used.used(&habilitation.id, now.day()) >= quota) {
        failed.insert(Reason::QuotaExhausted);
    }
}

fn permitted_datasets(registry: &Registry, question: &Question) -> Vec<PermittedDataset> {
    let mut by_dataset: BTreeMap<&str, Vec<AttributeId>> = BTreeMap::new();
    for attribute in &question.attributes {
        by_dataset.entry(attribute.dataset()).or_default().push(attribute.clone());
    }
    by_dataset
        .into_iter()
        .filter_map(|(id, attributes)| {
            let dataset = Arc::clone(registry.dataset(id)?);
            let filter = question.filters.get(&dataset.id).cloned().unwrap_or_default();
            Some(PermittedDataset { dataset, attributes, filter })
        })
        .collect()
}

#[cfg(test)]
mod tests;
