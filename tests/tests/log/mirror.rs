//! The mirror that keeps watch over a public log: what it takes, what it refuses, and what it keeps.

use std::path::{Path, PathBuf};

use unefois::mirror::{Mirror, MirrorError, Source, Update};
use unefois_audit::{Leaf, TilePath, VerifierKey};
use unefois_consent::Event;
use unefois_engine::{Ed25519Signer, Signer};
use unefois_tests::sandbox::Sandbox;
use unefois_tests::shown::{Files, Shown, files_of, gzip, leaves, signed, signer, write_files};
use unefois_tests::{copy_folder, files};

use crate::public_log::{address, mirror};

async fn update(folder: &Path, key: &VerifierKey, source: &str) -> Result<Update, MirrorError> {
    Mirror::open(folder, key)?.update(&Source::new(source)?, &mut |_, _| {}).await
}

/// What the mirror in `folder` says of a log that shows these files but for `path`, which it refuses; it stays at its checkpoint.
async fn refuse(
    folder: &Path,
    key: &VerifierKey,
    (shown, files): (&Shown, &Files),
    path: &str,
    bytes: &[u8],
) -> MirrorError {
    let mut changed = files.clone();
    assert!(changed.insert(path.to_owned(), bytes.to_vec()).is_some_and(|before| before != bytes), "{path}");
    shown.show(changed);
    let before = std::fs::read(folder.join("checkpoint")).ok();
    let refused = update(folder, key, &shown.url).await.expect_err(path);
    assert_eq!(std::fs::read(folder.join("checkpoint")).ok(), before, "{path}");
    refused
}

fn is_hash_tile(path: &str) -> bool {
    path.starts_with("tile/") && !path.starts_with("tile/entries/")
}

#[tokio::test]
async fn each_changed_hash_tile_of_a_real_log_is_refused_by_its_name() {
    let sandbox = Sandbox::start().await;
    let root = tempfile::tempdir().unwrap();
    let (old, whole) = (root.path().join("old"), root.path().join("whole"));
    let url = format!("http://{}", address(&sandbox));
    mirror(&old, &sandbox, &url).await.unwrap();
    sandbox.grow(600).await;
    mirror(&whole, &sandbox, &url).await.unwrap();
    let (real, key) = (files_of(&whole), sandbox.key.clone());
    let shown = Shown::start(real.clone()).await;
    let tiles: Vec<&String> = real.keys().filter(|path| is_hash_tile(path)).collect();
    assert_eq!(tiles.len(), 4, "{tiles:?}");
    for tile in tiles {
        let bytes = &real[tile];
        let mut changes = vec![bytes[..bytes.len() - 32].to_vec(), [&bytes[..], &[7; 32]].concat(), Vec::new()];
        for at in (0..bytes.len()).step_by(32) {
            let mut flipped = bytes.clone();
            flipped[at + at / 32 % 32] ^= 1;
            changes.push(flipped);
        }
        // Many copies would cost minutes: each change is tried on the copy that goes on, some on a new one too.
        for (n, changed) in changes.iter().enumerate() {
            let fresh = root.path().join("fresh");
            for copy in [Some(&old), (n % 64 == 0).then_some(&fresh)].into_iter().flatten() {
                let refused = refuse(copy, &key, (&shown, &real), tile, changed).await;
                assert!(matches!(&refused, MirrorError::HashTile(named) if named == tile), "{tile}: {refused}");
            }
        }
        let mut without = real.clone();
        without.remove(tile);
        shown.show(without);
        let refused = update(&old, &key, &shown.url).await.unwrap_err().to_string();
        assert!(refused.contains(tile), "{refused}");
    }
    shown.show(real.clone());
    update(&old, &key, &shown.url).await.unwrap();
    // It is shown as the log is, file by file.
    let copied = files_of(&old);
    assert!(real.iter().all(|(path, bytes)| copied.get(path) == Some(bytes)));
    sandbox.finish().await;
}

