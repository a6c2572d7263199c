//! An exchange, from the question to the receipt.

use std::time::Duration;

use tonic::Code;
use unefois_audit::Receipt;
use unefois_connectors::SourceFault;
use unefois_consent::{Event, Reason};
use unefois_proto::v1::{self, AttributeStatus};
use unefois_proto::value::to_json;
use unefois_tests::ask::*;
use unefois_tests::sandbox::Sandbox;
use unefois_tests::world;

#[tokio::test]
async fn an_answer_carries_the_attribute_its_provenance_and_a_receipt_that_verifies_offline() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    let answer = exchange(&town_hall, canteen("MARCHAND")).await.unwrap();
    assert_eq!(only_status(&answer), AttributeStatus::Found);
    assert_eq!(to_json(answer.attributes[0].value.as_ref().unwrap()), 742);
    let from = answer.attributes[0].provenance.clone().unwrap();
    assert_eq!(
        (from.source.as_str(), from.dataset_version.as_str(), from.reference.as_str()),
        ("13002526500013", "v3", "scripted")
    );
    let receipt = Receipt::from_json(&answer.receipt).unwrap();
    let verified = receipt.verify(&sandbox.key).unwrap();
    let Event::Answered(record) = serde_json::from_str(receipt.record()).unwrap() else { panic!("not an answer") };
    assert_eq!(record.exchange.to_string(), answer.exchange_id);
    assert!(record.requested < verified.index);
    let values = unefois_audit::canonical_json(&serde_json::json!({ QUOTIENT: 742 }));
    assert_eq!(
        unefois_audit::answer_digest(receipt.answer_salt.as_ref().unwrap(), values.as_bytes()).0,
        record.answer.0
    );
    sandbox.finish().await;
}

#[tokio::test]
async fn what_was_not_asked_does_not_pass_even_if_the_source_sends_it() {
    let sandbox = Sandbox::start().await;
    sandbox.source.add_unasked("dss.quotient_familial.adresse", "3 rue de l'Exemple".into());
    let answer = exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    assert_eq!(only_status(&answer), AttributeStatus::Found);
    assert!(!format!("{answer:?}").contains("Exemple"));
    sandbox.finish().await;
}

#[tokio::test]
async fn attributes_of_several_datasets_come_in_the_order_asked() {
    let sandbox = Sandbox::start().await;
    let question = v1::ExchangeRequest { attributes: vec![CHILDREN.into(), QUOTIENT.into()], ..canteen("MARCHAND") };
    let answer = exchange(&sandbox.client("ville").await, question).await.unwrap();
    assert_eq!(answer.attributes.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), [CHILDREN, QUOTIENT]);
    assert_eq!(sandbox.source.asked(), 2);
    sandbox.finish().await;
}

#[tokio::test]
async fn no_source_is_asked_before_its_entry_is_durable_and_no_answer_leaves_before_its_own() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    sandbox.source.hold();
    let asking = tokio::spawn({
        let town_hall = town_hall.clone();
        async move { exchange(&town_hall, canteen("MARCHAND")).await }
    });
    sandbox.source.was_asked(1).await;
    // What another process reads from the disk now is durable.
    let last = world::events(&sandbox.data()).pop().unwrap();
    assert!(matches!(last.1, Event::Requested(_)), "{last:?}");
    sandbox.source.release();
    let answer = asking.await.unwrap().unwrap();
    let index = Receipt::from_json(&answer.receipt).unwrap().verify(&sandbox.key).unwrap().index;
    let events = world::events(&sandbox.data());
    assert!(matches!(events[usize::try_from(index).unwrap()].1, Event::Answered(_)));
    sandbox.finish().await;
}

