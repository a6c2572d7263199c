//! The purge over simulated years: what is over becomes unreadable, what has effect stays, the log verifies and replays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use unefois_audit::Salt;
use unefois_consent::event::{Event, Refused};
use unefois_consent::registry::RegistryFile;
use unefois_consent::{Month, Reason, RecordPeriod, Retention, SubjectRef, Timestamp};
use unefois_engine::ManualClock;
use unefois_engine::replay::{BatchSource, Report, replay, verify};
use unefois_engine::seal::{Opener, Plain, seal_record};
use unefois_engine::store::{RecordKeys, Row, Visit};
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;
use unefois_store::embedded::{FileKeys, JournalReader, open_fold};
use unefois_store::{MemoryStore, Options};
use unefois_tests::ask::*;
use unefois_tests::copy_folder;
use unefois_tests::sandbox::Sandbox;
use unefois_tests::world;

/// The middle of a month, so many months after January 2027.
pub(crate) fn middle(months: u32) -> Timestamp {
    let month = Month::from_number("2027-01".parse::<Month>().unwrap().number() + months);
    format!("{month}-15T12:00:00Z").parse().unwrap()
}

fn months_of(time: Timestamp) -> u32 {
    time.month().number()
}

/// Each entry's period and what its record says; `None` where it cannot be read any more.
pub(crate) fn records(data: &Path) -> Vec<(RecordPeriod, Option<Event>)> {
    let opener = Opener::new(Arc::new(FileKeys::open(&data.join("keys")).unwrap()));
    let mut records = Vec::new();
    let reader = JournalReader::open(data).unwrap();
    reader
        .read(0, &mut |batch| {
            for (index, entry) in (batch.first..).zip(&batch.entries) {
                let opened = opener.open(index, entry).unwrap();
                records.push((entry.period(), opened.map(|opened| serde_json::from_str(&opened.record).unwrap())));
            }
            Visit::Continue
        })
        .unwrap();
    records
}

fn check(sandbox: &Sandbox) -> Report {
    let data = sandbox.data();
    let reader = JournalReader::open(&data).unwrap();
    let opener = Opener::new(Arc::new(FileKeys::open(&data.join("keys")).unwrap()));
    verify(&reader, &sandbox.key, &opener, &mut |_, _| {}).unwrap();
    replay(&reader, &sandbox.key, &opener, Arc::new(MemoryStore::new()), &mut |_, _| {}).unwrap()
}

/// A question whose notice was shown today, by the clock of the test.
pub(crate) fn today(mut question: v1::ExchangeRequest, now: Timestamp) -> v1::ExchangeRequest {
    use v1::exchange_request::Ground;
    let shown = match question.ground.as_mut().unwrap() {
        Ground::LawRequest(ground) => ground.notice.as_mut(),
        Ground::Proactive(ground) => ground.notice.as_mut(),
        Ground::Consent(_) | Ground::ExplicitRequest(_) => None,
    };
    if let Some(shown) = shown {
        shown.shown_at = Some(wire_instant(now));
    }
    question
}

/// Lets every habilitation last longer than the test.
pub(crate) fn for_long(file: &mut RegistryFile) {
    file.habilitations.iter_mut().for_each(|held| held.valid_until = "2099-01-01T00:00:00Z".parse().unwrap());
}