#[tokio::test]
async fn hash_tiles_of_every_level_of_a_large_log_are_read() {
    let log = signer("log.example/large");
    let leaves = leaves(65_536 + 700);
    let root = tempfile::tempdir().unwrap();
    let (first, copy) = (root.path().join("first"), root.path().join("copy"));
    write_files(&signed(&leaves[..65_500], &log), &first);
    update(&copy, log.verifier_key(), first.to_str().unwrap()).await.unwrap();
    let whole = signed(&leaves, &log);
    let shown = Shown::start(whole.clone()).await;
    let new = [
        "tile/0/255",
        "tile/0/256",
        "tile/0/257",
        "tile/0/258.p/188",
        "tile/1/000",
        "tile/1/001.p/2",
        "tile/2/000.p/1",
    ];
    for tile in new {
        for at in [0, whole[tile].len() - 1] {
            let mut changed = whole[tile].clone();
            changed[at] ^= 0x80;
            let refused = refuse(&copy, log.verifier_key(), (&shown, &whole), tile, &changed).await;
            assert!(matches!(&refused, MirrorError::HashTile(named) if named == tile), "{tile}: {refused}");
        }
    }
    shown.show(whole.clone());
    update(&copy, log.verifier_key(), &shown.url).await.unwrap();
    let copied = files_of(&copy);
    assert!(whole.iter().all(|(path, bytes)| copied.get(path) == Some(bytes)));
}

/// Copies the first `before` leaves, then all of them.
async fn copy_in_two(leaves: &[Leaf], before: usize, log: &Ed25519Signer) -> Result<Update, MirrorError> {
    let root = tempfile::tempdir().unwrap();
    let (first, whole, copy) = (root.path().join("first"), root.path().join("whole"), root.path().join("copy"));
    write_files(&signed(&leaves[..before], log), &first);
    write_files(&signed(leaves, log), &whole);
    if before > 0 {
        update(&copy, log.verifier_key(), first.to_str().unwrap()).await?;
    }
    update(&copy, log.verifier_key(), whole.to_str().unwrap()).await
}

#[tokio::test]
async fn a_log_that_signs_what_no_log_has_is_refused_with_the_entry() {
    let log = signer("log.example/forged");
    let good = leaves(600);
    type Change = fn(&mut Vec<Leaf>);
    let changes: [(u64, &str, Change); 9] = [
        (0, "opens with its first entry", |leaves| leaves[0].kind = Event::REFUSED),
        (7, "opens with its first entry", |leaves| leaves[7].kind = Event::LOG_OPENED),
        (255, "time is before", |leaves| leaves[255].time_ms -= 1_001),
        (256, "time is before", |leaves| leaves[256].time_ms -= 1_001),
        (300, "time is before", |leaves| leaves[300].time_ms = 0),
        (511, "kind 0, which this version does not know", |leaves| leaves[511].kind = 0),
        (512, "kind 255, which this version does not know", |leaves| leaves[512].kind = 255),
        (299, "closes its shard, which goes on", |leaves| leaves[299].kind = Event::SHARD_CLOSED),
        (255, "closes its shard, which goes on", |leaves| leaves[255].kind = Event::SHARD_CLOSED),
    ];
    for (at, why, change) in changes {
        let mut forged = good.clone();
        change(&mut forged);
        for before in [0, 1, 256, 300, 512] {
            let refused = copy_in_two(&forged, before, &log).await.expect_err(why);
            let MirrorError::OutOfOrder { index, what } = &refused else {
                panic!("{at} {why} after {before}: {refused}")
            };
            assert!(*index == at && what.contains(why), "{at} {why} after {before}: {refused}");
        }
    }
    let mut closed = good.clone();
    closed.last_mut().unwrap().kind = Event::SHARD_CLOSED;
    for honest in [good, closed] {
        assert_eq!(copy_in_two(&honest, 256, &log).await.unwrap(), Update { before: 256, after: 600 });
    }
}

#[tokio::test]
async fn what_the_log_did_not_sign_is_no_proof_of_a_wrong_entry() {
    let log = signer("log.example/carried");
    let mut files = signed(&leaves(300), &log);
    let mut bundle = files["tile/entries/001.p/44"].clone();
    // The kind of the first entry in it.
    bundle[3] = 255;
    files.insert("tile/entries/001.p/44".to_owned(), bundle);
    let root = tempfile::tempdir().unwrap();
    let (source, copy) = (root.path().join("source"), root.path().join("copy"));
    write_files(&files, &source);
    let refused = update(&copy, log.verifier_key(), source.to_str().unwrap()).await.unwrap_err();
    assert!(matches!(refused, MirrorError::Contradiction(_)), "{refused}");
}

#[tokio::test]
async fn entries_that_the_copy_has_must_be_shown_as_they_were() {
    let log = signer("log.example/wider");
    let leaves = leaves(600);
    let root = tempfile::tempdir().unwrap();
    let (first, copy) = (root.path().join("first"), root.path().join("copy"));
    write_files(&signed(&leaves[..300], &log), &first);
    update(&copy, log.verifier_key(), first.to_str().unwrap()).await.unwrap();
    let whole = signed(&leaves, &log);
    let shown = Shown::start(whole.clone()).await;
    let bundle = &whole["tile/entries/001"];
    // The commitments of the first entry and of the last one that the copy has, and of the next one.
    for entry in [0, 43, 44] {
        let mut changed = bundle.clone();
        changed[entry * 44 + 20] ^= 1;
        let refused = refuse(&copy, log.verifier_key(), (&shown, &whole), "tile/entries/001", &changed).await;
        assert!(matches!(refused, MirrorError::Contradiction(_)), "{entry}: {refused}");
    }
    shown.show(whole);
    update(&copy, log.verifier_key(), &shown.url).await.unwrap();
}

