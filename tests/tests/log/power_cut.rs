//! Power cuts, made for real: a disk loses, keeps or tears what was not flushed, while the broker serves on it, or while an
//! engine without a server writes as fast as it can. Nothing that anyone was told is missing afterwards, no head that was
//! shown is contradicted, and the log goes on.
//!
//! The disk is [`unefois_tests::power`], which says what it needs. `UNEFOIS_POWER_CUTS` sets how often each test cuts.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use unefois::init::InitFolder;
use unefois_audit::VerifierKey;
use unefois_engine::store::HeadFile;
use unefois_store::Options;
use unefois_store::embedded::{FileHead, open_fold};
use unefois_tests::power::{Disk, powercut};
use unefois_tests::process::{self, Process};
use unefois_tests::told::{Told, check_told, draw, load};
use unefois_tests::{world, writers};

/// A broker's folder, its data on a disk whose power will be cut, its head file there too or on another disk.
struct Place {
    // Dropped in this order: the disk lies in the root.
    disk: Disk,
    folder: InitFolder,
    key: VerifierKey,
    data: PathBuf,
    head: PathBuf,
    what: String,
    _root: TempDir,
}

impl Place {
    fn new(program: &Path, nth: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let has_xfs = Command::new("mkfs.xfs").arg("-V").output().is_ok();
        let file_system = if has_xfs && nth % 4 >= 2 { "xfs" } else { "ext4" };
        let disk = Disk::up(program, root.path(), file_system);
        let (folder, key) = process::folder(&root.path().join("broker"), process::free_address());
        let data = disk.mount().join("data");
        let (head, head_is) = match nth.is_multiple_of(2) {
            true => (data.with_extension("head"), "the same disk"),
            false => (root.path().join("data.head"), "another disk"),
        };
        let what = format!("cut {nth} on {file_system}, head file on {head_is}");
        Self { disk, folder, key, data, head, what, _root: root }
    }

    /// Cuts the power, lets `end` end who writes, and shows what the cut left. Gives what was told before the cut began:
    /// that must be there after it.
    fn cut(&mut self, state: &mut u64, told: &Mutex<Told>, end: impl FnOnce()) -> Told {
        let on_another_disk = !self.head.starts_with(self.disk.mount());
        // A write is flushed at once, so at most moments there is nothing to lose: most cuts look for one where there is.
        let tries = if draw(state, 4) == 0 { 1 } else { 200 };
        let mut cut = 0;
        let (known, head, said) = loop {
            cut += 1;
            // A head file on another disk stands still at the cut, too.
            let head = on_another_disk.then(|| std::fs::read(&self.head).ok());
            let known = told.lock().unwrap().clone();
            let said = self.disk.cut(draw(state, 1 << 30));
            if cut == tries || !said.contains(" of 0 unflushed writes") {
                break (known, head, said);
            }
        };
        end();
        self.disk.remount();
        match head {
            Some(Some(head)) => std::fs::write(&self.head, head).unwrap(),
            // There was none yet.
            Some(None) if self.head.exists() => std::fs::remove_file(&self.head).unwrap(),
            Some(None) | None => {}
        }
        self.what = format!("{}: {} told, {said}", self.what, known.answers.len());
        println!("{}", self.what);
        known
    }
}

/// Power cuts of each test.
fn cuts() -> usize {
    std::env::var("UNEFOIS_POWER_CUTS").ok().map_or(4, |cuts| cuts.parse().expect("UNEFOIS_POWER_CUTS is a number"))
}

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let seed = u64::try_from(now).unwrap_or(1) | 1;
    println!("seed {seed}, {} cuts", cuts());
    seed
}

/// One cut of a broker under load.
fn cut_a_broker(program: &Path, runtime: &Runtime, state: &mut u64, nth: usize) -> usize {
    let mut place = Place::new(program, nth);
    let config = std::fs::read_to_string(place.folder.config()).unwrap();
    // Small segments, so that cuts meet changes of segment too.
    let store = format!("path = {:?}\nsegment_mb = 1\nmin_free_mb = 0", place.data.to_str().unwrap());
    let log = format!("[log]\nhead_file = {:?}", place.head.to_str().unwrap());
    std::fs::write(place.folder.config(), config.replace("path = \"data\"", &store).replace("[log]", &log)).unwrap();

    let told = Arc::new(Mutex::new(Told::default()));
    let broker = Process::serve_with(&place.folder.config(), "warn,unefois::serve=info");
    let loading = runtime.spawn({
        let (profile, told, key) = (place.folder.profile("ville"), told.clone(), place.key.clone());
        async move { load(&profile, told, key).await }
    });
    std::thread::sleep(Duration::from_millis(300 + draw(state, 2_500)));
    let known = place.cut(state, &told, || {
        broker.kill();
        runtime.block_on(loading).unwrap();
    });
    // A cut ends the boot, which this machine's did not: the fold is not trusted.
    drop(open_fold(&place.data.join("fold"), &next_boot(&place)).unwrap());
    let broker = Process::serve_with(&place.folder.config(), "warn,unefois::serve=info");
    check_told(&place.data, &known);
    assert_eq!(broker.terminate(), Some(0), "{}", place.what);
    world::check(&place.data, &place.key);
    known.answers.len()
}

#[test]
fn what_clients_were_told_survives_a_power_cut() {
    let Some(program) = powercut() else { return };
    let (runtime, mut state, mut answers) = (Runtime::new().unwrap(), seed(), 0);
    for nth in 0..cuts() {
        answers += cut_a_broker(&program, &runtime, &mut state, nth);
    }
    assert!(answers > cuts() * 10, "the load was too light: {answers} answers in {} cuts", cuts());
    println!("{} power cuts of a broker: {answers} answers, all there", cuts());
}

