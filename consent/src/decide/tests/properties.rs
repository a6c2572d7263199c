//! What holds of every question, registry and person.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

const ATTRIBUTES: [&str; 4] =
    ["ccas.aides.montant", "dss.quotient_familial.mois", "dss.quotient_familial.valeur", "no.such.attribute"];
const GROUNDS: [GroundKind; 4] =
    [GroundKind::LawRequest, GroundKind::Proactive, GroundKind::Consent, GroundKind::ExplicitRequest];

/// Instants around the edges that the fixtures know.
fn instant() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        8 => (-2_000_i64..2_000).prop_map(|ms| shifted(noon(), ms)),
        1 => any::<u64>().prop_map(Timestamp::from_millis),
    ]
}

fn attributes(least: usize) -> impl Strategy<Value = Vec<AttributeId>> {
    subsequence(ATTRIBUTES.to_vec(), least..=4).prop_map(|names| names.into_iter().map(p).collect())
}

fn ground() -> impl Strategy<Value = Ground> {
    let shown = || (1..3_u32, instant()).prop_map(|(version, shown_at)| NoticeShown { version, shown_at, ..notice() });
    prop_oneof![
        shown().prop_map(|notice| Ground::LawRequest { notice }),
        shown().prop_map(|notice| Ground::Proactive { notice }),
        proptest::option::of(0..3_u8).prop_map(|id| Ground::Consent { consent: id.map(|id| ConsentId([id; 16])) }),
        (instant(), proptest::option::of(instant()))
            .prop_map(|(requested_at, previewed_at)| Ground::ExplicitRequest { requested_at, previewed_at }),
    ]
}

fn some_consent() -> impl Strategy<Value = Consent> {
    (0..3_u8, attributes(1), any::<bool>(), 0..2_u64, instant(), instant()).prop_map(
        |(id, attributes, once, uses, not_before, expires_at)| Consent {
            attributes: attributes.into_iter().collect(),
            usage: if once { ConsentUse::OneTime } else { ConsentUse::Repeated },
            uses,
            not_before,
            expires_at,
            ..consent(id)
        },
    )
}

fn some_habilitation() -> impl Strategy<Value = Habilitation> {
    let statuses = [HabilitationStatus::Active, HabilitationStatus::Active, HabilitationStatus::Revoked];
    let procedures = subsequence(vec!["cantine", "rentree"], 1..=2);
    let recipients = subsequence(vec![TOWN, crate::testing::DEPARTMENT], 1..=2);
    let grounds = subsequence(GROUNDS.to_vec(), 1..=4);
    (0..3_u8, procedures, attributes(2), grounds, recipients, select(statuses.to_vec()), proptest::option::of(0..3_u64))
        .prop_map(|(id, procedures, attributes, grounds, recipients, status, quota_per_day)| Habilitation {
            id: p(&format!("ville-{id}")),
            procedures: procedures.into_iter().map(p).collect(),
            attributes: attributes.into_iter().collect(),
            grounds: grounds.into_iter().collect(),
            recipients: recipients.into_iter().map(p).collect(),
            status,
            quota_per_day,
            ..World::new().file.habilitations[1].clone()
        })
}

fn some_question() -> impl Strategy<Value = Question> {
    let habilitation = proptest::option::of((0..3_u8).prop_map(|id| p(&format!("ville-{id}"))));
    (attributes(0), ground(), habilitation, any::<bool>(), any::<bool>()).prop_map(
        |(attributes, ground, habilitation, other_recipient, filtered)| {
            let mut world = World::new();
            if filtered {
                filter(&mut world, "dss.quotient_familial", "annee");
            }
            let recipient = if other_recipient { p(crate::testing::DEPARTMENT) } else { p(TOWN) };
            Question { attributes, ground, habilitation, recipient, ..world.question }
        },
    )
}

fn world() -> impl Strategy<Value = World> {
    let earlier = proptest::option::of((instant(), 0..7_u32, proptest::option::of(0..3_u8), any::<bool>()));
    let consents = proptest::collection::vec(some_consent(), 0..3);
    let habilitations = proptest::collection::vec(some_habilitation(), 0..3);
    (some_question(), habilitations, consents, earlier, any::<bool>(), 0..3_u64, instant()).prop_map(
        |(question, habilitations, consents, earlier, objects, used, now)| {
            let mut world = World { question, now, ..World::new() };
            world.file.habilitations = habilitations;
            world.person.consents = crate::testing::recorded(consents);
            if objects {
                world.person.objections.push(Recorded::by(3, objection(shifted(noon(), 1))));
            }
            world.used.0 = [(now.day(), used)].into();
            world.earlier = earlier.map(|(at, attempts, consent, same)| Earlier {
                exchange: ExchangeId([3; 16]),
                content: if same { world.question.content } else { Digest([2; 32]) },
                at,
                attempts,
                consent: consent.map(|id| ConsentId([id; 16])),
                index: 9,
                retention: Retention::TRACES,
            });
            world
        },
    )
}

proptest! {
    #[test]
    fn a_decision_is_total_and_follows_from_its_facts_alone(world in world()) {
        let decided = world.decide();
        prop_assert_eq!(&decided, &world.clone().decide());
        if let Err(refusal) = decided {
            prop_assert!(!refusal.reasons().is_empty());
            prop_assert!(refusal.reasons().windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn a_permit_holds_exactly_what_was_asked_and_all_of_it_within_the_habilitation(world in world()) {
        let Ok(permit) = world.decide() else { return Ok(()) };
        let mut asked = world.question.attributes.clone();
        let mut permitted: Vec<_> = permit.datasets().iter().flat_map(|d| d.attributes.clone()).collect();
        asked.sort();
        permitted.sort();
        prop_assert_eq!(asked, permitted);
        let registry = world.registry();
        let habilitation = registry.habilitation(permit.habilitation()).unwrap();
        prop_assert_eq!(habilitation.participant, permit.consumer());
        prop_assert!(habilitation.procedures.contains(permit.procedure()));
        prop_assert!(habilitation.recipients.contains(&permit.recipient()));
        prop_assert!(habilitation.grounds.contains(&permit.ground()));
        for dataset in permit.datasets() {
            prop_assert!(dataset.attributes.iter().all(|a| a.dataset() == dataset.dataset.id.as_str()));
            prop_assert!(dataset.attributes.iter().all(|a| habilitation.attributes.contains(a)));
        }
        prop_assert_eq!(permit.consent().is_some(), permit.ground() == GroundKind::Consent);
        prop_assert!(still_permitted(&registry, &world.person, &permit, world.now).is_ok());
    }

    #[test]
    fn a_right_taken_away_never_permits_what_was_refused(world in world(), which in 0..4_u8, at in any::<prop::sample::Index>()) {
        let Err(before) = world.decide() else { return Ok(()) };
        let mut less = world.clone();
        for habilitation in &mut less.file.habilitations {
            match which {
                0 => drop(without(&mut habilitation.attributes, at)),
                1 => drop(without(&mut habilitation.grounds, at)),
                2 => drop(without(&mut habilitation.recipients, at)),
                _ => drop(without(&mut habilitation.procedures, at)),
            }
        }
        // Of two habilitations that cover the procedure one may be left, which then needs no name.
        let ambiguous = before.reasons() == [Reason::HabilitationNotNamed];
        prop_assert!(less.decide().is_err() || ambiguous);
    }
}

fn without<T: Ord + Clone>(rights: &mut BTreeSet<T>, at: prop::sample::Index) -> Option<T> {
    let right = rights.iter().nth(at.index(rights.len())).cloned()?;
    rights.take(&right)
}
