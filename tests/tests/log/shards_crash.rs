//! Closing a shard while any operation on the disk fails, or is the last one before or after which the process dies: opened
//! again, the shard is closed as a whole or not at all, nothing that was told is missing, and the log goes on.
//!
//! Each case is a process of its own: this test program, started again with a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use unefois_store::Options;
use unefois_store::embedded::Operation;
use unefois_store::embedded::faults::{DIED, Mode, plan, runs};
use unefois_tests::{copy_folder, process, world, writers};

use super::shards::{configure_shard, signer};

/// Cases that run beside each other.
const AT_ONCE: usize = 4;
const MODES: [Mode; 4] = [Mode::Fails, Mode::FailsButPersists, Mode::DiesBefore, Mode::DiesAfter];

/// So small that a shard has several segments.
fn options() -> Options {
    Options { segment_bytes: 64 << 10, min_free_bytes: 0, ..Options::default() }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Plans for the next runs of an operation: `OPERATION NTH MODE`.
fn plan_from_now(planned: &str) {
    let parts: Vec<&str> = planned.split(' ').collect();
    let operation = Operation::ALL.into_iter().find(|operation| format!("{operation:?}") == parts[0]).unwrap();
    let mode = MODES.into_iter().find(|mode| format!("{mode:?}") == parts[2]).unwrap();
    let so_far = runs().get(&operation).copied().unwrap_or_default();
    plan(operation, so_far + parts[1].parse::<u64>().unwrap(), mode);
}

/// The process of one case; not a test by itself.
#[test]
#[ignore = "started by the test of closing with a plan"]
fn case() {
    let Ok(folder) = std::env::var("UNEFOIS_CASE_FOLDER") else { return };
    let (folder, planned) = (Path::new(&folder), std::env::var("UNEFOIS_CASE_PLAN").ok());
    let closes = std::env::var("UNEFOIS_CASE_CLOSES").is_ok();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        if let Some(planned) = planned.as_deref().filter(|_| !closes) {
            plan_from_now(planned);
        }
        let (store, engine) = match writers::open(folder, &folder.join("data"), &options()).await {
            Ok(opened) => opened,
            Err(error) => return println!("not opened: {error}"),
        };
        for _ in 0..5 {
            let written = engine.append(writers::entry(&engine), deadline()).await.unwrap();
            println!("told {} {}", engine.head().shard + written.proof.index, written.leaf().commitment);
        }
        if closes {
            let now = signer(folder);
            configure_shard(folder, "2027");
            let before = runs();
            if let Some(planned) = &planned {
                plan_from_now(planned);
            }
            match engine.close_shard(&*now, &*signer(folder)).await {
                Ok(closed) => println!("closed {}", closed.index),
                Err(error) => println!("not closed: {error}"),
            }
            let during = runs().into_iter().filter_map(|(operation, count)| {
                let count = count - before.get(&operation).copied().unwrap_or_default();
                (count > 0).then(|| format!("{operation:?}={count}"))
            });
            println!("ran {}", during.collect::<Vec<_>>().join(" "));
        }
        writers::close(store, engine).await;
    });
}

/// What a process of a case said, and its exit code.
fn run_case(folder: &Path, closes: bool, planned: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "shards_crash::case", "--ignored", "--nocapture"]).env("UNEFOIS_CASE_FOLDER", folder);
    if closes {
        command.env("UNEFOIS_CASE_CLOSES", "1");
    }
    if let Some(planned) = planned {
        command.env("UNEFOIS_CASE_PLAN", planned);
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn lines<'a>(said: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    said.lines().filter_map(move |line| line.strip_prefix(prefix))
}

