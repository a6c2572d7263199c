//! States, transitions and scope of a consent.

use super::*;
use crate::testing::{consent, noon, p, shifted};

fn requested() -> Consent {
    let status = ConsentStatus::Requested { answer_by: shifted(noon(), 500), code: p("4F7K-92QX") };
    Consent { status, ..consent(1) }
}

/// A consent in each status.
fn each() -> [(Consent, ConsentState); 7] {
    let (at, by) = (shifted(noon(), -10), DecidedBy::Administration);
    let with = |status| Consent { status, ..consent(1) };
    [
        (requested(), ConsentState::Requested),
        (with(ConsentStatus::Granted), ConsentState::Given),
        (with(ConsentStatus::Refused { at, by }), ConsentState::Refused),
        (with(ConsentStatus::Paused { at, by }), ConsentState::Paused),
        (with(ConsentStatus::Withdrawn { at, by }), ConsentState::Withdrawn),
        (with(ConsentStatus::Revoked { at }), ConsentState::Revoked),
        (with(ConsentStatus::Invalidated { at }), ConsentState::Invalidated),
    ]
}

#[test]
fn a_state_follows_from_the_last_decision_the_dates_and_the_uses() {
    for (consent, expected) in each() {
        assert_eq!(consent.state(noon()), expected);
    }
    let end = shifted(noon(), 1_000);
    assert_eq!(consent(1).state(shifted(end, -1)), ConsentState::Given);
    assert_eq!(consent(1).state(end), ConsentState::Expired);
    assert_eq!(requested().state(shifted(noon(), 499)), ConsentState::Requested);
    assert_eq!(requested().state(shifted(noon(), 500)), ConsentState::Lapsed);
    assert_eq!(Consent { version: 2, ..consent(1) }.state(noon()), ConsentState::Renewed);
    let mut once = Consent { usage: ConsentUse::OneTime, ..consent(1) };
    once.count_use(noon());
    assert_eq!(once.state(noon()), ConsentState::Exhausted);
}

#[test]
fn a_decision_is_taken_from_the_states_that_allow_it_and_no_other() {
    use Decision::{Invalidate, Pause, Refuse, Resume, Revoke, Withdraw};
    // For each state: what is possible (+), what changes nothing (=), in the order of the decisions.
    let expected = [
        (ConsentState::Requested, "+ - - - + +"),
        (ConsentState::Given, "- + = + + +"),
        (ConsentState::Refused, "= - - - - -"),
        (ConsentState::Paused, "- = + + + +"),
        (ConsentState::Withdrawn, "- - - = - -"),
        (ConsentState::Revoked, "- - - - = -"),
        (ConsentState::Invalidated, "- - - - - ="),
    ];
    for ((consent, state), (named, row)) in each().into_iter().zip(expected) {
        assert_eq!(state, named);
        let found = [Refuse, Pause, Resume, Withdraw, Revoke, Invalidate].map(|decision| {
            match consent.decided(decision, DecidedBy::Administration, noon()) {
                Ok(Some(_)) => "+",
                Ok(None) => "=",
                Err(_) => "-",
            }
        });
        assert_eq!(found.join(" "), row, "{state:?}");
    }
}

#[test]
fn what_a_proven_person_decided_that_person_undoes_and_makes_their_own() {
    use DecidedBy::{Administration, Person, Representative};
    let under = |byte| Representative { mandate: MandateId([byte; 16]) };
    let (all, later) = ([Administration, under(1), under(2), Person], shifted(noon(), 1));
    for already in all {
        let with = |status| Consent { status, ..consent(1) };
        let paused = with(ConsentStatus::Paused { at: noon(), by: already });
        let withdrawn = with(ConsentStatus::Withdrawn { at: noon(), by: already });
        let refused = with(ConsentStatus::Refused { at: noon(), by: already });
        for by in all {
            let resumed = paused.decided(Decision::Resume, by, later);
            assert_eq!(
                resumed.ok(),
                already.yields_to(by).then_some(Some(ConsentStatus::Granted)),
                "{already:?} {by:?}"
            );
            // Who withdraws asks for less, whoever paused.
            let ended = paused.decided(Decision::Withdraw, by, later);
            assert_eq!(ended, Ok(Some(ConsentStatus::Withdrawn { at: later, by })));
            let takes_over = by.takes_over(already);
            let own = |status| Ok(takes_over.then_some(status));
            assert_eq!(paused.decided(Decision::Pause, by, later), own(ConsentStatus::Paused { at: later, by }));
            let at = noon();
            assert_eq!(withdrawn.decided(Decision::Withdraw, by, later), own(ConsentStatus::Withdrawn { at, by }));
            assert_eq!(refused.decided(Decision::Refuse, by, later), own(ConsentStatus::Refused { at, by }));
        }
    }
}

