//! More of what an operator with every key might write: everything in a record that can be derived is, and what its writer would not
//! have written is named. `verify` names already what needs no decision: how long a record is kept, purges, times.

use std::sync::Arc;

use unefois_consent::event::{Answered, Event, Provenance, Purged, PurgedPeriod, Requested, RulesChanged};
use unefois_consent::{Digest, RecordPeriod, Retention, Rules, Timestamp};
use unefois_engine::replay::{Faults, LogFault, Look};
use unefois_engine::{Clock, SystemClock};
use unefois_store::MemoryStore;
use unefois_tests::ask::*;
use unefois_tests::forger::{Commits, Entry, Log, put, remove, repeat};
use unefois_tests::sandbox::Sandbox;
use unefois_tests::world;

const HOUR_MS: u64 = 3_600_000;

/// An exchange that is tried twice, another one, a refusal, and a change of the registry.
async fn real() -> Log {
    let mut sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    let question = canteen("MARCHAND");
    exchange(&town_hall, question.clone()).await.unwrap();
    exchange(&town_hall, question).await.unwrap();
    exchange(&town_hall, canteen("DURAND")).await.unwrap();
    let mut too_much = canteen("MARCHAND");
    too_much.attributes = vec!["dss.quotient_familial.adresse".to_owned()];
    assert_refused(exchange(&town_hall, too_much).await, "ATTRIBUTE_NOT_COVERED");
    sandbox.change_registry(|file| file.habilitations[0].retention_months = 6).await;
    exchange(&town_hall, canteen("MOREAU")).await.unwrap();
    sandbox.stop().await;
    world::check(&sandbox.data(), &sandbox.key);
    Log::of(sandbox)
}

fn answered(entries: &mut [Entry], at: usize, change: impl FnOnce(&mut Answered)) {
    let Event::Answered(answered) = &mut entries[at].event else { panic!("no answer") };
    change(answered);
}

fn requested(entries: &mut [Entry], at: usize, change: impl FnOnce(&mut Requested)) {
    let Event::Requested(requested) = &mut entries[at].event else { panic!("no question") };
    change(requested);
}

#[tokio::test]
async fn an_answer_that_comes_from_elsewhere_than_it_can_is_named() {
    let log = real().await;
    let at = log.find(Event::ANSWERED, 0);
    let town_hall = log.requested(0).1.question.consumer;
    type Change = Box<dyn Fn(&mut Answered)>;
    let each = |change: fn(&mut Provenance)| -> Change {
        Box::new(move |answered| answered.provenance.values_mut().for_each(change))
    };
    let from_another: Change = Box::new(move |a| a.provenance.values_mut().for_each(|from| from.source = town_hall));
    let not_asked: Change = Box::new(|answered| {
        let from = answered.provenance.values().next().unwrap().clone();
        answered.provenance.insert("saint-exemple.periscolaire".parse().unwrap(), from);
    });
    let forgeries: [(&str, &str, Change); 5] = [
        ("by nobody", "was answered by nobody", Box::new(|answered| answered.provenance.clear())),
        ("by another participant", "another source than that of the dataset", from_another),
        ("in another version", "another source than that of the dataset", each(|from| from.version = "v9".to_owned())),
        ("of a dataset that was not asked", "that was not given", not_asked),
        ("of the year 2999", "in the future", each(|from| from.obtained_at = "2999-01-01T00:00:00Z".parse().unwrap())),
    ];
    for (forgery, why, change) in forgeries {
        log.assert_caught(forgery, at, why, |entries| answered(entries, at, |answered| change(answered)));
    }
}

