//! A start that is refused changes no byte: what an operator does next may depend on what was there.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use unefois_tests::sandbox::Sandbox;
use unefois_tests::{copy_folder, files};

/// Names and bytes of all that lies in the data folder, and the head file.
fn bytes_of(sandbox: &Sandbox) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![sandbox.data()]);
    while let Some(folder) = folders.pop() {
        // A folder counts too, by its name.
        found.insert(folder.clone(), Vec::new());
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path)
            } else {
                drop(found.insert(path.clone(), std::fs::read(path).unwrap()))
            }
        }
    }
    let head = head_file(sandbox);
    found.extend(std::fs::read(&head).ok().map(|bytes| (head, bytes)));
    found
}

fn head_file(sandbox: &Sandbox) -> PathBuf {
    sandbox.folder.path.join("data.head")
}

/// The start is refused with a text that has `why` in it, and all is as it was.
async fn assert_refused(sandbox: &mut Sandbox, why: &str) {
    let before = bytes_of(sandbox);
    let refused = sandbox.restart().await.unwrap_err().to_string();
    assert!(refused.contains(why), "{refused}");
    let after = bytes_of(sandbox);
    let changed: Vec<_> = before.iter().filter(|(path, bytes)| after.get(*path) != Some(*bytes)).collect();
    // Where the fold is asked, its tree removes an older list of its tables: that is no row, and derived.
    let older_list = sandbox.data().join("fold/tree/v");
    let is_older_list = |path: &&PathBuf| {
        !after.contains_key(*path) && path.to_str().unwrap().starts_with(older_list.to_str().unwrap())
    };
    let changed: Vec<_> = changed.into_iter().map(|(path, _)| path).filter(|path| !is_older_list(path)).collect();
    let made: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    assert!(changed.is_empty() && made.is_empty(), "{why}: changed {changed:?}, made {made:?}");
}

fn last_segment(data: &Path) -> PathBuf {
    let segments = files(&data.join("journal")).into_iter().filter(|path| !path.ends_with("spare.seg"));
    segments.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).max().unwrap()
}

/// Flips a bit in the last frame.
fn flip_in_last_frame(data: &Path) {
    let path = last_segment(data);
    let last = std::fs::read(&path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
    flip(&path, last - 60);
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn replace(with: &Path, folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
    copy_folder(with, folder);
}

#[tokio::test]
async fn a_start_that_is_refused_changes_no_byte() {
    let mut sandbox = Sandbox::start().await;
    sandbox.grow(40).await;
    sandbox.stop().await;
    let root = tempfile::tempdir().unwrap();
    let (older, older_head) = (root.path().join("older"), root.path().join("older.head"));
    copy_folder(&sandbox.data(), &older);
    std::fs::copy(head_file(&sandbox), &older_head).unwrap();
    sandbox.restart().await.unwrap();
    sandbox.grow(300).await;
    sandbox.stop().await;
    let (whole, whole_head) = (root.path().join("whole"), root.path().join("whole.head"));
    copy_folder(&sandbox.data(), &whole);
    std::fs::copy(head_file(&sandbox), &whole_head).unwrap();
    let data = sandbox.data();

    // The last acknowledged batch is damaged: the head file knows of it.
    flip_in_last_frame(&data);
    assert_refused(&mut sandbox, "entries and the data folder holds").await;
    // The bit is put back, and nothing is lost.
    flip_in_last_frame(&data);
    sandbox.restart().await.unwrap();
    sandbox.stop().await;

    replace(&older.join("journal"), &data.join("journal"));
    assert_refused(&mut sandbox, "entries and the data folder holds").await;
    // With a head file as old, only the fold knows more.
    std::fs::copy(&older_head, head_file(&sandbox)).unwrap();
    assert_refused(&mut sandbox, "acknowledged ones are missing from the journal").await;
    flip_in_last_frame(&data);
    assert_refused(&mut sandbox, "entries and the data folder holds").await;

    for (key, why) in [("subject.key", "put keys/subject.key back"), ("records", "put keys/records/ back")] {
        replace(&whole, &data);
        std::fs::copy(&whole_head, head_file(&sandbox)).unwrap();
        let path = data.join("keys").join(key);
        let keys = if path.is_dir() { files(&path) } else { vec![path] };
        keys.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        // Not even where a crash left half a frame, and the fold would have to be set aside.
        std::fs::write(data.join("fold/unknown"), b"").unwrap();
        let (last, torn) = (last_segment(&data), 900_000);
        std::fs::File::options().write(true).open(last).unwrap().write_all_at(b"UFR2", torn).unwrap();
        assert_refused(&mut sandbox, why).await;
    }

    replace(&whole, &data);
    // As in a folder that was put back without what may be left out.
    std::fs::remove_file(data.join("LOCK")).unwrap();
    let key = sandbox.folder.path.join("keys/log.key");
    let own = std::fs::read(&key).unwrap();
    std::fs::write(&key, unefois::pki::new_log_key().unwrap()).unwrap();
    assert_refused(&mut sandbox, "is not signed by").await;
    std::fs::write(&key, own).unwrap();
    std::fs::remove_file(head_file(&sandbox)).unwrap();
    assert_refused(&mut sandbox, "there is no head in").await;
    std::fs::copy(&whole_head, head_file(&sandbox)).unwrap();
    sandbox.restart().await.unwrap();
    sandbox.finish().await;
}