#[tokio::test]
async fn a_retry_is_the_same_exchange_and_a_reused_id_is_refused() {
    let sandbox = Sandbox::start().await;
    let department = sandbox.client("departement").await;
    let once = grant_on("MARCHAND", |terms| terms.r#use = v1::ConsentUse::OneTime as i32);
    let id = granted(&department, once).await;
    let question = allowance("MARCHAND", Some(&id));
    let first = exchange(&department, question.clone()).await.unwrap();
    let again = exchange(&department, question.clone()).await.unwrap();
    assert_eq!(again.exchange_id, first.exchange_id);
    assert_eq!(only_status(&again), AttributeStatus::Found);
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_USED");
    let other = v1::ExchangeRequest { agent: "another".to_owned(), ..question };
    assert_refused(exchange(&department, other).await, "REQUEST_ID_REUSED");
    // Another participant's request ids are its own.
    let same_name = v1::ExchangeRequest { request_id: "order-1".to_owned(), ..canteen("MARCHAND") };
    exchange(&sandbox.client("ville").await, same_name.clone()).await.unwrap();
    assert_refused(exchange(&department, same_name).await, "HABILITATION_MISSING");
    sandbox.finish().await;
}

#[tokio::test]
async fn callers_of_one_exchange_under_way_share_its_answer_and_its_question() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    sandbox.source.hold();
    let question = canteen("MARCHAND");
    let ask = || {
        tokio::spawn({
            let (town_hall, question) = (town_hall.clone(), question.clone());
            async move { exchange(&town_hall, question).await.unwrap() }
        })
    };
    let calls: Vec<_> = (0..8).map(|_| ask()).collect();
    sandbox.source.was_asked(1).await;
    sandbox.source.release();
    let mut receipts = std::collections::BTreeSet::new();
    for call in calls {
        receipts.insert(call.await.unwrap().receipt);
    }
    assert!(sandbox.source.asked() <= 2, "asked {} times", sandbox.source.asked());
    assert!(receipts.len() <= 2);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_an_exchange_that_ends() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    sandbox.source.hold();
    let question = canteen("MARCHAND");
    let asking = tokio::spawn({
        let (town_hall, question) = (town_hall.clone(), question.clone());
        async move { exchange(&town_hall, question).await }
    });
    sandbox.source.was_asked(1).await;
    asking.abort();
    sandbox.source.release();
    // The retry gets the answer of the exchange that went on, or asks again under the same name.
    let answer = exchange(&town_hall, question).await.unwrap();
    assert_eq!(only_status(&answer), AttributeStatus::Found);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_withdrawal_while_the_source_is_asked_drops_the_data() {
    let sandbox = Sandbox::start().await;
    let department = sandbox.client("departement").await;
    let id = granted(&department, grant("MARCHAND")).await;
    sandbox.source.hold();
    let asking = tokio::spawn({
        let (department, question) = (department.clone(), allowance("MARCHAND", Some(&id)));
        async move { exchange(&department, question).await.unwrap() }
    });
    sandbox.source.was_asked(1).await;
    withdraw(&department, &id).await;
    sandbox.source.release();
    let answer = asking.await.unwrap();
    assert_eq!(only_status(&answer), AttributeStatus::Withheld);
    assert!(answer.attributes[0].value.is_none() && answer.attributes[0].provenance.is_none());
    assert_eq!(answer.withheld_reasons, [Reason::ConsentWithdrawn.code()]);
    let receipt = Receipt::from_json(&answer.receipt).unwrap();
    receipt.verify(&sandbox.key).unwrap();
    assert!(receipt.record().starts_with("{\"dropped\""));
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_WITHDRAWN");
    sandbox.finish().await;
}

#[tokio::test]
async fn a_habilitation_revoked_while_the_source_is_asked_drops_the_data() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    sandbox.source.hold();
    let asking = tokio::spawn({
        let town_hall = town_hall.clone();
        async move { exchange(&town_hall, canteen("MARCHAND")).await.unwrap() }
    });
    sandbox.source.was_asked(1).await;
    sandbox
        .change_registry(|file| {
            let held = file.habilitations.iter_mut().find(|h| h.id.as_str() == "saint-exemple-cantine").unwrap();
            held.status = unefois_consent::registry::HabilitationStatus::Revoked;
        })
        .await;
    sandbox.source.release();
    let answer = asking.await.unwrap();
    assert_eq!(only_status(&answer), AttributeStatus::Withheld);
    assert_eq!(answer.withheld_reasons, [Reason::HabilitationNotActive.code()]);
    assert_refused(exchange(&town_hall, canteen("MARCHAND")).await, "HABILITATION_NOT_ACTIVE");
    sandbox.finish().await;
}

