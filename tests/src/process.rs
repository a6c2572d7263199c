//! The real binary, as an operator runs it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use unefois::client::{Client, Profile};
use unefois::init::{InitFolder, Layout, init};
use unefois_audit::VerifierKey;

/// The binary `unefois`, built beside this test.
pub fn binary() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let folder = exe.ancestors().find(|p| p.ends_with("deps")).and_then(Path::parent).unwrap();
    let binary = folder.join("unefois");
    assert!(
        binary.exists(),
        "{} is missing: build it first with the same profile: cargo build -p unefois",
        binary.display()
    );
    binary
}

/// Runs a command of the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).env_remove("UNEFOIS_LOG").output().unwrap()
}

/// A free port of loopback.
pub fn free_address() -> SocketAddr {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

/// A folder for a broker that listens on `listen`.
pub fn folder(path: &Path, listen: SocketAddr) -> (InitFolder, VerifierKey) {
    let layout = Layout { listen, metrics: None, log: None, ..Layout::development() };
    let folder = init(path, &layout).unwrap();
    let key = unefois::config::Loaded::open(&folder.config()).unwrap().signer.verifier_key().clone();
    (folder, key)
}

/// A running `unefois serve`. It is killed when dropped.
pub struct Process {
    child: Child,
    log: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Process {
    /// Starts a broker and waits until it serves.
    pub fn serve(config: &Path) -> Self {
        Self::serve_with(config, "info")
    }

    /// Starts a broker that logs at `level`, and waits until it serves.
    pub fn serve_with(config: &Path, level: &str) -> Self {
        let process = Self::spawn(config, level);
        process.wait_for("the broker serves");
        process
    }

    /// Starts a broker.
    pub fn spawn(config: &Path, level: &str) -> Self {
        Self::command(&["serve", "--config", config.to_str().unwrap()], level)
    }

    /// Starts a command of the binary that goes on until it is told to stop.
    pub fn command(arguments: &[&str], level: &str) -> Self {
        let mut child = Command::new(binary())
            .args(arguments)
            .env("UNEFOIS_LOG", level)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let kept = log.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stderr);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                kept.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Self { child, log }
    }

    /// Waits until the log says `text`.
    pub fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "the broker did not say {text:?} but: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the broker logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// Like [`Process::terminate`], while the clients of this runtime go on.
    pub async fn stop(self) -> Option<i32> {
        tokio::task::spawn_blocking(move || self.terminate()).await.unwrap()
    }

    /// Waits for its end and gives its exit code.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        std::thread::sleep(Duration::from_millis(50));
        (code, self.log())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of a folder.
pub async fn client(folder: &InitFolder, name: &str) -> Client {
    Profile::read(&folder.profile(name)).unwrap().connect().await.unwrap()
}

/// All of a pipe as text.
pub fn read_all(mut pipe: impl Read) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).unwrap();
    text
}
