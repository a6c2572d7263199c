//! AuditService.

use tonic::{Request, Response, Status};
use unefois_audit::Hash;
use unefois_consent::{Event, Timestamp};
use unefois_engine::EngineError;
use unefois_engine::traces::{EntryView, Inclusion};
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;
use unefois_proto::v1::audit_service_server::AuditService;

use super::{Call, SharedEngine, call, status};

/// Entries on a page where the caller does not say.
const DEFAULT_PAGE: u64 = 100;

/// Serves the audit log.
#[derive(Debug)]
pub struct Audit {
    pub(crate) engine: SharedEngine,
    pub(crate) verifier_key: String,
}

fn wire_entry(view: EntryView) -> v1::Entry {
    v1::Entry {
        index: view.index,
        kind: Event::kind_name(view.leaf.kind).to_owned(),
        time: Some(wire_instant(Timestamp::from_millis(view.leaf.time_ms))),
        leaf: view.leaf.encode().to_vec(),
        record: view.record.map(|opened| opened.record).unwrap_or_default(),
    }
}

fn wire_hashes(hashes: &[Hash]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.0.to_vec()).collect()
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_entries(
        &self,
        request: Request<v1::ListEntriesRequest>,
    ) -> Result<Response<v1::ListEntriesResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let message = request.get_ref();
        let limit = if message.page_size == 0 { DEFAULT_PAGE } else { u64::from(message.page_size) };
        let views = self.engine.entries(&caller, message.start, limit, deadline).await;
        let entries: Vec<_> = views.map_err(|error| status::of(&error))?.into_iter().map(wire_entry).collect();
        let next_start = entries.last().map_or(message.start, |entry| entry.index.saturating_add(1));
        Ok(Response::new(v1::ListEntriesResponse { entries, next_start, tree_size: self.engine.head().entries() }))
    }

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Result<Response<v1::GetReceiptResponse>, Status> {
        let Call { caller, role, deadline } = call(&request)?;
        let v1::GetReceiptRequest { index, origin } = request.get_ref();
        let first = if origin.is_empty() { Some(0) } else { self.engine.shards().first_of(origin) };
        let Some(first) = first else { return Err(status::of(&EngineError::NotFound("this shard"))) };
        let receipt = self.engine.receipt(&caller, role, first.saturating_add(*index), deadline).await;
        let receipt = receipt.map_err(|error| status::of(&error))?.to_json();
        Ok(Response::new(v1::GetReceiptResponse { receipt }))
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        call(&request)?;
        let (checkpoint, verifier_key) = (self.engine.published_head().note.clone(), self.verifier_key.clone());
        Ok(Response::new(v1::GetCheckpointResponse { checkpoint, verifier_key }))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<v1::GetInclusionProofRequest>,
    ) -> Result<Response<v1::GetInclusionProofResponse>, Status> {
        call(&request)?;
        let proof = self.engine.inclusion(request.get_ref().index).await;
        let Inclusion { head, index, hashes } = proof.map_err(|error| status::of(&error))?;
        let (hashes, checkpoint) = (wire_hashes(&hashes), head.note.clone());
        Ok(Response::new(v1::GetInclusionProofResponse { hashes, checkpoint, leaf_index: index }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<v1::GetConsistencyProofRequest>,
    ) -> Result<Response<v1::GetConsistencyProofResponse>, Status> {
        call(&request)?;
        let proof = self.engine.consistency(request.get_ref().old_size).await;
        let (head, hashes) = proof.map_err(|error| status::of(&error))?;
        let (hashes, checkpoint) = (wire_hashes(&hashes), head.note.clone());
        Ok(Response::new(v1::GetConsistencyProofResponse { hashes, checkpoint }))
    }
}
