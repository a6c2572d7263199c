//! Conformance: every askable case of API Particulier's official test cases, of all its datasets, through the real broker
//! over gRPC, against a strict stand-in of the API. Where a case has data, each attribute is asked alone too and comes
//! alone. Reads the file that `UNEFOIS_CASES` names; where it is not set, the one beside the checkout. The datasets are
//! those of deploy/registry-api-particulier.toml. Needs python3 with PyYAML.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tonic::Code;
use unefois::client::Client;
use unefois_connectors::api_particulier::table::{self, DatasetRow, Modality, Route};
use unefois_consent::registry::{Dataset, RegistryFile};
use unefois_proto::v1::{self, AttributeStatus, ExchangeRequest, Identity};
use unefois_proto::value::to_json;
use unefois_tests::ask::*;
use unefois_tests::process::{self, Process};
use unefois_tests::standin::{StandIn, shared};

/// How often a question is asked that a busy stand-in did not answer.
const ATTEMPTS: usize = 5;
/// How many cases are asked at once.
const WORKERS: usize = 8;
/// Errors about a filter, in the API's table of errors.
const FILTERS: [&str; 18] = [
    "00305", "00307", "00315", "00353", "00354", "00356", "00360", "00368", "00380", "00410", "00411", "00412",
    "00413", "00414", "00416", "00417", "00419", "00430",
];
const TOKEN: &str = "conformance";

/// The sample registry's datasets.
fn datasets() -> Vec<Dataset> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/registry-api-particulier.toml");
    let file: RegistryFile = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file.datasets
}

/// A case with the row, the route and the dataset that its path is of.
struct Case {
    json: Value,
    row: &'static DatasetRow,
    route: &'static Route,
    dataset: String,
}

impl Case {
    fn new(json: Value, datasets: &[Dataset]) -> Self {
        let path = json["path"].as_str().unwrap();
        let mut routes = table::datasets().flat_map(|row| row.routes.iter().map(move |route| (row, route)));
        let (row, route) = routes.find(|(_, route)| route.path == path).unwrap_or_else(|| panic!("no row for {path}"));
        let version = format!("v{}", row.version);
        let dataset = datasets.iter().find(|d| row.is_named(d.id.as_str()) && d.version == version);
        let dataset = dataset.unwrap_or_else(|| panic!("the sample registry lacks {path}")).id.to_string();
        Self { json, row, route, dataset }
    }

