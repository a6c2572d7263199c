//! A file of SQLite.

use super::engines::{hold, leave_a_query_that_hangs};
use super::servers::sqlite;
use super::*;

#[tokio::test]
async fn a_file_of_sqlite_answers_as_every_engine_does() {
    hold(&sqlite().await).await;
}

#[tokio::test]
async fn a_query_that_hangs_is_left_at_its_time() {
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) AS quotient FROM n";
    leave_a_query_that_hangs(&sqlite().await, endless).await;
}

#[tokio::test]
async fn a_file_that_is_not_there_or_no_database_is_told() {
    let reached = sqlite().await;
    let mut config = reached.config(reached.query, &[("quotient", "integer")]);
    config.path = Some("absent.db".into());
    let text = SqlConnector::open(&config, reached.folder.path()).unwrap_err().to_string();
    assert!(text.starts_with("path: ") && text.contains("absent.db"), "{text}");
    std::fs::write(reached.folder.path().join("text.db"), "no database, but long enough to have a head".repeat(40))
        .unwrap();
    config.path = Some("text.db".into());
    let connector = SqlConnector::open(&config, reached.folder.path()).unwrap();
    let fault = connector.fetch(Asked::new(DATASET, &["quotient"]).fetch()).await.unwrap_err();
    assert_eq!(fault.outcome(), OutcomeCode::SourceDown);
}

#[tokio::test]
async fn a_registry_that_names_what_the_query_lacks_is_noticed() {
    let connector = sqlite().await.connector();
    let unknown = crate::testing::dataset_of(DATASET, &["quotient", "adresse"]);
    assert_eq!(connector.lacks(&unknown).unwrap(), "attribute adresse");
    let filtered = Asked::filtered(DATASET, &["quotient"], &[("mois", "1")]);
    assert_eq!(connector.lacks(&filtered.dataset().dataset).unwrap(), "filter mois");
}
