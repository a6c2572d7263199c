//! A small fictitious world for tests: a town hall with a canteen, a department, the operator and two datasets.

use std::collections::{BTreeMap, BTreeSet};

use crate::Rules;
use crate::decide::{Earlier, Recorded, UsedToday};
use crate::registry::{Registry, RegistryChange, RegistryFile};
use crate::{
    Channel, Consent, ConsentId, ConsentStatus, ConsentUse, Digest, ExchangeId, Facts, Ground, HabilitationId,
    KeyFingerprint, Language, Mandate, MandateId, MandateKind, NoticeShown, Permit, PersonFacts, Question, Refusal,
    SubjectRef, Timestamp, decide,
};

pub(crate) const TOWN: &str = "99999999900017";
pub(crate) const DEPARTMENT: &str = "99999999800019";
pub(crate) const TOWN_KEY: KeyFingerprint = KeyFingerprint([1; 32]);
pub(crate) const OPERATOR_KEY: KeyFingerprint = KeyFingerprint([9; 32]);
pub(crate) const PERSON: SubjectRef = SubjectRef([5; 16]);
pub(crate) const EXCHANGE: ExchangeId = ExchangeId([0xe; 16]);
pub(crate) const DAY_MS: u64 = crate::time::DAY_MS;

/// Parses a literal that is known to be right.
pub(crate) fn p<T: std::str::FromStr<Err = crate::Malformed>>(text: &str) -> T {
    text.parse().unwrap()
}

/// Noon of an ordinary day.
pub(crate) fn noon() -> Timestamp {
    p("2026-09-01T12:00:00Z")
}

/// `ms` milliseconds after `instant`, or before it.
pub(crate) fn shifted(instant: Timestamp, ms: i64) -> Timestamp {
    Timestamp::from_millis(instant.as_millis().checked_add_signed(ms).unwrap())
}

pub(crate) fn registry_file() -> RegistryFile {
    let key = |key: KeyFingerprint, role: &str| serde_json::json!({ "fingerprint": key, "roles": [role] });
    let notices = serde_json::json!([{ "version": 1, "fr": "Nous demandons…", "en": "We ask…" }]);
    let habilitation = |id: &str, holder: &str, procedure: &str| {
        serde_json::json!({
            "id": id, "participant": holder, "legal_basis": "CRPA L114-8", "procedures": [procedure],
            "attributes": ["dss.quotient_familial.valeur", "dss.quotient_familial.mois", "ccas.aides.montant"],
            "grounds": ["LAW_REQUEST", "PROACTIVE", "CONSENT", "EXPLICIT_REQUEST"], "recipients": [holder],
            "retention_months": 12, "quota_per_day": 10, "valid_from": "2026-01-01T00:00:00Z",
            "valid_until": "2027-01-01T00:00:00Z", "dpo_contact": "dpo@exemple.example", "status": "active",
        })
    };
    let file = serde_json::json!({
        "participants": [
            { "siret": TOWN, "name": "Commune", "keys": [key(TOWN_KEY, "exchange")] },
            { "siret": DEPARTMENT, "name": "Département", "keys": [key(KeyFingerprint([2; 32]), "exchange")] },
            { "siret": "99999999700011", "name": "Opérateur", "keys": [key(OPERATOR_KEY, "registry")] },
        ],
        "procedures": [
            { "id": "cantine", "title": "Cantine", "notice_max_age_days": 30, "notices": notices },
            { "id": "rentree", "title": "Rentrée", "notices": notices },
        ],
        "datasets": [
            {
                "id": "dss.quotient_familial", "title": "QF", "source": DEPARTMENT, "connector": "caf", "version": "v3",
                "class": "ordinary", "filters": ["annee"],
                "attributes": [{ "name": "valeur", "title": "Valeur" }, { "name": "mois", "title": "Mois" }],
            },
            {
                "id": "ccas.aides", "title": "Aides", "source": DEPARTMENT, "connector": "ccas", "version": "1",
                "class": "ordinary", "preview_required": true, "attributes": [{ "name": "montant", "title": "Montant" }],
            },
        ],
        "habilitations": [
            habilitation("departement-rentree", DEPARTMENT, "rentree"), habilitation("ville-cantine", TOWN, "cantine"),
        ],
    });
    serde_json::from_value(file).unwrap()
}

