//! Questions, and what to expect of their answers.

use std::time::{Duration, Instant};

use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use unefois::client::Client;
use unefois_consent::registry::RegistryFile;
use unefois_consent::{Channel, ConsentId, Ground, GroundKind, Language, NoticeShown, Timestamp};
use unefois_engine::{Clock, SystemClock};
use unefois_proto::exchange::wire_ground;
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;

/// The procedure of the town hall.
pub const CANTEEN: &str = "tarification-cantine";
/// The procedure of the department.
pub const ALLOWANCE: &str = "allocation-rentree";
/// The attribute that both may ask.
pub const QUOTIENT: &str = "dss.quotient_familial.valeur";
/// The town hall's own dataset.
pub const CHILDREN: &str = "saint-exemple.periscolaire.enfants_inscrits";

/// Waits for a condition, for ten seconds at most.
pub async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "what was waited for did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A fictitious person.
pub fn person(birth_name: &str) -> v1::Identity {
    v1::Identity {
        birth_name: birth_name.to_owned(),
        usage_name: String::new(),
        given_names: vec!["Camille".to_owned()],
        birth_date: "1988-04-17".to_owned(),
        sex: v1::Sex::Female as i32,
        birth_country: "99100".to_owned(),
        birth_commune: "35238".to_owned(),
    }
}

/// The ground of a person who asked and read notice 1.
pub fn informed() -> Ground {
    Ground::LawRequest { notice: shown() }
}

fn shown() -> NoticeShown {
    NoticeShown { version: 1, shown_at: SystemClock.now(), channel: Channel::Online, language: Language::Fr }
}

/// A request id that no other test has.
pub fn request_id() -> String {
    use ring::rand::SecureRandom;
    let mut bytes = [0_u8; 16];
    ring::rand::SystemRandom::new().fill(&mut bytes).unwrap();
    hex::encode(bytes)
}

/// The town hall's question about `birth_name`.
pub fn canteen(birth_name: &str) -> v1::ExchangeRequest {
    v1::ExchangeRequest {
        request_id: request_id(),
        agent: "agent-7".to_owned(),
        recipient: String::new(),
        procedure: CANTEEN.to_owned(),
        habilitation: String::new(),
        subject: Some(person(birth_name)),
        attributes: vec![QUOTIENT.to_owned()],
        filters: Vec::new(),
        ground: Some(wire_ground(&informed())),
        mandate_id: String::new(),
        france_connect_token: String::new(),
        via: Vec::new(),
    }
}

/// The department's question about `birth_name`, by a consent.
pub fn allowance(birth_name: &str, consent: Option<&str>) -> v1::ExchangeRequest {
    let consent = consent.map(|id| id.parse::<ConsentId>().unwrap());
    let ground = Some(wire_ground(&Ground::Consent { consent }));
    v1::ExchangeRequest { procedure: ALLOWANCE.to_owned(), ground, ..canteen(birth_name) }
}

/// The same question, on the ground `PROACTIVE`.
pub fn proactive(question: v1::ExchangeRequest) -> v1::ExchangeRequest {
    v1::ExchangeRequest { ground: Some(wire_ground(&Ground::Proactive { notice: shown() })), ..question }
}

/// Lets the town hall ask proactively: a change for [`crate::sandbox::Sandbox::change_registry`].
pub fn allow_proactive(file: &mut RegistryFile) {
    let held = file.habilitations.iter_mut().find(|h| h.id.as_str() == "saint-exemple-cantine").unwrap();
    held.grounds.insert(GroundKind::Proactive);
    // CRPA L114-8 II: a year at most.
    held.retention_months = 12;
}

/// The terms of a consent to the department, for a day.
pub fn terms() -> v1::ConsentTerms {
    let expires: Timestamp = SystemClock.now().plus(Duration::from_secs(24 * 60 * 60));
    v1::ConsentTerms {
        procedure: ALLOWANCE.to_owned(),
        attributes: vec![QUOTIENT.to_owned()],
        notice_version: 1,
        language: v1::Language::French as i32,
        expires_at: Some(wire_instant(expires)),
        r#use: v1::ConsentUse::Repeated as i32,
        ..v1::ConsentTerms::default()
    }
}

