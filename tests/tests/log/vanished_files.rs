//! A file that is removed under a running broker: what is written to it is lost, so the broker stops within about a second.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use unefois_tests::ask::*;
use unefois_tests::files;
use unefois_tests::sandbox::Sandbox;

/// The files that a broker writes or rests on, with what an operator is told to do.
fn watched(sandbox: &Sandbox) -> Vec<(PathBuf, &'static str)> {
    let data = sandbox.data();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "seg");
    let segments = files(&data.join("journal")).into_iter().filter(is_segment);
    let last = segments.filter(|path| !path.ends_with("spare.seg")).max().unwrap();
    let record_key = files(&data.join("keys/records")).pop().unwrap();
    vec![
        (last, "tell those who hold receipts"),
        (data.join("keys/subject.key"), "put that very file back"),
        (record_key, "put that very file back"),
        (sandbox.folder.path.join("data.head"), "accept-head"),
    ]
}

/// The broker stops within two seconds of what `harm` does to file `number`, says what to do, and asks nobody any more.
async fn assert_stops(sandbox: &Sandbox, number: usize, harm: impl FnOnce(&Path)) {
    let client = sandbox.client("ville").await;
    exchange(&client, canteen("MARCHAND")).await.unwrap();
    let (path, to_do) = watched(sandbox).swap_remove(number);
    sandbox.broker().engine().check().unwrap();
    harm(&path);
    let begun = Instant::now();
    let halted = tokio::time::timeout(Duration::from_secs(10), sandbox.broker().engine().halted()).await;
    let why = halted.unwrap_or_else(|_| panic!("{} is not missed", path.display())).to_string();
    assert!(begun.elapsed() < Duration::from_secs(2), "{}: only after {:?}", path.display(), begun.elapsed());
    assert!(why.contains(&*path.to_string_lossy()), "{why}");
    assert!(why.to_lowercase().contains(to_do), "{why}");
    let asked = sandbox.source.asked();
    assert!(exchange(&client, canteen("MARCHAND")).await.is_err());
    assert_eq!(sandbox.source.asked(), asked, "a source was asked");
}

#[tokio::test]
async fn a_broker_whose_files_are_taken_away_stops_within_a_second() {
    let mut sandbox = Sandbox::start().await;
    sandbox.grow(30).await;
    let aside = sandbox.folder.path.join("aside");
    for number in 0..watched(&sandbox).len() {
        let path = watched(&sandbox).swap_remove(number).0;
        assert_stops(&sandbox, number, |path| std::fs::rename(path, &aside).unwrap()).await;
        sandbox.stop().await;
        std::fs::rename(&aside, &path).unwrap();
        sandbox.restart().await.unwrap();
    }
    sandbox.finish().await;
}

#[tokio::test]
async fn a_broker_whose_files_are_overwritten_stops_within_a_second() {
    let mut sandbox = Sandbox::start().await;
    sandbox.grow(30).await;
    // The segment and the keys. The head file is written anew all the time.
    for number in 0..3 {
        let path = watched(&sandbox).swap_remove(number).0;
        let mut was = Vec::new();
        assert_stops(&sandbox, number, |path| {
            was = std::fs::read(path).unwrap();
            let last = was.iter().rposition(|byte| *byte != 0).unwrap();
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.write_all_at(&[was[last] ^ 1], last as u64).unwrap();
        })
        .await;
        sandbox.stop().await;
        // In place: the file keeps its mode.
        std::fs::write(&path, was).unwrap();
        sandbox.restart().await.unwrap();
    }
    sandbox.finish().await;
}
