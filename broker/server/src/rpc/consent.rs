//! ConsentService.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use unefois_consent::event::Decision;
use unefois_consent::registry::Role;
use unefois_consent::{Event, Malformed, Siret};
use unefois_engine::consents::{
    Change, ChangeReader, DecideCall, Indication, LedgerConsent, MAX_CHANGES, MandateCall, RecordCall, RenewCall,
    RequestCall, Standing, Terms,
};
use unefois_engine::{EngineError, VerifiedParticipant};
use unefois_proto::consent as wire;
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;
use unefois_proto::v1::consent_service_server::ConsentService;

use super::{Call, SharedEngine, call, named, named_or_none, not_from_the_future, page_size, status, subject};
use crate::export;
use crate::webhook::{Replayed, Webhook, Webhooks};

/// How long one look for changes may take.
const LOOK: Duration = Duration::from_secs(10);
/// Changes that wait for a slow reader.
const WAITING_CHANGES: usize = 64;

/// Serves consents, objections and mandates.
#[derive(Debug)]
pub struct Consents {
    pub(crate) engine: SharedEngine,
    /// Where persons answer requests.
    pub(crate) portal: Option<String>,
    pub(crate) webhooks: Webhooks,
    /// The broker stops.
    pub(crate) stopped: watch::Receiver<bool>,
    pub(crate) watches: Watches,
}

/// Most streams of changes of one participant.
const WATCHES: usize = 8;

/// The streams of changes that are open, by participant.
#[derive(Debug, Default)]
pub(crate) struct Watches(Mutex<HashMap<Siret, Arc<()>>>);

impl Watches {
    /// One more of `participant`, until what this gives is dropped; `None` where there are as many as may be.
    fn take(&self, participant: Siret) -> Option<Arc<()>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, places| Arc::strong_count(places) > 1);
        let places = open.entry(participant).or_default();
        // One is the table's own.
        (Arc::strong_count(places) <= WATCHES).then(|| Arc::clone(places))
    }
}

fn terms(consumer: &VerifiedParticipant, terms: wire::Terms) -> Terms {
    Terms {
        consumer: consumer.participant(),
        procedure: terms.procedure,
        attributes: terms.attributes,
        recipients: terms.recipients,
        filters: terms.filters,
        period: terms.period,
        notice_version: terms.notice_version,
        language: terms.language,
        not_before: terms.not_before,
        expires_at: terms.expires_at,
        usage: terms.usage,
        data_life: terms.data_life,
    }
}

fn indication(indication: wire::Indication) -> Indication {
    Indication {
        channel: indication.channel,
        evidence: indication.evidence,
        assurance: indication.assurance,
        mandate: indication.mandate,
    }
}

/// The status of an error of a call that has terms: a rule of the ledger is told at the field of the message.
fn in_terms(error: &EngineError) -> Status {
    let EngineError::Malformed(fault) = error else { return status::of(error) };
    let fault = fault.clone();
    status::malformed(&match fault.field.as_str() {
        "mandate_id" | "answer_by" | "assurance.authenticated_at" => fault,
        "consent_id" => Malformed::new("request_id", fault.rule),
        "data_life" => Malformed::new("terms.storage", fault.rule),
        _ => fault.within("terms"),
    })
}

impl Consents {
    fn on_wire(&self, found: &LedgerConsent) -> Option<v1::Consent> {
        Some(super::wire_found(found, self.engine.now()))
    }

    async fn decide(
        &self,
        (caller, role): (VerifiedParticipant, Role),
        message: v1::DecideConsentRequest,
        deadline: Instant,
    ) -> Result<Option<v1::Consent>, Status> {
        let decision = wire::decision(message.decision).map_err(|fault| status::malformed(&fault))?;
        let standing = if role == Role::Registry { Standing::Authority(caller) } else { Standing::Backend(caller) };
        let call = DecideCall {
            standing,
            consent: named("consent_id", &message.consent_id)?,
            decision,
            evidence: named_or_none("evidence_sha256", &message.evidence_sha256)?,
        };
        let found = self.engine.decide_consent(call, deadline).await.map_err(|error| status::of(&error))?;
        Ok(self.on_wire(&found))
    }

    async fn change_objection(
        &self,
        Call { caller, deadline, .. }: Call,
        (identity, procedure): (Option<&v1::Identity>, &str),
        lift: bool,
    ) -> Result<(), Status> {
        let (identity, procedure) = (subject(identity)?, named_or_none("procedure", procedure)?);
        let changed = if lift {
            self.engine.lift_objection(caller, &identity, procedure, deadline).await
        } else {
            self.engine.record_objection(caller, &identity, procedure, deadline).await
        };
        changed.map(drop).map_err(|error| status::of(&error))
    }
}

