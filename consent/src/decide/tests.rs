use super::*;
use crate::consent::DataPeriod;
use crate::frequency::WindowUses;
use crate::testing::{DAY_MS, EXCHANGE, PERSON, TOWN, World, consent, mandate, noon, notice, p, shifted};
use crate::{ConsentStatus, ConsentUse, DecidedBy, Frequency, Grantor, Ground, NoticeShown, TimeUnit};

mod consents;
mod edges;
mod properties;
mod still;

/// A reason, and a way to bring it about.
type Way = (Reason, fn(&mut World));

/// Each way to spoil a good question, and the one reason that it gives.
const WAYS: [Way; 42] = [
    (Reason::KeyNotEnrolled, |w| w.question.key = crate::KeyFingerprint([7; 32])),
    (Reason::ProcedureUnknown, |w| w.file.procedures.retain(|p| p.id.as_str() != "cantine")),
    (Reason::AttributeUnknown, |w| w.file.datasets[0].attributes.retain(|a| a.name != "valeur")),
    (Reason::FilterUnknown, |w| filter(w, "dss.quotient_familial", "jour")),
    (Reason::DatasetClassRefused, |w| w.file.datasets[0].class = DatasetClass::Medical),
    (Reason::HabilitationMissing, |w| w.file.habilitations.clear()),
    (Reason::HabilitationNotNamed, |w| {
        let second = Habilitation { id: p("ville-cantine-2"), ..w.file.habilitations[1].clone() };
        w.file.habilitations.push(second);
    }),
    (Reason::HabilitationNotActive, |w| w.file.habilitations[1].status = HabilitationStatus::Obsolete),
    (Reason::HabilitationOutOfDate, |w| w.file.habilitations[1].valid_until = w.now),
    (Reason::ProcedureNotCovered, |w| {
        w.question.habilitation = Some(p("ville-cantine"));
        w.file.habilitations[1].procedures = [p("rentree")].into();
    }),
    (Reason::AttributeNotCovered, |w| w.file.habilitations[1].attributes = [p("ccas.aides.montant")].into()),
    (Reason::RecipientNotCovered, |w| w.question.recipient = p(crate::testing::DEPARTMENT)),
    (Reason::GroundNotCovered, |w| w.file.habilitations[1].grounds = [GroundKind::Consent].into()),
    (Reason::QuotaExhausted, |w| w.used.0 = [(w.now.day(), 10)].into()),
    (Reason::NoticeUnknown, |w| law_request(w, NoticeShown { version: 2, ..notice() })),
    (Reason::EvidenceInFuture, |w| {
        law_request(w, NoticeShown { shown_at: w.now.plus(Duration::from_secs(3_600)), ..notice() });
    }),
    (Reason::NoticeTooOld, |w| law_request(w, NoticeShown { shown_at: p("2026-01-01T00:00:00Z"), ..notice() })),
    (Reason::ConsentMissing, |w| *w = World::with_consents(&[])),
    (Reason::ConsentPending, |w| {
        in_status(w, ConsentStatus::Requested { answer_by: shifted(noon(), 500), code: p("4F7K-92QX") });
    }),
    (Reason::ConsentRefused, |w| in_status(w, ConsentStatus::Refused { at: noon(), by: DecidedBy::Administration })),
    (Reason::ConsentPaused, |w| in_status(w, ConsentStatus::Paused { at: noon(), by: DecidedBy::Administration })),
    (Reason::ConsentWithdrawn, |w| {
        in_status(w, ConsentStatus::Withdrawn { at: noon(), by: DecidedBy::Administration })
    }),
    (Reason::ConsentRevoked, |w| in_status(w, ConsentStatus::Revoked { at: noon() })),
    (Reason::ConsentInvalidated, |w| in_status(w, ConsentStatus::Invalidated { at: noon() })),
    (Reason::ConsentNotYetValid, |w| {
        *w = World::with_consents(&[Consent { not_before: shifted(noon(), 1), ..consent(1) }]);
    }),
    (Reason::ConsentExpired, |w| *w = World::with_consents(&[Consent { expires_at: noon(), ..consent(1) }])),
    (Reason::ConsentUsed, |w| {
        *w = World::with_consents(&[Consent { usage: ConsentUse::OneTime, uses: 1, ..consent(1) }]);
    }),
    (Reason::ConsentFrequency, |w| {
        let usage = ConsentUse::Periodic(Frequency { times: 3, per: TimeUnit::Day });
        let window = Some(WindowUses { window: 0, uses: 3 });
        *w = World::with_consents(&[Consent { usage, window, uses: 3, ..consent(1) }]);
    }),
    (Reason::ConsentRecipient, |w| {
        *w = World::with_consents(&[Consent { recipients: [p(crate::testing::DEPARTMENT)].into(), ..consent(1) }]);
    }),
    (Reason::ConsentScope, |w| {
        *w = World::with_consents(&[Consent { attributes: [p("ccas.aides.montant")].into(), ..consent(1) }]);
    }),
    (Reason::Objection, |w| {
        w.question.ground = Ground::Proactive { notice: notice() };
        w.person.objections.push(Recorded::by(3, objection(shifted(noon(), 1))));
    }),
    (Reason::PreviewMissing, |w| {
        w.question.attributes = vec![p("ccas.aides.montant")];
        w.question.ground = Ground::ExplicitRequest { requested_at: noon(), previewed_at: None };
    }),
    (Reason::MandateMissing, |w| w.question.mandate = Some(mandate().id)),
    (Reason::MandateEnded, |w| acting(w, Mandate { ended_at: Some(noon()), ..mandate() })),
    (Reason::MandateNotYetValid, |w| acting(w, Mandate { not_before: shifted(noon(), 1), ..mandate() })),
    (Reason::MandateExpired, |w| acting(w, Mandate { expires_at: noon(), ..mandate() })),
    (Reason::MandateScope, |w| acting(w, Mandate { procedures: [p("rentree")].into(), ..mandate() })),
    (Reason::RequestIdReused, |w| w.earlier = Some(Earlier { content: Digest([2; 32]), ..earlier(w) })),
    (Reason::RequestIdReused, |w| w.earlier = Some(Earlier { retention: Retention::OBJECTIONS, ..earlier(w) })),
    (Reason::RetryTooLate, |w| {
        w.earlier = Some(Earlier { at: Timestamp::from_millis(0), ..earlier(w) });
    }),
    // An operator put the clock back.
    (Reason::RetryTooLate, |w| w.earlier = Some(Earlier { at: shifted(noon(), 1), ..earlier(w) })),
    (Reason::RetryTooOften, |w| w.earlier = Some(Earlier { attempts: Rules::NEWEST.max_attempts(), ..earlier(w) })),
];

