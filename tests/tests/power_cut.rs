//! Power cuts, made for real: the broker's disk loses, keeps or tears what was not flushed, while it serves under load.
//! Nothing that a client was told is missing afterwards, and the broker goes on.
//!
//! The disk is `shared/tools/powercut`, beside the checkout; it needs Go, root, FUSE and a loop device. Where one of them
//! is missing the test fails, unless `UNEFOIS_WITHOUT_POWER_CUT=1` says that it may be left out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use unefois_tests::process::{self, Process};
use unefois_tests::told::{Told, check_told, draw, load};
use unefois_tests::world;

/// The program that makes disks; `None`, and why, where it cannot run.
fn powercut() -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tools/powercut");
    if !source.is_dir() {
        return Err(format!("{} is not there", source.display()));
    }
    if !Path::new("/dev/fuse").exists() || !rustix::process::getuid().is_root() {
        return Err("power cuts need root and /dev/fuse".to_owned());
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("powercut");
    let built = Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(source).output();
    let built = built.map_err(|error| format!("Go 1.24 or later is needed to build the disk: {error}"))?;
    if !built.status.success() {
        return Err(format!("the disk does not build: {}", String::from_utf8_lossy(&built.stderr)));
    }
    Ok(program)
}

/// A disk whose power can be cut, mounted. It is unmounted when dropped.
struct Disk {
    program: PathBuf,
    folder: PathBuf,
    up: Child,
}

impl Disk {
    fn up(program: &Path, folder: &Path, fs: &str) -> Self {
        let mut up = Command::new(program)
            .arg("up")
            .arg(folder)
            .args(["-size", "400M", "-fs", fs])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(up.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find(|line| line.starts_with("ready"));
        assert!(said.is_some(), "the disk is not mounted: {:?}", up.wait());
        Self { program: program.to_owned(), folder: folder.to_owned(), up }
    }

    fn mount(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    fn run(&self, arguments: &[&str]) -> String {
        let (verb, options) = arguments.split_first().unwrap();
        let output = Command::new(&self.program).arg(verb).arg(&self.folder).args(options).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new(&self.program).arg("down").arg(&self.folder).output();
        // It unmounts itself and ends.
        for _ in 0..100 {
            if self.up.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.up.kill();
        let _ = self.up.wait();
        let _ = Command::new("umount").arg(self.folder.join("fuse")).stderr(Stdio::null()).status();
    }
}

/// One cut: a broker on a fresh disk, under load, dies with it at a random moment.
fn cut(program: &Path, runtime: &tokio::runtime::Runtime, state: &mut u64, nth: usize, fs: &str) -> usize {
    let root = tempfile::tempdir().unwrap();
    let disk = Disk::up(program, root.path(), fs);
    let (folder, key) = process::folder(&root.path().join("broker"), process::free_address());
    let data = disk.mount().join("data");
    let config = std::fs::read_to_string(folder.config()).unwrap();
    // Small segments, so that cuts meet changes of segment too; the head file on this disk or on another.
    let store = format!("path = {:?}\nsegment_mb = 1\nmin_free_mb = 0", data.to_str().unwrap());
    let head = if nth.is_multiple_of(2) { data.with_extension("head") } else { root.path().join("data.head") };
    let config = config
        .replace("path = \"data\"", &store)
        .replace("[log]", &format!("[log]\nhead_file = {:?}", head.to_str().unwrap()));
    std::fs::write(folder.config(), config).unwrap();

    let told = Arc::new(Mutex::new(Told::default()));
    let broker = Process::serve_with(&folder.config(), "warn,unefois::serve=info");
    let loading = runtime.spawn({
        let (profile, told, key) = (folder.profile("ville"), told.clone(), key.clone());
        async move { load(&profile, told, key).await }
    });
    std::thread::sleep(Duration::from_millis(300 + draw(state, 2_500)));
    // What clients know before the cut begins is what must be there after it.
    let known = told.lock().unwrap().clone();
    // The other disk loses its power too, but goes on a moment longer here: what it has later is not what it had.
    let kept = std::fs::read(&head).unwrap();
    disk.run(&["cut", "-seed", &draw(state, 1 << 30).to_string()]);
    broker.kill();
    runtime.block_on(loading).unwrap();
    disk.run(&["remount"]);
    if !head.starts_with(disk.mount()) {
        std::fs::write(&head, kept).unwrap();
    }
    let broker = Process::serve_with(&folder.config(), "warn,unefois::serve=info");
    check_told(&data, &known);
    assert_eq!(broker.terminate(), Some(0));
    world::check(&data, &key);
    known.answers.len()
}

#[test]
fn what_clients_were_told_survives_a_power_cut() {
    let program = match powercut() {
        Ok(program) => program,
        Err(why) if std::env::var_os("UNEFOIS_WITHOUT_POWER_CUT").is_some() => {
            println!("no power was cut: {why}");
            return;
        }
        Err(why) => panic!("{why}; set UNEFOIS_WITHOUT_POWER_CUT=1 to leave power cuts out"),
    };
    let cuts = std::env::var("UNEFOIS_POWER_CUTS").ok().map_or(4, |cuts| cuts.parse().expect("a number"));
    let has_xfs = Command::new("mkfs.xfs").arg("-V").output().is_ok();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let mut state = u64::try_from(seed).unwrap_or(1) | 1;
    println!("seed {state}, {cuts} cuts, xfs {}", if has_xfs { "too" } else { "is not there" });
    let mut answers = 0;
    for nth in 0..cuts {
        let fs = if has_xfs && nth % 4 >= 2 { "xfs" } else { "ext4" };
        answers += cut(&program, &runtime, &mut state, nth, fs);
        if (nth + 1).is_multiple_of(20) {
            println!("{} cuts: {answers} answers, all there", nth + 1);
        }
    }
    assert!(answers > cuts * 10, "the load was too light: {answers} answers in {cuts} cuts");
    println!("{cuts} cuts: {answers} answers, all there");
}
