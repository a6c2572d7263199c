//! What another broker said: believed where its receipt says the same.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use unefois_audit::{Receipt, VerifierKey, answer_digest, canonical_json};
use unefois_consent::{
    AttributeId, DatasetId, Digest, Event, GroundKind, Outcome, OutcomeCode, ProcedureId, Reason, Siret,
};
use unefois_proto::exchange::status;
use unefois_proto::v1;
use unefois_proto::value::exact;

use super::question::named;
use super::{BrokerConfig, kept};
use crate::{Fetch, SourceAnswer, SourceFault, grpc};

/// Longest receipt that is kept in a record. One of an answer has 2 to 3 KB; with each broker behind it, its escapes double.
pub(super) const MAX_RECEIPT_BYTES: usize = 16 * 1024;

const ANOTHER_ANSWER: SourceFault = SourceFault::Untrusted("the receipt is of another answer than the one that came");

/// What is compared of their record. A broker of another version may say more.
#[derive(Deserialize)]
struct Record {
    answered: Theirs,
}

#[derive(Deserialize)]
struct Theirs {
    request_id: String,
    exchange: String,
    recipient: Siret,
    procedure: ProcedureId,
    ground: GroundKind,
    attributes: BTreeMap<String, OutcomeCode>,
    answer: Digest,
}

/// What an answer must fit.
pub(super) struct Expected<'a> {
    pub(super) keys: &'a [VerifierKey],
    /// The name of the exchange there, which no other question has or had.
    pub(super) request_id: &'a str,
    /// Their id of the dataset.
    pub(super) dataset: &'a DatasetId,
    pub(super) fetch: &'a Fetch<'a>,
    pub(super) config: &'a BrokerConfig,
}

impl Expected<'_> {
    /// The answer in this broker's words, once its receipt was found to be of it.
    pub(super) fn checked(&self, said: v1::ExchangeResponse) -> Result<SourceAnswer, SourceFault> {
        if !said.withheld_reasons.is_empty() {
            return Err(SourceFault::NotAuthorised("the right to the data ended there while it was fetched"));
        }
        let asked = &self.fetch.dataset.attributes;
        let mut outcomes = Vec::with_capacity(asked.len());
        let mut values = Map::new();
        if said.attributes.len() != asked.len() {
            return Err(SourceFault::Untrusted("the broker answered other attributes than were asked"));
        }
        for (attribute, said) in asked.iter().zip(&said.attributes) {
            let outcome = self.outcome(attribute, said)?;
            if let Outcome::Found(value) = &outcome {
                values.insert(said.name.clone(), value.clone());
            }
            outcomes.push((attribute.clone(), outcome));
        }
        let receipt = self.receipt(&said, &outcomes, &Value::Object(values))?;
        let is_answered = said.attributes.iter().any(|attribute| attribute.provenance.is_some());
        let reference = is_answered.then_some(said.exchange_id);
        Ok(SourceAnswer { receipt: Some(kept(&receipt)), ..SourceAnswer::of(outcomes, reference) })
    }

    fn outcome(&self, asked: &AttributeId, said: &v1::Attribute) -> Result<Outcome, SourceFault> {
        const MALFORMED: SourceFault = SourceFault::Untrusted("an attribute's status and value do not fit");
        if said.name != named(self.dataset, asked) {
            return Err(SourceFault::Untrusted("the broker answered other attributes than were asked"));
        }
        match (status(said).map_err(|_| MALFORMED)?, &said.value) {
            (OutcomeCode::Found, Some(value)) => Ok(Outcome::Found(exact(value).ok_or(MALFORMED)?)),
            (OutcomeCode::Found | OutcomeCode::Withheld, _) | (_, Some(_)) => Err(MALFORMED),
            (code, None) => Ok(Outcome::Missing(code)),
        }
    }

    /// The receipt, if it is signed by the log's key and its record is of this question and says what the answer says: request
    /// id, exchange, procedure, recipient, ground, each outcome, and the digest of the values.
    fn receipt(
        &self,
        said: &v1::ExchangeResponse,
        outcomes: &[(AttributeId, Outcome)],
        values: &Value,
    ) -> Result<Receipt, SourceFault> {
        let malformed = |_| SourceFault::Untrusted("the receipt cannot be read");
        if said.receipt.len() > MAX_RECEIPT_BYTES {
            return Err(SourceFault::Untrusted("the receipt is too large"));
        }
        let receipt = Receipt::from_json(&said.receipt).map_err(malformed)?;
        if !self.keys.iter().any(|key| receipt.verify(key).is_ok()) {
            return Err(SourceFault::Untrusted("the receipt is not one of its log: check log_key"));
        }
        let record: Record = unefois_consent::json::read_as(receipt.record.as_bytes())
            .map_err(|_| SourceFault::Untrusted("the receipt is of no answer, or of a version that is not known"))?;
        let answered = record.answered;
        if Event::kind_name(receipt.kind) != "answered" || !self.is_of(&answered, said, outcomes) {
            return Err(ANOTHER_ANSWER);
        }
        let salt = receipt.answer_salt.as_ref().ok_or(ANOTHER_ANSWER)?;
        if answer_digest(salt, canonical_json(values).as_bytes()).0 != answered.answer.0 {
            return Err(SourceFault::Untrusted("the values are not those that the receipt is for"));
        }
        Ok(receipt)
    }

    fn is_of(&self, answered: &Theirs, said: &v1::ExchangeResponse, outcomes: &[(AttributeId, Outcome)]) -> bool {
        let permit = self.fetch.permit;
        let codes: BTreeMap<_, _> = outcomes.iter().map(|(a, o)| (named(self.dataset, a), o.code())).collect();
        answered.request_id == self.request_id
            && answered.exchange == said.exchange_id
            && answered.recipient == permit.recipient()
            && self.config.procedure(permit.procedure()) == Some(&answered.procedure)
            && answered.ground == permit.ground()
            && codes == answered.attributes
    }
}

/// The reason of a refusal of theirs, where it is one of the contract.
pub(super) fn reason(status: &Status) -> Option<&'static str> {
    let info = status.get_details_error_info()?;
    let reason: Reason = serde_json::from_value(Value::String(info.reason)).ok()?;
    Some(reason.code())
}

/// What a refusal or a failure of theirs means.
pub(super) fn refused(status: &Status, fetch: &Fetch<'_>) -> Result<SourceAnswer, SourceFault> {
    if status.code() == Code::InvalidArgument {
        let fields = status.get_details_bad_request().map(|request| request.field_violations).unwrap_or_default();
        let is = |prefix: &str| fields.iter().any(|violation| violation.field.starts_with(prefix));
        return if is("filters") {
            Ok(SourceAnswer::missing(fetch.dataset, OutcomeCode::FilterRefused))
        } else if is("via") {
            Err(SourceFault::Untrusted("brokers ask each other in a circle, or too far"))
        } else if is("france_connect_token") {
            Ok(SourceAnswer::missing(fetch.dataset, OutcomeCode::NotIdentified))
        } else {
            Err(SourceFault::Untrusted("it finds the question malformed"))
        };
    }
    match reason(status) {
        Some(reason) if status.code() == Code::PermissionDenied => Err(SourceFault::NotAuthorised(reason)),
        Some(_) | None => Err(grpc::fault(status)),
    }
}
