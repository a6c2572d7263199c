use std::future::{pending, ready};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::{join_all, poll_immediate};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use serde_json::{Value, json};
use tokio::sync::Notify;
use unefois_consent::{AttributeId, Outcome, OutcomeCode};

use super::*;
use crate::testing::logs::Logs;
use crate::testing::{Asked, RECIPIENT};
use crate::{BoxFuture, Sharing};

mod sharing;

/// A connector that does what the test says.
#[derive(Debug, Default)]
struct Fake {
    answer: Option<Result<SourceAnswer, SourceFault>>,
    release: Option<Arc<Notify>>,
    calls: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
    may_ask_again: bool,
    sharing: Option<Sharing>,
}

impl Connector for Fake {
    fn serves(&self, dataset: &DatasetId) -> bool {
        dataset.as_str() == "test.data"
    }

    fn sharing(&self, _: &Fetch<'_>) -> Sharing {
        self.sharing.unwrap_or(Sharing::Never)
    }

    fn may_ask_again(&self, _: &DatasetId) -> bool {
        self.may_ask_again
    }

    fn fetch<'a>(&'a self, _: Fetch<'a>) -> BoxFuture<'a, Result<SourceAnswer, SourceFault>> {
        Box::pin(async {
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.most.fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            if let Some(release) = &self.release {
                release.notified().await;
            }
            let answer = match &self.answer {
                Some(answer) => ready(answer.clone()).await,
                None => pending().await,
            };
            self.running.fetch_sub(1, Ordering::SeqCst);
            answer
        })
    }
}

fn asked() -> Asked {
    Asked::new("test.data", &["a", "b"])
}

fn found(asked: &Asked, values: &[(usize, Value)]) -> Vec<(AttributeId, Outcome)> {
    values.iter().map(|(i, value)| (asked.attribute(*i), Outcome::Found(value.clone()))).collect()
}

fn guarded(fake: Fake) -> (Guarded, Arc<Fake>) {
    limited(fake, Limits { max_concurrent: 2, max_answer_bytes: 64, ..Limits::default() })
}

fn limited(fake: Fake, limits: Limits) -> (Guarded, Arc<Fake>) {
    let fake = Arc::new(fake);
    let connector: Arc<dyn Connector> = Arc::clone(&fake) as _;
    (Guarded::new("test".parse().unwrap(), connector, limits), fake)
}

fn answering(outcomes: Vec<(AttributeId, Outcome)>) -> (Guarded, Arc<Fake>) {
    guarded(Fake { answer: Some(Ok(SourceAnswer::of(outcomes, None))), ..Fake::default() })
}

fn all_missing(asked: &Asked, code: OutcomeCode) -> SourceAnswer {
    SourceAnswer::missing(asked.dataset(), code)
}

#[tokio::test]
async fn a_right_answer_passes_unchanged() {
    let asked = asked();
    let outcomes = found(&asked, &[(0, json!(0)), (1, json!({"x": [1]}))]);
    let (guard, _) = answering(outcomes.clone());
    assert_eq!(guard.ask(asked.fetch()).await.outcomes, outcomes);
    assert!(guard.serves(&"test.data".parse().unwrap()) && !guard.serves(&"test.other".parse().unwrap()));
    assert_eq!(guard.name().as_str(), "test");
}

#[tokio::test(start_paused = true)]
async fn questions_are_spaced_and_one_whose_turn_comes_too_late_fails_at_once() {
    let outcomes = found(&asked(), &[(0, json!(0)), (1, json!(1))]);
    let fake = Fake { answer: Some(Ok(SourceAnswer::of(outcomes, None))), ..Fake::default() };
    let (guard, fake) = limited(fake, Limits { per_second: 10, ..Limits::default() });
    let mut asked = asked();
    asked.timeout = Duration::from_millis(450);
    let begun = Instant::now();
    let ask = || async {
        let answer = guard.ask(asked.fetch()).await;
        (answer.outcomes[0].1.code(), begun.elapsed())
    };
    let answers = join_all((0..8).map(|_| ask())).await;
    let times: Vec<_> = answers.iter().map(|(_, elapsed)| elapsed.as_millis()).collect();
    assert_eq!(times, [0, 100, 200, 300, 400, 0, 0, 0]);
    let codes: Vec<_> = answers.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes[..5], [OutcomeCode::Found; 5]);
    assert_eq!(codes[5..], [OutcomeCode::RateLimited; 3]);
    assert_eq!(fake.calls.load(Ordering::SeqCst), 5);
    // Who waited long ago takes no turn from those who come later.
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(guard.ask(asked.fetch()).await.outcomes[0].1.code(), OutcomeCode::Found);
}