#[tokio::test]
async fn a_question_that_nobody_could_ask_is_named() {
    let log = real().await;
    let (first, again, other) = (log.requested(0).0, log.requested(1).0, log.requested(2).0);
    let badly_asked = "asks no attribute, one of them twice, or too many";
    log.assert_caught("no attribute", first, badly_asked, |entries| {
        requested(entries, first, |requested| requested.question.attributes.clear());
    });
    log.assert_caught("one attribute three times", first, badly_asked, |entries| {
        requested(entries, first, |requested| {
            let one = requested.question.attributes[0].clone();
            requested.question.attributes = vec![one.clone(), one.clone(), one];
        });
    });
    log.assert_caught("another question again", again, "tries an exchange again with another question", |entries| {
        requested(entries, again, |requested| requested.question.agent = "somebody else".to_owned());
    });
    let exchange = log.requested(0).1.exchange;
    log.assert_caught("two exchanges of one name", other, "under the name of another", |entries| {
        requested(entries, other, |requested| requested.exchange = exchange);
    });
    let refused = log.refused(0).0;
    log.assert_caught("refused twice", refused + 1, "under the name of another", |entries| repeat(entries, refused));
    let change = log.find(Event::REGISTRY_CHANGED, 0);
    log.assert_caught("changed twice", change + 1, "changes the registry into what it is", |entries| {
        repeat(entries, change);
    });
}

#[tokio::test]
async fn an_exchange_without_its_end_is_named() {
    let log = real().await;
    let (begun, answer) = (log.requested(2).0, log.find(Event::ANSWERED, 2));
    log.assert_caught("left out in the middle", begun, "has no end", |entries| {
        remove(entries, answer);
        let last = entries.len() - 2;
        entries[last..].iter_mut().for_each(|entry| entry.time_ms += 25 * HOUR_MS);
        let (end, time) = (entries.len() - 1, entries[last].time_ms);
        answered(entries, end, |answered| {
            answered.provenance.values_mut().for_each(|from| from.obtained_at = Timestamp::from_millis(time));
        });
    });
    log.assert_caught("answered after a day", answer, "ends an exchange too late", |entries| {
        entries[answer..].iter_mut().for_each(|entry| entry.time_ms += 25 * HOUR_MS);
    });
}

#[tokio::test]
async fn a_record_that_its_writer_would_not_have_written_is_named() {
    let log = real().await;
    let at = log.find(Event::ANSWERED, 0);
    let text = serde_json::to_string(&log.entries[at].event).unwrap();
    let attribute = format!("\"{QUOTIENT}\":\"FOUND\"");
    let doubled = text.replace(&attribute, &format!("\"{QUOTIENT}\":\"NO_FILE\",{attribute}"));
    assert_ne!(doubled, text);
    for text in [doubled, text.replace("{\"answered\":", "{\"answered\": "), text.replace("FOUND", "\\u0046OUND")] {
        log.assert_caught("another text", at, "is not the text that its writer writes", |entries| {
            entries[at].text = Some(text);
        });
    }
}

#[tokio::test]
async fn another_key_than_the_one_that_was_made_is_named() {
    let log = real().await;
    let at = log.entries.iter().position(|entry| entry.kind == Event::KEY_MADE).unwrap();
    log.assert_caught("another key", at, "names another key than the one that is there", |entries| {
        let Event::KeyMade(made) = &mut entries[at].event else { panic!("no key") };
        made.check = Digest([1; 32]);
    });
    log.assert_caught("another key of subjects", 0, "another key of subjects than keys/subject.key", |entries| {
        let Event::LogOpened(opened) = &mut entries[0].event else { panic!("no beginning") };
        opened.subject_key = Digest([1; 32]);
    });
}

/// What `verify` says of a log that is changed and signed anew.
fn verified(log: &Log, change: impl FnOnce(&mut Vec<Entry>)) -> String {
    let mut entries = log.entries.clone();
    change(&mut entries);
    let signed = log.sign(&entries, Commits::EachEntry);
    let (opener, now) = (log.opener(), SystemClock.now());
    let look = Look { source: &signed, key: &log.key, opener: &opener, now, faults: Faults::First };
    look.verify(&mut |_, _| {}).unwrap_err().to_string()
}

