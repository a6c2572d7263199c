use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tonic::Status;
use unefois_consent::{Outcome, OutcomeCode};
use unefois_proto::connector::v1::{AttributeOutcome, FetchResponse, OutcomeCode as Wire};
use unefois_proto::value::to_wire;

use super::*;
use crate::testing::tls::Tls;
use crate::testing::{Asked, EXCHANGE, RECIPIENT, dataset_of};
use crate::{Guarded, Limits};

mod process;
pub(crate) mod scripted;

use scripted::{Scripted, found};

pub(super) const DATASET: &str = "mairie.sport";
/// Quick to notice, and quick to begin anew.
pub(super) const QUICK: Pace = Pace {
    start_within: Duration::from_secs(2),
    health_every: Duration::from_millis(50),
    health_within: Duration::from_millis(500),
    pause: (Duration::from_millis(20), Duration::from_millis(100)),
    well_after: Duration::from_secs(60),
};

/// A plugin at a socket of its own, and the connector to it.
struct Bed {
    plugin: Arc<Scripted>,
    connector: Arc<PluginConnector>,
    _folder: TempDir,
}

impl Bed {
    fn start(plugin: Scripted) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plugin = plugin.serve(&folder.path().join("socket"));
        let config = json!({"socket": "socket", "datasets": [DATASET], "limits": {"timeout_ms": 1500, "max_answer_bytes": 1024}});
        let connector = open(config, folder.path());
        Self { plugin, connector: Arc::new(connector), _folder: folder }
    }

    fn guarded(&self) -> Guarded {
        let limits = Limits { timeout: Duration::from_millis(1500), max_answer_bytes: 1024, ..Limits::default() };
        Guarded::new("sport".parse().unwrap(), Arc::<PluginConnector>::clone(&self.connector), limits)
    }
}

pub(super) fn open(config: serde_json::Value, folder: &Path) -> PluginConnector {
    let config: PluginConfig = serde_json::from_value(config).unwrap();
    PluginConnector::open_at(&"sport".parse().unwrap(), &config, folder, QUICK).unwrap()
}

pub(super) async fn until(condition: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come about in 10 s");
}

pub(super) fn asked() -> Asked {
    Asked::new(DATASET, &["licence", "club"])
}

fn codes(answer: &SourceAnswer) -> Vec<OutcomeCode> {
    answer.outcomes.iter().map(|(_, outcome)| outcome.code()).collect()
}

#[tokio::test]
async fn the_plugin_gets_the_question_and_nothing_more() {
    let bed = Bed::start(Scripted::new());
    let asked = Asked::filtered(DATASET, &["club"], &[("saison", "2026")]).with_token("the-token");
    let answer = bed.guarded().ask(asked.fetch()).await;
    assert_eq!(answer.outcomes, [(asked.attribute(0), Outcome::Found(json!("of club")))]);
    assert_eq!(answer.reference.as_deref(), Some("ref-1"));
    let (message, timeout) = bed.plugin.last();
    assert_eq!((message.exchange_id.as_str(), message.recipient.as_str()), (EXCHANGE, RECIPIENT));
    assert_eq!((message.procedure.as_str(), message.ground), ("cantine", 1));
    assert_eq!((message.dataset.as_str(), message.dataset_version.as_str()), (DATASET, "3"));
    assert_eq!(message.attributes, ["club"]);
    assert_eq!(message.filter.get("saison").map(String::as_str), Some("2026"));
    assert_eq!(message.subject.unwrap().birth_name, "Lefèvre-d'Œuvre");
    assert_eq!(message.access_token, "the-token");
    // `grpc-timeout`: at most eight digits and a unit.
    assert!(timeout.is_some_and(|timeout| timeout.ends_with('u') || timeout.ends_with('m')));
}

#[tokio::test]
async fn a_lie_is_an_answer_that_cannot_be_trusted() {
    let of = |name: &str, code: Wire, value: Option<serde_json::Value>| AttributeOutcome {
        name: name.to_owned(),
        code: code.into(),
        value: value.as_ref().map(to_wire),
    };
    let club = || found("club", &json!("ASL"));
    let lies = [
        ("one is missing", vec![found("licence", &json!("A1"))]),
        ("twice", vec![found("licence", &json!("A1")), found("licence", &json!("A2")), club()]),
        ("found without a value", vec![of("licence", Wire::Found, None), club()]),
        ("a value without found", vec![of("licence", Wire::NoFile, Some(json!("A1"))), club()]),
        ("no code", vec![of("licence", Wire::Unspecified, None), club()]),
        ("too large", vec![found("licence", &json!("A".repeat(2000))), club()]),
        ("beyond any message", vec![found("licence", &json!("A".repeat(1 << 20))), club()]),
    ];
    for (lie, attributes) in lies {
        let said = FetchResponse { attributes, reference: String::new() };
        let bed = Bed::start(Scripted::new().says(move |_| Ok(said.clone())));
        assert_eq!(codes(&bed.guarded().ask(asked().fetch()).await), [OutcomeCode::SourceDown; 2], "{lie}");
    }
}

