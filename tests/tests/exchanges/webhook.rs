//! Webhooks of the real binary: what an administration is told, what happens where its address fails, and who sees that.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::hmac;
use serde_json::Value;
use tonic::Code;
use unefois::client::Client;
use unefois::init::InitFolder;
use unefois_proto::v1;
use unefois_tests::ask::{grant, granted, withdraw, within};
use unefois_tests::process::{Process, client, folder, free_address, run};

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// One call that was received.
struct Received {
    id: u64,
    body: Value,
    /// The signature is right for what came.
    signed: bool,
    accepted: bool,
}

/// An administration's address, which answers as it is told and then always accepts.
#[derive(Clone, Default)]
struct Receiver {
    received: Arc<Mutex<Vec<Received>>>,
    answers: Arc<Mutex<VecDeque<StatusCode>>>,
}

impl Receiver {
    async fn listen(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, receiver) = (listener.local_addr().unwrap(), self.clone());
        let take =
            axum::routing::post(move |headers: HeaderMap, body: Bytes| async move { receiver.take(&headers, &body) });
        let app = axum::Router::new().route("/changes", take);
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }

    fn take(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        let header = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(SECRET).unwrap());
        let signed =
            format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), str::from_utf8(body).unwrap());
        let signature = header("webhook-signature");
        let tag = BASE64_STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(StatusCode::NO_CONTENT);
        self.received.lock().unwrap().push(Received {
            id: header("webhook-id").parse().unwrap(),
            body: serde_json::from_slice(body).unwrap(),
            signed: hmac::verify(&key, signed.as_bytes(), &tag).is_ok(),
            accepted: answer.is_success(),
        });
        answer
    }

    fn fail(&self, times: usize) {
        *self.answers.lock().unwrap() = vec![StatusCode::SERVICE_UNAVAILABLE; times].into();
    }

    fn kinds(&self) -> Vec<String> {
        let received = self.received.lock().unwrap();
        received.iter().filter(|r| r.accepted).map(|r| r.body["kind"].as_str().unwrap().to_owned()).collect()
    }

    async fn wait_for(&self, accepted: usize) {
        let until = Instant::now() + Duration::from_secs(40);
        while self.kinds().len() < accepted {
            assert!(Instant::now() < until, "received {:?}", self.kinds());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A broker's folder with a webhook of the department.
fn with_webhook(path: &Path, receiver: SocketAddr, give_up_after_s: u64) -> InitFolder {
    use std::os::unix::fs::OpenOptionsExt;
    let (folder, _) = folder(path, free_address());
    let secret = path.join("secrets/aides.webhook");
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&secret).unwrap();
    std::io::Write::write_all(&mut file, format!("whsec_{SECRET}\n").as_bytes()).unwrap();
    let table = format!(
        "\n[webhooks.aides]\nconsumer = \"99999999800019\"\nurl = \"http://{receiver}/changes\"\n\
         secret_file = \"secrets/aides.webhook\"\ngive_up_after_s = {give_up_after_s}\n"
    );
    let config = std::fs::read_to_string(folder.config()).unwrap();
    std::fs::write(folder.config(), config + &table).unwrap();
    folder
}

async fn webhooks(client: &Client) -> Vec<v1::Webhook> {
    client.consent().list_webhooks(within(v1::ListWebhooksRequest {})).await.unwrap().into_inner().webhooks
}

#[tokio::test]
async fn an_administration_is_told_each_change_once_in_order_and_signed_across_failures_and_restarts() {
    let (root, receiver) = (tempfile::tempdir().unwrap(), Receiver::default());
    let folder = with_webhook(&root.path().join("broker"), receiver.listen().await, 3_600);
    let broker = Process::serve(&folder.config());
    let department = client(&folder, "departement").await;
    let consent = granted(&department, grant("MARCHAND")).await;
    receiver.wait_for(1).await;
    // Two failures, and the change comes all the same, before the one after it.
    receiver.fail(2);
    withdraw(&department, &consent).await;
    granted(&department, grant("PETIT")).await;
    receiver.wait_for(3).await;
    assert_eq!(broker.stop().await, Some(0));
    let broker = Process::serve(&folder.config());
    let department = client(&folder, "departement").await;
    granted(&department, grant("MOREAU")).await;
    receiver.wait_for(4).await;
    assert_eq!(receiver.kinds(), ["CONSENT_GRANTED", "CONSENT_WITHDRAWN", "CONSENT_GRANTED", "CONSENT_GRANTED"]);
    {
        let received = receiver.received.lock().unwrap();
        assert!(received.iter().all(|r| r.signed && r.body["cursor"] == r.id), "a signature or an id is wrong");
        assert_eq!(received.iter().filter(|r| !r.accepted).count(), 2);
        assert!(received.is_sorted_by_key(|r| r.id));
        let text: String = received.iter().map(|r| r.body.to_string()).collect();
        assert!(!text.contains("MARCHAND") && text.contains(&consent));
    }
    let own = webhooks(&department).await;
    assert_eq!((own.len(), own[0].failures, own[0].dead_letters.len()), (1, 0, 0));
    assert!(webhooks(&client(&folder, "ville").await).await.is_empty());
    assert_eq!(broker.stop().await, Some(0));
}

// The command below would hold the receiver up on one thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_delivered_is_seen_and_sent_again_by_its_administration_and_nobody_else() {
    let (root, receiver) = (tempfile::tempdir().unwrap(), Receiver::default());
    let folder = with_webhook(&root.path().join("broker"), receiver.listen().await, 1);
    let broker = Process::serve(&folder.config());
    let department = client(&folder, "departement").await;
    receiver.fail(usize::from(u8::MAX));
    let consent = granted(&department, grant("MARCHAND")).await;
    let until = Instant::now() + Duration::from_secs(40);
    let dead = loop {
        let own = webhooks(&department).await.remove(0);
        if let [letter] = own.dead_letters.as_slice() {
            assert!(own.failures > 0 && own.cursor == Some(letter.cursor));
            break letter.clone();
        }
        assert!(Instant::now() < until, "no dead letter: {own:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(dead.error.contains("503") && dead.attempts >= 1, "{dead:?}");
    let replay = |client: Client| async move {
        let request = v1::ReplayDeadLettersRequest { webhook: "aides".to_owned(), cursors: Vec::new() };
        client.consent().replay_dead_letters(within(request)).await.map(tonic::Response::into_inner)
    };
    let other = replay(client(&folder, "ville").await).await.unwrap_err();
    assert_eq!(other.code(), Code::NotFound);
    let failed = replay(department.clone()).await.unwrap();
    assert!(failed.delivered == 0 && failed.error.contains("503"), "{failed:?}");
    assert_eq!(webhooks(&department).await[0].dead_letters[0].attempts, dead.attempts + 1);
    let profile = folder.path.join("clients/departement.toml");
    let shown = run(&["webhook", "list", "--profile", profile.to_str().unwrap()]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(&format!("dead letter {}", dead.cursor)), "{shown}");

    receiver.fail(0);
    let sent = run(&["webhook", "replay", "--profile", profile.to_str().unwrap(), "aides"]);
    assert_eq!((sent.status.code(), String::from_utf8(sent.stdout).unwrap().as_str()), (Some(0), "delivered 1\n"));
    assert_eq!(receiver.kinds(), ["CONSENT_GRANTED"]);
    let own = webhooks(&department).await.remove(0);
    assert!(own.dead_letters.is_empty() && own.failures == 0 && own.error.is_empty());
    withdraw(&department, &consent).await;
    receiver.wait_for(2).await;
    assert_eq!(broker.stop().await, Some(0));
}

#[test]
fn a_webhook_that_would_not_be_safe_is_refused_by_its_key() {
    for (from, to, key) in [
        ("http://127.0.0.1:9/", "http://ville.example/", "webhooks.aides.url"),
        ("http://127.0.0.1:9/", "https://user@ville.example/", "webhooks.aides.url"),
        ("give_up_after_s = 5", "give_up_after_s = 0", "webhooks.aides.give_up_after_s"),
        ("aides.webhook\"", "absent\"", "webhooks.aides.secret_file"),
        ("give_up_after_s", "give_up", "unknown field"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let folder = with_webhook(&root.path().join("broker"), "127.0.0.1:9".parse().unwrap(), 5);
        let config = std::fs::read_to_string(folder.config()).unwrap();
        assert!(config.contains(from), "{from}");
        std::fs::write(folder.config(), config.replace(from, to)).unwrap();
        let checked = run(&["check-config", "--config", folder.config().to_str().unwrap()]);
        let said = String::from_utf8(checked.stderr).unwrap();
        assert!(checked.status.code() == Some(2) && said.contains(key), "{said}");
    }
}
