//! What goes out: each value at its place, and nothing of it as syntax.

use super::*;
use crate::testing::{EXCHANGE, RECIPIENT, identity};

/// The request that the source sees of one question.
async fn seen(dataset: Value, asked: Asked) -> String {
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    open(&server.url(), dataset).fetch(asked.fetch()).await.unwrap();
    server.requests().remove(0)
}

fn first_line(request: &str) -> &str {
    request.lines().next().unwrap()
}

#[tokio::test]
async fn each_part_of_the_question_stands_at_its_place() {
    let dataset = json!({
        "method": "POST",
        "path": "/v1/{recipient}/{birth_country}/{birth_commune}",
        "query": {
            "nom": "{birth_name}", "prenoms[]": "{given_names[]}", "tous": "{given_names}", "premier": "{given_name}",
            "jour": "{birth_date}", "usage": "{usage_name?}", "majuscules": "{birth_name_folded} {given_names_folded}",
            "accolades": "{{{sex}}}",
        },
        "headers": {"X-Nom": "nom={birth_name}", "X-Usage": "{usage_name?}"},
        "body": {
            "personne": {"nom": "{birth_name}", "usage": "{usage_name?}", "prenoms": "{given_names[]}",
                "naissance": ["{birth_year}", "{birth_month}", "{birth_day}"]},
            "page": 1, "echange": "{exchange}", "annee": "{filter.annee}",
        },
        "attributes": {"quotient": {"at": "$.quotient", "type": "integer"}},
    });
    let request = seen(dataset, Asked::filtered(DATASET, &["quotient"], &[("annee", "20\"26")])).await;
    let expected = format!(
        "POST /v1/{RECIPIENT}/99100/08480?accolades=%7BF%7D&jour=1982-12-07\
         &majuscules=LEFEVRE+D+OEUVRE+GEROME+JEAN+PHILIPPE&nom=Lef%C3%A8vre-d%27%C5%92uvre&premier=G%C3%A9r%C3%B4me\
         &prenoms%5B%5D=G%C3%A9r%C3%B4me&prenoms%5B%5D=Jean-Philippe&tous=G%C3%A9r%C3%B4me+Jean-Philippe HTTP/1.1"
    );
    assert_eq!(first_line(&request), expected);
    let (head, sent) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("x-nom: nom=Lef%C3%A8vre-d%27%C5%92uvre\r\n") && !head.contains("x-usage"), "{head}");
    assert!(head.contains(&format!("x-request-id: {EXCHANGE}")) && head.contains("content-type: application/json"));
    let expected = json!({
        "personne": {"nom": "Lefèvre-d'Œuvre", "prenoms": ["Gérôme", "Jean-Philippe"],
            "naissance": ["1982", "12", "07"]},
        "page": 1, "echange": EXCHANGE, "annee": "20\"26",
    });
    assert_eq!(serde_json::from_str::<Value>(sent).unwrap(), expected);
}

#[tokio::test]
async fn no_value_becomes_syntax_in_path_query_header_or_body() {
    let dataset = json!({
        "method": "POST", "path": "/a/{filter.annee}/z", "query": {"q": "{filter.annee}"},
        "headers": {"X-Filter": "{filter.annee}"}, "body": {"f": "{filter.annee}"},
        "attributes": {"quotient": {"at": "$.quotient", "type": "integer"}},
    });
    for value in [
        "'; DROP TABLE personnes; --",
        "../../admin",
        "a/../b",
        "%2F..%2f%00",
        "{birth_name}",
        "{{}}",
        "\", \"role\": \"admin",
        "x&admin=1#frag?y=2",
        "a;b,c=d\\..\\e",
        "é\u{2028}😀",
    ] {
        let request = seen(dataset.clone(), Asked::filtered(DATASET, &["quotient"], &[("annee", value)])).await;
        let target = first_line(&request).split(' ').nth(1).unwrap();
        let url = Url::parse(&format!("http://x{target}")).unwrap();
        let segments: Vec<_> = url.path_segments().unwrap().collect();
        assert_eq!(segments.len(), 3, "{value}: {target}");
        let decoded = percent_encoding::percent_decode_str(segments[1]).decode_utf8().unwrap();
        assert_eq!(decoded, value);
        let pairs: Vec<_> = url.query_pairs().collect();
        assert_eq!(pairs, [("q".into(), value.into())]);
        let (head, sent) = request.split_once("\r\n\r\n").unwrap();
        let header = head.lines().find_map(|line| line.strip_prefix("x-filter: ")).unwrap();
        assert_eq!(percent_encoding::percent_decode_str(header).decode_utf8().unwrap(), value);
        assert_eq!(serde_json::from_str::<Value>(sent).unwrap(), json!({"f": value}));
    }
}

