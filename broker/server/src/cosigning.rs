//! Cosigning: the broker has the witnesses of its policy cosign its newest head, and publishes heads that a quorum cosigned.
//!
//! One task keeps the round: all witnesses are asked about one head, the target, because a quorum needs cosignatures of one
//! checkpoint. Each question is a task of its own, so that a slow witness delays nobody; the next target is taken when the
//! last one has its quorum, or when nobody is still thinking about it. Exchanges never wait for witnesses.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use unefois_audit::{Cosignature, Policy};
use unefois_engine::{Clock, Engine, EngineError, SignedHead};

use crate::config::{Config, ConfigError, LateQuorum};
use crate::serve::ServeError;

mod ask;
mod closed;
mod kept;

use ask::{Answer, Asker, Outcome};
use closed::ClosedShards;
pub(crate) use kept::is_kept_head;

/// A witness that fails is left alone for the usual time, doubled so often at most.
const MOST_DOUBLINGS: u32 = 5;

/// A witness of the policy, as this broker knows it.
#[derive(Debug)]
struct Asked {
    name: String,
    /// Size of the last tree that it cosigned, as far as known; it corrects us where that is wrong.
    size: u64,
    /// It is being asked about a tree of this size.
    busy: Option<u64>,
    failures: u32,
    not_before: Instant,
    last: Option<Outcome>,
}

/// The head that is being cosigned.
#[derive(Debug)]
struct Target {
    head: Arc<SignedHead>,
    chosen: Instant,
    /// By witness, in the policy's order.
    cosignatures: Vec<Option<Cosignature>>,
    /// How many of them are published; `None` before there is a quorum.
    published: Option<usize>,
}

/// The task that has the log cosigned.
#[derive(Debug)]
pub(crate) struct Cosigning {
    engine: Arc<Engine>,
    policy: Policy,
    asker: Arc<Asker>,
    witnesses: Vec<Asked>,
    target: Target,
    /// Size of the newest tree with a quorum.
    cosigned: u64,
    /// Since when there is something without a quorum.
    waiting_since: Option<Instant>,
    is_late: bool,
    file: PathBuf,
    every: Duration,
    late_after: Duration,
    when_late: LateQuorum,
}

