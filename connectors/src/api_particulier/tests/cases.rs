//! The official fictitious cases, against a stand-in that refuses what the OpenAPI does not allow.
//!
//! It runs where a stand-in and Python with PyYAML are there, and says so where they are not.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use unefois_consent::PivotIdentity;

use super::*;

const PREFIX: &str = "/v3/dss/quotient_familial/";

struct StandIn(Child, String);

impl Drop for StandIn {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl StandIn {
    fn start(script: &Path, cases: &Path) -> Result<Self, String> {
        if !script.is_file() || !cases.is_file() {
            return Err("the stand-in or its cases are not there".to_owned());
        }
        let mut child = Command::new("python3")
            .arg(script)
            .arg("--cases")
            .arg(cases)
            .args(["--token", TOKEN])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("python3 does not run: {e}"))?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no output")?;
        let read = BufReader::new(stdout).read_line(&mut line);
        let stand_in = Self(child, line.trim().replace("listening on ", "http://"));
        match read {
            Ok(_) if stand_in.1.starts_with("http://") => Ok(stand_in),
            Ok(_) | Err(_) => Err("the stand-in did not start (is PyYAML installed?)".to_owned()),
        }
    }
}

/// The person and the filters of a case.
fn asked_of(case: &Value) -> Asked {
    let params = &case["params"];
    let number = |name: &str| params[name].as_u64().map(|n| n.to_string());
    let date = ["anneeDateNaissance", "moisDateNaissance", "jourDateNaissance"];
    let date: Vec<String> = date.iter().map_while(|n| params[*n].as_u64()).map(|n| format!("{n:02}")).collect();
    let filters: Vec<(&str, String)> = ["annee", "mois"].iter().filter_map(|n| Some((*n, number(n)?))).collect();
    let filters: Vec<(&str, &str)> = filters.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let asked = Asked::filtered(DATASET, &ALL, &filters);
    if let Some(bearer) = case["bearer"].as_str() {
        return asked.with_token(bearer);
    }
    let given = params["prenoms"].as_array().map(|names| names.iter().map(|n| n.as_str().unwrap()).collect::<Vec<_>>());
    let person: PivotIdentity = {
        let name = params["nomNaissance"].as_str().unwrap();
        let mut person = identity(name, &given.unwrap_or_default(), &date.join("-"));
        person.usage_name = params["nomUsage"].as_str().map(|n| n.parse().unwrap());
        person.sex = if params["sexeEtatCivil"] == "M" { Sex::Male } else { Sex::Female };
        person.birth_country = CogCode::country(params["codeCogInseePaysNaissance"].as_str().unwrap()).unwrap();
        let commune = params["codeCogInseeCommuneNaissance"].as_str();
        person.birth_commune = commune.map(|c| CogCode::commune(c).unwrap());
        person
    };
    asked.about(person)
}

/// Whether the answer is what the case's body says.
fn agrees(case: &Value, answer: &Result<SourceAnswer, SourceFault>) -> bool {
    let data = &case["body"]["data"];
    match (case["status"].as_u64().unwrap(), answer) {
        (200, Ok(answer)) => answer.outcomes.iter().all(|(attribute, outcome)| {
            let row =
                table::datasets().find(|row| row.dataset == DATASET).unwrap().attribute(attribute.name()).unwrap();
            let expected = row.field.split('.').fold(data, |value, field| &value[field]);
            *outcome == Outcome::Found(expected.clone())
        }),
        (404, Ok(answer)) => codes(answer).iter().all(|c| *c == OutcomeCode::NoFile),
        (422, Ok(answer)) => codes(answer).iter().all(|c| *c == OutcomeCode::NotIdentified),
        (429, Err(SourceFault::RateLimited(_))) => true,
        (502..=504, Err(SourceFault::Down(_))) => true,
        _ => false,
    }
}

#[tokio::test]
async fn the_official_cases_are_answered_as_they_say() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let cases = std::env::var_os("UNEFOIS_CASES")
        .map_or_else(|| shared.join("data/api-particulier/cases.jsonl"), PathBuf::from);
    let stand_in = match StandIn::start(&shared.join("tools/api_particulier_standin.py"), &cases) {
        Ok(stand_in) => stand_in,
        Err(why) => return println!("official cases: not run: {why}"),
    };
    let connector = connector(&stand_in.1);
    let text = std::fs::read_to_string(cases).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut agreed = 0;
    let mut others = Vec::new();
    for case in all.filter(|c| c["path"].as_str().unwrap().starts_with(PREFIX) && c["askable"] == true) {
        let answer = connector.fetch(asked_of(&case).fetch()).await;
        if agrees(&case, &answer) {
            agreed += 1;
        } else {
            others.push(format!("{}: {answer:?}", case["file"]));
        }
    }
    println!("official cases: {agreed} agreed, {} did not", others.len());
    assert!(others.is_empty() && agreed > 0, "{others:#?}");
}
