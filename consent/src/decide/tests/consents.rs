//! Which consent an exchange uses.

use super::*;

const ONE_TIME: ConsentUse = ConsentUse::OneTime;

fn used(world: &World) -> Option<ConsentId> {
    world.decide().unwrap().consent()
}

#[test]
fn the_newest_consent_that_passes_is_used() {
    let withdrawn =
        Consent { status: ConsentStatus::Withdrawn { at: noon(), by: DecidedBy::Administration }, ..consent(3) };
    let world = World::with_consents(&[withdrawn.clone(), consent(2), consent(1)]);
    assert_eq!(used(&world), Some(ConsentId([2; 16])));
    let expired = Consent { expires_at: noon(), ..consent(2) };
    let world = World::with_consents(&[withdrawn, expired]);
    assert_eq!(reasons(&world), [Reason::ConsentWithdrawn], "the newest one's fault is told");
}

#[test]
fn a_named_consent_is_used_or_nothing() {
    let mut world = World::with_consents(&[consent(2), Consent { expires_at: noon(), ..consent(1) }]);
    world.question.ground = Ground::Consent { consent: Some(ConsentId([2; 16])) };
    assert_eq!(used(&world), Some(ConsentId([2; 16])));
    world.question.ground = Ground::Consent { consent: Some(ConsentId([1; 16])) };
    assert_eq!(reasons(&world), [Reason::ConsentExpired]);
    world.question.ground = Ground::Consent { consent: Some(ConsentId([9; 16])) };
    assert_eq!(reasons(&world), [Reason::ConsentMissing]);
}

#[test]
fn another_consumers_subjects_or_procedures_consent_reads_as_none() {
    let elsewhere: [fn(&mut Consent); 3] = [
        |c| c.consumer = p(crate::testing::DEPARTMENT),
        |c| c.subject = SubjectRef([6; 16]),
        |c| c.procedure = p("rentree"),
    ];
    for change in elsewhere {
        // Withdrawn and expired: nothing of that may show.
        let mut other = Consent {
            status: ConsentStatus::Withdrawn { at: noon(), by: DecidedBy::Administration },
            expires_at: Timestamp::from_millis(0),
            ..consent(1)
        };
        change(&mut other);
        for named in [None, Some(other.id)] {
            let mut world = World::with_consents(&[other.clone()]);
            world.question.ground = Ground::Consent { consent: named };
            assert_eq!(world.decide(), World::with_consents(&[]).decide());
        }
    }
}

#[test]
fn a_one_time_consent_is_used_once_and_again_only_by_a_retry_of_the_same_exchange() {
    let mut world = World::with_consents(&[Consent { usage: ONE_TIME, ..consent(1) }]);
    assert_eq!(used(&world), Some(ConsentId([1; 16])));
    world.person.consents[0].fact.uses = 1;
    assert_eq!(reasons(&world), [Reason::ConsentUsed]);
    world.earlier = Some(Earlier { consent: Some(ConsentId([1; 16])), ..earlier(&world) });
    assert_eq!(used(&world), Some(ConsentId([1; 16])));
    world.earlier = Some(Earlier { consent: Some(ConsentId([2; 16])), ..earlier(&world) });
    assert_eq!(reasons(&world), [Reason::ConsentMissing], "the first attempt used another consent");
}

#[test]
fn a_repeated_consent_is_used_any_number_of_times() {
    let world = World::with_consents(&[Consent { uses: u64::MAX, ..consent(1) }]);
    assert_eq!(used(&world), Some(ConsentId([1; 16])));
}

#[test]
fn a_retry_stands_on_the_consent_of_its_first_attempt_and_uses_up_no_other() {
    let first = Consent { usage: ONE_TIME, uses: 1, ..consent(1) };
    let newer = Consent { usage: ONE_TIME, ..consent(2) };
    let mut world = World::with_consents(&[newer, first]);
    world.earlier = Some(Earlier { consent: Some(ConsentId([1; 16])), ..earlier(&world) });
    assert_eq!(used(&world), Some(ConsentId([1; 16])));
    world.person.consents[1].fact.status = ConsentStatus::Withdrawn { at: noon(), by: DecidedBy::Administration };
    assert_eq!(reasons(&world), [Reason::ConsentWithdrawn]);
}

