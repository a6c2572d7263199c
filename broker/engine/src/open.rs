//! Opening: the journal's end is verified, the fold catches up. Opening refuses rather than repairs in silence.

use std::collections::BTreeMap;

use unefois_audit::{Frontier, Hash, TileNodes, root_at};
use unefois_consent::event::{Event, Keep};
use unefois_consent::{Retention, Timestamp};

use crate::committer::SignedHead;
use crate::engine::{EngineParts, Progress};
use crate::error::EngineError;
use crate::head;
use crate::purge::Past;
use crate::replay::JournalSource;
use crate::seal::Opener;
use crate::shard::{self, Shards};
use crate::state::{BUILT_AT_ONCE, State, is_of_this_layout, tie_rows};
use crate::store::{Batch, Journal, JournalEnd, SecretKey, StoreError, Visit};
use crate::traces::Tiles;

/// An opened store.
pub(crate) struct Opened {
    pub(crate) state: State,
    pub(crate) head: SignedHead,
    pub(crate) frontier: Frontier,
    pub(crate) shards: Shards,
    pub(crate) subject_key: SecretKey,
}

pub(crate) fn open(parts: &EngineParts, progress: Progress<'_>) -> Result<Opened, EngineError> {
    let end = parts.journal.end();
    let opener = Opener::new(parts.keys.clone());
    let head = verify_end(&end, parts, &opener)?;
    let shards = Shards::read(&JournalSource(&*parts.journal), parts.signer.verifier_key(), &opener)
        .map_err(|fault| EngineError::Log(fault.to_string()))?;
    head::check(parts, &head, &shards)?;
    // ORDER: before the fold, which may be set aside.
    check_last_keys(parts, &opener, &head)?;
    if !is_of_this_layout(&*parts.fold)? || !is_fold_of(&State::load(parts.fold.clone())?, &head, parts, &shards)? {
        tracing::warn!(
            folded = parts.fold.folded()?,
            journal = head.entries(),
            "the fold is of another journal or version and is rebuilt"
        );
        parts.fold.clear()?;
    }
    let mut state = State::load(parts.fold.clone())?;
    catch_up(parts, &mut state, &head, progress)?;
    state.rules().check().map_err(|_| {
        EngineError::Log(format!(
            "this log is decided by version {} of the rules, which this program does not have: use a newer one",
            state.rules().number()
        ))
    })?;
    check_record_keys(parts, &state)?;
    let known = subject_key(parts, &state)?;
    // ORDER: head file, keys and fold were asked and know no more than this end. A start that is refused above has changed
    // nothing but the fold, which is derived.
    parts.journal.accept_end()?;
    parts.keys.finish_destruction()?;
    parts.fold.accept()?;
    head::write(parts, &head)?;
    let subject_key = known.map_or_else(|| parts.keys.make_subject_key(), Ok)?;
    // An empty catch-up leaves the log's time to the journal.
    state.set_time(Timestamp::from_millis(end.last_time_ms));
    Ok(Opened { state, head, frontier: end.frontier, shards, subject_key })
}

/// The last checkpoint must be signed by this log's key, and its shard must be open.
fn verify_end(end: &JournalEnd, parts: &EngineParts, opener: &Opener) -> Result<SignedHead, EngineError> {
    let key = parts.signer.verifier_key();
    let (size, root) = (end.frontier.size(), end.frontier.root());
    let Some(signature) = end.signature else {
        return if end.entries() == 0 {
            Ok(SignedHead::empty())
        } else {
            Err(EngineError::Log("the journal has entries and no signed head".to_owned()))
        };
    };
    SignedHead::verified(key, end.shard, (size, root), &signature).map_err(|error| {
        let now = shard::key_of_last(&JournalSource(&*parts.journal), opener);
        EngineError::Log(match now.filter(|now| now.name() != key.name()) {
            None => format!(
                "the head at size {size} is not signed by {}: {error}. Is this the right key and data folder?",
                key.name()
            ),
            // The head file says which of the two is older.
            Some(now) if head::is_of(parts, key) => format!(
                "the data folder is older than the log: it ends in the shard {now}, and the head file {} has a head of {}. Put \
                 back the newest data folder. If it is lost for good, keep both as proof and tell those who hold receipts; \
                 then set log.shard and log.signing_key to those of the older shard, and `unefois audit accept-head` goes on \
                 from what is there",
                parts.head.name(),
                key.name()
            ),
            Some(now) => format!(
                "the log goes on in the shard {now}, and the configuration names {}: set log.shard to what follows log.origin \
                 and the slash in that name, and log.signing_key to the key of that shard",
                key.name()
            ),
        })
    })
}

