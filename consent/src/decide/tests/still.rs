//! What ends a right while the sources are asked.

use super::*;

/// Why the permit of a good question no longer holds after `change`; empty where it does.
fn dropped(world: &World, change: fn(&mut World)) -> Vec<Reason> {
    let permit = world.decide().unwrap();
    let mut after = world.clone();
    change(&mut after);
    let judged = still_permitted(&after.registry(), &after.person, &permit, after.now);
    judged.err().map(|refusal| refusal.reasons().to_vec()).unwrap_or_default()
}

#[test]
fn a_right_that_ends_meanwhile_drops_the_answer() {
    let ends: [Way; 11] = [
        (Reason::KeyNotEnrolled, |w| w.file.participants[0].keys.clear()),
        (Reason::KeyNotEnrolled, |w| w.file.participants[0].keys[0].roles = [Role::Audit].into()),
        (Reason::HabilitationMissing, |w| w.file.habilitations.clear()),
        (Reason::HabilitationMissing, |w| w.file.habilitations[1].participant = p(crate::testing::DEPARTMENT)),
        (Reason::HabilitationNotActive, |w| w.file.habilitations[1].status = HabilitationStatus::Revoked),
        (Reason::HabilitationOutOfDate, |w| w.file.habilitations[1].valid_until = w.now),
        (Reason::HabilitationOutOfDate, |w| w.now = w.file.habilitations[1].valid_until),
        (Reason::ProcedureNotCovered, |w| w.file.habilitations[1].procedures.clear()),
        (Reason::AttributeNotCovered, |w| w.file.habilitations[1].attributes.clear()),
        (Reason::RecipientNotCovered, |w| w.file.habilitations[1].recipients.clear()),
        (Reason::GroundNotCovered, |w| w.file.habilitations[1].grounds.clear()),
    ];
    for (reason, end) in ends {
        assert_eq!(dropped(&World::new(), end), [reason]);
    }
}

#[test]
fn a_consent_that_ends_meanwhile_drops_the_answer() {
    let ends: [Way; 4] = [
        (Reason::ConsentMissing, |w| w.person.consents.clear()),
        (Reason::ConsentWithdrawn, |w| {
            w.person.consents[0].fact.status = ConsentStatus::Withdrawn { at: noon(), by: DecidedBy::Administration }
        }),
        (Reason::ConsentNotYetValid, |w| w.person.consents[0].fact.not_before = shifted(noon(), 1)),
        (Reason::ConsentExpired, |w| w.now = w.person.consents[0].expires_at),
    ];
    for (reason, end) in ends {
        assert_eq!(dropped(&World::with_consents(&[consent(1)]), end), [reason]);
    }
}

#[test]
fn a_consent_that_the_person_or_an_authority_stops_meanwhile_drops_the_answer() {
    let ends: [Way; 3] = [
        (Reason::ConsentPaused, |w| {
            w.person.consents[0].fact.status = ConsentStatus::Paused { at: noon(), by: DecidedBy::Administration }
        }),
        (Reason::ConsentRevoked, |w| w.person.consents[0].fact.status = ConsentStatus::Revoked { at: noon() }),
        (Reason::ConsentInvalidated, |w| w.person.consents[0].fact.status = ConsentStatus::Invalidated { at: noon() }),
    ];
    for (reason, end) in ends {
        assert_eq!(dropped(&World::with_consents(&[consent(1)]), end), [reason]);
    }
}

#[test]
fn a_mandate_that_ends_meanwhile_drops_the_answer() {
    let mut world = World::new();
    acting(&mut world, mandate());
    assert_eq!(dropped(&world, |_| {}), []);
    assert_eq!(dropped(&world, |w| w.person.mandates[0].fact.ended_at = Some(w.now)), [Reason::MandateEnded]);
    assert_eq!(dropped(&world, |w| w.now = w.person.mandates[0].expires_at), [Reason::MandateExpired]);
    assert_eq!(dropped(&world, |w| w.person.mandates.clear()), [Reason::MandateMissing]);
}

#[test]
fn a_one_time_consent_that_this_exchange_used_still_holds() {
    let one_time = Consent { usage: ConsentUse::OneTime, ..consent(1) };
    assert_eq!(dropped(&World::with_consents(&[one_time]), |w| w.person.consents[0].fact.uses = 1), []);
}

#[test]
fn an_objection_meanwhile_drops_proactive_answers_only() {
    let object: fn(&mut World) = |w| {
        let objection = Objection { procedure: Some(p("cantine")), ..objection(shifted(noon(), 1)) };
        w.person.objections.push(Recorded::by(3, objection));
    };
    assert_eq!(dropped(&World::new(), object), []);
    let mut proactive = World::new();
    proactive.question.ground = Ground::Proactive { notice: notice() };
    assert_eq!(dropped(&proactive, object), [Reason::Objection]);
    assert_eq!(
        dropped(&proactive, |w| {
            let objection = Objection { procedure: Some(p("rentree")), ..objection(shifted(noon(), 1)) };
            w.person.objections.push(Recorded::by(3, objection));
        }),
        []
    );
}

#[test]
fn what_does_not_touch_the_right_drops_nothing() {
    let harmless: [fn(&mut World); 3] = [
        |_| {},
        |w| w.used.0 = [(w.now.day(), u64::MAX)].into(),
        |w| w.file.habilitations[1].attributes.retain(|a| a.as_str() == "dss.quotient_familial.valeur"),
    ];
    for change in harmless {
        assert_eq!(dropped(&World::new(), change), []);
    }
}
