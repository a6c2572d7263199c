//! The sequencer: one thread that decides, in the order of the log.
//!
//! A use case is a *step*: a closure that looks at the state, decides and appends entries through a [`Turn`]. Steps run
//! one after the other; what they append forms a batch; a batch closes when the previous commit ends. The reply of a step
//! is sent when its batch is durable, so nobody ever sees a decision that could be lost. A step that only reads waits for
//! the entries it may have seen, for the same reason.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, select};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::oneshot;
use unefois_audit::{Leaf, Salt, commitment};
use unefois_consent::event::Event;
use unefois_consent::{ConsentId, Digest, ExchangeId, SubjectRef, Timestamp};

use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::committer::{Commit, FoldChunk, Outcome, ToCommit};
use crate::error::EngineError;
use crate::halt::Halt;
use crate::seal::Sealer;
use crate::state::State;
use crate::store::{Journal, Month, SealedEntry, StoreError};

/// Steps that may wait for the sequencer.
const QUEUE: usize = 16_384;
/// A batch takes no more steps past this many sealed bytes until the previous commit ends.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// Most entries of a batch, likewise.
const MAX_BATCH_ENTRIES: usize = 4_096;
/// Room that must be there before a step decides: a full batch, and the largest single step on top.
const RESERVE_BYTES: usize = 3 * MAX_BATCH_BYTES;
/// Largest sealed size of what one step appends.
const MAX_STEP_BYTES: usize = MAX_BATCH_BYTES;
/// The fold is given a chunk when this many rows wait, or after [`FOLD_EVERY`]. sled holds up every reader while it applies
/// a chunk, so chunks are small.
const FOLD_ROWS: usize = 512;
const FOLD_EVERY: Duration = Duration::from_millis(100);
/// With many exchanges under way, a batch waits so long for more of them: fewer, larger commits cost less of everything.
/// A lone exchange never waits.
const LINGER: Duration = Duration::from_micros(400);
/// A batch with an entry for one in so many exchanges under way does not wait.
const LINGER_SHARE: usize = 4;
/// How long closing waits for the fold; what it does not get then, the next opening catches up.
const LAST_CHUNK: Duration = Duration::from_secs(10);
/// Without room, how often the thread looks for it while nobody asks.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);
/// How long the thread sleeps when nothing happens.
const IDLE: Duration = Duration::from_secs(60);
/// With so many rows waiting for a slow fold, steps wait too.
const MAX_WAITING_ROWS: usize = 500_000;

/// An entry that a step appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its index.
    pub index: u64,
    /// Its leaf.
    pub leaf: Leaf,
    /// The salt of its commitment.
    pub salt: Salt,
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
}

impl Turn<'_> {
    /// The time of every entry of this step.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn state(&self) -> &State {
        self.state
    }

    /// The subject that an identity's tag stands for.
    pub(crate) fn subject(&mut self, tag: &Digest) -> Result<Option<SubjectRef>, StoreError> {
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

    /// Draws a name for an exchange.
    pub(crate) fn draw_exchange(&mut self) -> Result<ExchangeId, EngineError> {
        Ok(ExchangeId(self.writer.random()?))
    }

    /// Appends an entry and folds it into the state. After an error the engine halts: the state may be ahead of the log.
    pub(crate) fn append(&mut self, event: &Event) -> Result<Written, EngineError> {
        let index = self.state.size();
        let record = serde_json::to_string(event).map_err(|error| EngineError::Log(error.to_string()))?;
        self.step_bytes = self.step_bytes.saturating_add(record.len());
        if self.step_bytes > MAX_STEP_BYTES {
            return Err(EngineError::NotAllowed("this change is larger than one commit can hold; cut it into several"));
        }
        let written = self.writer.write(index, self.now, event.kind(), record)?;
        self.state.apply(index, self.now, event)?;
        Ok(written)
    }
}

/// Builds the batch under way.
struct Writer {
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
    fn random<const N: usize>(&mut self) -> Result<[u8; N], EngineError> {
        self.random.draw()
    }