/// So small a segment that a cut often meets its change.
fn options(head: &Path, boot: &str) -> Options {
    let (head, boot) = (Some(head.to_owned()), boot.to_owned());
    Options { segment_bytes: 64 << 10, min_free_bytes: 0, head, boot, ..Options::default() }
}

fn next_boot(place: &Place) -> Options {
    options(&place.head, "the boot after the cut")
}

/// The process that a cut ends; not a test by itself.
#[test]
#[ignore = "started by the power cut of an engine"]
fn writer() {
    let Ok(paths) = std::env::var("UNEFOIS_POWER_CUT_WRITER") else { return };
    let [folder, data, head] = paths.split('\n').map(Path::new).collect::<Vec<_>>()[..] else { panic!("{paths}") };
    Runtime::new().unwrap().block_on(async {
        let key = unefois::config::Loaded::open(&folder.join("unefois.toml")).unwrap().signer.verifier_key().clone();
        let (_store, engine) = writers::open(folder, data, &options(head, "the boot before the cut")).await.unwrap();
        writers::write(&engine, &key, 16, 1_000_000, |line| println!("{line}")).await.unwrap();
    });
}

/// A running [`writer`]. It is killed when dropped.
struct Writer {
    child: Child,
    told: Arc<Mutex<Told>>,
    /// When which size was the newest that anyone was told of.
    sizes: Arc<Mutex<Vec<(Instant, u64)>>>,
    listener: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    fn start(place: &Place) -> Self {
        let paths = [&place.folder.path, &place.data, &place.head].map(|path| path.to_str().unwrap());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "power_cut::writer", "--ignored", "--nocapture"])
            .env("UNEFOIS_POWER_CUT_WRITER", paths.join("\n"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (told, sizes) = (Arc::new(Mutex::new(Told::default())), Arc::new(Mutex::new(Vec::new())));
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let listener = std::thread::spawn({
            let (told, sizes) = (Arc::clone(&told), Arc::clone(&sizes));
            move || {
                let mut line = String::new();
                // A line that the death cut short is none.
                while lines.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
                    let mut told = told.lock().unwrap();
                    writers::told(line.trim_end(), &mut told);
                    sizes.lock().unwrap().extend(told.heads.keys().last().map(|size| (Instant::now(), *size)));
                    line.clear();
                }
            }
        });
        Self { child, told, sizes, listener: Some(listener) }
    }

    /// The size that was told of by then.
    fn size_at(&self, then: Option<Instant>) -> u64 {
        let sizes = self.sizes.lock().unwrap();
        sizes.iter().rev().find(|(at, _)| then.is_some_and(|then| *at <= then)).map_or(0, |(_, size)| *size)
    }

    /// Waits until the writers were told of so many entries.
    fn wait_for(&mut self, entries: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.told.lock().unwrap().answers.len() < entries {
            assert_eq!(self.child.try_wait().unwrap(), None, "the writer ended by itself");
            assert!(Instant::now() < deadline, "the disk is too slow");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// What the head file promises to have at least: what was told of a second ago. Another second is for a slow disk.
const HEAD_IS_YOUNGER_THAN: Duration = Duration::from_secs(2);

/// The size that the head file says; 0 where it says none.
fn kept(head: &Path) -> u64 {
    let note = FileHead::new(head).read().unwrap().unwrap_or_default();
    note.lines().nth(1).map_or(0, |size| size.parse().unwrap())
}

/// One cut of an engine that writes as fast as it can.
fn cut_an_engine(program: &Path, runtime: &Runtime, state: &mut u64, nth: usize) -> usize {
    let mut place = Place::new(program, nth);
    let mut writer = Writer::start(&place);
    if nth.is_multiple_of(4) {
        // So long that the head file must have been written.
        writer.wait_for(1);
        std::thread::sleep(HEAD_IS_YOUNGER_THAN + Duration::from_secs(1));
    } else if draw(state, 5) == 0 {
        // While it opens its first log, or soon after.
        std::thread::sleep(Duration::from_millis(draw(state, 500)));
    } else {
        writer.wait_for(usize::try_from(draw(state, 3_000)).unwrap());
    }
    let told = Arc::clone(&writer.told);
    let at_least = writer.size_at(Instant::now().checked_sub(HEAD_IS_YOUNGER_THAN));
    let mut known = place.cut(state, &told, || drop(writer));
    let kept = kept(&place.head);
    assert!(kept >= at_least, "{}: the head file says {kept}, and {at_least} was told long ago", place.what);
    let options = next_boot(&place);
    runtime.block_on(async {
        let opened = writers::open(&place.folder.path, &place.data, &options).await;
        let (store, engine) = opened.unwrap_or_else(|error| panic!("{}: does not open: {error}", place.what));
        let head = engine.head();
        known.heads.insert(head.size, head.root);
        writers::write(&engine, &place.key, 4, 20, |_| {}).await.unwrap();
        writers::close(store, engine).await;
    });
    check_told(&place.data, &known);
    world::check(&place.data, &place.key);
    known.answers.len()
}

#[test]
fn what_an_engine_acknowledged_survives_a_power_cut() {
    let Some(program) = powercut() else { return };
    let (runtime, mut state, mut entries) = (Runtime::new().unwrap(), seed(), 0);
    for nth in 0..cuts() {
        entries += cut_an_engine(&program, &runtime, &mut state, nth);
    }
    assert!(entries > cuts() * 10, "too few were told: {entries} entries in {} cuts", cuts());
    println!("{} power cuts of an engine: {entries} entries, all there", cuts());
}
