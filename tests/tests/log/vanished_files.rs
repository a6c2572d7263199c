//! A file that is removed under a running broker: what is written to it is lost, so the broker stops within about a second.

use std::path::PathBuf;
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

#[tokio::test]
async fn a_broker_whose_files_are_taken_away_stops_within_a_second() {
    let mut sandbox = Sandbox::start().await;
    sandbox.grow(30).await;
    let aside = sandbox.folder.path.join("aside");
    for number in 0..watched(&sandbox).len() {
        let client = sandbox.client("ville").await;
        exchange(&client, canteen("MARCHAND")).await.unwrap();
        let (path, to_do) = watched(&sandbox).swap_remove(number);
        sandbox.broker().engine().check().unwrap();
        std::fs::rename(&path, &aside).unwrap();
        let begun = Instant::now();
        let halted = tokio::time::timeout(Duration::from_secs(10), sandbox.broker().engine().halted()).await;
        let why = halted.unwrap_or_else(|_| panic!("{} is not missed", path.display())).to_string();
        assert!(begun.elapsed() < Duration::from_secs(2), "{}: only after {:?}", path.display(), begun.elapsed());
        assert!(why.contains(&*path.to_string_lossy()), "{why}");
        assert!(why.to_lowercase().contains(to_do), "{why}");
        let asked = sandbox.source.asked();
        assert!(exchange(&client, canteen("MARCHAND")).await.is_err());
        assert_eq!(sandbox.source.asked(), asked, "a source was asked");
        sandbox.stop().await;
        std::fs::rename(&aside, &path).unwrap();
        sandbox.restart().await.unwrap();
    }
    sandbox.finish().await;
}
