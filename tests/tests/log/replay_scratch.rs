//! A replay builds the state, which names persons, in a scratch folder: nothing of it stays, however the process ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use unefois_tests::files;
use unefois_tests::process::binary;
use unefois_tests::sandbox::Sandbox;

fn replay(config: &Path, temporary: &Path) -> Child {
    let mut command = Command::new(binary());
    command.args(["audit", "replay", "--config", config.to_str().unwrap()]).env("TMPDIR", temporary);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).unwrap();
}

/// Folders of replays that have files in them.
fn scratch_folders(temporary: &Path) -> Vec<PathBuf> {
    fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().path()).filter(|folder| has_file(folder)).collect()
}

/// Whether there is a file somewhere below a folder, which may vanish meanwhile.
fn has_file(folder: &Path) -> bool {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.into_iter().any(|path| path.is_file() || has_file(&path))
}

/// A replay that is stopped in the middle, and its scratch folder.
fn replay_under_way(config: &Path, temporary: &Path) -> (Child, PathBuf) {
    let before = scratch_folders(temporary);
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let mut child = replay(config, temporary);
        while child.try_wait().unwrap().is_none() {
            let new = |folder: &PathBuf| !before.contains(folder);
            if !scratch_folders(temporary).iter().any(new) {
                continue;
            }
            signal(&child, Signal::STOP);
            // It may have ended between the two.
            if let Some(folder) = scratch_folders(temporary).into_iter().find(new) {
                return (child, folder);
            }
            signal(&child, Signal::CONT);
        }
    }
    panic!("no replay was caught in the middle");
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[tokio::test]
async fn a_replay_leaves_nothing_behind_however_it_ends() {
    let mut sandbox = Sandbox::start().await;
    sandbox.grow(1_500).await;
    sandbox.stop().await;
    let (config, temporary) = (sandbox.folder.config(), tempfile::tempdir().unwrap());
    let temporary = temporary.path();
    assert!(replay(&config, temporary).wait().unwrap().success());
    assert!(is_empty(temporary), "{:?}", files(temporary));

    for (sent, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (mut child, folder) = replay_under_way(&config, temporary);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        signal(&child, sent);
        signal(&child, Signal::CONT);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(is_empty(temporary), "{sent:?}: {:?}", files(temporary));
    }

    // What a sudden death leaves goes with the next replay; what another replay uses stays with it.
    let (mut dead, left) = replay_under_way(&config, temporary);
    dead.kill().unwrap();
    dead.wait().unwrap();
    assert!(!files(&left).is_empty(), "the test proves nothing");
    let (mut stopped, used) = replay_under_way(&config, temporary);
    assert!(!left.exists(), "the next replay leaves it");
    assert!(replay(&config, temporary).wait().unwrap().success());
    assert!(used.exists(), "a replay removed the folder of another");
    signal(&stopped, Signal::CONT);
    assert!(stopped.wait().unwrap().success());
    assert!(is_empty(temporary), "{:?}", files(temporary));

    // Whoever has such a name and is no folder of ours is left alone.
    let (file, link) = (temporary.join("unefois-replay-file"), temporary.join("unefois-replay-link"));
    fs::write(&file, "mine").unwrap();
    std::os::unix::fs::symlink(sandbox.data(), &link).unwrap();
    assert!(replay(&config, temporary).wait().unwrap().success());
    assert!(file.exists() && link.exists());
    sandbox.finish().await;
}
