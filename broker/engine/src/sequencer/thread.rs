//! The sequencer's thread: runs steps, closes batches, feeds the fold.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, TryRecvError, select};
use unefois_consent::{RecordPeriod, Retention, Timestamp};

use super::{
    BoxedReply, BoxedStep, Command, MAX_BATCH_BYTES, MAX_BATCH_ENTRIES, Queue, SequencerParts, Timed, Turn, Writer,
};
use crate::committer::{FoldChunk, ToCommit};
use crate::error::EngineError;
use crate::seal::Sealer;
use crate::store::StoreError;

/// Room that must be there before a step decides: a full batch, and the largest single step on top.
const RESERVE_BYTES: usize = 3 * MAX_BATCH_BYTES;
/// The fold is given a chunk when this many rows wait, or after [`FOLD_EVERY`]: a row of a large chunk costs less. A step
/// that reads meanwhile sees the rows here.
const FOLD_ROWS: usize = 4096;
const FOLD_EVERY: Duration = Duration::from_millis(100);
/// With many exchanges under way, a batch waits so long for more of them: fewer, larger commits cost less of everything.
/// A lone exchange never waits.
const LINGER: Duration = Duration::from_millis(2);
/// A batch with an entry for one in so many exchanges under way does not wait.
const LINGER_SHARE: usize = 2;
/// With so many entries or replies a batch no longer waits for steps that are there already, once the committer is ready:
/// replies bring new steps as fast as they are run, and the disk would stand still beside them.
const ENOUGH: usize = 128;
/// While a batch waits, or the one before it is being committed, the thread looks for steps so often. Nobody wakes it for
/// each of them: at thousands a second the wake-ups cost more than the steps.
const LOOK_FOR_STEPS: Duration = Duration::from_micros(50);
/// How long closing waits for the fold; what it does not get then, the next opening catches up.
const LAST_CHUNK: Duration = Duration::from_secs(10);
/// Without room, how often the thread looks for it while nobody asks.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);
/// How long the thread sleeps when nothing happens.
const IDLE: Duration = Duration::from_secs(60);
/// With so many rows waiting for a slow fold, steps wait too.
const MAX_WAITING_ROWS: usize = 500_000;

/// What the thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    /// Everything that waited is done; make it durable and end.
    Close,
    /// A thread that this one needs is gone.
    Stop,
}

/// The thread's work and what it keeps between its turns.
pub(super) struct Loop {
    parts: SequencerParts,
    queue: Arc<Queue>,
    writer: Writer,
    replies: Vec<BoxedReply>,
    committer_is_ready: bool,
    ready_since: Instant,
    fold_is_idle: bool,
    last_chunk: Instant,
}

impl Loop {
    pub(super) fn new(parts: SequencerParts, sealer: Sealer, queue: Arc<Queue>) -> Self {
        let first = parts.state.size();
        let writer = Writer::new(sealer, first);
        Self {
            parts,
            queue,
            writer,
            replies: Vec::new(),
            committer_is_ready: true,
            ready_since: Instant::now(),
            fold_is_idle: true,
            last_chunk: Instant::now(),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            match self.turn() {
                Next::GoOn => {}
                Next::Close => break self.close(),
                Next::Stop => break,
            }
        }
        // The senders drop here: committer and folder finish what they have and end.
    }

    /// Runs the steps that wait, closes the batch if it may, and waits for something to do.
    fn turn(&mut self) -> Next {
        let next = self.run_steps();
        if next != Next::GoOn {
            return next;
        }
        if self.committer_is_ready && !self.lingers() && !self.close_batch(false) {
            return Next::Stop;
        }
        if self.parts.halt.check().is_err() {
            return Next::Stop;
        }
        if !self.takes_steps() || self.queue.steps.is_empty() {
            return self.wait();
        }
        self.look_at_committer();
        self.look_at_fold()
    }

    /// Waits until the thread has something to do.
    fn wait(&mut self) -> Next {
        if !self.committer_is_ready {
            return match self.parts.ready.recv_timeout(LOOK_FOR_STEPS) {
                Ok(()) => {
                    self.committer_is_back();
                    self.look_at_fold()
                }
                Err(RecvTimeoutError::Timeout) => self.look_at_fold(),
                Err(RecvTimeoutError::Disconnected) => Next::Stop,
            };
        }
        // The committer would have the batch if it did not linger. The clock is not asked again: its time may be over since.
        if !self.writer.entries.is_empty() {
            std::thread::sleep(LOOK_FOR_STEPS);
            return self.look_at_fold();
        }
        let never = crossbeam_channel::never();
        let steps = if self.takes_steps() { &self.queue.steps } else { &never };
        select! {
            recv(steps) -> step => match step {
                Ok(Command::Run(step, timed)) => {
                    self.run_step(step, timed);
                    Next::GoOn
                }
                Ok(Command::Close) | Err(_) => Next::Close,
            },
            recv(self.parts.folded) -> position => match position {
                Ok(position) => self.fold_is_at(position),
                Err(_) => Next::Stop,
            },
            default(if self.parts.halt.has_room() { IDLE } else { LOOK_FOR_ROOM }) => {
                if !self.parts.halt.has_room() {
                    // Only to see whether there is room again; steps look for themselves.
                    let _ = self.make_room(self.parts.state.time());
                }
                Next::GoOn
            }
        }
    }

    fn look_at_fold(&mut self) -> Next {
        match self.parts.folded.try_recv() {
            Ok(position) => self.fold_is_at(position),
            Err(TryRecvError::Empty) => Next::GoOn,
            Err(TryRecvError::Disconnected) => Next::Stop,
        }
    }