#[test]
fn a_consent_is_asked_again_for_the_same_procedure_or_for_an_attribute_and_a_recipient_of_it() {
    let held = consent(1);
    let changed = |change: fn(&mut Consent)| {
        let mut given = Consent { id: ConsentId([9; 16]), ..held.clone() };
        change(&mut given);
        (held.is_asked_again_by(&given), held.is_all_within(&given))
    };
    assert_eq!(changed(|_| {}), (true, true));
    assert_eq!(changed(|c| c.attributes = [p("mesri.statut_etudiant.statut")].into()), (true, false));
    assert_eq!(changed(|c| c.procedure = p("rentree")), (true, false));
    assert_eq!(changed(|c| c.recipients = [c.consumer, p("12345678200010")].into()), (true, true));
    assert_eq!(changed(|c| (c.procedure, c.recipients) = (p("rentree"), [p("12345678200010")].into())), (false, false));
    let others =
        |c: &mut Consent| (c.procedure, c.attributes) = (p("rentree"), [p("mesri.statut_etudiant.statut")].into());
    assert_eq!(changed(others), (false, false));
    assert_eq!(changed(|c| c.subject = SubjectRef([9; 16])), (false, false));
    assert_eq!(changed(|c| c.consumer = p("12345678200010")), (false, false));
}

#[test]
fn what_is_late_cannot_be_refused_or_paused_but_can_be_withdrawn() {
    assert!(requested().decided(Decision::Refuse, DecidedBy::Person, shifted(noon(), 500)).is_err());
    let late = shifted(noon(), 1_000);
    assert!(consent(1).decided(Decision::Pause, DecidedBy::Person, late).is_err());
    assert!(consent(1).decided(Decision::Withdraw, DecidedBy::Person, late).unwrap().is_some());
}

#[test]
fn each_state_has_a_status_of_the_data_privacy_vocabulary() {
    let mut names: Vec<_> = ConsentState::ALL.iter().map(|state| state.dpv()).collect();
    assert!(ConsentState::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    names.sort_unstable();
    names.dedup();
    // Used up is an end of validity to the vocabulary; every other state has a name of its own.
    assert_eq!(names.len(), ConsentState::ALL.len() - 1);
}

#[test]
fn a_period_holds_the_months_that_are_asked_for_by_year_and_month() {
    let period = DataPeriod { from: p("2025-03"), to: p("2026-12") };
    let filter =
        |pairs: &[(&str, &str)]| -> Filter { pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() };
    for inside in [&[("annee", "2025"), ("mois", "3")][..], &[("annee", "2026"), ("mois", "12")], &[("annee", "2026")]]
    {
        assert!(period.contains(Some(&filter(inside))), "{inside:?}");
    }
    for outside in [
        &[("annee", "2025"), ("mois", "02")][..],
        &[("annee", "2025")],
        &[("annee", "2027"), ("mois", "1")],
        &[("annee", "2026"), ("mois", "13")],
        &[("mois", "4")],
        &[("annee", "x")],
        &[],
    ] {
        assert!(!period.contains(Some(&filter(outside))), "{outside:?}");
    }
    assert!(!period.contains(None));
}

#[test]
fn the_digest_of_a_version_does_not_change_with_its_uses_and_its_end() {
    let given = consent(1);
    let mut used = given.clone();
    used.count_use(noon());
    used.status = ConsentStatus::Withdrawn { at: noon(), by: DecidedBy::Person };
    assert_eq!(used.version_digest(), given.version_digest());
    assert_ne!(Consent { version: 2, ..given.clone() }.version_digest(), given.version_digest());
}

#[test]
fn a_consent_of_an_older_layout_reads_and_keeps_its_text() {
    let old = Consent { schema: 1, ..consent(1) };
    let text = serde_json::to_string(&old).unwrap();
    for new in ["schema", "version", "previous", "grantor", "assurance", "recipients", "sources", "filters", "period"] {
        assert!(!text.contains(&format!("\"{new}\"")), "{new}");
    }
    assert_eq!(serde_json::from_str::<Consent>(&text).unwrap(), old);
}
