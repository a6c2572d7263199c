//! Verifiers that share no code with Unefois, in Go: `golang.org/x/mod/sumdb` (through `tests/outside`) and Tessera's
//! `fsck`. Both accept the log at the broker's address, and refuse it after any one flipped byte.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use unefois::mirror::{Mirror, Source};
use unefois_tests::files;
use unefois_tests::sandbox::Sandbox;

/// The folder of both programs, built once for this run.
fn build() -> PathBuf {
    let into = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("outside");
    std::fs::create_dir_all(&into).unwrap();
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(format!("{}/", into.display()))
        .args([".", "github.com/transparency-dev/tessera/cmd/fsck"])
        .current_dir(source)
        .output()
        .unwrap_or_else(|error| panic!("Go 1.24 or later is needed to build the outside verifiers: {error}"));
    assert!(built.status.success(), "go build: {}", String::from_utf8_lossy(&built.stderr));
    into
}

/// What each verifier says of the log at `url`: whether it accepts, and its words.
fn verdicts(programs: &Path, url: &str, key: &str) -> [(&'static str, bool, String); 2] {
    let key_file = programs.join("key");
    std::fs::write(&key_file, key).unwrap();
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        let words = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&words).into_owned())
    };
    let (accepts, words) = run(Command::new(programs.join("tlogcheck")).args([url, key]));
    // It hangs at some faults instead of telling them, which is no acceptance.
    let mut fsck = Command::new("timeout");
    fsck.arg("5").arg(programs.join("fsck"));
    let (_, fsck_words) =
        run(fsck.arg("-ui=false").arg(format!("-storage_url={url}/")).arg("-public_key").arg(&key_file));
    // Its exit code is 0 either way.
    let fsck_accepts = fsck_words.contains("Successfully fsck'd") && !fsck_words.contains("fsck failed");
    [("sumdb", accepts, words), ("fsck", fsck_accepts, fsck_words)]
}

async fn verify(programs: &Path, url: String, key: String) -> [(&'static str, bool, String); 2] {
    let programs = programs.to_owned();
    tokio::task::spawn_blocking(move || verdicts(&programs, &url, &key)).await.unwrap()
}

/// Serves a folder as a log.
async fn serve(folder: PathBuf) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let file = async |State(folder): State<PathBuf>, uri: Uri| {
        std::fs::read(folder.join(uri.path().trim_start_matches('/'))).map_err(|_| StatusCode::NOT_FOUND)
    };
    let router = Router::new().fallback(file).with_state(folder);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifiers_of_others_accept_the_log_and_refuse_it_after_any_flipped_byte() {
    let programs = tokio::task::spawn_blocking(build).await.unwrap();
    let sandbox = Sandbox::start().await;
    sandbox.grow(600).await;
    let url = format!("http://{}", sandbox.broker().log_address.unwrap());
    let key = sandbox.key.to_string();
    for (who, accepts, words) in verify(&programs, url.clone(), key.clone()).await {
        assert!(accepts, "{who} refuses the log: {words}");
    }
    let root = tempfile::tempdir().unwrap();
    let copy = root.path().join("copy");
    Mirror::open(&copy, &sandbox.key).unwrap().update(&Source::new(&url).unwrap(), &mut |_, _| {}).await.unwrap();
    let url = format!("http://{}", serve(copy.clone()).await);
    for (who, accepts, words) in verify(&programs, url.clone(), key.clone()).await {
        assert!(accepts, "{who} refuses the mirror: {words}");
    }
    let files = files(&copy);
    assert!(files.len() >= 8, "{files:?}");
    for file in files {
        let whole = std::fs::read(&file).unwrap();
        // The first byte, one in the middle, and the last that matters (a note ends in a newline).
        for at in [0, whole.len() / 2, whole.len() - 2] {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(&file, flipped).unwrap();
            for (who, accepts, words) in verify(&programs, url.clone(), key.clone()).await {
                assert!(!accepts, "{who} accepts {} with byte {at} flipped: {words}", file.display());
            }
        }
        std::fs::write(&file, whole).unwrap();
    }
    for (who, accepts, words) in verify(&programs, url.clone(), key.clone()).await {
        assert!(accepts, "{who} refuses the log that was put right again: {words}");
    }
    sandbox.finish().await;
}
