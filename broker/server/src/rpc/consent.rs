//! ConsentService.

use tonic::{Request, Response, Status};
use unefois_consent::{ConsentId, Malformed, ProcedureId};
use unefois_engine::consents::{GrantCall, MAX_PAGE};
use unefois_proto::consent::{grant, wire_consent};
use unefois_proto::v1;
use unefois_proto::v1::consent_service_server::ConsentService;

use super::{Call, SharedEngine, call, not_from_the_future, status, subject};

/// Serves consents and objections.
#[derive(Debug)]
pub struct Consents(pub(crate) SharedEngine);

fn consent_id(field: &str, text: &str) -> Result<ConsentId, Status> {
    text.parse().map_err(|fault: Malformed| status::malformed(&fault.within(field)))
}

fn procedure(text: &str) -> Result<Option<ProcedureId>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|fault: Malformed| status::malformed(&fault.within("procedure")))
}

#[tonic::async_trait]
impl ConsentService for Consents {
    async fn grant_consent(
        &self,
        request: Request<v1::GrantConsentRequest>,
    ) -> Result<Response<v1::GrantConsentResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let grant = grant(request.get_ref()).map_err(|fault| status::malformed(&fault))?;
        not_from_the_future(&grant.identity)?;
        let grant = GrantCall {
            caller,
            agent: grant.agent,
            identity: grant.identity,
            procedure: grant.procedure,
            attributes: grant.attributes,
            notice_version: grant.notice_version,
            language: grant.language,
            channel: grant.channel,
            evidence: grant.evidence,
            not_before: grant.not_before,
            expires_at: grant.expires_at,
            usage: grant.usage,
        };
        let consent = self.0.grant_consent(grant, deadline).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::GrantConsentResponse { consent: Some(wire_consent(&consent)) }))
    }

    async fn withdraw_consent(
        &self,
        request: Request<v1::WithdrawConsentRequest>,
    ) -> Result<Response<v1::WithdrawConsentResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let id = consent_id("consent_id", &request.get_ref().consent_id)?;
        let consent = self.0.withdraw_consent(caller, id, deadline).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::WithdrawConsentResponse { consent: Some(wire_consent(&consent)) }))
    }

    async fn get_consent(
        &self,
        request: Request<v1::GetConsentRequest>,
    ) -> Result<Response<v1::GetConsentResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let id = consent_id("consent_id", &request.get_ref().consent_id)?;
        let consent = self.0.consent(caller, id, deadline).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::GetConsentResponse { consent: Some(wire_consent(&consent)) }))
    }

    async fn list_consents(
        &self,
        request: Request<v1::ListConsentsRequest>,
    ) -> Result<Response<v1::ListConsentsResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let message = request.get_ref();
        let identity = subject(message.subject.as_ref())?;
        let after = match message.page_token.as_str() {
            "" => None,
            token => Some(consent_id("page_token", token)?),
        };
        let limit = match message.page_size {
            0 => MAX_PAGE,
            size => usize::try_from(size).unwrap_or(MAX_PAGE),
        };
        let page = self.0.consents(caller, &identity, after, limit, deadline).await;
        let (consents, next) = page.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::ListConsentsResponse {
            consents: consents.iter().map(wire_consent).collect(),
            next_page_token: next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn record_objection(
        &self,
        request: Request<v1::RecordObjectionRequest>,
    ) -> Result<Response<v1::RecordObjectionResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let message = request.get_ref();
        let (identity, procedure) = (subject(message.subject.as_ref())?, procedure(&message.procedure)?);
        let recorded = self.0.record_objection(caller, &identity, procedure, deadline).await;
        recorded.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::RecordObjectionResponse {}))
    }

    async fn lift_objection(
        &self,
        request: Request<v1::LiftObjectionRequest>,
    ) -> Result<Response<v1::LiftObjectionResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let message = request.get_ref();
        let (identity, procedure) = (subject(message.subject.as_ref())?, procedure(&message.procedure)?);
        let lifted = self.0.lift_objection(caller, &identity, procedure, deadline).await;
        lifted.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::LiftObjectionResponse {}))
    }
}
