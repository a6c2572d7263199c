//! The last heads of closed shards: each is cosigned once, after its shard was closed, and shown from then on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use unefois_audit::{Cosignature, Policy};
use unefois_engine::{Engine, SignedHead};

use super::ask::Asker;
use super::{MOST_DOUBLINGS, kept, with_cosignatures};

/// Has the last heads of the closed shards cosigned that are not yet, until a quorum has.
pub(super) struct ClosedShards {
    pub(super) engine: Arc<Engine>,
    pub(super) policy: Policy,
    pub(super) asker: Arc<Asker>,
    pub(super) folder: PathBuf,
    pub(super) every: Duration,
}

impl ClosedShards {
    /// Publishes those that were cosigned in an earlier run; the others are outstanding.
    pub(super) fn publish_kept(&self) -> Vec<Arc<SignedHead>> {
        let mut outstanding = Vec::new();
        for (_, last) in self.engine.shards().closed() {
            let file = self.folder.join(kept::closed_file(last.shard));
            match kept::read_closed(&self.policy, last, &file) {
                Some(head) => self.engine.publish_closed_head(head),
                None => outstanding.push(Arc::clone(last)),
            }
        }
        outstanding
    }

    /// Asks about all of `outstanding` in turn until each has its quorum.
    pub(super) async fn run(self, mut outstanding: Vec<Arc<SignedHead>>) {
        let mut failures = 0;
        loop {
            metrics::gauge!("unefois_closed_shards_without_quorum").set(outstanding.len() as f64);
            let mut left = Vec::new();
            for head in outstanding {
                if !self.cosigned(&head).await {
                    left.push(head);
                }
            }
            outstanding = left;
            if outstanding.is_empty() {
                metrics::gauge!("unefois_closed_shards_without_quorum").set(0.0);
                return;
            }
            tokio::time::sleep(self.every.saturating_mul(1 << failures)).await;
            failures = MOST_DOUBLINGS.min(failures + 1);
        }
    }

    /// Asks every witness once; says whether the head now has its quorum, is kept and is shown.
    async fn cosigned(&self, head: &Arc<SignedHead>) -> bool {
        let mut cosignatures: Vec<Option<Cosignature>> = Vec::new();
        for (place, witness) in self.policy.witnesses().iter().enumerate() {
            let Some(url) = witness.url.as_ref().and_then(|url| url.as_text()) else {
                cosignatures.push(None);
                continue;
            };
            let answer = self.asker.ask(place, url, &witness.key, 0, head).await;
            if answer.cosignature.is_none() {
                let (outcome, advice) = (answer.outcome.code(), answer.outcome.advice());
                let shard = head.note.lines().next().unwrap_or_default();
                tracing::warn!(
                    shard, witness = %witness.name, outcome, advice, detail = %answer.detail,
                    "a witness does not cosign the last head of a closed shard; it must know the key of that shard, too"
                );
            }
            cosignatures.push(answer.cosignature);
        }
        if !self.policy.is_met(|place| cosignatures.get(place).is_some_and(Option::is_some)) {
            return false;
        }
        let shown = with_cosignatures(&self.policy, head, &cosignatures);
        let file = self.folder.join(kept::closed_file(head.shard));
        if let Err(error) = kept::write(&file, &shown.note).await {
            tracing::error!(%error, file = %file.display(), "a cosigned checkpoint could not be kept and is not shown");
            return false;
        }
        self.engine.publish_closed_head(shown);
        true
    }
}