#[tokio::test]
async fn an_attribute_that_was_not_asked_is_cut() {
    let asked = asked();
    let mut outcomes = found(&asked, &[(1, json!("b")), (0, json!("a"))]);
    outcomes.insert(1, ("test.data.secret".parse().unwrap(), Outcome::Found(json!("x".repeat(1000)))));
    let (guard, _) = answering(outcomes);
    let answer = guard.ask(asked.fetch()).await;
    assert_eq!(answer.outcomes, found(&asked, &[(0, json!("a")), (1, json!("b"))]));
}

#[tokio::test]
async fn a_missing_or_doubled_attribute_makes_the_answer_untrusted() {
    let asked = asked();
    let one = json!(1);
    for outcomes in [
        found(&asked, &[]),
        found(&asked, &[(0, one.clone())]),
        found(&asked, &[(0, one.clone()), (0, one.clone())]),
        found(&asked, &[(0, one.clone()), (1, one.clone()), (1, one.clone())]),
    ] {
        let (guard, _) = answering(outcomes);
        assert_eq!(guard.ask(asked.fetch()).await, all_missing(&asked, OutcomeCode::SourceDown));
    }
}

#[tokio::test]
async fn an_outcome_that_no_source_gives_makes_the_answer_untrusted() {
    let asked = asked();
    for code in [OutcomeCode::Found, OutcomeCode::Withheld] {
        let (guard, _) = answering(all_missing(&asked, code).outcomes);
        assert_eq!(guard.ask(asked.fetch()).await, all_missing(&asked, OutcomeCode::SourceDown));
    }
}

#[tokio::test]
async fn an_answer_larger_than_allowed_is_untrusted_and_one_just_as_large_is_not() {
    let asked = asked();
    for (len, code) in [(30, OutcomeCode::Found), (31, OutcomeCode::SourceDown), (1000, OutcomeCode::SourceDown)] {
        // Each value takes two quotes: 32 + 32 bytes are the limit of 64.
        let (guard, _) = answering(found(&asked, &[(0, json!("x".repeat(30))), (1, json!("y".repeat(len)))]));
        assert_eq!(guard.ask(asked.fetch()).await.outcomes[1].1.code(), code, "{len}");
    }
}

#[tokio::test]
async fn a_value_nested_too_deeply_is_untrusted() {
    let asked = asked();
    for (depth, code) in [(16, OutcomeCode::Found), (17, OutcomeCode::SourceDown), (100, OutcomeCode::SourceDown)] {
        let nested = (0..depth).fold(json!(1), |value, _| Value::Array(vec![value]));
        let (guard, _) = answering(found(&asked, &[(0, json!(1)), (1, nested)]));
        assert_eq!(guard.ask(asked.fetch()).await.outcomes[0].1.code(), code, "{depth}");
    }
}

#[tokio::test]
async fn a_reference_that_is_no_reference_is_dropped() {
    let asked = asked();
    for (reference, kept) in [("ref-1", true), ("", false), ("a b", false), ("é", false), (&*"x".repeat(129), false)] {
        let outcomes = found(&asked, &[(0, json!(1)), (1, json!(1))]);
        let answer = SourceAnswer::of(outcomes, Some(reference.to_owned()));
        let (guard, _) = guarded(Fake { answer: Some(Ok(answer)), ..Fake::default() });
        assert_eq!(guard.ask(asked.fetch()).await.reference.is_some(), kept, "{reference}");
    }
}

