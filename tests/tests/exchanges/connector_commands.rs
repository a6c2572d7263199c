//! `unefois connector try` and `list`, with the real binary.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use unefois_tests::process::{self, Process, run};

struct Folder {
    _root: TempDir,
    path: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("broker");
        process::folder(&path, process::free_address());
        Self { _root: root, path }
    }

    fn file(&self, name: &str) -> String {
        self.path.join(name).to_str().unwrap().to_owned()
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{before}\n{text}")).unwrap();
    }

    /// Exit code and what was printed.
    fn connector(&self, arguments: &[&str]) -> (i32, String) {
        let config = self.file("unefois.toml");
        let output = run(&[&["connector"], arguments, &["--config", &config]].concat());
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        (output.status.code().unwrap(), format!("{out}{err}"))
    }

    fn tries(&self, name: &str, arguments: &[&str]) -> (i32, String) {
        let subject = self.file("personne.toml");
        self.connector(&[&["try", name, "--subject", &subject], arguments].concat())
    }

    /// Adds a REST source at `port` and its dataset.
    fn with_source(&self, port: u16) {
        let key = self.path.join("secrets/cantine.key");
        std::fs::create_dir_all(key.parent().unwrap()).unwrap();
        std::fs::write(&key, "s3cret-key").unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        self.append(
            "unefois.toml",
            &format!(
                r#"
                [connectors.cantine]
                type = "http"
                base_url = "http://127.0.0.1:{port}/v1"
                auth = {{ type = "api-key", header = "X-Api-Key", key_file = "secrets/cantine.key" }}
                [connectors.cantine.datasets."saint-exemple.cantine"]
                method = "POST"
                path = "/familles/{{filter.annee}}"
                body = {{ nom = "{{birth_name}}" }}
                attributes = {{ quotient = {{ at = "$.q", type = "integer" }}, classe = {{ at = "$.c", type = "text" }} }}
                statuses = {{ 404 = "NO_FILE" }}
                "#
            ),
        );
        let source = unefois::init::DINUM;
        self.append(
            "registry.toml",
            &format!(
                r#"
                [[datasets]]
                id = "saint-exemple.cantine"
                title = "Cantine"
                source = "{source}"
                connector = "cantine"
                version = "1"
                class = "ordinary"
                filters = ["annee"]
                attributes = [{{ name = "quotient", title = "Quotient" }}, {{ name = "classe", title = "Classe" }}]
                "#
            ),
        );
    }
}

/// A source that answers each request with `body`; what it was asked comes back when it is done.
fn source(status: &'static str, body: Value) -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut chunk = [0; 4096];
        while !request.ends_with(b"}") {
            let read = stream.read(&mut chunk).unwrap();
            request.extend_from_slice(&chunk[..read]);
        }
        let body = body.to_string();
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n");
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, asked)
}

const FILTER: [&str; 2] = ["--filter", "saint-exemple.cantine:annee=2026"];

#[test]
fn a_rest_source_is_tried_with_its_request_status_and_attributes_and_without_its_secret() {
    let folder = Folder::new();
    let (port, asked) = source("200 OK", json!({"q": 700, "c": "CM2", "other": "x"}));
    folder.with_source(port);
    let (code, dry) = folder.tries("cantine", &[&FILTER[..], &["--dry"]].concat());
    assert_eq!(code, 0, "{dry}");
    for shown in [&*format!("POST http://127.0.0.1:{port}/v1/familles/2026"), "x-api-key: ***", "\"nom\": \"MARCHAND\""]
    {
        assert!(dry.contains(shown), "{shown} in {dry}");
    }
    assert!(!dry.contains("heard") && !dry.contains("FOUND") && !dry.contains("s3cret"), "{dry}");

    let (code, text) = folder.tries("cantine", &FILTER);
    assert_eq!(code, 0, "{text}");
    for shown in [
        "HTTP status 200",
        "saint-exemple.cantine.quotient = 700 [FOUND]",
        "saint-exemple.cantine.classe = \"CM2\" [FOUND]",
    ] {
        assert!(text.contains(shown), "{shown} in {text}");
    }
    assert!(!text.contains("s3cret") && !text.contains("other"), "{text}");
    assert!(asked.join().unwrap().contains("x-api-key: s3cret-key"));
}

