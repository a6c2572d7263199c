//! A clock that is wrong: nothing is written or purged by it, and an operator can go on from it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tonic::Code;
use unefois::mirror::{Mirror, Source};
use unefois_consent::event::{AcceptedClock, Event, LogOpened};
use unefois_consent::{RecordPeriod, Timestamp};
use unefois_engine::store::RecordKeys;
use unefois_engine::{Clock, EngineError, ManualClock, SystemClock};
use unefois_proto::v1;
use unefois_store::embedded::FileKeys;
use unefois_tests::ask::{CANTEEN, assert_refused, canteen, exchange, object, person, reason, within};
use unefois_tests::process;
use unefois_tests::sandbox::Sandbox;
use unefois_tests::world;

use crate::public_log::fetch;
use crate::purge::{for_long, middle, today};
use crate::shards::{configure_shard, signer};

/// To what somebody sets a clock.
type Jump = fn(Timestamp) -> Timestamp;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn keys(sandbox: &Sandbox) -> Vec<RecordPeriod> {
    FileKeys::open(&sandbox.data().join("keys")).unwrap().periods().unwrap()
}

async fn ask(sandbox: &Sandbox, clock: &ManualClock) -> Result<v1::ExchangeResponse, tonic::Status> {
    exchange(&sandbox.client("ville").await, today(canteen("MARCHAND"), clock.now())).await
}

/// The broker writes nothing, asks nobody and destroys nothing, and says why.
async fn assert_in_doubt(sandbox: &Sandbox, clock: &ManualClock, why: &str) {
    let engine = Arc::clone(sandbox.broker().engine());
    let before = (engine.head().entries(), sandbox.source.asked(), keys(sandbox));
    let refused = ask(sandbox, clock).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "CLOCK_WRONG"), "{refused}");
    assert!(matches!(engine.purge().await, Err(EngineError::ClockWrong(_))));
    let said = engine.ready().unwrap_err().to_string();
    assert!(said.contains(why), "{said}");
    assert_eq!((engine.head().entries(), sandbox.source.asked(), keys(sandbox)), before);
}

#[tokio::test]
async fn a_clock_that_jumps_while_the_broker_runs_writes_and_destroys_nothing_until_the_jump_is_undone() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    ask(&sandbox, &clock).await.unwrap();
    let jumps: [(Jump, &str); 3] = [
        (|now| now.plus(10 * YEAR), "set ahead by 3650 days"),
        (|now| now.plus(Duration::from_secs(600)), "set ahead by 10 min"),
        (|now| now.minus(YEAR), "set back by 365 days"),
    ];
    for (jump, why) in jumps {
        let right = clock.now();
        clock.set_wall(jump(right));
        assert_in_doubt(&sandbox, &clock, why).await;
        clock.advance_boot(Duration::from_secs(60));
        clock.set_wall(right.plus(Duration::from_secs(60)));
        assert!(sandbox.broker().engine().ready().is_ok());
        ask(&sandbox, &clock).await.unwrap();
    }
    sandbox.finish().await;
}

