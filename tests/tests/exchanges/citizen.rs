//! What persons see and decide by themselves, through a portal, proven by an identity provider.

use tokio_stream::StreamExt;
use tonic::{Code, Status};
use unefois::client::Client;
use unefois_audit::Receipt;
use unefois_engine::{Clock, SystemClock};
use unefois_proto::common::identity;
use unefois_proto::v1;
use unefois_tests::ask::{
    QUOTIENT, allow_proactive, allowance, assert_malformed, assert_refused, assert_wrong_state, canteen, exchange,
    grant, granted, person, proactive, reason, renewal, terms, within,
};
use unefois_tests::sandbox::Sandbox;

/// A token of the sandbox's identity provider for somebody.
pub(crate) fn assertion(sandbox: &Sandbox, birth_name: &str) -> Option<v1::IdentityAssertion> {
    assertion_of(sandbox, &person(birth_name), "")
}

pub(crate) fn assertion_of(sandbox: &Sandbox, who: &v1::Identity, mandate_id: &str) -> Option<v1::IdentityAssertion> {
    let key = std::fs::read_to_string(sandbox.folder.path.join("pki/identite.key")).unwrap();
    let who = identity("subject", Some(who)).unwrap();
    let id_token = unefois::init::development_token(&key, &who, "eidas2", SystemClock.now()).unwrap();
    Some(v1::IdentityAssertion { id_token, user_info: String::new(), mandate_id: mandate_id.to_owned() })
}

pub(crate) async fn request(department: &Client, birth_name: &str) -> v1::RequestConsentResponse {
    let request = v1::RequestConsentRequest {
        agent: "agent-7".to_owned(),
        subject: Some(person(birth_name)),
        terms: Some(terms()),
        answer_by: None,
    };
    department.consent().request_consent(within(request)).await.unwrap().into_inner()
}

pub(crate) async fn decide(
    portal: &Client,
    assertion: Option<v1::IdentityAssertion>,
    consent_id: &str,
    decision: v1::Decision,
) -> Result<v1::Consent, Status> {
    let request =
        v1::DecideMyConsentRequest { assertion, consent_id: consent_id.to_owned(), decision: decision as i32 };
    Ok(portal.citizen().decide_my_consent(within(request)).await?.into_inner().consent.unwrap())
}

async fn mine(portal: &Client, assertion: Option<v1::IdentityAssertion>, code: &str) -> Vec<v1::Consent> {
    let request = v1::ListMyConsentsRequest { assertion, code: code.to_owned(), ..Default::default() };
    portal.citizen().list_my_consents(within(request)).await.unwrap().into_inner().consents
}

async fn exchanges(portal: &Client, assertion: Option<v1::IdentityAssertion>) -> Vec<v1::MyExchange> {
    let request = v1::ListMyExchangesRequest { assertion, ..Default::default() };
    portal.citizen().list_my_exchanges(within(request)).await.unwrap().into_inner().exchanges
}

