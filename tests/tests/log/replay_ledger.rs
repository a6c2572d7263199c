//! Forgeries of the consent ledger: each verifies, since the forger has every key, and each is named by a replay.

use unefois_consent::consent::ConsentStatus;
use unefois_consent::event::{Actor, ConsentDecided, ConsentRecorded, Event, MandateGranted};
use unefois_consent::{Digest, MandateId, SubjectRef, Timestamp};
use unefois_engine::{Clock, SystemClock};
use unefois_proto::common::identity;
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;
use unefois_tests::ask::{
    allow_proactive, allowance, exchange, grant, granted, object, person, renewal, terms, withdraw, within,
};
use unefois_tests::forger::{Entry, Log, remove, repeat, swap_with_next};
use unefois_tests::sandbox::Sandbox;

const GRANTED: u8 = 3;
const WITHDRAWN: u8 = 4;
const OBJECTED: u8 = 5;
const REQUESTED: u8 = 9;
const REFUSED: u8 = 10;
const PAUSED: u8 = 11;
const RESUMED: u8 = 12;
const RENEWED: u8 = 13;
const REVOKED: u8 = 14;
const INVALIDATED: u8 = 15;
const MANDATE: u8 = 21;
const MANDATE_ENDED: u8 = 22;

/// A log in which everything happens that can happen to a consent, of several persons.
async fn whole_ledger() -> Log {
    let mut sandbox = Sandbox::start().await;
    sandbox.change_registry(allow_proactive).await;
    let department = sandbox.client("departement").await;
    let (portal, operator) = (sandbox.client("portail").await, sandbox.client("operateur").await);
    let decide = |client: unefois::client::Client, consent: String, decision: v1::Decision| async move {
        let request = v1::DecideConsentRequest {
            consent_id: consent,
            decision: decision as i32,
            evidence_sha256: "e0".repeat(32),
        };
        client.consent().decide_consent(within(request)).await.unwrap();
    };
    // Asked for, and refused by the person.
    let refused = request(&department).await;
    let refusal = v1::DecideMyConsentRequest {
        assertion: assertion(&sandbox),
        consent_id: refused,
        decision: v1::Decision::Refuse as i32,
    };
    portal.citizen().decide_my_consent(within(refusal)).await.unwrap();
    // Asked for, and given.
    let asked = request(&department).await;
    let gift = v1::GrantMyConsentRequest {
        assertion: assertion(&sandbox),
        consent_id: asked.clone(),
        language: v1::Language::French as i32,
        attributes: Vec::new(),
        expires_at: None,
    };
    portal.citizen().grant_my_consent(within(gift)).await.unwrap();
    decide(department.clone(), asked.clone(), v1::Decision::Pause).await;
    decide(department.clone(), asked.clone(), v1::Decision::Resume).await;
    exchange(&department, allowance("MARCHAND", Some(&asked))).await.unwrap();
    let renewal = renewal(&asked, SystemClock.now().plus(std::time::Duration::from_secs(3_600)));
    department.consent().renew_consent(within(renewal)).await.unwrap();
    withdraw(&department, &asked).await;
    let revoked = granted(&department, grant("PETIT")).await;
    decide(operator, revoked, v1::Decision::Revoke).await;
    let invalid = granted(&department, grant("PETIT")).await;
    decide(department.clone(), invalid, v1::Decision::Invalidate).await;
    let mandate = v1::RecordMandateRequest {
        agent: "agent-7".to_owned(),
        principal: Some(person("PETIT")),
        representative: Some(person("TUTEUR")),
        kind: v1::MandateKind::Mandatary as i32,
        proof_sha256: "f0".repeat(32),
        expires_at: Some(wire_instant(SystemClock.now().plus(std::time::Duration::from_secs(172_800)))),
        ..Default::default()
    };
    let mandate = department.consent().record_mandate(within(mandate)).await.unwrap().into_inner().mandate.unwrap().id;
    let under = v1::RecordConsentRequest { mandate_id: mandate.clone(), ..grant("PETIT") };
    granted(&department, under).await;
    let end = v1::EndMandateRequest { mandate_id: mandate };
    department.consent().end_mandate(within(end)).await.unwrap();
    object(&department, "MARCHAND").await;
    sandbox.stop().await;
    let log = Log::of(sandbox);
    log.replay(&log.sign(&log.entries, unefois_tests::forger::Commits::EachEntry)).unwrap();
    log
}

async fn request(department: &unefois::client::Client) -> String {
    let request = v1::RequestConsentRequest {
        agent: "agent-7".to_owned(),
        subject: Some(person("MARCHAND")),
        terms: Some(terms()),
        answer_by: None,
    };
    department.consent().request_consent(within(request)).await.unwrap().into_inner().consent.unwrap().id
}