/// The log is of one of the two shards, whole, with all that was told in it.
fn look(folder: &Path, old_config: &str, said: &str, case: &str) {
    let config = folder.join("unefois.toml");
    configure_shard(folder, "2027");
    let (code, mut again) = run_case(folder, false, None);
    let is_closed = code == Some(0) && !again.contains("not opened");
    if !is_closed {
        assert_eq!(lines(said, "closed ").count(), 0, "{case}: a shard that was told to be closed is not: {again}");
        std::fs::write(&config, old_config).unwrap();
        let (code, with_old) = run_case(folder, false, None);
        assert!(code == Some(0) && !with_old.contains("not opened"), "{case}: {again}\n{with_old}\nafter: {said}");
        again = with_old;
    }
    let events: BTreeMap<u64, String> = world::commitments(&folder.join("data"));
    for told in lines(said, "told ").chain(lines(&again, "told ")) {
        let (index, commitment) = told.split_once(' ').unwrap();
        assert_eq!(events.get(&index.parse().unwrap()).map(String::as_str), Some(commitment), "{case}: entry {index}");
    }
    let report = world::check(&folder.join("data"), signer(folder).verifier_key());
    assert!(report.entries > 10, "{case}");
}

#[test]
fn a_shard_is_closed_as_a_whole_or_not_at_all_whatever_fails() {
    let root = tempfile::tempdir().unwrap();
    let fresh = root.path().join("fresh");
    process::folder(&fresh, process::free_address());
    let old_config = std::fs::read_to_string(fresh.join("unefois.toml")).unwrap();
    assert_eq!(run_case(&fresh, false, None).0, Some(0));
    let rehearsal = root.path().join("rehearsal");
    copy_folder(&fresh, &rehearsal);
    let (code, said) = run_case(&rehearsal, true, None);
    assert_eq!((code, lines(&said, "closed ").count()), (Some(0), 1), "{said}");
    look(&rehearsal, &old_config, &said, "nothing fails");

    let ran = lines(&said, "ran ").next().unwrap().to_owned();
    let counts = ran.split(' ').map(|one| one.split_once('=').unwrap());
    let (mut cases, mut met) = (Vec::new(), BTreeSet::new());
    for (operation, count) in counts.map(|(operation, count)| (operation, count.parse::<u64>().unwrap())) {
        met.insert(operation.to_owned());
        cases.extend((1..=count).flat_map(|nth| MODES.map(|mode| (operation, nth, mode))));
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (next, cases, fresh, old_config) = (&next, &cases, &fresh, &old_config);
            let folder = root.path().join(format!("case-{worker}"));
            scope.spawn(move || {
                while let Some((operation, nth, mode)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let case = format!("{operation} {nth} {mode:?}");
                    copy_folder(fresh, &folder);
                    let (code, said) = run_case(&folder, true, Some(&case));
                    let dies = matches!(mode, Mode::DiesBefore | Mode::DiesAfter);
                    // The spare segment is made on a thread of its own, so its runs may come or not.
                    let expected = code == Some(if dies { DIED } else { 0 });
                    assert!(expected || operation.starts_with("Spare"), "{case}: {said}");
                    look(&folder, old_config, &said, &case);
                    std::fs::remove_dir_all(&folder).unwrap();
                }
            });
        }
    });
    let mut cases = cases.len();
    for needed in ["NextRename", "FrameWrite", "FrameSync", "SegmentRename", "TilesSync", "HeadWrite"] {
        assert!(met.contains(needed), "{needed} is not met: {ran}");
    }

    // What such a crash left is taken away at the next start, whatever happens then.
    let left = root.path().join("left");
    copy_folder(&fresh, &left);
    assert_eq!(run_case(&left, true, Some("NextRename 1 DiesAfter")).0, Some(DIED));
    assert!(left.join("data/journal/next.seg").exists());
    std::fs::write(left.join("unefois.toml"), &old_config).unwrap();
    for mode in MODES {
        let case = format!("NextRemove 1 {mode:?}");
        let folder = root.path().join("case");
        copy_folder(&left, &folder);
        let (_, said) = run_case(&folder, false, Some(&case));
        look(&folder, &old_config, &said, &case);
        assert!(!folder.join("data/journal/next.seg").exists(), "{case}");
        std::fs::remove_dir_all(&folder).unwrap();
        cases += 1;
    }
    println!("{cases} cases");
}