#[tokio::test]
async fn a_person_finds_a_request_reads_its_notice_and_gives_refuses_pauses_or_withdraws() {
    let sandbox = Sandbox::start().await;
    let (department, portal) = (sandbox.client("departement").await, sandbox.client("portail").await);
    let camille = || assertion(&sandbox, "MARCHAND");
    let asked = request(&department, "MARCHAND").await;
    let id = asked.consent.unwrap().id;
    let found = mine(&portal, camille(), &asked.code.to_lowercase()).await;
    assert_eq!((found.len(), found[0].state()), (1, v1::ConsentState::Requested));
    assert!(mine(&portal, camille(), "0000-0000").await.is_empty());
    let shown = v1::GetMyConsentRequest { assertion: camille(), consent_id: id.clone() };
    let shown = portal.citizen().get_my_consent(within(shown)).await.unwrap().into_inner();
    assert!(shown.notice_fr.contains("accord") && shown.notice_en.contains("consent") && !shown.dpo_contact.is_empty());
    let give = |attributes: Vec<String>| v1::GrantMyConsentRequest {
        assertion: camille(),
        consent_id: id.clone(),
        language: v1::Language::English as i32,
        attributes,
        expires_at: None,
    };
    let more = give(vec!["dss.quotient_familial.annee".to_owned()]);
    assert_malformed(portal.citizen().grant_my_consent(within(more)).await, "attributes", "");
    let given = give(vec![QUOTIENT.to_owned()]);
    let given = portal.citizen().grant_my_consent(within(given)).await.unwrap().into_inner().consent.unwrap();
    assert_eq!((given.state(), given.assurance.unwrap().acr.as_str()), (v1::ConsentState::Given, "eidas2"));
    exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    decide(&portal, camille(), &id, v1::Decision::Pause).await.unwrap();
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_PAUSED");
    decide(&portal, camille(), &id, v1::Decision::Resume).await.unwrap();
    exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    let withdrawn = decide(&portal, camille(), &id, v1::Decision::Withdraw).await.unwrap();
    assert_eq!(withdrawn.state(), v1::ConsentState::Withdrawn);
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_WITHDRAWN");
    let second = request(&department, "MARCHAND").await.consent.unwrap().id;
    let refused = decide(&portal, camille(), &second, v1::Decision::Refuse).await.unwrap();
    assert_eq!(refused.state(), v1::ConsentState::Refused);
    for (decision, code) in [(v1::Decision::Revoke, "NOT_ALLOWED"), (v1::Decision::Invalidate, "NOT_ALLOWED")] {
        assert_eq!(reason(&decide(&portal, camille(), &second, decision).await.unwrap_err()), code);
    }
    sandbox.finish().await;
}

