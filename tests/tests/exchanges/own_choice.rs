//! A person's choice is theirs: what a proven person paused, withdrew or refused is undone by that person's proof alone, whatever an
//! administration records in their name.

use std::time::Duration;

use tonic::{Code, Status};
use unefois::client::Client;
use unefois_engine::{Clock, SystemClock};
use unefois_proto::fields::wire_instant;
use unefois_proto::v1::{self, Decision};
use unefois_tests::ask::{
    allowance, assert_refused, assert_wrong_state, canteen, exchange, grant, grant_on, granted, person, reason,
    renewal, terms, within,
};
use unefois_tests::sandbox::Sandbox;

use crate::citizen::{assertion, assertion_of, decide, request};
use crate::mandates::{mandate, record_mandate};

/// The administration says that the person sent its own agent.
fn for_agent(principal: v1::Identity) -> v1::RecordMandateRequest {
    v1::RecordMandateRequest { representative: Some(person("AGENT")), ..mandate(v1::MandateKind::Mandatary, principal) }
}

async fn record(client: &Client, grant: v1::RecordConsentRequest) -> Result<String, Status> {
    Ok(client.consent().record_consent(within(grant)).await?.into_inner().consent.unwrap().id)
}

/// A yes to the request `consent_id` through the portal.
async fn give(
    portal: &Client,
    assertion: Option<v1::IdentityAssertion>,
    consent_id: &str,
) -> Result<v1::Consent, Status> {
    let request = v1::GrantMyConsentRequest {
        assertion,
        consent_id: consent_id.to_owned(),
        language: v1::Language::French as i32,
        ..Default::default()
    };
    Ok(portal.citizen().grant_my_consent(within(request)).await?.into_inner().consent.unwrap())
}

fn assert_held_back<T: std::fmt::Debug>(outcome: Result<T, Status>) {
    let status = outcome.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "NOT_ALLOWED"), "{status:?}");
    assert!(status.message().contains("RequestConsent"), "it says what to do: {}", status.message());
}

/// Everything that the department can record in the name of MARCHAND, and that its agent, proven, can do under `mandate_id`.
async fn assert_no_way_round(sandbox: &Sandbox, mandate_id: &str) {
    let (department, portal) = (sandbox.client("departement").await, sandbox.client("portail").await);
    assert_held_back(record(&department, grant("MARCHAND")).await);
    let with_evidence = v1::RecordConsentRequest {
        evidence_sha256: "e0".repeat(32),
        channel: v1::Channel::Counter as i32,
        ..grant("MARCHAND")
    };
    assert_held_back(record(&department, with_evidence).await);
    let soon = Some(wire_instant(SystemClock.now().plus(Duration::from_secs(3_600))));
    let under_mandate = v1::RecordConsentRequest {
        mandate_id: mandate_id.to_owned(),
        ..grant_on("MARCHAND", |terms| terms.expires_at = soon)
    };
    assert_held_back(record(&department, under_mandate).await);
    // For another procedure, the same attribute for the same recipient.
    let elsewhere = grant_on("MARCHAND", |terms| terms.procedure = "aide-du-departement".to_owned());
    assert_held_back(record(&department, elsewhere).await);
    // To ask is allowed; only the person answers, and no paper in their name.
    let asked = v1::RequestConsentRequest {
        agent: "agent-7".to_owned(),
        subject: Some(person("MARCHAND")),
        terms: Some(v1::ConsentTerms { expires_at: soon, ..terms() }),
        answer_by: None,
    };
    let asked = department.consent().request_consent(within(asked)).await.unwrap().into_inner().consent.unwrap();
    let on_paper =
        v1::RecordConsentRequest { request_id: asked.id.clone(), terms: asked.terms.clone(), ..grant("MARCHAND") };
    assert_held_back(record(&department, on_paper).await);
    let agent = assertion_of(sandbox, &person("AGENT"), mandate_id);
    assert_held_back(give(&portal, agent, &asked.id).await);
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&asked.id))).await, "CONSENT_PENDING");
}

/// A second procedure of the department, for the same attributes.
async fn sandbox_with_two_procedures() -> Sandbox {
    let sandbox = Sandbox::start().await;
    sandbox
        .change_registry(|file| {
            let first = file.procedures.iter().find(|p| p.id == terms().procedure.parse().unwrap()).unwrap().clone();
            let second = "aide-du-departement".parse::<unefois_consent::ProcedureId>().unwrap();
            for held in file.habilitations.iter_mut().filter(|held| held.procedures.contains(&first.id)) {
                held.procedures.insert(second.clone());
            }
            file.procedures.push(unefois_consent::registry::Procedure { id: second, ..first });
        })
        .await;
    sandbox
}

