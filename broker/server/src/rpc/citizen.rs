//! CitizenService.
//!
//! The person is whom an identity provider has signed for, in this call; nothing of the assertion is kept.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use unefois_consent::event::Decision;
use unefois_consent::{Channel, ConsentId, ConsentState, RequestCode};
use unefois_engine::EngineError;
use unefois_engine::consents::{
    AnswerCall, DecideCall, Indication, LedgerConsent, MAX_PAGE, MyExchange, MyExchangeEnd, ProvenPerson, RenewCall,
    Standing,
};
use unefois_proto::consent as wire;
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;
use unefois_proto::v1::citizen_service_server::CitizenService;

use super::{Call, SharedEngine, call, named, named_or_none, page_size, status};
use crate::assertion::IdentityProviders;
use crate::export;

/// How long one page of an export may take.
const PAGE_TIME: Duration = Duration::from_secs(20);
/// Items of an export that wait for a slow reader.
const WAITING_ITEMS: usize = 64;

/// Serves persons, through portals.
#[derive(Debug)]
pub struct Citizens {
    pub(crate) engine: SharedEngine,
    pub(crate) providers: Arc<IdentityProviders>,
}

impl Citizens {
    /// Who acts, proven by the assertion.
    fn person(&self, call: &Call, assertion: Option<&v1::IdentityAssertion>) -> Result<ProvenPerson, Status> {
        let assertion = assertion.ok_or_else(|| status::bad_request("INVALID_FIELD", "assertion", "is required"))?;
        let mandate = named_or_none("assertion.mandate_id", &assertion.mandate_id)?;
        let proven = self.providers.verify(&assertion.id_token, &assertion.user_info, self.engine.now());
        let (identity, proof) = proven.map_err(|fault| {
            metrics::counter!("unefois_assertions_refused_total", "reason" => fault.code()).increment(1);
            status::unauthenticated(fault.code(), &fault.advice())
        })?;
        Ok(self.engine.proven(call.caller.clone(), &identity, proof, mandate))
    }

    fn on_wire(&self, found: &LedgerConsent) -> Option<v1::Consent> {
        Some(super::wire_found(found, self.engine.now()))
    }

    fn exchange_on_wire(&self, exchange: MyExchange) -> v1::MyExchange {
        wire_exchange(exchange, |siret| {
            let view = self.engine.registry();
            view.registry.participant(siret).map(|p| p.name.clone()).unwrap_or_default()
        })
    }
}

#[tonic::async_trait]
impl CitizenService for Citizens {
    type ExportMineStream = Pin<Box<dyn Stream<Item = Result<v1::ExportMineResponse, Status>> + Send>>;

