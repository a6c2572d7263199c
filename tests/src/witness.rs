//! Witnesses for tests: the real binary on a port of loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use unefois::witness::config::init;
use unefois_audit::{VerifierKey, WitnessKey};

use crate::process::{Process, free_address};
use crate::sandbox::Sandbox;

/// A witness with its folder. It runs as a process of its own.
pub struct TestWitness {
    /// Its folder: key, configuration, state.
    pub folder: PathBuf,
    /// What policies and metrics call it.
    pub name: String,
    /// Its verifier key.
    pub key: WitnessKey,
    /// Where it listens.
    pub address: SocketAddr,
    running: Option<Process>,
}

impl TestWitness {
    /// Makes a witness of these logs and starts it.
    pub fn start(root: &Path, name: &str, logs: &[&VerifierKey]) -> Self {
        let mut witness = Self::make(root, name, logs);
        witness.serve();
        witness
    }

    /// Makes the folder of a witness of these logs.
    pub fn make(root: &Path, name: &str, logs: &[&VerifierKey]) -> Self {
        let (folder, address) = (root.join(name), free_address());
        let key = init(&folder, &format!("witness.example/{name}"), address).unwrap();
        let config = folder.join("witness.toml");
        let mut text = std::fs::read_to_string(&config).unwrap();
        for log in logs {
            text.push_str(&format!("[[log]]\nkey = \"{log}\"\n"));
        }
        std::fs::write(&config, text).unwrap();
        Self { folder, name: name.to_owned(), key, address, running: None }
    }

    /// Starts it where it does not run.
    pub fn serve(&mut self) {
        if self.running.is_none() {
            let process = self.spawn();
            process.wait_for("the witness serves");
            self.running = Some(process);
        }
    }

    /// Starts a process on its folder.
    pub fn spawn(&self) -> Process {
        Process::command(&["witness", "serve", "--config", self.folder.join("witness.toml").to_str().unwrap()], "info")
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.running.take().unwrap().kill();
    }

    /// Its line in a policy.
    pub fn line(&self) -> String {
        format!("witness {} {} http://{}\n", self.name, self.key, self.address)
    }

    /// The file with what it cosigned last of a log.
    pub fn state_of(&self, origin: &str) -> PathBuf {
        self.folder.join("state").join(unefois::witness::state::origin_hash(origin))
    }
}

/// Has the broker of a sandbox cosigned under a policy, every 5 ms; it starts again.
pub async fn watch(sandbox: &mut Sandbox, policy: &str, more: &str) -> PathBuf {
    let file = sandbox.folder.path.join("policy");
    std::fs::write(&file, policy).unwrap();
    let config = sandbox.folder.config();
    let text = std::fs::read_to_string(&config).unwrap();
    let key = "signing_key = \"keys/log.key\"\n";
    assert!(text.contains(key));
    let with_policy = format!("{key}policy = \"policy\"\ncosign_every_ms = 5\n{more}\n");
    std::fs::write(&config, text.replace(key, &with_policy)).unwrap();
    sandbox.restart().await.unwrap();
    file
}

/// Status, headers in lower case, body of an answer over plain HTTP.
pub fn http(address: SocketAddr, request: &str, body: &[u8]) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(stream, "{request} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n")
        .unwrap();
    // A server may refuse a long body before it has come whole.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, String::from_utf8(bytes[end + 4..].to_vec()).unwrap())
}