#[tokio::test]
async fn where_a_partial_tile_is_gone_the_full_one_is_read() {
    let log = signer("log.example/tidy");
    let leaves = leaves(512);
    let (small, large) = (signed(&leaves[..300], &log), signed(&leaves, &log));
    let mut tidy = large.clone();
    tidy.insert("checkpoint".to_owned(), small["checkpoint"].clone());
    // The full tile of this level is not there yet, so the partial one is.
    tidy.insert("tile/1/000.p/1".to_owned(), small["tile/1/000.p/1"].clone());
    let shown = Shown::start(tidy.clone()).await;
    let root = tempfile::tempdir().unwrap();
    let copy = root.path().join("copy");
    update(&copy, log.verifier_key(), &shown.url).await.unwrap();
    assert_eq!(files_of(&copy), small);
    let folder = root.path().join("folder");
    write_files(&tidy, &folder);
    let of_folder = root.path().join("of-folder");
    update(&of_folder, log.verifier_key(), folder.to_str().unwrap()).await.unwrap();
    assert_eq!(files_of(&of_folder), small);

    let fresh = root.path().join("fresh");
    for (full, partial) in [("tile/entries/001", "tile/entries/001.p/44"), ("tile/0/001", "tile/0/001.p/44")] {
        let mut changed = tidy[full].clone();
        changed[40] ^= 1;
        refuse(&fresh, log.verifier_key(), (&shown, &tidy), full, &changed).await;
        refuse(&fresh, log.verifier_key(), (&shown, &tidy), full, &tidy[full][..40]).await;
        let mut gone = tidy.clone();
        gone.remove(full);
        shown.show(gone);
        let refused = update(&fresh, log.verifier_key(), &shown.url).await.unwrap_err().to_string();
        assert!(refused.contains(partial) && refused.contains("does not show it"), "{refused}");
    }
}

#[tokio::test]
async fn a_copy_keeps_the_tiles_of_older_checkpoints_until_the_full_ones_are_there() {
    let log = signer("log.example/copied");
    let leaves = leaves(1_100);
    let root = tempfile::tempdir().unwrap();
    let (source, copy) = (root.path().join("source"), root.path().join("copy"));
    let mut notes = Vec::new();
    for (step, size) in [1, 40, 250, 256, 300, 511, 700, 1_100].into_iter().enumerate() {
        let files = signed(&leaves[..size], &log);
        write_files(&files, &source);
        update(&copy, log.verifier_key(), source.to_str().unwrap()).await.unwrap();
        notes.push((size, files["checkpoint"].clone()));
        // Whoever still has an older checkpoint is served by the copy.
        for (size, note) in &notes {
            let mut older = files_of(&copy);
            older.insert("checkpoint".to_owned(), note.clone());
            let (folder, of_copy) =
                (root.path().join(format!("{step}-{size}")), root.path().join(format!("{step}-{size}-copy")));
            write_files(&older, &folder);
            update(&of_copy, log.verifier_key(), folder.to_str().unwrap()).await.unwrap();
        }
    }
    let copied = files_of(&copy);
    for path in copied.keys().filter(|path| path.contains(".p/")) {
        let tile: TilePath = path.parse().unwrap();
        let full = TilePath::new(tile.kind(), tile.index(), 256).unwrap().to_string();
        assert!(!copied.contains_key(&full), "{path} was left over");
    }
}

