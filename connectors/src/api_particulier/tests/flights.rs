//! The same question asked twice at once.

use futures_util::future::{join_all, poll_immediate};

use super::*;
use crate::api_particulier::answer::Said;
use crate::flight::{Flights, key};

#[tokio::test]
async fn the_same_question_asked_at_once_goes_to_the_api_once() {
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    let connector = connector(&server.url());
    // Attributes of one dataset come from one call, whoever asks which.
    let asked = [asked(&["valeur"]), asked(&["annee", "valeur"]), asked(&["adresse"])];
    let answers = join_all(asked.iter().map(|asked| connector.fetch(asked.fetch()))).await;
    assert_eq!(server.requests().len(), 1);
    let answered: Vec<usize> = answers.into_iter().map(|answer| answer.unwrap().outcomes.len()).collect();
    assert_eq!(answered, [1, 2, 1], "each gets what it asked and no more");
    // Nothing is kept: a later question is asked anew.
    connector.fetch(asked[0].fetch()).await.unwrap();
    assert_eq!((server.requests().len(), connector.flights.under_way()), (2, 0));
}

#[tokio::test]
async fn questions_that_differ_in_anything_do_not_share_an_answer() {
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    let connector = connector(&server.url());
    let all = [
        asked(&["valeur"]),
        asked(&["valeur"]).about(identity("Autre", &["Gérôme"], "1982-12-07")),
        Asked::filtered(DATASET, &["valeur"], &[("annee", "2026")]),
        asked(&["valeur"]).with_token("fc-token-1"),
        asked(&["valeur"]).with_token("fc-token-2"),
        Asked::new("dss.prime_activite", &["est_beneficiaire"]),
    ];
    join_all(all.iter().map(|asked| connector.fetch(asked.fetch()))).await;
    assert_eq!(server.requests().len(), all.len());
}

fn said() -> Result<Said, SourceFault> {
    Ok(Said { status: 404, verdict: Verdict::Missing(OutcomeCode::NoFile), reference: None, may_keep: None })
}

#[tokio::test]
async fn where_the_one_who_asks_leaves_the_next_one_asks() {
    let flights = Flights::default();
    let mut first = Box::pin(flights.join([0; 32], async || std::future::pending().await));
    assert!(poll_immediate(&mut first).await.is_none());
    let mut second = Box::pin(flights.join([0; 32], async || said()));
    assert!(poll_immediate(&mut second).await.is_none(), "it waits for the first");
    drop(first);
    assert_eq!(second.await.unwrap().verdict, Verdict::Missing(OutcomeCode::NoFile));
    assert_eq!(flights.under_way(), 0);
}

#[tokio::test]
async fn a_fault_of_the_source_is_shared_and_a_lack_of_time_is_not() {
    for (fault, shared) in [
        (SourceFault::Down("x"), true),
        (SourceFault::Untrusted("x"), true),
        (SourceFault::NotAuthorised("x"), true),
        (SourceFault::Timeout, false),
        (SourceFault::RateLimited("x"), false),
    ] {
        let flights = Flights::default();
        let started = tokio::sync::Notify::new();
        let first = flights.join([0; 32], async || {
            started.notified().await;
            Err(fault.clone())
        });
        let second = flights.join([0; 32], async || said());
        let release = async { started.notify_one() };
        let (first, second, ()) = tokio::join!(first, second, release);
        assert_eq!(first.unwrap_err(), fault);
        assert_eq!(second.is_err(), shared, "{fault:?}");
    }
}

#[tokio::test]
async fn those_whose_askers_all_left_are_forgotten() {
    let flights = Flights::default();
    for url in ["a", "b", "c"] {
        let mut asks = Box::pin(flights.join(key([url]), async || std::future::pending().await));
        assert!(poll_immediate(&mut asks).await.is_none());
    }
    flights.join(key(["d"]), async || said()).await.unwrap();
    assert_eq!(flights.under_way(), 0);
}
