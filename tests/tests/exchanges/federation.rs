//! A broker that asks another one, both as real binaries: both logs hold the exchange, and nothing is believed unproven.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use unefois::client::Client;
use unefois::config::Loaded;
use unefois::init::InitFolder;
use unefois_audit::{Receipt, VerifierKey};
use unefois_proto::v1;
use unefois_proto::v1::exchange_service_server::{ExchangeService, ExchangeServiceServer};
use unefois_tests::ask::{CHILDREN, canteen, exchange, within};
use unefois_tests::process::{self, Process, run};

/// The neighbour's children, as the broker that asks names the dataset.
const NEIGHBOURS: &str = "voisine.periscolaire.enfants_inscrits";

/// A broker's folder.
struct Bed {
    _root: TempDir,
    folder: InitFolder,
    listen: SocketAddr,
}

impl Bed {
    /// With this origin of its log.
    fn new(origin: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let listen = process::free_address();
        let (folder, _) = process::folder(&root.path().join("broker"), listen);
        let bed = Self { _root: root, folder, listen };
        bed.edit("unefois.toml", |text| text.replace("unefois.saint-exemple.example/dev", origin));
        bed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path.join(name)
    }

    fn edit(&self, name: &str, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        std::fs::write(self.path(name), change(text)).unwrap();
    }

    fn key(&self) -> VerifierKey {
        Loaded::open(&self.folder.config()).unwrap().signer.verifier_key().clone()
    }

