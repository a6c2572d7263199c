//! The newest cosigned checkpoint on the disk: one note, replaced whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use unefois_audit::{Policy, Verdict};
use unefois_engine::{Engine, EngineError, SignedHead};

/// Its name in the data folder.
pub(super) const FILE: &str = "cosigned";

/// Where the cosigned last head of the shard that begins with entry `shard` is kept, in the data folder.
pub(super) fn closed_file(shard: u64) -> String {
    format!("{FILE}-{shard:020}")
}

/// Whether a file of this name in the data folder keeps a cosigned head.
pub(crate) fn is_kept_head(name: &str) -> bool {
    let shard = name.strip_prefix(FILE).and_then(|rest| rest.strip_prefix('-')).and_then(|shard| shard.parse().ok());
    name == FILE || shard.is_some_and(|shard| name == closed_file(shard))
}

/// Reads and verifies what an earlier run kept. What does not verify is ignored with a warning: the witnesses will cosign
/// the log as it is, or will refuse to. What contradicts the log is set aside, as proof.
pub(super) async fn read(
    engine: &Engine,
    policy: &Policy,
    file: &Path,
) -> Result<Option<(SignedHead, Verdict)>, EngineError> {
    let note = match std::fs::read_to_string(file) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Ok(ignored(file, &error.to_string())),
    };
    let verdict = match policy.judge(&note) {
        Ok(verdict) => verdict,
        Err(error) => return Ok(ignored(file, &error.to_string())),
    };
    let (size, root) = (verdict.checkpoint.size, verdict.checkpoint.root);
    let closed = engine.shards().closed().iter().find(|(shard, _)| shard.key.name() == verdict.checkpoint.origin);
    let own = closed.map_or_else(|| engine.head(), |(_, last)| Arc::clone(last));
    if size > own.size || engine.root_at(own.shard, size).await? != root {
        set_aside(file, size, own.size);
        return Ok(None);
    }
    if closed.is_some() {
        tracing::info!(file = %file.display(), "the cosigned checkpoint of the last run is of a shard that is closed since");
        return Ok(None);
    }
    if !verdict.quorum_is_met {
        return Ok(ignored(file, "its cosignatures are no quorum of the policy any more"));
    }
    Ok(Some((SignedHead { shard: own.shard, size, root, note }, verdict)))
}

/// Keeps what contradicts the log, as proof, and says so.
fn set_aside(file: &Path, cosigned: u64, entries: u64) {
    let aside = file.with_added_extension("set-aside");
    let moved = std::fs::rename(file, &aside);
    tracing::error!(
        cosigned, entries, aside = %aside.display(), moved = moved.is_ok(),
        "THE LOG IS NOT THE ONE THAT WAS COSIGNED BEFORE: was the data folder restored from an older copy? Its \
         witnesses will not cosign it. Keep both as proof, and tell the DPO"
    );
}

/// The last head of a closed shard as an earlier run kept it, with a quorum of cosignatures.
pub(super) fn read_closed(policy: &Policy, last: &SignedHead, file: &Path) -> Option<SignedHead> {
    let note = std::fs::read_to_string(file).ok()?;
    // What was changed proves nothing; what its key signed and is another head does.
    let verdict = policy.judge(&note).ok()?;
    let (size, root) = (verdict.checkpoint.size, verdict.checkpoint.root);
    let of_shard = last.note.lines().next() == Some(verdict.checkpoint.origin.as_str());
    if !of_shard || (size, root) != (last.size, last.root) {
        set_aside(file, size, last.size);
        return None;
    }
    verdict.quorum_is_met.then(|| SignedHead { note, ..last.clone() })
}

fn ignored<T>(file: &Path, problem: &str) -> Option<T> {
    tracing::warn!(file = %file.display(), problem, "the cosigned checkpoint of the last run is ignored");
    None
}

/// Keeps a note, durably.
pub(super) async fn write(file: &Path, note: &str) -> io::Result<()> {
    let (file, note): (PathBuf, String) = (file.to_owned(), note.to_owned());
    tokio::task::spawn_blocking(move || crate::durable::replace(&file, note.as_bytes()))
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the write was interrupted")))
}
