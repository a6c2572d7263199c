//! The rollback guard: a head file apart from the data. Data that is older than it, or of another history, does not open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::Code;
use unefois_engine::store::HeadFile;
use unefois_store::MemoryStore;
use unefois_store::embedded::FileHead;
use unefois_store::memory::{Fault, Operation};
use unefois_tests::ask::*;
use unefois_tests::sandbox::Sandbox;
use unefois_tests::{copy_folder, process};

fn head_path(sandbox: &Sandbox) -> PathBuf {
    sandbox.folder.path.join("data.head")
}

/// The size that the head file says.
fn kept(path: &Path) -> u64 {
    FileHead::new(path).read().unwrap().unwrap().lines().nth(1).unwrap().parse().unwrap()
}

fn replace_folder(with: &Path, folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
    copy_folder(with, folder);
}

/// Stops the broker and keeps a copy of its data.
async fn back_up(sandbox: &mut Sandbox, into: &Path) -> u64 {
    let size = sandbox.broker().engine().head().size;
    sandbox.stop().await;
    copy_folder(&sandbox.data(), into);
    size
}

fn accept(sandbox: &Sandbox, entries: u64) -> (Option<i32>, String) {
    let config = sandbox.folder.config();
    let output = process::run(&[
        "audit",
        "accept-head",
        "--config",
        config.to_str().unwrap(),
        "--entries",
        &entries.to_string(),
    ]);
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test]
async fn data_put_back_from_an_older_copy_does_not_open_until_the_operator_says_so() {
    let mut sandbox = Sandbox::start().await;
    let backups = tempfile::tempdir().unwrap();
    let (older, newer) = (backups.path().join("older"), backups.path().join("newer"));
    sandbox.grow(70).await;
    let before = back_up(&mut sandbox, &older).await;
    sandbox.restart().await.unwrap();
    sandbox.grow(before + 70).await;
    let after = back_up(&mut sandbox, &newer).await;
    assert_eq!(kept(&head_path(&sandbox)), after, "closing writes the last head");
    let newest_head = std::fs::read(head_path(&sandbox)).unwrap();

    replace_folder(&older, &sandbox.data());
    let refused = sandbox.restart().await.unwrap_err().to_string();
    for part in [&format!("says {after} entries"), &format!("holds {before}"), "accept-head"] {
        assert!(refused.contains(part), "{refused}");
    }
    // The way out asks for the number, keeps the old head, and the broker goes on.
    let (code, said) = accept(&sandbox, after);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("holds {before} entries")), "{said}");
    let (code, said) = accept(&sandbox, before);
    assert_eq!(code, Some(0), "{said}");
    let proof = sandbox.folder.path.join(format!("data.head.before-{before}"));
    assert_eq!(std::fs::read(proof).unwrap(), newest_head);
    sandbox.restart().await.unwrap();
    // On another path to more entries than before: the head that was kept shows it.
    sandbox.grow(after + 70).await;
    sandbox.stop().await;
    std::fs::write(head_path(&sandbox), &newest_head).unwrap();
    let refused = sandbox.restart().await.unwrap_err().to_string();
    assert!(refused.contains("another history"), "{refused}");
    // The newest data opens with it.
    replace_folder(&newer, &sandbox.data());
    sandbox.restart().await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn data_without_its_head_file_or_with_one_of_another_log_does_not_open() {
    let mut sandbox = Sandbox::start().await;
    sandbox.grow(10).await;
    sandbox.stop().await;
    let head = std::fs::read(head_path(&sandbox)).unwrap();
    std::fs::remove_file(head_path(&sandbox)).unwrap();
    // Nor does one that was emptied.
    for emptied in [None, Some(Vec::new()), Some(vec![0; 8192])] {
        if let Some(bytes) = emptied {
            std::fs::write(head_path(&sandbox), bytes).unwrap();
        }
        let refused = sandbox.restart().await.unwrap_err().to_string();
        assert!(refused.contains("there is no head in") && refused.contains("accept-head"), "{refused}");
    }

    let mut other = Sandbox::start().await;
    other.stop().await;
    std::fs::copy(head_path(&other), head_path(&sandbox)).unwrap();
    let refused = sandbox.restart().await.unwrap_err().to_string();
    assert!(refused.contains("Is it of another log?"), "{refused}");

    std::fs::write(head_path(&sandbox), &head).unwrap();
    let newest = FileHead::new(&head_path(&sandbox)).read().unwrap().unwrap();
    let start = head.windows(newest.len()).position(|window| window == newest.as_bytes()).unwrap();
    // Origin, root and signature. (A head that is torn is none, and the one before it counts.)
    let root = newest.match_indices('\n').nth(1).unwrap().0 + 1;
    for place in [0, root, newest.len() - 20] {
        let mut damaged = head.clone();
        damaged[start + place] ^= 1;
        std::fs::write(head_path(&sandbox), &damaged).unwrap();
        let refused = sandbox.restart().await.unwrap_err().to_string();
        assert!(refused.contains("head file"), "{refused}");
    }
    std::fs::write(head_path(&sandbox), head).unwrap();
    sandbox.restart().await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn the_head_file_is_never_older_than_a_second() {
    let sandbox = Sandbox::start().await;
    let client = sandbox.client("ville").await;
    let head_path = head_path(&sandbox);
    let engine = Arc::clone(sandbox.broker().engine());
    let mut shown: Vec<(Instant, u64)> = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        exchange(&client, canteen("MARCHAND")).await.unwrap();
        shown.push((Instant::now(), engine.head().size));
        let older: Vec<u64> =
            shown.iter().filter(|(at, _)| at.elapsed() > Duration::from_secs(1)).map(|(_, size)| *size).collect();
        if let Some(size) = older.last() {
            assert!(kept(&head_path) >= *size, "a head of a second ago is not kept");
        }
    }
    assert!(shown.len() > 10);
    drop(engine);
    sandbox.finish().await;
}

#[tokio::test]
async fn while_the_head_file_cannot_be_written_nothing_is_decided() {
    for fault in [Fault::Full, Fault::Hangs] {
        let store = MemoryStore::new();
        let mut sandbox = Sandbox::start_in_memory(store.clone()).await;
        let client = sandbox.client("ville").await;
        store.disturb(move |operation| if operation == Operation::HeadWrite { fault } else { Fault::None });
        let asked = sandbox.source.asked();
        let mut refused = None;
        let begun = Instant::now();
        while refused.is_none() && begun.elapsed() < Duration::from_secs(10) {
            let question = within_time(canteen("MARCHAND"), Duration::from_secs(2));
            refused = client.exchange().exchange(question).await.err();
        }
        let status = refused.expect("the broker goes on without its guard");
        if fault == Fault::Hangs {
            assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
        } else {
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "STORE_FULL"), "{status}");
        }
        let seen = sandbox.source.asked();
        assert!(seen > asked, "{fault:?}: it should go on for the first moments");
        if fault == Fault::Full {
            assert!(exchange(&client, canteen("MARCHAND")).await.is_err());
            assert_eq!(sandbox.source.asked(), seen, "a source was asked");
        }
        store.release();
        let again = async {
            while exchange(&client, canteen("MARCHAND")).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), again)
            .await
            .expect("it does not go on when the file can be written");
        // An exchange whose end found no room gets it at the latest when the broker opens again.
        sandbox.restart().await.unwrap();
        sandbox.finish().await;
    }
}