    /// Asks `other`, which serves at `at`, for its children as `voisine.periscolaire`; `theirs` is its dataset.
    fn asks(&self, other: &Self, at: SocketAddr, theirs: &str) {
        let read = |name: &str| std::fs::read_to_string(other.path(name)).unwrap();
        let write = |name: &str, text: String| {
            std::fs::write(self.path(name), text).unwrap();
            std::fs::set_permissions(self.path(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        };
        write("secrets/voisine.pem", read("clients/ville.pem") + &read("clients/ville.key"));
        write("pki/voisine-ca.pem", read("pki/ca.pem"));
        let (key, port) = (other.key(), at.port());
        self.edit("unefois.toml", |text| {
            format!(
                r#"{text}
                [connectors.voisine]
                type = "broker"
                url = "https://localhost:{port}"
                ca_file = "pki/voisine-ca.pem"
                client_identity_file = "secrets/voisine.pem"
                log_key = "{key}"
                datasets = {{ "voisine.periscolaire" = {{ dataset = "{theirs}" }} }}
                procedures = {{ tarification-cantine = {{ notices = {{ 1 = 1 }} }} }}
                "#
            )
        });
        let source = unefois::init::DINUM;
        self.edit("registry.toml", |text| {
            let text = text.replacen(&format!("\"{CHILDREN}\"]"), &format!("\"{CHILDREN}\", \"{NEIGHBOURS}\"]"), 1);
            format!(
                r#"{text}
                [[datasets]]
                id = "voisine.periscolaire"
                title = "Inscriptions de la commune voisine"
                source = "{source}"
                connector = "voisine"
                version = "1"
                class = "ordinary"
                attributes = [{{ name = "enfants_inscrits", title = "Nombre d'enfants inscrits" }}]
                "#
            )
        });
    }

    fn serve(&self) -> Process {
        Process::serve(&self.folder.config())
    }

    /// The log holds, and each decision is derived again.
    fn check(&self) {
        for command in ["verify", "replay"] {
            let config = self.folder.config();
            let output = run(&["audit", command, "--config", config.to_str().unwrap()]);
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

fn neighbours(birth_name: &str) -> v1::ExchangeRequest {
    v1::ExchangeRequest { attributes: vec![NEIGHBOURS.to_owned()], ..canteen(birth_name) }
}

/// What the record of a receipt of an answer says.
fn answered(receipt: &Receipt) -> Value {
    let mut record: Value = serde_json::from_str(&receipt.record).unwrap();
    record["answered"].take()
}

async fn ask(client: &Client, birth_name: &str) -> (v1::AttributeStatus, Value) {
    let answer = exchange(client, neighbours(birth_name)).await.unwrap();
    let record = answered(&Receipt::from_json(&answer.receipt).unwrap());
    (answer.attributes[0].status(), record)
}

/// The other log's receipt in a record.
fn their_receipt(record: &Value) -> Receipt {
    Receipt::from_json(record["provenance"]["voisine.periscolaire"]["receipt"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_logs_hold_the_exchange_and_their_receipt_is_in_our_record() {
    let (ours, theirs) = (Bed::new("ici.example/log"), Bed::new("voisine.example/log"));
    ours.asks(&theirs, theirs.listen, "saint-exemple.periscolaire");
    let (us, them) = (ours.serve(), theirs.serve());
    let client = process::client(&ours.folder, "ville").await;

    let answer = exchange(&client, neighbours("MARCHAND")).await.unwrap();
    assert_eq!(answer.attributes[0].value, Some(unefois_proto::value::to_wire(&2.into())));
    let receipt = Receipt::from_json(&answer.receipt).unwrap();
    receipt.verify(&ours.key()).unwrap();
    let record = answered(&receipt);
    let nested = their_receipt(&record);
    nested.verify(&theirs.key()).unwrap();
    assert!(nested.answer_salt.is_none(), "the values cannot be guessed from what is kept");
    let logged = answered(&nested);
    assert_eq!(logged["attributes"][CHILDREN], "FOUND");
    assert_eq!(answer.attributes[0].provenance.as_ref().unwrap().reference, logged["exchange"].as_str().unwrap());

    let file = ours.path("receipt.json");
    std::fs::write(&file, &answer.receipt).unwrap();
    let (own, other) = (ours.key().to_string(), theirs.key().to_string());
    let verify = |more: &[&str]| {
        let output = run(&[&["receipt", "verify", file.to_str().unwrap(), "--key", &own], more].concat());
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert!(verify(&[]).1.contains("give its key with --source-key"));
    let (holds, said) = verify(&["--source-key", &other]);
    assert!(
        holds && said.contains("that the log voisine.example/log has the answer about voisine.periscolaire"),
        "{said}"
    );
    let subject = ours.path("personne.toml");
    let tried = run(&[
        "connector",
        "try",
        "voisine",
        "--subject",
        subject.to_str().unwrap(),
        "--config",
        ours.folder.config().to_str().unwrap(),
    ]);
    assert!(tried.status.success(), "{}", String::from_utf8_lossy(&tried.stderr));

    let (status, record) = ask(&client, "INCONNUE").await;
    assert_eq!(status, v1::AttributeStatus::NoFile);
    their_receipt(&record).verify(&theirs.key()).unwrap();

    drop(client);
    assert_eq!((us.stop().await, them.stop().await), (Some(0), Some(0)));
    ours.check();
    theirs.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_they_refuse_is_told_to_the_operator_by_their_reason() {
    let (ours, theirs) = (Bed::new("ici.example/log"), Bed::new("voisine.example/log"));
    ours.asks(&theirs, theirs.listen, "saint-exemple.periscolaire");
    theirs.edit("registry.toml", |text| text.replacen(&format!(", \"{CHILDREN}\"]"), "]", 1));
    let (us, _them) = (ours.serve(), theirs.serve());
    let client = process::client(&ours.folder, "ville").await;
    let (status, record) = ask(&client, "MARCHAND").await;
    assert_eq!(status, v1::AttributeStatus::NotAuthorised);
    assert!(record["provenance"].as_object().unwrap().is_empty());
    us.wait_for("ATTRIBUTE_NOT_COVERED");
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_ask_each_other_in_a_circle_notice_it() {
    let (ours, theirs) = (Bed::new("ici.example/log"), Bed::new("voisine.example/log"));
    ours.asks(&theirs, theirs.listen, "voisine.periscolaire");
    theirs.asks(&ours, ours.listen, "voisine.periscolaire");
    let (_us, them) = (ours.serve(), theirs.serve());
    let client = process::client(&ours.folder, "ville").await;
    let (status, record) = ask(&client, "MARCHAND").await;
    assert_eq!(status, v1::AttributeStatus::SourceDown);
    assert!(record["provenance"].as_object().unwrap().is_empty());
    them.wait_for("brokers ask each other in a circle");
    let through_us = v1::ExchangeRequest { via: vec!["ici.example/log".to_owned()], ..neighbours("MARCHAND") };
    let refused = client.exchange().exchange(within(through_us)).await.unwrap_err();
    assert!(refused.message().starts_with("via: "), "{}", refused.message());
}

type Change = Box<dyn Fn(&mut v1::ExchangeResponse) + Send>;

/// Stands where the neighbour is expected, with its certificate, and passes its answers on changed.
struct Liar {
    honest: Client,
    change: Arc<Mutex<Change>>,
}

#[tonic::async_trait]
impl ExchangeService for Liar {
    async fn exchange(&self, request: Request<v1::ExchangeRequest>) -> Result<Response<v1::ExchangeResponse>, Status> {
        let mut answer = self.honest.exchange().exchange(within(request.into_inner())).await?.into_inner();
        (self.change.lock().unwrap())(&mut answer);
        Ok(Response::new(answer))
    }
}

impl Liar {
    async fn serve(self, certificate_of: &Path) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let read = |name: &str| std::fs::read(certificate_of.join(name)).unwrap();
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(read("pki/server.pem"), read("pki/server.key")));
        let server = Server::builder().tls_config(tls).unwrap().add_service(ExchangeServiceServer::new(self));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }
}

fn edit_receipt(answer: &mut v1::ExchangeResponse, change: impl FnOnce(&mut Value)) {
    let mut receipt: Value = serde_json::from_str(&answer.receipt).unwrap();
    change(&mut receipt);
    answer.receipt = receipt.to_string();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_its_receipt_does_not_prove_is_thrown_away() {
    let (ours, theirs) = (Bed::new("ici.example/log"), Bed::new("voisine.example/log"));
    let _them = theirs.serve();
    let honest = process::client(&theirs.folder, "ville").await;
    let other = exchange(&honest, v1::ExchangeRequest { attributes: vec![CHILDREN.to_owned()], ..canteen("MARCHAND") });
    let other = other.await.unwrap();
    let change: Arc<Mutex<Change>> = Arc::new(Mutex::new(Box::new(|_| {})));
    let liar = Liar { honest, change: Arc::clone(&change) }.serve(&theirs.folder.path).await;
    ours.asks(&theirs, liar, "saint-exemple.periscolaire");
    let _us = ours.serve();
    let client = process::client(&ours.folder, "ville").await;
    assert_eq!(ask(&client, "MARCHAND").await.0, v1::AttributeStatus::Found, "unchanged");

    let other_answer = other.clone();
    let (other_receipt, other_id) = (other.receipt.clone(), other.exchange_id.clone());
    let three = || Some(unefois_proto::value::to_wire(&3.into()));
    let lies: Vec<(&str, Change)> = vec![
        ("another value", Box::new(move |a| a.attributes[0].value = three())),
        (
            "no file",
            Box::new(|a| {
                a.attributes[0].status = v1::AttributeStatus::NoFile.into();
                a.attributes[0].value = None;
            }),
        ),
        ("a value without found", Box::new(|a| a.attributes[0].status = v1::AttributeStatus::NoFile.into())),
        ("another attribute", Box::new(|a| a.attributes[0].name = "saint-exemple.periscolaire.regime".to_owned())),
        ("one attribute more", Box::new(|a| a.attributes.push(a.attributes[0].clone()))),
        ("none", Box::new(|a| a.attributes.clear())),
        ("no receipt", Box::new(|a| a.receipt.clear())),
        ("the receipt of another exchange", Box::new(move |a| a.receipt.clone_from(&other_receipt))),
        ("another exchange", Box::new(move |a| a.exchange_id.clone_from(&other_id))),
        ("a whole answer to another question", Box::new(move |a| *a = other_answer.clone())),
        ("no salt", Box::new(|a| edit_receipt(a, |r| drop(r.as_object_mut().unwrap().remove("answer_salt"))))),
        ("another salt", Box::new(|a| edit_receipt(a, |r| r["answer_salt"] = "00".repeat(32).into()))),
        (
            "another record",
            Box::new(|a| {
                edit_receipt(a, |r| {
                    r["record"] = r["record"].as_str().unwrap().replace("FOUND", "NO_FILE").into();
                })
            }),
        ),
        ("another time", Box::new(|a| edit_receipt(a, |r| r["time_ms"] = 1.into()))),
        ("too large", Box::new(|a| a.receipt.push_str(&" ".repeat(64 * 1024)))),
    ];
    for (lie, told) in lies {
        *change.lock().unwrap() = told;
        let (status, record) = ask(&client, "MARCHAND").await;
        assert_eq!(status, v1::AttributeStatus::SourceDown, "{lie}");
        assert!(record["provenance"].as_object().unwrap().is_empty(), "{lie}");
    }
    // A log that is not the one of `log_key`.
    let elsewhere = ours.key();
    assert!(Receipt::from_json(&other.receipt).unwrap().verify(&elsewhere).is_err());
}