#[tokio::test]
async fn what_was_not_asked_goes_no_further_and_order_does_not_matter() {
    let more = ["club", "adresse", "licence"].map(|name| found(name, &json!(name)));
    let said = FetchResponse { attributes: more.to_vec(), reference: "\u{e9}".to_owned() };
    let bed = Bed::start(Scripted::new().says(move |_| Ok(said.clone())));
    let answer = bed.guarded().ask(asked().fetch()).await;
    let names: Vec<_> = answer.outcomes.iter().map(|(attribute, _)| attribute.name()).collect();
    assert_eq!(names, ["licence", "club"]);
    assert_eq!(answer.reference, None, "a reference is visible ASCII");
}

#[tokio::test]
async fn each_status_has_its_meaning() {
    use OutcomeCode::{NotAuthorised, RateLimited, SourceDown};
    let cases = [
        (Status::unavailable("x"), SourceDown),
        (Status::resource_exhausted("x"), RateLimited),
        (Status::permission_denied("x"), NotAuthorised),
        (Status::unauthenticated("x"), NotAuthorised),
        (Status::internal("x"), SourceDown),
        (Status::not_found("x"), SourceDown),
        (Status::deadline_exceeded("x"), SourceDown),
    ];
    for (status, expected) in cases {
        let told = status.code();
        let bed = Bed::start(Scripted::new().says(move |_| Err(status.clone())));
        assert_eq!(codes(&bed.guarded().ask(asked().fetch()).await), [expected; 2], "{told:?}");
        let tries = if told == tonic::Code::Unavailable { 2 } else { 1 };
        assert_eq!(bed.plugin.asked(), tries, "{told:?}: only one that is down is asked again");
    }
}

#[tokio::test]
async fn a_plugin_that_hangs_hurts_nobody_else() {
    let (hanging, well) = (Bed::start(Scripted::new().hangs()), Bed::start(Scripted::new()));
    let (hanging, well) = (hanging.guarded(), well.guarded());
    let asked = asked();
    let slow = hanging.ask(asked.fetch());
    let quick = async {
        let begun = tokio::time::Instant::now();
        let answer = well.ask(asked.fetch()).await;
        (answer, begun.elapsed())
    };
    let (slow, (quick, took)) = tokio::join!(slow, quick);
    assert_eq!(codes(&slow), [OutcomeCode::SourceDown; 2]);
    assert_eq!(codes(&quick), [OutcomeCode::Found; 2]);
    assert!(took < Duration::from_millis(1_400), "{took:?}");
}

#[tokio::test]
async fn a_question_whose_time_is_up_says_so() {
    let bed = Bed::start(Scripted::new().hangs());
    assert!(bed.connector.ready(tokio::time::Instant::now().into_std() + Duration::from_secs(5)).await.is_ok());
    for _ in 0..5 {
        let mut asked = asked();
        asked.timeout = Duration::from_millis(50);
        // Beside the guard, whose own clock would say the same.
        assert_eq!(bed.connector.fetch(asked.fetch()).await, Err(SourceFault::Timeout));
    }
}

#[tokio::test]
async fn a_plugin_that_describes_or_speaks_something_else_is_down() {
    let cases = [
        (Scripted::new().speaks(2), "it chose a version of the contract that was not offered"),
        (Scripted::new().describes(&[]), "it does not describe every dataset of `datasets`"),
        (Scripted::new().describes(&[DATASET, DATASET]), "it describes a dataset twice"),
    ];
    for (plugin, why) in cases {
        let bed = Bed::start(plugin);
        let asked = asked();
        assert_eq!(bed.connector.fetch(asked.fetch()).await, Err(SourceFault::Down(why)));
    }
}

