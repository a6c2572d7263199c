//! A strict stand-in of API Particulier, which is beside the checkout. Needs python3 with PyYAML.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running stand-in; it ends when dropped.
#[derive(Debug)]
pub struct StandIn {
    child: Child,
    /// Where it listens: `http://127.0.0.1:PORT`.
    pub url: String,
}

impl StandIn {
    /// Where the stand-in's program would be.
    pub fn tool() -> PathBuf {
        shared().join("tools/api_particulier_standin.py")
    }

    /// Starts it with these options beside the token.
    pub fn start(token: &str, options: &[&str]) -> Self {
        let mut child = Command::new("python3")
            .arg(Self::tool())
            .args(["--token", token])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("the stand-in listens: is PyYAML installed?");
        Self { child, url: format!("http://{address}") }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What lies beside the checkout, where it does.
pub fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared")
}
