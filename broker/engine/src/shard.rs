//! Shards: a log goes on under another key, in a tree of its own.
//!
//! The last entry of a shard names the next one, with its key and its first checkpoint; the first entry of the next one names
//! the shard before it, with its tree. So whoever trusts one of the keys can learn the other, and a shard can neither be
//! put beside another of the same name nor be left out. Indexes of entries count through all shards; sizes of trees,
//! checkpoints, tiles and proofs are those of one shard.

use std::sync::Arc;

use unefois_audit::{BatchProofs, Checkpoint, Frontier, Hash, Receipt, VerifierKey};
use unefois_consent::event::{AcceptedClock, Event, LogOpened, PreviousShard, ShardClosed};
use unefois_consent::{Digest, RecordPeriod, Retention, Rules, Timestamp};

use crate::committer::{Commit, SignedHead};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::leaves::check_time;
use crate::replay::{BatchSource, LogFault, fault};
use crate::seal::{KeyState, Opener, Sealer};
use crate::sequencer::{Turn, Writer};
use crate::signer::Signer;
use crate::store::{Batch, ShardChange, StoreError, Visit};

/// Room that closing a shard takes: two entries.
const CLOSING_BYTES: usize = 64 << 10;

/// One shard of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Index of its first entry.
    pub first: u64,
    /// Its verifier key; the name of the key is the shard's origin.
    pub key: VerifierKey,
    /// Size and root of the tree of the shard before it, without the entry that closed that one; `None` in the first shard.
    pub(crate) previous: Option<(u64, Hash)>,
    /// Where an operator accepted a clock with its first entry.
    pub(crate) clock: Option<AcceptedClock>,
}

impl Shard {
    /// Whether an operator accepted a clock with entry `index`.
    pub(crate) fn accepts_clock(&self, index: u64) -> bool {
        index == self.first && self.clock.is_some()
    }

    /// Whether entry `index` may be of `time` after one that is of `before`. The error says what is wrong with it.
    pub(crate) fn check_time(&self, index: u64, before: Timestamp, time: Timestamp) -> Result<(), &'static str> {
        check_time(before, time, self.clock.filter(|_| index == self.first))
    }
}

/// The shards of a log, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shards {
    /// With their last heads.
    closed: Vec<(Shard, Arc<SignedHead>)>,
    open: Shard,
}

impl Shards {
    /// Reads how the shards of a log name each other, from the last one, whose key is `key`, back to the first.
    ///
    /// # Errors
    /// [`LogFault`] with the first entry that does not fit.
    pub fn read(source: &dyn BatchSource, key: &VerifierKey, opener: &Opener) -> Result<Self, LogFault> {
        let mut firsts = source.shards();
        if firsts.first().is_some_and(|first| *first != 0) {
            return fault(0, "is missing, and with it the first shard of the log");
        }
        is_open(source, opener)?;
        let last = firsts.pop().unwrap_or(0);
        let mut open = Shard { first: last, key: key.clone(), previous: None, clock: None };
        let mut closed = Vec::new();
        let mut next = &mut open;
        for first in firsts.into_iter().rev() {
            let before = before(source, opener, first, next)?;
            closed.push(before);
            next = match closed.last_mut() {
                Some((shard, _)) => shard,
                None => break,
            };
        }
        closed.reverse();
        Ok(Self { closed, open })
    }

    /// All of them, in order.
    fn all(&self) -> impl DoubleEndedIterator<Item = &Shard> {
        self.closed.iter().map(|(shard, _)| shard).chain([&self.open])
    }

    /// The shard that entry `index` is in, or will be.
    pub fn of(&self, index: u64) -> &Shard {
        self.all().rev().find(|shard| shard.first <= index).unwrap_or(&self.open)
    }

    /// The shard that comes after the one that entry `index` is in.
    pub(crate) fn after(&self, index: u64) -> Option<&Shard> {
        self.all().find(|shard| shard.first > index)
    }

    /// Whether an entry of `time` and index `index` is of a clock that an operator found to be wrong later.
    pub(crate) fn is_of_wrong_clock(&self, index: u64, time: Timestamp) -> bool {
        let later = self.all().filter(|shard| shard.first > index);
        later.filter_map(|shard| shard.clock).any(|clock| clock.to < time && time <= clock.from)
    }

    /// The shard that is open.
    pub fn open(&self) -> &Shard {
        &self.open
    }

    /// The closed shards with their last heads.
    pub fn closed(&self) -> &[(Shard, Arc<SignedHead>)] {
        &self.closed
    }