fn assertion(sandbox: &Sandbox) -> Option<v1::IdentityAssertion> {
    let key = std::fs::read_to_string(sandbox.folder.path.join("pki/identite.key")).unwrap();
    let who = identity("subject", Some(&person("MARCHAND"))).unwrap();
    let id_token = unefois::init::development_token(&key, &who, "eidas2", SystemClock.now()).unwrap();
    Some(v1::IdentityAssertion { id_token, user_info: String::new(), mandate_id: String::new() })
}

/// Changes a recorded consent at `at`.
fn recorded(entries: &mut [Entry], at: usize, change: impl FnOnce(&mut ConsentRecorded)) {
    match &mut entries[at].event {
        Event::ConsentRequested(event) | Event::ConsentGranted(event) | Event::ConsentRenewed(event) => change(event),
        other => panic!("no recorded consent but {other:?}"),
    }
}

/// Changes a decision at `at`.
fn decided(entries: &mut [Entry], at: usize, change: impl FnOnce(&mut ConsentDecided)) {
    match &mut entries[at].event {
        Event::ConsentRefused(event)
        | Event::ConsentPaused(event)
        | Event::ConsentResumed(event)
        | Event::ConsentWithdrawn(event)
        | Event::ConsentRevoked(event)
        | Event::ConsentInvalidated(event) => change(event),
        other => panic!("no decision but {other:?}"),
    }
}

fn mandate(entries: &mut [Entry], at: usize, change: impl FnOnce(&mut MandateGranted)) {
    let Event::MandateGranted(event) = &mut entries[at].event else { panic!("no mandate") };
    change(event);
}

/// Through whom the department acts.
fn department(log: &Log) -> Actor {
    let Event::ConsentGranted(event) = &log.entries[log.find(GRANTED, 1)].event else { panic!("no grant") };
    event.by
}

/// Through whom the portal acts.
fn portal(log: &Log) -> Actor {
    let Event::ConsentRefused(event) = &log.entries[log.find(REFUSED, 0)].event else { panic!("no refusal") };
    event.by
}

#[tokio::test]
async fn an_entry_of_the_ledger_that_was_dropped_repeated_or_moved_is_named() {
    let log = whole_ledger().await;
    let at = |kind| log.find(kind, 0);
    let not_there = "that is not there";
    for (dropped, named, why) in [
        (at(REQUESTED), at(REFUSED) - 1, not_there),
        (log.find(REQUESTED, 1), at(GRANTED) - 1, "another entry than the one that is there"),
        (at(GRANTED), at(PAUSED) - 1, "state does not allow"),
        (at(PAUSED), at(RESUMED) - 1, "state does not allow"),
        (at(MANDATE), at(MANDATE_ENDED) - 2, "another entry of the mandate than the one that granted it"),
    ] {
        log.assert_caught("dropped", named, why, |entries| {
            remove(entries, dropped);
        });
    }
    for (kind, why) in [
        (REQUESTED, "introduces a person who is known already"),
        (REFUSED, "state does not allow"),
        (GRANTED, "grants a consent twice"),
        (PAUSED, "state does not allow"),
        (RESUMED, "state does not allow"),
        (RENEWED, "another entry than the one that is there"),
        (WITHDRAWN, "state does not allow"),
        (REVOKED, "state does not allow"),
        (INVALIDATED, "state does not allow"),
        (MANDATE, "introduces a person who is known already"),
        (MANDATE_ENDED, "ends a mandate that is not there to end"),
    ] {
        log.assert_caught("repeated", at(kind) + 1, why, |entries| repeat(entries, at(kind)));
    }
    log.assert_caught("begins in its past", at(RENEWED), "renews a consent that is not there to renew", |entries| {
        recorded(entries, at(RENEWED), |event| {
            event.consent.not_before = Timestamp::from_millis(event.consent.not_before.as_millis() - 1);
        });
    });
    let second = log.find(REQUESTED, 1);
    log.assert_caught("asked for twice", second + 1, "asks for a consent twice", |entries| repeat(entries, second));
    log.assert_caught("resumed before it was paused", at(PAUSED), "state does not allow", |entries| {
        swap_with_next(entries, at(PAUSED));
    });
    log.assert_caught(
        "withdrawn before it was renewed",
        at(RENEWED),
        "rests on an entry that comes later",
        |entries| {
            swap_with_next(entries, at(RENEWED));
        },
    );
}

