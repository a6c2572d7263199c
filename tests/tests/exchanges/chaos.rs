//! Sources that do what sources should not, all at once, beside sources that are well: no hang, no crash, no wrong outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use unefois::client::Client;
use unefois_proto::v1::{self, AttributeStatus, ExchangeRequest};
use unefois_proto::value::to_json;
use unefois_tests::ask::{CHILDREN, QUOTIENT, canteen, within_time};
use unefois_tests::chaos::{ALL, Does, expired, source};
use unefois_tests::process::{self, Process, run};
use unefois_tests::standin::StandIn;

use AttributeStatus::{Found, RateLimited, SourceDown};

const LOAD: Duration = Duration::from_secs(6);
/// Of each question; the answer may come a little later, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);
const CALLERS_EACH: usize = 3;

/// A folder whose broker has all these sources, and API Particulier's stand-in, which is slow, fails and limits the rate.
struct Bed {
    _root: tempfile::TempDir,
    folder: unefois::init::InitFolder,
    _standin: Option<StandIn>,
}

impl Bed {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("broker");
        let (folder, _) = process::folder(&path, process::free_address());
        let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
        let (mut config, mut registry) = (read("unefois.toml"), read("registry.toml"));
        let (tls, authority) = expired();
        std::fs::write(path.join("expired-ca.pem"), authority).unwrap();
        for does in ALL {
            let is_expired = does == Does::IsExpired;
            let port = source(does, is_expired.then(|| tls.clone())).await.port();
            let (name, scheme) = (does.name(), if is_expired { "https" } else { "http" });
            let ca = if is_expired { "ca_file = \"expired-ca.pem\"" } else { "" };
            config.push_str(&format!(
                "\n[connectors.{name}]\ntype = \"http\"\nbase_url = \"{scheme}://localhost:{port}\"\n{ca}\n\
                 limits = {{ timeout_ms = 1000, max_answer_bytes = 65536 }}\n\
                 [connectors.{name}.datasets.\"chaos.{name}\"]\npath = \"/x\"\n\
                 query = {{ nom = \"{{birth_name}}\" }}\nattributes = {{ v = {{ at = \"$.v\", type = \"integer\" }} }}\n"
            ));
            registry = registry.replacen(&format!("\"{CHILDREN}\""), &format!("\"chaos.{name}.v\", \"{CHILDREN}\""), 1);
            registry.push_str(&format!(
                "\n[[datasets]]\nid = \"chaos.{name}\"\ntitle = \"{name}\"\nsource = \"{}\"\nconnector = \"{name}\"\n\
                 version = \"1\"\nclass = \"ordinary\"\nattributes = [{{ name = \"v\", title = \"V\" }}]\n",
                unefois::init::TOWN_HALL
            ));
        }
        let standin = StandIn::tool()
            .exists()
            .then(|| StandIn::start("chaos", &["--delay-ms", "50", "--fail-rate", "0.3", "--rate", "15"]));
        match &standin {
            None => println!("chaos: API Particulier is left out: there is no stand-in of it beside the checkout"),
            Some(standin) => {
                config = config.replace("https://staging.particulier.api.gouv.fr", &standin.url);
                std::fs::write(path.join("secrets/api-particulier.token"), "chaos").unwrap();
            }
        }
        std::fs::write(path.join("unefois.toml"), config).unwrap();
        std::fs::write(path.join("registry.toml"), registry).unwrap();
        Self { _root: root, folder, _standin: standin }
    }
}

/// What came back for one attribute: how often each status, and the longest that an answer took.
#[derive(Debug, Default)]
struct Told {
    statuses: BTreeMap<i32, usize>,
    longest: Duration,
}

/// Asks for one attribute again and again; what is found must be `value`.
async fn ask_for(client: Client, attribute: String, value: Option<serde_json::Value>, caller: usize) -> (String, Told) {
    let mut told = Told::default();
    let begun = Instant::now();
    for number in 0.. {
        if begun.elapsed() >= LOAD {
            break;
        }
        // Other persons at the sources of the test, which are asked by name; the one whom file and stand-in know elsewhere.
        let letters: String =
            format!("{caller}{number}").bytes().map(|digit| char::from(digit - b'0' + b'A')).collect();
        let name = if attribute.starts_with("chaos.") { format!("MARCHAND {letters}") } else { "MARCHAND".to_owned() };
        let question = ExchangeRequest { attributes: vec![attribute.clone()], ..canteen(&name) };
        let asked = Instant::now();
        let call = client.exchange();
        let answer = { call }.exchange(within_time(question, DEADLINE)).await;
        told.longest = told.longest.max(asked.elapsed());
        let answer = answer.unwrap_or_else(|status| panic!("{attribute}: {status}")).into_inner();
        let said: &v1::Attribute = &answer.attributes[0];
        *told.statuses.entry(said.status).or_default() += 1;
        if said.status() == Found && value.is_some() {
            assert_eq!(said.value.as_ref().map(to_json), value, "{attribute}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (attribute, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_in_chaos_hurt_nobody_but_those_who_ask_them() {
    let bed = Bed::new().await;
    let broker = Process::serve_with(&bed.folder.config(), "off,unefois::serve=info");
    let client = process::client(&bed.folder, "ville").await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS_EACH {
        for does in ALL {
            let attribute = format!("chaos.{}.v", does.name());
            callers.spawn(ask_for(client.clone(), attribute, Some(7.into()), caller));
        }
        callers.spawn(ask_for(client.clone(), CHILDREN.to_owned(), Some(2.into()), caller));
        callers.spawn(ask_for(client.clone(), QUOTIENT.to_owned(), None, caller));
    }
    let mut all: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    while let Some(told) = callers.join_next().await {
        let (attribute, told) = told.unwrap();
        all.entry(attribute).or_default().push(told);
    }
    for (attribute, told) in &all {
        let seen: BTreeSet<_> = told.iter().flat_map(|told| told.statuses.keys().copied()).collect();
        let does = ALL.into_iter().find(|does| *attribute == format!("chaos.{}.v", does.name()));
        let no_file = AttributeStatus::NoFile;
        let allowed = match does {
            Some(does) => does.allowed(),
            None if attribute == CHILDREN => &[Found],
            // The stand-in knows no such person; it fails, and wants pauses.
            None => &[no_file, AttributeStatus::NotIdentified, RateLimited, SourceDown],
        };
        let wrong: Vec<_> = seen.iter().filter(|status| !allowed.iter().any(|a| *a as i32 == **status)).collect();
        assert!(wrong.is_empty(), "{attribute}: {told:?}");
        assert!(told.iter().all(|told| told.longest < PATIENCE), "{attribute}: {told:?}");
    }
    let memory = std::fs::read_to_string(format!("/proc/{}/status", broker.id())).unwrap();
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kb: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("peak memory {} MB", peak_kb / 1024);
    assert!(peak_kb < 512 * 1024, "answers that are too large are not held: {peak}");
    drop(client);
    assert_eq!(broker.stop().await, Some(0));
    for check in ["verify", "replay"] {
        let output = run(&["audit", check, "--config", bed.folder.config().to_str().unwrap()]);
        assert!(output.status.success(), "{check}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