#[tokio::test]
async fn an_objection_while_the_source_is_asked_drops_a_proactive_answer() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    sandbox.change_registry(allow_proactive).await;
    sandbox.source.hold();
    let asking = tokio::spawn({
        let town_hall = town_hall.clone();
        async move { exchange(&town_hall, proactive(canteen("MARCHAND"))).await.unwrap() }
    });
    sandbox.source.was_asked(1).await;
    object(&town_hall, "MARCHAND").await;
    sandbox.source.release();
    let answer = asking.await.unwrap();
    assert_eq!(only_status(&answer), AttributeStatus::Withheld);
    assert!(answer.attributes[0].value.is_none() && answer.attributes[0].provenance.is_none());
    assert_eq!(answer.withheld_reasons, [Reason::Objection.code()]);
    assert_refused(exchange(&town_hall, proactive(canteen("MARCHAND"))).await, "OBJECTION");
    // An objection is against proactive use: what the person asks for goes on, and so does what concerns others.
    assert_eq!(only_status(&exchange(&town_hall, canteen("MARCHAND")).await.unwrap()), AttributeStatus::Found);
    let other = exchange(&town_hall, proactive(canteen("DUPONT"))).await.unwrap();
    assert_eq!(only_status(&other), AttributeStatus::Found);
    sandbox.finish().await;
}

#[tokio::test]
async fn each_fault_of_a_source_is_a_status_of_its_attributes_and_never_an_error() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    for (fault, status) in [
        (SourceFault::Down("test"), AttributeStatus::SourceDown),
        (SourceFault::Timeout, AttributeStatus::SourceDown),
        (SourceFault::Untrusted("test"), AttributeStatus::SourceDown),
        (SourceFault::RateLimited("test"), AttributeStatus::RateLimited),
        (SourceFault::NotAuthorised("test"), AttributeStatus::NotAuthorised),
    ] {
        sandbox.source.next(Err(fault));
        let answer = exchange(&town_hall, canteen("MARCHAND")).await.unwrap();
        assert_eq!(only_status(&answer), status);
        assert!(answer.attributes[0].value.is_none());
        Receipt::from_json(&answer.receipt).unwrap().verify(&sandbox.key).unwrap();
    }
    // One source that fails does not take the others' values away.
    sandbox.source.script(|fetch| match fetch.dataset.dataset.id.as_str() {
        "dss.quotient_familial" => Err(SourceFault::Down("test")),
        _ => Ok(2.into()),
    });
    let question = v1::ExchangeRequest { attributes: vec![QUOTIENT.into(), CHILDREN.into()], ..canteen("MARCHAND") };
    let answer = exchange(&town_hall, question).await.unwrap();
    let statuses: Vec<_> = answer.attributes.iter().map(v1::Attribute::status).collect();
    assert_eq!(statuses, [AttributeStatus::SourceDown, AttributeStatus::Found]);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_slow_source_is_given_up_before_the_callers_deadline() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    sandbox.source.hold();
    let begun = std::time::Instant::now();
    let time = Duration::from_secs(3);
    let request = within_time(canteen("MARCHAND"), time);
    let answer = town_hall.exchange().exchange(request).await.unwrap().into_inner();
    assert_eq!(only_status(&answer), AttributeStatus::SourceDown);
    assert!(begun.elapsed() < time);
    sandbox.source.release();
    sandbox.finish().await;
}