#[tokio::test]
async fn a_pause_is_passed_by_no_mandate_and_by_no_new_consent() {
    let sandbox = sandbox_with_two_procedures().await;
    let (department, portal) = (sandbox.client("departement").await, sandbox.client("portail").await);
    let camille = || assertion(&sandbox, "MARCHAND");
    let id = granted(&department, grant("MARCHAND")).await;
    exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    decide(&portal, camille(), &id, Decision::Pause).await.unwrap();
    let mandate_id = record_mandate(&department, for_agent(person("MARCHAND"))).await.unwrap().id;
    let agent = || assertion_of(&sandbox, &person("AGENT"), &mandate_id);
    assert_wrong_state(decide(&portal, agent(), &id, Decision::Resume).await);
    let renewed = v1::RenewMyConsentRequest {
        assertion: agent(),
        consent_id: id.clone(),
        notice_version: 1,
        language: v1::Language::French as i32,
        expires_at: renewal(&id, SystemClock.now().plus(Duration::from_secs(3_600))).expires_at,
    };
    assert_wrong_state(portal.citizen().renew_my_consent(within(renewed)).await);
    assert_no_way_round(&sandbox, &mandate_id).await;
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_PAUSED");
    // Nothing stands in the way of another person.
    granted(&department, grant("PETIT")).await;
    // The administration declares that it was never valid: that is no way round either.
    let invalidate = v1::DecideConsentRequest {
        consent_id: id.clone(),
        decision: Decision::Invalidate as i32,
        evidence_sha256: "e0".repeat(32),
    };
    department.consent().decide_consent(within(invalidate)).await.unwrap();
    assert_no_way_round(&sandbox, &mandate_id).await;
    let asked = request(&department, "MARCHAND").await.consent.unwrap().id;
    give(&portal, camille(), &asked).await.unwrap();
    exchange(&department, allowance("MARCHAND", Some(&asked))).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn who_resumes_lets_the_administration_ask_as_before() {
    let sandbox = sandbox_with_two_procedures().await;
    let (department, portal) = (sandbox.client("departement").await, sandbox.client("portail").await);
    let id = granted(&department, grant("MARCHAND")).await;
    for decision in [Decision::Pause, Decision::Resume] {
        decide(&portal, assertion(&sandbox, "MARCHAND"), &id, decision).await.unwrap();
    }
    let second = granted(&department, grant("MARCHAND")).await;
    exchange(&department, allowance("MARCHAND", Some(&second))).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn a_withdrawal_and_a_refusal_stand_until_the_person_gives_all_of_it_again() {
    let mut sandbox = sandbox_with_two_procedures().await;
    let (department, portal) = (sandbox.client("departement").await, sandbox.client("portail").await);
    let mandate_id = record_mandate(&department, for_agent(person("MARCHAND"))).await.unwrap().id;
    let given = granted(&department, grant("MARCHAND")).await;
    // The administration says so first, and the person makes it their own.
    let withdraw = v1::WithdrawConsentRequest { consent_id: given.clone() };
    department.consent().withdraw_consent(within(withdraw)).await.unwrap();
    let second = granted(&department, grant("MARCHAND")).await;
    decide(&portal, assertion(&sandbox, "MARCHAND"), &given, Decision::Withdraw).await.unwrap();
    assert_no_way_round(&sandbox, &mandate_id).await;
    // What was given before and apart from it stays.
    exchange(&department, allowance("MARCHAND", Some(&second))).await.unwrap();
    let refused = request(&department, "MARCHAND").await.consent.unwrap().id;
    decide(&portal, assertion(&sandbox, "MARCHAND"), &refused, Decision::Refuse).await.unwrap();
    assert_no_way_round(&sandbox, &mandate_id).await;

    // So a fold that is built anew has it.
    sandbox.stop().await;
    std::fs::remove_dir_all(sandbox.data().join("fold")).unwrap();
    sandbox.restart().await.unwrap();
    assert_no_way_round(&sandbox, &mandate_id).await;
    let (department, portal) = (sandbox.client("departement").await, sandbox.client("portail").await);
    let asked = request(&department, "MARCHAND").await.consent.unwrap().id;
    give(&portal, assertion(&sandbox, "MARCHAND"), &asked).await.unwrap();
    // Now the counter counts again, also after a restart.
    let until = SystemClock.now().plus(Duration::from_secs(7_200));
    department.consent().renew_consent(within(renewal(&asked, until))).await.unwrap();
    sandbox.stop().await;
    sandbox.restart().await.unwrap();
    let department = sandbox.client("departement").await;
    let third = granted(&department, grant("MARCHAND")).await;
    exchange(&department, allowance("MARCHAND", Some(&third))).await.unwrap();
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn what_was_decided_under_a_mandate_is_undone_under_it_or_by_the_person() {
    let sandbox = sandbox_with_two_procedures().await;
    let (department, portal) = (sandbox.client("departement").await, sandbox.client("portail").await);
    let [first, second] = ["TUTEUR", "AGENT"].map(|name| v1::RecordMandateRequest {
        representative: Some(person(name)),
        ..mandate(v1::MandateKind::Guardian, person("MARCHAND"))
    });
    let first = record_mandate(&department, first).await.unwrap().id;
    let second = record_mandate(&department, second).await.unwrap().id;
    let guardian = || assertion_of(&sandbox, &person("TUTEUR"), &first);
    let agent = || assertion_of(&sandbox, &person("AGENT"), &second);
    let camille = || assertion(&sandbox, "MARCHAND");
    let id = granted(&department, grant("MARCHAND")).await;
    decide(&portal, guardian(), &id, Decision::Pause).await.unwrap();
    let resume = v1::DecideConsentRequest {
        consent_id: id.clone(),
        decision: Decision::Resume as i32,
        evidence_sha256: String::new(),
    };
    assert_wrong_state(department.consent().decide_consent(within(resume)).await);
    assert_wrong_state(decide(&portal, agent(), &id, Decision::Resume).await);
    assert_no_way_round(&sandbox, &second).await;
    decide(&portal, guardian(), &id, Decision::Resume).await.unwrap();
    decide(&portal, guardian(), &id, Decision::Pause).await.unwrap();
    // The person takes the pause over; then the guardian does not end it.
    decide(&portal, camille(), &id, Decision::Pause).await.unwrap();
    assert_wrong_state(decide(&portal, guardian(), &id, Decision::Resume).await);
    decide(&portal, camille(), &id, Decision::Resume).await.unwrap();
    granted(&department, grant("MARCHAND")).await;
    sandbox.finish().await;
}