#[tokio::test]
async fn a_wrong_clock_at_the_start_writes_and_destroys_nothing_however_often_it_starts() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    ask(&sandbox, &clock).await.unwrap();
    let right = clock.now();
    for (wrong, why) in [
        (right.plus(10 * YEAR), "after the last entry of the log"),
        (right.minus(DAY), "the last entry of the log is of"),
        (Timestamp::from_millis(0), "the last entry of the log is of"),
    ] {
        for _ in 0..2 {
            clock.set_wall(wrong);
            sandbox.restart().await.unwrap();
            assert_in_doubt(&sandbox, &clock, why).await;
            // Not by and by either.
            clock.advance(2 * DAY);
            let ready = sandbox.broker().engine().ready().is_ok();
            assert_eq!(ready, wrong == right.minus(DAY), "it has caught up");
        }
    }
    clock.set_wall(right);
    assert!(sandbox.broker().engine().ready().is_ok());
    ask(&sandbox, &clock).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn a_broker_that_was_off_for_the_summer_goes_on() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    sandbox.stop().await;
    clock.advance(75 * DAY);
    sandbox.restart().await.unwrap();
    ask(&sandbox, &clock).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn an_exchange_that_was_under_way_when_the_clock_jumped_gets_its_end() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    let right = clock.now();
    for restarts in [false, true] {
        sandbox.source.hold();
        let client = sandbox.client("ville").await;
        let asked = sandbox.source.asked();
        let call = tokio::spawn(async move { exchange(&client, today(canteen("MARCHAND"), right)).await });
        sandbox.source.was_asked(asked + 1).await;
        clock.set_wall(right.plus(10 * YEAR));
        sandbox.source.release();
        let refused = call.await.unwrap().unwrap_err();
        assert_eq!(reason(&refused), "CLOCK_WRONG", "{refused}");
        if restarts {
            // The end is of the time of the entry before: it says nothing of the clock.
            sandbox.restart().await.unwrap();
            assert_in_doubt(&sandbox, &clock, "after the last entry").await;
        }
        clock.set_wall(right);
        ask(&sandbox, &clock).await.unwrap();
    }
    sandbox.finish().await;
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let (status, _, body) = fetch(address, path).await;
    (status, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn readiness_says_what_is_wrong_with_the_clock_and_the_way_out() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let mut sandbox = Sandbox::start_with(clock.clone(), |loaded| {
        loaded.config.metrics.listen = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let readiness = async |sandbox: &Sandbox| get(sandbox.broker().metrics_address.unwrap(), "/readyz").await;
    assert_eq!(readiness(&sandbox).await, (200, "ready\n".to_owned()));
    clock.set_wall(clock.now().plus(YEAR));
    let (status, text) = readiness(&sandbox).await;
    assert!(status == 503 && text.contains("set ahead") && text.contains("restart the broker"), "{status} {text}");
    sandbox.restart().await.unwrap();
    let (status, text) = readiness(&sandbox).await;
    assert!(status == 503 && text.contains("audit accept-clock"), "{status} {text}");
    assert_eq!(get(sandbox.broker().metrics_address.unwrap(), "/healthz").await.0, 200);
    sandbox.finish().await;
}

fn said(arguments: &[&str]) -> (Option<i32>, String) {
    let output = process::run(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

fn opened(data: &Path) -> Vec<LogOpened> {
    let opened = world::events(data).into_iter().filter_map(|(_, event)| match event {
        Event::LogOpened(opened) => Some(opened),
        _ => None,
    });
    opened.collect()
}

/// What `accept-clock` does to a log that a clock wrote which said `wrong`, and what holds afterwards.
async fn accept_by_command(wrong: Timestamp) {
    let clock = Arc::new(ManualClock::new(wrong));
    let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    // No right of the registry is of that time.
    assert_eq!(reason(&ask(&sandbox, &clock).await.unwrap_err()), "HABILITATION_OUT_OF_DATE");
    let (folder, config) = (sandbox.folder.path.clone(), sandbox.folder.config());
    let (config, key) = (config.to_str().unwrap(), folder.join("keys/right.key"));
    let receipt = folder.join("closed.json");
    let close = |command| {
        let (key, receipt) = (key.to_str().unwrap(), receipt.to_str().unwrap());
        said(&["audit", command, "-c", config, "--shard", "right", "--signing-key", key, "--receipt", receipt])
    };
    let accept = || close("accept-clock");
    let (code, text) = accept();
    assert!(code == Some(1) && text.contains("is locked"), "{text}");
    sandbox.stop().await;
    let (code, text) = close("close-shard");
    assert!(code == Some(1) && text.contains("audit accept-clock"), "a shard does not end by a clock in doubt: {text}");
    let first_key = sandbox.key.clone();
    let (code, text) = accept();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("shard = \"right\"") && text.contains("The last entry is of"), "{text}");
    let (code, text) = said(&["receipt", "verify", receipt.to_str().unwrap(), "--key", &first_key.to_string()]);
    assert_eq!(code, Some(0), "{text}");

    configure_shard(&folder, "right");
    let check = || {
        for check in ["verify", "replay"] {
            let (code, text) = said(&["audit", check, "-c", config]);
            assert_eq!(code, Some(0), "{check}: {text}");
        }
    };
    check();
    sandbox.key = signer(&folder).verifier_key().clone();
    clock.set_wall(SystemClock.now());
    sandbox.restart().await.unwrap();
    let begun = clock.now();
    ask(&sandbox, &clock).await.unwrap();
    let url = format!("http://{}", sandbox.broker().log_address.unwrap());
    for (key, address) in [(&first_key, format!("{url}/shard/0")), (&sandbox.key, url.clone())] {
        let copy = tempfile::tempdir().unwrap();
        let source = Source::new(&address).unwrap();
        Mirror::open(copy.path(), key).unwrap().update(&source, &mut |_, _| {}).await.unwrap();
    }
    // Also from a fold that is built anew.
    sandbox.stop().await;
    check();
    std::fs::remove_dir_all(sandbox.data().join("fold")).unwrap();
    sandbox.restart().await.unwrap();
    ask(&sandbox, &clock).await.unwrap();
    sandbox.stop().await;
    let opened = opened(&sandbox.data());
    let [LogOpened { clock: None, .. }, LogOpened { clock: Some(AcceptedClock { from, to }), .. }] = &opened[..] else {
        panic!("{opened:?}")
    };
    assert!(*from == wrong && begun.since(*to) < Duration::from_secs(60), "{from} {to}");
    std::fs::remove_file(&receipt).unwrap();
    let (code, text) = accept();
    assert!(code == Some(1) && text.contains("nothing to accept"), "{text}");
    sandbox.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_a_clock_that_was_ahead_goes_on_by_the_right_one_and_verifies_and_replays() {
    accept_by_command(SystemClock.now().plus(3 * YEAR)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_stood_still_for_years_goes_on_and_verifies_and_replays() {
    accept_by_command(SystemClock.now().minus(3 * YEAR)).await;
}

/// Stops the broker, says that the clock is right, and starts it in the next shard.
async fn accept(sandbox: &mut Sandbox, name: &str) -> Result<(), EngineError> {
    let folder = sandbox.folder.path.clone();
    let now = signer(&folder);
    let text = std::fs::read_to_string(sandbox.folder.config()).unwrap();
    configure_shard(&folder, name);
    let next = signer(&folder);
    if let Err(error) = sandbox.broker().engine().accept_clock(&*now, &*next).await {
        std::fs::write(sandbox.folder.config(), text).unwrap();
        return Err(error);
    }
    sandbox.key = next.verifier_key().clone();
    sandbox.restart().await.unwrap();
    Ok(())
}

/// Purges day by day until nothing is due.
async fn purge(sandbox: &Sandbox, clock: &ManualClock) -> Vec<RecordPeriod> {
    let mut purged = Vec::new();
    loop {
        clock.advance(DAY);
        let periods = sandbox.broker().engine().purge().await.unwrap().periods;
        if periods.is_empty() {
            return purged;
        }
        purged.extend(periods);
    }
}

#[tokio::test]
async fn time_goes_back_to_no_month_that_was_purged_and_purges_go_on_from_where_it_went_back_to() {
    let clock = Arc::new(ManualClock::new(middle(0)));
    let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    sandbox
        .change_registry(|file| {
            for_long(file);
            let shorter = file.procedures.iter_mut().filter(|procedure| procedure.id.as_str() == CANTEEN);
            shorter.for_each(|p| (p.trace_months, p.trace_article) = (3, "fictitious art. 1".to_owned()));
        })
        .await;
    assert!(matches!(accept(&mut sandbox, "early").await, Err(EngineError::NotAllowed(_))), "the clock fits");
    ask(&sandbox, &clock).await.unwrap();
    clock.set(middle(30));
    ask(&sandbox, &clock).await.unwrap();
    let short = |month: u32| format!("{}.3", middle(month).month());
    assert_eq!(purge(&sandbox, &clock).await.iter().map(ToString::to_string).collect::<Vec<_>>(), [short(0)]);
    // All of it was a mistake.
    clock.set_wall(middle(0));
    sandbox.restart().await.unwrap();
    let refused = accept(&mut sandbox, "again").await.unwrap_err();
    assert!(refused.to_string().contains("2027-01 were purged"), "{refused}");
    sandbox.restart().await.unwrap();
    clock.set_wall(middle(1));
    accept(&mut sandbox, "right").await.unwrap();
    // So many that whoever halves the log as a whole meets them, and not the month that came too early.
    for _ in 0..30 {
        ask(&sandbox, &clock).await.unwrap();
    }
    assert_eq!(purge(&sandbox, &clock).await, []);
    // Each month as it comes, also the one that was there already.
    for (month, due) in [(5, vec![1]), (30, vec![5]), (31, vec![]), (40, vec![30, 31])] {
        clock.set(middle(month));
        ask(&sandbox, &clock).await.unwrap();
        let purged = purge(&sandbox, &clock).await;
        let shorter = purged.iter().map(ToString::to_string).filter(|period| period.ends_with(".3"));
        assert_eq!(shorter.collect::<Vec<_>>(), due.iter().map(|month| short(*month)).collect::<Vec<_>>(), "{month}");
    }
    sandbox.stop().await;
    world::check(&sandbox.data(), &sandbox.key);
    std::fs::remove_dir_all(sandbox.data().join("fold")).unwrap();
    sandbox.restart().await.unwrap();
    ask(&sandbox, &clock).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn a_broker_that_is_started_anew_each_day_purges_and_not_by_a_clock_that_is_ahead() {
    let clock = Arc::new(ManualClock::new(middle(0)));
    let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    sandbox
        .change_registry(|file| {
            for_long(file);
            let shorter = file.procedures.iter_mut().filter(|procedure| procedure.id.as_str() == CANTEEN);
            shorter.for_each(|p| (p.trace_months, p.trace_article) = (3, "fictitious art. 1".to_owned()));
        })
        .await;
    for month in [0, 2, 4] {
        clock.set(middle(month));
        ask(&sandbox, &clock).await.unwrap();
    }
    let mut purged = Vec::new();
    for _ in 0..3 {
        clock.advance(DAY / 2);
        sandbox.stop().await;
        clock.advance(DAY / 2);
        sandbox.restart().await.unwrap();
        purged.extend(sandbox.broker().engine().purge().await.unwrap().periods);
        ask(&sandbox, &clock).await.unwrap();
    }
    assert_eq!(purged.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2027-01.3"]);
    // Two months too early, and the start is believed: nobody could tell it from a summer.
    sandbox.stop().await;
    clock.set_wall(clock.now().plus(60 * DAY));
    sandbox.restart().await.unwrap();
    ask(&sandbox, &clock).await.unwrap();
    assert_eq!(sandbox.broker().engine().purge().await.unwrap().periods, []);
    sandbox.finish().await;
}

/// What is done by a clock that is two months ahead, until somebody puts it right.
async fn ahead_by_two_months(sandbox: &mut Sandbox, clock: &ManualClock, question: v1::ExchangeRequest) {
    clock.set_wall(middle(2));
    sandbox.restart().await.unwrap();
    let town_hall = sandbox.client("ville").await;
    exchange(&town_hall, today(question, clock.now())).await.unwrap();
    object(&town_hall, "PETIT").await;
    clock.set_wall(middle(0));
    sandbox.restart().await.unwrap();
    accept(sandbox, "right").await.unwrap();
}

#[tokio::test]
async fn what_changes_a_fact_of_a_clock_that_was_ahead_is_not_forgotten_before_it() {
    let clock = Arc::new(ManualClock::new(middle(0)));
    let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    sandbox.change_registry(for_long).await;
    let question = canteen("MARCHAND");
    ahead_by_two_months(&mut sandbox, &clock, question.clone()).await;
    let town_hall = sandbox.client("ville").await;
    // The attempt would be forgotten two months before the one that it follows on.
    assert_refused(exchange(&town_hall, today(question, middle(2))).await, "RETRY_TOO_LATE");
    let lifted = v1::LiftObjectionRequest { subject: Some(person("PETIT")), procedure: String::new() };
    town_hall.consent().lift_objection(within(lifted)).await.unwrap();
    // A lift is kept for 24 months and an objection too, and this lift is older by its month than what it lifts.
    for months in 1..=28 {
        clock.set(middle(months));
        ask(&sandbox, &clock).await.unwrap();
        purge(&sandbox, &clock).await;
        if months == 25 {
            object(&sandbox.client("ville").await, "PETIT").await;
        }
        if months >= 24 {
            sandbox.stop().await;
            world::check(&sandbox.data(), &sandbox.key);
            sandbox.restart().await.unwrap();
        }
    }
    sandbox.finish().await;
}
