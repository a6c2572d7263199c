//! States, transitions and scope of a consent.

use super::*;
use crate::testing::{consent, noon, p, shifted};

fn requested() -> Consent {
    let status = ConsentStatus::Requested { answer_by: shifted(noon(), 500), code: p("4F7K-92QX") };
    Consent { status, ..consent(1) }
}

/// A consent in each status.
fn each() -> [(Consent, ConsentState); 7] {
    let at = shifted(noon(), -10);
    let with = |status| Consent { status, ..consent(1) };
    [
        (requested(), ConsentState::Requested),
        (with(ConsentStatus::Granted), ConsentState::Given),
        (with(ConsentStatus::Refused { at }), ConsentState::Refused),
        (with(ConsentStatus::Paused { at, by_person: false }), ConsentState::Paused),
        (with(ConsentStatus::Withdrawn { at }), ConsentState::Withdrawn),
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
            match consent.decided(decision, false, noon()) {
                Ok(Some(_)) => "+",
                Ok(None) => "=",
                Err(_) => "-",
            }
        });
        assert_eq!(found.join(" "), row, "{state:?}");
    }
}

#[test]
fn what_a_person_paused_no_administration_resumes() {
    let paused = |by_person| Consent { status: ConsentStatus::Paused { at: noon(), by_person }, ..consent(1) };
    let later = shifted(noon(), 1);
    assert_eq!(paused(false).decided(Decision::Resume, false, later), Ok(Some(ConsentStatus::Granted)));
    assert_eq!(paused(true).decided(Decision::Resume, true, later), Ok(Some(ConsentStatus::Granted)));
    assert!(paused(true).decided(Decision::Resume, false, later).is_err());
    // The person makes a pause their own, and nobody takes that from them.
    let own = ConsentStatus::Paused { at: later, by_person: true };
    assert_eq!(paused(false).decided(Decision::Pause, true, later), Ok(Some(own)));
    for by_person in [false, true] {
        assert_eq!(paused(true).decided(Decision::Pause, by_person, later), Ok(None));
    }
    assert!(paused(true).decided(Decision::Withdraw, false, later).unwrap().is_some());
}

#[test]
fn what_is_late_cannot_be_refused_or_paused_but_can_be_withdrawn() {
    assert!(requested().decided(Decision::Refuse, false, shifted(noon(), 500)).is_err());
    let late = shifted(noon(), 1_000);
    assert!(consent(1).decided(Decision::Pause, false, late).is_err());
    assert!(consent(1).decided(Decision::Withdraw, false, late).unwrap().is_some());
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
    used.status = ConsentStatus::Withdrawn { at: noon() };
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
