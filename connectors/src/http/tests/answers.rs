//! What comes back: outcomes by status, error code, record and JSONPath.

use super::*;

#[tokio::test]
async fn only_what_was_asked_is_taken_from_the_answer() {
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    let connector = open(&server.url(), dataset());
    let answer = connector.fetch(asked().fetch()).await.unwrap();
    assert_eq!(outcomes(&answer), [Outcome::Found(json!(700)), Outcome::Found(json!("CM2"))]);
    assert_eq!(answer.reference.as_deref(), Some("source-ref-1"));
    let one = Asked::new(DATASET, &["classe"]);
    let answer = connector.fetch(one.fetch()).await.unwrap();
    assert_eq!(outcomes(&answer), [Outcome::Found(json!("CM2"))]);
}

#[tokio::test]
async fn each_status_means_what_the_configuration_says_and_others_are_faults() {
    let empty = json!({});
    for (status, code) in [
        (404, OutcomeCode::NoFile),
        (409, OutcomeCode::Ambiguous),
        (422, OutcomeCode::NotIdentified),
        (400, OutcomeCode::FilterRefused),
    ] {
        let answer = answer_to(Reply::json(status, &empty), dataset()).await.unwrap();
        assert_eq!(codes(&answer), [code; 2], "{status}");
    }
    for (status, code) in [
        (401, "not_authorised"),
        (403, "not_authorised"),
        (429, "rate_limited"),
        (500, "down"),
        (503, "down"),
        (201, "untrusted"),
        (418, "untrusted"),
    ] {
        let fault = answer_to(Reply::json(status, &body()), dataset()).await.unwrap_err();
        assert_eq!(fault.code(), code, "{status}");
    }
    // What HTTP says can be said otherwise.
    let other = with(&dataset(), "statuses", json!({"403": "NO_FILE", "201": "FOUND", "200": "SOURCE_DOWN"}));
    assert_eq!(codes(&answer_to(Reply::json(403, &empty), other.clone()).await.unwrap()), [OutcomeCode::NoFile; 2]);
    assert_eq!(codes(&answer_to(Reply::json(201, &body()), other.clone()).await.unwrap()), [OutcomeCode::Found; 2]);
    assert_eq!(answer_to(Reply::json(200, &body()), other).await.unwrap_err().code(), "untrusted");
}

#[tokio::test]
async fn a_web_servers_own_page_tells_nobody_that_they_have_no_file() {
    let page = Reply::with_type(404, "text/html", "<h1>Not Found</h1>");
    let fault = answer_to(page, dataset()).await.unwrap_err();
    assert_eq!(fault.code(), "untrusted");
    let empty = Reply::with_type(404, "text/plain", "");
    assert_eq!(codes(&answer_to(empty, dataset()).await.unwrap()), [OutcomeCode::NoFile; 2]);
}

#[tokio::test]
async fn an_error_code_says_more_than_the_status_and_an_unknown_one_is_never_good() {
    let mut dataset = with(&dataset(), "error_code", json!("$.errors[*].code"));
    dataset["errors"] = json!({"E12": "NO_FILE", "7": "AMBIGUOUS", "KEY": "NOT_AUTHORISED", "OK": "FOUND"});
    let with_code = |code: Value| {
        let mut body = body();
        body["errors"] = json!([{"code": code}]);
        body
    };
    for (status, code, expected) in [
        (200, json!("E12"), Ok(OutcomeCode::NoFile)),
        (500, json!("E12"), Ok(OutcomeCode::NoFile)),
        (422, json!(7), Ok(OutcomeCode::Ambiguous)),
        (200, json!("OK"), Ok(OutcomeCode::Found)),
        (200, json!(null), Ok(OutcomeCode::Found)),
        (404, json!("OK"), Ok(OutcomeCode::NoFile)),
        (404, json!(null), Ok(OutcomeCode::NoFile)),
        (500, json!("OK"), Err("down")),
        (200, json!("E99"), Err("untrusted")),
        (404, json!("E99"), Err("untrusted")),
        (200, json!("KEY"), Err("not_authorised")),
        (401, json!("E99"), Err("not_authorised")),
        (429, json!("E99"), Err("rate_limited")),
        (429, json!("E12"), Ok(OutcomeCode::NoFile)),
    ] {
        let answer = answer_to(Reply::json(status, &with_code(code.clone())), dataset.clone()).await;
        let answer = answer.map(|answer| codes(&answer)[0]).map_err(|fault| fault.code());
        assert_eq!(answer, expected, "{status} {code}");
    }
}

#[tokio::test]
async fn none_and_several_records_are_no_file_and_ambiguous_and_none_is_picked() {
    let dataset = with(&dataset(), "records", json!("$.dossiers[?@.ouvert == true]"));
    let one = || json!({"ouvert": true, "quotient": 700, "enfant": {"classe": "CM2"}});
    let closed = json!({"ouvert": false, "quotient": 1, "enfant": {"classe": "CP"}});
    for (dossiers, code) in [
        (json!([]), OutcomeCode::NoFile),
        (json!([closed]), OutcomeCode::NoFile),
        (json!([closed, one()]), OutcomeCode::Found),
        (json!([one(), one()]), OutcomeCode::Ambiguous),
    ] {
        let reply = Reply::json(200, &json!({"dossiers": dossiers}));
        assert_eq!(codes(&answer_to(reply, dataset.clone()).await.unwrap()), [code; 2]);
    }
}

#[tokio::test]
async fn a_value_of_another_type_is_untrusted_and_null_is_a_value() {
    for (quotient, is_right) in [
        (json!(0), true),
        (json!(null), true),
        (json!("700"), false),
        (json!(7.5), false),
        (json!([700]), false),
        (json!(true), false),
    ] {
        let answer = answer_to(Reply::json(200, &with(&body(), "quotient", quotient.clone())), dataset()).await;
        match answer {
            Ok(answer) => assert!(is_right && outcomes(&answer)[0] == Outcome::Found(quotient)),
            Err(fault) => assert!(!is_right && fault.code() == "untrusted", "{quotient}"),
        }
    }
}

#[tokio::test]
async fn a_missing_field_is_a_fault_unless_it_means_something_and_several_are_one() {
    let lacking = json!({"quotient": 700});
    assert_eq!(answer_to(Reply::json(200, &lacking), dataset()).await.unwrap_err().code(), "untrusted");
    let mut said = dataset();
    said["attributes"]["classe"]["absent"] = json!("NO_FILE");
    let answer = answer_to(Reply::json(200, &lacking), said).await.unwrap();
    assert_eq!(codes(&answer), [OutcomeCode::Found, OutcomeCode::NoFile]);

    let mut listed = dataset();
    listed["attributes"]["classe"] = json!({"at": "$.enfants[*].classe", "type": "text"});
    let two = json!({"quotient": 1, "enfants": [{"classe": "CP"}, {"classe": "CM1"}]});
    assert_eq!(answer_to(Reply::json(200, &two), listed.clone()).await.unwrap_err().code(), "untrusted");
    listed["attributes"]["classe"]["all"] = json!(true);
    let answer = answer_to(Reply::json(200, &two), listed.clone()).await.unwrap();
    assert_eq!(outcomes(&answer)[1], Outcome::Found(json!(["CP", "CM1"])));
    let mixed = json!({"quotient": 1, "enfants": [{"classe": "CP"}, {"classe": 3}]});
    assert_eq!(answer_to(Reply::json(200, &mixed), listed).await.unwrap_err().code(), "untrusted");
}