    fn fold_is_at(&mut self, position: u64) -> Next {
        self.parts.state.folded(position);
        self.fold_is_idle = true;
        Next::GoOn
    }

    fn committer_is_back(&mut self) {
        self.committer_is_ready = true;
        self.ready_since = Instant::now();
    }

    /// Makes the last batch durable and gives the fold what it has not got.
    fn close(&mut self) {
        self.wait_for_the_fold();
        if !self.committer_is_ready {
            if self.parts.ready.recv().is_err() {
                return;
            }
            self.committer_is_ready = true;
        }
        self.close_batch(true);
    }

    /// The last chunk can only be taken when the fold has the one before it.
    fn wait_for_the_fold(&mut self) {
        if !self.fold_is_idle
            && let Ok(position) = self.parts.folded.recv_timeout(LAST_CHUNK)
        {
            self.fold_is_at(position);
        }
    }

    /// Whether the batch should wait for more of the exchanges under way.
    fn lingers(&self) -> bool {
        let entries = self.writer.entries.len();
        self.committer_is_ready
            && entries > 0
            && entries * LINGER_SHARE < self.parts.state.open().len()
            && self.ready_since.elapsed() < LINGER
    }

    fn takes_steps(&self) -> bool {
        !self.writer.is_full()
            && self.replies.len() < MAX_BATCH_ENTRIES
            && self.parts.state.waiting().0 < MAX_WAITING_ROWS
    }

    /// Runs the steps that wait, as long as the batch takes them and the committer does not wait for it.
    fn run_steps(&mut self) -> Next {
        while self.takes_steps() && !self.committer_waits() {
            match self.queue.steps.try_recv() {
                Ok(Command::Run(step, timed)) => self.run_step(step, timed),
                Ok(Command::Close) | Err(TryRecvError::Disconnected) => return Next::Close,
                Err(TryRecvError::Empty) => break,
            }
        }
        Next::GoOn
    }

    /// Whether the batch is large enough, and the committer ready for it.
    fn committer_waits(&mut self) -> bool {
        if self.writer.entries.len().max(self.replies.len()) < ENOUGH {
            return false;
        }
        self.look_at_committer();
        self.committer_is_ready && !self.lingers()
    }

    fn look_at_committer(&mut self) {
        if !self.committer_is_ready && self.parts.ready.try_recv().is_ok() {
            self.committer_is_back();
        }
    }

    fn run_step(&mut self, step: BoxedStep, timed: Timed) {
        // ORDER: clock, room and key first. Where one is missing nothing was decided, and the next step may succeed.
        let now = match self.time(timed) {
            Ok(now) => now,
            Err(error) => {
                metrics::counter!("unefois_refused_for_clock_total").increment(1);
                return self.refuse(step, error);
            }
        };
        if let Err(error) = self.make_room(now) {
            metrics::counter!("unefois_refused_for_room_total").increment(1);
            return self.refuse(step, error);
        }
        let (state, writer) = (&mut self.parts.state, &mut self.writer);
        let mut turn = Turn { state, writer, now, step_bytes: 0, concerned: Vec::new() };
        match step(Ok(&mut turn)) {
            Ok(Some(reply)) => self.replies.push(reply),
            Ok(None) => {}
            Err(error) => self.parts.halt.halt(error.to_string()),
        }
    }

    /// The time of what a step appends. It never goes back, but where a shard opens that says so.
    fn time(&self, timed: Timed) -> Result<Timestamp, EngineError> {
        let last = self.parts.state.time();
        match (self.parts.clock.now(), timed) {
            (Ok(now), _) => Ok(now.max(last)),
            (Err(_), Timed::ByLogInDoubt) => Ok(last),
            (Err(fault), Timed::ByClock) => Err(fault.into()),
        }
    }

    fn refuse(&self, step: BoxedStep, error: EngineError) {
        if let Err(error) = step(Err(error)) {
            self.parts.halt.halt(error.to_string());
        }
    }

    fn make_room(&mut self, now: Timestamp) -> Result<(), EngineError> {
        self.parts.halt.check()?;
        // What is reserved holds for the whole batch.
        let begun = !self.writer.entries.is_empty();
        let reserved = if begun {
            Ok(())
        } else {
            self.parts.keeper.until_fresh().and_then(|()| self.parts.journal.reserve(RESERVE_BYTES))
        };
        let prepared = reserved.and_then(|()| self.prepare_keys(now));
        self.parts.halt.set_room(prepared.as_ref().err());
        prepared.map_err(|error| match error {
            StoreError::Full(_) | StoreError::NotWritten(_) => EngineError::NoRoom(error),
            StoreError::Unknown(_)
            | StoreError::Fenced(_)
            | StoreError::Corrupt(_)
            | StoreError::Newer(_)
            | StoreError::Read(_) => {
                self.parts.halt.halt(error.to_string());
                self.parts.halt.error()
            }
        })
    }

    /// The keys of most records of `now` exist and are durable.
    fn prepare_keys(&mut self, now: Timestamp) -> Result<(), StoreError> {
        for retention in [Retention::LOG, Retention::TRACES] {
            let period = RecordPeriod::new(now, retention);
            self.writer.sealer.prepare(period, self.parts.state.key_state(period))?;
        }
        Ok(())
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
        Ok(Some(FoldChunk { rows: self.parts.state.take_chunk()?, position: self.parts.state.size() }))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.queue.end(&self.parts.halt.error());
    }
}