    fn write(&mut self, index: u64, now: Timestamp, kind: u8, record: String) -> Result<Written, EngineError> {
        let drawn: [u8; 44] = self.random()?;
        let (salt, nonce) = drawn.split_first_chunk::<32>().ok_or(EngineError::Halted("no randomness".to_owned()))?;
        let nonce: [u8; 12] = nonce.try_into().map_err(|_| EngineError::Halted("no randomness".to_owned()))?;
        let salt = Salt(*salt);
        let leaf = Leaf { kind, time_ms: now.as_millis(), commitment: commitment(&salt, record.as_bytes()) };
        let sealed = self.sealer.seal(index, &leaf, &salt, &record, nonce)?;
        self.bytes = self.bytes.saturating_add(sealed.len());
        self.entries.push(SealedEntry { leaf, sealed });
        Ok(Written { index, leaf, salt, record })
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
pub(crate) type BoxedReply = Box<dyn FnOnce(&Outcome) + Send>;

/// What the sequencer's thread is told.
enum Command {
    Run(BoxedStep),
    /// Make durable and fold what there is, and end.
    Close,
}

/// The way to the sequencer's thread.
#[derive(Debug, Clone)]
pub struct Sequencer {
    steps: Sender<Command>,
    halt: Arc<Halt>,
}

/// What the sequencer's thread works with.
pub(crate) struct SequencerParts {
    pub(crate) state: State,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) halt: Arc<Halt>,
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
        let halt = Arc::clone(&parts.halt);
        let thread = std::thread::Builder::new()
            .name("unefois-sequence".to_owned())
            .spawn(move || Loop::new(parts, sealer, steps).run())
            .map_err(|error| EngineError::Halted(error.to_string()))?;
        Ok((Self { steps: sender, halt }, thread))
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
                Ok(value) => Ok(Some(Box::new(move |outcome: &Outcome| {
                    let result = outcome.clone().map(|commit| Committed { value, commit });
                    let _ = sender.send(result);
                }))),
                Err(error) => {
                    // A step that fails after it appended leaves a batch that must not be committed.
                    let halts = turn.writer.end() != before;
                    let _ = sender.send(Err(error.clone()));
                    if halts { Err(error) } else { Ok(None) }
                }
            }
        });
        self.halt.check()?;
        self.steps.try_send(Command::Run(boxed)).map_err(|error| match error {
            TrySendError::Full(_) => EngineError::Overloaded,
            TrySendError::Disconnected(_) => self.halt.error(),
        })?;
        reply.await.unwrap_or_else(|_| Err(self.halt.error()))
    }

    /// Ends the thread after the steps that wait already. Later ones are refused.
    pub(crate) fn close(&self) {
        // A thread that has ended already needs no telling.
        let _ = self.steps.send(Command::Close);
    }
}

/// The sequencer's thread.
struct Loop {
    parts: SequencerParts,
    steps: Receiver<Command>,
    writer: Writer,
    replies: Vec<BoxedReply>,
    committer_is_ready: bool,
    ready_since: Instant,
    fold_is_idle: bool,
    last_chunk: Instant,
}

impl Loop {
    fn new(parts: SequencerParts, sealer: Sealer, steps: Receiver<Command>) -> Self {
        let first = parts.state.size();
        let writer = Writer { random: Randomness::new(), sealer, first, entries: Vec::new(), bytes: 0 };
        Self {
            parts,
            steps,
            writer,
            replies: Vec::new(),
            committer_is_ready: true,
            ready_since: Instant::now(),
            fold_is_idle: true,
            last_chunk: Instant::now(),
        }
    }

    fn run(mut self) {
        while self.turn() {}
        // The senders drop here: committer and folder finish what they have and end.
    }

    /// Waits for something to do and does it; `false` ends the thread.
    fn turn(&mut self) -> bool {
        let accepts = !self.writer.is_full() && self.parts.state.waiting().0 < MAX_WAITING_ROWS;
        let never = crossbeam_channel::never();
        let steps = if accepts { &self.steps } else { &never };
        let mut ended = false;
        let lingers = self.lingers();
        let patience = match (lingers, self.parts.halt.has_room()) {
            (true, _) => LINGER.saturating_sub(self.ready_since.elapsed()),
            (false, true) => IDLE,
            (false, false) => LOOK_FOR_ROOM,
        };
        select! {
            recv(steps) -> step => match step {
                Ok(Command::Run(step)) => ended = self.run_steps(step),
                Ok(Command::Close) | Err(_) => ended = true,
            },
            recv(self.parts.ready) -> ready => match ready {
                Ok(()) => self.committer_is_back(),
                Err(_) => return false,
            },
            recv(self.parts.folded) -> position => match position {
                Ok(position) => {
                    self.parts.state.folded(position);
                    self.fold_is_idle = true;
                }
                Err(_) => return false,
            },
            default(patience) => {
                if !self.parts.halt.has_room() {
                    // Only to see whether there is room again; steps look for themselves.
                    let _ = self.make_room(self.parts.state.time());
                }
            }
        }
        if ended {
            self.wait_for_the_fold();
        }
        if self.committer_is_ready && (ended || !self.lingers()) && !self.close_batch(ended) {
            return false;
        }
        if ended && !self.committer_is_ready {
            // The last batch waits for the commit before it.
            return match self.parts.ready.recv() {
                Ok(()) => {
                    self.committer_is_back();
                    self.close_batch(true);
                    false
                }
                Err(_) => false,
            };
        }
        !ended && self.parts.halt.check().is_ok()
    }