#[tokio::test]
async fn a_deadline_is_required_and_an_expired_one_asks_nobody() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    let outcome = town_hall.exchange().exchange(tonic::Request::new(canteen("MARCHAND"))).await;
    let status = outcome.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "DEADLINE_REQUIRED"));
    let status = town_hall.exchange().exchange(within_time(canteen("MARCHAND"), Duration::ZERO)).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    assert_eq!(sandbox.source.asked(), 0);
    sandbox.finish().await;
}

#[tokio::test]
async fn an_auditor_reads_entries_and_receipts_and_leaves_a_trace() {
    let mut sandbox = Sandbox::start().await;
    let (town_hall, auditor) = (sandbox.client("ville").await, sandbox.client("dpo").await);
    let answer = exchange(&town_hall, canteen("MARCHAND")).await.unwrap();
    let index = Receipt::from_json(&answer.receipt).unwrap().verify(&sandbox.key).unwrap().index;
    for client in [&auditor, &town_hall] {
        let receipt = client
            .audit()
            .get_receipt(within(v1::GetReceiptRequest { index, origin: String::new() }))
            .await
            .unwrap()
            .into_inner();
        let receipt = Receipt::from_json(&receipt.receipt).unwrap();
        assert_eq!(receipt.verify(&sandbox.key).unwrap().index, index);
    }
    // Another consumer's receipt reads as if it did not exist.
    let department = sandbox.client("departement").await;
    let status = department
        .audit()
        .get_receipt(within(v1::GetReceiptRequest { index, origin: String::new() }))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let page = auditor.audit().list_entries(within(v1::ListEntriesRequest { start: 0, page_size: 5 })).await.unwrap();
    let page = page.into_inner();
    assert_eq!((page.entries.len(), page.next_start), (5, 5));
    assert!(page.entries[0].record.contains("log_opened"));
    sandbox.stop().await;
    let reads = world::events(&sandbox.data()).into_iter().filter(|(_, e)| matches!(e, Event::TracesRead(_))).count();
    assert_eq!(reads, 3);
    sandbox.finish().await;
}

#[tokio::test]
async fn proofs_lead_to_the_newest_checkpoint() {
    use unefois_audit::{Checkpoint, Hash, verify_consistency, verify_inclusion};
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    let open = |note: &str| Checkpoint::open(note, &sandbox.key, sandbox.key.name()).unwrap();
    let hashes = |bytes: &[Vec<u8>]| bytes.iter().map(|h| Hash(h.as_slice().try_into().unwrap())).collect::<Vec<_>>();
    let mut heads = Vec::new();
    for _ in 0..12 {
        exchange(&town_hall, canteen("MARCHAND")).await.unwrap();
        let answer = town_hall.audit().get_checkpoint(within(v1::GetCheckpointRequest {})).await.unwrap().into_inner();
        assert_eq!(answer.verifier_key, sandbox.key.to_string());
        heads.push(open(&answer.checkpoint));
    }
    for old in &heads {
        let request = within(v1::GetConsistencyProofRequest { old_size: old.size });
        let answer = town_hall.audit().get_consistency_proof(request).await.unwrap().into_inner();
        let new = open(&answer.checkpoint);
        verify_consistency(old.size, new.size, &hashes(&answer.hashes), &old.root, &new.root).unwrap();
    }
    let auditor = sandbox.client("dpo").await;
    let page = auditor.audit().list_entries(within(v1::ListEntriesRequest { start: 0, page_size: 0 })).await.unwrap();
    for entry in page.into_inner().entries {
        let request = within(v1::GetInclusionProofRequest { index: entry.index });
        let answer = town_hall.audit().get_inclusion_proof(request).await.unwrap().into_inner();
        let head = open(&answer.checkpoint);
        let leaf = unefois_audit::leaf_hash(&entry.leaf);
        verify_inclusion(&leaf, entry.index, head.size, &hashes(&answer.hashes), &head.root).unwrap();
    }
    sandbox.finish().await;
}
