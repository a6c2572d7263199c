//! The hash tiles that the public log is served from are compared with the journal whenever the log is verified.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use unefois_engine::replay::{LogFault, Report, verify};
use unefois_engine::seal::Opener;
use unefois_store::embedded::{FileKeys, JournalReader};
use unefois_tests::files;
use unefois_tests::sandbox::Sandbox;

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
