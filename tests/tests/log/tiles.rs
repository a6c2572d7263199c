//! The hash tiles that the public log is served from are compared with the journal whenever the log is verified.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unefois::config::Loaded;
use unefois_audit::{Frontier, Hash, TileHashes, TileNodes, root_at};
use unefois_engine::replay::{LogFault, Report, verify};
use unefois_engine::seal::Opener;
use unefois_engine::store::{Batch, Journal, StoreError, Visit};
use unefois_engine::{Engine, EngineError};
use unefois_store::embedded::faults::{Mode, clear, plan_from_now};
use unefois_store::embedded::{FileKeys, JournalReader, Operation};
use unefois_store::{EmbeddedStore, Options};
use unefois_tests::sandbox::Sandbox;
use unefois_tests::{files, process, world, writers};

use crate::shards::close_shard;

/// Leaves below a hash of tile level 1.
const TILE: u64 = 256;

fn check(data: &Path, sandbox: &Sandbox) -> Result<Report, LogFault> {
    let opener = Opener::new(Arc::new(FileKeys::open(&data.join("keys")).unwrap()));
    verify(&JournalReader::open(data).unwrap(), &sandbox.key, &opener, &mut |_, _| {})
}

fn flip(file: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[tokio::test]
async fn a_changed_hash_in_a_tile_of_any_shard_is_named_and_a_lost_one_is_counted_and_derived_again() {
    let mut sandbox = Sandbox::start().await;
    sandbox.grow(520).await;
    close_shard(&mut sandbox, "2027").await;
    sandbox.grow(300).await;
    let data = sandbox.data();
    let live = check(&data, &sandbox).unwrap();
    sandbox.stop().await;

    let second = JournalReader::open(&data).unwrap().end().shard;
    let (in_first, in_second) = (second / TILE, (live.entries - second) / TILE);
    assert!(in_first >= 2 && in_second >= 1, "{live:?}");
    assert_eq!(live.tile_hashes, live.entries + in_first + in_second);

    let tiles = files(&data.join("tiles"));
    assert_eq!(tiles.len(), 4, "{tiles:?}");
    for file in &tiles {
        let name = file.strip_prefix(&data).unwrap().to_str().unwrap();
        let (level_1, shard) = (name.ends_with("/1"), if name.len() > "tiles/0".len() { second } else { 0 });
        let hashes = fs::metadata(file).unwrap().len() / 32;
        for number in [0, hashes / 2, hashes - 1] {
            flip(file, number * 32 + 31);
            let entry = shard + if level_1 { number * TILE } else { number };
            let fault = check(&data, &sandbox).unwrap_err().to_string();
            let level = u8::from(level_1);
            assert!(fault.starts_with(&format!("entry {entry}: hash {number} of tile level {level} is")), "{fault}");
            flip(file, number * 32 + 31);
        }
    }
    assert_eq!(check(&data, &sandbox), Ok(live));

    // What is not there, or was not durable when the power was cut, is not wrong.
    let write = |file: &Path| fs::OpenOptions::new().write(true).open(file).unwrap();
    let missing = || check(&data, &sandbox).map(|report| report.tile_hashes_missing);
    let of_second = data.join(format!("tiles/{second:020}"));
    let second_0 = &of_second.join("0");
    write(second_0).write_all_at(&[0; 10 * 32], (live.entries - second - 10) * 32).unwrap();
    assert_eq!(missing(), Ok(10));
    write(second_0).set_len(100 * 32).unwrap();
    assert_eq!(missing(), Ok(live.entries - second - 100));
    fs::remove_file(data.join("tiles/1")).unwrap();
    fs::remove_file(of_second.join("1")).unwrap();
    assert_eq!(missing(), Ok(live.entries - second - 100 + in_first + in_second));
    // In a shard that is closed all were durable.
    write(&data.join("tiles/0")).write_all_at(&[0; 32], 32).unwrap();
    assert!(missing().unwrap_err().to_string().starts_with("entry 1: hash 1 of tile level 0"));
    fs::remove_dir_all(data.join("tiles")).unwrap();
    assert_eq!(missing(), Ok(live.tile_hashes));
    sandbox.restart().await.unwrap();
    let again = check(&data, &sandbox).unwrap();
    assert_eq!((again.tile_hashes, again.tile_hashes_missing), (live.tile_hashes, 0));
    sandbox.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_verifies_at_any_moment_while_entries_come() {
    let sandbox = Arc::new(Sandbox::start().await);
    let growing = tokio::spawn({
        let sandbox = Arc::clone(&sandbox);
        async move { sandbox.grow(1_500).await }
    });
    let (mut checks, mut grew) = (0, 0);
    while !growing.is_finished() {
        let sandbox = Arc::clone(&sandbox);
        let report = tokio::task::spawn_blocking(move || check(&sandbox.data(), &sandbox)).await.unwrap().unwrap();
        assert!(report.entries >= grew, "{report:?}");
        (checks, grew) = (checks + 1, report.entries);
    }
    growing.await.unwrap();
    assert!(checks > 3 && grew > 256, "{checks} checks to {grew} entries");
    Arc::into_inner(sandbox).unwrap().finish().await;
}

/// Where the process of a case works, for [`while_tiles_cannot_be_written_the_log_goes_on_and_is_served_as_it_is`].
const CASE: &str = "UNEFOIS_TILES_FOLDER";

/// The process of that test, with a plan for its disk; not a test by itself.
#[test]
#[ignore = "started by the test of tiles that cannot be written"]
fn case() {
    let Ok(folder) = std::env::var(CASE) else { return };
    let folder = Path::new(&folder);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        without_tiles(folder).await;
        without_tiles_before_a_change(&folder.with_extension("small")).await;
    });
    println!("all is well");
}

