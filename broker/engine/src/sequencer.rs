//! The sequencer: one thread that decides, in the order of the log.
//!
//! A use case is a *step*: a closure that looks at the state, decides and appends entries through a [`Turn`]. Steps run
//! one after the other; what they append forms a batch; a batch closes when the previous commit has ended, and no step waits or
//! it is large enough. The reply of a step
//! is sent when its batch is durable, so nobody ever sees a decision that could be lost. A step that only reads or refuses
//! waits for the entries it may have seen, for the same reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::oneshot;
use unefois_audit::{Leaf, Salt};
use unefois_consent::event::{Event, KeyMade};
use unefois_consent::registry::Role;
use unefois_consent::{
    ConsentId, Digest, ExchangeId, MandateId, RecordPeriod, RequestCode, Retention, Siret, SubjectRef, Timestamp,
};
use zeroize::Zeroizing;

use crate::caller::VerifiedParticipant;
use crate::clock_guard::ClockGuard;
use crate::committer::{Commit, CommitResult, ToCommit};
use crate::error::EngineError;
use crate::halt::Halt;
use crate::head::Keeper;
use crate::seal::{KeyState, Plain, Sealer};
use crate::state::{KnownSubject, State};
use crate::store::{Journal, Opening, SealedEntry, StoreError};

mod thread;

use thread::Loop;

/// Steps that may wait for the sequencer.
const QUEUE: usize = 16_384;
/// A batch takes no more steps past this many sealed bytes until the previous commit ends.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// Most entries of a batch, likewise.
const MAX_BATCH_ENTRIES: usize = 4_096;
/// Largest sealed size of what one step appends.
pub(crate) const MAX_STEP_BYTES: usize = MAX_BATCH_BYTES;

/// An entry that a step appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its index.
    pub index: u64,
    /// Its leaf.
    pub leaf: Leaf,
    /// The salt of the record's part of its commitment.
    pub salt: Salt,
    /// The other parts.
    pub opening: Opening,
    /// The exact text of its record.
    pub record: String,
}

/// The value of a step whose entries are durable.
#[derive(Debug)]
pub struct Committed<T> {
    /// What the step gave.
    pub value: T,
    /// The commit of its batch.
    pub commit: Arc<Commit>,
}

/// What a step sees and does.
#[derive(Debug)]
pub struct Turn<'a> {
    state: &'a mut State,
    writer: &'a mut Writer,
    now: Timestamp,
    step_bytes: usize,
    /// The administrations whose ledger the step changed.
    concerned: Vec<Siret>,
}

