//! Nothing of a person or of a value is written anywhere: not in the log output at its loudest, not in metrics, not in the
//! plain bytes of the store, not in an error.

use std::path::Path;

use unefois_proto::v1::{self, ExchangeRequest};
use unefois_tests::ask::*;
use unefois_tests::process::{self, Process};

/// A name, a given name, a place and a value that appear nowhere else.
const MARKS: [&str; 7] =
    ["ZYGOMATIQUE", "QUINTILLIENNE", "2B033", "918273645", "XYLOPHONISTE", "1903-02-27", "jeton-de-la-personne"];

fn search(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, found);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        // Most of a segment is zeros.
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        for mark in MARKS {
            if bytes.windows(mark.len()).any(|window| window.eq_ignore_ascii_case(mark.as_bytes())) {
                found.push(format!("{mark} in {}", path.display()));
            }
        }
    }
}

fn question() -> ExchangeRequest {
    let mut question = ExchangeRequest { attributes: vec![CHILDREN.to_owned()], ..canteen(MARKS[0]) };
    let person = question.subject.as_mut().unwrap();
    person.given_names = vec![MARKS[1].to_owned()];
    person.birth_commune = MARKS[2].to_owned();
    person.usage_name = MARKS[4].to_owned();
    person.birth_date = MARKS[5].to_owned();
    question.france_connect_token = MARKS[6].to_owned();
    question
}

#[tokio::test]
async fn no_name_place_or_value_reaches_the_log_output_the_metrics_the_store_or_an_error() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("broker");
    let metrics = process::free_address();
    let (folder, key) = process::folder(&path, process::free_address());
    let csv = format!(
        "birth_name;given_names;birth_date;sex;birth_country;birth_commune;enfants_inscrits\n{};{};{};F;99100;{};{}\n",
        MARKS[0], MARKS[1], MARKS[5], MARKS[2], MARKS[3]
    );
    std::fs::write(path.join("sources/periscolaire.csv"), csv).unwrap();
    let config = std::fs::read_to_string(folder.config()).unwrap();
    // Nobody outside is asked: no API Particulier answers at a port of loopback that nobody listens on.
    let real = "https://staging.particulier.api.gouv.fr";
    assert!(config.contains(real));
    let config = config.replace(real, &format!("http://{}", process::free_address()));
    std::fs::write(folder.config(), format!("{config}\n[metrics]\nlisten = \"{metrics}\"\n")).unwrap();
    let broker = Process::serve_with(&folder.config(), "trace");
    let (town_hall, department) =
        (process::client(&folder, "ville").await, process::client(&folder, "departement").await);

    let answer = exchange(&town_hall, question()).await.unwrap();
    assert_eq!(answer.attributes[0].status(), v1::AttributeStatus::Found);
    let mut errors = Vec::new();
    // Refused, malformed, without a source, with a consent, with an objection.
    let refused = ExchangeRequest { attributes: vec!["dss.quotient_familial.adresse".into()], ..question() };
    errors.push(format!("{:?}", exchange(&town_hall, refused).await.unwrap_err()));
    let mut malformed = question();
    malformed.subject.as_mut().unwrap().birth_name.push('\u{7}');
    errors.push(format!("{:?}", exchange(&town_hall, malformed).await.unwrap_err()));
    let down = ExchangeRequest { attributes: vec![QUOTIENT.to_owned()], ..question() };
    let answer = town_hall.exchange().exchange(within_time(down, std::time::Duration::from_secs(2))).await.unwrap();
    assert_eq!(answer.into_inner().attributes[0].status(), v1::AttributeStatus::SourceDown);
    let consent = v1::RecordConsentRequest { subject: question().subject, ..grant("x") };
    let id = granted(&department, consent).await;
    withdraw(&department, &id).await;
    let objection = v1::RecordObjectionRequest { subject: question().subject, procedure: CANTEEN.to_owned() };
    town_hall.consent().record_objection(within(objection)).await.unwrap();

    let mut stream = std::net::TcpStream::connect(metrics).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let metrics = process::read_all(stream);
    assert!(metrics.contains("unefois_exchanges_total"), "{metrics}");
    let log = broker.log();
    assert!(log.len() > 1_000, "the log output is not loud");
    assert_eq!(broker.stop().await, Some(0));
    for (what, text) in [("log output", &log), ("metrics", &metrics), ("errors", &errors.join("\n"))] {
        for mark in MARKS {
            let line = text.lines().find(|line| line.to_ascii_uppercase().contains(mark));
            assert!(line.is_none(), "{mark} is in the {what}: {line:?}");
        }
    }
    let mut found = Vec::new();
    search(&path.join("data"), &mut found);
    assert!(found.is_empty(), "{found:?}");
    unefois_tests::world::check(&path.join("data"), &key);
}
