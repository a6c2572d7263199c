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

#[tokio::test]
async fn it_is_reached_by_tls_where_ca_file_names_its_authority() {
    let server = MariaDb::start().await;
    let one = Asked::new(DATASET, &["quotient"]);
    let trusting = server.reached_by_tls();
    hold(&trusting).await;
    let encrypted = "SELECT CASE WHEN VARIABLE_VALUE = '' THEN 0 ELSE 1 END AS quotient \
                     FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher'";
    let connector = trusting.open(encrypted, &[("quotient", "integer")]);
    assert_eq!(values(&connector.fetch(one.fetch()).await.unwrap()), [json!(1)]);
    let other = server.reached().open_with("tls", json!("full"), encrypted);
    assert_eq!(other.fetch(one.fetch()).await.unwrap_err().code(), "down");
}
