//! What check-config refuses, and what is made of what it takes.

use super::statement::Projection;
use super::*;

const ENGINES: [Engine; 4] = [Engine::PostgreSql, Engine::MariaDb, Engine::MySql, Engine::Sqlite];

#[test]
fn a_statement_that_is_not_one_select_is_refused() {
    for sql in [
        "",
        "DELETE FROM personnes",
        "INSERT INTO personnes (nom) VALUES ('x')",
        "UPDATE personnes SET nom = 'x'",
        "DROP TABLE personnes",
        "CREATE TABLE x AS SELECT 1 AS a",
        "SELECT 1 AS a; SELECT 2 AS a",
        "SELECT 1 AS a; DROP TABLE personnes",
        "SELECT a FROM personnes FOR UPDATE",
        "SELECT a INTO b FROM personnes",
        "SELECT a FROM (SELECT a INTO b FROM personnes) c",
        "SELECT a FROM personnes INTO OUTFILE '/tmp/x'",
        "WITH x AS (DELETE FROM personnes RETURNING a) SELECT a FROM x",
        "WITH x AS (INSERT INTO personnes (a) VALUES (1) RETURNING a) SELECT a FROM x",
        "CALL p()",
        "SET x = 1",
        "BEGIN",
        "COPY personnes TO '/tmp/x'",
        "EXPLAIN ANALYZE SELECT 1 AS a",
        "ATTACH DATABASE 'x' AS y",
        "PRAGMA query_only = off",
        "SELECT a FROM personnes WHERE nom = :nom",
        "SELECT a FROM personnes WHERE nom = ?",
        "SELECT a FROM personnes WHERE nom = ':birth_name",
        "SELECT a\u{1f} FROM personnes",
        "SELECT a FROM personnes WHERE nom = :filter_",
    ] {
        for engine in ENGINES {
            assert!(Statement::parse(engine, sql).is_err(), "{engine:?}: {sql}");
        }
    }
    // A name of a column in MariaDB and MySQL.
    for engine in [Engine::PostgreSql, Engine::Sqlite] {
        assert!(Statement::parse(engine, "SELECT a FROM personnes WHERE nom = $1").is_err(), "{engine:?}");
    }
    let told = Statement::parse(Engine::PostgreSql, "SELECT a FROM p WHERE nom = :nom").unwrap_err();
    assert!(told.contains("unknown parameter :nom") && told.contains("birth_name"), "{told}");
    let told = Statement::parse(Engine::PostgreSql, "DELETE FROM p").unwrap_err();
    assert!(told.contains("one SELECT"), "{told}");
}

#[test]
fn parameters_are_bound_in_the_order_of_what_runs() {
    let sql = "WITH x AS (SELECT nom FROM y WHERE z = :sex) \
               SELECT CASE WHEN a = :birth_year THEN 1 ELSE 2 END AS b, c.d FROM c JOIN x ON x.nom = :birth_name \
               WHERE e = ':birth_date' AND f IN (:filter_annee, :birth_name) ORDER BY b";
    let names = ["sex", "birth_year", "birth_name", "filter_annee", "birth_name"];
    for engine in ENGINES {
        let statement = Statement::parse(engine, sql).unwrap();
        let bound: Vec<_> = statement.parameters.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(bound, names);
        let places = if engine == Engine::PostgreSql {
            ["z = $1", "a = $2", "x.nom = $3", "IN ($4, $5)"]
        } else {
            ["z = ?", "a = ?", "x.nom = ?", "IN (?, ?)"]
        };
        for place in places {
            assert!(statement.sql.contains(place), "{place} in {}", statement.sql);
        }
        assert!(statement.sql.contains("e = ':birth_date'"), "a text is no parameter: {}", statement.sql);
        assert!(statement.sql.ends_with("LIMIT 2"), "{}", statement.sql);
        assert_eq!(statement.projection, Projection::Named(vec!["b".to_owned(), "d".to_owned()]));
    }
}

#[test]
fn what_would_pick_one_of_several_persons_or_run_as_another_text_is_refused() {
    for engine in ENGINES {
        for (end, told) in [
            ("LIMIT 1", "LIMIT"),
            ("LIMIT 1 OFFSET 1", "LIMIT"),
            ("WHERE c LIKE '\\\\%' ESCAPE '\\\\'", "backslash"),
            ("WHERE c = 'a\\''b'", "backslash"),
        ] {
            let refused = Statement::parse(engine, &format!("SELECT a FROM b {end}")).unwrap_err();
            assert!(refused.contains(told), "{end}: {refused}");
        }
    }
}

#[test]
fn comments_that_a_database_would_execute_do_not_reach_it() {
    for engine in ENGINES {
        for sql in ["SELECT a FROM b /*! INTO OUTFILE '/tmp/x' */", "SELECT a FROM b /*!99999 ; DROP TABLE b */"] {
            if let Ok(statement) = Statement::parse(engine, sql) {
                assert_eq!(statement.sql, "SELECT a FROM b LIMIT 2", "{engine:?}");
            }
        }
    }
}

#[test]
fn a_wrong_key_is_refused_by_its_name() {
    let server = json!({
        "engine": "postgresql", "host": "db.example", "user": "lecture", "database": "mairie",
        "datasets": {DATASET: {
            "query": "SELECT quotient FROM p WHERE nom = :birth_name",
            "attributes": {"quotient": {"column": "quotient", "type": "integer"}},
        }},
    });
    let file = json!({"engine": "sqlite", "path": "x.db", "datasets": server["datasets"]});
    let with = |base: &Value, key: &str, value: Value| {
        let mut config = base.clone();
        config[key] = value;
        config
    };
    let dataset = |key: &str, value: Value| {
        let mut config = server.clone();
        config["datasets"][DATASET][key] = value;
        config
    };
    let within = |key: &str| format!("datasets.\"{DATASET}\".{key}: ");
    for (config, key) in [
        (with(&server, "path", json!("x")), "path: ".to_owned()),
        (with(&server, "user", Value::Null), "user: ".to_owned()),
        (with(&server, "database", Value::Null), "database: ".to_owned()),
        (with(&server, "host", Value::Null), "host: ".to_owned()),
        (with(&server, "socket", json!("/run")), "host: ".to_owned()),
        (with(&server, "tls", json!("off")), "tls: ".to_owned()),
        (with(&server, "max_connections", json!(0)), "max_connections: ".to_owned()),
        (with(&server, "datasets", json!({})), "datasets: ".to_owned()),
        (with(&file, "path", Value::Null), "path: ".to_owned()),
        (with(&file, "host", json!("x")), "host: ".to_owned()),
        (with(&file, "password_file", json!("x")), "password_file: ".to_owned()),
        (dataset("query", json!("DROP TABLE p")), within("query")),
        (dataset("optional", json!(["sex"])), within("optional")),
        (dataset("attributes", json!({})), within("attributes")),
        (dataset("attributes", json!({"A": {"column": "quotient", "type": "text"}})), within("attributes.A")),
        (dataset("attributes", json!({"a": {"column": "autre", "type": "text"}})), within("attributes.a.column")),
    ] {
        let text = serde_json::from_value::<SqlConfig>(config).unwrap().validate().unwrap_err().to_string();
        assert!(text.starts_with(&key), "{key}: {text}");
    }
    for (key, value) in [("url", json!("postgres://u:p@h/d")), ("password", json!("x")), ("engine", json!("oracle"))] {
        assert!(serde_json::from_value::<SqlConfig>(with(&server, key, value)).is_err(), "{key}");
    }
    serde_json::from_value::<SqlConfig>(server).unwrap().validate().unwrap();
}