async fn append(engine: &Engine, count: usize) -> Result<(), EngineError> {
    for _ in 0..count {
        engine.append(writers::entry(engine), Instant::now() + Duration::from_secs(10)).await?;
    }
    Ok(())
}

/// Every hash of the lowest level, and the root of every tree up to now, are those of the journal.
fn assert_served(store: &EmbeddedStore) {
    let mut frontier = Frontier::new();
    let mut leaves = Vec::new();
    let keep = &mut |batch: Batch| {
        leaves.extend(batch.entries.iter().map(|entry| entry.leaf.hash()));
        Visit::Continue
    };
    store.journal.read(0, keep).unwrap();
    assert_eq!(store.journal.tile_hashes(0, 0, 0, leaves.len()).unwrap(), leaves);
    for (at, leaf) in leaves.iter().enumerate() {
        assert_eq!(store.journal.tile_hashes(0, 0, at as u64, 1).unwrap(), [*leaf]);
        frontier.append(*leaf);
    }
    let tiles = TileNodes(&Served(store));
    assert_eq!(root_at(&tiles, leaves.len() as u64).unwrap(), frontier.root());
}

#[derive(Debug)]
struct Served<'a>(&'a EmbeddedStore);

impl TileHashes for Served<'_> {
    type Error = StoreError;

    fn hashes(&self, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        self.0.journal.tile_hashes(0, level, start, count)
    }
}

async fn without_tiles(folder: &Path) {
    let data = folder.join("data");
    let key = Loaded::open(&folder.join("unefois.toml")).unwrap().signer.verifier_key().clone();
    let in_files = || fs::metadata(data.join("tiles/0")).unwrap().len() / 32;
    let options = |segment_bytes| Options { segment_bytes, min_free_bytes: 0, ..Options::default() };

    // In a segment with room nothing depends on the tiles.
    let (store, engine) = writers::open(folder, &data, &options(64 << 20)).await.unwrap();
    append(&engine, 40).await.unwrap();
    let before = in_files();
    plan_from_now(Operation::TilesWrite, Mode::Fails);
    append(&engine, 80).await.unwrap();
    engine.check().unwrap();
    assert_eq!(in_files(), before, "the plan did not work");
    assert_served(&store);
    // Whoever verifies from the files finds that they lack, and no fault.
    let opener = Opener::new(Arc::new(FileKeys::open(&data.join("keys")).unwrap()));
    let report = verify(&JournalReader::open(&data).unwrap(), &key, &opener, &mut |_, _| {}).unwrap();
    assert!(report.tile_hashes_missing >= 80, "{report:?}");
    // When the disk takes them again, they come by themselves.
    clear();
    let begun = Instant::now();
    while in_files() < engine.head().size {
        assert!(begun.elapsed() < Duration::from_secs(10), "the tiles do not come");
        append(&engine, 1).await.unwrap();
    }
    assert_served(&store);
    // What waits at the end of a process is derived again at the next start.
    plan_from_now(Operation::TilesWrite, Mode::Fails);
    append(&engine, 80).await.unwrap();
    writers::close(store, engine).await;
    clear();

    let (store, engine) = writers::open(folder, &data, &options(64 << 20)).await.unwrap();
    assert_served(&store);
    writers::close(store, engine).await;
    world::check(&data, &key);
}

/// Segments are so small that the next change of one is always near: the broker refuses service rather than go on without tiles,
/// and goes on by itself.
async fn without_tiles_before_a_change(folder: &Path) {
    let data = folder.join("data");
    let key = Loaded::open(&folder.join("unefois.toml")).unwrap().signer.verifier_key().clone();
    let options = Options { segment_bytes: 64 << 10, min_free_bytes: 0, ..Options::default() };
    let (store, engine) = writers::open(folder, &data, &options).await.unwrap();
    plan_from_now(Operation::TilesWrite, Mode::Fails);
    // The first may be acknowledged: it was durable before its tiles were tried.
    let refused = append(&engine, 3).await.unwrap_err();
    assert_eq!(refused.code(), "STORE_FULL", "{refused}");
    assert!(refused.to_string().contains("tiles are behind"), "{refused}");
    engine.check().unwrap();
    assert_served(&store);
    clear();
    append(&engine, 200).await.unwrap();
    assert_served(&store);
    writers::close(store, engine).await;
    world::check(&data, &key);
}

#[test]
fn while_tiles_cannot_be_written_the_log_goes_on_and_is_served_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("broker");
    for folder in [&folder, &folder.with_extension("small")] {
        process::folder(folder, process::free_address());
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "tiles::case", "--ignored", "--nocapture"]).env(CASE, &folder);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("all is well"), "{said}");
}
