//! The sample connector in Python, beside the real binary: it answers, and what becomes of it hurts nobody else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use unefois::client::Client;
use unefois::init::InitFolder;
use unefois_proto::v1;
use unefois_proto::value::to_json;
use unefois_tests::ask::{CHILDREN, canteen, exchange};
use unefois_tests::process::{self, Process, run};

const SPORT: &str = "saint-exemple.sport";

struct Bed {
    root: TempDir,
    folder: InitFolder,
}

impl Bed {
    /// A folder of a broker with the sample beside it, as its README.md says.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (folder, _) = process::folder(&root.path().join("broker"), process::free_address());
        let bed = Self { root, folder };
        let sport = bed.path("sport");
        std::fs::create_dir(&sport).unwrap();
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for file in ["sport.py", "licences.json"] {
            std::fs::copy(project.join("connectors/samples/python").join(file), sport.join(file)).unwrap();
        }
        let python = python();
        let made = Command::new(&python)
            .args(["-m", "grpc_tools.protoc", "-I"])
            .arg(project.join("proto"))
            .args(["--python_out=.", "--grpc_python_out=."])
            .args(["unefois/connector/v1/connector.proto", "unefois/v1/common.proto"])
            .current_dir(&sport)
            .output()
            .unwrap();
        assert!(made.status.success(), "tests/run installs what is needed: {}", String::from_utf8_lossy(&made.stderr));
        bed.append(
            "unefois.toml",
            &format!(
                "[connectors.sport]\ntype = \"plugin\"\ncommand = [{python:?}, \"sport/sport.py\", \"sport/licences.json\"]\n\
                 datasets = [\"{SPORT}\"]\nlimits = {{ timeout_ms = 1500 }}\n"
            ),
        );
        let registry = std::fs::read_to_string(bed.path("registry.toml")).unwrap();
        let registry = registry.replacen(
            "\"saint-exemple.periscolaire.enfants_inscrits\"]",
            &format!("\"saint-exemple.periscolaire.enfants_inscrits\", \"{SPORT}.club\", \"{SPORT}.cotisation\"]"),
            1,
        );
        std::fs::write(bed.path("registry.toml"), registry).unwrap();
        let readme = std::fs::read_to_string(project.join("connectors/samples/python/README.md")).unwrap();
        let dataset = readme.split("```toml\n").nth(2).unwrap().split("```").next().unwrap();
        bed.append("registry.toml", dataset);
        bed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("broker").join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let before = std::fs::read_to_string(self.path(name)).unwrap();
        std::fs::write(self.path(name), format!("{before}\n{text}")).unwrap();
    }

    /// What was printed by `connector COMMAND`, which must succeed.
    fn connector(&self, arguments: &[&str]) -> String {
        let config = self.path("unefois.toml");
        let output = run(&[&["connector"], arguments, &["--config", config.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The first python3 of the path.
fn python() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|folder| folder.join("python3")).find(|file| file.exists()).expect("python3")
}

fn question(season: &str) -> v1::ExchangeRequest {
    let filter =
        v1::DatasetFilter { dataset: SPORT.to_owned(), parameters: [("saison".to_owned(), season.to_owned())].into() };
    let attributes = vec![format!("{SPORT}.cotisation"), format!("{SPORT}.club"), CHILDREN.to_owned()];
    v1::ExchangeRequest { attributes, filters: vec![filter], ..canteen("MARCHAND") }
}

/// The status of the plugin's first attribute, and of the one from a file beside it.
async fn statuses(client: &Client) -> (v1::AttributeStatus, v1::AttributeStatus) {
    let answer = exchange(client, question("2026")).await.unwrap();
    (answer.attributes[0].status(), answer.attributes[2].status())
}

/// Asks until the plugin's attribute has this status; the one beside it is found each time.
async fn comes_to(client: &Client, wanted: v1::AttributeStatus) {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let (plugin, beside) = statuses(client).await;
        assert_eq!(beside, v1::AttributeStatus::Found);
        if plugin == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "it stayed {plugin:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The processes that a process started.
fn children(parent: u32) -> Vec<Pid> {
    let ids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let of_parent = ids.filter(|id: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let mut fields = after_name.split(' ');
        fields.next() != Some("Z") && fields.next() == Some(&parent.to_string())
    });
    of_parent.map(|id| Pid::from_raw(id).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_answers_and_its_death_or_sleep_hurts_nobody_else() {
    use v1::AttributeStatus::{Found, SourceDown};
    let bed = Bed::new();
    let broker = Process::serve(&bed.path("unefois.toml"));
    let client = process::client(&bed.folder, "ville").await;
    comes_to(&client, Found).await;
    let answer = exchange(&client, question("2026")).await.unwrap();
    let values: Vec<_> = answer.attributes.iter().map(|a| to_json(a.value.as_ref().unwrap())).collect();
    assert_eq!(values[..2], [serde_json::json!(120), serde_json::json!("Athlétisme de Saint-Exemple")]);
    assert_eq!(answer.attributes[0].provenance.as_ref().unwrap().reference, "", "a reference names no person");
    let other = exchange(&client, question("1999")).await.unwrap();
    assert_eq!(other.attributes[0].status(), v1::AttributeStatus::NoFile);
    let refused = exchange(&client, v1::ExchangeRequest { filters: Vec::new(), ..question("2026") }).await;
    assert!(refused.unwrap_err().message().contains("filters.saint-exemple.sport.saison"));

    let [plugin] = children(broker.id())[..] else { panic!("one process of the broker") };
    kill_process(plugin, Signal::KILL).unwrap();
    broker.wait_for("its process ended");
    comes_to(&client, Found).await;

    let [plugin] = children(broker.id())[..] else { panic!("one process of the broker") };
    kill_process(plugin, Signal::STOP).unwrap();
    comes_to(&client, SourceDown).await;
    broker.wait_for("it does not say that it is well");
    comes_to(&client, Found).await;

    let [plugin] = children(broker.id())[..] else { panic!("one process of the broker") };
    assert_eq!(broker.stop().await, Some(0));
    let gone = format!("/proc/{}", plugin.as_raw_nonzero());
    unefois_tests::ask::until(|| !Path::new(&gone).exists()).await;
}

#[test]
fn it_is_tried_and_listed_like_any_other() {
    let bed = Bed::new();
    let subject = bed.path("personne.toml");
    let unfiltered = run(&[
        "connector",
        "try",
        "sport",
        "--subject",
        subject.to_str().unwrap(),
        "--config",
        bed.path("unefois.toml").to_str().unwrap(),
    ]);
    let said = String::from_utf8(unfiltered.stdout).unwrap();
    assert!(said.contains("nothing was asked: saison") || said.contains("nothing was asked: filters"), "{said}");
    let tried = ["try", "sport", "--subject", subject.to_str().unwrap(), "--filter", "saint-exemple.sport:saison=2026"];
    let shown = bed.connector(&[&tried[..], &["--dry"]].concat());
    assert!(shown.contains("ConnectorService/Fetch") && shown.contains("filter saison = 2026"), "{shown}");
    let shown = bed.connector(&tried);
    assert!(shown.contains("Athlétisme de Saint-Exemple"), "{shown}");
    let listed = bed.connector(&["list"]);
    assert!(listed.contains("sport (plugin)") && !listed.contains("PROBLEM"), "{listed}");
}
