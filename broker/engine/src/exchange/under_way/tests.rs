use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use super::*;

fn name() -> Name {
    ("99999999800019".parse().unwrap(), "order-1".parse().unwrap())
}

/// Exchanges that end as somebody says, and how many began and ended.
#[derive(Clone)]
struct Runs {
    under_way: UnderWay,
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    held: watch::Sender<bool>,
}

impl Runs {
    fn new() -> Self {
        let (begun, ended) = Default::default();
        Self { under_way: UnderWay::default(), begun, ended, held: watch::Sender::new(true) }
    }

    fn call(&self, content: u8) -> (Role, Waiting) {
        let (begun, ended, mut held) = (self.begun.clone(), self.ended.clone(), self.held.subscribe());
        self.under_way.join_or_start(name(), Digest([content; 32]), move || async move {
            begun.fetch_add(1, Ordering::SeqCst);
            let _ = held.wait_for(|held| !held).await;
            ended.fetch_add(1, Ordering::SeqCst);
            Err(EngineError::Overloaded)
        })
    }

    fn counts(&self) -> (usize, usize) {
        (self.begun.load(Ordering::SeqCst), self.ended.load(Ordering::SeqCst))
    }

    async fn until_ended(&self, count: usize) {
        let all_ended = async {
            while self.counts().1 < count || !self.under_way.lock().running.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), all_ended).await.unwrap();
    }
}

/// Polls a call once, so that it runs.
fn begin(waiting: &mut Waiting) {
    assert!(waiting.poll_unpin(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
}

#[tokio::test]
async fn calls_of_one_name_and_content_share_a_run_and_others_have_their_own() {
    let runs = Runs::new();
    let (first, mut began) = runs.call(1);
    let (second, joined) = runs.call(1);
    let (third, mut other) = runs.call(2);
    assert_eq!([first, second, third], [Role::Began, Role::Joined, Role::Began]);
    begin(&mut began);
    begin(&mut other);
    runs.held.send_replace(false);
    let _ = (began.await, joined.await, other.await);
    assert_eq!(runs.counts(), (2, 2));
    runs.until_ended(2).await;
}

#[tokio::test]
async fn a_run_that_everybody_left_goes_on_and_is_joined() {
    let runs = Runs::new();
    let (_, mut began) = runs.call(1);
    begin(&mut began);
    drop(began);
    let (role, joined) = runs.call(1);
    assert_eq!(role, Role::Joined);
    drop(joined);
    let (role, _waits) = runs.call(1);
    assert_eq!(role, Role::Joined);
    runs.held.send_replace(false);
    runs.until_ended(1).await;
    assert_eq!(runs.counts(), (1, 1));
}

#[tokio::test]
async fn a_run_beside_one_of_its_name_goes_on_when_its_call_goes_away() {
    let runs = Runs::new();
    let (_, mut listed) = runs.call(1);
    begin(&mut listed);
    let (_, mut beside) = runs.call(2);
    begin(&mut beside);
    drop((listed, beside));
    runs.held.send_replace(false);
    runs.until_ended(2).await;
}

/// Whoever comes while the last call goes away joins.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_that_come_and_go_at_once_have_one_run() {
    for _ in 0..200 {
        let runs = Runs::new();
        let (_, mut first) = runs.call(1);
        begin(&mut first);
        let calls = (0..4).map(|_| {
            let runs = runs.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    let (_, mut waiting) = runs.call(1);
                    begin(&mut waiting);
                }
            })
        });
        let calls: Vec<_> = calls.collect();
        drop(first);
        for call in calls {
            call.await.unwrap();
        }
        runs.held.send_replace(false);
        runs.until_ended(1).await;
        assert_eq!(runs.counts(), (1, 1));
    }
}

#[test]
fn a_run_whose_runtime_ends_is_forgotten() {
    let runs = Runs::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (_, mut waiting) = runs.call(1);
    runtime.block_on(async {
        begin(&mut waiting);
        let (_, left) = runs.call(2);
        drop(left);
    });
    drop(runtime);
    drop(waiting);
    assert!(runs.under_way.lock().running.is_empty());
    assert_eq!(runs.counts(), (1, 0));
}
