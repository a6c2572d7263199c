//! More of what an operator with every key might write: everything in a record that can be derived is, and what its writer would not
//! have written is named. `verify` names already what needs no decision: how long a record is kept, purges, times.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use unefois_audit::{Frontier, Hash, Receipt};
use unefois_consent::event::{
    Answered, Carried, CarriedFact, Event, Provenance, Purged, PurgedPeriod, Requested, RulesChanged, TraceScope,
};
use unefois_consent::registry::{Dataset, Habilitation, Participant, Procedure, RegistryChange, Role};
use unefois_consent::{Digest, RecordPeriod, Retention, Rules, Timestamp};
use unefois_engine::replay::{BatchSource, Faults, LogFault, Look};
use unefois_engine::store::{HeadFile, Visit};
use unefois_engine::{CLOCK_BOUND, Clock, SystemClock};
use unefois_proto::v1;
use unefois_store::MemoryStore;
use unefois_store::embedded::{FileHead, JournalReader};
use unefois_tests::ask::*;
use unefois_tests::forger::{Commits, Entry, Log, changed_notes, put, remove, repeat, sign_head};
use unefois_tests::process;
use unefois_tests::sandbox::Sandbox;
use unefois_tests::witness::{TestWitness, watch};
use unefois_tests::world;

use crate::shards::{close_shard, next_key};
use crate::witness::{policy, wait_for_quorum};

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
    // A clock that was put back by so much while the source was asked is believed.
    let time = Timestamp::from_millis(log.entries[at].time_ms);
    let mut entries = log.entries.clone();
    answered(&mut entries, at, |answered| {
        answered.provenance.values_mut().for_each(|from| from.obtained_at = time.plus(CLOCK_BOUND));
    });
    log.replay(&log.sign(&entries, Commits::AllAtOnce)).unwrap();
    log.assert_caught("more than that", at, "in the future", |entries| {
        answered(entries, at, |answered| {
            let later = time.plus(CLOCK_BOUND).plus(Duration::from_millis(1));
            answered.provenance.values_mut().for_each(|from| from.obtained_at = later);
        });
    });
}