fn objection(lapses_at: Timestamp) -> Objection {
    Objection { subject: PERSON, consumer: p(TOWN), procedure: None, by_person: false, lapses_at }
}

fn in_status(world: &mut World, status: ConsentStatus) {
    *world = World::with_consents(&[Consent { status, ..consent(1) }]);
}

/// Somebody acts for the person under `mandate`.
fn acting(world: &mut World, mandate: Mandate) {
    world.question.mandate = Some(mandate.id);
    world.person.mandates.push(Recorded::by(2, mandate));
}

fn filter(world: &mut World, dataset: &str, parameter: &str) {
    world.question.filters.entry(p(dataset)).or_default().insert(parameter.to_owned(), "1".to_owned());
}

fn law_request(world: &mut World, notice: NoticeShown) {
    world.question.ground = Ground::LawRequest { notice };
}

/// A first attempt at the world's question, a moment ago.
fn earlier(world: &World) -> Earlier {
    Earlier {
        exchange: EXCHANGE,
        content: world.question.content,
        at: world.now,
        attempts: 1,
        consent: None,
        index: 9,
        retention: Retention::TRACES,
    }
}

/// Why the world's question is refused; empty where it is permitted.
fn reasons(world: &World) -> Vec<Reason> {
    world.decide().err().map(|refusal| refusal.reasons().to_vec()).unwrap_or_default()
}

#[test]
fn every_reason_is_given_by_the_one_fault_it_stands_for() {
    for (reason, spoil) in WAYS {
        let mut world = World::new();
        spoil(&mut world);
        assert_eq!(reasons(&world), [reason]);
    }
    let reached: BTreeSet<_> = WAYS.iter().map(|(reason, _)| *reason).collect();
    let outside = Refusal::because(Reason::CertificateEnded);
    let all: BTreeSet<_> = reached.into_iter().chain(outside.reasons().iter().copied()).collect();
    assert_eq!(all, Reason::ALL.into());
}

#[test]
fn a_good_question_gets_a_permit_for_what_it_asks_and_nothing_else() {
    let mut world = World::new();
    world.question.attributes.push(p("ccas.aides.montant"));
    filter(&mut world, "dss.quotient_familial", "annee");
    let permit = world.decide().unwrap();
    assert_eq!((permit.exchange(), permit.attempt(), permit.decided_at()), (EXCHANGE, 1, noon()));
    assert_eq!((permit.consumer(), permit.recipient(), permit.subject()), (p(TOWN), p(TOWN), PERSON));
    assert_eq!((permit.procedure().as_str(), permit.habilitation().as_str()), ("cantine", "ville-cantine"));
    assert_eq!((permit.ground(), permit.consent()), (GroundKind::LawRequest, None));
    let asked: Vec<_> = permit.datasets().iter().map(|d| (d.dataset.id.as_str(), d.attributes.clone())).collect();
    assert_eq!(
        asked,
        [
            ("ccas.aides", vec![p("ccas.aides.montant")]),
            ("dss.quotient_familial", vec![p("dss.quotient_familial.valeur")]),
        ]
    );
    assert_eq!(permit.datasets()[1].filter, [("annee".to_owned(), "1".to_owned())].into());
    assert!(permit.datasets()[0].filter.is_empty());
}