#[test]
fn every_fault_of_one_consent_is_told() {
    let spoilt = Consent {
        status: ConsentStatus::Withdrawn { at: noon(), by: DecidedBy::Administration },
        not_before: shifted(noon(), 1),
        expires_at: noon(),
        usage: ONE_TIME,
        uses: 1,
        attributes: BTreeSet::new(),
        ..consent(1)
    };
    let expected = [
        Reason::ConsentWithdrawn,
        Reason::ConsentNotYetValid,
        Reason::ConsentExpired,
        Reason::ConsentUsed,
        Reason::ConsentScope,
    ];
    assert_eq!(reasons(&World::with_consents(&[spoilt])), expected);
}

#[test]
fn a_periodic_consent_is_used_so_often_in_each_window_and_again_in_the_next() {
    let usage = ConsentUse::Periodic(Frequency { times: 2, per: TimeUnit::Hour });
    let not_before = shifted(noon(), -1_800_000);
    let mut world =
        World::with_consents(&[Consent { usage, not_before, expires_at: p("2026-12-01T00:00:00Z"), ..consent(1) }]);
    for _ in 0..2 {
        assert_eq!(used(&world), Some(ConsentId([1; 16])));
        world.person.consents[0].fact.count_use(world.now);
    }
    assert_eq!(reasons(&world), [Reason::ConsentFrequency]);
    world.now = shifted(noon(), 1_799_999);
    assert_eq!(reasons(&world), [Reason::ConsentFrequency], "the last moment of the window");
    world.now = shifted(noon(), 1_800_000);
    assert_eq!(used(&world), Some(ConsentId([1; 16])));
}

#[test]
fn a_consent_is_for_its_sources_filters_and_months() {
    let asked = |change: fn(&mut Consent)| {
        let mut agreed = consent(1);
        change(&mut agreed);
        let mut world = World::with_consents(&[agreed]);
        filter(&mut world, "dss.quotient_familial", "annee");
        world.question.filters.values_mut().next().unwrap().insert("annee".to_owned(), "2026".to_owned());
        reasons(&world)
    };
    let covered: [fn(&mut Consent); 4] = [
        |c| c.sources = [p(crate::testing::DEPARTMENT)].into(),
        |c| c.filters = [(p("dss.quotient_familial"), [("annee".to_owned(), "2026".to_owned())].into())].into(),
        |c| c.filters = [(p("ccas.aides"), Filter::new())].into(),
        |c| c.period = Some(DataPeriod { from: p("2026-01"), to: p("2026-12") }),
    ];
    for change in covered {
        assert_eq!(asked(change), []);
    }
    let beyond: [fn(&mut Consent); 3] = [
        |c| c.sources = [p(TOWN)].into(),
        |c| c.filters = [(p("dss.quotient_familial"), Filter::new())].into(),
        |c| c.period = Some(DataPeriod { from: p("2026-02"), to: p("2026-12") }),
    ];
    for change in beyond {
        assert_eq!(asked(change), [Reason::ConsentScope]);
    }
}

#[test]
fn a_consent_by_a_representative_is_in_force_only_as_long_as_the_mandate() {
    let given = Consent { grantor: Grantor::Representative { mandate: mandate().id }, ..consent(1) };
    let reasons_under = |mandates: Vec<Mandate>| {
        let mut world = World::with_consents(std::slice::from_ref(&given));
        world.person.mandates = crate::testing::recorded(mandates);
        reasons(&world)
    };
    assert_eq!(reasons_under(vec![mandate()]), []);
    assert_eq!(reasons_under(vec![]), [Reason::MandateMissing]);
    assert_eq!(reasons_under(vec![Mandate { ended_at: Some(noon()), ..mandate() }]), [Reason::MandateEnded]);
    assert_eq!(reasons_under(vec![Mandate { expires_at: noon(), ..mandate() }]), [Reason::MandateExpired]);
}

#[test]
fn a_mandate_towards_another_administration_or_for_another_person_reads_as_none() {
    let elsewhere = [
        Mandate { consumer: p(crate::testing::DEPARTMENT), ended_at: Some(noon()), ..mandate() },
        Mandate { principal: SubjectRef([6; 16]), ended_at: Some(noon()), ..mandate() },
    ];
    for other in elsewhere {
        let mut world = World::new();
        acting(&mut world, other);
        assert_eq!(reasons(&world), [Reason::MandateMissing]);
    }
}
