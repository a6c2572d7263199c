//! The same question at once, and soon after.

use super::*;
use crate::testing::identity;

fn shared(sharing: Sharing, keep: Duration, may_keep: Option<Duration>) -> (Guarded, Arc<Fake>) {
    let outcomes = found(&asked(), &[(0, json!("a")), (1, json!("b"))]);
    let answer = SourceAnswer { may_keep, ..SourceAnswer::of(outcomes, Some("ref".to_owned())) };
    let fake = Fake { answer: Some(Ok(answer)), sharing: Some(sharing), ..Fake::default() };
    limited(fake, Limits { keep, ..Limits::default() })
}

async fn calls(guard: &Guarded, fake: &Fake, questions: &[Asked]) -> usize {
    for question in questions {
        assert_eq!(guard.ask(question.fetch()).await.outcomes[0].1.code(), OutcomeCode::Found);
    }
    fake.calls.load(Ordering::SeqCst)
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_same_question_at_once_is_asked_once_where_the_connector_allows_it() {
    for (sharing, expected) in [(Sharing::Joined, 1), (Sharing::Kept, 8), (Sharing::Never, 8)] {
        let release = Arc::new(Notify::new());
        let answer = Some(Ok(SourceAnswer::of(found(&asked(), &[(0, json!(1)), (1, json!(2))]), None)));
        let fake = Fake { answer, release: Some(Arc::clone(&release)), sharing: Some(sharing), ..Fake::default() };
        let (guard, fake) = limited(fake, Limits::default());
        let asked = asked();
        let all = join_all((0..8).map(|_| guard.ask(asked.fetch())));
        let (answers, ()) = tokio::join!(all, async {
            tokio::task::yield_now().await;
            (0..8).for_each(|_| {
                release.notify_one();
                release.notify_waiters();
            });
        });
        assert!(answers.iter().all(|answer| answer.outcomes[0].1.code() == OutcomeCode::Found));
        assert_eq!(fake.calls.load(Ordering::SeqCst), expected, "{sharing:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_joined_leaves_at_its_own_deadline_and_the_next_one_asks() {
    let fake = Fake { sharing: Some(Sharing::Joined), ..Fake::default() };
    let (guard, fake) = limited(fake, Limits::default());
    let (mut short, mut long) = (asked(), asked());
    (short.timeout, long.timeout) = (Duration::from_millis(100), Duration::from_secs(2));
    let begun = Instant::now();
    let (long, short) = tokio::join!(guard.ask(long.fetch()), async {
        let answer = guard.ask(short.fetch()).await;
        (answer, begun.elapsed())
    });
    assert_eq!(short.1, Duration::from_millis(100));
    assert_eq!(
        (long, short.0),
        (all_missing(&asked(), OutcomeCode::SourceDown), all_missing(&asked(), OutcomeCode::SourceDown))
    );
    assert_eq!(fake.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_as_long_as_operator_and_source_allow() {
    let cases = [
        (Duration::ZERO, None, 0),
        (Duration::ZERO, Some(MINUTE), 0),
        (MINUTE, None, 60),
        (MINUTE, Some(Duration::ZERO), 0),
        (MINUTE, Some(Duration::from_secs(10)), 10),
        (MINUTE, Some(10 * MINUTE), 60),
    ];
    for sharing in [Sharing::Kept, Sharing::Joined] {
        for (keep, may_keep, seconds) in cases {
            let (guard, fake) = shared(sharing, keep, may_keep);
            let twice = [asked(), asked()];
            let expected = if seconds == 0 { 2 } else { 1 };
            assert_eq!(calls(&guard, &fake, &twice).await, expected, "{keep:?} {may_keep:?}");
            if seconds > 0 {
                tokio::time::advance(Duration::from_secs(seconds) - Duration::from_millis(1)).await;
                let answer = guard.ask(asked().fetch()).await;
                assert_eq!(answer.age, Duration::from_secs(seconds) - Duration::from_millis(1));
                assert_eq!(answer.reference.as_deref(), Some("ref"));
                tokio::time::advance(Duration::from_millis(1)).await;
                assert_eq!(calls(&guard, &fake, &[asked()]).await, 2);
            }
        }
    }
    let (guard, fake) = shared(Sharing::Never, MINUTE, None);
    assert_eq!(calls(&guard, &fake, &[asked(), asked()]).await, 2);
}

#[tokio::test]
async fn questions_that_differ_in_anything_share_nothing() {
    let (guard, fake) = shared(Sharing::Joined, MINUTE, None);
    let with_tokens = [asked().with_token("one"), asked().with_token("one")];
    assert_eq!(calls(&guard, &fake, &with_tokens).await, 2, "a token of the person's own is for one question");
    let (guard, fake) = shared(Sharing::Joined, MINUTE, None);
    let different = [
        asked(),
        asked().about(identity("Autre", &["Gérôme"], "1982-12-07")),
        // The same person by another spelling: a source may be asked by it.
        asked().about(identity("LEFEVRE D OEUVRE", &["Gérôme", "Jean-Philippe"], "1982-12-07")),
        Asked::filtered("test.data", &["a", "b"], &[("annee", "2026")]),
        Asked::filtered("test.data", &["a", "b"], &[("annee", "2025")]),
    ];
    assert_eq!(calls(&guard, &fake, &different).await, different.len());
    assert_eq!(calls(&guard, &fake, &different).await, different.len(), "each is kept for itself");
}

#[tokio::test]
async fn what_was_not_found_and_what_a_log_proves_is_not_kept() {
    let missing = SourceAnswer::missing(asked().dataset(), OutcomeCode::NoFile);
    let proven = SourceAnswer {
        receipt: Some(unefois_consent::event::SourceReceipt("{}".into())),
        ..SourceAnswer::of(found(&asked(), &[(0, json!("a")), (1, json!("b"))]), None)
    };
    for answer in [missing, proven] {
        let fake = Fake { answer: Some(Ok(answer)), sharing: Some(Sharing::Joined), ..Fake::default() };
        let (guard, fake) = limited(fake, Limits { keep: MINUTE, ..Limits::default() });
        for _ in 0..2 {
            guard.ask(asked().fetch()).await;
        }
        assert_eq!(fake.calls.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn nothing_of_an_answer_lies_open() {
    let kept = crate::guard::kept::Kept::new(MINUTE);
    let answer = SourceAnswer::of(found(&asked(), &[(0, json!("MARKER"))]), Some("MARKER".to_owned()));
    kept.put([1; 32], &answer, Instant::now());
    assert!(!kept.shows(b"MARKER"));
    assert_eq!(kept.get(&[1; 32], Instant::now()).unwrap().outcomes, answer.outcomes);
    assert!(kept.get(&[2; 32], Instant::now()).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_thrown_away_and_so_is_all_where_the_right_is_gone() {
    let (guard, _fake) = shared(Sharing::Joined, MINUTE, None);
    guard.ask(asked().fetch()).await;
    assert_eq!(guard.shared.kept.count(), 1);
    tokio::time::advance(MINUTE).await;
    let other = asked().about(identity("Autre", &["Gérôme"], "1982-12-07"));
    guard.ask(other.fetch()).await;
    assert_eq!(guard.shared.kept.count(), 1, "the first one is gone");

    let kept = crate::guard::kept::Kept::new(MINUTE);
    let large = SourceAnswer::of(found(&asked(), &[(0, json!("x".repeat(1 << 20)))]), None);
    for number in 0..40 {
        kept.put([number; 32], &large, Instant::now());
    }
    assert!((1..40).contains(&kept.count()), "bounded in bytes");

    let refused =
        Fake { answer: Some(Err(SourceFault::NotAuthorised("x"))), sharing: Some(Sharing::Joined), ..Fake::default() };
    let (guard, _fake) = limited(refused, Limits { keep: MINUTE, ..Limits::default() });
    guard.shared.kept.put([1; 32], &large, Instant::now());
    guard.ask(asked().fetch()).await;
    assert_eq!(guard.shared.kept.count(), 0);
}