    async fn list_my_consents(
        &self,
        request: Request<v1::ListMyConsentsRequest>,
    ) -> Result<Response<v1::ListMyConsentsResponse>, Status> {
        let call = call(&request)?;
        let message = request.get_ref();
        let person = self.person(&call, message.assertion.as_ref())?;
        let after = named_or_none("page_token", &message.page_token)?;
        let code: Option<RequestCode> = named_or_none("code", &message.code)?;
        let page = self.engine.my_consents(person, after, page_size(message.page_size), call.deadline).await;
        let (consents, next) = page.map_err(|error| status::of(&error))?;
        let now = self.engine.now();
        let is_wanted = |found: &&LedgerConsent| {
            let waits = found.consent.state(now) == ConsentState::Requested;
            (!message.waiting_only || waits) && code.is_none_or(|code| found.consent.code() == Some(code))
        };
        let consents: Vec<_> = consents.iter().filter(is_wanted).collect();
        let view = self.engine.registry();
        let name = |siret| Some((siret, view.registry.participant(siret)?.name.clone()));
        let names = consents.iter().filter_map(|found| name(found.consent.consumer));
        Ok(Response::new(v1::ListMyConsentsResponse {
            consumer_names: names.map(|(siret, name)| (siret.to_string(), name)).collect(),
            consents: consents.into_iter().filter_map(|found| self.on_wire(found)).collect(),
            next_page_token: next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn get_my_consent(
        &self,
        request: Request<v1::GetMyConsentRequest>,
    ) -> Result<Response<v1::GetMyConsentResponse>, Status> {
        let call = call(&request)?;
        let message = request.get_ref();
        let person = self.person(&call, message.assertion.as_ref())?;
        let id = named("consent_id", &message.consent_id)?;
        let found = self.engine.my_consent(person, id, call.deadline).await.map_err(|error| status::of(&error))?;
        let view = self.engine.registry();
        let (registry, consent) = (&view.registry, &found.consent);
        let procedure = registry.procedure(&consent.procedure);
        let notice = procedure.and_then(|p| p.notice(consent.notice_version));
        Ok(Response::new(v1::GetMyConsentResponse {
            consent: self.on_wire(&found),
            consumer_name: registry.participant(consent.consumer).map(|p| p.name.clone()).unwrap_or_default(),
            procedure_title: procedure.map(|p| p.title.clone()).unwrap_or_default(),
            attribute_titles: consent.attributes.iter().map(|a| export::attribute_title(registry, a)).collect(),
            notice_fr: notice.map(|n| n.fr.clone()).unwrap_or_default(),
            notice_en: notice.map(|n| n.en.clone()).unwrap_or_default(),
            dpo_contact: export::dpo_contact(registry, consent).unwrap_or_default().to_owned(),
        }))
    }

    async fn grant_my_consent(
        &self,
        request: Request<v1::GrantMyConsentRequest>,
    ) -> Result<Response<v1::GrantMyConsentResponse>, Status> {
        let call = call(&request)?;
        let message = request.get_ref();
        let answer = AnswerCall {
            person: self.person(&call, message.assertion.as_ref())?,
            consent: named("consent_id", &message.consent_id)?,
            language: wire::chosen_language(message.language).map_err(|fault| status::malformed(&fault))?,
            attributes: wire::some_attributes(&message.attributes).map_err(|fault| status::malformed(&fault))?,
            expires_at: wire::optional_end(message.expires_at.as_ref()).map_err(|fault| status::malformed(&fault))?,
        };
        let found = self.engine.answer_request(answer, call.deadline).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::GrantMyConsentResponse { consent: self.on_wire(&found) }))
    }

    async fn renew_my_consent(
        &self,
        request: Request<v1::RenewMyConsentRequest>,
    ) -> Result<Response<v1::RenewMyConsentResponse>, Status> {
        let call = call(&request)?;
        let message = request.get_ref();
        let person = self.person(&call, message.assertion.as_ref())?;
        let renewal = RenewCall {
            agent: format!("portal {}", call.caller.participant()),
            standing: Standing::Person(person),
            consent: named("consent_id", &message.consent_id)?,
            notice_version: message.notice_version,
            language: wire::chosen_language(message.language).map_err(|fault| status::malformed(&fault))?,
            expires_at: wire::end(message.expires_at.as_ref()).map_err(|fault| status::malformed(&fault))?,
            // The person's own word: taken from the assertion.
            indication: Indication { channel: Channel::Online, evidence: None, assurance: None, mandate: None },
        };
        let found = self.engine.renew_consent(renewal, call.deadline).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::RenewMyConsentResponse { consent: self.on_wire(&found) }))
    }