/// The references under which persons were asked about, by their names in the test.
pub(crate) fn subjects_of(records: &[(RecordPeriod, Option<Event>)]) -> BTreeSet<SubjectRef> {
    let asked = records.iter().filter_map(|(_, event)| match event {
        Some(Event::Requested(event)) => Some(event.question.subject),
        _ => None,
    });
    asked.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_years_what_is_over_goes_and_what_has_effect_stays() {
    let clock = Arc::new(ManualClock::new(middle(0)));
    let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    let proactive_for_long = |file: &mut RegistryFile| {
        allow_proactive(file);
        for_long(file);
    };
    sandbox.change_registry(proactive_for_long).await;
    let objects = v1::RecordObjectionRequest { subject: Some(person("PETIT")), procedure: String::new() };
    sandbox.client("ville").await.consent().record_objection(within(objects)).await.unwrap();
    let mut carried = 0;
    for months in 0..90 {
        let now = middle(months);
        clock.set(now);
        let engine = Arc::clone(sandbox.broker().engine());
        let purged = engine.purge().await.unwrap();
        carried += purged.carried;
        drop(engine);
        let town_hall = sandbox.client("ville").await;
        // One person is asked about each month, another in the first year only, a third proactively, a fourth objected.
        exchange(&town_hall, today(canteen("MARCHAND"), now)).await.unwrap();
        if months < 12 {
            exchange(&town_hall, today(canteen("DURAND"), now)).await.unwrap();
        }
        exchange(&town_hall, today(proactive(canteen("MOREAU")), now)).await.unwrap();
        let asked = exchange(&town_hall, today(proactive(canteen("PETIT")), now)).await;
        // What keeps an objection is kept 24 months; nobody confirmed it.
        if months < 24 {
            assert_refused(asked, "OBJECTION")
        } else {
            drop(asked.unwrap())
        }
        if months % 10 == 9 {
            // Also from a fold that is rebuilt out of what is left.
            sandbox.stop().await;
            let report = world::check(&sandbox.data(), &sandbox.key);
            assert_eq!((report.purged > 0, report.open), (months > 24, 0), "{months}");
            if months % 20 == 19 {
                std::fs::remove_dir_all(sandbox.data().join("fold")).unwrap();
            }
            sandbox.restart().await.unwrap();
        }
    }
    assert!(carried > 0);
    sandbox.stop().await;
    let report = world::check(&sandbox.data(), &sandbox.key);
    let records = records(&sandbox.data());
    let now = months_of(middle(89));
    for (index, (period, record)) in records.iter().enumerate() {
        let age = now - period.month.number();
        let over = period.retention != Retention::LOG && age > u32::from(period.retention.months());
        assert_eq!(record.is_none(), over, "entry {index} of {period}");
    }
    let count = records.iter().filter(|(_, record)| record.is_none()).count();
    assert_eq!(report.purged, count as u64);
    // 90 months, of which 37 are kept. Everyone who is still asked about has one reference.
    let kept = records.iter().filter(|(period, record)| period.retention == Retention::TRACES && record.is_some());
    assert_eq!(kept.map(|(period, _)| period.month).collect::<BTreeSet<_>>().len(), 37);
    assert_eq!(subjects_of(&records).len(), 3, "MARCHAND, MOREAU and PETIT, each under one reference for ever");
    // No row of the fold is of a purged record, and the keys are gone.
    let rows = swept(&mut sandbox).await;
    assert!(rows[0].len() <= 3 * 37, "{}", rows[0].len());
    assert!(rows[1].is_empty(), "an objection that lapsed left its row");
    for period in FileKeys::open(&sandbox.data().join("keys")).unwrap().periods().unwrap() {
        assert!(!period.is_over(middle(89).month()), "the key of {period} is still there");
    }
    sandbox.finish().await;
}

/// The rows of exchanges and of objections, when the broker has had time to remove those of purged records.
async fn swept(sandbox: &mut Sandbox) -> [Vec<Row>; 2] {
    let mut rows = Vec::new();
    for _ in 0..30 {
        sandbox.restart().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        sandbox.stop().await;
        let fold = open_fold(&sandbox.data().join("fold"), &Options::default()).unwrap();
        let found = [b"q", b"o"].map(|table| fold.scan(table, None, 100_000).unwrap());
        // Nothing was removed since the last look.
        if rows.last() == Some(&found) {
            break;
        }
        rows.push(found);
    }
    rows.pop().unwrap()
}

#[tokio::test]
async fn a_consent_is_kept_with_what_rests_on_it_and_a_shorter_procedure_goes_earlier() {
    let clock = Arc::new(ManualClock::new(middle(0)));
    let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    sandbox
        .change_registry(|file| {
            file.procedures.iter_mut().for_each(|procedure| {
                if procedure.id.as_str() == CANTEEN {
                    (procedure.trace_months, procedure.trace_article) = (3, "fictitious art. 1".to_owned());
                } else {
                    procedure.consent_max_days = 800
                }
            })
        })
        .await;
    let department = sandbox.client("departement").await;
    let consent = grant_on("MARCHAND", |terms| terms.expires_at = Some(wire_instant(middle(20))));
    let granted = department.consent().record_consent(within(consent)).await.unwrap().into_inner().consent.unwrap();
    exchange(&sandbox.client("ville").await, today(canteen("MARCHAND"), middle(0))).await.unwrap();
    let mut kept = BTreeMap::new();
    for months in 0..=58 {
        clock.set(middle(months));
        if months == 19 {
            let again = allowance("MARCHAND", Some(&granted.id));
            exchange(&sandbox.client("departement").await, again).await.unwrap();
        }
        let engine = Arc::clone(sandbox.broker().engine());
        engine.purge().await.unwrap();
        drop(engine);
        for (period, record) in records(&sandbox.data()) {
            if record.is_some() {
                kept.insert(period.to_string(), months);
            }
        }
    }
    // The town hall's exchange for 3 months; the department's of month 19 for 36; the consent, which ended in month 20,
    // for 36 months after that.
    assert_eq!(kept["2027-01.3"], 3);
    assert_eq!(kept["2028-08"], 19 + 36);
    assert_eq!(kept["2027-01.56"], 56);
    sandbox.restart().await.unwrap();
    let report = check(&sandbox);
    assert!(report.purged >= 4, "{report:?}");
    sandbox.finish().await;
}

/// Who can write the data folder, and has no key of the log, makes a withdrawal look as if it were kept for a month: sealed anew
/// under a key of that retention, which the broker itself would purge.
#[tokio::test]
async fn a_record_cannot_be_kept_for_another_time_than_its_leaf_commits_to() {
    let clock = Arc::new(ManualClock::new(middle(0)));
    let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    sandbox.change_registry(for_long).await;
    let expires_at = Some(wire_instant(middle(4)));
    let department = sandbox.client("departement").await;
    let id = granted(&department, grant_on("MARCHAND", |terms| terms.expires_at = expires_at)).await;
    withdraw(&department, &id).await;
    sandbox.stop().await;
    let data = sandbox.data();
    let mut batches = Vec::new();
    let keep = &mut |batch| {
        batches.push(batch);
        Visit::Continue
    };
    JournalReader::open(&data).unwrap().read(0, keep).unwrap();
    let segment = data.join("journal/00000000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let keys = FileKeys::open(&data.join("keys")).unwrap();
    let opener = Opener::new(Arc::new(FileKeys::open(&data.join("keys")).unwrap()));
    for batch in &mut batches {
        let before = unefois_store::embedded::encode_frame(batch).unwrap();
        let first = batch.first;
        let Some((index, entry)) = (first..).zip(&mut batch.entries).find(|(_, entry)| entry.leaf.kind == 4) else {
            continue;
        };
        let record = opener.open(index, entry).unwrap().unwrap();
        entry.opening.retention = Retention::from_months(1);
        let key = keys.get_or_create(entry.period()).unwrap();
        let (record_salt, retention_salt) = (record.salt, entry.opening.retention_salt);
        let links_salt = Salt([0; 32]);
        let plain = Plain { record_salt, retention_salt, links_salt, links: &[], record: &record.record };
        entry.sealed = seal_record(&key, (index, &entry.leaf, &entry.opening), &plain, [1; 12]).unwrap();
        let mut after = unefois_store::embedded::encode_frame(batch).unwrap();
        after.resize(before.len(), 0);
        let at = bytes.windows(before.len()).position(|window| window == before).unwrap();
        bytes[at..at + after.len()].copy_from_slice(&after);
    }
    std::fs::write(&segment, bytes).unwrap();
    std::fs::remove_dir_all(data.join("fold")).unwrap();

    let reader = JournalReader::open(&data).unwrap();
    let opener = Opener::new(Arc::new(FileKeys::open(&data.join("keys")).unwrap()));
    let verified = verify(&reader, &sandbox.key, &opener, &mut |_, _| {}).unwrap_err().to_string();
    let replayed =
        replay(&reader, &sandbox.key, &opener, Arc::new(MemoryStore::new()), &mut |_, _| {}).unwrap_err().to_string();
    let started = sandbox.restart().await.unwrap_err().to_string();
    for said in [verified, replayed, started] {
        assert!(said.contains("does not commit to how long its record is kept"), "{said}");
    }
}

#[tokio::test]
async fn a_purge_that_was_interrupted_is_finished_and_a_missing_key_is_not_taken_for_one() {
    let clock = Arc::new(ManualClock::new(middle(0)));
    let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    sandbox.change_registry(for_long).await;
    exchange(&sandbox.client("ville").await, today(canteen("MARCHAND"), middle(0))).await.unwrap();
    clock.set(middle(36));
    exchange(&sandbox.client("ville").await, today(canteen("MARCHAND"), middle(36))).await.unwrap();
    clock.set(middle(37));
    let key = sandbox.data().join("keys/records/2027-01.key");
    let kept = std::fs::read(&key).unwrap();
    let engine = Arc::clone(sandbox.broker().engine());
    let report = engine.purge().await.unwrap();
    assert_eq!((report.periods, report.carried), (vec!["2027-01".parse().unwrap()], 1));
    assert_eq!(engine.purge().await.unwrap().periods, [], "once is enough");
    drop(engine);
    assert!(!key.exists());
    // A crash between the entry and the key.
    sandbox.stop().await;
    std::fs::write(&key, &kept).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.restart().await.unwrap();
    assert!(!key.exists(), "the start did not finish the purge");
    assert_eq!(check(&sandbox).purged, 2);

    // A key that nobody purged is missed by verify, and by a start that needs it.
    sandbox.stop().await;
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&sandbox.data(), copy.path());
    let lost = copy.path().join("keys/records/2030-01.key");
    std::fs::remove_file(&lost).unwrap();
    let reader = JournalReader::open(copy.path()).unwrap();
    let opener = Opener::new(Arc::new(FileKeys::open(&copy.path().join("keys")).unwrap()));
    let fault = verify(&reader, &sandbox.key, &opener, &mut |_, _| {}).unwrap_err().to_string();
    assert!(fault.contains("no entry says that it was purged"), "{fault}");
    // A start does not make another key in its place.
    let key = sandbox.data().join("keys/records/2030-02.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let refused = sandbox.restart().await.unwrap_err().to_string();
    assert!(refused.contains("the key of the records of 2030-02 is missing"), "{refused}");
    assert!(!key.exists());
    std::fs::write(&key, &kept).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.restart().await.unwrap();
    sandbox.finish().await;
}

/// What a purge hides explains little: an operator with every key cannot hang a made-up answer or refusal on it.
#[tokio::test]
async fn forgeries_are_not_excused_by_what_was_purged() {
    for forgery in ["answer", "refusal"] {
        let clock = Arc::new(ManualClock::new(middle(0)));
        let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
        sandbox.change_registry(for_long).await;
        for months in [0, 36] {
            clock.set(middle(months));
            exchange(&sandbox.client("ville").await, today(canteen("MARCHAND"), middle(months))).await.unwrap();
        }
        let before = records(&sandbox.data());
        let begun: Vec<_> = (0..).zip(&before).filter(|(_, (_, e))| matches!(e, Some(Event::Requested(_)))).collect();
        let first = begun[0].0;
        let Some(Event::Requested(requested)) = &begun[1].1.1 else { panic!("{begun:?}") };
        clock.set(middle(37));
        let engine = Arc::clone(sandbox.broker().engine());
        assert_eq!(engine.purge().await.unwrap().periods, ["2027-01".parse().unwrap()]);
        let forged = match forgery {
            "answer" => {
                let answer = before.iter().rev().find_map(|(_, event)| match event {
                    Some(Event::Answered(answered)) => Some(answered.clone()),
                    _ => None,
                });
                let mut answer = answer.unwrap();
                answer.requested = first;
                Event::Answered(answer)
            }
            _ => {
                let mut question = requested.question.clone();
                question.request_id = request_id().parse().unwrap();
                let (exchange, reasons) = (unefois_consent::ExchangeId([7; 16]), vec![Reason::QuotaExhausted]);
                Event::Refused(Box::new(Refused {
                    exchange,
                    new_subject: None,
                    question,
                    reasons,
                    rests_on: Vec::new(),
                }))
            }
        };
        let soon = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let index = engine.append(forged, soon).await.unwrap().proof.index;
        drop(engine);
        sandbox.stop().await;
        let reader = JournalReader::open(&sandbox.data()).unwrap();
        let opener = Opener::new(Arc::new(FileKeys::open(&sandbox.data().join("keys")).unwrap()));
        let fault = replay(&reader, &sandbox.key, &opener, Arc::new(MemoryStore::new()), &mut |_, _| {}).unwrap_err();
        assert!(fault.to_string().starts_with(&format!("entry {index}:")), "{forgery}: {fault}");
    }
}
