//! Heads of the log that are kept apart from its journal: the head file, and the cosigned heads in the data folder. Each must be
//! signed, and the journal must have its tree.

use std::path::Path;

use unefois_audit::{AuditError, Checkpoint, Policy};
use unefois_engine::replay::{BatchSource, Examined, ShardReport};
use unefois_engine::store::{Batch, HeadFile, StoreError, Visit};
use unefois_store::embedded::FileHead;

use super::super::Failure;
use super::super::output::read_text;
use crate::cosigning::is_kept_head;

/// A head as it was kept.
struct Kept {
    /// What keeps it, for people.
    place: String,
    note: String,
    /// Whether witnesses cosigned it.
    is_cosigned: bool,
}

/// The heads that are kept of a log.
pub(super) struct KeptHeads(Vec<Kept>);

impl KeptHeads {
    /// Reads the head file, where there is one, and the cosigned heads in `data`.
    ///
    /// # Errors
    /// [`Failure`] for one that cannot be read or is no text.
    pub(super) fn read(data: &Path, file: Option<&FileHead>) -> Result<Self, Failure> {
        let failed = |error: StoreError| Failure::Failed(error.to_string());
        let note = file.map(HeadFile::read).transpose().map_err(failed)?.flatten().filter(|note| !note.is_empty());
        let of_file = note.map(|note| Kept { place: "the head file".to_owned(), note, is_cosigned: false });
        let mut kept: Vec<Kept> = of_file.into_iter().collect();
        let unreadable = |error: std::io::Error| Failure::Failed(format!("{}: {error}", data.display()));
        for entry in std::fs::read_dir(data).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.file_name().and_then(|name| name.to_str()).is_some_and(is_kept_head) {
                let place = format!("the cosigned head in {}", path.display());
                kept.push(Kept { place, note: read_text(&path)?, is_cosigned: true });
            }
        }
        Ok(Self(kept))
    }

    /// Which of them the journal does not have, or whose witnesses' lines are not true: a sentence for each.
    pub(super) fn faults(
        &self,
        examined: &Examined,
        journal: &dyn BatchSource,
        policy: Option<&Policy>,
    ) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(move |kept| kept.check(examined, journal, policy).err())
    }
}

impl Kept {
    fn check(&self, examined: &Examined, journal: &dyn BatchSource, policy: Option<&Policy>) -> Result<(), String> {
        let place = &self.place;
        let origin = self.note.lines().next().unwrap_or_default();
        let Some(shard) = examined.shards.iter().find(|shard| shard.key.name() == origin) else {
            return Err(format!(
                "{place} is of the shard {origin}, which the journal does not have: the journal is older, or of another log"
            ));
        };
        let untrue = |error: AuditError| format!("{place} does not hold: {error}");
        let head = Checkpoint::open(&self.note, &shard.key, origin).map_err(untrue)?;
        if let Some(policy) = policy.filter(|_| self.is_cosigned) {
            policy.clone().with_log(&shard.key).judge(&self.note).map_err(untrue)?;
        }
        if head.size > shard.size {
            return Err(format!(
                "{place} knows {} entries of the shard {origin} and the journal {}: acknowledged ones are missing from the \
                 journal. Put back the newest data folder",
                head.size, shard.size
            ));
        }
        let batch = batch_of(journal, shard, head.size).map_err(|error| error.to_string())?;
        // Before the first entry the broker signs the empty tree.
        if head.size == 0 || batch.is_some_and(|batch| batch.root == head.root) {
            return Ok(());
        }
        Err(format!(
            "{place} and the journal have two trees of {} entries in the shard {origin}: the log was forked. Keep both as proof",
            head.size
        ))
    }
}

/// The batch whose head is that of the first `size` entries of a shard: the broker signs no other head. Its root was checked.
fn batch_of(journal: &dyn BatchSource, shard: &ShardReport, size: u64) -> Result<Option<Batch>, StoreError> {
    let Some(last) = size.checked_sub(1) else { return Ok(None) };
    let end = shard.first.saturating_add(size);
    let mut found = None;
    journal.read(shard.first.saturating_add(last), &mut |batch| {
        found = Some(batch).filter(|batch| batch.end() == end);
        Visit::Stop
    })?;
    Ok(found)
}
