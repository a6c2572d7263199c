//! Shards: a log goes on under another key, in a tree of its own.
//!
//! The last entry of a shard names the next one, with its key and its first checkpoint; the first entry of the next one names
//! the shard before it, with its tree. So whoever trusts one of the keys can learn the other, and a shard can neither be
//! put beside another of the same name nor be left out. Indexes of entries count through all shards; sizes of trees,
//! checkpoints, tiles and proofs are those of one shard.

use std::sync::Arc;

use unefois_audit::{BatchProofs, Checkpoint, Frontier, Hash, Receipt, VerifierKey};
use unefois_consent::event::{Event, LogOpened, PreviousShard, ShardClosed};
use unefois_consent::{Digest, Retention, Rules, Timestamp};

use crate::committer::{Commit, SignedHead};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::replay::{BatchSource, LogFault, fault};
use crate::seal::{Opener, Sealer};
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
        let mut open = Shard { first: last, key: key.clone(), previous: None };
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
    Ok((Shard { first, key, previous: None }, Arc::new(head)))
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
pub(crate) fn key_of_last(source: &dyn BatchSource, opener: &Opener) -> Option<VerifierKey> {
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
}

impl Engine {
    /// Closes the shard under way, and with it this engine: the log goes on with the shard whose key `next` signs with, in
    /// an engine that is opened with it. `signer` is the one that this engine was opened with. Blocks for some writes.
    ///
    /// # Errors
    /// [`EngineError::NotAllowed`] while exchanges are under way, and where a shard of the log had that origin already. After
    /// another error opening again shows whether the shard is closed.
    pub async fn close_shard(&self, signer: &dyn Signer, next: &dyn Signer) -> Result<ClosedShard, EngineError> {
        if let Some(why) = self.shards().why_not(next.verifier_key()) {
            return Err(EngineError::NotAllowed(why));
        }
        let rest = |turn: &mut Turn<'_>| {
            if !turn.state().open().is_empty() {
                return Err(EngineError::NotAllowed("exchanges are under way; a shard ends between them"));
            }
            // The two entries that close the shard and open the next one are alone in their commits.
            turn.know_key(Retention::LOG)?;
            let subject_key =
                turn.state().subject_key_check().ok_or(EngineError::Internal("the log has no beginning"))?;
            Ok((turn.state().rules(), subject_key))
        };
        let of_log = self.sequencer().submit_to_end(rest).await?.value;
        self.close();
        self.check()?;
        self.change_shard(signer, next, of_log)
    }

    fn change_shard(
        &self,
        signer: &dyn Signer,
        next: &dyn Signer,
        (rules, subject_key): (Rules, Digest),
    ) -> Result<ClosedShard, EngineError> {
        let journal = self.journal();
        journal.reserve(CLOSING_BYTES).map_err(EngineError::NoRoom)?;
        let end = journal.end();
        let (closing, opening) = (end.entries(), end.entries().saturating_add(1));
        let now = self.now().max(Timestamp::from_millis(end.last_time_ms));
        let (key, next_key) = (signer.verifier_key(), next.verifier_key());

        // The next shard's first entry comes first: the last one of this shard names its checkpoint.
        let opened = Event::LogOpened(LogOpened {
            origin: next_key.name().to_owned(),
            verifier_key: next_key.to_string(),
            rules,
            subject_key,
            previous: Some(PreviousShard {
                origin: key.name().to_owned(),
                verifier_key: key.to_string(),
                size: end.frontier.size(),
                root: Digest(end.frontier.root().0),
            }),
        });
        let alone = |index, event: &Event, tree: &Frontier, signer: &dyn Signer| -> Result<_, EngineError> {
            let mut writer = Writer::new(Sealer::new(Arc::clone(self.keys())), index);
            let written = writer.append(index, (now, Retention::LOG), event)?;
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
        let (next_batch, _, _, next_head) = alone(opening, &opened, &Frontier::new(), next)?;
        let closed = Event::ShardClosed(ShardClosed {
            origin: next_key.name().to_owned(),
            verifier_key: next_key.to_string(),
            checkpoint: next_head.note.clone(),
        });
        let (last, written, proofs, head) = alone(closing, &closed, &end.frontier, signer)?;
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
        Ok(ClosedShard { first: end.shard, index: closing, receipt, next: next_head })
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