    /// What the path tells.
    fn attributes(&self) -> Vec<&'static str> {
        self.row.attributes.iter().filter(|a| a.is_offered_by(self.route)).map(|a| a.name).collect()
    }

    /// The identity that the case asks with. Where its parameters do not name a person, it is the one in its answer.
    fn identity(&self) -> Identity {
        let params = &self.json["params"];
        let person = self.row.person.as_ref();
        let told = |name: fn(&table::PersonFields) -> Option<&'static str>| {
            let value = person.and_then(|p| self.json["body"]["data"][p.at].get(name(p)?));
            value.cloned().unwrap_or(Value::Null)
        };
        let text = |name: &str, or: Value, default: &str| {
            let given = params.get(name).and_then(Value::as_str).or(or.as_str()).filter(|text| !text.is_empty());
            given.unwrap_or(default).to_owned()
        };
        let list = |names: Value| match names {
            Value::Array(names) => names.iter().map(|n| n.as_str().unwrap().to_owned()).collect(),
            Value::String(name) => vec![name],
            _ => Vec::new(),
        };
        let mut given_names: Vec<String> = list(params.get("prenoms").cloned().unwrap_or(Value::Null));
        if given_names.is_empty() {
            given_names = list(told(|p| Some(p.given_names)));
        }
        if given_names.is_empty() {
            given_names.push("Sans".to_owned());
        }
        let number = |name: &str| params.get(name).and_then(Value::as_i64);
        let birth_date = match (number("anneeDateNaissance"), number("moisDateNaissance"), number("jourDateNaissance"))
        {
            (Some(y), Some(m), Some(d)) => format!("{y:04}-{m:02}-{d:02}"),
            (Some(y), Some(m), None) => format!("{y:04}-{m:02}"),
            (Some(y), ..) => format!("{y:04}"),
            (None, ..) => told(|p| p.birth_date).as_str().unwrap_or_default().to_owned(),
        };
        Identity {
            birth_name: text("nomNaissance", told(|p| Some(p.birth_name)), "REMPLACÉ"),
            usage_name: text("nomUsage", Value::Null, ""),
            given_names,
            birth_date,
            sex: if params["sexeEtatCivil"] == "M" { v1::Sex::Male } else { v1::Sex::Female } as i32,
            birth_country: text("codeCogInseePaysNaissance", Value::Null, "99100"),
            birth_commune: text("codeCogInseeCommuneNaissance", Value::Null, ""),
        }
    }

    fn question(&self, attributes: &[&str]) -> ExchangeRequest {
        let filter = |name: &str| {
            Some(match self.json["params"].get(name)? {
                Value::String(text) => text.clone(),
                Value::Array(items) => items.iter().map(|i| i.as_str().unwrap()).collect::<Vec<_>>().join(","),
                other => other.to_string(),
            })
        };
        let parameters: HashMap<_, _> =
            self.row.filters.iter().filter_map(|row| Some((row.name.to_owned(), filter(row.name)?))).collect();
        let by_token = self.route.modality == Modality::FranceConnect;
        let token = if by_token { self.json["bearer"].as_str().unwrap().to_owned() } else { String::new() };
        ExchangeRequest {
            attributes: attributes.iter().map(|name| format!("{}.{name}", self.dataset)).collect(),
            filters: if parameters.is_empty() {
                Vec::new()
            } else {
                vec![v1::DatasetFilter { dataset: self.dataset.clone(), parameters }]
            },
            subject: Some(self.identity()),
            france_connect_token: token,
            ..canteen("REMPLACÉ")
        }
    }

    /// What the case calls for, of one attribute.
    fn expected(&self, attribute: &str) -> (AttributeStatus, Option<Value>) {
        let body = &self.json["body"];
        let error = |name: &str| body["errors"][0][name].as_str().unwrap_or_default();
        let code = error("code");
        let status = match self.json["status"].as_u64().unwrap() {
            200 if body["meta"]["identity_matching"]["overall_match"] == false => AttributeStatus::NotIdentified,
            200 => match place(&body["data"], self.row.attribute(attribute).unwrap().field) {
                Some(value) => return (AttributeStatus::Found, Some(value)),
                // A field that the token has no scope for is left out.
                None => AttributeStatus::NotAuthorised,
            },
            401 | 403 => AttributeStatus::NotAuthorised,
            404 if !code.starts_with("00") && error("title") != "Erreur inattendue" => AttributeStatus::NoFile,
            422 if code == "00355" || code == "00366" => AttributeStatus::NotIdentified,
            409 | 422 if code == "00391" || (code.ends_with("015") && code != "00015") => AttributeStatus::Ambiguous,
            422 if code == "39400" || code == "23502" => AttributeStatus::NoFile,
            422 if FILTERS.contains(&code) => AttributeStatus::FilterRefused,
            409 if code == "00015" => AttributeStatus::RateLimited,
            429 => AttributeStatus::RateLimited,
            _ => AttributeStatus::SourceDown,
        };
        (status, None)
    }

    /// Asks `attributes` and nothing else, and compares each.
    async fn ask(&self, client: &Client, attributes: &[&str]) -> Result<(), String> {
        let mut told = String::new();
        for _ in 0..ATTEMPTS {
            let message = within_time(self.question(attributes), Duration::from_secs(60));
            let answer = client.exchange().exchange(message).await;
            told = match answer {
                Ok(answer) => match self.compare(attributes, &answer.into_inner()) {
                    Ok(()) => return Ok(()),
                    Err(Difference::Busy(told)) => told,
                    Err(Difference::Other(told)) => return Err(told),
                },
                Err(status) if status.code() == Code::DeadlineExceeded => "the deadline passed".to_owned(),
                Err(status) => return Err(format!("{:?}: {}", status.code(), status.message())),
            };
        }
        Err(told)
    }

    /// All that the path tells at once, and each attribute alone where there is data.
    async fn ask_whole_and_alone(&self, client: &Client) -> Asked {
        let names = self.attributes();
        let whole = self.ask(client, &names).await;
        let mut attributes = Vec::new();
        if self.json["status"] == 200 {
            for name in names {
                attributes.push(self.ask(client, &[name]).await);
            }
        }
        let file = self.json["file"].as_str().unwrap_or("a case").to_owned();
        Asked { dataset: self.dataset.clone(), whole, attributes, file }
    }

    fn compare(&self, asked: &[&str], answer: &v1::ExchangeResponse) -> Result<(), Difference> {
        let names: Vec<_> = answer.attributes.iter().map(|a| a.name.rsplit_once('.').unwrap().1).collect();
        if names != asked {
            return Err(Difference::Other(format!("asked {asked:?}, answered {names:?}")));
        }
        for (name, attribute) in asked.iter().zip(&answer.attributes) {
            let (status, value) = self.expected(name);
            if attribute.status() != status {
                let told = format!("{name} is {:?}, not {status:?}", attribute.status());
                let busy = matches!(attribute.status(), AttributeStatus::RateLimited | AttributeStatus::SourceDown);
                return Err(if busy { Difference::Busy(told) } else { Difference::Other(told) });
            }
            let same = match (attribute.value.as_ref().map(to_json), &value) {
                (Some(got), Some(wanted)) => is_same(&got, wanted),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !same {
                return Err(Difference::Other(format!("{name} has another value")));
            }
        }
        Ok(())
    }
}

/// What became of one case.
struct Asked {
    dataset: String,
    whole: Result<(), String>,
    attributes: Vec<Result<(), String>>,
    file: String,
}

/// How an answer differs from its case.
enum Difference {
    /// As it may where the stand-in is slow or refuses for its own rate.
    Busy(String),
    Other(String),
}