pub(crate) fn consent(id: u8) -> Consent {
    Consent {
        id: ConsentId([id; 16]),
        subject: PERSON,
        consumer: p(TOWN),
        procedure: p("cantine"),
        attributes: [p("dss.quotient_familial.valeur")].into(),
        notice_version: 1,
        notice_digest: Digest([0; 32]),
        language: Language::Fr,
        channel: Channel::Counter,
        evidence: None,
        schema: crate::consent::CONSENT_SCHEMA,
        version: 1,
        previous: None,
        grantor: crate::Grantor::Person,
        assurance: None,
        recipients: BTreeSet::new(),
        sources: BTreeSet::new(),
        filters: BTreeMap::new(),
        period: None,
        data_life: crate::DataLife::View,
        window: None,
        not_before: shifted(noon(), -1_000),
        expires_at: shifted(noon(), 1_000),
        usage: ConsentUse::Repeated,
        agent: "guichet".to_owned(),
        granted_at: shifted(noon(), -1_000),
        status: ConsentStatus::Granted,
        uses: 0,
    }
}

/// Somebody may act for the person in any procedure of the town hall.
pub(crate) fn mandate() -> Mandate {
    Mandate {
        id: MandateId([0xa; 16]),
        principal: PERSON,
        representative: SubjectRef([6; 16]),
        kind: MandateKind::Mandatary,
        consumer: p(TOWN),
        procedures: BTreeSet::new(),
        proof: Digest([3; 32]),
        not_before: shifted(noon(), -1_000),
        expires_at: shifted(noon(), 1_000),
        agent: "guichet".to_owned(),
        recorded_at: shifted(noon(), -1_000),
        ended_at: None,
    }
}

/// Exchanges permitted by day, the same for each habilitation.
#[derive(Debug, Clone, Default)]
pub(crate) struct UsedByDay(pub(crate) BTreeMap<u64, u64>);

impl UsedToday for UsedByDay {
    fn used(&self, _: &HabilitationId, day: u64) -> u64 {
        self.0.get(&day).copied().unwrap_or(0)
    }
}

/// Everything that a decision depends on. As it stands, the decision is a permit.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) file: RegistryFile,
    pub(crate) person: PersonFacts,
    pub(crate) used: UsedByDay,
    pub(crate) earlier: Option<Earlier>,
    pub(crate) question: Question,
    pub(crate) now: Timestamp,
}

impl World {
    pub(crate) fn new() -> Self {
        let question = Question {
            consumer: p(TOWN),
            key: TOWN_KEY,
            agent: "guichet".to_owned(),
            recipient: p(TOWN),
            procedure: p("cantine"),
            habilitation: None,
            attributes: vec![p("dss.quotient_familial.valeur")],
            filters: BTreeMap::new(),
            ground: Ground::LawRequest { notice: notice() },
            subject: PERSON,
            mandate: None,
            request_id: p("r-1"),
            content: Digest([1; 32]),
        };
        Self {
            file: registry_file(),
            person: PersonFacts::default(),
            used: UsedByDay::default(),
            earlier: None,
            question,
            now: noon(),
        }
    }

    /// The same, on the ground of `consents`, newest first.
    pub(crate) fn with_consents(consents: &[Consent]) -> Self {
        let mut world = Self::new();
        world.question.ground = Ground::Consent { consent: None };
        world.person.consents = recorded(consents.to_vec());
        world
    }

    /// Built without the rules of a file, as old entries of a log might.
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        let file = self.file.clone();
        file.participants.into_iter().for_each(|x| registry.apply(RegistryChange::PutParticipant(x)));
        file.procedures.into_iter().for_each(|x| registry.apply(RegistryChange::PutProcedure(x)));
        file.datasets.into_iter().for_each(|x| registry.apply(RegistryChange::PutDataset(x)));
        file.habilitations.into_iter().for_each(|x| registry.apply(RegistryChange::PutHabilitation(x)));
        registry
    }

    pub(crate) fn decide(&self) -> Result<Permit, Refusal> {
        let registry = self.registry();
        let facts = Facts {
            rules: Rules::NEWEST,
            registry: &registry,
            person: &self.person,
            used_today: &self.used,
            earlier: self.earlier.as_ref(),
        };
        decide(&facts, &self.question, EXCHANGE, self.now)
    }
}

/// As if an entry each had recorded them.
pub(crate) fn recorded<T>(facts: Vec<T>) -> Vec<Recorded<T>> {
    (100..).zip(facts).map(|(index, fact)| Recorded::by(index, fact)).collect()
}

/// A notice shown now.
pub(crate) fn notice() -> NoticeShown {
    NoticeShown { version: 1, shown_at: noon(), channel: Channel::Online, language: Language::Fr }
}
