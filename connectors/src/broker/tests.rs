use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};
use unefois_audit::{Checkpoint, Hash, Salt, TlogProof, answer_digest, canonical_json};
use unefois_consent::{Ground, Outcome, OutcomeCode};
use unefois_proto::v1;
use unefois_proto::v1::exchange_service_server::{ExchangeService, ExchangeServiceServer};
use unefois_proto::value::to_wire;

use super::*;
use crate::testing::tls::Tls;
use crate::testing::{Asked, EXCHANGE, RECIPIENT};

const ORIGIN: &str = "there.example/log";
const THEIRS: &str = "aides.rentree";

/// A broker of one entry a log: it knows `montant` and `statut` of everybody, and signs what it answers.
#[derive(Default)]
pub(crate) struct Scripted {
    asked: Mutex<Vec<v1::ExchangeRequest>>,
    refuses: Mutex<Option<Status>>,
}

/// The log's key.
fn signer() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn key() -> VerifierKey {
    VerifierKey::new(ORIGIN, signer().public_key().as_ref().try_into().unwrap()).unwrap()
}

impl Scripted {
    pub(crate) async fn serve(self, tls: &Tls) -> (Arc<Self>, SocketAddr) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let broker = Arc::new(self);
        let service = ExchangeServiceServer::new(Served(Arc::clone(&broker)));
        let server = Server::builder().tls_config(tls.server_config()).unwrap().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (broker, address)
    }

    fn answer(request: &v1::ExchangeRequest) -> v1::ExchangeResponse {
        let exchange_id = "a1".repeat(16);
        let value = |name: &String| json!(format!("of {name}"));
        let values: BTreeMap<_, _> = request.attributes.iter().map(|name| (name.clone(), value(name))).collect();
        let answer_salt = Salt([3; 32]);
        let answer = answer_digest(&answer_salt, canonical_json(&json!(values)).as_bytes());
        let record = json!({"answered": {
            "exchange": exchange_id, "requested": 0, "request_id": request.request_id, "later": true, "consumer": RECIPIENT, "recipient": request.recipient,
            "procedure": request.procedure, "ground": "LAW_REQUEST", "subject": "05".repeat(16),
            "attributes": request.attributes.iter().map(|name| (name.clone(), "FOUND")).collect::<BTreeMap<_, _>>(),
            "provenance": {}, "answer": answer.to_string(),
        }});
        let proof = TlogProof { extra: None, index: 0, hashes: Vec::new(), checkpoint: String::new() };
        let (salt, time_ms) = (Salt([4; 32]), 1_767_225_600_000);
        let mut receipt = Receipt {
            record: record.to_string(),
            salt,
            retention_part: Hash([0x22; 32]),
            links_part: Hash([0x44; 32]),
            kind: 18,
            time_ms,
            proof,
            answer_salt: Some(answer_salt),
        };
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 1, root: receipt.leaf().hash() };
        let signature = signer().sign(checkpoint.note_text().as_bytes());
        receipt.proof.checkpoint = checkpoint.signed(signature.as_ref().try_into().unwrap(), key().id());
        let attributes = values.iter().map(|(name, value)| v1::Attribute {
            name: name.clone(),
            status: v1::AttributeStatus::Found.into(),
            value: Some(to_wire(value)),
            provenance: Some(v1::Provenance::default()),
        });
        let mut attributes: Vec<_> = attributes.collect();
        attributes.sort_by_key(|said| request.attributes.iter().position(|name| *name == said.name));
        v1::ExchangeResponse { exchange_id, attributes, receipt: receipt.to_json(), withheld_reasons: Vec::new() }
    }
}

struct Served(Arc<Scripted>);

#[tonic::async_trait]
impl ExchangeService for Served {
    async fn exchange(&self, request: Request<v1::ExchangeRequest>) -> Result<Response<v1::ExchangeResponse>, Status> {
        let request = request.into_inner();
        self.0.asked.lock().unwrap().push(request.clone());
        if let Some(status) = &*self.0.refuses.lock().unwrap() {
            return Err(status.clone());
        }
        let known = ["montant", "statut"].map(|name| format!("{THEIRS}.{name}"));
        if !request.attributes.iter().all(|name| known.contains(name)) || !request.filters.is_empty() {
            return Err(refusal("ATTRIBUTE_UNKNOWN"));
        }
        Ok(Response::new(Scripted::answer(&request)))
    }
}

fn refusal(reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "unefois.v1", std::collections::HashMap::new());
    Status::with_error_details(Code::PermissionDenied, "advice", details)
}

fn malformed(field: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation(field, "a rule");
    Status::with_error_details(Code::InvalidArgument, "advice", details)
}

/// A connector to a scripted broker; the dataset here is `departement.aides`.
pub(crate) async fn bed() -> (BrokerConnector, Arc<Scripted>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::make(folder.path());
    let (broker, address) = Scripted::default().serve(&tls).await;
    let config = json!({
        "url": format!("https://{address}"), "ca_file": "ca.pem", "client_identity_file": "client.pem",
        "server_name": "source.example", "log_key": key().to_string(), "habilitation": "h-there",
        "datasets": {"departement.aides": {"dataset": THEIRS}},
        "procedures": {"cantine": {"procedure": "restauration", "notices": {"1": 4}}},
    });
    let connector = BrokerConnector::open(&serde_json::from_value(config).unwrap(), folder.path()).unwrap();
    (connector, broker, folder)
}

