//! The budget, on a clock that the test moves.

use futures_util::future::{join_all, poll_immediate};
use tokio::time::advance;

use super::*;
use crate::api_particulier::budget::Budget;

const MANY: Duration = Duration::from_secs(3600);

fn rates(per_token_per_s: usize, per_address_per_min: usize, max_waiting: usize) -> Rates {
    Rates { per_token_per_s, per_address_per_min, max_waiting }
}

/// When each of `questions` left, in milliseconds after now, or why it did not.
async fn leave(budget: &Budget, token: &str, questions: usize, within: Duration) -> Vec<Result<u128, SourceFault>> {
    let started = Instant::now();
    let lane = budget.lane(token);
    let one =
        async || budget.pass(Some(&lane), DATASET, started + within).await.map(|()| started.elapsed().as_millis());
    join_all((0..questions).map(|_| one())).await
}

fn times(left: Vec<Result<u128, SourceFault>>) -> Vec<u128> {
    left.into_iter().map(Result::unwrap).collect()
}

/// Most of `times` in any `span` of milliseconds.
fn most_within(times: &[u128], span: u128) -> usize {
    times.iter().map(|from| times.iter().filter(|t| (*from..from + span).contains(t)).count()).max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_token_sends_no_more_than_its_rate_in_any_second() {
    let budget = Budget::new(Rates::default());
    let times = times(leave(&budget, "a", 100, MANY).await);
    assert!(times.is_sorted(), "in the order of their coming");
    assert_eq!(times[19], 0, "a whole window leaves at once");
    assert_eq!(most_within(&times, 1000), 20);
    assert!(times[99] < 5_000, "no slower than it must: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn all_tokens_together_send_no_more_than_the_rate_of_the_address_in_any_minute() {
    let budget = Budget::new(rates(20, 50, 256));
    let tokens = ["a", "b", "c", "d", "e"];
    let left = join_all(tokens.map(|token| leave(&budget, token, 20, MANY))).await;
    let mut times: Vec<u128> = left.into_iter().flat_map(times).collect();
    times.sort_unstable();
    assert_eq!(most_within(&times, 60_000), 50);
    assert_eq!(times.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn the_next_minute_of_the_address_begins_when_this_one_ends() {
    let budget = Budget::new(rates(1000, 1000, 1000));
    assert_eq!(times(leave(&budget, "a", 1000, MANY).await)[999], 0);
    let next = times(leave(&budget, "b", 1, MANY).await)[0];
    assert!((60_000..60_200).contains(&next), "{next}");
}

#[tokio::test(start_paused = true)]
async fn another_token_does_not_wait_behind_one_whose_budget_is_used_up() {
    let budget = Budget::new(rates(20, 1000, 256));
    let lane = budget.lane("a");
    leave(&budget, "a", 20, MANY).await;
    let deadline = Instant::now() + MANY;
    let mut waits = Box::pin(budget.pass(Some(&lane), DATASET, deadline));
    assert!(poll_immediate(&mut waits).await.is_none());
    assert_eq!(times(leave(&budget, "b", 20, MANY).await)[19], 0);
    // The person's own token has no budget but the address's.
    assert!(poll_immediate(Box::pin(budget.pass(None, DATASET, deadline))).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_token_in_two_files_has_one_budget() {
    let budget = Budget::new(rates(2, 1000, 256));
    assert!(Arc::ptr_eq(&budget.lane("same"), &budget.lane("same")));
    leave(&budget, "same", 2, MANY).await;
    assert!(times(leave(&budget, "same", 1, MANY).await)[0] >= 1000);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_cannot_make_its_deadline_fails_at_once() {
    let budget = Budget::new(rates(20, 1000, 256));
    let started = Instant::now();
    let lane = budget.lane("a");
    let deadline = started + Duration::from_millis(2_500);
    let mut asked: Vec<_> = (0..80).map(|_| Box::pin(budget.pass(Some(&lane), DATASET, deadline))).collect();
    let mut refused = 0;
    for one in &mut asked {
        if let Some(answer) = poll_immediate(one).await {
            refused += usize::from(answer.is_err());
        }
    }
    // Three windows of twenty begin before the deadline.
    assert_eq!((refused, started.elapsed()), (20, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_the_address_keeps_beyond_its_deadline_fails_at_once() {
    let budget = Budget::new(rates(20, 20, 256));
    leave(&budget, "a", 20, MANY).await;
    // Whether its own token has room or has to be waited for.
    for token in ["a", "b"] {
        let started = Instant::now();
        let left = leave(&budget, token, 1, Duration::from_secs(5)).await;
        assert_eq!(left[0].as_ref().unwrap_err().code(), "rate_limited");
        assert_eq!(started.elapsed(), Duration::ZERO, "{token}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_the_queue_holds() {
    let budget = Budget::new(rates(1, 1000, 3));
    let left = leave(&budget, "a", 10, MANY).await;
    // One leaves at once and three wait.
    assert_eq!(left.iter().filter(|l| l.is_err()).count(), 6, "{left:?}");
    assert_eq!(leave(&budget, "a", 1, MANY).await.iter().filter(|l| l.is_ok()).count(), 1, "the queue is free again");
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_the_queue_takes_no_place() {
    let budget = Budget::new(rates(2, 1000, 256));
    let lane = budget.lane("a");
    leave(&budget, "a", 2, MANY).await;
    let deadline = Instant::now() + MANY;
    for _ in 0..10 {
        let mut waits = Box::pin(budget.pass(Some(&lane), DATASET, deadline));
        assert!(poll_immediate(&mut waits).await.is_none());
    }
    assert!(times(leave(&budget, "a", 2, MANY).await)[1] < 1_200);
}

#[tokio::test(start_paused = true)]
async fn a_held_token_and_a_held_provider_send_nothing_meanwhile() {
    let budget = Budget::new(Rates::default());
    budget.lane("a").hold(Instant::now() + Duration::from_secs(3));
    assert_eq!(times(leave(&budget, "a", 1, MANY).await), [3_000]);
    budget.lane("a").hold(Instant::now() + Duration::from_secs(3));
    assert!(leave(&budget, "a", 1, Duration::from_secs(2)).await[0].is_err());
    assert_eq!(times(leave(&budget, "b", 1, MANY).await), [0]);

    budget.hold_provider(DATASET, Instant::now() + Duration::from_secs(7));
    assert_eq!(times(leave(&budget, "b", 1, MANY).await), [7_000]);
    budget.hold_provider(DATASET, Instant::now() + Duration::from_secs(7));
    assert!(leave(&budget, "b", 1, Duration::from_secs(2)).await[0].is_err());
    let lane = budget.lane("b");
    let other = budget.pass(Some(&lane), "dsnj.service_national", Instant::now() + MANY);
    assert!(poll_immediate(Box::pin(other)).await.unwrap().is_ok(), "another provider is not held");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_used_no_more_leaves_no_budget_behind() {
    let budget = Budget::new(Rates::default());
    for token in 0..50 {
        drop(leave(&budget, &token.to_string(), 1, MANY).await);
        advance(Duration::from_secs(2)).await;
    }
    assert!(budget.lanes() <= 2, "{}", budget.lanes());
}

#[tokio::test]
async fn a_429_is_asked_again_when_it_says_and_holds_the_token_meanwhile() {
    let slow = |seconds: &str| Reply::slow_down("00429", seconds);
    let server = Server::start(vec![slow("1"), Reply::json(200, &body())]).await;
    let connector = connector(&server.url());
    let started = std::time::Instant::now();
    let first = asked(&["valeur"]);
    let second = Asked::filtered(DATASET, &["valeur"], &[("annee", "2026")]);
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        connector.fetch(second.fetch()).await
    };
    let answers = <[_; 2]>::from(tokio::join!(connector.fetch(first.fetch()), later));
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.requests().len(), 3);

    // Too long for the deadline: at once, and nothing is asked until then.
    let server = Server::start(vec![slow("30"), Reply::json(200, &body())]).await;
    let connector = super::connector(&server.url());
    for _ in 0..3 {
        let fault = connector.fetch(asked(&["valeur"]).fetch()).await.unwrap_err();
        assert_eq!(fault.code(), "rate_limited");
    }
    assert_eq!(server.requests().len(), 1);
    // A person's own token is not held by it.
    let by_token = asked(&["valeur"]).with_token("fc-token-1");
    assert!(connector.fetch(by_token.fetch()).await.is_ok());
}

#[tokio::test]
async fn a_429_of_a_provider_holds_its_dataset_and_no_other() {
    let slow = Reply::slow_down("39004", "30");
    let server = Server::start(vec![slow, Reply::json(200, &body())]).await;
    let connector = connector(&server.url());
    let national = Asked::new("dsnj.service_national", &["commentaires"]);
    for _ in 0..2 {
        assert_eq!(connector.fetch(national.fetch()).await.unwrap_err().code(), "rate_limited");
    }
    assert_eq!(server.requests().len(), 1);
    assert!(connector.fetch(asked(&["valeur"]).fetch()).await.is_ok());
}

#[test]
fn rates_that_cannot_be_meant_are_refused_by_their_key() {
    for (rates, key) in [
        (rates(0, 1, 1), "rates.per_token_per_s: "),
        (rates(1, 0, 1), "rates.per_address_per_min: "),
        (rates(1, 1, 0), "rates.max_waiting: "),
        (rates(100_001, 1, 1), "rates.per_token_per_s: "),
    ] {
        let config = ApiParticulierConfig { rates, ..config("https://source.example") };
        assert!(config.validate().unwrap_err().to_string().starts_with(key));
    }
}