#[test]
fn a_trial_says_for_scripts_what_became_of_each_attribute_and_fails_where_the_source_does() {
    for (status, code, outcome, fault) in
        [("404 X", 0, "NO_FILE", Value::Null), ("500 X", 1, "SOURCE_DOWN", json!("down"))]
    {
        let folder = Folder::new();
        let (port, asked) = source(status, json!({}));
        folder.with_source(port);
        let one = ["--attribute", "saint-exemple.cantine.classe", "--json"];
        let (exit, text) = folder.tries("cantine", &[&FILTER[..], &one].concat());
        assert_eq!(exit, code, "{text}");
        let (printed, _) = text.rsplit_once('}').unwrap();
        let said: Value = serde_json::from_str(&format!("{printed}}}")).unwrap();
        let dataset = &said["datasets"][0];
        assert_eq!(
            dataset["attributes"],
            json!([{"name": "saint-exemple.cantine.classe", "status": outcome, "value": null}])
        );
        assert_eq!(dataset["fault"]["code"], fault);
        asked.join().unwrap();
    }
}

#[test]
fn a_file_and_api_particulier_are_tried_too() {
    let folder = Folder::new();
    let (code, text) = folder.tries("periscolaire", &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("one line") && text.contains("enfants_inscrits = ") && text.contains("[FOUND]"), "{text}");
    let valeur = ["--attribute", "dss.quotient_familial.valeur", "--dry"];
    let (code, text) = folder.tries("api-particulier", &valeur);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("nomNaissance=MARCHAND") && text.contains("authorization: Bearer ***"), "{text}");
}

#[test]
fn a_question_that_cannot_be_tried_is_refused_with_what_to_change() {
    let folder = Folder::new();
    folder.with_source(1);
    for (name, arguments, told) in [
        ("absent", &[][..], "connectors.absent: not in the configuration"),
        ("cantine", &[], "filters.saint-exemple.cantine.annee"),
        ("cantine", &["--attribute", "saint-exemple.periscolaire.regime"], "no attribute of this connector"),
        (
            "cantine",
            &["--filter", "saint-exemple.cantine:annee=2026", "--filter", "saint-exemple.cantine:x=1"],
            "tried",
        ),
    ] {
        let (code, text) = folder.tries(name, arguments);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(told), "{told} in {text}");
    }
    std::fs::remove_file(Path::new(&folder.file("secrets/cantine.key"))).unwrap();
    let (code, text) = folder.tries("cantine", &FILTER);
    assert!(code == 2 && text.contains("connectors.cantine.auth.key_file: "), "{text}");
}

#[test]
fn the_list_shows_type_datasets_limits_problems_and_what_a_broker_counted() {
    let folder = Folder::new();
    folder.with_source(1);
    std::fs::remove_file(Path::new(&folder.file("secrets/cantine.key"))).unwrap();
    let (code, text) = folder.connector(&["list"]);
    assert_eq!(code, 0, "{text}");
    for shown in [
        "api-particulier (api-particulier)\n  serves dss.quotient_familial\n  5000 ms",
        "periscolaire (file)\n  serves saint-exemple.periscolaire\n",
        "cantine (http)\n  serves saint-exemple.cantine\n",
        "  PROBLEM auth.key_file: ",
        "nothing is said of their health",
    ] {
        assert!(text.contains(shown), "{shown} in {text}");
    }

    let folder = Folder::new();
    folder.append("unefois.toml", &format!("[metrics]\nlisten = \"{}\"\n", process::free_address()));
    let broker = Process::serve(Path::new(&folder.file("unefois.toml")));
    let (code, text) = folder.connector(&["list", "--json"]);
    drop(broker);
    assert_eq!(code, 0, "{text}");
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(said[1]["name"], "periscolaire");
    let limits = json!({
        "timeout_ms": 5000, "max_concurrent": 64, "per_second": 0, "breaker_failures": 20, "breaker_pause_ms": 2000,
        "keep_s": 0, "max_answer_bytes": 262_144,
    });
    assert_eq!(said[1]["limits"], limits);
    assert_eq!((&said[1]["problem"], &said[1]["answers"]), (&Value::Null, &json!({})));
}
