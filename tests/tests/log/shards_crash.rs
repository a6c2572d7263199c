//! Closing a shard while any operation on the disk fails, or is the last one before or after which the process dies: opened
//! again, the shard is closed as a whole or not at all, nothing that was told is missing, and the log goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use unefois_store::Options;
use unefois_store::embedded::faults::{DIED, runs};
use unefois_tests::{copy_folder, process, world, writers};

use super::planned::{self, MODES, exit_code, lines, ran};
use super::shards::{configure_shard, signer};

/// So small that a shard has several segments.
fn options() -> Options {
    Options { segment_bytes: 64 << 10, min_free_bytes: 0, ..Options::default() }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// The process of one case; not a test by itself.
#[test]
#[ignore = "started by the test of closing with a plan"]
fn case() {
    let Some(folder) = planned::folder() else { return };
    let closes = std::env::var("UNEFOIS_CASE_CLOSES").is_ok();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        if !closes {
            planned::from_now();
        }
        let (store, engine) = match writers::open(&folder, &folder.join("data"), &options()).await {
            Ok(opened) => opened,
            Err(error) => return println!("not opened: {error}"),
        };
        for _ in 0..5 {
            let written = engine.append(writers::entry(&engine), deadline()).await.unwrap();
            println!("told {} {}", engine.head().shard + written.proof.index, written.leaf().commitment);
        }
        if closes {
            let now = signer(&folder);
            configure_shard(&folder, "2027");
            let before = runs();
            planned::from_now();
            match engine.close_shard(&*now, &*signer(&folder)).await {
                Ok(closed) => println!("closed {}", closed.index),
                Err(error) => println!("not closed: {error}"),
            }
            planned::say_ran(&before);
        }
        writers::close(store, engine).await;
    });
}

/// What a process of a case said, and its exit code.
fn run_case(folder: &Path, closes: bool, planned: Option<&str>) -> (Option<i32>, String) {
    let closes = closes.then(|| ("UNEFOIS_CASE_CLOSES", "1".to_owned()));
    planned::process("shards_crash::case", folder, closes.as_slice(), planned)
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

    let (mut cases, mut met) = (Vec::new(), BTreeSet::new());
    for (operation, count) in ran(&said) {
        cases.extend((1..=count).flat_map(|nth| MODES.map(|mode| (operation.clone(), nth, mode))));
        met.insert(operation);
    }
    planned::each(&cases, root.path(), |(operation, nth, mode), folder| {
        let case = format!("{operation} {nth} {mode:?}");
        copy_folder(&fresh, folder);
        let (code, said) = run_case(folder, true, Some(&case));
        // The spare segment is made on a thread of its own, so its runs may come or not.
        assert!(code == Some(exit_code(*mode)) || operation.starts_with("Spare"), "{case}: {said}");
        look(folder, &old_config, &said, &case);
    });
    let mut cases = cases.len();
    for needed in ["NextRename", "FrameWrite", "FrameSync", "SegmentRename", "TilesSync", "HeadWrite"] {
        assert!(met.contains(needed), "{needed} is not met: {met:?}");
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