#[tokio::test]
async fn one_that_is_no_longer_well_is_begun_anew() {
    let bed = Bed::start(Scripted::new());
    let asked = asked();
    assert!(bed.connector.fetch(asked.fetch()).await.is_ok());
    bed.plugin.set_well(false).await;
    until(|| bed.connector.now().is_none()).await;
    assert_eq!(bed.connector.fetch(asked.fetch()).await.unwrap_err().code(), "down");
    bed.plugin.set_well(true).await;
    until(|| bed.connector.now().is_some()).await;
    assert!(bed.connector.fetch(asked.fetch()).await.is_ok());
}

#[tokio::test]
async fn what_a_question_needs_is_refused_before_it_is_asked() {
    let bed = Bed::start(Scripted::new().needs("saison"));
    let dataset = dataset_of(DATASET, &["licence"]);
    assert!(bed.connector.check(&dataset, &Filter::new(), true).is_ok(), "it was not described yet");
    bed.connector.start();
    until(|| bed.connector.now().is_some()).await;
    let refused = bed.connector.check(&dataset, &Filter::new(), true).unwrap_err().to_string();
    assert!(refused.contains("filters.mairie.sport.saison"), "{refused}");
    let filter = Filter::from([("saison".to_owned(), "2026".to_owned())]);
    let refused = bed.connector.check(&dataset, &filter, false).unwrap_err().to_string();
    assert!(refused.contains("france_connect_token"), "{refused}");
    assert!(bed.connector.check(&dataset, &filter, true).is_ok());
    assert_eq!(bed.connector.lacks(&dataset_of(DATASET, &["age"])).as_deref(), Some("attribute age"));
    assert_eq!(bed.connector.lacks(&dataset), None);
}

#[test]
fn a_wrong_place_is_refused_by_its_key() {
    let remote = json!({"url": "https://sport.example:7444", "ca_file": "ca.pem", "client_identity_file": "id.pem"});
    let with = |changes: serde_json::Value| {
        let mut config = json!({"datasets": [DATASET]});
        let members = config.as_object_mut().unwrap();
        members.extend(changes.as_object().unwrap().clone());
        serde_json::from_value::<PluginConfig>(config).unwrap().validate()
    };
    assert!(with(remote.clone()).is_ok());
    assert!(with(json!({"socket": "s"})).is_ok());
    assert!(with(json!({"command": ["./plugin"], "environment": {"A_1": "x"}, "max_memory_mb": 64})).is_ok());
    let wrong = [
        (json!({}), "command"),
        (json!({"command": ["plugin"]}), "command"),
        (json!({"command": ["./plugin"], "socket": "s"}), "command"),
        (json!({"socket": "s", "max_memory_mb": 64}), "command"),
        (json!({"socket": "s", "output_file": "log"}), "command"),
        (json!({"command": ["./plugin"], "max_memory_mb": 1}), "max_memory_mb"),
        (json!({"command": ["./plugin"], "environment": {"A=B": "x"}}), "environment"),
        (json!({"socket": "s", "ca_file": "ca.pem"}), "url"),
        (json!({"url": "https://sport.example:7444"}), "url"),
        (json!({"url": "http://127.0.0.1:1", "ca_file": "ca.pem", "client_identity_file": "id.pem"}), "url"),
        (json!({"url": "https://sport.example/path", "ca_file": "ca.pem", "client_identity_file": "id.pem"}), "url"),
        (json!({"socket": "s", "datasets": []}), "datasets"),
    ];
    for (changes, key) in wrong {
        let error = with(changes.clone()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{key}: ")), "{changes}: {error}");
    }
}

#[tokio::test]
async fn over_mutual_tls_both_sides_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::make(folder.path());
    let (plugin, address) = Scripted::new().serve_tls(&tls).await;
    let config = |identity: &str, name: &str| {
        json!({"url": format!("https://{address}"), "ca_file": "ca.pem", "client_identity_file": identity,
            "server_name": name, "datasets": [DATASET]})
    };
    let asked = asked();
    let right = open(config("client.pem", "source.example"), folder.path());
    assert!(right.fetch(asked.fetch()).await.is_ok());
    assert_eq!(plugin.asked(), 1);
    let stranger = open(config("stranger.pem", "source.example"), folder.path());
    assert_eq!(stranger.fetch(asked.fetch()).await.unwrap_err().code(), "down");
    let elsewhere = open(config("client.pem", "other.example"), folder.path());
    assert_eq!(elsewhere.fetch(asked.fetch()).await.unwrap_err().code(), "down");
    assert_eq!(plugin.asked(), 1);
}
