//! Witness and log of others, in Go: torchwood's `litewitness` cosigns our log, and Tessera's `posix-oneshot` has a log of
//! its own cosigned by our witness. Neither shares code with Unefois. `tests/extra` runs these: they build what they need
//! from the Go module proxy.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use ring::signature::{Ed25519KeyPair, KeyPair};
use unefois_audit::{EMPTY_ROOT, Policy, VerifierKey, WitnessKey};
use unefois_tests::ask::until;
use unefois_tests::process::free_address;
use unefois_tests::sandbox::Sandbox;
use unefois_tests::witness::{TestWitness, http, watch};

/// The last version that Go 1.26 builds.
const LITEWITNESS: &str = "filippo.io/torchwood/cmd/litewitness@v0.6.1";
const ONESHOT: &str = "github.com/transparency-dev/tessera/cmd/examples/posix-oneshot@v1.0.2";

/// Builds a program, and gives its path.
fn install(program: &str) -> PathBuf {
    let into = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside-witnesses");
    std::fs::create_dir_all(&into).unwrap();
    succeeds(Command::new("go").args(["install", program]).env("GOBIN", &into));
    into.join(program.rsplit('/').next().unwrap().split('@').next().unwrap())
}

#[track_caller]
fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "builds litewitness; tests/extra runs it"]
async fn litewitness_cosigns_our_log() {
    let program = install(LITEWITNESS);
    let root = tempfile::tempdir().unwrap();
    let (socket, key) = (root.path().join("agent"), root.path().join("key"));
    let agent = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    let _agent = Running(agent);
    until(|| socket.exists()).await;
    succeeds(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    succeeds(Command::new("ssh-add").arg(&key).env("SSH_AUTH_SOCK", &socket));
    let printed = succeeds(Command::new("ssh-keygen").arg("-lf").arg(&key)).stdout;
    let fingerprint = String::from_utf8(printed).unwrap().split(' ').nth(1).unwrap().to_owned();

    let (database, address) = (root.path().join("litewitness.db"), free_address());
    let mut child = Command::new(program)
        .args(["-name", "witness.example/lite", "-key", &fingerprint, "-listen", &address.to_string()])
        .arg("-ssh-agent")
        .arg(&socket)
        .arg("-db")
        .arg(&database)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let _witness = Running(child);
    let vkey = lines.by_ref().map(|line| line.unwrap()).find_map(|line| {
        let at = line.find("witness.example/lite+")?;
        line[at..].split(['"', ' ']).next().map(str::to_owned)
    });
    let vkey: WitnessKey = vkey.unwrap().parse().unwrap();
    std::thread::spawn(move || lines.for_each(drop));

    let mut sandbox = Sandbox::start().await;
    // witnessctl, which would do this, cannot be built without modules that not every proxy has.
    let script = "import sqlite3, sys\n\
                  file, origin, root, key = sys.argv[1:]\n\
                  with sqlite3.connect(file) as db:\n    \
                  db.execute('INSERT INTO log VALUES (?, 0, ?)', (origin, root))\n    \
                  db.execute('INSERT INTO key VALUES (?, ?)', (origin, key))\n";
    let (origin, own) = (sandbox.key.name().to_owned(), sandbox.key.to_string());
    let mut python = Command::new("python3");
    succeeds(python.args(["-c", script]).arg(&database).args([&origin, &EMPTY_ROOT.to_base64(), &own]));
    let text = format!("log {own}\nwitness lite {vkey} http://{address}\nquorum lite\n");
    watch(&mut sandbox, &text, "").await;
    let policy = Policy::parse(text.as_bytes()).unwrap();
    let engine = sandbox.broker().engine().clone();
    for size in [0, 40, 300] {
        sandbox.grow(size).await;
        until(|| {
            let head = engine.published_head();
            head.size == engine.head().size && policy.judge(&head.note).unwrap().quorum_is_met
        })
        .await;
    }
    drop(engine);
    sandbox.finish().await;
}

/// A key in the form of Go's sumdb/note: name, id and 0x01 ‖ seed.
fn go_private_key(name: &str, seed: [u8; 32]) -> (String, VerifierKey) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let key = VerifierKey::new(name, pair.public_key().as_ref().try_into().unwrap()).unwrap();
    // A verifier key of the seed is the text that is wanted, but for its first word and its id.
    let of_seed = VerifierKey::new(name, seed).unwrap().to_string();
    let encoded = of_seed.splitn(3, '+').nth(2).unwrap();
    (format!("PRIVATE+KEY+{name}+{:08x}+{encoded}", key.id()), key)
}

#[test]
#[ignore = "builds Tessera's posix-oneshot; tests/extra runs it"]
fn a_tessera_log_is_cosigned_by_our_witness() {
    let program = install(ONESHOT);
    let root = tempfile::tempdir().unwrap();
    let (private, key) = go_private_key("tessera.example/log", [11; 32]);
    std::fs::write(root.path().join("log.key"), private).unwrap();
    let mut witness = TestWitness::start(root.path(), "ours", &[&key]);
    let text = format!("log {key}\n{}quorum ours\n", witness.line());
    std::fs::write(root.path().join("policy"), &text).unwrap();
    let append = |entries: &str| {
        let mut command = Command::new(&program);
        let at = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
        command.arg(format!("--storage_dir={}", at("log"))).arg(format!("--entries={}", at(entries)));
        command.arg(format!("--private_key={}", at("log.key"))).arg(format!("--witness_policy_file={}", at("policy")));
        command.arg("--witness_timeout=5s");
        command
    };
    let policy = Policy::parse(text.as_bytes()).unwrap();
    let mut size = 0;
    for (round, entries) in [("a", 1), ("b", 3), ("c", 7)] {
        size += entries;
        for number in 0..entries {
            std::fs::write(root.path().join(format!("{round}{number}")), format!("entry {round} {number}")).unwrap();
        }
        succeeds(&mut append(&format!("{round}*")));
        let note = std::fs::read_to_string(root.path().join("log/checkpoint")).unwrap();
        let verdict = policy.judge(&note).unwrap();
        assert!(verdict.quorum_is_met, "{note}");
        assert_eq!(verdict.checkpoint.size, size);
        let hash = unefois::witness::state::origin_hash(key.name());
        let (status, _, kept) = http(witness.address, &format!("GET /{hash}/checkpoint"), b"");
        assert_eq!(status, 200);
        assert_eq!(policy.judge(&kept).unwrap().checkpoint, verdict.checkpoint);
    }
    // Without the witness Tessera gives no checkpoint.
    witness.kill();
    std::fs::write(root.path().join("d0"), "one more").unwrap();
    let before = std::fs::read(root.path().join("log/checkpoint")).unwrap();
    let mut timed = Command::new("timeout");
    let without = append("d*");
    timed.arg("8").arg(without.get_program()).args(without.get_args());
    assert!(!timed.output().unwrap().status.success());
    assert_eq!(std::fs::read(root.path().join("log/checkpoint")).unwrap(), before);
}