impl Turn<'_> {
    /// The administrations whose ledger the step changed so far.
    pub(crate) fn take_concerned(&mut self) -> Vec<Siret> {
        std::mem::take(&mut self.concerned)
    }

    /// The time of every entry of this step.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn state(&self) -> &State {
        self.state
    }

    /// What this step may still append, in bytes of records.
    pub(crate) fn room_bytes(&self) -> usize {
        MAX_STEP_BYTES.saturating_sub(self.step_bytes)
    }

    /// Whether `caller` may still act in `role`, by the registry at this place in the log.
    pub(crate) fn judge_caller(&self, caller: &VerifiedParticipant, role: Role) -> Result<(), EngineError> {
        caller.judge_again(self.state.registry(), role)
    }

    /// The subject that an identity's tag stands for.
    pub(crate) fn subject(&mut self, tag: &Digest) -> Result<Option<KnownSubject>, StoreError> {
        self.state.subject(tag)
    }

    /// Draws a name for a subject.
    pub(crate) fn draw_subject(&mut self) -> Result<SubjectRef, EngineError> {
        Ok(SubjectRef(self.writer.random()?))
    }

    /// Draws a name for a consent.
    pub(crate) fn draw_consent(&mut self) -> Result<ConsentId, EngineError> {
        Ok(ConsentId(self.writer.random()?))
    }

    /// Draws a name for a mandate.
    pub(crate) fn draw_mandate(&mut self) -> Result<MandateId, EngineError> {
        Ok(MandateId(self.writer.random()?))
    }

    /// Draws what a person types to find a request.
    pub(crate) fn draw_code(&mut self) -> Result<RequestCode, EngineError> {
        Ok(RequestCode::from_random(self.writer.random()?))
    }

    /// Draws a name for an exchange.
    pub(crate) fn draw_exchange(&mut self) -> Result<ExchangeId, EngineError> {
        Ok(ExchangeId(self.writer.random()?))
    }

    /// Appends an entry and folds it into the state, after the entry of its key where that is new. After an error the engine
    /// halts: the state may be ahead of the log.
    pub(crate) fn append(&mut self, event: &Event) -> Result<Written, EngineError> {
        let record = text_of(event)?;
        let retention = self.state.retention(self.now, event);
        let size = self.step_bytes.saturating_add(record.len());
        if size > MAX_STEP_BYTES {
            return Err(EngineError::NotAllowed("this change is larger than one commit can hold; cut it into several"));
        }
        self.step_bytes = size;
        // The first entry of a log cannot come after that of its key, which follows it.
        let is_first = self.state.size() == 0;
        if !is_first {
            self.know_key(retention)?;
        }
        let written = self.write(retention, event, record)?;
        if is_first {
            self.know_key(retention)?;
        }
        Ok(written)
    }

    /// The log knows the key of records of this time that are kept for `retention`.
    pub(crate) fn know_key(&mut self, retention: Retention) -> Result<(), EngineError> {
        let period = RecordPeriod::new(self.now, retention);
        if self.state.key_check(period).is_some() {
            return Ok(());
        }
        if retention != Retention::LOG {
            self.know_key(Retention::LOG)?;
        }
        let check = self.writer.sealer.prepare(period, KeyState::New)?;
        // The entry is kept as long as the log, so the first key of a month makes itself known.
        self.writer.sealer.prepare(RecordPeriod::new(self.now, Retention::LOG), KeyState::New)?;
        let made = Event::KeyMade(KeyMade { period, check });
        let record = text_of(&made)?;
        self.write(Retention::LOG, &made, record).map(drop)
    }

    fn write(&mut self, retention: Retention, event: &Event, record: String) -> Result<Written, EngineError> {
        let index = self.state.size();
        let state = self.state.key_state(RecordPeriod::new(self.now, retention));
        let written = self.writer.write(index, (self.now, event.kind()), (retention, state), record)?;
        self.state.apply(index, self.now, retention, event)?;
        self.concerned.extend(event.facts().consumer);
        Ok(written)
    }
}

fn text_of(event: &Event) -> Result<String, EngineError> {
    serde_json::to_string(event).map_err(|_| EngineError::Internal("a record could not be written as JSON"))
}

/// Builds the batch under way.
pub(crate) struct Writer {
    random: Randomness,
    sealer: Sealer,
    first: u64,
    entries: Vec<SealedEntry>,
    bytes: usize,
}

/// The system's randomness, fetched for many draws at once. What was drawn is wiped.
struct Randomness {
    pool: Zeroizing<[u8; 4096]>,
    used: usize,
}

impl Randomness {
    fn new() -> Self {
        let pool = Zeroizing::new([0; 4096]);
        Self { used: pool.len(), pool }
    }