impl Cosigning {
    /// Publishes the newest cosigned head of an earlier run, where it verifies.
    pub(crate) async fn open(
        engine: Arc<Engine>,
        mut policy: Policy,
        config: &Config,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServeError> {
        for (shard, _) in engine.shards().closed() {
            policy = policy.with_log(&shard.key);
        }
        let file = config.store.path.join(kept::FILE);
        let kept = kept::read(&engine, &policy, &file).await.map_err(ServeError::Engine)?;
        let fault = |problem: String| ServeError::Config(ConfigError::new("log.policy", problem));
        let asker = Asker::new(Arc::clone(&engine), clock).map_err(fault)?;
        let mut cosigning = Self {
            witnesses: policy.witnesses().iter().map(|witness| Asked::new(witness.name.to_string())).collect(),
            target: Target::of(Arc::new(SignedHead::empty())),
            cosigned: 0,
            waiting_since: None,
            is_late: false,
            every: Duration::from_millis(config.log.cosign_every_ms),
            late_after: Duration::from_secs(config.log.late_quorum_after_s),
            when_late: config.log.late_quorum,
            asker: Arc::new(asker),
            file,
            policy,
            engine,
        };
        if let Some((head, verdict)) = kept {
            for (asked, _) in cosigning.witnesses.iter_mut().zip(&verdict.cosignatures).filter(|(_, c)| c.is_some()) {
                asked.size = head.size;
            }
            cosigning.cosigned = head.size;
            cosigning.engine.publish_head(head);
        }
        Ok(cosigning)
    }

    /// Keeps asking until `stopped`. Then nothing of it is left: no question, and no write that is under way.
    pub(crate) async fn run(mut self, stopped: impl Future<Output = ()> + Send) {
        tokio::pin!(stopped);
        let mut tick = tokio::time::interval(self.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut questions = JoinSet::new();
        let mut closed = JoinSet::new();
        let shards = self.closed_shards();
        let outstanding = shards.publish_kept();
        closed.spawn(shards.run(outstanding));
        loop {
            tokio::select! {
                () = &mut stopped => {
                    closed.shutdown().await;
                    break questions.shutdown().await;
                }
                _ = tick.tick() => {
                    self.choose_target();
                    self.ask(&mut questions);
                }
                Some(answer) = questions.join_next() => {
                    // A question that panicked would leave its witness busy; nothing in it can.
                    if let Ok(answer) = answer {
                        self.take(answer);
                    }
                }
            }
            self.publish().await;
            self.judge_lateness();
        }
    }

    fn closed_shards(&self) -> ClosedShards {
        ClosedShards {
            engine: Arc::clone(&self.engine),
            policy: self.policy.clone(),
            asker: Arc::clone(&self.asker),
            folder: self.file.parent().map(PathBuf::from).unwrap_or_default(),
            every: self.every,
        }
    }

    /// Moves on to the newest head, unless the last target may still get its quorum.
    fn choose_target(&mut self) {
        let head = self.engine.head();
        let size = self.target.head.size;
        let is_open = self.target.published.is_none() && self.witnesses.iter().any(|w| w.busy == Some(size));
        if head.size == size || head.size == self.cosigned && self.target.head.size == 0 || is_open {
            return;
        }
        self.target = Target::of(head);
        self.target.cosignatures = vec![None; self.witnesses.len()];
        if self.cosigned == 0 {
            // Before the first quorum the log shows what it asks about, so that what it shows never shrinks.
            self.engine.publish_head((*self.target.head).clone());
        }
    }

    /// Asks the witnesses that have not cosigned the target.
    fn ask(&mut self, questions: &mut JoinSet<Answer>) {
        let now = Instant::now();
        let known = self.witnesses.iter_mut().zip(self.policy.witnesses()).zip(&self.target.cosignatures);
        for (place, ((asked, witness), cosignature)) in known.enumerate() {
            let Some(url) = witness.url.as_ref().and_then(|url| url.as_text()) else { continue };
            if self.target.head.size == 0 || cosignature.is_some() || asked.busy.is_some() || now < asked.not_before {
                continue;
            }
            asked.busy = Some(self.target.head.size);
            let (asker, head, old) = (Arc::clone(&self.asker), Arc::clone(&self.target.head), asked.size);
            let (url, key) = (url.to_owned(), witness.key.clone());
            questions.spawn(async move { asker.ask(place, &url, &key, old, &head).await });
        }
    }

    /// Keeps what a witness answered.
    fn take(&mut self, answer: Answer) {
        let Some(asked) = self.witnesses.get_mut(answer.place) else { return };
        asked.busy = None;
        asked.heard(&answer, self.every);
        if answer.size == self.target.head.size
            && let Some(place) = self.target.cosignatures.get_mut(answer.place)
            && answer.cosignature.is_some()
        {
            *place = answer.cosignature;
        }
    }

    /// Publishes the target when it has a quorum, and again when more cosignatures came. It is kept first: a log that after
    /// a restart showed a smaller head than before would look like one that was rolled back.
    async fn publish(&mut self) {
        let target = &self.target;
        let has = target.cosignatures.iter().flatten().count();
        let is_met = self.policy.is_met(|place| target.cosignatures.get(place).is_some_and(Option::is_some));
        if target.head.size == 0 || !is_met || target.published.is_some_and(|published| published >= has) {
            return;
        }
        let head = with_cosignatures(&self.policy, &target.head, &target.cosignatures);
        if let Err(error) = kept::write(&self.file, &head.note).await {
            tracing::error!(%error, file = %self.file.display(), "a cosigned checkpoint could not be kept and is not shown");
            return;
        }
        self.cosigned = head.size;
        self.waiting_since = (self.engine.head().size > head.size).then_some(target.chosen);
        self.engine.publish_head(head);
        self.target.published = Some(has);
    }

    /// Tells whether a quorum is late, and does what the operator wants then.
    fn judge_lateness(&mut self) {
        let behind = self.engine.head().size.saturating_sub(self.cosigned);
        if behind == 0 {
            self.waiting_since = None;
        } else {
            self.waiting_since.get_or_insert_with(Instant::now);
        }
        let lag = self.waiting_since.map_or(Duration::ZERO, |since| since.elapsed());
        metrics::gauge!("unefois_quorum_lag_seconds").set(lag.as_secs_f64());
        metrics::gauge!("unefois_quorum_lag_entries").set(behind as f64);
        let was_late = std::mem::replace(&mut self.is_late, lag > self.late_after);
        match (was_late, self.is_late) {
            (false, true) => {
                metrics::counter!("unefois_quorum_late_total").increment(1);
                tracing::warn!(
                    behind,
                    lag_s = lag.as_secs(),
                    "the log has no quorum of witnesses; see which do not answer"
                );
            }
            (true, false) => tracing::info!(cosigned = self.cosigned, "the log has its quorum of witnesses again"),
            (false, false) | (true, true) => {}
        }
        self.engine.set_late_quorum(self.is_late && self.when_late == LateQuorum::Stop);
    }
}

/// `head` with the cosignatures of the policy's witnesses, in their order.
fn with_cosignatures(policy: &Policy, head: &SignedHead, cosignatures: &[Option<Cosignature>]) -> SignedHead {
    let mut note = head.note.clone();
    for (witness, cosignature) in policy.witnesses().iter().zip(cosignatures) {
        note.extend(cosignature.as_ref().map(|cosignature| witness.key.line(cosignature)));
    }
    SignedHead { note, ..head.clone() }
}

impl Target {
    fn of(head: Arc<SignedHead>) -> Self {
        Self { head, chosen: Instant::now(), cosignatures: Vec::new(), published: None }
    }
}

impl Asked {
    fn new(name: String) -> Self {
        Self { name, size: 0, busy: None, failures: 0, not_before: Instant::now(), last: None }
    }

    /// Notes an answer; tells the operator when it is another one than last time.
    fn heard(&mut self, answer: &Answer, every: Duration) {
        let outcome = answer.outcome;
        metrics::counter!("unefois_witness_requests_total", "witness" => self.name.clone(), "outcome" => outcome.code())
            .increment(1);
        if let Some(size) = answer.witness_size {
            self.size = size;
        }
        let last = self.last.replace(outcome);
        if outcome == Outcome::Cosigned {
            self.failures = 0;
            if last.is_some_and(|last| last != outcome) {
                tracing::info!(witness = %self.name, "a witness cosigns the log again");
            }
            return;
        }
        self.failures = self.failures.saturating_add(1).min(MOST_DOUBLINGS);
        self.not_before = Instant::now() + every.saturating_mul(1 << self.failures);
        if last != Some(outcome) {
            let (outcome, advice) = (outcome.code(), outcome.advice());
            tracing::warn!(witness = %self.name, outcome, advice, detail = %answer.detail, "a witness does not cosign the log");
        }
    }
}

/// So that the engine's errors are told as such.
fn log_error(error: &EngineError) -> String {
    format!("the proof could not be made: {error}")
}
