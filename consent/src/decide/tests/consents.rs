//! Which consent an exchange uses.

use super::*;

const ONE_TIME: ConsentUse = ConsentUse::OneTime;

fn used(world: &World) -> Option<ConsentId> {
    world.decide().unwrap().consent()
}

#[test]
fn the_newest_consent_that_passes_is_used() {
    let withdrawn = Consent { status: ConsentStatus::Withdrawn { at: noon() }, ..consent(3) };
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
            status: ConsentStatus::Withdrawn { at: noon() },
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
    world.person.consents[0].uses = 1;
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
    world.person.consents[1].status = ConsentStatus::Withdrawn { at: noon() };
    assert_eq!(reasons(&world), [Reason::ConsentWithdrawn]);
}

#[test]
fn every_fault_of_one_consent_is_told() {
    let spoilt = Consent {
        status: ConsentStatus::Withdrawn { at: noon() },
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
