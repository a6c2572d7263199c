use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use unefois_consent::PivotIdentity;
use unefois_consent::identity::CogCode;

use super::*;
use crate::testing::logs::Logs;
use crate::testing::{Asked, identity, person};

const DATASET: &str = "mairie.cantine";
const HEADER: &str = "birth_name;given_names;birth_date;sex;birth_country;birth_commune;quotient;classe";
const PERSON: &str = "Lefèvre-d'Œuvre;Gérôme Jean-Philippe;1982-12-07;F;99100;08480";

fn config(format: &str) -> FileConfig {
    let config = json!({"path": "data", "format": format, "dataset": DATASET, "types": {"quotient": "integer"}});
    serde_json::from_value(config).unwrap()
}

fn write(dir: &TempDir, content: impl AsRef<[u8]>) {
    // As an operator should: a whole file renamed over the old one.
    std::fs::write(dir.path().join("new"), content).unwrap();
    std::fs::rename(dir.path().join("new"), dir.path().join("data")).unwrap();
}

fn open(format: &str, content: impl AsRef<[u8]>) -> Result<FileConnector, ConnectorConfigError> {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, content);
    FileConnector::open(&config(format), dir.path())
}

fn csv(lines: &[&str]) -> FileConnector {
    open("csv", format!("{HEADER}\n{}\n", lines.join("\n"))).unwrap()
}

