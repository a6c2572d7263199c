//! What the source is asked, to the byte.

use super::*;

/// Path, query in pairs and headers of the one request that a question makes.
async fn request_of(asked: &Asked) -> (String, Vec<(String, String)>, String) {
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    connector(&format!("{}/", server.url())).fetch(asked.fetch()).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "all attributes of a dataset come from one call");
    let (line, headers) = requests[0].split_once("\r\n").unwrap();
    let target = line.strip_prefix("GET ").unwrap().strip_suffix(" HTTP/1.1").unwrap();
    let url = Url::parse(&format!("http://source{target}")).unwrap();
    let query = url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
    (url.path().to_owned(), query, headers.to_owned())
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[tokio::test]
async fn the_source_gets_the_persons_own_spelling_and_dates_without_zeros() {
    let (path, query, headers) = request_of(&asked(&ALL)).await;
    assert_eq!(path, "/v3/dss/quotient_familial/identite");
    let expected = [
        ("recipient", RECIPIENT),
        ("nomNaissance", "Lefèvre-d'OEuvre"),
        ("prenoms[]", "Gérôme"),
        ("prenoms[]", "Jean-Philippe"),
        ("anneeDateNaissance", "1982"),
        ("moisDateNaissance", "12"),
        ("jourDateNaissance", "7"),
        ("sexeEtatCivil", "F"),
        ("codeCogInseePaysNaissance", "99100"),
        ("codeCogInseeCommuneNaissance", "08480"),
    ];
    assert_eq!(query, pairs(&expected));
    for line in [
        format!("authorization: Bearer {TOKEN}"),
        format!("x-request-id: {EXCHANGE}"),
        "accept: application/json".to_owned(),
    ] {
        assert!(headers.lines().any(|l| l == line), "{line} in {headers}");
    }
}

#[tokio::test]
async fn what_is_not_known_of_a_person_is_not_sent() {
    let mut person = identity("Wang", &["A", "B b", "C", "D"], "");
    person.sex = Sex::Male;
    person.birth_country = CogCode::country("99216").unwrap();
    person.birth_commune = None;
    person.usage_name = Some("O'Brien & Co.".replace(" & ", " ").parse().unwrap());
    let (_, query, _) = request_of(&asked(&["valeur"]).about(person)).await;
    let expected = [
        ("recipient", RECIPIENT),
        ("nomNaissance", "Wang"),
        ("prenoms[]", "A"),
        ("prenoms[]", "B b"),
        ("prenoms[]", "C"),
        ("sexeEtatCivil", "M"),
        ("codeCogInseePaysNaissance", "99216"),
    ];
    assert_eq!(query, pairs(&expected));
}

#[tokio::test]
async fn a_person_whom_the_api_does_not_take_is_not_asked_about() {
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    let mut other = identity("Wang", &["A"], "1982-12-07");
    other.sex = Sex::Other;
    for person in [identity("王", &["A"], "1982-12-07"), identity("Wang", &["Ło"], "1982-12-07"), other] {
        let answer = connector(&server.url()).fetch(asked(&["valeur"]).about(person).fetch()).await.unwrap();
        assert_eq!(codes(&answer), [OutcomeCode::NotIdentified]);
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_partial_date_is_sent_as_far_as_it_is_known() {
    for (date, sent) in [("1982", 1), ("1982-02", 2), ("1982-02-03", 3)] {
        let (_, query, _) = request_of(&asked(&["valeur"]).about(identity("A", &["B"], date))).await;
        let parts: Vec<_> = query.iter().filter(|(k, _)| k.ends_with("DateNaissance")).map(|(_, v)| &**v).collect();
        assert_eq!(parts, ["1982", "2", "3"][..sent]);
    }
}

#[tokio::test]
async fn filters_are_sent_in_the_apis_form() {
    let asked = Asked::filtered(DATASET, &["valeur"], &[("annee", "2026"), ("mois", "05")]);
    let (_, query, _) = request_of(&asked).await;
    assert_eq!(query[query.len() - 2..], pairs(&[("annee", "2026"), ("mois", "5")]));
}

#[tokio::test]
async fn the_persons_token_is_the_bearer_and_no_identity_is_sent() {
    let asked = Asked::filtered(DATASET, &["valeur"], &[("annee", "2026")]).with_token("fc-token-1");
    let (path, query, headers) = request_of(&asked).await;
    assert_eq!(path, "/v3/dss/quotient_familial/france_connect");
    assert_eq!(query, pairs(&[("recipient", RECIPIENT), ("annee", "2026")]));
    assert!(headers.contains("authorization: Bearer fc-token-1\r\n") && !headers.contains(TOKEN));
}

#[tokio::test]
async fn what_the_api_has_not_is_not_asked() {
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    let connector = connector(&server.url());
    for asked in [
        asked(&["valeur", "salaire"]),
        Asked::new("dss.autre_chose", &["valeur"]),
        Asked::filtered(DATASET, &["valeur"], &[("annee", "26")]),
        Asked::filtered(DATASET, &["valeur"], &[("mois", "13")]),
        Asked::filtered(DATASET, &["valeur"], &[("nomNaissance", "X")]),
    ] {
        assert_eq!(connector.fetch(asked.fetch()).await.unwrap_err().code(), "untrusted");
    }
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn a_number_says_who_the_person_is_only_where_it_is_given() {
    static ROW: table::DatasetRow = table::DatasetRow {
        dataset: "test.data",
        version: 3,
        title: "Test",
        routes: &[table::Route { modality: table::Modality::Number("ine"), path: "/v3/test/ine" }],
        attributes: &[],
        filters: &[table::FilterRow { name: "ine", form: table::FilterForm::Ine, is_needed: false }],
        one_of: &[],
        person: None,
    };
    let base = crate::http_client::base_url("https://source.example/prefix/").unwrap();
    assert!(question::route(&ROW, &Asked::new("test.data", &["a"]).fetch()).is_none());
    let asked = Asked::filtered("test.data", &["a"], &[("ine", "1234567890G")]);
    let route = question::route(&ROW, &asked.fetch()).unwrap();
    let url = question::url(&base, &ROW, route, &asked.fetch()).unwrap();
    let expected = format!("https://source.example/prefix/v3/test/ine?recipient={RECIPIENT}&ine=1234567890G");
    assert_eq!(url.as_str(), expected);
}