#[tokio::test]
async fn an_entry_of_the_ledger_that_says_something_else_is_named() {
    let log = whole_ledger().await;
    let at = |kind| log.find(kind, 0);
    let (department, portal) = (department(&log), portal(&log));
    let later = |time: Timestamp| time.plus(std::time::Duration::from_secs(86_400));
    type Change<'a> = Box<dyn Fn(&mut ConsentRecorded) + 'a>;
    let changes: [(&str, u8, &str, Change<'_>); 10] = [
        ("without its person", GRANTED, "not enrolled", Box::new(|event| event.person = None)),
        ("through an administration", GRANTED, "not enrolled", Box::new(|event| event.by = department)),
        ("better proven", GRANTED, "proven in another way", Box::new(|event| event.consent.assurance = None)),
        (
            "another day",
            GRANTED,
            "is not a new consent",
            Box::new(|e| e.consent.granted_at = later(e.consent.granted_at)),
        ),
        ("used already", GRANTED, "is not a new consent", Box::new(|event| event.consent.uses = 1)),
        (
            "for more time than asked",
            GRANTED,
            "is kept for another time than its versions",
            Box::new(|e| {
                e.consent.expires_at = later(e.consent.expires_at);
            }),
        ),
        (
            "another person's",
            GRANTED,
            "names a person whom no entry introduced",
            Box::new(|e| e.consent.subject = SubjectRef([7; 16])),
        ),
        ("a third version", RENEWED, "not there to renew", Box::new(|event| event.consent.version = 3)),
        (
            "after another version",
            RENEWED,
            "not there to renew",
            Box::new(|e| e.consent.previous = Some(Digest([1; 32]))),
        ),
        ("given at once", REQUESTED, "is no request", Box::new(|event| event.consent.status = ConsentStatus::Granted)),
    ];
    for (forgery, kind, why, change) in changes {
        log.assert_caught(forgery, at(kind), why, |entries| recorded(entries, at(kind), change));
    }
    for (forgery, kind, why, by) in [
        ("the administration refuses in a portal's name", REFUSED, "not enrolled", department),
        ("a portal pauses as an administration", PAUSED, "not enrolled", portal),
        ("the administration revokes", REVOKED, "not enrolled", department),
        ("a portal invalidates", INVALIDATED, "not enrolled", portal),
    ] {
        log.assert_caught(forgery, at(kind), why, |entries| decided(entries, at(kind), |event| event.by = by));
    }
    // The person refused this in the portal before.
    log.assert_caught("a counter passes a refusal", at(GRANTED), "the person, proven, holds back", |entries| {
        recorded(entries, at(GRANTED), |event| (event.by, event.person) = (department, None));
    });
    let refusal = at(REFUSED) as u64;
    for (forgery, named, why) in [
        ("by nobody's leave", vec![], "does not name what was given again"),
        ("by the refusal itself", vec![refusal, at(GRANTED) as u64], "names an entry as given again that is not"),
        ("by the same leave twice", vec![at(GRANTED) as u64; 2], "twice, or not in order"),
    ] {
        log.assert_caught(forgery, at(RENEWED), why, |entries| {
            recorded(entries, at(RENEWED), |event| event.given_again = named);
        });
    }
    log.assert_caught("of another person", at(PAUSED), "somebody else's consent", |entries| {
        decided(entries, at(PAUSED), |event| event.subject = SubjectRef([7; 16]));
    });
    log.assert_caught("under no such mandate", at(REFUSED), "under a mandate that does not allow it", |entries| {
        decided(entries, at(REFUSED), |event| event.mandate = Some(MandateId([7; 16])));
    });
    log.assert_caught("an objection through a portal without a person", at(OBJECTED), "not enrolled", |entries| {
        let Event::ObjectionRecorded(event) = &mut entries[at(OBJECTED)].event else { panic!("no objection") };
        event.by = portal;
    });
    log.assert_caught("a mandate of a stranger", at(MANDATE), "whom no entry introduced", |entries| {
        mandate(entries, at(MANDATE), |event| event.mandate.principal = SubjectRef([7; 16]));
    });
    log.assert_caught("a mandate of yesterday", at(MANDATE), "is not a new mandate", |entries| {
        mandate(entries, at(MANDATE), |event| event.mandate.recorded_at = Timestamp::default());
    });
    log.assert_caught("a mandate towards another", at(MANDATE), "towards another administration", |entries| {
        mandate(entries, at(MANDATE), |event| event.mandate.consumer = portal.participant);
    });
    log.assert_caught("the end of another's mandate", at(MANDATE_ENDED), "somebody else's mandate", |entries| {
        let Event::MandateEnded(event) = &mut entries[at(MANDATE_ENDED)].event else { panic!("no end") };
        event.principal = SubjectRef([7; 16]);
    });
}