async fn ask(connector: &FileConnector, person: PivotIdentity) -> Vec<Outcome> {
    let asked = Asked::new(DATASET, &["classe", "quotient"]).about(person);
    let answer = connector.fetch(asked.fetch()).await.unwrap();
    answer.outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn found(values: [Value; 2]) -> Vec<Outcome> {
    values.map(Outcome::Found).into()
}

fn missing(code: OutcomeCode) -> Vec<Outcome> {
    vec![Outcome::Missing(code); 2]
}

#[tokio::test]
async fn a_line_is_found_by_any_spelling_of_the_same_name() {
    let connector = csv(&[&format!("{PERSON};0;CM2")]);
    for name in ["Lefèvre-d'Œuvre", "LEFEVRE D OEUVRE", "lefe\u{300}vre d’œuvre"] {
        let person = identity(name, &["GÉRÔME", "Jean Philippe"], "1982-12-07");
        assert_eq!(ask(&connector, person).await, found([json!("CM2"), json!(0)]));
    }
}

#[tokio::test]
async fn another_person_has_no_file() {
    let connector = csv(&[&format!("{PERSON};700;CM2")]);
    let mut other_commune = person();
    other_commune.birth_commune = Some(CogCode::commune("2A004").unwrap());
    for other in [
        other_commune,
        identity("Lefèvre-d'Œuvre", &["Gérôme"], "1982-12-07"),
        identity("Lefèvre-d'Œuvre", &["Gérôme", "Jean-Philippe"], "1982-12"),
        identity("Lefèvre", &["Gérôme", "Jean-Philippe"], "1982-12-07"),
    ] {
        assert_eq!(ask(&connector, other).await, missing(OutcomeCode::NoFile));
    }
}

#[tokio::test]
async fn two_or_more_lines_of_one_person_are_ambiguous_even_if_they_are_equal() {
    let line = format!("{PERSON};700;CM2");
    for lines in [vec![&*line; 2], vec![&*line; 3]] {
        assert_eq!(ask(&csv(&lines), person()).await, missing(OutcomeCode::Ambiguous));
    }
}

#[tokio::test]
async fn cells_become_values_predictably() {
    // Only the column that is declared so is of integers; an empty cell is null.
    for (cells, values) in [
        ("700;12", [json!("12"), json!(700)]),
        ("-5; x ", [json!("x"), json!(-5)]),
        (";", [Value::Null, Value::Null]),
        ("007;\"a;b\"\"c\"", [json!("a;b\"c"), json!(7)]),
    ] {
        assert_eq!(ask(&csv(&[&format!("{PERSON};{cells}")]), person()).await, found(values), "{cells}");
    }
}

#[tokio::test]
async fn a_spreadsheets_file_is_read() {
    let content = format!("\u{feff}{HEADER}\r\n{PERSON};700;CM2\r\n").replace(';', ",");
    let connector = open("csv", content).unwrap();
    assert_eq!(ask(&connector, person()).await, found([json!("CM2"), json!(700)]));
}

#[tokio::test]
async fn lines_are_named_as_an_editor_counts_them() {
    for (end, line) in [("\n", 4), ("\r\n", 4), ("\r", 4)] {
        let content = [HEADER, "", &format!("{PERSON};700;CM2"), &format!("{PERSON};x;CM2"), ""].join(end);
        let said = open("csv", content).unwrap_err().to_string();
        assert!(said.contains(&format!("line {line}: an integer")), "{said}");
    }
}

#[tokio::test]
async fn what_a_spreadsheet_leaves_beside_and_below_a_table_is_passed_over() {
    let content = format!("{HEADER};;;\n{PERSON};700;CM2;;;\n;;;;;;;;;;\n ; ;;;;;;;;;\n");
    let connector = open("csv", content).unwrap();
    assert_eq!(ask(&connector, person()).await, found([json!("CM2"), json!(700)]));
    let said = open("csv", format!("{HEADER};;\n{PERSON};700;CM2;Secret;\n")).unwrap_err().to_string();
    assert!(said.contains("line 2: a cell in a column without a name") && !said.contains("Secret"), "{said}");
    let said = open("csv", "birth_name;;given_names\n").unwrap_err().to_string();
    assert!(said.contains("line 1: "), "{said}");
}

#[tokio::test]
async fn the_export_of_a_town_hall_is_read_as_its_configuration_says() {
    let config: FileConfig = serde_json::from_value(json!({
        "path": "data", "format": "csv", "dataset": DATASET, "encoding": "windows-1252",
        "columns": {
            "Nom de naissance": "birth_name", "Prénoms": "given_names", "Né le": "birth_date", "Sexe": "sex",
            "Pays": "birth_country", "Commune": "birth_commune", "Q.F.": "quotient", "Inscrit": "classe",
        },
        "types": {"quotient": "number", "classe": "boolean"},
        "date_format": "dd/mm/yyyy", "decimal_comma": true,
    }))
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let export = |line: &str| {
        let text = format!("N°;Nom de naissance;Prénoms;Né le;Sexe;Pays;Commune;Q.F.;Inscrit;Remarque\r\n{line}\r\n");
        write(&dir, encoding_rs::WINDOWS_1252.encode(&text).0);
        FileConnector::open(&config, dir.path())
    };
    let given = "1;Lefèvre-d'Œuvre;Gérôme Jean-Philippe;07/12/1982;F;99100;08480;812,35;Oui;x";
    assert_eq!(ask(&export(given).unwrap(), person()).await, found([json!(true), json!(812.35)]));
    let whole = given.replace("812,35", "0742,0").replace("Oui", "non");
    assert_eq!(ask(&export(&whole).unwrap(), person()).await, found([json!(false), json!(742)]));
    for (from, to, rule) in [
        ("07/12/1982", "1982-12-07", "line 2: birth_date: dd/mm/yyyy"),
        ("07/12/1982", "32/12/1982", "line 2: birth_date: "),
        ("812,35", "812.35", "line 2: a number"),
        ("812,35", "1234567890123456,7", "line 2: a number of at most 15 digits"),
        ("Oui", "peut-être", "line 2: oui, vrai"),
    ] {
        let said = export(&given.replace(from, to)).unwrap_err().to_string();
        assert!(said.contains(rule), "{to}: {said}");
    }
    let utf8 = config.clone();
    write(&dir, "Nom de naissance;Prénoms\n");
    let said = FileConnector::open(&utf8, dir.path()).unwrap_err().to_string();
    assert!(said.contains("the file is in UTF-8"), "{said}");
}

#[tokio::test]
async fn columns_may_come_in_any_order_and_the_commune_may_be_absent() {
    let content = "classe;sex;birth_country;quotient;birth_name;birth_date;given_names\nCM1;F;99216;3;Li;;Na\n";
    let connector = open("csv", content).unwrap();
    let mut person = identity("LI", &["NA"], "");
    person.birth_commune = None;
    person.birth_country = CogCode::country("99216").unwrap();
    assert_eq!(ask(&connector, person).await, found([json!("CM1"), json!(3)]));
}

#[tokio::test]
async fn json_lines_keep_their_types_and_an_absent_attribute_is_null() {
    let line = |extra: Value| {
        let mut object = json!({"birth_name": "Li", "given_names": "Na Mi", "birth_date": null, "sex": "F",
            "birth_country": "99100", "birth_commune": "08480"});
        object.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        object.to_string()
    };
    let first = line(json!({"quotient": 0, "classe": {"niveau": ["CM1"]}}));
    let second = line(json!({"birth_name": "Lo", "given_names": ["Na", "Mi"], "classe": false}));
    let connector = open("jsonl", format!("{first}\r\n\n{second}")).unwrap();
    let answer = ask(&connector, identity("Li", &["Na", "Mi"], "")).await;
    assert_eq!(answer, found([json!({"niveau": ["CM1"]}), json!(0)]));
    assert_eq!(ask(&connector, identity("Lo", &["Na", "Mi"], "")).await, found([json!(false), Value::Null]));
}

#[test]
fn a_malformed_line_refuses_the_file_by_its_number_and_never_by_its_content() {
    let good = format!("{PERSON};700;CM2");
    let csv = |line: &str| format!("{HEADER}\n{good}\n{line}\n{good}\n");
    for (line, rule) in [
        ("Secret;A;1982-13-01;F;99100;08480;1;x", "line 3: birth_date: "),
        ("Secret;A;27/12/1982;F;99100;08480;1;x", "line 3: birth_date: "),
        ("Secret;A;;Y;99100;08480;1;x", "line 3: sex: F, M or X"),
        ("Secret;A;;F;99100;08480;1;\"x", "line 3: a cell in quotes"),
        ("Secret;A;;F;99100;08480;1;x\"", "line 3: a quote within a cell"),
        ("Secret;;;F;99100;08480;1;x", "line 3: given_names: "),
        ("Secret\u{1};A;;F;99100;08480;1;x", "line 3: birth_name: "),
        ("Secret;A;;F;FR;08480;1;x", "line 3: birth_country: "),
        ("Secret;A;;F;99100;8480;1;x", "line 3: birth_commune: "),
        ("Secret;A;;F;99100;08480;Secret;x", "line 3: an integer is expected"),
        ("Secret;A;;F;99100;08480;1", "line 3: has more or fewer cells"),
        ("Secret;A;;F;99100;08480;1;x;Secret", "line 3: has more or fewer cells"),
    ] {
        let text = open("csv", csv(line)).unwrap_err().to_string();
        assert!(text.starts_with("path: ") && text.contains(rule), "{text}");
        assert!(!text.contains("Secret"), "{text}");
    }
    let json = |line: &str| {
        format!(
            "\n{}\n{line}",
            json!({"birth_name": "A", "given_names": "B", "sex": "F", "birth_country": "99100", "quotient": 1})
        )
    };
    for (line, rule) in [
        ("{\"Secret\": ", "line 3: is not one JSON object"),
        ("{\"Secret\": 1, \"Secret\": 2}", "line 3: is not one JSON object"),
        ("[\"Secret\"]", "line 3: is not one JSON object"),
        ("{\"birth_name\": 12}", "line 3: birth_name: a text is expected"),
        ("{\"given_names\": [12]}", "line 3: given_names: a list of texts"),
        ("{\"birth_name\": \"Secret\"}", "line 3: given_names: "),
        (
            r#"{"birth_name":"Secret","given_names":"B","sex":"F","birth_country":"99100","quotient":"1"}"#,
            "line 3: quotient has another type",
        ),
        (
            r#"{"birth_name":"Secret","given_names":"B","sex":"F","birth_country":"99100","a.b":"1"}"#,
            "line 3: a column's name",
        ),
    ] {
        let text = open("jsonl", json(line)).unwrap_err().to_string();
        assert!(text.contains(rule) && !text.contains("Secret"), "{text}");
    }
}

#[test]
fn a_file_that_is_not_what_it_should_be_is_refused() {
    let latin1 = [HEADER.as_bytes(), b"\nLef\xe8vre;A;;F;99100;08480;1;x\n"].concat();
    for (content, problem) in [
        (&latin1[..], "line 2: is not UTF-8"),
        (b"", "line 1: no column birth_name"),
        (b"birth_name;given_names\n", "line 1: no column birth_date"),
        (b"Lefevre;Anne;1982-12-27;F;99100;08480;700\n", "line 1: no column birth_name"),
        (b"birth_name;given_names;birth_date;sex;birth_country;quotient;quotient\n", "line 1: two columns"),
        (b"birth_name;given_names;birth_date;sex;birth_country;Quotient\n", "line 1: a column's name"),
        (b"birth_name;given_names;birth_date;sex;birth_country;classe\n", "has no column quotient"),
    ] {
        let text = open("csv", content).unwrap_err().to_string();
        assert!(text.contains(problem), "{text}");
    }
    let nowhere = tempfile::tempdir().unwrap();
    let text = FileConnector::open(&config("csv"), nowhere.path()).unwrap_err().to_string();
    assert!(text.starts_with("path: ") && text.contains("cannot be opened"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_read_again_and_a_broken_one_is_told_once_and_leaves_the_old_in_use() {
    let (logs, _capture) = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    let with = |quotient: &str| format!("{HEADER}\n{PERSON};{quotient};CM2\n");
    write(&dir, with("1"));
    let connector = FileConnector::open(&config("csv"), dir.path()).unwrap();
    let quotient = async || ask(&connector, person()).await[1].clone();
    assert_eq!(quotient().await, Outcome::Found(json!(1)));

    write(&dir, with("2"));
    assert_eq!(quotient().await, Outcome::Found(json!(1)), "the file is looked at once a second");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(quotient().await, Outcome::Found(json!(2)));

    for broken in [with("Secret"), String::new()] {
        write(&dir, broken);
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(quotient().await, Outcome::Found(json!(2)));
        }
    }
    write(&dir, HEADER);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(ask(&connector, person()).await, missing(OutcomeCode::NoFile));
    // The looks run on other threads, whose logs this thread does not capture: at least nothing is said here.
    assert!(!logs.text().contains("Secret"));
}

#[tokio::test]
async fn debug_output_shows_no_line() {
    let connector = csv(&[&format!("{PERSON};700;CM2")]);
    let text = format!("{connector:?}");
    assert!(!text.contains("700") && !text.contains("Lef"), "{text}");
}

#[tokio::test]
async fn a_file_of_an_older_application_is_read_in_its_encoding() {
    let line = format!("{HEADER}\n{PERSON};700;Él\u{e8}ve\n");
    // œ, Œ and the euro are where the two differ.
    let bytes = |oe: u8| -> Vec<u8> {
        line.chars().map(|c| if c == '\u{152}' { oe } else { u8::try_from(u32::from(c)).unwrap() }).collect()
    };
    let open = |encoding: &str, bytes: Vec<u8>| {
        let dir = tempfile::tempdir().unwrap();
        write(&dir, bytes);
        let config = json!({"path": "data", "format": "csv", "dataset": DATASET, "types": {"quotient": "integer"}, "encoding": encoding});
        FileConnector::open(&serde_json::from_value(config).unwrap(), dir.path()).map_err(|error| error.to_string())
    };
    for (encoding, oe) in [("iso-8859-15", 0xbc), ("windows-1252", 0x8c)] {
        let connector = open(encoding, bytes(oe)).unwrap();
        assert_eq!(ask(&connector, person()).await, found([json!("Élève"), json!(700)]), "{encoding}");
    }
    let refused = open("iso-8859-15", bytes(0x8c)).unwrap_err();
    assert!(refused.contains("line 2") && refused.contains("windows-1252"), "{refused}");
    assert!(open("windows-1252", bytes(0x81)).unwrap_err().contains("line 2"));
    assert!(open("utf-8", bytes(0xbc)).unwrap_err().contains("encoding"));
    let json_lines = json!({"path": "data", "format": "jsonl", "dataset": DATASET, "encoding": "iso-8859-15"});
    let json_lines: FileConfig = serde_json::from_value(json_lines).unwrap();
    assert!(json_lines.validate().unwrap_err().to_string().starts_with("encoding: "));
}
