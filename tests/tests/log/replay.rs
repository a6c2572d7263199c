//! An operator who holds every key can sign any log. What it signs must still follow: `verify` accepts a forgery whose
//! hashes and signatures are right, `replay` derives each decision again and names the entry that does not follow.

use unefois_consent::event::{Actor, Event, Refused, Requested};
use unefois_consent::registry::{Procedure, RegistryChange};
use unefois_consent::{OutcomeCode, Reason};
use unefois_engine::replay::{LogFault, Report};
use unefois_engine::store::Batch;
use unefois_proto::v1;
use unefois_tests::ask::*;
use unefois_tests::forger::{Batches, Commits, Entry, Log, remove, repeat, swap_with_next};
use unefois_tests::sandbox::Sandbox;
use unefois_tests::world;

/// An exchange, a refusal, a consent that is granted, used and withdrawn, another person, a change of the registry
/// and a reading of traces.
async fn real() -> Log {
    let mut sandbox = Sandbox::start().await;
    let (town_hall, department) = (sandbox.client("ville").await, sandbox.client("departement").await);
    exchange(&town_hall, canteen("MARCHAND")).await.unwrap();
    let address = vec!["dss.quotient_familial.adresse".to_owned()];
    let too_much = v1::ExchangeRequest { attributes: address, ..canteen("MARCHAND") };
    assert_refused(exchange(&town_hall, too_much).await, "ATTRIBUTE_NOT_COVERED");
    let consent = granted(&department, grant("MARCHAND")).await;
    exchange(&department, allowance("MARCHAND", Some(&consent))).await.unwrap();
    withdraw(&department, &consent).await;
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&consent))).await, "CONSENT_WITHDRAWN");
    exchange(&town_hall, canteen("DURAND")).await.unwrap();
    sandbox.change_registry(|file| file.habilitations[0].retention_months = 6).await;
    let page = v1::ListEntriesRequest { start: 0, page_size: 5 };
    sandbox.client("dpo").await.audit().list_entries(within(page)).await.unwrap();
    sandbox.stop().await;
    world::check(&sandbox.data(), &sandbox.key);
    Log::of(sandbox)
}

#[tokio::test]
async fn the_same_entries_signed_anew_verify_and_replay() {
    let log = real().await;
    let original = log.replay(&Batches(log.batches.clone())).unwrap();
    for commits in [Commits::EachEntry, Commits::AllAtOnce] {
        let signed = log.sign(&log.entries, commits);
        assert_eq!(log.verify(&signed).unwrap().entries, original.entries);
        let report = log.replay(&signed).unwrap();
        let same = |report: Report| (report.entries, report.records, report.decisions, report.open, report.state);
        assert_eq!(same(report), same(original), "{commits:?}");
    }
}

#[tokio::test]
async fn a_decision_that_does_not_follow_is_named_however_well_it_is_signed() {
    let log = real().await;
    let (first, permitted) = log.requested(0);
    let (at, refused) = log.refused(0);
    log.assert_caught("a refusal becomes a permit", at, "must be refused: ATTRIBUTE_NOT_COVERED", |entries| {
        let Refused { exchange, new_subject, question, .. } = refused.clone();
        let requested = Requested { exchange, new_subject, question, ..permitted.clone() };
        entries[at].set(Event::Requested(Box::new(requested)));
    });
    log.assert_caught("a permit becomes a refusal", first, "must be permitted", |entries| {
        let Requested { exchange, new_subject, question, .. } = permitted.clone();
        let reasons = vec![Reason::AttributeNotCovered];
        entries[first].set(Event::Refused(Box::new(Refused {
            exchange,
            new_subject,
            question,
            reasons,
            rests_on: Vec::new(),
        })));
    });
    for reasons in [vec![], vec![Reason::QuotaExhausted], vec![Reason::AttributeNotCovered, Reason::QuotaExhausted]] {
        log.assert_caught("other reasons", at, "was refused for other reasons", |entries| {
            entries[at].set(Event::Refused(Box::new(Refused { reasons, ..refused.clone() })));
        });
    }
    log.assert_caught("another habilitation", first, "was permitted on other terms", |entries| {
        let habilitation = log.requested(1).1.habilitation;
        entries[first].set(Event::Requested(Box::new(Requested { habilitation, ..permitted.clone() })));
    });
    log.assert_caught("a person out of nowhere", first, "names a person whom no entry introduced", |entries| {
        entries[first].set(Event::Requested(Box::new(Requested { new_subject: None, ..permitted.clone() })));
    });
}

