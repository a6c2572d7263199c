//! What the witnesses of a policy say of a receipt's checkpoint.

use std::path::Path;

use unefois_audit::{Policy, Receipt, Verdict, VerifierKey};
use unefois_consent::Timestamp;

use super::Failure;
use crate::config::read_policy;

/// A checkpoint under a policy.
#[derive(Debug)]
pub(crate) struct Judged {
    /// The key of the log that signed it.
    pub(super) key: VerifierKey,
    pub(super) quorum_is_met: bool,
    /// Each witness of the policy, and when it cosigned.
    witnesses: Vec<(String, Option<Timestamp>)>,
}

/// Judges the checkpoint of a receipt. A quorum that is not met is no failure here.
pub(crate) fn judge(policy: &Path, key: Option<&VerifierKey>, receipt: &Receipt) -> Result<Judged, Failure> {
    let mut policy = read_policy(policy).map_err(Failure::Usage)?;
    if let Some(key) = key {
        policy = policy.with_log(key);
    }
    if policy.logs().is_empty() {
        return Err(Failure::Usage("the policy lists no log; add one, or give its key with --key".to_owned()));
    }
    let failed = |error: unefois_audit::AuditError| Failure::Failed(format!("this receipt does not hold: {error}"));
    let verdict = policy.judge(&receipt.proof.checkpoint).map_err(failed)?;
    let log = log_of(&policy, &verdict, receipt).ok_or_else(|| failed(unefois_audit::AuditError::NoKnownKey))?;
    let witnesses = policy.witnesses().iter().zip(&verdict.cosignatures).map(|(witness, cosignature)| {
        let at = cosignature.map(|cosignature| Timestamp::from_millis(cosignature.timestamp_s.saturating_mul(1000)));
        (witness.name.to_string(), at)
    });
    Ok(Judged { key: log, quorum_is_met: verdict.quorum_is_met, witnesses: witnesses.collect() })
}

/// The key of the policy under which the receipt's checkpoint opens.
fn log_of(policy: &Policy, verdict: &Verdict, receipt: &Receipt) -> Option<VerifierKey> {
    let origin = &verdict.checkpoint.origin;
    let opens = |key: &VerifierKey| unefois_audit::Checkpoint::open(&receipt.proof.checkpoint, key, origin).is_ok();
    policy.logs().iter().map(|log| &log.key).find(|key| key.name() == origin && opens(key)).cloned()
}

impl Judged {
    /// For people, in the list of what is proven.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, at) in &self.witnesses {
            text.push_str("\n  ");
            text.push_str(&match at {
                Some(at) => {
                    format!("that witness {name} cosigned this tree at {at}, as an extension of all it had seen")
                }
                None => format!("(nothing by witness {name}: it did not cosign this tree)"),
            });
        }
        text.push_str(if self.quorum_is_met {
            "\n  that the witnesses which cosigned are the quorum that the policy asks for"
        } else {
            "\n  (THE QUORUM OF THE POLICY IS NOT MET)"
        });
        text
    }

    /// For scripts.
    pub(super) fn json(&self) -> serde_json::Value {
        let cosigned: serde_json::Map<_, _> =
            self.witnesses.iter().map(|(name, at)| (name.clone(), at.map(|at| at.to_string()).into())).collect();
        serde_json::json!({ "met": self.quorum_is_met, "cosigned_at": cosigned })
    }
}