    /// The last head of the closed shard that entry `index` is in.
    pub fn closed_head(&self, index: u64) -> Option<&Arc<SignedHead>> {
        let shard = self.of(index);
        self.closed.iter().find(|(closed, _)| closed == shard).map(|(_, head)| head)
    }

    /// Index of the first entry of the shard of this origin.
    pub fn first_of(&self, origin: &str) -> Option<u64> {
        self.all().find(|shard| shard.key.name() == origin).map(|shard| shard.first)
    }

    /// Why the log cannot go on in a shard of this key.
    fn why_not(&self, next: &VerifierKey) -> Option<&'static str> {
        let same =
            self.all().find(|shard| shard.key.name() == next.name() || shard.key.public_key() == next.public_key())?;
        Some(if same.key.name() == next.name() {
            "this log had a shard of that name; give the next one another"
        } else {
            "this log had that key already; a shard is closed to go on under another one"
        })
    }
}

/// Where the last entry closes its shard, the next one is missing.
fn is_open(source: &dyn BatchSource, opener: &Opener) -> Result<(), LogFault> {
    let last = source.size().saturating_sub(1);
    let mut closing = None;
    source.read(last, &mut |batch| {
        closing = batch.entries.last().filter(|entry| entry.leaf.kind == Event::SHARD_CLOSED).cloned();
        Visit::Continue
    })?;
    let Some(closing) = closing else { return Ok(()) };
    let named = match opener.event(last, &closing).map_err(|error| LogFault::at(last, error))? {
        Some(Event::ShardClosed(closed)) => closed.verifier_key,
        Some(_) | None => "another key".to_owned(),
    };
    fault(
        last,
        format!(
            "closes the shard, and the log goes on under {named}: that shard is not here. Where the closing was interrupted the \
             next start of the broker finishes it; else journal/ is older than the log, or a segment of it is missing: put back \
             the newest one"
        ),
    )
}

/// The shard that begins with entry `first`, by what `next` and its own last entry say. Completes `next`.
fn before(
    source: &dyn BatchSource,
    opener: &Opener,
    first: u64,
    next: &mut Shard,
) -> Result<(Shard, Arc<SignedHead>), LogFault> {
    let (opening, closing) = (next.first, next.first.saturating_sub(1));
    let (batch, Some(Event::LogOpened(opened))) = entry_at(source, opener, opening)? else {
        return fault(opening, "does not open the shard that begins with it");
    };
    let opened_leaf = batch.entries.first().map(|entry| entry.leaf.hash());
    if (opened.origin.as_str(), &opened.verifier_key) != (next.key.name(), &next.key.to_string()) {
        return fault(opening, format!("opens the shard {}, and the key given is {}", opened.verifier_key, next.key));
    }
    let Some(previous) = opened.previous else {
        return fault(opening, "opens a log of its own, and entries come before it");
    };
    let Ok(key) = previous.verifier_key.parse::<VerifierKey>() else {
        return fault(opening, "names no verifier key of the shard before it");
    };
    if key.name() != previous.origin {
        return fault(opening, "names another origin than that of the key before it");
    }
    next.previous = Some((previous.size, Hash(previous.root.0)));
    next.clock = opened.clock;

    let (batch, Some(Event::ShardClosed(closed))) = entry_at(source, opener, closing)? else {
        return fault(closing, "does not close the shard that ends with it");
    };
    if (closed.origin.as_str(), closed.verifier_key) != (next.key.name(), next.key.to_string()) {
        return fault(closing, format!("closes its shard for another one than {}", next.key));
    }
    match Checkpoint::open(&closed.checkpoint, &next.key, next.key.name()) {
        Ok(named) if named.size == 1 && Some(named.root) == opened_leaf => {}
        Ok(_) => return fault(closing, "names another first checkpoint than that of the next shard"),
        Err(error) => return fault(closing, format!("names a checkpoint that the next shard did not sign: {error}")),
    }
    let tree = (batch.end().saturating_sub(first), batch.root);
    let Ok(head) = SignedHead::verified(&key, first, tree, &batch.signature) else {
        return fault(closing, format!("the head of its batch is not signed by {key}"));
    };
    Ok((Shard { first, key, previous: None, clock: None }, Arc::new(head)))
}

/// Entry `index`, which must be the only one of its batch, and what it says.
fn entry_at(source: &dyn BatchSource, opener: &Opener, index: u64) -> Result<(Batch, Option<Event>), LogFault> {
    let mut found = None;
    source.read(index, &mut |batch| {
        found = Some(batch);
        Visit::Stop
    })?;
    match found {
        Some(batch) if batch.first == index && batch.entries.len() == 1 => {
            let event = batch.entries.first().map(|entry| opener.event(index, entry)).transpose();
            Ok((batch, event.map_err(|error| LogFault::at(index, error))?.flatten()))
        }
        Some(_) | None => fault(index, "is no commit of its own, as the ends of shards are"),
    }
}

