//! RegistryService.

use tonic::{Request, Response, Status};
use unefois_consent::registry::ChangeSummary;
use unefois_engine::registry::Apply;
use unefois_proto::registry::{registry, wire_dataset, wire_habilitation, wire_procedure, wire_registry};
use unefois_proto::v1;
use unefois_proto::v1::registry_service_server::RegistryService;

use super::{Call, SharedEngine, call, status};

/// Serves the registry.
#[derive(Debug)]
pub struct RegistryRpc(pub(crate) SharedEngine);

fn wire_change(change: ChangeSummary) -> v1::RegistryChange {
    let ChangeSummary { verb, kind, name, fields } = change;
    v1::RegistryChange { verb: verb.to_owned(), kind: kind.to_owned(), name, fields }
}

#[tonic::async_trait]
impl RegistryService for RegistryRpc {
    async fn apply_registry(
        &self,
        request: Request<v1::ApplyRegistryRequest>,
    ) -> Result<Response<v1::ApplyRegistryResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let message = request.into_inner();
        let wire = message.registry.ok_or_else(|| status::bad_request("INVALID_FIELD", "registry", "is required"))?;
        let file = registry(&wire).map_err(|fault| status::malformed(&fault.within("registry")))?;
        let apply = if message.validate_only { Apply::Plan } else { Apply::IfVersion(message.expected_version) };
        let plan = self.0.apply_registry(&caller, file, apply, deadline).await.map_err(|error| status::of(&error))?;
        let changes = plan.changes.into_iter().map(wire_change).collect();
        Ok(Response::new(v1::ApplyRegistryResponse { changes, version: plan.version }))
    }

    async fn get_registry(
        &self,
        request: Request<v1::GetRegistryRequest>,
    ) -> Result<Response<v1::GetRegistryResponse>, Status> {
        call(&request)?;
        let view = self.0.registry();
        let registry = Some(wire_registry(&view.registry.to_file()));
        Ok(Response::new(v1::GetRegistryResponse { registry, version: view.version }))
    }

    async fn list_datasets(
        &self,
        request: Request<v1::ListDatasetsRequest>,
    ) -> Result<Response<v1::ListDatasetsResponse>, Status> {
        call(&request)?;
        let datasets = self.0.registry().registry.datasets().map(|d| wire_dataset(d)).collect();
        Ok(Response::new(v1::ListDatasetsResponse { datasets }))
    }

    async fn list_habilitations(
        &self,
        request: Request<v1::ListHabilitationsRequest>,
    ) -> Result<Response<v1::ListHabilitationsResponse>, Status> {
        let Call { caller, .. } = call(&request)?;
        let view = self.0.registry();
        let own: Vec<_> = view.registry.habilitations_of(caller.participant()).collect();
        let mut names: Vec<_> = own.iter().flat_map(|h| &h.procedures).collect();
        names.sort();
        names.dedup();
        let procedures =
            names.into_iter().filter_map(|id| view.registry.procedure(id)).map(|p| wire_procedure(p)).collect();
        let habilitations = own.iter().map(|h| wire_habilitation(h)).collect();
        Ok(Response::new(v1::ListHabilitationsResponse { habilitations, procedures }))
    }
}