/// A consent of `birth_name` to the department.
pub fn grant(birth_name: &str) -> v1::RecordConsentRequest {
    v1::RecordConsentRequest {
        agent: "agent-7".to_owned(),
        subject: Some(person(birth_name)),
        terms: Some(terms()),
        channel: v1::Channel::Online as i32,
        ..v1::RecordConsentRequest::default()
    }
}

/// A consent of `birth_name` to the department, on terms that `change` changes.
pub fn grant_on(birth_name: &str, change: impl FnOnce(&mut v1::ConsentTerms)) -> v1::RecordConsentRequest {
    let mut terms = terms();
    change(&mut terms);
    v1::RecordConsentRequest { terms: Some(terms), ..grant(birth_name) }
}

/// A consent of `birth_name` to the department that may be used once a day.
pub fn daily(birth_name: &str, from: Timestamp, until: Timestamp) -> v1::RecordConsentRequest {
    grant_on(birth_name, |terms| {
        terms.r#use = v1::ConsentUse::Periodic as i32;
        terms.frequency = Some(v1::Frequency { times: 1, per: v1::TimeUnit::Day as i32 });
        terms.not_before = Some(wire_instant(from));
        terms.expires_at = Some(wire_instant(until));
    })
}

/// That a person gives a consent again, on the phone.
pub fn renewal(consent_id: &str, until: Timestamp) -> v1::RenewConsentRequest {
    v1::RenewConsentRequest {
        agent: "agent-7".to_owned(),
        consent_id: consent_id.to_owned(),
        notice_version: 1,
        language: v1::Language::French as i32,
        expires_at: Some(wire_instant(until)),
        channel: v1::Channel::Phone as i32,
        ..v1::RenewConsentRequest::default()
    }
}

/// `message` with ten seconds to answer it.
pub fn within<T>(message: T) -> Request<T> {
    within_time(message, Duration::from_secs(10))
}

/// `message` with so much time to answer it.
pub fn within_time<T>(message: T, time: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(time);
    request
}

/// Asks.
pub async fn exchange(client: &Client, question: v1::ExchangeRequest) -> Result<v1::ExchangeResponse, Status> {
    client.exchange().exchange(within(question)).await.map(tonic::Response::into_inner)
}

/// Records a consent and gives its id.
pub async fn granted(client: &Client, grant: v1::RecordConsentRequest) -> String {
    let answer = client.consent().record_consent(within(grant)).await.unwrap().into_inner();
    answer.consent.unwrap().id
}

/// Withdraws a consent.
pub async fn withdraw(client: &Client, consent_id: &str) {
    let request = v1::WithdrawConsentRequest { consent_id: consent_id.to_owned() };
    client.consent().withdraw_consent(within(request)).await.unwrap();
}

/// Records that `birth_name` objects to the client's proactive use.
pub async fn object(client: &Client, birth_name: &str) {
    let request = v1::RecordObjectionRequest { subject: Some(person(birth_name)), procedure: String::new() };
    client.consent().record_objection(within(request)).await.unwrap();
}

/// The stable reason of a status.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "unefois.v1");
    info.reason
}

/// Asserts a refusal for `expected`.
pub fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Status>, expected: &str) {
    let status = outcome.expect_err(expected);
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, expected), "{status:?}");
}

/// Asserts that what is there does not allow the call now.
pub fn assert_wrong_state<T: std::fmt::Debug>(outcome: Result<T, Status>) {
    let status = outcome.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "WRONG_STATE"), "{status}");
}

/// Asserts that a field was refused, and that nothing of what it held is repeated.
pub fn assert_malformed<T: std::fmt::Debug>(outcome: Result<T, Status>, field: &str, held: &str) {
    let status = outcome.expect_err(field);
    assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
    let violations = status.get_details_bad_request().expect(field).field_violations;
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].field, field, "{status:?}");
    assert!(!violations[0].description.is_empty());
    assert!(held.is_empty() || !format!("{status:?}").contains(held), "{field}: the error repeats what the field held");
}

/// The only attribute's status.
pub fn only_status(answer: &v1::ExchangeResponse) -> v1::AttributeStatus {
    assert_eq!(answer.attributes.len(), 1);
    answer.attributes[0].status()
}