#[test]
fn all_faults_are_reported_at_once_in_the_fixed_order() {
    let expected = [
        Reason::KeyNotEnrolled,
        Reason::AttributeUnknown,
        Reason::FilterUnknown,
        Reason::DatasetClassRefused,
        Reason::HabilitationNotActive,
        Reason::HabilitationOutOfDate,
        Reason::ProcedureNotCovered,
        Reason::AttributeNotCovered,
        Reason::RecipientNotCovered,
        Reason::GroundNotCovered,
        Reason::QuotaExhausted,
        Reason::NoticeUnknown,
    ];
    let mut world = World::new();
    world.question.attributes.push(p("dss.quotient_familial.mois"));
    // Made in the other order than they are told.
    for (_, spoil) in WAYS.iter().rev().filter(|(reason, _)| expected.contains(reason)) {
        spoil(&mut world);
    }
    assert_eq!(reasons(&world), expected);
    assert_eq!(world.decide().unwrap_err().first(), Reason::KeyNotEnrolled);
}

#[test]
fn a_key_of_another_participant_or_without_the_role_is_not_enrolled() {
    let mut world = World::new();
    world.question.key = crate::KeyFingerprint([2; 32]);
    assert_eq!(reasons(&world), [Reason::KeyNotEnrolled]);
    let mut world = World::new();
    world.file.participants[0].keys[0].roles = [Role::Audit, Role::Registry].into();
    assert_eq!(reasons(&world), [Reason::KeyNotEnrolled]);
}

#[test]
fn a_habilitation_is_named_or_is_the_only_one_that_covers_the_procedure() {
    let mut world = World::new();
    let other = Habilitation {
        id: p("ville-rentree"),
        procedures: [p("rentree")].into(),
        ..world.file.habilitations[1].clone()
    };
    world.file.habilitations.push(other.clone());
    assert_eq!(world.decide().unwrap().habilitation().as_str(), "ville-cantine", "the other is for another procedure");
    world.file.habilitations[2].procedures = [p("rentree"), p("cantine")].into();
    assert_eq!(reasons(&world), [Reason::HabilitationNotNamed]);
    for named in ["ville-cantine", "ville-rentree"] {
        world.question.habilitation = Some(p(named));
        assert_eq!(world.decide().unwrap().habilitation().as_str(), named);
    }
}

#[test]
fn another_participants_habilitation_reads_as_one_that_does_not_exist() {
    let mut world = World::new();
    world.question.procedure = p("rentree");
    assert_eq!(reasons(&world), [Reason::HabilitationMissing], "the department's covers it");
    let mut read = Vec::new();
    for named in ["departement-rentree", "no-such"] {
        world.question.habilitation = Some(p(named));
        read.push(reasons(&world));
    }
    assert_eq!(read[0], [Reason::HabilitationMissing]);
    assert_eq!(read[0], read[1]);
}

#[test]
fn a_filter_is_for_a_dataset_that_is_asked_and_of_a_name_it_takes() {
    for (dataset, parameter, refused) in [
        ("dss.quotient_familial", "annee", false),
        ("dss.quotient_familial", "jour", true),
        ("ccas.aides", "annee", true),
        ("no.such", "annee", true),
    ] {
        let mut world = World::new();
        filter(&mut world, dataset, parameter);
        let expected: &[Reason] = if refused { &[Reason::FilterUnknown] } else { &[] };
        assert_eq!(reasons(&world), expected, "{dataset} {parameter}");
    }
}

#[test]
fn an_objection_blocks_proactive_use_for_its_procedure_or_for_all_and_no_request_of_the_law() {
    for (objected, blocks) in [(None, true), (Some("cantine"), true), (Some("rentree"), false)] {
        let mut world = World::new();
        let objection = Objection { procedure: objected.map(p), ..objection(shifted(noon(), 1)) };
        world.person.objections.push(Recorded::by(3, objection.clone()));
        assert_eq!(reasons(&world), [], "LAW_REQUEST goes on");
        world.question.ground = Ground::Proactive { notice: notice() };
        let expected: &[Reason] = if blocks { &[Reason::Objection] } else { &[] };
        assert_eq!(reasons(&world), expected, "{objected:?}");
        world.person.objections[0].fact.lapses_at = world.now;
        assert_eq!(reasons(&world), [], "one that lapsed counts no more");
    }
}

#[test]
fn a_preview_is_demanded_where_the_dataset_says_so_and_comes_after_the_request() {
    for (attribute, previewed_ms, refused) in [
        ("dss.quotient_familial.valeur", None, false),
        ("ccas.aides.montant", None, true),
        ("ccas.aides.montant", Some(-1), true),
        ("ccas.aides.montant", Some(0), false),
        ("ccas.aides.montant", Some(1), false),
    ] {
        let mut world = World::new();
        let previewed_at = previewed_ms.map(|ms| shifted(noon(), ms));
        world.question.attributes = vec![p(attribute)];
        world.question.ground = Ground::ExplicitRequest { requested_at: noon(), previewed_at };
        let expected: &[Reason] = if refused { &[Reason::PreviewMissing] } else { &[] };
        assert_eq!(reasons(&world), expected, "{attribute} {previewed_ms:?}");
    }
}