/// The value at a place such as `a.b` or `a[].b`.
fn place(data: &Value, path: &str) -> Option<Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let value = data.get(first.trim_end_matches("[]"))?;
    match rest {
        None => Some(value.clone()),
        Some(_) if value.is_null() => Some(Value::Null),
        Some(rest) if first.ends_with("[]") => {
            let each: Vec<_> = value.as_array().unwrap().iter().map(|item| place(item, rest)).collect();
            let none = !each.is_empty() && each.iter().all(Option::is_none);
            (!none).then(|| each.into_iter().map(Option::unwrap_or_default).collect())
        }
        Some(rest) => place(value, rest),
    }
}

/// Whether two values are the same; a number on the wire is a double.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// A broker whose registry has every dataset of the sample, and whose API Particulier is the stand-in.
fn configure(path: &Path, standin: &StandIn, datasets: Vec<Dataset>) {
    let change = |name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(path.join(name)).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(path.join(name), text.replace(from, to)).unwrap();
    };
    let url = "base_url = \"https://staging.particulier.api.gouv.fr\"";
    // The stand-in has no rate of its own, and is not to be waited for.
    let rates = "rates = { per_token_per_s = 10000, per_address_per_min = 100000 }\nlimits = { timeout_ms = 30000 }";
    change("unefois.toml", url, &format!("base_url = \"{}\"\n{rates}", standin.url));
    change("secrets/api-particulier.token", "put-your-token-here", TOKEN);

    let file = path.join("registry.toml");
    let mut registry: RegistryFile = toml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let town_hall = registry.habilitations.iter_mut().find(|h| h.participant.as_str() == unefois::init::TOWN_HALL);
    let all = datasets.iter().flat_map(|d| d.attributes.iter().map(|a| d.id.attribute(&a.name).unwrap()));
    town_hall.unwrap().attributes.extend(all);
    registry.datasets.retain(|known| !datasets.iter().any(|d| d.id == known.id));
    registry.datasets.extend(datasets);
    std::fs::write(file, toml::to_string(&registry).unwrap()).unwrap();
}

#[tokio::test]
async fn conformance_with_the_official_cases_of_all_datasets() {
    if !StandIn::tool().exists() {
        println!("conformance: not run: there is no shared/tools/api_particulier_standin.py beside the checkout");
        return;
    }
    let cases_file = std::env::var_os("UNEFOIS_CASES")
        .map_or_else(|| shared().join("data/api-particulier/cases.jsonl"), PathBuf::from);
    let lines =
        std::fs::read_to_string(&cases_file).unwrap_or_else(|error| panic!("{}: {error}", cases_file.display()));
    let datasets = datasets();
    let lines = lines.lines().filter(|line| !line.trim().is_empty());
    let cases = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let askable = cases.filter(|case| case["askable"] == true).map(|case| Case::new(case, &datasets));
    let askable: Vec<Case> = askable.collect();
    assert!(!askable.is_empty(), "{} holds no askable case", cases_file.display());

    let standin = StandIn::start(TOKEN, &["--cases", cases_file.to_str().unwrap()]);
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("broker");
    let (folder, key) = process::folder(&path, process::free_address());
    configure(&path, &standin, datasets);
    let broker = Process::serve(&folder.config());
    let town_hall = process::client(&folder, "ville").await;

    let (askable, town_hall) = (Arc::new(askable), Arc::new(town_hall));
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (askable, town_hall) = (Arc::clone(&askable), Arc::clone(&town_hall));
        workers.spawn(async move {
            let mut asked = Vec::new();
            for case in askable.iter().skip(worker).step_by(WORKERS) {
                asked.push(case.ask_whole_and_alone(&town_hall).await);
            }
            asked
        });
    }
    let asked = workers.join_all().await.into_iter().flatten();

    let mut disagreed = Vec::new();
    let mut by_dataset: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut alone = (0, 0);
    for Asked { dataset, whole, attributes, file } in asked {
        let counts = by_dataset.entry(dataset).or_default();
        *counts = (counts.0 + 1, counts.1 + usize::from(whole.is_ok()));
        let agreed = attributes.iter().filter(|one| one.is_ok()).count();
        alone = (alone.0 + attributes.len(), alone.1 + agreed);
        let outcomes = std::iter::once(whole).chain(attributes);
        disagreed.extend(outcomes.filter_map(Result::err).map(|what| format!("{file}: {what}")));
    }
    for (dataset, (asked, agreed)) in &by_dataset {
        println!("conformance {dataset}: asked {asked}, agreed {agreed}");
    }
    let agreed: usize = by_dataset.values().map(|(_, agreed)| agreed).sum();
    println!("conformance attributes alone: asked {}, agreed {}", alone.0, alone.1);
    println!("conformance api_particulier: asked {}, agreed {agreed}", askable.len());
    assert!(disagreed.is_empty(), "{}", disagreed.join("\n"));
    assert_eq!(broker.stop().await, Some(0));
    unefois_tests::world::check(&path.join("data"), &key);
}