/// The key that the last shard of a log says it has, where its first entry can be read. It is not verified.
pub fn key_of_last(source: &dyn BatchSource, opener: &Opener) -> Option<VerifierKey> {
    let last = source.shards().pop()?;
    let mut found = None;
    let read = source.read(last, &mut |batch| {
        found = batch.entries.first().filter(|_| batch.first == last).cloned();
        Visit::Stop
    });
    let event = opener.event(last, &read.ok().and(found)?).ok()??;
    if let Event::LogOpened(opened) = event { opened.verifier_key.parse().ok() } else { None }
}

/// A shard that was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedShard {
    /// Index of its first entry.
    pub first: u64,
    /// Index of the entry that closed it.
    pub index: u64,
    /// Of that entry: by it whoever trusts the shard's key learns the next one. Nothing in it is personal.
    pub receipt: Receipt,
    /// The first head of the next shard.
    pub next: SignedHead,
    /// From which time to which the log went with it; `None` where no clock was accepted.
    pub clock: Option<AcceptedClock>,
}

/// What of a log its next shard says again.
struct OfLog {
    rules: Rules,
    subject_key: Digest,
    /// By which time the next shard opens, where that is accepted.
    accepted: Option<Timestamp>,
    /// Whether the key that seals the first entry was made already.
    key: KeyState,
}

impl Engine {
    /// Closes the shard under way, and with it this engine: the log goes on with the shard whose key `next` signs with, in
    /// an engine that is opened with it. `signer` is the one that this engine was opened with. Blocks for some writes.
    ///
    /// # Errors
    /// [`EngineError::NotAllowed`] while exchanges are under way, and where a shard of the log had that origin already;
    /// [`EngineError::ClockWrong`] while the clock is in doubt. After another error opening again shows whether the shard is
    /// closed.
    pub async fn close_shard(&self, signer: &dyn Signer, next: &dyn Signer) -> Result<ClosedShard, EngineError> {
        self.check_clock()?;
        self.end_shard(signer, next, None).await
    }

    /// Closes the shard under way like [`Engine::close_shard`], while the clock is in doubt: the next shard opens by the clock
    /// as it is now, and says so. The log's time goes back where its last entry is later.
    ///
    /// # Errors
    /// [`EngineError::NotAllowed`] where the clock is right, and in the cases of [`Engine::close_shard`];
    /// [`EngineError::MonthPurged`] where the log's time would go back into a month that was purged.
    pub async fn accept_clock(&self, signer: &dyn Signer, next: &dyn Signer) -> Result<ClosedShard, EngineError> {
        if self.check_clock().is_ok() {
            return Err(EngineError::NotAllowed("the clock fits the log; there is nothing to accept"));
        }
        self.end_shard(signer, next, Some(self.now())).await
    }