    /// The last chunk can only be taken when the fold has the one before it.
    fn wait_for_the_fold(&mut self) {
        if !self.fold_is_idle
            && let Ok(position) = self.parts.folded.recv_timeout(LAST_CHUNK)
        {
            self.parts.state.folded(position);
            self.fold_is_idle = true;
        }
    }

    fn committer_is_back(&mut self) {
        self.committer_is_ready = true;
        self.ready_since = Instant::now();
    }

    /// Whether the batch should wait for more of the exchanges under way.
    fn lingers(&self) -> bool {
        let entries = self.writer.entries.len();
        self.committer_is_ready
            && entries > 0
            && entries * LINGER_SHARE < self.parts.state.open().len()
            && self.ready_since.elapsed() < LINGER
    }

    /// Runs `step` and every other that already waits, as long as the batch takes them. Says whether to end.
    fn run_steps(&mut self, step: BoxedStep) -> bool {
        self.run_step(step);
        while !self.writer.is_full() {
            match self.steps.try_recv() {
                Ok(Command::Run(step)) => self.run_step(step),
                Ok(Command::Close) => return true,
                Err(_) => return false,
            }
        }
        false
    }

    fn run_step(&mut self, step: BoxedStep) {
        // The log's time never goes back.
        let now = self.parts.clock.now().max(self.parts.state.time());
        // ORDER: room and key first. When either is missing nothing was decided, and the next step may succeed.
        if let Err(error) = self.make_room(now) {
            metrics::counter!("unefois_refused_for_room_total").increment(1);
            if let Err(error) = step(Err(error)) {
                self.parts.halt.halt(error.to_string());
            }
            return;
        }
        let mut turn = Turn { state: &mut self.parts.state, writer: &mut self.writer, now, step_bytes: 0 };
        match step(Ok(&mut turn)) {
            Ok(Some(reply)) => self.replies.push(reply),
            Ok(None) => {}
            Err(error) => self.parts.halt.halt(error.to_string()),
        }
    }

    fn make_room(&mut self, now: Timestamp) -> Result<(), EngineError> {
        self.parts.halt.check()?;
        // What is reserved holds for the whole batch.
        let begun = !self.writer.entries.is_empty();
        let reserved = if begun { Ok(()) } else { self.parts.journal.reserve(RESERVE_BYTES) };
        let prepared = reserved.and_then(|()| self.writer.sealer.prepare(Month::of(now.as_millis())));
        self.parts.halt.set_room(prepared.as_ref().err());
        prepared.map_err(|error| match error {
            StoreError::Full(_) | StoreError::NotWritten(_) => EngineError::NoRoom(error),
            StoreError::Unknown(_) | StoreError::Fenced(_) | StoreError::Corrupt(_) | StoreError::Read(_) => {
                self.parts.halt.halt(error.to_string());
                self.parts.halt.error()
            }
        })
    }

    /// Hands the batch to the committer; `false` when the committer is gone.
    fn close_batch(&mut self, last: bool) -> bool {
        let fold = match self.fold_chunk(last) {
            Ok(fold) => fold,
            Err(error) => {
                self.parts.halt.halt(error.to_string());
                return false;
            }
        };
        if self.writer.entries.is_empty() && self.replies.is_empty() && fold.is_none() {
            return true;
        }
        let first = std::mem::replace(&mut self.writer.first, self.parts.state.size());
        let entries = std::mem::take(&mut self.writer.entries);
        self.writer.bytes = 0;
        self.committer_is_ready = false;
        let replies = std::mem::take(&mut self.replies);
        self.parts.to_commit.send(ToCommit { first, entries, replies, fold }).is_ok()
    }

    fn fold_chunk(&mut self, last: bool) -> Result<Option<FoldChunk>, StoreError> {
        let (_, dirty) = self.parts.state.waiting();
        let due = dirty >= FOLD_ROWS || (dirty > 0 && self.last_chunk.elapsed() >= FOLD_EVERY);
        if !(self.fold_is_idle && (due || last)) || self.parts.halt.check().is_err() {
            return Ok(None);
        }
        self.fold_is_idle = false;
        self.last_chunk = Instant::now();
        Ok(Some(FoldChunk { changes: self.parts.state.take_chunk()?, position: self.parts.state.size() }))
    }
}