#[tokio::test]
async fn an_answer_may_be_compressed_and_a_bomb_is_refused() {
    let log = signer("log.example/compressed");
    let files = signed(&leaves(600), &log);
    let compressed: Files = files.iter().map(|(path, bytes)| (path.clone(), gzip(bytes))).collect();
    let shown = Shown::start(Files::new()).await;
    let root = tempfile::tempdir().unwrap();
    let copy = root.path().join("copy");
    shown.show_encoded(compressed.clone(), "gzip");
    update(&copy, log.verifier_key(), &shown.url).await.unwrap();
    assert_eq!(files_of(&copy), files);

    let fresh = root.path().join("fresh");
    let bomb = gzip(&vec![0; 8 << 20]);
    assert!(bomb.len() < 10 << 10, "the compressed bytes alone would be refused");
    let cut = |path: &str| compressed[path][..compressed[path].len() - 9].to_vec();
    for path in ["tile/entries/001", "tile/0/001", "tile/1/000.p/2"] {
        for (bytes, why) in [
            (bomb.clone(), "longer than 16384 bytes"),
            (cut(path), "no whole gzip"),
            (files[path].clone(), "no whole gzip"),
        ] {
            let mut changed = compressed.clone();
            changed.insert(path.to_owned(), bytes);
            shown.show_encoded(changed, "gzip");
            let refused = update(&fresh, log.verifier_key(), &shown.url).await.unwrap_err().to_string();
            assert!(refused.contains(path) && refused.contains(why), "{refused}");
        }
    }
    shown.show_encoded(files, "br");
    let refused = update(&fresh, log.verifier_key(), &shown.url).await.unwrap_err().to_string();
    assert!(refused.contains("encoded as br"), "{refused}");
}

#[tokio::test]
async fn a_mirror_follows_a_log_step_by_step_and_is_a_log_itself() {
    let sandbox = Sandbox::start().await;
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    let url = format!("http://{}", address(&sandbox));
    let mut before = 0;
    for size in [1, 250, 300, 300, 520, 1_100] {
        sandbox.grow(size).await;
        let after = sandbox.broker().engine().head().size;
        assert_eq!(mirror(&one, &sandbox, &url).await.unwrap(), Update { before, after });
        before = after;
    }
    assert_eq!(mirror(&two, &sandbox, one.to_str().unwrap()).await.unwrap(), Update { before: 0, after: before });
    // The same files, whether copied in six steps or in one, but for tiles that were narrower and are not full yet.
    let (one, two) = (files_of(&one), files_of(&two));
    assert!(two.iter().all(|(path, bytes)| one.get(path) == Some(bytes)));
    let more: Vec<_> = one.keys().filter(|path| !two.contains_key(*path)).collect();
    assert_eq!(more, ["tile/1/000.p/1", "tile/1/000.p/2"]);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_mirror_refuses_every_flipped_byte_a_rollback_and_a_fork() {
    let sandbox = Sandbox::start().await;
    let root = tempfile::tempdir().unwrap();
    let url = format!("http://{}", address(&sandbox));
    let old = root.path().join("old");
    mirror(&old, &sandbox, &url).await.unwrap();
    sandbox.grow(300).await;
    let whole = root.path().join("whole");
    mirror(&whole, &sandbox, &url).await.unwrap();
    let bundles: Vec<_> = files(&whole)
        .into_iter()
        .filter(|f| f.to_str().unwrap().contains("entries") || f.ends_with("checkpoint"))
        .collect();
    assert_eq!(bundles.len(), 3);
    let kept = std::fs::read(old.join("checkpoint")).unwrap();
    for (n, file) in bundles.iter().enumerate() {
        let length = std::fs::metadata(file).unwrap().len() as usize;
        for at in [0, length / 2, length - 2] {
            let forged = root.path().join(format!("forged-{n}-{at}"));
            copy_folder(&whole, &forged);
            let target = forged.join(file.strip_prefix(&whole).unwrap());
            let mut bytes = std::fs::read(&target).unwrap();
            bytes[at] ^= 1;
            std::fs::write(&target, bytes).unwrap();
            for copy_of in [&old, &root.path().join(format!("fresh-{n}-{at}"))] {
                let refused = mirror(copy_of, &sandbox, forged.to_str().unwrap()).await;
                assert!(refused.is_err(), "{} at {at} was taken", file.display());
            }
            assert!(std::fs::read(old.join("checkpoint")).unwrap() == kept);
        }
    }
    let rolled_back = mirror(&whole, &sandbox, old.to_str().unwrap()).await.unwrap_err();
    assert!(matches!(rolled_back, MirrorError::Contradiction(_)), "{rolled_back}");
    let other = Sandbox::start().await;
    let foreign = mirror(&whole, &sandbox, &format!("http://{}", address(&other))).await.unwrap_err();
    assert!(matches!(foreign, MirrorError::Unsound(..)), "{foreign}");
    // A copy whose right edge somebody changed cannot be gone on from.
    let edge = |file: &PathBuf| file.to_str().unwrap().contains("tile/0/001.p");
    let tile = files(&whole).into_iter().find(edge).unwrap();
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&tile, bytes).unwrap();
    let changed = mirror(&whole, &sandbox, &url).await.unwrap_err();
    assert!(matches!(changed, MirrorError::Changed(_)), "{changed}");
    sandbox.finish().await;
    other.finish().await;
}