#[tokio::test]
async fn nobody_sees_or_decides_what_is_somebody_elses() {
    let sandbox = Sandbox::start().await;
    let (department, portal) = (sandbox.client("departement").await, sandbox.client("portail").await);
    let id = granted(&department, grant("MARCHAND")).await;
    let answer = exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    let index = Receipt::from_json(&answer.receipt).unwrap().proof.index;
    let petit = || assertion(&sandbox, "PETIT");
    for decision in [v1::Decision::Withdraw, v1::Decision::Pause] {
        let status = decide(&portal, petit(), &id, decision).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
    }
    // The same for somebody whom the log knows.
    granted(&department, grant("PETIT")).await;
    assert_eq!(decide(&portal, petit(), &id, v1::Decision::Withdraw).await.unwrap_err().code(), Code::NotFound);
    assert!(exchanges(&portal, petit()).await.is_empty());
    assert!(mine(&portal, petit(), "").await.iter().all(|consent| consent.id != id));
    let receipt = v1::GetMyReceiptRequest { assertion: petit(), index };
    assert_eq!(portal.citizen().get_my_receipt(within(receipt)).await.unwrap_err().code(), Code::NotFound);
    // Without proof, with a token of nobody, and through a key that is no portal.
    for bad in [None, Some(v1::IdentityAssertion { id_token: "a.b.c".to_owned(), ..Default::default() })] {
        let code = decide(&portal, bad.clone(), &id, v1::Decision::Withdraw).await.unwrap_err().code();
        assert_eq!(code, if bad.is_none() { Code::InvalidArgument } else { Code::Unauthenticated });
    }
    let camille = assertion(&sandbox, "MARCHAND");
    let status = decide(&department, camille.clone(), &id, v1::Decision::Withdraw).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let question = v1::ListConsentsRequest { subject: Some(person("MARCHAND")), ..Default::default() };
    let status = portal.consent().list_consents(within(question)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "a portal asks nothing in its own name");
    decide(&portal, camille, &id, v1::Decision::Withdraw).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn a_person_sees_each_exchange_about_them_with_a_receipt_that_verifies() {
    let sandbox = Sandbox::start().await;
    let (town, department) = (sandbox.client("ville").await, sandbox.client("departement").await);
    let portal = sandbox.client("portail").await;
    let camille = || assertion(&sandbox, "MARCHAND");
    exchange(&town, canteen("MARCHAND")).await.unwrap();
    assert_refused(exchange(&department, allowance("MARCHAND", None)).await, "CONSENT_MISSING");
    exchange(&town, canteen("PETIT")).await.unwrap();
    let seen = exchanges(&portal, camille()).await;
    let outcomes: Vec<_> = seen.iter().map(v1::MyExchange::outcome).collect();
    assert_eq!(outcomes, [v1::ExchangeOutcome::Refused, v1::ExchangeOutcome::Answered], "newest first, and no other's");
    assert_eq!(seen[0].reasons, ["CONSENT_MISSING"]);
    assert_eq!((seen[1].ground(), seen[1].attributes[0].status.as_str()), (v1::GroundKind::LawRequest, "FOUND"));
    assert!(!seen[1].consumer_name.is_empty() && !seen[1].sources.is_empty());
    let index = seen[1].receipt_index.unwrap();
    let receipt = v1::GetMyReceiptRequest { assertion: camille(), index };
    let receipt = portal.citizen().get_my_receipt(within(receipt)).await.unwrap().into_inner().receipt;
    let receipt = Receipt::from_json(&receipt).unwrap();
    receipt.verify(&sandbox.key).unwrap();
    assert_eq!(receipt.proof.index, index);
    // The question names the agent who asked, and is not for the person.
    let question = v1::GetMyReceiptRequest { assertion: camille(), index: index - 1 };
    assert_eq!(portal.citizen().get_my_receipt(within(question)).await.unwrap_err().code(), Code::NotFound);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_person_objects_and_lifts_and_takes_everything_along() {
    let sandbox = Sandbox::start().await;
    let (town, department) = (sandbox.client("ville").await, sandbox.client("departement").await);
    let portal = sandbox.client("portail").await;
    sandbox.change_registry(allow_proactive).await;
    let camille = || assertion(&sandbox, "MARCHAND");
    exchange(&town, proactive(canteen("MARCHAND"))).await.unwrap();
    let objection = |lift| v1::SetMyObjectionRequest {
        assertion: camille(),
        consumer: unefois::init::TOWN_HALL.to_owned(),
        procedure: String::new(),
        lift,
    };
    portal.citizen().set_my_objection(within(objection(false))).await.unwrap();
    assert_refused(exchange(&town, proactive(canteen("MARCHAND"))).await, "OBJECTION");
    granted(&department, grant("MARCHAND")).await;
    let export = v1::ExportMineRequest { assertion: camille() };
    let mut items = portal.citizen().export_mine(export).await.unwrap().into_inner();
    let mut kinds = Vec::new();
    while let Some(item) = items.next().await {
        let item = item.unwrap();
        let value: serde_json::Value = serde_json::from_str(&item.item).unwrap();
        assert!(value.get("subject").is_none());
        kinds.push(item.kind);
    }
    assert_eq!(kinds, ["consent", "objection", "event", "event", "exchange", "exchange"]);
    portal.citizen().set_my_objection(within(objection(true))).await.unwrap();
    exchange(&town, proactive(canteen("MARCHAND"))).await.unwrap();
    let listed = v1::ListMyObjectionsRequest { assertion: camille() };
    assert!(portal.citizen().list_my_objections(within(listed)).await.unwrap().into_inner().objections.is_empty());
    sandbox.finish().await;
}

#[tokio::test]
async fn what_a_person_decided_by_themselves_no_administration_undoes_in_their_name() {
    let sandbox = Sandbox::start().await;
    let (department, portal) = (sandbox.client("departement").await, sandbox.client("portail").await);
    let camille = || assertion(&sandbox, "MARCHAND");
    let id = granted(&department, grant("MARCHAND")).await;
    decide(&portal, camille(), &id, v1::Decision::Pause).await.unwrap();
    let resume = v1::DecideConsentRequest {
        consent_id: id.clone(),
        decision: v1::Decision::Resume as i32,
        evidence_sha256: "e0".repeat(32),
    };
    assert_wrong_state(department.consent().decide_consent(within(resume.clone())).await);
    let renewal = renewal(&id, SystemClock.now().plus(std::time::Duration::from_secs(3_600)));
    assert_wrong_state(department.consent().renew_consent(within(renewal)).await);
    decide(&portal, camille(), &id, v1::Decision::Resume).await.unwrap();
    // What the administration paused, it resumes.
    let pause = v1::DecideConsentRequest { decision: v1::Decision::Pause as i32, ..resume.clone() };
    for decision in [pause, resume] {
        department.consent().decide_consent(within(decision)).await.unwrap();
    }

    let objection = |lift| v1::SetMyObjectionRequest {
        assertion: camille(),
        consumer: unefois::init::DEPARTMENT.to_owned(),
        procedure: String::new(),
        lift,
    };
    let (subject, procedure) = (Some(person("MARCHAND")), String::new());
    let recorded = v1::RecordObjectionRequest { subject: subject.clone(), procedure: procedure.clone() };
    let lifted = v1::LiftObjectionRequest { subject, procedure };
    let code = async |request: &v1::LiftObjectionRequest| {
        let answer = department.consent().lift_objection(within(request.clone())).await;
        answer.err().map(|status| status.code())
    };
    assert_eq!(code(&lifted).await, Some(Code::NotFound), "nothing to lift");
    department.consent().record_objection(within(recorded.clone())).await.unwrap();
    assert_eq!(code(&lifted).await, None);
    portal.citizen().set_my_objection(within(objection(false))).await.unwrap();
    // It stays the person's, whoever records it again.
    department.consent().record_objection(within(recorded)).await.unwrap();
    assert_eq!(code(&lifted).await, Some(Code::PermissionDenied));
    portal.citizen().set_my_objection(within(objection(true))).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn a_parent_decides_for_a_child_towards_the_administration_that_saw_the_proof() {
    let sandbox = Sandbox::start().await;
    let (department, portal) = (sandbox.client("departement").await, sandbox.client("portail").await);
    let child = v1::Identity { birth_date: "2015-05-05".to_owned(), ..person("ENFANT") };
    let parent = v1::Identity { birth_date: "1980-01-01".to_owned(), ..person("PARENT") };
    let mandate = v1::RecordMandateRequest {
        agent: "agent-7".to_owned(),
        principal: Some(child.clone()),
        representative: Some(parent.clone()),
        kind: v1::MandateKind::Parent as i32,
        proof_sha256: "f0".repeat(32),
        ..Default::default()
    };
    let mandate = department.consent().record_mandate(within(mandate)).await.unwrap().into_inner().mandate.unwrap();
    let asked = v1::RequestConsentRequest {
        agent: "agent-7".to_owned(),
        subject: Some(child.clone()),
        terms: Some(terms()),
        answer_by: None,
    };
    let id = department.consent().request_consent(within(asked)).await.unwrap().into_inner().consent.unwrap().id;
    let give = |assertion| v1::GrantMyConsentRequest {
        assertion,
        consent_id: id.clone(),
        language: v1::Language::French as i32,
        attributes: Vec::new(),
        expires_at: None,
    };
    // Not in their own name, not under somebody else's mandate.
    let own = give(assertion_of(&sandbox, &parent, ""));
    assert_eq!(portal.citizen().grant_my_consent(within(own)).await.unwrap_err().code(), Code::NotFound);
    let stranger = give(assertion_of(&sandbox, &person("MARCHAND"), &mandate.id));
    assert_eq!(portal.citizen().grant_my_consent(within(stranger)).await.unwrap_err().code(), Code::NotFound);
    let acting = || assertion_of(&sandbox, &parent, &mandate.id);
    let given = portal.citizen().grant_my_consent(within(give(acting()))).await.unwrap().into_inner().consent.unwrap();
    assert_eq!((given.state(), given.mandate_id.as_str()), (v1::ConsentState::Given, mandate.id.as_str()));
    let question = v1::ExchangeRequest { subject: Some(child), ..allowance("ENFANT", Some(&id)) };
    exchange(&department, question.clone()).await.unwrap();
    assert_eq!(exchanges(&portal, acting()).await.len(), 1);
    let mandates = v1::ListMyMandatesRequest { assertion: assertion_of(&sandbox, &parent, "") };
    let mandates = portal.citizen().list_my_mandates(within(mandates)).await.unwrap().into_inner().mandates;
    assert!(mandates.len() == 1 && mandates[0].i_act);
    let end =
        v1::EndMyMandateRequest { assertion: assertion_of(&sandbox, &parent, ""), mandate_id: mandate.id.clone() };
    portal.citizen().end_my_mandate(within(end)).await.unwrap();
    assert_refused(
        exchange(&department, v1::ExchangeRequest { request_id: "after".to_owned(), ..question }).await,
        "MANDATE_ENDED",
    );
    assert_eq!(decide(&portal, acting(), &id, v1::Decision::Withdraw).await.unwrap_err().code(), Code::NotFound);
    sandbox.finish().await;
}
