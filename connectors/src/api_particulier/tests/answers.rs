//! Each status and code, and each form of a body.

use super::*;

#[tokio::test]
async fn each_attribute_asked_comes_from_its_place_in_the_body() {
    let answer = answer_to(Reply::json(200, &body()), &ALL).await.unwrap();
    let values: Vec<Value> = answer
        .outcomes
        .iter()
        .map(|(_, outcome)| match outcome {
            Outcome::Found(value) => value.clone(),
            Outcome::Missing(code) => panic!("{code:?}"),
        })
        .collect();
    // A quotient of 0 and an empty list are values.
    let expected = json!([0, "CNAF", 2026, 4, 2026, 4, [{"nom_naissance": "LEFEVRE"}], [], {"pays": "FRANCE"}]);
    assert_eq!(Value::Array(values), expected);
    assert_eq!(answer.reference.as_deref(), Some("source-ref-1"));
}

#[tokio::test]
async fn a_null_is_a_value_and_an_absent_field_is_a_scope_that_the_token_lacks() {
    let mut body = body();
    body["data"]["quotient_familial"]["valeur"] = Value::Null;
    body["data"]["enfants"] = Value::Null;
    body["data"].as_object_mut().unwrap().remove("adresse");
    let answer = answer_to(Reply::json(200, &body), &["valeur", "enfants", "adresse", "annee"]).await.unwrap();
    let outcomes: Vec<_> = answer.outcomes.iter().map(|(_, o)| o.clone()).collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Found(Value::Null),
            Outcome::Found(Value::Null),
            Outcome::Missing(OutcomeCode::NotAuthorised),
            Outcome::Found(json!(2026))
        ]
    );
}

#[tokio::test]
async fn a_null_whole_has_null_parts() {
    let body = json!({"data": {"quotient_familial": null}});
    let answer = answer_to(Reply::json(200, &body), &["valeur"]).await.unwrap();
    assert_eq!(answer.outcomes[0].1, Outcome::Found(Value::Null));
}

#[tokio::test]
async fn a_body_of_another_form_is_untrusted() {
    for body in [
        json!({}),
        json!([]),
        json!({"data": []}),
        json!({"data": null}),
        json!({"data": {"quotient_familial": []}}),
        json!({"data": {"quotient_familial": {}}}),
        json!({"data": {"quotient_familial": {"valeur": "150"}}}),
        json!({"data": {"quotient_familial": {"valeur": 150.5}}}),
        json!({"data": {"quotient_familial": {"valeur": [150]}}}),
    ] {
        let fault = answer_to(Reply::json(200, &body), &["valeur"]).await.unwrap_err();
        assert_eq!(fault.code(), "untrusted", "{body}");
    }
    for text in ["", "{", "null", "{\"data\":{}", "\u{feff}{}", &"[".repeat(10_000)] {
        let fault = answer_to(Reply::with_type(200, "application/json", text), &["valeur"]).await.unwrap_err();
        assert_eq!(fault.code(), "untrusted", "{}", text.len());
    }
}

