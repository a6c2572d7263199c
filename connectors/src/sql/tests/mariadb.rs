//! A real server of MariaDB.

use super::engines::{hold, leave_a_query_that_hangs};
use super::servers::MariaDb;
use super::*;

#[tokio::test]
async fn mariadb_answers_as_every_engine_does() {
    let server = MariaDb::start().await;
    hold(&server.reached()).await;
    hold(&server.reached_by_socket()).await;
}

#[tokio::test]
async fn what_goes_wrong_at_mariadb_is_told_by_its_kind() {
    let server = MariaDb::start().await;
    let reached = server.reached();
    leave_a_query_that_hangs(&reached, "SELECT 1 AS quotient FROM personnes a, personnes b WHERE SLEEP(60) = 0").await;
    let one = Asked::new(DATASET, &["quotient"]);
    for (query, code) in
        [("SELECT ecrit() AS quotient", "untrusted"), ("SELECT quotient FROM secrets", "not_authorised")]
    {
        let fault = reached.open(query, &[("quotient", "integer")]).fetch(one.fetch()).await.unwrap_err();
        assert_eq!(fault.code(), code, "{query}");
    }
    secret(reached.folder.path(), "password", "wrong");
    let connector = reached.open_with("limits", json!({"timeout_ms": 2000}), "SELECT 1 AS quotient");
    assert_eq!(connector.fetch(one.fetch()).await.unwrap_err().code(), "not_authorised");
}