#[tonic::async_trait]
impl ConsentService for Consents {
    type WatchConsentsStream = Pin<Box<dyn Stream<Item = Result<v1::WatchConsentsResponse, Status>> + Send>>;

    async fn request_consent(
        &self,
        request: Request<v1::RequestConsentRequest>,
    ) -> Result<Response<v1::RequestConsentResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let ask = wire::ask_for(request.get_ref()).map_err(|fault| status::malformed(&fault))?;
        not_from_the_future(&ask.identity)?;
        let ask = RequestCall {
            terms: terms(&caller, ask.terms),
            caller,
            agent: ask.agent,
            identity: ask.identity,
            answer_by: ask.answer_by,
        };
        let found = self.engine.request_consent(ask, deadline).await.map_err(|error| in_terms(&error))?;
        let consent = self.on_wire(&found);
        let code = consent.as_ref().map(|c| c.code.clone()).unwrap_or_default();
        let place = self
            .portal
            .as_ref()
            .map(|portal| format!("{}/demandes/{}", portal.trim_end_matches('/'), found.consent.id));
        Ok(Response::new(v1::RequestConsentResponse { consent, link: place.unwrap_or_default(), code }))
    }

    async fn record_consent(
        &self,
        request: Request<v1::RecordConsentRequest>,
    ) -> Result<Response<v1::RecordConsentResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let record = wire::record(request.get_ref()).map_err(|fault| status::malformed(&fault))?;
        not_from_the_future(&record.identity)?;
        let record = RecordCall {
            terms: terms(&caller, record.terms),
            caller,
            agent: record.agent,
            identity: record.identity,
            indication: indication(record.indication),
            answers: record.answers,
        };
        let found = self.engine.record_consent(record, deadline).await.map_err(|error| in_terms(&error))?;
        Ok(Response::new(v1::RecordConsentResponse { consent: self.on_wire(&found) }))
    }

    async fn renew_consent(
        &self,
        request: Request<v1::RenewConsentRequest>,
    ) -> Result<Response<v1::RenewConsentResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let renewal = wire::renewal(request.get_ref()).map_err(|fault| status::malformed(&fault))?;
        let renewal = RenewCall {
            standing: Standing::Backend(caller),
            agent: renewal.agent,
            consent: renewal.consent,
            notice_version: renewal.notice_version,
            language: renewal.language,
            expires_at: renewal.expires_at,
            indication: indication(renewal.indication),
        };
        let found = self.engine.renew_consent(renewal, deadline).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::RenewConsentResponse { consent: self.on_wire(&found) }))
    }

    async fn withdraw_consent(
        &self,
        request: Request<v1::WithdrawConsentRequest>,
    ) -> Result<Response<v1::WithdrawConsentResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let call = DecideCall {
            standing: Standing::Backend(caller),
            consent: named("consent_id", &request.get_ref().consent_id)?,
            decision: Decision::Withdraw,
            evidence: None,
        };
        let found = self.engine.decide_consent(call, deadline).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::WithdrawConsentResponse { consent: self.on_wire(&found) }))
    }

    async fn decide_consent(
        &self,
        request: Request<v1::DecideConsentRequest>,
    ) -> Result<Response<v1::DecideConsentResponse>, Status> {
        let Call { caller, role, deadline } = call(&request)?;
        let consent = self.decide((caller, role), request.into_inner(), deadline).await?;
        Ok(Response::new(v1::DecideConsentResponse { consent }))
    }

    async fn get_consent(
        &self,
        request: Request<v1::GetConsentRequest>,
    ) -> Result<Response<v1::GetConsentResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let id = named("consent_id", &request.get_ref().consent_id)?;
        let found = self.engine.consent(caller, id, deadline).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::GetConsentResponse { consent: self.on_wire(&found) }))
    }

    async fn list_consents(
        &self,
        request: Request<v1::ListConsentsRequest>,
    ) -> Result<Response<v1::ListConsentsResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let message = request.get_ref();
        let identity = subject(message.subject.as_ref())?;
        let after = named_or_none("page_token", &message.page_token)?;
        let page = self.engine.consents(caller, &identity, after, page_size(message.page_size), deadline).await;
        let (consents, next) = page.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::ListConsentsResponse {
            consents: consents.iter().filter_map(|found| self.on_wire(found)).collect(),
            next_page_token: next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn export_consent(
        &self,
        request: Request<v1::ExportConsentRequest>,
    ) -> Result<Response<v1::ExportConsentResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let message = request.get_ref();
        let format = export::Format::from_wire(message.format).map_err(|fault| status::malformed(&fault))?;
        let id = named("consent_id", &message.consent_id)?;
        let found = self.engine.consent(caller, id, deadline).await.map_err(|error| status::of(&error))?;
        let view = self.engine.registry();
        let document = export::document(format, &found, &view.registry, self.engine.now());
        Ok(Response::new(v1::ExportConsentResponse { document: document.to_string() }))
    }

    async fn watch_consents(
        &self,
        request: Request<v1::WatchConsentsRequest>,
    ) -> Result<Response<Self::WatchConsentsStream>, Status> {
        let Call { caller, .. } = call(&request)?;
        let (sender, receiver) = mpsc::channel(WAITING_CHANGES);
        let (engine, stopped) = (SharedEngine::clone(&self.engine), self.stopped.clone());
        let cursor = request.get_ref().cursor;
        let size = self.engine.head().entries();
        if cursor.is_some_and(|cursor| cursor >= size) {
            let rule = format!(
                "beyond this log, which has {size} entries: was it kept of another broker, or is the log older data?"
            );
            return Err(status::bad_request("INVALID_FIELD", "cursor", &rule));
        }
        let Some(place) = self.watches.take(caller.participant()) else {
            let rule =
                format!("you follow your changes {WATCHES} times already; end one, or share one among your programs");
            return Err(status::overloaded(&rule));
        };
        tokio::spawn(async move {
            let _place = place;
            if let Err(status) = watch(&engine, &caller, cursor, &sender, stopped).await {
                // Nobody reading any more is no fault.
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_webhooks(
        &self,
        request: Request<v1::ListWebhooksRequest>,
    ) -> Result<Response<v1::ListWebhooksResponse>, Status> {
        let Call { caller, .. } = call(&request)?;
        let mut webhooks = Vec::new();
        for webhook in self.webhooks.of(caller.participant()) {
            webhooks.push(wire_webhook(webhook).await);
        }
        Ok(Response::new(v1::ListWebhooksResponse { webhooks }))
    }

    async fn replay_dead_letters(
        &self,
        request: Request<v1::ReplayDeadLettersRequest>,
    ) -> Result<Response<v1::ReplayDeadLettersResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let v1::ReplayDeadLettersRequest { webhook, cursors } = request.get_ref();
        let named = self.webhooks.of(caller.participant()).find(|own| own.name().as_str() == webhook);
        let Some(named) = named else { return Err(status::of(&EngineError::NotFound("this webhook"))) };
        let replayed = named.replay(cursors, deadline).await.map_err(|error| status::of(&error))?;
        let Replayed { delivered, purged, error } = replayed;
        Ok(Response::new(v1::ReplayDeadLettersResponse { delivered, purged, error: error.unwrap_or_default() }))
    }

    async fn record_objection(
        &self,
        request: Request<v1::RecordObjectionRequest>,
    ) -> Result<Response<v1::RecordObjectionResponse>, Status> {
        let message = request.get_ref();
        self.change_objection(call(&request)?, (message.subject.as_ref(), &message.procedure), false).await?;
        Ok(Response::new(v1::RecordObjectionResponse {}))
    }

    async fn lift_objection(
        &self,
        request: Request<v1::LiftObjectionRequest>,
    ) -> Result<Response<v1::LiftObjectionResponse>, Status> {
        let message = request.get_ref();
        self.change_objection(call(&request)?, (message.subject.as_ref(), &message.procedure), true).await?;
        Ok(Response::new(v1::LiftObjectionResponse {}))
    }

    async fn list_objections(
        &self,
        request: Request<v1::ListObjectionsRequest>,
    ) -> Result<Response<v1::ListObjectionsResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let identity = subject(request.get_ref().subject.as_ref())?;
        let objections = self.engine.objections(caller, &identity, deadline).await;
        let objections = objections.map_err(|error| status::of(&error))?.into_iter().map(|objection| {
            let procedure = objection.procedure.map(|id| id.to_string()).unwrap_or_default();
            let lapses_at = Some(wire_instant(objection.lapses_at));
            v1::ListedObjection { procedure, by_person: objection.by_person, lapses_at }
        });
        Ok(Response::new(v1::ListObjectionsResponse { objections: objections.collect() }))
    }

    async fn record_mandate(
        &self,
        request: Request<v1::RecordMandateRequest>,
    ) -> Result<Response<v1::RecordMandateResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let mandate = wire::new_mandate(request.get_ref()).map_err(|fault| status::malformed(&fault))?;
        let call = MandateCall {
            caller,
            agent: mandate.agent,
            principal: mandate.principal,
            representative: mandate.representative,
            kind: mandate.kind,
            procedures: mandate.procedures,
            proof: mandate.proof,
            not_before: mandate.not_before,
            expires_at: mandate.expires_at,
        };
        let mandate = self.engine.record_mandate(call, deadline).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::RecordMandateResponse { mandate: Some(wire::wire_mandate(&mandate)) }))
    }

    async fn end_mandate(
        &self,
        request: Request<v1::EndMandateRequest>,
    ) -> Result<Response<v1::EndMandateResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let id = named("mandate_id", &request.get_ref().mandate_id)?;
        let mandate = self.engine.end_mandate(caller, id, deadline).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::EndMandateResponse { mandate: Some(wire::wire_mandate(&mandate)) }))
    }

    async fn get_mandate(
        &self,
        request: Request<v1::GetMandateRequest>,
    ) -> Result<Response<v1::GetMandateResponse>, Status> {
        let Call { caller, deadline, .. } = call(&request)?;
        let id = named("mandate_id", &request.get_ref().mandate_id)?;
        let mandate = self.engine.mandate(caller, id, deadline).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(v1::GetMandateResponse { mandate: Some(wire::wire_mandate(&mandate)) }))
    }
}

