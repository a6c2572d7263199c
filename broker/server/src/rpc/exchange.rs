//! ExchangeService.

use tonic::{Request, Response, Status};
use unefois_connectors::AccessToken;
use unefois_consent::Reason;
use unefois_engine::ExchangeCall;
use unefois_proto::exchange::{question, wire_attribute};
use unefois_proto::v1::exchange_service_server::ExchangeService;
use unefois_proto::v1::{ExchangeRequest, ExchangeResponse};

use super::{SharedEngine, call, not_from_the_future, status};

/// Serves exchanges.
#[derive(Debug)]
pub struct Exchange(pub(crate) SharedEngine);

#[tonic::async_trait]
impl ExchangeService for Exchange {
    async fn exchange(&self, request: Request<ExchangeRequest>) -> Result<Response<ExchangeResponse>, Status> {
        let call = call(&request)?;
        let question = question(request.into_inner()).map_err(|fault| status::malformed(&fault))?;
        not_from_the_future(&question.identity)?;
        let exchange = ExchangeCall {
            recipient: question.recipient.unwrap_or(call.caller.participant()),
            caller: call.caller,
            agent: question.agent,
            procedure: question.procedure,
            habilitation: question.habilitation,
            attributes: question.attributes,
            filters: question.filters,
            ground: question.ground,
            mandate: question.mandate,
            identity: question.identity,
            access_token: AccessToken::new(&question.france_connect_token),
            via: question.via,
            request_id: question.request_id,
            deadline: call.deadline,
        };
        let answer = self.0.exchange(exchange).await.map_err(|error| status::of(&error))?;
        let attributes = answer.attributes.iter();
        Ok(Response::new(ExchangeResponse {
            exchange_id: answer.exchange.to_string(),
            attributes: attributes.map(|a| wire_attribute(&a.attribute, &a.outcome, a.provenance.as_ref())).collect(),
            receipt: answer.receipt.to_json(),
            withheld_reasons: answer.withheld.iter().map(|reason: &Reason| reason.code().to_owned()).collect(),
        }))
    }
}
