//! The decision: may this question be asked of the sources, now?
//!
//! [`decide()`] is pure and total. It is the only maker of a [`Permit`], and only a `&Permit` reaches a connector. Every
//! check that fails is reported, in the order of [`Reason`]; [`still_permitted`] judges again when the answer is there.

use crate::registry::{Dataset, DatasetClass, Habilitation, HabilitationStatus, Procedure, Registry, Role};
use crate::{
    AttributeId, Consent, ConsentId, ConsentStatus, ConsentUse, Digest, ExchangeId, Filter, Ground, GroundKind,
    HabilitationId, NoticeShown, Objection, ProcedureId, Question, Reason, Siret, SubjectRef, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a request id may be tried again after its first request.
pub const RETRY_WINDOW: Duration = Duration::from_secs(15 * 60);
/// How often one exchange may be tried in all.
pub const MAX_ATTEMPTS: u32 = 5;
/// How far a consumer's clock may run ahead of the log's.
const CLOCK_SKEW: Duration = Duration::from_secs(120);

/// What the log says of the person, as far as this consumer's question is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersonFacts {
    /// The person's consents to this consumer, newest first.
    pub consents: Vec<Consent>,
    /// The person's objections against this consumer.
    pub objections: Vec<Objection>,
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
}

/// All that a decision depends on besides the question and the time.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
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
    consumer: Siret,
    key: crate::KeyFingerprint,
    recipient: Siret,
    procedure: ProcedureId,
    habilitation: HabilitationId,
    ground: GroundKind,
    consent: Option<ConsentId>,
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
        check_retry(earlier, question, now, &mut failed);
    }
    check_names(facts.registry, question, &mut failed);
    let procedure = facts.registry.procedure(&question.procedure);
    let habilitation = choose_habilitation(facts.registry, question, &mut failed);
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
    Refusal::from_set(failed)?;
    // Without failures there is a habilitation; the refusal below only satisfies the compiler.
    let habilitation = habilitation.ok_or_else(|| Refusal::because(Reason::HabilitationMissing))?;
    Ok(Permit {
        exchange: facts.earlier.map_or(exchange, |e| e.exchange),
        attempt: facts.earlier.map_or(1, |e| e.attempts + 1),
        consumer: question.consumer,
        key: question.key,
        recipient: question.recipient,
        procedure: question.procedure.clone(),
        habilitation: habilitation.id.clone(),
        ground: question.ground.kind(),
        consent,
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
            Some(consent) => {
                check_consent_in_force(consent, now, &mut failed);
            }
        }
    }
    if permit.ground == GroundKind::Proactive && objects(person, &permit.procedure) {
        failed.insert(Reason::Objection);
    }
    Refusal::from_set(failed)
}

fn check_retry(earlier: &Earlier, question: &Question, now: Timestamp, failed: &mut BTreeSet<Reason>) {
    if earlier.content != question.content {
        failed.insert(Reason::RequestIdReused);
        return;
    }
    if now.since(earlier.at) > RETRY_WINDOW {
        failed.insert(Reason::RetryTooLate);
    }
    if earlier.attempts >= MAX_ATTEMPTS {
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
    let mut covering =
        registry.habilitations_of(question.consumer).filter(|h| h.procedures.contains(&question.procedure));
    match (covering.next(), covering.next()) {
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
    if now < habilitation.valid_from || now >= habilitation.valid_until {
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

/// The evidence of the ground holds. Gives the consent that the exchange uses, if it uses one.
fn check_ground(
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
            if objects(facts.person, &question.procedure) {
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

fn objects(person: &PersonFacts, procedure: &ProcedureId) -> bool {
    person.objections.iter().any(|o| o.procedure.as_ref().is_none_or(|p| p == procedure))
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
    let earlier = facts.earlier.filter(|e| e.content == question.content).and_then(|e| e.consent);
    let mut first_failures = None;
    for consent in &facts.person.consents {
        // Another consumer's, subject's or procedure's consent reads as if there were none.
        let concerns = consent.consumer == question.consumer
            && consent.subject == question.subject
            && consent.procedure == question.procedure
            && named.is_none_or(|id| id == consent.id)
            && earlier.is_none_or(|id| id == consent.id);
        if !concerns {
            continue;
        }
        let mut failures = BTreeSet::new();
        check_consent(consent, question, now, &mut failures);
        if earlier.is_none() && consent.usage == ConsentUse::OneTime && consent.uses > 0 {
            failures.insert(Reason::ConsentUsed);
        }
        if failures.is_empty() {
            return Some(consent.id);
        }
        first_failures.get_or_insert(failures);
    }
    failed.extend(first_failures.unwrap_or_else(|| BTreeSet::from([Reason::ConsentMissing])));
    None
}

fn check_consent_in_force(consent: &Consent, now: Timestamp, failed: &mut BTreeSet<Reason>) {
    match consent.status {
        ConsentStatus::Granted => {}
        ConsentStatus::Withdrawn { .. } => {
            failed.insert(Reason::ConsentWithdrawn);
        }
    }
    if now < consent.not_before {
        failed.insert(Reason::ConsentNotYetValid);
    }
    if now >= consent.expires_at {
        failed.insert(Reason::ConsentExpired);
    }
}

fn check_consent(consent: &Consent, question: &Question, now: Timestamp, failed: &mut BTreeSet<Reason>) {
    check_consent_in_force(consent, now, failed);
    if question.attributes.iter().any(|a| !consent.attributes.contains(a)) {
        failed.insert(Reason::ConsentScope);
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
