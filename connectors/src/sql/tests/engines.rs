//! What holds for every engine. Each runs all of it on its own database, which has the table `personnes`.

use super::*;
use crate::testing::identity;

/// The values of `type` in each engine's own columns.
const TYPED: &[(&str, &str)] = &[
    ("quotient", "integer"),
    ("gros", "integer"),
    ("note", "number"),
    ("actif", "boolean"),
    ("classe", "text"),
    ("enfants", "list"),
    ("rien", "integer"),
];

pub(super) async fn hold(reached: &Reached) {
    each_outcome_follows_from_the_number_of_rows(reached).await;
    each_type_is_read_and_another_one_is_untrusted(reached).await;
    no_value_becomes_syntax(reached).await;
    who_lacks_a_part_is_not_identified_unless_it_may_be_null(reached).await;
    a_dry_trial_shows_the_statement_and_asks_nothing(reached).await;
    a_query_that_the_database_refuses_is_untrusted(reached).await;
}

async fn each_outcome_follows_from_the_number_of_rows(reached: &Reached) {
    let connector = reached.connector();
    for (person, code) in [
        (crate::testing::person(), OutcomeCode::Found),
        (identity("Double", &["Anne"], "1990-01-01"), OutcomeCode::Ambiguous),
        (identity("Inconnue", &["Anne"], "1990-01-01"), OutcomeCode::NoFile),
        (identity("Double", &["Anne"], "1990"), OutcomeCode::NotIdentified),
    ] {
        let answer = connector.fetch(asked().about(person).fetch()).await.unwrap();
        assert_eq!(codes(&answer), [code; 2]);
    }
    let answer = connector.fetch(asked().fetch()).await.unwrap();
    assert_eq!(values(&answer), [json!(700), json!("CM2")]);
}

async fn each_type_is_read_and_another_one_is_untrusted(reached: &Reached) {
    let query = reached.query.replace("quotient, classe", "*");
    let connector = reached.open(&query, TYPED);
    let names: Vec<_> = TYPED.iter().map(|(name, _)| *name).collect();
    let answer = connector.fetch(Asked::new(DATASET, &names).fetch()).await.unwrap();
    let expected = [
        json!(700),
        json!(9_007_199_254_740_993_i64),
        json!(812.35),
        json!(true),
        json!("CM2"),
        json!(["Zoé", "Noé"]),
        json!(null),
    ];
    assert_eq!(values(&answer), expected);
    for (name, kind) in [("classe", "integer"), ("classe", "boolean"), ("quotient", "list"), ("quotient", "text")] {
        let connector = reached.open(&query, &[(name, kind)]);
        let fault = connector.fetch(Asked::new(DATASET, &[name]).fetch()).await.unwrap_err();
        assert_eq!(fault.code(), "untrusted", "{name} as {kind}");
    }
    let connector = reached.open(&query, &[("absente", "text")]);
    let fault = connector.fetch(Asked::new(DATASET, &["absente"]).fetch()).await.unwrap_err();
    assert_eq!(fault, SourceFault::Untrusted("the query gives no such column"));
}

async fn no_value_becomes_syntax(reached: &Reached) {
    let query = "SELECT quotient FROM personnes WHERE classe = :filter_classe";
    let connector = reached.open(query, &[("quotient", "integer")]);
    // The first is in the table as it stands.
    for (value, code) in [
        ("'; DROP TABLE personnes; --", OutcomeCode::Found),
        ("' OR '1'='1", OutcomeCode::NoFile),
        ("CM2' -- ", OutcomeCode::NoFile),
        ("\\' OR 1=1 -- ", OutcomeCode::NoFile),
        ("{birth_name} %2F $1 ? :sex", OutcomeCode::NoFile),
        ("a\u{0}b", OutcomeCode::FilterRefused),
        ("", OutcomeCode::FilterRefused),
    ] {
        let asked = Asked::filtered(DATASET, &["quotient"], &[("classe", value)]);
        let answer = connector.fetch(asked.fetch()).await.unwrap();
        assert_eq!(codes(&answer), [code], "{value}");
        let checked = connector.check(&asked.dataset().dataset, &asked.dataset().filter, false);
        assert_eq!(checked.is_err(), code == OutcomeCode::FilterRefused, "{value}");
    }
    let injected = identity("O'Brien''--", &["Anne"], "1990-01-01");
    let answer = reached.connector().fetch(asked().about(injected).fetch()).await.unwrap();
    assert_eq!(codes(&answer), [OutcomeCode::NoFile; 2]);
    let answer = reached.connector().fetch(asked().fetch()).await.unwrap();
    assert_eq!(codes(&answer), [OutcomeCode::Found; 2], "the table is there");
}

async fn who_lacks_a_part_is_not_identified_unless_it_may_be_null(reached: &Reached) {
    let query = "SELECT quotient FROM personnes WHERE nom = :birth_name_folded AND COALESCE(:usage_name, 'x') = 'x'";
    let mut config = reached.config(query, &[("quotient", "integer")]);
    let asked = Asked::new(DATASET, &["quotient"]);
    let connector = SqlConnector::open(&config, reached.folder.path()).unwrap();
    assert_eq!(codes(&connector.fetch(asked.fetch()).await.unwrap()), [OutcomeCode::NotIdentified]);
    config.datasets.values_mut().for_each(|dataset| dataset.optional = vec!["usage_name".to_owned()]);
    let connector = SqlConnector::open(&config, reached.folder.path()).unwrap();
    assert_eq!(codes(&connector.fetch(asked.fetch()).await.unwrap()), [OutcomeCode::Found]);
}

async fn a_dry_trial_shows_the_statement_and_asks_nothing(reached: &Reached) {
    let connector = reached.connector();
    let (asked, trial) = (asked(), crate::Trial::dry());
    let fault = connector.fetch(Fetch { trial: Some(&trial), ..asked.fetch() }).await.unwrap_err();
    assert_eq!(fault, SourceFault::NotAsked);
    let steps = trial.steps();
    let [crate::Step::Asks(shown)] = steps.as_slice() else { panic!("one step") };
    assert!(shown.starts_with("SELECT quotient, classe") && shown.contains(":birth_date = \"1982-12-07\""), "{shown}");
}

async fn a_query_that_the_database_refuses_is_untrusted(reached: &Reached) {
    let connector = reached.open("SELECT absente AS quotient FROM personnes", &[("quotient", "integer")]);
    let fault = connector.fetch(Asked::new(DATASET, &["quotient"]).fetch()).await.unwrap_err();
    assert_eq!(fault, SourceFault::Untrusted("the database refuses the query"));
}

/// A query that never ends is left by the database itself, not only by the one who waits.
pub(super) async fn leave_a_query_that_hangs(reached: &Reached, query: &str) {
    let connector = reached.open_with("limits", json!({"timeout_ms": 300}), query);
    let mut asked = Asked::new(DATASET, &["quotient"]);
    asked.timeout = Duration::from_millis(300);
    let started = Instant::now();
    let fault = connector.fetch(asked.fetch()).await.unwrap_err();
    assert_eq!(fault, SourceFault::Timeout);
    assert!(started.elapsed() < Duration::from_secs(5));
}
