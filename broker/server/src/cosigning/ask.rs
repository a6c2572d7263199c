//! One question to one witness: `add-checkpoint` of C2SP tlog-witness. What comes back is believed only where it verifies.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use unefois_audit::add_checkpoint::AddCheckpoint;
use unefois_audit::{Cosignature, SignedNote, WitnessKey};
use unefois_engine::{Clock, Engine, SignedHead};

use super::log_error;

/// Patience for one request.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes: lines of several keys, post-quantum ones among them.
const MAX_ANSWER: usize = 64 << 10;
/// How far a witness's clock may be from ours, in seconds.
const MAX_SKEW_S: u64 = 300;

/// What became of a question, by what the operator does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Cosigned,
    /// It stands elsewhere than it said itself: two brokers ask it at once.
    Conflict,
    /// It has cosigned a larger tree than this log has.
    Ahead,
    UnknownLog,
    SignatureRefused,
    ProofRefused,
    RequestRefused,
    /// It answered with what is no cosignature of its key, or not of now.
    Invalid,
    Unavailable,
    /// This broker could not make the proof.
    NoProof,
}

impl Outcome {
    /// Stable name for metrics and logs.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Cosigned => "cosigned",
            Self::Conflict => "conflict",
            Self::Ahead => "ahead",
            Self::UnknownLog => "unknown_log",
            Self::SignatureRefused => "signature_refused",
            Self::ProofRefused => "proof_refused",
            Self::RequestRefused => "request_refused",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::NoProof => "no_proof",
        }
    }

    /// What to do about it.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Cosigned => "nothing",
            Self::Conflict => "make sure that one broker alone signs under this key",
            Self::Ahead => {
                "THE WITNESS KNOWS MORE ENTRIES THAN THIS LOG HAS: was the data folder restored from an older copy, or does \
                 another broker sign under this key? Stop and look; keep the folder"
            }
            Self::UnknownLog => "give the log's verifier key to the witness's operator; check-config prints it",
            Self::SignatureRefused => "the witness has another key for this log; compare the verifier keys",
            Self::ProofRefused => {
                "THE WITNESS COSIGNED ANOTHER HISTORY OF THIS LOG: was the data folder restored or changed, or does another \
                 broker sign under this key? Stop and look; keep the folder"
            }
            Self::RequestRefused => "is this the address of a witness (C2SP tlog-witness)?",
            Self::Invalid => "compare the key in the policy with the witness's, and both clocks",
            Self::Unavailable => "ask the witness's operator; the broker goes on asking",
            Self::NoProof => "the journal could not be read; see the broker's log",
        }
    }
}

/// What a question gave.
#[derive(Debug)]
pub(super) struct Answer {
    /// The witness, by its place in the policy.
    pub(super) place: usize,
    /// Size of the tree that it was asked about.
    pub(super) size: u64,
    pub(super) outcome: Outcome,
    /// Size of the last tree that the witness says it cosigned.
    pub(super) witness_size: Option<u64>,
    pub(super) cosignature: Option<Cosignature>,
    /// For the operator.
    pub(super) detail: String,
}

/// Why there is no cosignature.
struct Failed(Outcome, String);

enum Reply {
    Cosigned(Cosignature),
    /// The witness stands at another size.
    Stands(u64),
}

/// Asks witnesses.
#[derive(Debug)]
pub(super) struct Asker {
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    client: reqwest::Client,
}

impl Asker {
    pub(super) fn new(engine: Arc<Engine>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        // Another part of the process may have set it already, to the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
        Ok(Self { engine, clock, client: client.map_err(|error| error.to_string())? })
    }