    async fn decide_my_consent(
        &self,
        request: Request<v1::DecideMyConsentRequest>,
    ) -> Result<Response<v1::DecideMyConsentResponse>, Status> {
        let call = call(&request)?;
        let message = request.get_ref();
        let decision: Decision = wire::decision(message.decision).map_err(|fault| status::malformed(&fault))?;
        let decided = DecideCall {
            standing: Standing::Person(self.person(&call, message.assertion.as_ref())?),
            consent: named("consent_id", &message.consent_id)?,
            decision,
            evidence: None,
        };
        let found = self.engine.decide_consent(decided, call.deadline).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::DecideMyConsentResponse { consent: self.on_wire(&found) }))
    }

    async fn set_my_objection(
        &self,
        request: Request<v1::SetMyObjectionRequest>,
    ) -> Result<Response<v1::SetMyObjectionResponse>, Status> {
        let call = call(&request)?;
        let message = request.get_ref();
        let person = self.person(&call, message.assertion.as_ref())?;
        let against = (named("consumer", &message.consumer)?, named_or_none("procedure", &message.procedure)?);
        let changed = self.engine.my_objection(person, against, message.lift, call.deadline).await;
        changed.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::SetMyObjectionResponse {}))
    }

    async fn list_my_objections(
        &self,
        request: Request<v1::ListMyObjectionsRequest>,
    ) -> Result<Response<v1::ListMyObjectionsResponse>, Status> {
        let call = call(&request)?;
        let person = self.person(&call, request.get_ref().assertion.as_ref())?;
        let objections = self.engine.my_objections(person, call.deadline).await.map_err(|error| status::of(&error))?;
        let objections = objections.into_iter().map(|objection| v1::MyObjection {
            consumer: objection.consumer.to_string(),
            procedure: objection.procedure.map(|id| id.to_string()).unwrap_or_default(),
            lapses_at: Some(wire_instant(objection.lapses_at)),
        });
        Ok(Response::new(v1::ListMyObjectionsResponse { objections: objections.collect() }))
    }

    async fn list_my_mandates(
        &self,
        request: Request<v1::ListMyMandatesRequest>,
    ) -> Result<Response<v1::ListMyMandatesResponse>, Status> {
        let call = call(&request)?;
        let person = self.person(&call, request.get_ref().assertion.as_ref())?;
        let mandates = self.engine.my_mandates(person, call.deadline).await.map_err(|error| status::of(&error))?;
        let mandates = mandates
            .into_iter()
            .map(|mine| v1::MyMandate { mandate: Some(wire::wire_mandate(&mine.mandate)), i_act: mine.acts });
        Ok(Response::new(v1::ListMyMandatesResponse { mandates: mandates.collect() }))
    }

    async fn end_my_mandate(
        &self,
        request: Request<v1::EndMyMandateRequest>,
    ) -> Result<Response<v1::EndMyMandateResponse>, Status> {
        let call = call(&request)?;
        let message = request.get_ref();
        let person = self.person(&call, message.assertion.as_ref())?;
        let id = named("mandate_id", &message.mandate_id)?;
        let mandate =
            self.engine.end_my_mandate(person, id, call.deadline).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::EndMyMandateResponse { mandate: Some(wire::wire_mandate(&mandate)) }))
    }

    async fn list_my_exchanges(
        &self,
        request: Request<v1::ListMyExchangesRequest>,
    ) -> Result<Response<v1::ListMyExchangesResponse>, Status> {
        let call = call(&request)?;
        let message = request.get_ref();
        let person = self.person(&call, message.assertion.as_ref())?;
        let before =
            match message.page_token.as_str() {
                "" => None,
                token => Some(token.parse().map_err(|_| {
                    status::bad_request("INVALID_FIELD", "page_token", "from the page before, or empty")
                })?),
            };
        let page = self.engine.my_exchanges(person, before, page_size(message.page_size), call.deadline).await;
        let (exchanges, next) = page.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::ListMyExchangesResponse {
            exchanges: exchanges.into_iter().map(|exchange| self.exchange_on_wire(exchange)).collect(),
            next_page_token: next.map(|index| index.to_string()).unwrap_or_default(),
        }))
    }

    async fn get_my_receipt(
        &self,
        request: Request<v1::GetMyReceiptRequest>,
    ) -> Result<Response<v1::GetMyReceiptResponse>, Status> {
        let call = call(&request)?;
        let message = request.get_ref();
        let person = self.person(&call, message.assertion.as_ref())?;
        let receipt = self.engine.my_receipt(person, message.index, call.deadline).await;
        let receipt = receipt.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::GetMyReceiptResponse { receipt: receipt.to_json() }))
    }

    async fn export_mine(
        &self,
        request: Request<v1::ExportMineRequest>,
    ) -> Result<Response<Self::ExportMineStream>, Status> {
        let call = call(&request)?;
        let person = self.person(&call, request.get_ref().assertion.as_ref())?;
        let (sender, receiver) = mpsc::channel(WAITING_ITEMS);
        let engine = SharedEngine::clone(&self.engine);
        tokio::spawn(async move {
            if let Err(error) = export_all(&engine, &person, &sender).await {
                // Nobody reading any more is no fault.
                let _ = sender.send(Err(status::of(&error))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

type Items = mpsc::Sender<Result<v1::ExportMineResponse, Status>>;

/// Sends one item; `false` where nobody reads any more.
async fn send(items: &Items, kind: &str, item: &serde_json::Value) -> bool {
    items.send(Ok(v1::ExportMineResponse { kind: kind.to_owned(), item: item.to_string() })).await.is_ok()
}

/// All that is held about a person, page by page.
async fn export_all(engine: &SharedEngine, person: &ProvenPerson, items: &Items) -> Result<(), EngineError> {
    let deadline = || Instant::now() + PAGE_TIME;
    let mut after: Option<ConsentId> = None;
    loop {
        let (consents, next) = engine.my_consents(person.clone(), after, MAX_PAGE, deadline()).await?;
        for found in &consents {
            if !send(items, "consent", &export::ours(found, engine.now())).await {
                return Ok(());
            }
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    for objection in engine.my_objections(person.clone(), deadline()).await? {
        let item = serde_json::json!({ "consumer": objection.consumer, "procedure": objection.procedure });
        if !send(items, "objection", &item).await {
            return Ok(());
        }
    }
    for mine in engine.my_mandates(person.clone(), deadline()).await? {
        if !send(items, "mandate", &export::mandate(&mine)).await {
            return Ok(());
        }
    }
    let mut before = None;
    loop {
        let (events, next) = engine.my_events(person.clone(), before, deadline()).await?;
        for event in &events {
            if !send(items, "event", &export::event(event)).await {
                return Ok(());
            }
        }
        before = next;
        if before.is_none() {
            break;
        }
    }
    loop {
        let (exchanges, next) = engine.my_exchanges(person.clone(), before, MAX_PAGE, deadline()).await?;
        for exchange in &exchanges {
            if !send(items, "exchange", &export::exchange(exchange)).await {
                return Ok(());
            }
        }
        before = next;
        if before.is_none() {
            return Ok(());
        }
    }
}

fn wire_exchange(exchange: MyExchange, name: impl Fn(unefois_consent::Siret) -> String) -> v1::MyExchange {
    use v1::ExchangeOutcome as Outcome;
    let (outcome, reasons) = match &exchange.end {
        None => (Outcome::UnderWay, &[][..]),
        Some(MyExchangeEnd::Refused(reasons)) => (Outcome::Refused, &reasons[..]),
        Some(MyExchangeEnd::Answered(_)) => (Outcome::Answered, &[][..]),
        Some(MyExchangeEnd::Dropped(reasons)) => (Outcome::Dropped, &reasons[..]),
        Some(MyExchangeEnd::Failed(_)) => (Outcome::Failed, &[][..]),
    };
    let answered = match &exchange.end {
        Some(MyExchangeEnd::Answered(answered)) => Some(answered),
        None | Some(MyExchangeEnd::Refused(_) | MyExchangeEnd::Dropped(_) | MyExchangeEnd::Failed(_)) => None,
    };
    let attributes = exchange.attributes.iter().map(|attribute| v1::MyAttribute {
        name: attribute.to_string(),
        status: answered
            .and_then(|a| a.attributes.get(attribute))
            .map(|code| code.as_str().to_owned())
            .unwrap_or_default(),
    });
    let sources = answered.into_iter().flat_map(|a| a.provenance.values()).map(|p| p.source.to_string());
    v1::MyExchange {
        exchange_id: exchange.exchange.to_string(),
        at: Some(wire_instant(exchange.at)),
        consumer: exchange.consumer.to_string(),
        consumer_name: name(exchange.consumer),
        recipient: exchange.recipient.to_string(),
        procedure: exchange.procedure.to_string(),
        ground: wire::ground(exchange.ground) as i32,
        consent_id: exchange.consent.map(|id| id.to_string()).unwrap_or_default(),
        mandate_id: exchange.mandate.map(|id| id.to_string()).unwrap_or_default(),
        attributes: attributes.collect(),
        sources: sources.collect::<std::collections::BTreeSet<_>>().into_iter().collect(),
        outcome: outcome as i32,
        reasons: reasons.iter().map(|reason| reason.code().to_owned()).collect(),
        receipt_index: exchange.end_index,
    }
}