/// Whether the fold was folded from a prefix of this journal. One that is ahead of its journal is an error.
fn is_fold_of(state: &State, head: &SignedHead, parts: &EngineParts, shards: &Shards) -> Result<bool, EngineError> {
    if state.size() == 0 {
        return Ok(true);
    }
    if state.size() > head.entries() {
        return Err(EngineError::Log(format!(
            "the fold has {} entries and the journal only {}. The fold gets durable entries only, so acknowledged ones are \
             missing from the journal: it was damaged, or restored from an older copy. Put back the newest journal/. If \
             it is lost for good, keep the folder as proof, tell those who hold receipts, and move fold/ away to go on \
             from entry {}",
            state.size(),
            head.entries(),
            head.entries()
        )));
    }
    let shard = shards.of(state.size() - 1).first;
    let root = root_at(&TileNodes(&Tiles { journal: &*parts.journal, shard }), state.size() - shard)
        .map_err(|error| EngineError::Log(error.to_string()))?;
    Ok(state.folded_root()? == Some(root))
}

/// So many of the last entries are looked at for the keys of their records.
const LOOKED_AT: u64 = 2_000;

/// The subject key and the keys of the last entries are there. One that is missing would be made anew for what comes now: neither
/// of the two would open all records of its period, and no person would be known again.
fn check_last_keys(parts: &EngineParts, opener: &Opener, head: &SignedHead) -> Result<(), EngineError> {
    if head.entries() > 0 && parts.keys.subject_key()?.is_none() {
        return Err(EngineError::Store(StoreError::Corrupt(
            "keys/subject.key is missing: without it no person is found whom the log knows; put keys/subject.key back from the backup".to_owned(),
        )));
    }
    let mut periods = BTreeMap::new();
    parts.journal.read(head.entries().saturating_sub(LOOKED_AT), &mut |batch| {
        periods.extend((batch.first..).zip(&batch.entries).map(|(index, entry)| (entry.period(), index)));
        Visit::Continue
    })?;
    let mut missing = Vec::new();
    for (period, index) in periods {
        if parts.keys.get(period)?.is_none() {
            missing.push((period, index));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    // From the journal: the fold is not asked yet, and may have to be built again.
    let past = Past::read(|visit| parts.journal.read(0, visit), opener)?;
    for (period, index) in missing {
        if past.of(index, period).is_err() {
            return Err(EngineError::Store(StoreError::Corrupt(format!(
                "the key of the records of {period} is missing, such as of entry {index}; put keys/records/ back from the backup"
            ))));
        }
    }
    Ok(())
}

/// Every key whose records can be read is there, and is the one that the log knows. Another one, or one that is made anew, would
/// not open what was sealed before.
fn check_record_keys(parts: &EngineParts, state: &State) -> Result<(), EngineError> {
    for (period, check) in state.keys_made() {
        let what = match parts.keys.get(*period)? {
            Some(key) if key.check() == *check => continue,
            Some(_) => "is not the one that the log knows",
            None => "is missing",
        };
        return Err(EngineError::Store(StoreError::Corrupt(format!(
            "the key of the records of {period} {what}; put keys/records/ back from the backup"
        ))));
    }
    Ok(())
}

/// The key under which identities become tags. It is made for an empty log only: under another one nobody would be found whom
/// the log knows, and no objection and no withdrawal would count.
fn subject_key(parts: &EngineParts, state: &State) -> Result<Option<SecretKey>, EngineError> {
    let Some(check) = state.subject_key_check() else { return Ok(None) };
    let what = match parts.keys.subject_key()? {
        Some(key) if key.check() == check => return Ok(Some(key)),
        Some(_) => "is not the one that the log knows",
        None => "is missing",
    };
    Err(EngineError::Store(StoreError::Corrupt(format!(
        "keys/subject.key {what}: without it no person is found whom the log knows; put keys/subject.key back from the backup"
    ))))
}

fn catch_up(
    parts: &EngineParts,
    state: &mut State,
    head: &SignedHead,
    progress: Progress<'_>,
) -> Result<(), EngineError> {
    let begin = state.size();
    let end = head.entries();
    if begin == end {
        return Ok(());
    }
    let mut folding = Folding { opener: Opener::new(parts.keys.clone()), journal: &*parts.journal, past: None };
    let mut fault = None;
    state.build(end - begin);
    parts.journal.read(begin, &mut |batch| match folding.batch(state, &batch) {
        Ok(()) => {
            if state.waiting().1 >= BUILT_AT_ONCE
                && let Err(error) = flush(parts, state, &batch.root)
            {
                fault = Some(error);
                return Visit::Stop;
            }
            progress(state.size() - begin, end - begin);
            Visit::Continue
        }
        Err(error) => {
            fault = Some(error);
            Visit::Stop
        }
    })?;
    if let Some(error) = fault {
        return Err(error);
    }
    if state.size() != end {
        return Err(EngineError::Log(format!("the journal ends at {} and its head says {end}", state.size())));
    }
    flush(parts, state, &head.root)?;
    state.built();
    Ok(())
}

fn flush(parts: &EngineParts, state: &mut State, root: &Hash) -> Result<(), EngineError> {
    let mut chunk = state.take_chunk()?;
    chunk.extend(tie_rows(root));
    parts.fold.apply(&chunk.changes(), state.size())?;
    state.folded(state.size());
    Ok(())
}

/// Folds entries that are in the journal.
struct Folding<'a> {
    opener: Opener,
    journal: &'a dyn Journal,
    /// Read at the first record that was purged.
    past: Option<Past>,
}

impl Folding<'_> {
    /// Folds the entries of `batch` that `state` does not have yet.
    fn batch(&mut self, state: &mut State, batch: &Batch) -> Result<(), EngineError> {
        for (index, entry) in (batch.first..).zip(&batch.entries) {
            if index < state.size() {
                continue;
            }
            let time = Timestamp::from_millis(entry.leaf.time_ms);
            let Some(event) = self.opener.event(index, entry)? else {
                let past = match &mut self.past {
                    Some(past) => past,
                    None => self.past.insert(Past::read(|visit| self.journal.read(0, visit), &self.opener)?),
                };
                state.apply_purged(index, time, past.of(index, entry.period())?)?;
                continue;
            };
            let kept_as_it_must = self.retention(state, time, &event)? == Some(entry.opening.retention);
            if event.kind() != entry.leaf.kind || !kept_as_it_must {
                return Err(EngineError::Log(format!(
                    "entry {index} is of another kind, or kept for another time, than its record says: the log was forged. \
                     `unefois audit replay` tells more; keep the data folder as proof"
                )));
            }
            state.apply(index, time, entry.opening.retention, &event)?;
        }
        Ok(())
    }

    /// How long the record of the next entry must be kept. The end of an exchange is kept as its beginning, whose record may be
    /// purged.
    fn retention(&self, state: &State, time: Timestamp, event: &Event) -> Result<Option<Retention>, StoreError> {
        match event.facts().keep {
            Keep::AsRequest(requested) => {
                Ok(self.journal.entry(requested)?.map(|requested| requested.opening.retention))
            }
            Keep::For(_) | Keep::Exchange(_) | Keep::After(_) | Keep::Objection(_) => {
                Ok(Some(state.retention(time, event)))
            }
        }
    }
}