#[tokio::test]
async fn verify_names_what_is_kept_or_purged_against_the_law_and_what_is_of_the_future() {
    let log = real().await;
    for kind in [Event::REQUESTED, Event::REFUSED, Event::ANSWERED, Event::REGISTRY_CHANGED] {
        let at = log.find(kind, 0);
        for months in [0, 1, 35, 37, 255] {
            if log.entries[at].retention.months() == months {
                continue;
            }
            let said = verified(&log, |entries| entries[at].retention = Retention::from_months(months));
            assert!(said.starts_with(&format!("entry {at}: is kept for another time")), "{kind} {months}: {said}");
        }
    }
    let last = log.entries.len() - 1;
    let said = verified(&log, |entries| entries[last].time_ms += 2 * 365 * 24 * HOUR_MS);
    assert!(said.contains("more than a day in the future"), "{said}");
    let month = Timestamp::from_millis(log.entries[last].time_ms).month();
    let period = RecordPeriod { month, retention: Retention::TRACES };
    let said = verified(&log, |entries| {
        let covered = PurgedPeriod { period, entries: [(16, 4)].into(), digest: Digest([3; 32]) };
        let purged = Event::Purged(Purged { due: month, periods: vec![covered] });
        let mut entry = entries[last].clone();
        entry.set(purged);
        entry.retention = Retention::LOG;
        entries.push(entry);
    });
    assert!(said.contains("other entries of that period"), "{said}");
}

#[tokio::test]
async fn every_fault_is_listed_with_its_entry_unless_the_first_is_enough() {
    let log = real().await;
    let mut entries = log.entries.clone();
    let (refused, answer) = (log.refused(0).0, log.find(Event::ANSWERED, 2));
    let Event::Refused(event) = &mut entries[refused].event else { panic!("no refusal") };
    event.reasons.clear();
    answered(&mut entries, answer, |answered| answered.provenance.clear());
    let signed = log.sign(&entries, Commits::AllAtOnce);
    let (opener, now) = (log.opener(), SystemClock.now());
    let look = |faults| Look { source: &signed, key: &log.key, opener: &opener, now, faults };
    let examined = look(Faults::All).replay(Arc::new(MemoryStore::new()), &mut |_, _| {}).unwrap();
    let named: Vec<_> = examined.faults.iter().map(|fault| fault.to_string()).collect();
    assert_eq!(named.len(), 2, "{named:?}");
    for (at, what) in [(answer, "was answered by nobody"), (refused, "was refused for other reasons")] {
        assert!(named.iter().any(|said| said.starts_with(&format!("entry {at}: {what}"))), "{named:?}");
    }
    let first = look(Faults::First).replay(Arc::new(MemoryStore::new()), &mut |_, _| {}).unwrap_err();
    assert!(matches!(first, LogFault::Entry { index, .. } if index == answer.min(refused) as u64), "{first}");
    assert_eq!((examined.shards.len(), examined.taken.answers), (1, 4));
}

/// A log is decided by the rules that stand in it, before a change of them and after it.
#[tokio::test]
async fn a_log_replays_across_a_change_of_its_rules() {
    let mut sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    let question = canteen("MARCHAND");
    for _ in 0..3 {
        exchange(&town_hall, question.clone()).await.unwrap();
    }
    let engine = Arc::clone(sandbox.broker().engine());
    engine.change_rules(Rules::from_number(2)).await.unwrap();
    assert_eq!(engine.change_rules(Rules::from_number(2)).await.unwrap_err().code(), "WRONG_STATE");
    assert_eq!(engine.change_rules(Rules::from_number(99)).await.unwrap_err().code(), "INVALID_FIELD");
    drop(engine);
    // The second version, which only tests have, lets an exchange be tried twice.
    assert_refused(exchange(&town_hall, question).await, "RETRY_TOO_OFTEN");
    sandbox.stop().await;
    sandbox.restart().await.unwrap();
    sandbox.stop().await;
    world::check(&sandbox.data(), &sandbox.key);
    let log = Log::of(sandbox);
    let (at, refused) = (log.find(Event::RULES_CHANGED, 0), log.refused(0).0);
    log.assert_caught("without the change", refused - 1, "must be permitted", |entries| remove(entries, at));
    log.assert_caught("rules that nobody has", at, "a version that this program has", |entries| {
        entries[at].set(Event::RulesChanged(RulesChanged { rules: Rules::from_number(99) }));
    });
    let third = log.requested(2).0;
    log.assert_caught("changed too early", third + 1, "must be refused: RETRY_TOO_OFTEN", |entries| {
        let change = entries[at].clone();
        remove(entries, at);
        put(entries, third, change);
    });
}