#[tokio::test]
async fn an_answer_that_was_not_permitted_is_named() {
    let log = real().await;
    let answer = log.find(18, 0);
    let edit = |entries: &mut Vec<Entry>, edit: &dyn Fn(&mut unefois_consent::event::Answered)| {
        let Event::Answered(answered) = &mut entries[answer].event else { panic!("not an answer") };
        edit(answered);
    };
    log.assert_caught("one attribute more", answer, "answers other attributes than were asked", |entries| {
        edit(entries, &|answered| {
            answered.attributes.insert(CHILDREN.parse().unwrap(), OutcomeCode::Found);
        });
    });
    log.assert_caught("no attribute", answer, "answers other attributes than were asked", |entries| {
        edit(entries, &|answered| answered.attributes.clear());
    });
    let other = log.person(2);
    assert_ne!(other, log.person(0));
    log.assert_caught("another person", answer, "ends an exchange that is another", |entries| {
        edit(entries, &|answered| answered.subject = other);
    });
    log.assert_caught("another consumer", answer, "answers another question", |entries| {
        let department = log.requested(1).1.question.consumer;
        edit(entries, &|answered| answered.consumer = department);
    });
    log.assert_caught("answered twice", answer + 1, "ends an exchange that was not under way", |entries| {
        repeat(entries, answer);
    });
    log.assert_caught("answered before it was asked", answer - 1, "rests on an entry that comes later", |entries| {
        swap_with_next(entries, answer - 1);
    });
    log.assert_caught("answered and never asked", answer - 1, "was not under way", |entries| {
        remove(entries, answer - 1);
    });
}

#[tokio::test]
async fn a_consent_that_was_hidden_or_made_up_is_named() {
    let log = real().await;
    let (grant, withdrawal) = (log.find(3, 0), log.find(4, 0));
    let (after_withdrawal, _) = log.refused(1);
    log.assert_caught("the withdrawal is dropped", after_withdrawal - 1, "must be permitted", |entries| {
        remove(entries, withdrawal);
    });
    log.assert_caught("the withdrawal comes after the refusal", withdrawal, "must be permitted", |entries| {
        assert_eq!(withdrawal + 1, after_withdrawal);
        swap_with_next(entries, withdrawal);
    });
    // What used the consent moves into its place.
    log.assert_caught("the grant is dropped", grant, "must be refused: CONSENT_MISSING", |entries| {
        remove(entries, grant);
    });
    log.assert_caught("the grant comes after its use", grant, "rests on an entry that comes later", |entries| {
        swap_with_next(entries, grant);
    });
    log.assert_caught("granted twice", grant + 1, "grants a consent twice", |entries| repeat(entries, grant));
    log.assert_caught("withdrawn twice", withdrawal + 1, "state does not allow", |entries| {
        repeat(entries, withdrawal);
    });
    log.assert_caught("a consent to more than the habilitation", grant, "breaks a rule: attributes", |entries| {
        let Event::ConsentGranted(granted) = &mut entries[grant].event else { panic!("not a grant") };
        granted.consent.attributes.insert(CHILDREN.parse().unwrap());
    });
}

