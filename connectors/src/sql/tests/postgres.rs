//! A real server of PostgreSQL.

use std::sync::Arc;

use super::engines::{hold, leave_a_query_that_hangs};
use super::servers::Postgres;
use super::*;
use crate::testing::logs::Logs;
use crate::{Guarded, Limits};

#[tokio::test]
async fn postgresql_answers_as_every_engine_does() {
    let server = Postgres::start().await;
    hold(&server.reached()).await;
    hold(&server.reached_by_socket()).await;
}

#[tokio::test]
async fn what_goes_wrong_at_postgresql_is_told_by_its_kind() {
    let server = Postgres::start().await;
    let reached = server.reached();
    leave_a_query_that_hangs(&reached, "SELECT 1 AS quotient FROM pg_sleep(60)").await;
    let one = Asked::new(DATASET, &["quotient"]);
    for (query, code) in [
        ("SELECT ecrit() AS quotient", "untrusted"),
        ("SELECT quotient FROM secrets", "not_authorised"),
        ("SELECT CAST(:birth_name AS integer) AS quotient", "untrusted"),
    ] {
        let fault = reached.open(query, &[("quotient", "integer")]).fetch(one.fetch()).await.unwrap_err();
        assert_eq!(fault.code(), code, "{query}");
    }
    let query = "SELECT CAST(:filter_annee AS integer) AS quotient";
    let connector = reached.open(query, &[("quotient", "integer")]);
    let asked = |annee: &str| Asked::filtered(DATASET, &["quotient"], &[("annee", annee)]);
    assert_eq!(values(&connector.fetch(asked("2026").fetch()).await.unwrap()), [json!(2026)]);
    for refused in ["MMXXVI", "99999999999"] {
        let answer = connector.fetch(asked(refused).fetch()).await.unwrap();
        assert_eq!(answer, SourceAnswer::missing(asked(refused).dataset(), OutcomeCode::FilterRefused));
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_where_ca_file_names_it() {
    let server = Postgres::start().await;
    let one = Asked::new(DATASET, &["quotient"]);
    let trusting = server.reached_by_tls();
    let encrypted = "SELECT CASE WHEN ssl THEN 1 ELSE 0 END AS quotient FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let connector = trusting.open(encrypted, &[("quotient", "integer")]);
    assert_eq!(values(&connector.fetch(one.fetch()).await.unwrap()), [json!(1)]);
    let other = server.reached().open_with("tls", json!("full"), encrypted);
    assert_eq!(other.fetch(one.fetch()).await.unwrap_err().code(), "down");
}

#[tokio::test]
async fn a_password_that_changes_is_read_again() {
    let server = Postgres::start().await;
    let reached = server.reached();
    secret(reached.folder.path(), "password", "wrong");
    let connector = reached.open_with("limits", json!({"timeout_ms": 2000}), "SELECT 1 AS quotient");
    let one = Asked::new(DATASET, &["quotient"]);
    assert_eq!(connector.fetch(one.fetch()).await.unwrap_err().code(), "not_authorised");
    secret(reached.folder.path(), "password", super::servers::PASSWORD);
    let started = Instant::now();
    while connector.fetch(one.fetch()).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_server_that_stops_is_down_and_one_that_comes_back_answers() {
    let mut server = Postgres::start().await;
    let reached = server.reached();
    let connector = reached.open_with("limits", json!({"timeout_ms": 1000}), "SELECT 1 AS quotient");
    let one = Asked::new(DATASET, &["quotient"]);
    connector.fetch(one.fetch()).await.unwrap();
    server.stop();
    let fault = connector.fetch(one.fetch()).await.unwrap_err();
    assert_eq!(fault.outcome(), OutcomeCode::SourceDown);
    server.restart().await;
    let started = Instant::now();
    while connector.fetch(one.fetch()).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn no_log_error_or_debug_text_names_the_person_a_value_or_the_password() {
    let server = Postgres::start().await;
    let reached = server.reached();
    let (logs, _capture) = Logs::capture();
    let mut texts = Vec::new();
    for query in [
        reached.query,
        "SELECT CAST(:birth_name AS integer) AS quotient",
        "SELECT bavarde(:birth_name) AS quotient",
        "SELECT classe AS quotient FROM personnes WHERE nom = :birth_name_folded",
    ] {
        let connector = Arc::new(reached.open(query, &[("quotient", "integer")]));
        texts.push(format!("{connector:?}"));
        let asked = Asked::new(DATASET, &["quotient"]);
        texts.push(format!("{:?}", connector.fetch(asked.fetch()).await));
        let guard = Guarded::new("mairie".parse().unwrap(), connector, Limits::default());
        texts.push(format!("{:?}", guard.ask(asked.fetch()).await));
    }
    texts.push(logs.text());
    let all = texts.join("\n");
    assert!(all.contains("a source needs the operator"));
    for secret in ["Lef", "LEF", "1982-12", "CM2", super::servers::PASSWORD] {
        assert!(!all.contains(secret), "{secret}");
    }
}
