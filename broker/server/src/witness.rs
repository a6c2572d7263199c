//! A witness of logs (C2SP tlog-witness): it cosigns a checkpoint only where it extends the last one that it cosigned of
//! that log. So a log whose witness is run by someone else cannot show two histories without being found out.
//!
//! What it cosigned last is on the disk before a cosignature leaves. Deliberately absent: ML-DSA-44, subtrees, bastions.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use unefois_audit::cosignature::Cosignature;
use unefois_audit::{AddCheckpoint, AuditError, Checkpoint, SignedNote, VerifierKey, WitnessKey, verify_consistency};
use unefois_engine::{Clock, Ed25519Signer, Signer};

pub mod config;
mod http;
pub mod state;

pub use http::serve;
use state::{Latest, StateFolder};

/// Why a checkpoint was not cosigned; each has its status in tlog-witness.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// 400: the request does not follow its format, or its old size is above that of its checkpoint.
    #[error("{0}")]
    Malformed(AuditError),
    /// 404: no such log is configured.
    #[error("this witness does not know the log; ask its operator to add the log's verifier key")]
    UnknownLog,
    /// 403: no true signature by a key that is trusted for the log.
    #[error("{0}")]
    Signature(AuditError),
    /// 409: the request does not begin where the witness stands.
    #[error("the last tree that this witness cosigned has {0} entries; send the proof from there")]
    Conflict(u64),
    /// 422: the new tree does not extend the last one.
    #[error("{0}")]
    NotConsistent(AuditError),
    /// 500: the witness could not keep what it would have cosigned, so it did not.
    #[error("the witness could not keep its state; see its log")]
    NotKept,
}

/// A log that the witness knows.
#[derive(Debug)]
struct KnownLog {
    keys: Vec<VerifierKey>,
    latest: Arc<Mutex<Latest>>,
}

/// A witness with its key, its logs, and what it saw of them.
#[derive(Debug)]
pub struct Witness {
    key: WitnessKey,
    signer: Arc<Ed25519Signer>,
    logs: BTreeMap<String, KnownLog>,
    state: Arc<StateFolder>,
    clock: Arc<dyn Clock>,
}

impl Witness {
    /// Opens the witness that a configuration describes.
    ///
    /// # Errors
    /// What is wrong with key, logs or state, and what to do. State that does not read is never begun anew: a witness that
    /// forgot could be led to cosign another history.
    pub fn open(loaded: config::Loaded, clock: Arc<dyn Clock>) -> Result<Self, crate::config::ConfigError> {
        let fault = |problem: String| crate::config::ConfigError::new("state", problem);
        let config::Loaded { key, signer, logs: configured, state } = loaded;
        let state = StateFolder::open(&state).map_err(fault)?;
        let mut logs = BTreeMap::new();
        for (origin, keys) in configured {
            let latest = state.read(&origin, &keys, &key).map_err(fault)?;
            logs.insert(origin, KnownLog { keys, latest: Arc::new(Mutex::new(latest)) });
        }
        Ok(Self { key, signer: Arc::new(signer), logs, state: Arc::new(state), clock })
    }

    /// Its verifier key.
    pub fn key(&self) -> &WitnessKey {
        &self.key
    }

    /// How many logs it knows.
    pub fn logs(&self) -> usize {
        self.logs.len()
    }

    /// Judges a request of `add-checkpoint` and gives the line of the cosignature. What was cosigned is durable before this
    /// returns; requests of one log are judged one after the other, also where their callers go away.
    pub async fn add_checkpoint(&self, body: &str) -> Result<String, Refused> {
        let (request, checkpoint) = AddCheckpoint::parse(body).map_err(Refused::Malformed)?;
        let log = self.logs.get(&checkpoint.origin).ok_or(Refused::UnknownLog)?;
        request.note.verify(&log.keys).map_err(Refused::Signature)?;
        if request.old_size > checkpoint.size {
            return Err(Refused::Malformed(AuditError::OutsideTree));
        }
        let signatures =
            request.note.signatures.iter().filter(|signature| {
                log.keys.iter().any(|key| key.id() == signature.id && key.name() == signature.name)
            });
        let known = SignedNote { text: request.note.text.clone(), signatures: signatures.cloned().collect() };
        let latest = Arc::clone(&log.latest).lock_owned().await;
        let (key, signer) = (self.key.clone(), Arc::clone(&self.signer));
        let (state, now_s) = (Arc::clone(&self.state), self.clock.now().as_millis() / 1000);
        // A caller that goes away must not end the work between the disk and the memory.
        let work = move || {
            let mut latest = latest;
            check_extends(&latest, &request, &checkpoint)?;
            let not_kept = |error: String| {
                tracing::error!(%error, origin = %checkpoint.origin, "a checkpoint was not cosigned");
                Refused::NotKept
            };
            let cosignature = Cosignature::make(now_s, &known.text, |message| signer.sign(message))
                .map_err(|error| not_kept(error.to_string()))?;
            let line = key.line(&cosignature);
            let note = format!("{known}{line}");
            // ORDER: kept before it leaves. After an error the disk may have either; both are prefixes of what is cosigned next.
            state.write(&checkpoint.origin, &note).map_err(|error| not_kept(error.to_string()))?;
            *latest = Latest { size: checkpoint.size, root: checkpoint.root, note: Some(note) };
            Ok(line)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(Refused::NotKept))
    }

    /// The last checkpoint that it cosigned of the log whose origin has this SHA-256, in lowercase hex.
    pub async fn latest(&self, origin_hash: &str) -> Option<String> {
        let (_, log) = self.logs.iter().find(|(origin, _)| state::origin_hash(origin) == origin_hash)?;
        log.latest.lock().await.note.clone()
    }
}

/// The rules of tlog-witness for a request whose checkpoint is signed by its log.
fn check_extends(latest: &Latest, request: &AddCheckpoint, checkpoint: &Checkpoint) -> Result<(), Refused> {
    if request.old_size != latest.size {
        return Err(Refused::Conflict(latest.size));
    }
    if checkpoint.size == 0 && checkpoint.root != unefois_audit::EMPTY_ROOT {
        return Err(Refused::NotConsistent(AuditError::NotConsistent));
    }
    let consistent = verify_consistency(latest.size, checkpoint.size, &request.proof, &latest.root, &checkpoint.root);
    consistent.map_err(|error| {
        // A signed fork or a rewritten past is worth keeping; a proof that somebody mixed up looks the same.
        tracing::warn!(
            origin = %checkpoint.origin, cosigned = latest.size, offered = checkpoint.size, offered_root = %checkpoint.root,
            "a log offered a checkpoint that does not extend the last one"
        );
        Refused::NotConsistent(error)
    })
}