#[tokio::test]
async fn a_filter_that_would_climb_or_break_a_line_is_not_sent() {
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    let dataset = with(&dataset(), "path", json!("/a/{filter.annee}/z"));
    let connector = open(&server.url(), dataset);
    for value in [".", "..", "", "a\r\nX-Admin: 1", &"x".repeat(257)] {
        let asked = Asked::filtered(DATASET, &["quotient"], &[("annee", value)]);
        let answer = connector.fetch(asked.fetch()).await.unwrap();
        assert_eq!(codes(&answer), [OutcomeCode::FilterRefused], "{value}");
        let refused = connector.check(&asked.dataset().dataset, &asked.dataset().filter, false).unwrap_err();
        assert_eq!(refused.field, "filters.mairie.cantine.annee");
    }
    let none = connector.check(&asked().dataset().dataset, &Filter::default(), false).unwrap_err();
    assert_eq!(none.field, "filters.mairie.cantine.annee");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn who_lacks_a_part_that_the_source_needs_is_not_identified_and_not_asked_for() {
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    for needed in ["{birth_date}", "{birth_month}", "{birth_day}", "{usage_name}"] {
        let connector = open(&server.url(), with(&dataset(), "query", json!({"x": needed})));
        let partial = asked().about(identity("Lefèvre", &["Anne"], "1982"));
        let answer = connector.fetch(partial.fetch()).await.unwrap();
        assert_eq!(codes(&answer), [OutcomeCode::NotIdentified; 2]);
    }
    assert!(server.requests().is_empty());
    let connector = open(&server.url(), with(&dataset(), "query", json!({"annee": "{birth_year}"})));
    let partial = asked().about(identity("Lefèvre", &["Anne"], "1982"));
    assert!(connector.fetch(partial.fetch()).await.is_ok());
}

#[tokio::test]
async fn a_dry_trial_shows_the_request_without_secrets_and_asks_nothing() {
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "token", "s3cret");
    let mut config = config(&server.url(), dataset());
    config["auth"] = json!({"type": "bearer", "token_file": "token"});
    let connector = HttpConnector::open(&parse(config), dir.path()).unwrap();
    let trial = crate::Trial::dry();
    let asked = asked();
    let fault = connector.fetch(Fetch { trial: Some(&trial), ..asked.fetch() }).await.unwrap_err();
    assert_eq!(fault, SourceFault::NotAsked);
    let steps = trial.steps();
    let [crate::Step::Asks(shown)] = steps.as_slice() else { panic!("one step") };
    let url = format!("GET {}/familles/Lef%C3%A8vre-d%27%C5%92uvre", server.url());
    assert_eq!(*shown, format!("{url}\nauthorization: Bearer ***\nx-request-id: {EXCHANGE}"));
    assert!(server.requests().is_empty());

    let trial = crate::Trial::real();
    connector.fetch(Fetch { trial: Some(&trial), ..asked.fetch() }).await.unwrap();
    assert!(trial.steps().contains(&crate::Step::Heard("HTTP status 200".to_owned())));
    assert_eq!(format!("{trial:?} {:?}", trial.steps()[0]), "[trial] [step of a trial]");
}