#[tokio::test]
async fn a_registry_that_its_rules_do_not_allow_is_named() {
    let log = real().await;
    let at = log.find(Event::REGISTRY_CHANGED, 0);
    let file = || log.registry_before(at);
    let procedure = file().procedures[0].clone();
    let dataset = file().datasets[0].clone();
    let held = file().habilitations[0].clone();
    let participant = |place: usize| file().participants[place].clone();
    let keys = participant(1).keys;
    let of_registry = file().participants.iter().position(|p| p.keys.iter().any(|k| k.roles.contains(&Role::Registry)));
    let nobody = "12345678200010".parse().unwrap();
    let forgeries = [
        (
            "traces kept for a month, by no article",
            RegistryChange::PutProcedure(Procedure { trace_months: 1, ..procedure }),
        ),
        ("a source that nobody has", RegistryChange::PutDataset(Dataset { source: nobody, ..dataset.clone() })),
        ("a dataset that is in use goes", RegistryChange::RemoveDataset(dataset.id)),
        (
            "attributes that nobody has",
            RegistryChange::PutHabilitation(Habilitation {
                attributes: ["dss.quotient_familial.nothing".parse().unwrap()].into(),
                ..held.clone()
            }),
        ),
        (
            "an end before its beginning",
            RegistryChange::PutHabilitation(Habilitation { valid_until: held.valid_from, ..held }),
        ),
        ("another's key", RegistryChange::PutParticipant(Participant { keys, ..participant(0) })),
        ("nobody can change it any more", RegistryChange::RemoveParticipant(participant(of_registry.unwrap()).siret)),
    ];
    for (forgery, change) in forgeries {
        log.assert_caught(forgery, at, "breaks the rules", |entries| {
            let Event::RegistryChanged(changed) = &mut entries[at].event else { panic!("no change") };
            changed.change = change;
        });
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
    for agent in ["", " Martin", "Mar\ntin", "\u{202e}nitraM"] {
        log.assert_caught("an agent of no name", first, "names no agent as one can be named", |entries| {
            requested(entries, first, |requested| requested.question.agent = agent.to_owned());
        });
    }
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
async fn an_objection_a_reading_or_a_carried_fact_that_could_not_be_is_named() {
    let mut sandbox = Sandbox::start().await;
    let (town_hall, department) = (sandbox.client("ville").await, sandbox.client("departement").await);
    let consent = granted(&department, grant("MARCHAND")).await;
    exchange(&department, allowance("MARCHAND", Some(&consent))).await.unwrap();
    let receipt = exchange(&town_hall, canteen("MARCHAND")).await.unwrap().receipt;
    let index = Receipt::from_json(&receipt).unwrap().verify(&sandbox.key).unwrap().index;
    let request = v1::GetReceiptRequest { index, origin: sandbox.key.name().to_owned() };
    town_hall.audit().get_receipt(within(request)).await.unwrap();
    object(&town_hall, "DURAND").await;
    let page = v1::ListEntriesRequest { start: 0, page_size: 5 };
    sandbox.client("dpo").await.audit().list_entries(within(page)).await.unwrap();
    sandbox.stop().await;
    world::check(&sandbox.data(), &sandbox.key);
    let log = Log::of(sandbox);

    let objection = log.find(Event::OBJECTION_RECORDED, 0);
    log.assert_caught("an objection to nothing", objection, "to a procedure that is not there", |entries| {
        let Event::ObjectionRecorded(recorded) = &mut entries[objection].event else { panic!("no objection") };
        recorded.objection.procedure = Some("nothing".parse().unwrap());
    });
    let (own, span) = (log.find(Event::TRACES_READ, 0), log.find(Event::TRACES_READ, 1));
    let reads = |entries: &mut Vec<Entry>, at: usize, scope: TraceScope| {
        let Event::TracesRead(read) = &mut entries[at].event else { panic!("no reading") };
        read.scope = scope;
    };
    let (others, asked) = (log.find(Event::ANSWERED, 0) as u64, log.find(Event::REQUESTED, 1) as u64);
    for (at, scope, why) in [
        (own, TraceScope::Receipt { index: others }, "a receipt that is somebody else's"),
        (own, TraceScope::Receipt { index: asked }, "a receipt that is somebody else's"),
        (own, TraceScope::Receipt { index: own as u64 }, "an entry that comes later"),
        (span, TraceScope::Entries { from: 5, to: 5 }, "entries that are not there"),
        (span, TraceScope::Entries { from: 0, to: 1000 }, "entries that are not there"),
    ] {
        log.assert_caught("a reading that could not be", at, why, |entries| reads(entries, at, scope));
    }
    let introduced = log.find(Event::CONSENT_GRANTED, 0);
    let new = log.entries[introduced].event.facts().introduces().next().unwrap();
    for (from, why) in [(introduced as u64, "not to be destroyed yet"), (1000, "an entry that comes later")] {
        log.assert_caught("carried over in the month of its record", span, why, |entries| {
            entries[span].set(Event::Carried(Carried { from, fact: CarriedFact::Subject(new) }));
        });
    }
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
    log.assert_seen("another key of subjects", 0, "another key of subjects than keys/subject.key", |entries| {
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

/// `audit verify` and `audit replay` of a configuration end with `code`, and say `why` in one sentence where that is not 0.
#[track_caller]
fn audit_says(config: &Path, code: i32, why: &[&str], forgery: &str) {
    for command in ["verify", "replay"] {
        let output = process::run(&["audit", command, "--config", config.to_str().unwrap()]);
        let closing = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = format!("{}{closing}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(output.status.code(), Some(code), "{command}, {forgery}: {said}");
        assert!(why.iter().all(|why| said.contains(why)), "{command}, {forgery}: {said}");
        assert!(code == 0 || closing.trim_end().lines().count() == 1, "{command}, {forgery}: {said}");
    }
}

/// Size and root of the heads that the broker signed in its last shard.
fn true_heads(sandbox: &Sandbox) -> Vec<(u64, Hash)> {
    let reader = JournalReader::open(&sandbox.data()).unwrap();
    let shard = *reader.shards().last().unwrap();
    let mut heads = Vec::new();
    let keep = &mut |batch: unefois_engine::store::Batch| {
        heads.push((batch.end() - shard, batch.root));
        Visit::Continue
    };
    reader.read(shard, keep).unwrap();
    heads
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_head_that_is_kept_apart_is_named_by_verify_and_by_replay() {
    let root = tempfile::tempdir().unwrap();
    let mut sandbox = Sandbox::start().await;
    let next = next_key(&sandbox.folder.path, "2027");
    let witness = TestWitness::start(root.path(), "one", &[&sandbox.key, &next]);
    let text = format!("log {next}\n{}", policy(&sandbox, &[&witness], "all"));
    watch(&mut sandbox, &text, "").await;
    sandbox.grow(30).await;
    wait_for_quorum(&sandbox, &text).await;
    close_shard(&mut sandbox, "2027").await;
    let closed = sandbox.data().join(format!("cosigned-{:020}", 0));
    until(|| closed.exists()).await;
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    wait_for_quorum(&sandbox, &text).await;
    sandbox.stop().await;
    let (config, kept) = (sandbox.folder.config(), sandbox.data().join("cosigned"));
    audit_says(&config, 0, &[], "nothing");

    // Without a key: each line of each note, the cosignatures too.
    for file in [&kept, &closed] {
        let note = std::fs::read_to_string(file).unwrap();
        let forgeries = changed_notes(&note);
        assert_eq!(forgeries.len(), 4, "size, root, signature, cosignature: {note}");
        for (what, forged) in forgeries {
            std::fs::write(file, forged).unwrap();
            audit_says(&config, 1, &["the cosigned head in", file.to_str().unwrap()], &what);
        }
        std::fs::write(file, [0xff; 20]).unwrap();
        audit_says(&config, 1, &[file.to_str().unwrap(), "not UTF-8"], "no text");
        std::fs::write(file, note.replacen(note.lines().next().unwrap(), "log.example/other", 1)).unwrap();
        audit_says(&config, 1, &["the cosigned head in", "which the journal does not have"], "another origin");
        std::fs::write(file, note).unwrap();
    }

    // With the log's key: heads of another tree, of sizes that the log had, has and never had.
    let heads = true_heads(&sandbox);
    let (first, last) = (heads[0], *heads.last().unwrap());
    let never = (1..last.0).find(|size| heads.iter().all(|head| head.0 != *size));
    let mut forgeries = vec![
        ("of the first head", sign_head(&sandbox, first.0, Hash([7; 32])), "two trees"),
        ("of the last head", sign_head(&sandbox, last.0, Hash([7; 32])), "two trees"),
        ("of an older root", sign_head(&sandbox, last.0, first.1), "two trees"),
        ("of more entries", sign_head(&sandbox, last.0 + 1, Hash([7; 32])), "are missing from the journal"),
    ];
    forgeries.extend(
        never.map(|size| ("of a size between", sign_head(&sandbox, size, Frontier::new().root()), "two trees")),
    );
    let note = std::fs::read_to_string(&kept).unwrap();
    let head_file = sandbox.data().with_extension("head");
    let file_bytes = std::fs::read(&head_file).unwrap();
    for (what, forged, why) in &forgeries {
        std::fs::write(&kept, forged).unwrap();
        audit_says(&config, 1, &["the cosigned head in", why], what);
        std::fs::write(&kept, &note).unwrap();
        // Both slots of the file, so that it has no other.
        let file = FileHead::new(&head_file);
        for _ in 0..2 {
            file.write(forged).unwrap();
        }
        audit_says(&config, 1, &["the head file", why], what);
        std::fs::write(&head_file, &file_bytes).unwrap();
    }
    // Older heads of this log are no forgery.
    std::fs::write(&kept, sign_head(&sandbox, first.0, first.1)).unwrap();
    audit_says(&config, 0, &[], "an older head");
    std::fs::write(&kept, &note).unwrap();

    let own = FileHead::new(&head_file).read().unwrap().unwrap();
    for (what, forged) in changed_notes(&own) {
        let file = FileHead::new(&head_file);
        for _ in 0..2 {
            file.write(&forged).unwrap();
        }
        audit_says(&config, 1, &["the head file"], &what);
        std::fs::write(&head_file, &file_bytes).unwrap();
    }
    audit_says(&config, 0, &[], "nothing any more");
    sandbox.finish().await;
}
