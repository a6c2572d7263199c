//! Each rule of a consent and of a mandate, and each way to break it.

use super::*;
use crate::consent::DataPeriod;
use crate::testing::{DEPARTMENT, PERSON, TOWN, World, consent, mandate, noon, p, shifted};
use crate::{
    Digest, EidasLevel, Filter, Frequency, Grantor, IdentityAssurance, Language, MandateId, RequestCode, SubjectRef,
};

/// The field that is named, and a way to spoil it.
type Spoilt = (&'static str, fn(&mut Consent));

/// A consent that breaks no rule.
fn good(registry: &Registry) -> Consent {
    let notice = registry.procedure(&p("cantine")).unwrap().notice(1).unwrap().digest(Language::Fr);
    Consent { notice_digest: notice, sources: [p(DEPARTMENT)].into(), ..consent(1) }
}

/// The field that is found wrong after `change`; empty where none is.
fn fault(change: impl FnOnce(&mut Consent)) -> String {
    let registry = World::new().registry();
    let mut changed = good(&registry);
    change(&mut changed);
    let checked = check_consent(&registry, &changed, Some(&mandate()), noon());
    checked.err().map(|fault| fault.field).unwrap_or_default()
}

fn authenticated(at: Timestamp) -> IdentityAssurance {
    IdentityAssurance { level: EidasLevel::Low, acr: "eidas1".to_owned(), authenticated_at: at }
}

#[test]
fn a_good_consent_breaks_no_rule() {
    let good: [fn(&mut Consent); 8] = [
        |_| {},
        |c| c.recipients = [p(TOWN)].into(),
        |c| c.filters = [(p("dss.quotient_familial"), [("annee".to_owned(), "2026".to_owned())].into())].into(),
        |c| c.period = Some(DataPeriod { from: p("2026-01"), to: p("2026-01") }),
        |c| c.data_life = DataLife::Store { value: 12, unit: TimeUnit::Month },
        |c| c.usage = ConsentUse::Periodic(Frequency { times: 1, per: TimeUnit::Hour }),
        |c| c.grantor = Grantor::Representative { mandate: mandate().id },
        |c| c.assurance = Some(authenticated(shifted(noon(), 120_000))),
    ];
    for change in good {
        assert_eq!(fault(change), "");
    }
}

#[test]
fn each_way_to_break_a_rule_names_its_field() {
    let bad: [Spoilt; 20] = [
        ("procedure", |c| c.procedure = p("no-such")),
        ("notice_version", |c| c.notice_version = 2),
        ("notice_sha256", |c| c.notice_digest = Digest([7; 32])),
        ("notice_sha256", |c| c.language = Language::En),
        ("attributes", |c| c.attributes.clear()),
        ("attributes", |c| c.attributes.extend([p("dss.quotient_familial.adresse")])),
        ("attributes", |c| c.consumer = p(DEPARTMENT)),
        ("recipients", |c| c.recipients = [p(DEPARTMENT)].into()),
        ("sources", |c| c.sources = [p(TOWN)].into()),
        ("filters", |c| c.filters = [(p("ccas.aides"), Filter::new())].into()),
        ("filters", |c| {
            c.filters = [(p("dss.quotient_familial"), [("jour".to_owned(), "1".to_owned())].into())].into();
        }),
        ("period", |c| c.period = Some(DataPeriod { from: p("2026-02"), to: p("2026-01") })),
        ("data_life", |c| c.data_life = DataLife::Store { value: 0, unit: TimeUnit::Month }),
        ("data_life", |c| c.data_life = DataLife::Store { value: 13, unit: TimeUnit::Month }),
        ("expires_at", |c| c.expires_at = c.not_before),
        ("expires_at", |c| c.expires_at = noon()),
        ("expires_at", |c| c.expires_at = p("2027-09-01T12:00:00.001Z")),
        ("frequency.times", |c| c.usage = ConsentUse::Periodic(Frequency { times: 0, per: TimeUnit::Day })),
        ("mandate_id", |c| c.grantor = Grantor::Representative { mandate: MandateId([9; 16]) }),
        ("assurance.authenticated_at", |c| c.assurance = Some(authenticated(shifted(noon(), 120_001)))),
    ];
    for (field, change) in bad {
        assert_eq!(fault(change), field);
    }
}

#[test]
fn months_are_agreed_only_for_datasets_that_can_be_asked_by_year() {
    let wanted = |c: &mut Consent| {
        c.attributes = [p("ccas.aides.montant")].into();
        c.period = Some(DataPeriod { from: p("2026-01"), to: p("2026-01") });
    };
    assert_eq!(fault(wanted), "period");
}

#[test]
fn a_representative_gives_no_consent_past_the_mandate_or_under_one_that_is_not_in_force() {
    let registry = World::new().registry();
    let given = Consent { grantor: Grantor::Representative { mandate: mandate().id }, ..good(&registry) };
    let field = |mandate: Mandate| {
        let checked = check_consent(&registry, &given, Some(&mandate), noon());
        checked.err().map(|fault| fault.field).unwrap_or_default()
    };
    assert_eq!(field(mandate()), "");
    assert_eq!(field(Mandate { expires_at: shifted(noon(), 999), ..mandate() }), "expires_at");
    for useless in [
        Mandate { ended_at: Some(noon()), ..mandate() },
        Mandate { not_before: shifted(noon(), 1), ..mandate() },
        Mandate { procedures: [p("rentree")].into(), ..mandate() },
        Mandate { principal: SubjectRef([9; 16]), ..mandate() },
        Mandate { consumer: p(DEPARTMENT), ..mandate() },
    ] {
        assert_eq!(field(useless), "mandate_id");
    }
}

#[test]
fn an_answer_is_in_time_and_of_no_more_than_was_asked() {
    let code = RequestCode::from_random([1; 8]);
    let status = ConsentStatus::Requested { answer_by: shifted(noon(), 100), code };
    let mut request = Consent { status, ..good(&World::new().registry()) };
    request.attributes.insert(p("dss.quotient_familial.mois"));
    let given = Consent { status: ConsentStatus::Granted, ..request.clone() };
    assert!(answers(&request, &given, shifted(noon(), 99)));
    assert!(!answers(&request, &given, shifted(noon(), 100)));
    let less: [fn(&mut Consent); 3] = [
        |c| drop(c.attributes.pop_first()),
        |c| c.expires_at = shifted(noon(), 1),
        |c| c.channel = crate::Channel::Phone,
    ];
    for change in less {
        let mut less = given.clone();
        change(&mut less);
        assert!(answers(&request, &less, noon()));
    }
    let more: [fn(&mut Consent); 7] = [
        |c| c.attributes.extend([p("ccas.aides.montant")]),
        |c| c.expires_at = shifted(c.expires_at, 1),
        |c| c.usage = ConsentUse::OneTime,
        |c| c.consumer = p(DEPARTMENT),
        |c| c.subject = SubjectRef([9; 16]),
        |c| c.notice_version = 2,
        |c| c.data_life = DataLife::Store { value: 1, unit: TimeUnit::Day },
    ];
    for change in more {
        let mut more = given.clone();
        change(&mut more);
        assert!(!answers(&request, &more, noon()));
    }
    assert!(!answers(&given, &given, noon()), "what was given does not wait");
}

#[test]
fn a_renewal_is_the_next_version_of_the_same_consent() {
    let current = good(&World::new().registry());
    let next =
        Consent { version: 2, previous: Some(current.version_digest()), language: Language::En, ..current.clone() };
    assert!(renews(&current, &next, DecidedBy::Administration));
    let others: [fn(&mut Consent); 5] = [
        |c| c.version = 3,
        |c| c.previous = None,
        |c| c.procedure = p("rentree"),
        |c| c.subject = SubjectRef([9; 16]),
        |c| c.attributes.extend([p("dss.quotient_familial.mois")]),
    ];
    for change in others {
        let mut other = next.clone();
        change(&mut other);
        assert!(!renews(&current, &other, DecidedBy::Administration));
    }
    let withdrawn =
        Consent { status: ConsentStatus::Withdrawn { at: noon(), by: DecidedBy::Administration }, ..current.clone() };
    assert!(!renews(&withdrawn, &next, DecidedBy::Person), "who withdrew is asked anew");
    let under = DecidedBy::Representative { mandate: mandate().id };
    for already in [DecidedBy::Administration, under, DecidedBy::Person] {
        let paused = Consent { status: ConsentStatus::Paused { at: noon(), by: already }, ..current.clone() };
        for by in [DecidedBy::Administration, under, DecidedBy::Person] {
            assert_eq!(renews(&paused, &next, by), already.yields_to(by), "{already:?} {by:?}");
        }
    }
}

#[test]
fn a_mandate_is_bounded_and_between_two_persons() {
    let registry = World::new().registry();
    let field = |change: fn(&mut Mandate)| {
        let mut changed = mandate();
        change(&mut changed);
        check_mandate(&registry, &changed, noon()).err().map(|fault| fault.field).unwrap_or_default()
    };
    assert_eq!(field(|_| {}), "");
    assert_eq!(field(|m| m.procedures = [p("cantine")].into()), "");
    assert_eq!(field(|m| m.expires_at = p("2044-09-01T12:00:00Z")), "");
    assert_eq!(field(|m| m.expires_at = p("2044-09-01T12:00:00.001Z")), "expires_at");
    assert_eq!(field(|m| m.expires_at = noon()), "expires_at");
    assert_eq!(field(|m| m.not_before = m.expires_at), "expires_at");
    assert_eq!(field(|m| m.representative = PERSON), "representative");
    assert_eq!(field(|m| m.procedures = [p("no-such")].into()), "procedures");
}

#[test]
fn a_request_waits_for_a_bounded_time() {
    let wanted = Consent { expires_at: p("2027-08-01T00:00:00Z"), ..consent(1) };
    let field = |answer_by| check_answer_by(&wanted, answer_by, noon()).is_err();
    assert!(!field(shifted(noon(), 1)) && !field(noon().plus(MAX_ANSWER_TIME)));
    assert!(field(noon()) && field(shifted(noon().plus(MAX_ANSWER_TIME), 1)));
    assert!(check_answer_by(&consent(1), shifted(noon(), 1_001), noon()).is_err(), "after the consent's own end");
}