fn asked() -> Asked {
    Asked::new("departement.aides", &["statut", "montant"])
}

#[tokio::test]
async fn the_question_is_asked_in_the_other_brokers_words() {
    let (connector, broker, _folder) = bed().await;
    let mut asked = asked().with_token("the-token");
    asked.via = vec!["first.example/log".to_owned()];
    let answer = connector.fetch(asked.fetch()).await.unwrap();
    assert_eq!(answer.outcomes[1], (asked.attribute(1), Outcome::Found(json!("of aides.rentree.montant"))));
    assert_eq!(answer.reference, Some("a1".repeat(16)));
    let kept = Receipt::from_json(&answer.receipt.unwrap().0).unwrap();
    assert!(kept.verify(&key()).is_ok() && kept.answer_salt.is_none());
    let question = broker.asked.lock().unwrap().remove(0);
    assert!(question.request_id.starts_with(&format!("{EXCHANGE}:")) && question.request_id.len() <= 64);
    assert_eq!((question.agent.as_str(), question.recipient.as_str()), ("broker.example/log", RECIPIENT));
    assert_eq!((question.procedure.as_str(), question.habilitation.as_str()), ("restauration", "h-there"));
    assert_eq!(question.attributes, ["aides.rentree.statut", "aides.rentree.montant"]);
    assert_eq!(question.via, ["first.example/log", "broker.example/log"]);
    assert_eq!(question.subject.unwrap().birth_name, "Lefèvre-d'Œuvre");
    assert_eq!(question.france_connect_token, "the-token");
    let Some(v1::exchange_request::Ground::LawRequest(ground)) = question.ground else { panic!("the same ground") };
    assert_eq!(ground.notice.unwrap().version, 4, "their notice that says the same");
}

#[tokio::test]
async fn a_question_again_is_the_same_exchange_there_and_another_dataset_another() {
    let (connector, broker, _folder) = bed().await;
    for _ in 0..2 {
        connector.fetch(asked().fetch()).await.unwrap();
    }
    let asked = broker.asked.lock().unwrap();
    assert_eq!(asked[0].request_id, asked[1].request_id);
}

#[tokio::test]
async fn evidence_does_not_travel() {
    let (connector, broker, _folder) = bed().await;
    let mut asked = asked();
    let Ground::LawRequest { mut notice } = asked.ground.clone() else { panic!("informed") };
    notice.version = 2;
    asked.ground = Ground::LawRequest { notice };
    let refused = connector.fetch(asked.fetch()).await.unwrap_err();
    assert!(refused.to_string().contains("`notices`"), "{refused}");
    asked.ground = Ground::Consent { consent: Some(unefois_consent::ConsentId([1; 16])) };
    connector.fetch(asked.fetch()).await.unwrap();
    let question = broker.asked.lock().unwrap().remove(0);
    let Some(v1::exchange_request::Ground::Consent(ground)) = question.ground else { panic!("the same ground") };
    assert_eq!(ground.consent_id, "", "one of their own ledger");
}

#[tokio::test]
async fn each_refusal_of_theirs_has_its_meaning() {
    let (connector, broker, _folder) = bed().await;
    let asked = asked();
    let cases = [
        (refusal("NO_CONSENT"), Err("not_authorised")),
        (refusal("KEY_NOT_ENROLLED"), Err("not_authorised")),
        (malformed("filters.aides.rentree.annee"), Ok(OutcomeCode::FilterRefused)),
        (malformed("via"), Err("untrusted")),
        (malformed("agent"), Err("untrusted")),
        (Status::unavailable("x"), Err("down")),
        (Status::resource_exhausted("x"), Err("rate_limited")),
        (Status::deadline_exceeded("x"), Err("timeout")),
        (Status::internal("x"), Err("untrusted")),
    ];
    for (status, expected) in cases {
        let told = format!("{status:?}");
        *broker.refuses.lock().unwrap() = Some(status);
        let said = connector.fetch(asked.fetch()).await;
        let said = said.map(|answer| answer.outcomes[0].1.code()).map_err(|fault| fault.code());
        assert_eq!(said, expected, "{told}");
    }
}

#[test]
fn a_wrong_configuration_is_refused_by_its_key() {
    let with = |changes: serde_json::Value| {
        let mut config = json!({
            "url": "https://there.example:7443", "ca_file": "ca.pem", "client_identity_file": "id.pem",
            "log_key": key().to_string(), "datasets": {"a.b": {}}, "procedures": {"cantine": {}},
        });
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value::<BrokerConfig>(config).unwrap().validate()
    };
    assert!(with(json!({})).is_ok());
    let wrong = [
        (json!({"url": "http://127.0.0.1:1"}), "url"),
        (json!({"datasets": {}}), "datasets"),
        (json!({"procedures": {}}), "procedures"),
        (json!({"procedures": {"cantine": {"notices": {"one": 1}}}}), "procedures"),
        (json!({"log_key": "there.example/log"}), "log_key"),
    ];
    for (changes, key) in wrong {
        let error = with(changes).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{key}: ")), "{error}");
    }
}
