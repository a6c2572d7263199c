//! The crash matrix: every operation of the store on its files fails, fails after it was done, or is the last thing before
//! or after which the process dies; then the store opens again and the world is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unefois::config::Loaded;
use unefois_audit::Frontier;
use unefois_engine::Engine;
use unefois_engine::replay::BatchSource;
use unefois_engine::store::{RecordKeys, Visit};
use unefois_store::embedded::{JournalReader, Operation};
use unefois_store::{EmbeddedStore, Options};
use unefois_tests::{copy_folder, files, process, world, writers};

use super::planned::{self, MODES, exit_code, numbered, ran};

const WRITERS: usize = 4;
/// Entries of each writer: enough to change the first segment.
const EACH: usize = 64;
/// Entries of each writer when the log goes on.
const AGAIN: usize = 3;

async fn open(folder: &Path) -> Result<(EmbeddedStore, Arc<Engine>), String> {
    // So small that a case changes its segment.
    let options = Options { segment_bytes: 64 << 10, min_free_bytes: 0, ..Options::default() };
    writers::open(folder, &folder.join("data"), &options).await
}

/// Appends from several writers; says on the output what each was told, at once.
async fn append(engine: &Arc<Engine>, each: usize) {
    let writers = (0..WRITERS).map(|_| {
        let (engine, event) = (Arc::clone(engine), writers::entry(engine));
        tokio::spawn(async move {
            for _ in 0..each {
                match engine.append(event.clone(), Instant::now() + Duration::from_secs(10)).await {
                    Ok(receipt) => {
                        let leaf = receipt.leaf().commitment;
                        println!("told {} {leaf}", receipt.proof.index);
                        // The lines of a head: origin, size, root in base64.
                        let head: Vec<&str> = receipt.proof.checkpoint.lines().collect();
                        println!("head {} {}", head[1], unefois_audit::Hash::from_base64(head[2]).unwrap());
                    }
                    Err(error) => println!("refused {}", error.code()),
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// The process of one case; not a test by itself.
#[test]
#[ignore = "started by the crash matrix with a plan"]
fn case() {
    let Some(folder) = planned::folder() else { return };
    planned::from_now();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (store, engine) = match open(&folder).await {
            Ok(opened) => opened,
            Err(error) => return println!("not opened: {error}"),
        };
        append(&engine, std::env::var("UNEFOIS_CASE_EACH").unwrap().parse().unwrap()).await;
        // A key that nothing is sealed with is made and destroyed.
        let period = "2020-01".parse().unwrap();
        let _ = store.keys.get_or_create(period).and_then(|_| store.keys.destroy(period));
        tokio::task::spawn_blocking(move || engine.close()).await.unwrap();
    });
    planned::say_ran(&BTreeMap::new());
}

/// What a process of a case said, and its exit code.
fn run_case(folder: &Path, each: usize, planned: Option<&str>) -> (Option<i32>, String) {
    planned::process("crash_matrix::case", folder, &[("UNEFOIS_CASE_EACH", each.to_string())], planned)
}

fn told(said: &str) -> BTreeMap<u64, String> {
    numbered(said, "told ")
}

/// Size and root of every head that a receipt showed.
fn heads(said: &str) -> BTreeMap<u64, String> {
    numbered(said, "head ")
}

/// Nothing that was told is missing; the store opens, goes on, and is whole.
fn look(folder: &Path, before: &BTreeMap<u64, String>, said: &str, case: &str) {
    let (code, again) = run_case(folder, AGAIN, None);
    assert_eq!(code, Some(0), "{case}: {again}");
    assert!(!again.contains("not opened"), "{case}: does not open again: {again}\nafter: {said}");
    assert!(!again.contains("refused"), "{case}: does not go on: {again}");
    let mut expected = before.clone();
    expected.extend(told(said));
    expected.extend(told(&again));
    let data = folder.join("data");
    let mut missing: BTreeSet<u64> = expected.keys().copied().collect();
    let mut shown = heads(said);
    shown.extend(heads(&again));
    let mut frontier = Frontier::new();
    JournalReader::open(&data)
        .unwrap()
        .read(0, &mut |batch| {
            for (index, entry) in (batch.first..).zip(&batch.entries) {
                frontier.append(entry.leaf.hash());
                if let Some(root) = shown.remove(&frontier.size()) {
                    assert_eq!(root, frontier.root().to_hex(), "{case}: a head is contradicted");
                }
                if let Some(leaf) = expected.get(&index) {
                    assert_eq!(*leaf, entry.leaf.commitment.to_string(), "{case}: entry {index} was replaced");
                    missing.remove(&index);
                }
            }
            Visit::Continue
        })
        .unwrap();
    assert_eq!(missing, BTreeSet::new(), "{case}: told and not there");
    assert_eq!(shown, BTreeMap::new(), "{case}: heads of entries that are not there");
    let key = Loaded::open(&folder.join("unefois.toml")).unwrap().signer.verifier_key().clone();
    world::check(&data, &key);
}

/// Leaves bytes of no batch behind the last one.
fn tear(journal: &Path) {
    // The spare segment is none of them.
    let segments = files(journal).into_iter().filter(|path| !path.ends_with("spare.seg"));
    let last = segments.max().unwrap();
    let mut bytes = std::fs::read(&last).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    // Behind the header, and the padding of the last frame.
    let torn = end.max(8 << 10) + 512;
    bytes[torn..torn + 200].fill(7);
    std::fs::write(&last, bytes).unwrap();
}

#[test]
fn after_any_failed_or_last_operation_nothing_told_is_missing_and_the_log_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let fresh = root.path().join("fresh");
    process::folder(&fresh, process::free_address());
    let grown = root.path().join("grown");
    copy_folder(&fresh, &grown);
    let (code, first) = run_case(&grown, EACH, None);
    assert_eq!(code, Some(0), "{first}");
    let torn = root.path().join("torn");
    copy_folder(&grown, &torn);
    tear(&torn.join("data/journal"));
    let (mut cases, mut met) = (Vec::new(), BTreeSet::new());
    // A log that begins, one that goes on, and one that a crash left with half a batch at its end.
    for (start, before) in [(&fresh, BTreeMap::new()), (&grown, told(&first)), (&torn, told(&first))] {
        let rehearsal = root.path().join("rehearsal");
        copy_folder(start, &rehearsal);
        let counts = ran(&run_case(&rehearsal, EACH, None).1);
        std::fs::remove_dir_all(&rehearsal).unwrap();
        for (operation, count) in counts {
            // All others go as in the log that is whole.
            let of_torn = [Operation::TornEndKeep, Operation::TornEndCut].map(|operation| format!("{operation:?}"));
            if *start == torn && !of_torn.contains(&operation) {
                continue;
            }
            // The first of its runs; and one in the middle, where many are under way.
            let middle = (!before.is_empty() && count > 2).then_some(count / 2 + 1);
            for nth in [1].into_iter().chain(middle) {
                cases.extend(MODES.map(|mode| (start.clone(), before.clone(), operation.clone(), nth, mode)));
            }
            met.insert(operation);
        }
    }
    // Those of a shard that is closed have a test of their own: `shards.rs`.
    let all = Operation::ALL.iter().filter(|o| !matches!(o, Operation::NextRename | Operation::NextRemove));
    let all: BTreeSet<_> = all.map(|operation| format!("{operation:?}")).collect();
    assert_eq!(met, all, "an operation that no case meets");
    planned::each(&cases, root.path(), |(start, before, operation, nth, mode), folder| {
        let case = format!("{operation} {nth} {mode:?}");
        copy_folder(start, folder);
        let (code, said) = run_case(folder, EACH, Some(&case));
        // Threads run otherwise each time, so a later run of an operation may not come.
        assert!(code == Some(exit_code(*mode)) || *nth > 1, "{case}: {code:?} {said}");
        look(folder, before, &said, &case);
    });
    println!("{} cases", cases.len());
}