#[tokio::test]
async fn an_answer_may_be_compressed_or_have_a_mark_and_a_bomb_is_cut_off() {
    let compressed = |text: &str| {
        use std::io::Write;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(text.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        let head = format!(
            "HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            packed.len()
        );
        Reply::Raw([head.into_bytes(), packed].concat())
    };
    let body = body().to_string();
    for good in [compressed(&body), Reply::with_type(200, "application/json", &format!("\u{feff}{body}"))] {
        assert_eq!(codes(&answer_to(good, &["valeur"]).await.unwrap()), [OutcomeCode::Found]);
    }
    let bomb = format!("{body}{}", " ".repeat(8 << 20));
    assert_eq!(answer_to(compressed(&bomb), &["valeur"]).await.unwrap_err().code(), "untrusted");
    let doubled = body.replace("\"valeur\":0", "\"valeur\":742,\"valeur\":0");
    assert_ne!(doubled, body);
    let fault = answer_to(Reply::with_type(200, "application/json", &doubled), &["valeur"]).await.unwrap_err();
    assert_eq!(fault.code(), "untrusted");
}

#[tokio::test]
async fn another_content_type_is_untrusted() {
    for content_type in ["text/html", "text/plain", "application/jsonp", "", "application/hal+json"] {
        let reply = Reply::with_type(200, content_type, &body().to_string());
        assert_eq!(answer_to(reply, &["valeur"]).await.unwrap_err().code(), "untrusted", "{content_type}");
    }
    let reply = Reply::with_type(200, "Application/JSON;charset=UTF-8", &body().to_string());
    assert!(answer_to(reply, &["valeur"]).await.is_ok());
}

#[tokio::test]
async fn each_code_of_the_error_table_has_its_outcome() {
    for (status, code, outcome) in [
        (404, "37003", OutcomeCode::NoFile),
        (404, "35003", OutcomeCode::NoFile),
        (422, "00355", OutcomeCode::NotIdentified),
        (422, "00366", OutcomeCode::NotIdentified),
        (422, "00363", OutcomeCode::NotIdentified),
        (422, "00400", OutcomeCode::NotIdentified),
        (422, "00420", OutcomeCode::NotIdentified),
        (422, "00428", OutcomeCode::NotIdentified),
        (422, "39400", OutcomeCode::NoFile),
        (422, "23502", OutcomeCode::NoFile),
        (422, "00356", OutcomeCode::FilterRefused),
        (422, "00354", OutcomeCode::FilterRefused),
        (422, "00368", OutcomeCode::FilterRefused),
        (422, "00391", OutcomeCode::Ambiguous),
        (409, "00391", OutcomeCode::Ambiguous),
        (422, "37015", OutcomeCode::Ambiguous),
        (409, "37015", OutcomeCode::Ambiguous),
    ] {
        let answer = answer_to(Reply::error(status, code, "Titre"), &["valeur", "enfants"]).await.unwrap();
        assert_eq!(codes(&answer), [outcome, outcome], "{status} {code}");
        assert_eq!(answer.reference.as_deref(), Some("source-ref-1"));
    }
}

#[tokio::test]
async fn each_failing_status_is_its_fault() {
    for (status, code, fault) in [
        (400, "00201", "untrusted"),
        (401, "00101", "not_authorised"),
        (401, "00103", "not_authorised"),
        (403, "00100", "not_authorised"),
        (404, "00404", "untrusted"),
        (409, "00999", "untrusted"),
        (410, "37007", "untrusted"),
        (422, "00203", "untrusted"),
        (422, "00015", "untrusted"),
        (418, "37003", "untrusted"),
        (429, "00429", "rate_limited"),
        (500, "00500", "untrusted"),
        (502, "37999", "down"),
        (503, "37001", "down"),
        (504, "37002", "down"),
        (204, "", "untrusted"),
        (206, "", "untrusted"),
    ] {
        let found = answer_to(Reply::error(status, code, "Titre"), &["valeur"]).await.unwrap_err();
        assert_eq!(found.code(), fault, "{status} {code}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_error_of_the_api_is_judged_by_its_status() {
    for body in ["", "{", "[]", "{\"errors\":[]}", "{\"errors\":[{\"code\":12}]}", "{\"errors\":{}}"] {
        for (status, fault) in
            [(404, "untrusted"), (422, "untrusted"), (429, "rate_limited"), (401, "not_authorised"), (503, "down")]
        {
            let reply = Reply::with_type(status, "application/json", body);
            assert_eq!(answer_to(reply, &["valeur"]).await.unwrap_err().code(), fault, "{status} {body}");
        }
    }
    // A gateway in front of the API speaks HTML.
    let html = |status| Reply::with_type(status, "text/html", "<h1>x</h1>");
    assert_eq!(answer_to(html(502), &["valeur"]).await.unwrap_err().code(), "down");
    assert_eq!(answer_to(html(404), &["valeur"]).await.unwrap_err().code(), "untrusted");
}

#[tokio::test]
async fn a_failure_that_calls_itself_not_found_is_a_failure() {
    let fault = answer_to(Reply::error(404, "35003", "Erreur inattendue"), &["valeur"]).await.unwrap_err();
    assert_eq!(fault.code(), "down");
}

#[tokio::test]
async fn the_persons_own_token_that_is_of_no_use_any_more_is_no_fault_of_the_broker() {
    for (status, code) in [(401, "50002"), (401, "50001"), (422, "50003"), (400, "50001")] {
        let server = Server::start(vec![Reply::error(status, code, "Titre")]).await;
        let asked = asked(&["valeur"]).with_token("fc-token-1");
        let answer = connector(&server.url()).fetch(asked.fetch()).await.unwrap();
        assert_eq!(codes(&answer), [OutcomeCode::NotIdentified], "{status} {code}");
    }
}

#[tokio::test]
async fn a_question_in_progress_is_asked_again_until_it_is_answered() {
    let busy = || Reply::error(409, "00015", "Conflit");
    let server = Server::start(vec![busy(), busy(), Reply::json(200, &body())]).await;
    let answer = connector(&server.url()).fetch(asked(&["valeur"]).fetch()).await.unwrap();
    assert_eq!(codes(&answer), [OutcomeCode::Found]);
    assert_eq!(server.requests().len(), 3);

    let server = Server::start(vec![busy()]).await;
    let fault = connector(&server.url()).fetch(asked(&["valeur"]).fetch()).await.unwrap_err();
    assert_eq!((fault, server.requests().len()), (STILL_IN_PROGRESS, 1 + IN_PROGRESS_PAUSES.len()));
}

#[tokio::test]
async fn a_question_in_progress_is_not_asked_again_past_the_deadline() {
    let server = Server::start(vec![Reply::error(409, "00015", "Conflit")]).await;
    let mut asked = asked(&["valeur"]);
    asked.timeout = IN_PROGRESS_PAUSES[0] / 2;
    let fault = connector(&server.url()).fetch(asked.fetch()).await.unwrap_err();
    assert_eq!((fault, server.requests().len()), (STILL_IN_PROGRESS, 1));
}

#[tokio::test]
async fn a_part_whose_scope_the_token_lacks_is_told_apart_from_one_that_must_be_there() {
    let contract = json!({"contrat_trouve": true, "date_debut_contrat": null});
    let server = Server::start(vec![Reply::json(200, &json!({"data": {"statut_actuel": contract}}))]).await;
    let attributes = ["actuel_contrat_trouve", "actuel_date_debut_contrat", "actuel_organisme_accueil"];
    let asked = Asked::new("gip_mds.service_civique", &attributes);
    let answer = connector(&server.url()).fetch(asked.fetch()).await.unwrap();
    assert_eq!(codes(&answer), [OutcomeCode::Found, OutcomeCode::Found, OutcomeCode::NotAuthorised]);
    assert_eq!(answer.outcomes[1].1, Outcome::Found(Value::Null));

    let server = Server::start(vec![Reply::json(200, &json!({"data": {"statut_actuel": {}}}))]).await;
    let fault = connector(&server.url()).fetch(asked.fetch()).await.unwrap_err();
    assert_eq!(fault, SourceFault::Untrusted("a field of the answer is missing"));
}

#[tokio::test]
async fn the_same_field_of_each_item_is_a_list() {
    let values = async |admissions: Value| {
        let server = Server::start(vec![Reply::json(200, &json!({"data": {"admissions": admissions}}))]).await;
        let asked = Asked::new("mesri.statut_etudiant", &["admissions_est_inscrit"]);
        connector(&server.url()).fetch(asked.fetch()).await.map(|answer| answer.outcomes[0].1.clone())
    };
    let two = json!([{"est_inscrit": true, "date_debut": "2025-09-01"}, {"est_inscrit": false}]);
    assert_eq!(values(two).await, Ok(Outcome::Found(json!([true, false]))));
    assert_eq!(values(json!([])).await, Ok(Outcome::Found(json!([]))));
    assert_eq!(values(Value::Null).await, Ok(Outcome::Found(Value::Null)));
    let one_without = json!([{"est_inscrit": true}, {}]);
    assert_eq!(values(one_without).await, Ok(Outcome::Found(json!([true, null]))));
    let no_scope = json!([{"date_debut": "2025-09-01"}]);
    assert_eq!(values(no_scope).await, Ok(Outcome::Missing(OutcomeCode::NotAuthorised)));
    for wrong in [json!({"est_inscrit": true}), json!([{"est_inscrit": "oui"}]), json!([true])] {
        assert_eq!(values(wrong).await.unwrap_err().code(), "untrusted");
    }
}

#[tokio::test]
async fn types_are_checked_below_the_surface() {
    for (attribute, body) in [
        ("enfants", json!({"data": {"enfants": [{"nom_naissance": 12}]}})),
        ("enfants", json!({"data": {"enfants": ["Lefebvre"]}})),
        ("adresse", json!({"data": {"adresse": {"pays": ["FRANCE"]}}})),
        ("adresse", json!({"data": {"adresse": []}})),
    ] {
        let fault = answer_to(Reply::json(200, &body), &[attribute]).await.unwrap_err();
        assert_eq!(fault.code(), "untrusted", "{body}");
    }
    // A field that the table does not know is the source's business.
    let body = json!({"data": {"enfants": [{"nom_naissance": null, "rang": 2}]}});
    assert_eq!(codes(&answer_to(Reply::json(200, &body), &["enfants"]).await.unwrap()), [OutcomeCode::Found]);
}