#[tokio::test]
async fn each_fault_becomes_an_outcome_for_each_attribute() {
    let asked = asked();
    for (fault, code) in [
        (SourceFault::Timeout, OutcomeCode::SourceDown),
        (SourceFault::Down("x"), OutcomeCode::SourceDown),
        (SourceFault::Untrusted("x"), OutcomeCode::SourceDown),
        (SourceFault::RateLimited("x"), OutcomeCode::RateLimited),
        (SourceFault::NotAuthorised("x"), OutcomeCode::NotAuthorised),
    ] {
        let (guard, _) = guarded(Fake { answer: Some(Err(fault)), ..Fake::default() });
        assert_eq!(guard.ask(asked.fetch()).await, all_missing(&asked, code));
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_left_at_its_timeout_or_the_deadline() {
    for (timeout_ms, deadline_ms) in [(300, 5_000), (5_000, 300)] {
        let mut asked = asked();
        asked.timeout = Duration::from_millis(deadline_ms);
        let limits = Limits { timeout: Duration::from_millis(timeout_ms), ..Limits::default() };
        let (guard, _) = limited(Fake::default(), limits);
        let started = Instant::now();
        assert_eq!(guard.ask(asked.fetch()).await, all_missing(&asked, OutcomeCode::SourceDown));
        assert!((300..310).contains(&started.elapsed().as_millis()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_past_its_deadline_is_not_asked() {
    let mut asked = asked();
    asked.timeout = Duration::ZERO;
    let (guard, fake) = answering(found(&asked, &[(0, json!(1)), (1, json!(1))]));
    assert_eq!(guard.ask(asked.fetch()).await, all_missing(&asked, OutcomeCode::SourceDown));
    assert_eq!(fake.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_once_than_allowed_and_who_waits_too_long_is_not_asked() {
    let (guard, fake) = guarded(Fake::default());
    let asked = asked();
    let answers = join_all((0..10).map(|_| guard.ask(asked.fetch()))).await;
    assert!(answers.iter().all(|a| *a == all_missing(&asked, OutcomeCode::SourceDown)));
    assert_eq!(fake.most.load(Ordering::SeqCst), 2);
    assert_eq!(fake.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_cancelled_question_gives_its_place_back() {
    let asked = asked();
    let release = Arc::new(Notify::new());
    let outcomes = found(&asked, &[(0, json!(1)), (1, json!(1))]);
    let answer = Some(Ok(SourceAnswer::of(outcomes.clone(), None)));
    let (guard, fake) = guarded(Fake { answer, release: Some(Arc::clone(&release)), ..Fake::default() });
    {
        let (mut first, mut second) = (Box::pin(guard.ask(asked.fetch())), Box::pin(guard.ask(asked.fetch())));
        assert!(poll_immediate(&mut first).await.is_none() && poll_immediate(&mut second).await.is_none());
        assert_eq!(guard.places.available_permits(), 0);
    }
    assert_eq!(guard.places.available_permits(), 2);
    let mut third = Box::pin(guard.ask(asked.fetch()));
    assert!(poll_immediate(&mut third).await.is_none());
    release.notify_one();
    assert_eq!(third.await.outcomes, outcomes);
    assert_eq!(fake.calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_answer_that_is_there_at_once_is_given_at_the_first_poll() {
    let asked = asked();
    let (guard, _) = answering(found(&asked, &[(0, json!(1)), (1, json!(1))]));
    let mut answer = Box::pin(guard.ask(asked.fetch()));
    assert!(poll_immediate(&mut answer).await.is_some());
}

fn recorder() -> PrometheusRecorder {
    PrometheusBuilder::new().build_recorder()
}

#[tokio::test]
async fn the_operator_is_told_of_each_answer_and_nothing_of_the_person() {
    let recorder = recorder();
    let _metrics = metrics::set_default_local_recorder(&recorder);
    let (logs, _capture) = Logs::capture();
    let asked = asked();
    let mut outcomes = found(&asked, &[(0, json!("valeur-42"))]);
    outcomes.push((asked.attribute(1), Outcome::Missing(OutcomeCode::NoFile)));
    answering(outcomes).0.ask(asked.fetch()).await;
    for fault in [SourceFault::Untrusted("the answer has no body"), SourceFault::NotAuthorised("the token has expired")]
    {
        guarded(Fake { answer: Some(Err(fault)), ..Fake::default() }).0.ask(asked.fetch()).await;
    }
    // A right that is missing for one attribute is told as well.
    let mut outcomes = found(&asked, &[(0, json!("valeur-42"))]);
    outcomes.push((asked.attribute(1), Outcome::Missing(OutcomeCode::NotAuthorised)));
    answering(outcomes).0.ask(asked.fetch()).await;

    let text = recorder.handle().render();
    for line in [
        "unefois_source_answers_total{connector=\"test\",outcome=\"NO_FILE\"} 1",
        "unefois_source_answers_total{connector=\"test\",outcome=\"untrusted\"} 1",
        "unefois_source_in_flight{connector=\"test\"} 0",
        "unefois_source_seconds_count{connector=\"test\"} 4",
        "unefois_source_refusals_total{connector=\"test\",dataset=\"test.data\"} 2",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let logs = logs.text();
    assert!(logs.contains("fault=\"untrusted\"") && logs.contains("dataset=\"test.data\""), "{logs}");
    let refused = logs.lines().find(|line| line.contains("a source refuses this broker")).unwrap();
    assert!(refused.contains(RECIPIENT) && refused.contains("the token has expired"), "{refused}");
    for secret in ["valeur-42", "Lef", "Gérôme", "1982-12"] {
        assert!(!logs.contains(secret) && !text.contains(secret), "{secret}");
    }
}

fn down() -> Fake {
    Fake { answer: Some(Err(SourceFault::Down("test"))), ..Fake::default() }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_again_and_again_is_left_alone_and_probed_by_one() {
    let asked = asked();
    let (guard, fake) = limited(down(), Limits { breaker_failures: 3, ..Limits::default() });
    for calls in [1, 2, 3, 3, 3] {
        assert_eq!(guard.ask(asked.fetch()).await, all_missing(&asked, OutcomeCode::SourceDown));
        assert_eq!(fake.calls.load(Ordering::SeqCst), calls);
    }
    // Another dataset has another provider.
    let other = Asked::new("test.other", &["a"]);
    guard.ask(other.fetch()).await;
    assert_eq!(fake.calls.load(Ordering::SeqCst), 4);
    tokio::time::advance(Duration::from_secs(2)).await;
    for _ in 0..3 {
        guard.ask(asked.fetch()).await;
    }
    assert_eq!(fake.calls.load(Ordering::SeqCst), 5);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_down_is_asked_once_more_where_that_is_safe_and_there_is_time() {
    let asked = asked();
    for (may_ask_again, timeout_ms, calls) in [(true, 5_000, 2), (false, 5_000, 1), (true, 40, 1)] {
        let limits = Limits { timeout: Duration::from_millis(timeout_ms), ..Limits::default() };
        let (guard, fake) = limited(Fake { may_ask_again, ..down() }, limits);
        guard.ask(asked.fetch()).await;
        assert_eq!(fake.calls.load(Ordering::SeqCst), calls, "{may_ask_again} {timeout_ms}");
    }
    // What is no failure of the way is asked once.
    let refused =
        Fake { answer: Some(Err(SourceFault::NotAuthorised("test"))), may_ask_again: true, ..Fake::default() };
    let (guard, fake) = guarded(refused);
    guard.ask(asked.fetch()).await;
    assert_eq!(fake.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_source_that_hangs_is_left_alone_by_the_real_clock_too() {
    let asked = asked();
    let limits = Limits { timeout: Duration::from_millis(30), breaker_failures: 3, ..Limits::default() };
    let (guard, fake) = limited(Fake::default(), limits);
    for _ in 0..6 {
        guard.ask(asked.fetch()).await;
    }
    assert_eq!(fake.calls.load(Ordering::SeqCst), 3);
}