#[tokio::test]
async fn a_key_without_the_role_and_a_leaf_of_another_kind_are_named() {
    let log = real().await;
    let question = log.requested(0).1.question;
    let town_hall = Actor { participant: question.consumer, key: question.key };
    let (change, reading) = (log.find(2, 0), log.find(32, 0));
    for (by, why) in [(Some(town_hall), "a key that was not enrolled for it"), (None, "in nobody's name")] {
        log.assert_caught("a registry that another changed", change, why, |entries| {
            let Event::RegistryChanged(changed) = &mut entries[change].event else { panic!("not a change") };
            changed.by = by;
        });
    }
    log.assert_caught("traces that a stranger read", reading, "a key that was not enrolled for it", |entries| {
        let Event::TracesRead(read) = &mut entries[reading].event else { panic!("not a reading") };
        read.by.participant = town_hall.participant;
    });
    for at in [log.find(16, 0), log.find(18, 0)] {
        log.assert_seen("another kind", at, "its leaf says another kind than its record", |entries| {
            entries[at].kind ^= 1;
        });
    }
    // What opens and closes a shard is known by its kind alone.
    for (at, kind, why) in [
        (0, 2, "entry 0: a shard opens with its first entry"),
        (reading, 1, "a shard opens with its first entry"),
        (log.find(16, 0), 23, "closes its shard, which goes on"),
        (reading, 33, "is of kind 33, which this version does not know"),
    ] {
        let mut entries = log.entries.clone();
        entries[at].kind = kind;
        let fault = log.verify(&log.sign(&entries, Commits::EachEntry)).unwrap_err().to_string();
        assert!(fault.contains(why), "{fault}");
    }
}

#[tokio::test]
async fn what_persons_were_told_cannot_be_rewritten() {
    let log = real().await;
    let published = log.entries.iter().find_map(|entry| match &entry.event {
        Event::RegistryChanged(changed) => match &changed.change {
            RegistryChange::PutProcedure(procedure) if procedure.id.as_str() == CANTEEN => Some(procedure.clone()),
            _ => None,
        },
        _ => None,
    });
    let published = published.expect("the canteen's procedure");
    let change = log.find(2, 0);
    let becomes = |change_to: RegistryChange| {
        move |entries: &mut Vec<Entry>| {
            let Event::RegistryChanged(changed) = &mut entries[change].event else { panic!("not a change") };
            changed.change = change_to;
        }
    };
    let rewritten = |edit: &dyn Fn(&mut Procedure)| {
        let mut procedure = published.clone();
        edit(&mut procedure);
        RegistryChange::PutProcedure(procedure)
    };
    let why = "was published and may not change";
    log.assert_caught("another text", change, why, becomes(rewritten(&|p| p.notices[0].en.push('!'))));
    log.assert_caught("a notice taken out", change, why, becomes(rewritten(&|p| drop(p.notices.remove(0)))));
    let gone = RegistryChange::RemoveProcedure(published.id.clone());
    log.assert_caught("the procedure taken out", change, "so it stays", becomes(gone));
}

#[tokio::test]
async fn time_that_goes_back_is_refused_by_verify() {
    let log = real().await;
    for at in [1, log.find(18, 0), log.entries.len() - 1] {
        let mut entries = log.entries.clone();
        entries[at].time_ms = entries[at - 1].time_ms;
        assert!(log.verify(&log.sign(&entries, Commits::EachEntry)).is_ok(), "equal times are in order");
        entries[at - 1].time_ms += 1;
        for commits in [Commits::EachEntry, Commits::AllAtOnce] {
            let fault = log.verify(&log.sign(&entries, commits)).unwrap_err();
            let what = "its time is before the time of the entry before it".to_owned();
            assert_eq!(fault, LogFault::Entry { index: at as u64, what }, "{commits:?}");
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_is_named_by_verify() {
    type Flip = fn(&mut Batch);
    let log = real().await;
    let flips: [(&str, Flip); 7] = [
        ("commitment", |batch| batch.entries[0].leaf.commitment.0[31] ^= 1),
        ("kind", |batch| batch.entries[0].leaf.kind ^= 1),
        ("time", |batch| batch.entries[0].leaf.time_ms ^= 1),
        ("sealed record", |batch| batch.entries[0].sealed[40] ^= 1),
        ("nonce", |batch| batch.entries[0].sealed[0] ^= 1),
        ("root", |batch| batch.root.0[0] ^= 0x80),
        ("signature", |batch| batch.signature[63] ^= 1),
    ];
    for (part, flip) in flips {
        for at in 0..log.batches.len() {
            let mut batches = log.batches.clone();
            flip(&mut batches[at]);
            let held = batches[at].first..batches[at].end();
            let fault = log.verify(&Batches(batches)).expect_err(part);
            let LogFault::Entry { index, .. } = &fault else { panic!("{part} of batch {at}: {fault}") };
            assert!(held.contains(index), "{part} of batch {at}: {fault}");
        }
    }
}