    async fn end_shard(
        &self,
        signer: &dyn Signer,
        next: &dyn Signer,
        accepted: Option<Timestamp>,
    ) -> Result<ClosedShard, EngineError> {
        if let Some(why) = self.shards().why_not(next.verifier_key()) {
            return Err(EngineError::NotAllowed(why));
        }
        let rest = move |turn: &mut Turn<'_>| {
            if !turn.state().open().is_empty() {
                return Err(EngineError::NotAllowed("exchanges are under way; a shard ends between them"));
            }
            if let Some(purged) = accepted.and_then(|to| turn.state().purged_since(to.month())) {
                return Err(EngineError::MonthPurged(purged));
            }
            // The two entries that close the shard and open the next one are alone in their commits.
            turn.know_key(Retention::LOG)?;
            let subject_key =
                turn.state().subject_key_check().ok_or(EngineError::Internal("the log has no beginning"))?;
            let opens = RecordPeriod::new(accepted.unwrap_or(turn.now()), Retention::LOG);
            Ok(OfLog { rules: turn.state().rules(), subject_key, accepted, key: turn.state().key_state(opens) })
        };
        let of_log = self.sequencer().submit_in_doubt(rest).await?.value;
        self.close();
        self.check()?;
        self.change_shard(signer, next, &of_log)
    }

    fn change_shard(&self, signer: &dyn Signer, next: &dyn Signer, of_log: &OfLog) -> Result<ClosedShard, EngineError> {
        let journal = self.journal();
        journal.reserve(CLOSING_BYTES).map_err(EngineError::NoRoom)?;
        let end = journal.end();
        let (closing, opening) = (end.entries(), end.entries().saturating_add(1));
        let last = Timestamp::from_millis(end.last_time_ms);
        let now = self.now().max(last);
        // A clock in doubt gives no time to the shard that it does not belong to.
        let (closes, opens) = match of_log.accepted {
            Some(to) => (last, to),
            None => (now, now),
        };
        let (key, next_key) = (signer.verifier_key(), next.verifier_key());

        let clock = of_log.accepted.map(|to| AcceptedClock { from: closes, to });
        // The next shard's first entry comes first: the last one of this shard names its checkpoint.
        let opened = Event::LogOpened(LogOpened {
            origin: next_key.name().to_owned(),
            verifier_key: next_key.to_string(),
            rules: of_log.rules,
            subject_key: of_log.subject_key,
            clock,
            previous: Some(PreviousShard {
                origin: key.name().to_owned(),
                verifier_key: key.to_string(),
                size: end.frontier.size(),
                root: Digest(end.frontier.root().0),
            }),
        });
        let alone =
            |index, (time, key), event: &Event, tree: &Frontier, signer: &dyn Signer| -> Result<_, EngineError> {
                let mut writer = Writer::new(Sealer::new(Arc::clone(self.keys())), index);
                let written = writer.append(index, (time, key), event)?;
                let proofs = BatchProofs::new(tree, &[written.leaf.hash()]);
                let (origin, size) = (signer.verifier_key().name().to_owned(), proofs.after().size());
                let checkpoint = Checkpoint { origin, size, root: proofs.root() };
                let signature = signer.sign(checkpoint.note_text().as_bytes())?;
                let note = checkpoint.signed(&signature, signer.verifier_key().id());
                let head =
                    SignedHead { shard: index.saturating_add(1).saturating_sub(size), size, root: proofs.root(), note };
                let batch = Batch { first: index, entries: writer.take(), root: proofs.root(), signature };
                Ok((batch, written, proofs, head))
            };
        let (next_batch, _, _, next_head) = alone(opening, (opens, of_log.key), &opened, &Frontier::new(), next)?;
        let closed = Event::ShardClosed(ShardClosed {
            origin: next_key.name().to_owned(),
            verifier_key: next_key.to_string(),
            checkpoint: next_head.note.clone(),
        });
        let (last, written, proofs, head) = alone(closing, (closes, KeyState::Made), &closed, &end.frontier, signer)?;
        let subtrees: Vec<_> = proofs.closed().collect();
        let change = ShardChange { last: &last, after: proofs.after(), closed: &subtrees, next: &next_batch };
        journal.close_shard(change).map_err(closing_failed)?;
        // Twice, so that no slot of the file holds a head of the closed shard any more. Where that fails the shard is closed all
        // the same, and the next start writes the head.
        let head_file = self.head_file();
        if let Err(error) = head_file.write(&next_head.note).and_then(|()| head_file.write(&next_head.note)) {
            tracing::warn!(%error, "the head file still has a head of the closed shard; the next start writes the new one");
        }
        let receipt = Commit::new(closing, proofs, head).receipt(written)?;
        Ok(ClosedShard { first: end.shard, index: closing, receipt, next: next_head, clock })
    }
}

fn closing_failed(error: StoreError) -> EngineError {
    match error {
        StoreError::Full(_) | StoreError::NotWritten(_) => EngineError::NoRoom(error),
        StoreError::Unknown(_)
        | StoreError::Fenced(_)
        | StoreError::Corrupt(_)
        | StoreError::Newer(_)
        | StoreError::Read(_) => EngineError::Halted(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_back_where_a_shard_says_so_and_nowhere_else() {
        let at = Timestamp::from_millis;
        let key: VerifierKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
        let shard = |clock| Shard { first: 7, key: key.clone(), previous: None, clock };
        let plain = shard(None);
        assert_eq!([plain.check_time(7, at(9), at(9)), plain.check_time(7, at(9), at(10))], [Ok(()), Ok(())]);
        assert!(plain.check_time(7, at(9), at(8)).is_err() && plain.check_time(8, at(9), at(8)).is_err());
        let back = shard(Some(AcceptedClock { from: at(9), to: at(2) }));
        assert_eq!(back.check_time(7, at(9), at(2)), Ok(()));
        for (index, before, time) in [(7, 9, 3), (7, 9, 9), (7, 8, 2), (7, 9, 10), (8, 9, 2)] {
            assert!(back.check_time(index, at(before), at(time)).is_err(), "{index} {before} {time}");
        }
        assert_eq!(back.check_time(8, at(2), at(2)), Ok(()));
    }
}