    fn draw<const N: usize>(&mut self) -> Result<[u8; N], EngineError> {
        let none = || EngineError::Halted("the system gives no randomness".to_owned());
        if self.used + N > self.pool.len() {
            SystemRandom::new().fill(self.pool.as_mut()).map_err(|_| none())?;
            self.used = 0;
        }
        let taken = self.pool.get_mut(self.used..self.used + N).ok_or_else(none)?;
        let drawn = (&*taken).try_into().map_err(|_| none())?;
        taken.fill(0);
        self.used += N;
        Ok(drawn)
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("first", &self.first)
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Begins with entry `first`.
    pub(crate) fn new(sealer: Sealer, first: u64) -> Self {
        Self { random: Randomness::new(), sealer, first, entries: Vec::new(), bytes: 0 }
    }

    /// Adds the entry of an event whose record is kept as long as the log.
    pub(crate) fn append(
        &mut self,
        index: u64,
        (now, key): (Timestamp, KeyState),
        event: &Event,
    ) -> Result<Written, EngineError> {
        self.write(index, (now, event.kind()), (Retention::LOG, key), text_of(event)?)
    }

    /// The entries so far.
    pub(crate) fn take(self) -> Vec<SealedEntry> {
        self.entries
    }

    fn random<const N: usize>(&mut self) -> Result<[u8; N], EngineError> {
        self.random.draw()
    }

    fn write(
        &mut self,
        index: u64,
        (now, kind): (Timestamp, u8),
        (retention, key): (Retention, KeyState),
        record: String,
    ) -> Result<Written, EngineError> {
        let drawn: [u8; 3 * 32 + 12] = self.random()?;
        let no_randomness = || EngineError::Halted("no randomness".to_owned());
        let (record_salt, rest) = drawn.split_first_chunk::<32>().ok_or_else(no_randomness)?;
        let (retention_salt, rest) = rest.split_first_chunk::<32>().ok_or_else(no_randomness)?;
        let (links_salt, nonce) = rest.split_first_chunk::<32>().ok_or_else(no_randomness)?;
        let nonce: [u8; 12] = nonce.try_into().map_err(|_| no_randomness())?;
        let salt = Salt(*record_salt);
        let (retention_salt, links_salt) = (Salt(*retention_salt), Salt(*links_salt));
        let plain = Plain { record_salt: salt, retention_salt, links_salt, links: &[], record: &record };
        let opening = plain.opening(retention);
        let leaf = Leaf { kind, time_ms: now.as_millis(), commitment: opening.parts().commitment() };
        self.sealer.prepare(RecordPeriod::new(now, retention), key)?;
        let sealed = self.sealer.seal((index, &leaf, &opening), &plain, nonce)?;
        self.bytes = self.bytes.saturating_add(sealed.len());
        self.entries.push(SealedEntry { leaf, opening, sealed });
        Ok(Written { index, leaf, salt, opening, record })
    }

    /// Index after the last entry written.
    fn end(&self) -> u64 {
        self.first.saturating_add(self.entries.len() as u64)
    }

    fn is_full(&self) -> bool {
        self.bytes >= MAX_BATCH_BYTES || self.entries.len() >= MAX_BATCH_ENTRIES
    }
}

/// A step with its reply, without its type.
type BoxedStep = Box<dyn FnOnce(Result<&mut Turn<'_>, EngineError>) -> Result<Option<BoxedReply>, EngineError> + Send>;
/// Sends the reply of a step when its commit is known.
pub(crate) type BoxedReply = Box<dyn FnOnce(&CommitResult) + Send>;

/// By which time a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timed {
    /// That of the clock; refused while that is in doubt.
    ByClock,
    /// That of the clock, or of the last entry while the clock is in doubt.
    ByLogInDoubt,
}

/// What the sequencer's thread is told.
enum Command {
    Run(BoxedStep, Timed),
    /// Make durable and fold what there is, and end.
    Close,
}

/// The way to the sequencer's thread.
#[derive(Debug, Clone)]
pub struct Sequencer {
    steps: Sender<Command>,
    queue: Arc<Queue>,
    halt: Arc<Halt>,
}

/// The steps that wait. The channel keeps those that nobody takes any more for as long as somebody could send, so whoever
/// comes after the thread ended takes them out, and each is told.
#[derive(Debug)]
struct Queue {
    steps: Receiver<Command>,
    has_ended: AtomicBool,
}

impl Queue {
    /// The thread takes no more steps.
    fn end(&self, why: &EngineError) {
        // ORDER: before the steps are taken out; who sends looks at it afterwards. So one of the two takes each step out.
        self.has_ended.store(true, Ordering::SeqCst);
        self.refuse_rest(why);
    }

    fn refuse_rest(&self, why: &EngineError) {
        while let Ok(command) = self.steps.try_recv() {
            if let Command::Run(step, _) = command {
                // It is told, and appends nothing.
                let _ = step(Err(why.clone()));
            }
        }
    }
}

/// What the sequencer's thread works with.
pub(crate) struct SequencerParts {
    pub(crate) state: State,
    pub(crate) clock: Arc<ClockGuard>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) halt: Arc<Halt>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) to_commit: Sender<ToCommit>,
    /// The committer is ready for the next batch.
    pub(crate) ready: Receiver<()>,
    /// The fold has all entries before this position.
    pub(crate) folded: Receiver<u64>,
}

