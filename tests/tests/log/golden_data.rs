//! A data folder of the first version, with two shards: what is on disks today is opened, verified and replayed for ever.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use unefois_audit::VerifierKey;
use unefois_consent::Event;
use unefois_engine::ManualClock;
use unefois_proto::v1;
use unefois_store::Options;
use unefois_store::embedded::open_fold;
use unefois_tests::ask::{allowance, canteen, exchange, grant, granted, object, withdraw};
use unefois_tests::sandbox::Sandbox;
use unefois_tests::{process, world, writers};

use super::shards::{close_shard, configure_shard, signer};

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/data-folder-v1.txt")
}

/// Files as text: path, length, and the bytes in front of the zeros at the end, in hexadecimal.
fn dump(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut text = String::new();
    for (path, bytes) in files {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        writeln!(text, "{path} {}", bytes.len()).unwrap();
        for line in bytes[..end].chunks(64) {
            writeln!(text, "  {}", hex::encode(line)).unwrap();
        }
    }
    text
}

fn restore(text: &str, folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mut files: Vec<(PathBuf, usize, Vec<u8>)> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("  ") {
            Some(more) => files.last_mut().unwrap().2.extend(hex::decode(more).unwrap()),
            None => {
                let (path, length) = line.split_once(' ').unwrap();
                files.push((folder.join(path), length.parse().unwrap(), Vec::new()));
            }
        }
    }
    for (path, length, mut bytes) in files {
        bytes.resize(length, 0);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Writes the file. Only for a new version of the format; the file of a released one stays.
#[tokio::test]
#[ignore = "writes the golden data folder of a version"]
async fn write_the_golden_data_folder() {
    let clock = Arc::new(ManualClock::new("2026-09-01T08:30:00Z".parse().unwrap()));
    let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    let department = sandbox.client("departement").await;
    let at = |mut question: v1::ExchangeRequest| {
        let shown = unefois_proto::fields::wire_instant("2026-09-01T08:20:00Z".parse().unwrap());
        if let Some(v1::exchange_request::Ground::LawRequest(law)) = &mut question.ground {
            law.notice.as_mut().unwrap().shown_at = Some(shown);
        }
        question
    };
    exchange(&sandbox.client("ville").await, at(canteen("MARCHAND"))).await.unwrap();
    let expires = unefois_proto::fields::wire_instant("2026-12-01T08:30:00Z".parse().unwrap());
    let wanted = |name: &str| {
        let mut wanted = grant(name);
        wanted.terms.as_mut().unwrap().expires_at = Some(expires);
        wanted
    };
    let kept = granted(&department, wanted("MARCHAND")).await;
    let ended = granted(&department, wanted("DURAND")).await;
    exchange(&department, allowance("MARCHAND", Some(&kept))).await.unwrap();
    withdraw(&department, &ended).await;
    object(&sandbox.client("ville").await, "DURAND").await;
    close_shard(&mut sandbox, "2027").await;
    clock.advance(Duration::from_secs(3_600));
    let department = sandbox.client("departement").await;
    exchange(&department, allowance("MARCHAND", Some(&kept))).await.unwrap();
    sandbox.stop().await;

    let mut files = BTreeMap::new();
    for path in unefois_tests::files(&sandbox.folder.path) {
        let name = path.strip_prefix(&sandbox.folder.path).unwrap().to_str().unwrap().to_owned();
        let is_kept = ["data/journal/", "data/keys/", "data.head", "keys/"].iter().any(|kept| name.starts_with(kept));
        if is_kept && !name.contains("spare") {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    std::fs::create_dir_all(file().parent().unwrap()).unwrap();
    std::fs::write(file(), dump(&files)).unwrap();
}

#[tokio::test]
async fn a_data_folder_of_the_first_version_opens_replays_and_goes_on() {
    let text = std::fs::read_to_string(file()).unwrap();
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("broker");
    process::folder(&folder, process::free_address());
    restore(&text, &folder);
    configure_shard(&folder, "2027");
    let data = folder.join("data");
    let key: VerifierKey = signer(&folder).verifier_key().clone();

    let report = world::check_log(&data, &key);
    assert_eq!((report.entries, report.records, report.purged, report.open), (27, 27, 0, 0));
    assert_eq!(report.decisions, 10);
    let events: Vec<_> = world::events(&data).into_iter().map(|(_, event)| Event::kind_name(event.kind())).collect();
    assert_eq!(events.iter().filter(|kind| **kind == "log opened").count(), 2);
    for kind in ["answered", "consent granted", "consent withdrawn", "objection recorded", "shard closed"] {
        assert!(events.contains(&kind), "{kind}: {events:?}");
    }

    let options = Options { segment_bytes: 1 << 20, min_free_bytes: 0, ..Options::default() };
    // Whenever the test runs, the log did not stand still for too long.
    let clock = Arc::new(ManualClock::new("2026-10-01T08:30:00Z".parse().unwrap()));
    let (store, engine) = writers::open_by(clock, &folder, &data, &options, |fold| fold).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    engine.append(writers::entry(&engine), deadline).await.unwrap().verify(&key).unwrap();
    writers::close(store, engine).await;
    // One more entry, after those that say that the two keys of its month were made.
    assert_eq!(world::check(&data, &key).entries, 30);
}

#[tokio::test]
async fn a_fold_of_another_layout_is_rebuilt_whatever_its_rows_are() {
    let mut sandbox = Sandbox::start().await;
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    sandbox.stop().await;
    let fold = open_fold(&sandbox.data().join("fold"), &Options::default()).unwrap();
    let position = fold.folded().unwrap();
    let rows: [(&[u8], &[u8]); 3] = [(b"r", b"[]"), (b"v", b"1"), (b"y", b"{}")];
    fold.apply(&rows.map(|(key, row)| (key, Some(row))), position).unwrap();
    drop(fold);
    sandbox.restart().await.unwrap();
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    sandbox.finish().await;
}