    /// Asks the witness to cosign `head`, whose log it has last seen with `old` entries; once more where it corrects that.
    pub(super) async fn ask(&self, place: usize, url: &str, key: &WitnessKey, old: u64, head: &SignedHead) -> Answer {
        let size = head.size;
        let answer = |outcome, witness_size, cosignature, detail| Answer {
            place,
            size,
            outcome,
            witness_size,
            cosignature,
            detail,
        };
        let mut old = old.min(size);
        for attempt in 0..2 {
            match self.ask_from(url, key, old, head).await {
                Ok(Reply::Cosigned(cosignature)) => {
                    return answer(Outcome::Cosigned, Some(size), Some(cosignature), String::new());
                }
                Ok(Reply::Stands(stands)) if stands > size => {
                    let detail = format!("it has cosigned {stands} entries, and this log has {size}");
                    return answer(Outcome::Ahead, None, None, detail);
                }
                Ok(Reply::Stands(stands)) if attempt == 1 => {
                    return answer(Outcome::Conflict, Some(stands), None, format!("it says {stands}, after {old}"));
                }
                Ok(Reply::Stands(stands)) => old = stands,
                Err(Failed(outcome, detail)) => return answer(outcome, Some(old), None, detail),
            }
        }
        answer(Outcome::Conflict, Some(old), None, String::new())
    }

    async fn ask_from(&self, url: &str, key: &WitnessKey, old: u64, head: &SignedHead) -> Result<Reply, Failed> {
        let proof = self.engine.consistency_between(old, head).await;
        let proof = proof.map_err(|error| Failed(Outcome::NoProof, log_error(&error)))?;
        let note = SignedNote::parse(&head.note).map_err(|error| Failed(Outcome::NoProof, error.to_string()))?;
        let body = AddCheckpoint { old_size: old, proof, note }.to_string();
        let url = format!("{}/add-checkpoint", url.trim_end_matches('/'));
        let unavailable = |error: reqwest::Error| Failed(Outcome::Unavailable, crate::client::chain(&error));
        let mut response = self.client.post(url).body(body).send().await.map_err(unavailable)?;
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
            if text.len() + chunk.len() > MAX_ANSWER {
                return Err(Failed(Outcome::Invalid, format!("its answer is longer than {MAX_ANSWER} bytes")));
            }
            text.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(text).unwrap_or_default();
        match response.status() {
            StatusCode::OK => self.cosignature(key, head, &text).map(Reply::Cosigned),
            StatusCode::CONFLICT => match stands_at(&text) {
                Some(size) if size != old => Ok(Reply::Stands(size)),
                Some(_) | None => Err(Failed(Outcome::Invalid, "its conflict names no other size".to_owned())),
            },
            status => Err(Failed(of_status(status), format!("it answers {status}"))),
        }
    }

    /// The witness's own cosignature in its answer, checked. Lines of other keys are ignored, as tlog-witness has it.
    fn cosignature(&self, key: &WitnessKey, head: &SignedHead, lines: &str) -> Result<Cosignature, Failed> {
        let invalid = |detail: String| Failed(Outcome::Invalid, detail);
        let own = SignedNote::parse(&head.note).map_err(|error| Failed(Outcome::NoProof, error.to_string()))?;
        let note = SignedNote::parse(&format!("{}{lines}", head.note)).map_err(|error| invalid(error.to_string()))?;
        if note.text != own.text {
            // An empty line among its lines would move the end of the text, and what is cosigned with it.
            return Err(invalid("its answer is not lines of signatures alone".to_owned()));
        }
        let cosignature = key.cosignature_on(&note).map_err(|error| invalid(error.to_string()))?;
        let cosignature =
            cosignature.ok_or_else(|| invalid("its answer has no line of the key in the policy".to_owned()))?;
        let now_s = self.clock.now().as_millis() / 1000;
        if cosignature.timestamp_s.abs_diff(now_s) > MAX_SKEW_S {
            let detail = format!("its time is {}, ours {now_s}", cosignature.timestamp_s);
            return Err(invalid(detail));
        }
        Ok(cosignature)
    }
}

/// The size in the body of a conflict: a decimal and a newline.
fn stands_at(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('\n')?;
    let size: u64 = digits.parse().ok()?;
    (size.to_string() == digits && size <= unefois_audit::MAX_TREE_SIZE).then_some(size)
}

fn of_status(status: StatusCode) -> Outcome {
    match status {
        StatusCode::NOT_FOUND => Outcome::UnknownLog,
        StatusCode::FORBIDDEN => Outcome::SignatureRefused,
        StatusCode::UNPROCESSABLE_ENTITY => Outcome::ProofRefused,
        other if other.is_server_error() || other == StatusCode::TOO_MANY_REQUESTS => Outcome::Unavailable,
        _ => Outcome::RequestRefused,
    }
}
