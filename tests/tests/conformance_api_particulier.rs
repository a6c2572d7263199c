//! Conformance: every askable quotient_familial case of API Particulier's official test cases, through the real broker
//! over gRPC, against a strict stand-in of the API. Reads the file that `UNEFOIS_CASES` names; where it is not set, the
//! one beside the checkout. Needs python3 with PyYAML.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use unefois_proto::v1::{self, AttributeStatus, ExchangeRequest, Identity};
use unefois_proto::value::to_json;
use unefois_tests::ask::*;
use unefois_tests::process::{self, Process};

/// Every attribute of the dataset, with where the case's body has it.
const ATTRIBUTES: [(&str, &str); 9] = [
    ("valeur", "/data/quotient_familial/valeur"),
    ("fournisseur", "/data/quotient_familial/fournisseur"),
    ("annee", "/data/quotient_familial/annee"),
    ("mois", "/data/quotient_familial/mois"),
    ("annee_calcul", "/data/quotient_familial/annee_calcul"),
    ("mois_calcul", "/data/quotient_familial/mois_calcul"),
    ("allocataires", "/data/allocataires"),
    ("enfants", "/data/enfants"),
    ("adresse", "/data/adresse"),
];

struct StandIn(Child, String);

impl StandIn {
    fn start(tool: &Path, cases: &Path) -> Self {
        let mut child = Command::new("python3")
            .arg(tool)
            .args(["--token", "conformance", "--cases"])
            .arg(cases)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("the stand-in listens: is PyYAML installed?");
        Self(child, format!("http://{address}"))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(params: &Value, name: &str) -> String {
    params.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The identity that a case asks with. A case for FranceConnect may name less than a whole one: the token counts there.
fn identity(params: &Value) -> Identity {
    let number = |name: &str| params.get(name).and_then(Value::as_i64);
    let birth_date = match (number("anneeDateNaissance"), number("moisDateNaissance"), number("jourDateNaissance")) {
        (Some(y), Some(m), Some(d)) => format!("{y:04}-{m:02}-{d:02}"),
        (Some(y), Some(m), None) => format!("{y:04}-{m:02}"),
        (Some(y), ..) => format!("{y:04}"),
        (None, ..) => String::new(),
    };
    let given = params.get("prenoms").and_then(Value::as_array).cloned().unwrap_or_else(|| vec!["Sans".into()]);
    Identity {
        birth_name: text(params, "nomNaissance"),
        usage_name: text(params, "nomUsage"),
        given_names: given.iter().map(|n| n.as_str().unwrap().to_owned()).collect(),
        birth_date,
        sex: if text(params, "sexeEtatCivil") == "M" { v1::Sex::Male } else { v1::Sex::Female } as i32,
        birth_country: text(params, "codeCogInseePaysNaissance"),
        birth_commune: text(params, "codeCogInseeCommuneNaissance"),
    }
}

fn question(case: &Value) -> ExchangeRequest {
    let params = &case["params"];
    let parameters: std::collections::HashMap<_, _> = ["annee", "mois"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), params.get(*name)?.as_i64()?.to_string())))
        .collect();
    let filter = v1::DatasetFilter { dataset: "dss.quotient_familial".to_owned(), parameters };
    let franceconnect = case["path"].as_str().unwrap().ends_with("/france_connect");
    ExchangeRequest {
        attributes: ATTRIBUTES.iter().map(|(name, _)| format!("dss.quotient_familial.{name}")).collect(),
        filters: if filter.parameters.is_empty() { Vec::new() } else { vec![filter] },
        subject: Some(identity(params)),
        france_connect_token: if franceconnect { case["bearer"].as_str().unwrap().to_owned() } else { String::new() },
        ..canteen("REMPLACÉ")
    }
}

/// The status that a case calls for.
fn expected(case: &Value) -> AttributeStatus {
    let code = case["body"]["errors"][0]["code"].as_str().unwrap_or_default();
    match case["status"].as_u64().unwrap() {
        200 => AttributeStatus::Found,
        404 => AttributeStatus::NoFile,
        422 if code == "00355" || code == "00366" => AttributeStatus::NotIdentified,
        409 | 422 if code == "00391" || (code.ends_with("015") && code != "00015") => AttributeStatus::Ambiguous,
        409 | 429 => AttributeStatus::RateLimited,
        401 | 403 => AttributeStatus::NotAuthorised,
        _ => AttributeStatus::SourceDown,
    }
}

fn agrees(case: &Value, answer: &v1::ExchangeResponse) -> Result<(), String> {
    for ((name, place), attribute) in ATTRIBUTES.iter().zip(&answer.attributes) {
        if attribute.status() != expected(case) {
            return Err(format!("{name} is {:?}, not {:?}", attribute.status(), expected(case)));
        }
        let value = attribute.value.as_ref().map(to_json);
        if value.as_ref() != case["body"].pointer(place) {
            return Err(format!("{name} has another value"));
        }
    }
    if answer.attributes.len() == ATTRIBUTES.len() { Ok(()) } else { Err("attributes are missing".to_owned()) }
}

#[tokio::test]
async fn conformance_with_the_official_cases_of_quotient_familial() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let tool = shared.join("tools/api_particulier_standin.py");
    if !tool.exists() {
        println!("conformance: not run: there is no shared/tools/api_particulier_standin.py beside the checkout");
        return;
    }
    let cases_file = std::env::var_os("UNEFOIS_CASES")
        .map_or_else(|| shared.join("data/api-particulier/cases.jsonl"), PathBuf::from);
    let lines =
        std::fs::read_to_string(&cases_file).unwrap_or_else(|error| panic!("{}: {error}", cases_file.display()));
    let cases: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_dataset = |case: &&Value| case["path"].as_str().unwrap().starts_with("/v3/dss/quotient_familial/");
    let askable: Vec<_> = cases.iter().filter(of_dataset).filter(|case| case["askable"] == true).collect();
    assert!(!askable.is_empty(), "{} holds no askable case of quotient_familial", cases_file.display());

    let standin = StandIn::start(&tool, &cases_file);
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("broker");
    let (folder, key) = process::folder(&path, process::free_address());
    let change = |name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(path.join(name)).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(path.join(name), text.replace(from, to)).unwrap();
    };
    change("unefois.toml", "https://staging.particulier.api.gouv.fr", &standin.1);
    change("secrets/api-particulier.token", "put-your-token-here", "conformance");
    let all: Vec<_> = ATTRIBUTES.iter().map(|(name, _)| format!("\"dss.quotient_familial.{name}\"")).collect();
    let one = "attributes = [\"dss.quotient_familial.valeur\", \"saint-exemple.periscolaire.enfants_inscrits\"]";
    change("registry.toml", one, &format!("attributes = [{}]", all.join(", ")));
    let broker = Process::serve(&folder.config());
    let town_hall = process::client(&folder, "ville").await;

    let mut disagreed = Vec::new();
    for case in &askable {
        let outcome = match exchange(&town_hall, question(case)).await {
            Ok(answer) => agrees(case, &answer),
            Err(status) => Err(format!("{:?}: {}", status.code(), status.message())),
        };
        if let Err(what) = outcome {
            disagreed.push(format!("{}: {what}", case["file"].as_str().unwrap_or("a case")));
        }
    }
    println!("conformance quotient_familial: asked {}, agreed {}", askable.len(), askable.len() - disagreed.len());
    assert!(disagreed.is_empty(), "{}", disagreed.join("\n"));
    assert_eq!(broker.stop().await, Some(0));
    unefois_tests::world::check(&path.join("data"), &key);
}