impl Sequencer {
    /// Starts the thread. It ends at [`Sequencer::close`], or when the last `Sequencer` is dropped.
    pub(crate) fn start(
        parts: SequencerParts,
        sealer: Sealer,
    ) -> Result<(Self, std::thread::JoinHandle<()>), EngineError> {
        let (sender, steps) = crossbeam_channel::bounded(QUEUE);
        let queue = Arc::new(Queue { steps, has_ended: AtomicBool::new(false) });
        let (halt, of_thread) = (Arc::clone(&parts.halt), Arc::clone(&queue));
        let thread = halt.spawn("unefois-sequence", move || Loop::new(parts, sealer, of_thread).run())?;
        Ok((Self { steps: sender, queue, halt }, thread))
    }

    /// Runs `step` at its place in the log and gives its value when all that it appended, or may have seen, is durable.
    ///
    /// Cancel-safe in the sense that the step runs to its end whether or not anyone waits; past the deadline nobody does.
    pub async fn submit<T, F>(&self, deadline: Instant, step: F) -> Result<Committed<T>, EngineError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Turn<'_>) -> Result<T, EngineError> + Send + 'static,
    {
        let to_end = self.submit_to_end(step);
        tokio::time::timeout_at(deadline.into(), to_end).await.map_err(|_| EngineError::DeadlineExceeded)?
    }

    /// Like [`Sequencer::submit`], without a deadline: for a step whose outcome must be known because another follows.
    /// Ends with an error when the engine halts.
    pub async fn submit_to_end<T, F>(&self, step: F) -> Result<Committed<T>, EngineError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Turn<'_>) -> Result<T, EngineError> + Send + 'static,
    {
        if let Err(error) = self.halt.check_quorum() {
            metrics::counter!("unefois_refused_for_quorum_total").increment(1);
            return Err(error);
        }
        self.submit_ending(step).await
    }

    /// Like [`Sequencer::submit_to_end`], also while the witnesses are too late: for the end of what began before, so that
    /// no exchange is left without its own.
    pub(crate) async fn submit_ending<T, F>(&self, step: F) -> Result<Committed<T>, EngineError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Turn<'_>) -> Result<T, EngineError> + Send + 'static,
    {
        self.run(Timed::ByClock, step).await
    }

    /// Like [`Sequencer::submit_ending`], also while the clock is in doubt, by the time of the last entry then: for what an
    /// opening looks up and ends, and for the end of a shard.
    pub(crate) async fn submit_in_doubt<T, F>(&self, step: F) -> Result<Committed<T>, EngineError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Turn<'_>) -> Result<T, EngineError> + Send + 'static,
    {
        self.run(Timed::ByLogInDoubt, step).await
    }

    async fn run<T, F>(&self, timed: Timed, step: F) -> Result<Committed<T>, EngineError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Turn<'_>) -> Result<T, EngineError> + Send + 'static,
    {
        let (sender, reply) = oneshot::channel();
        let boxed: BoxedStep = Box::new(move |turn| {
            let turn = match turn {
                Ok(turn) => turn,
                Err(error) => {
                    // Nobody waiting any more is no fault.
                    let _ = sender.send(Err(error));
                    return Ok(None);
                }
            };
            let before = turn.state.size();
            match step(turn) {
                Ok(value) => Ok(Some(Box::new(move |outcome: &CommitResult| {
                    let result = outcome.clone().map(|commit| Committed { value, commit });
                    let _ = sender.send(result);
                }))),
                Err(error) if turn.writer.end() != before => {
                    // A step that fails after it appended leaves a batch that must not be committed.
                    let _ = sender.send(Err(error.clone()));
                    Err(error)
                }
                // It tells of what the step saw, which may not be durable yet.
                Err(error) => Ok(Some(Box::new(move |outcome: &CommitResult| {
                    let _ = sender.send(Err(outcome.as_ref().err().cloned().unwrap_or(error)));
                }))),
            }
        });
        self.halt.check()?;
        self.steps.try_send(Command::Run(boxed, timed)).map_err(|error| match error {
            TrySendError::Full(_) => EngineError::Overloaded,
            TrySendError::Disconnected(_) => self.halt.error(),
        })?;
        if self.queue.has_ended.load(Ordering::SeqCst) {
            self.queue.refuse_rest(&self.halt.error());
        }
        reply.await.unwrap_or_else(|_| Err(self.halt.error()))
    }

    /// Ends the thread after the steps that wait already. Later ones are refused.
    pub(crate) fn close(&self) {
        // A thread that has ended already needs no telling.
        let _ = self.steps.send(Command::Close);
    }
}