/// Sends the changes after `cursor`, and then each as it comes, until nobody reads, the caller's right ends or the broker
/// stops.
async fn watch(
    engine: &SharedEngine,
    caller: &VerifiedParticipant,
    mut cursor: Option<u64>,
    sender: &mpsc::Sender<Result<v1::WatchConsentsResponse, Status>>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Status> {
    let reader = ChangeReader::Caller(caller.clone());
    let mut steps = engine.ledger_steps(caller.participant());
    loop {
        // ORDER: what changes after this look wakes the wait below.
        steps.mark_unchanged();
        let page = engine.changes(&reader, cursor, MAX_CHANGES, Instant::now() + LOOK).await;
        let page = page.map_err(|error: EngineError| status::of(&error))?;
        let is_last = page.cursor == cursor;
        cursor = page.cursor;
        for change in page.changes {
            if sender.send(Ok(wire_change(engine, change))).await.is_err() {
                return Ok(());
            }
        }
        if is_last {
            tokio::select! {
                () = sender.closed() => return Ok(()),
                _ = stopped.wait_for(|stopped| *stopped) => {
                    return Err(Status::unavailable("the broker stops; come back with your cursor"));
                }
                () = engine.ledger_changed(&mut steps) => {}
            }
        }
    }
}

async fn wire_webhook(webhook: &Webhook) -> v1::Webhook {
    let standing = webhook.standing().await;
    let dead = standing.dead.into_iter().map(|letter| v1::DeadLetter {
        cursor: letter.cursor,
        given_up_at: Some(wire_instant(letter.given_up_at)),
        attempts: letter.attempts,
        error: letter.error,
    });
    v1::Webhook {
        name: webhook.name().to_string(),
        url: webhook.url().to_owned(),
        cursor: standing.cursor,
        failures: standing.trouble.failures,
        error: standing.trouble.error,
        dead_letters: dead.collect(),
    }
}

pub(crate) fn wire_change(engine: &SharedEngine, change: Change) -> v1::WatchConsentsResponse {
    use v1::ChangeKind as Kind;
    let kind = match change.kind {
        Event::CONSENT_REQUESTED => Kind::ConsentRequested,
        Event::CONSENT_GRANTED => Kind::ConsentGranted,
        Event::CONSENT_REFUSED => Kind::ConsentRefused,
        Event::CONSENT_PAUSED => Kind::ConsentPaused,
        Event::CONSENT_RESUMED => Kind::ConsentResumed,
        Event::CONSENT_RENEWED => Kind::ConsentRenewed,
        Event::CONSENT_WITHDRAWN => Kind::ConsentWithdrawn,
        Event::CONSENT_REVOKED => Kind::ConsentRevoked,
        Event::CONSENT_INVALIDATED => Kind::ConsentInvalidated,
        Event::OBJECTION_RECORDED => Kind::ObjectionRecorded,
        Event::OBJECTION_LIFTED => Kind::ObjectionLifted,
        Event::MANDATE_GRANTED => Kind::MandateGranted,
        Event::MANDATE_ENDED => Kind::MandateEnded,
        _ => Kind::Unspecified,
    };
    let now = engine.now();
    v1::WatchConsentsResponse {
        cursor: change.index,
        at: Some(wire_instant(change.at)),
        kind: kind as i32,
        procedure: change.procedure.map(|id| id.to_string()).unwrap_or_default(),
        consent: change.consent.map(|found| super::wire_found(&found, now)),
        mandate_id: change.mandate.map(|id| id.to_string()).unwrap_or_default(),
        subject: change.subject.to_string(),
        erase: change.erase,
    }
}
