//! The public log over HTTP (C2SP tlog-tiles).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use unefois::mirror::{Mirror, MirrorError, Source, Update};
use unefois_audit::{Checkpoint, Frontier, Receipt, decode_bundle};
use unefois_engine::{Clock, ManualClock, SystemClock};
use unefois_proto::v1;
use unefois_tests::ask::{until, within};
use unefois_tests::sandbox::Sandbox;

/// Status, headers in lower case, body.
fn get(address: SocketAddr, path: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: log\r\nconnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, bytes[end + 4..].to_vec())
}

pub(crate) async fn fetch(address: SocketAddr, path: &str) -> (u16, String, Vec<u8>) {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || get(address, &path)).await.unwrap()
}

pub(crate) fn address(sandbox: &Sandbox) -> SocketAddr {
    sandbox.broker().log_address.unwrap()
}

#[tokio::test]
async fn checkpoint_tiles_and_bundles_are_those_of_one_tree() {
    let sandbox = Sandbox::start().await;
    sandbox.grow(520).await;
    let address = address(&sandbox);
    let (status, head, note) = fetch(address, "/checkpoint").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
    let checkpoint = Checkpoint::open(std::str::from_utf8(&note).unwrap(), &sandbox.key, sandbox.key.name()).unwrap();
    let mut frontier = Frontier::new();
    let mut level_1 = Vec::new();
    for bundle in 0..=checkpoint.size / 256 {
        let width = (checkpoint.size - bundle * 256).min(256);
        let suffix = if width < 256 { format!(".p/{width}") } else { String::new() };
        if width == 0 {
            break;
        }
        let (status, head, bytes) = fetch(address, &format!("/tile/entries/{bundle:03}{suffix}")).await;
        assert_eq!(status, 200, "{head}");
        assert!(head.contains("content-type: application/octet-stream") && head.contains("immutable"), "{head}");
        let leaves = decode_bundle(&bytes).unwrap();
        assert_eq!(leaves.len() as u64, width);
        let (status, _, hashes) = fetch(address, &format!("/tile/0/{bundle:03}{suffix}")).await;
        assert_eq!((status, hashes.len() as u64), (200, width * 32));
        for (leaf, hash) in leaves.iter().zip(hashes.chunks(32)) {
            assert_eq!(leaf.hash().0, hash);
            frontier.append_with(leaf.hash(), |level, _, hash| {
                if level == 8 {
                    level_1.extend(hash.0);
                }
            });
        }
    }
    assert_eq!(frontier.root(), checkpoint.root);
    let (status, _, upper) = fetch(address, &format!("/tile/1/000.p/{}", checkpoint.size / 256)).await;
    assert_eq!((status, upper), (200, level_1));
    sandbox.finish().await;
}

#[tokio::test]
async fn what_is_not_in_the_signed_tree_is_not_served() {
    let sandbox = Sandbox::start().await;
    let address = address(&sandbox);
    let size = sandbox.broker().engine().head().size;
    assert_eq!(fetch(address, &format!("/tile/entries/000.p/{size}")).await.0, 200);
    assert_eq!(fetch(address, "/tile/entries/000.p/1").await.0, 200);
    let beyond = format!("/tile/entries/000.p/{}", size + 1);
    for path in [
        &*beyond,
        "/tile/entries/000",
        "/tile/0/000",
        "/tile/1/000.p/1",
        "/tile/entries/000.p/0",
        "/tile/entries/0",
        "/tile/entries/x000/000.p/1",
        "/tile/64/000.p/1",
        "/tile/entries/../../checkpoint",
        "/tile/entries/%2e%2e%2f000.p%2f1",
        "/tile/entries/999999999999999999999999",
        "/",
        "/keys",
    ] {
        let (status, head, body) = fetch(address, path).await;
        assert_eq!(status, 404, "{path}");
        assert!(head.contains("no-store"), "{head}");
        assert!(String::from_utf8(body).unwrap().contains("/checkpoint"), "{path}");
    }
    sandbox.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_tiles_are_not_shown_where_the_operator_wants_that_and_nothing_else_changes() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let mut sandbox =
        Sandbox::start_with(clock.clone(), |loaded| loaded.config.log.prune_after_months = Some(72)).await;
    sandbox.grow(600).await;
    let copy = tempfile::tempdir().unwrap();
    let url = format!("http://{}", address(&sandbox));
    mirror(copy.path(), &sandbox, &url).await.unwrap();
    let early = receipt_of(&sandbox, 20).await;

    // 72 months are kept whole; then the full tiles of what is older go, and no partial one.
    clock.advance(Duration::from_secs(72 * 31 * 24 * 60 * 60 + 2 * 24 * 60 * 60));
    sandbox.restart().await.unwrap();
    let head = sandbox.broker().engine().head();
    let shown = |path: &str| get(address(&sandbox), path).0;
    until(|| shown("/tile/entries/000") == 410).await;
    assert!(head.size > 600, "the log went on");
    let paths = ["/tile/0/000", "/tile/entries/001", "/tile/0/001", "/shard/0/tile/entries/001"];
    assert_eq!(paths.map(shown), [410; 4]);
    let partial = head.size % 256;
    assert_eq!(shown("/tile/entries/001.p/7"), 410, "a part of what is pruned");
    for path in [format!("/tile/0/002.p/{partial}"), "/tile/1/000.p/2".to_owned()] {
        assert_eq!(shown(&path), 200, "{path}");
    }
    assert_eq!(shown("/checkpoint"), 200);
    // A mirror goes on, a receipt still verifies, and a mirror that begins says why it cannot.
    let url = format!("http://{}", address(&sandbox));
    mirror(copy.path(), &sandbox, &url).await.unwrap();
    early.verify(&sandbox.key).unwrap();
    let fresh = tempfile::tempdir().unwrap();
    let refused = mirror(fresh.path(), &sandbox, &url).await.unwrap_err().to_string();
    assert!(refused.contains("does not show entries of so long ago"), "{refused}");
    sandbox.finish().await;
}

async fn receipt_of(sandbox: &Sandbox, index: u64) -> Receipt {
    let request = within(v1::GetReceiptRequest { index, origin: String::new() });
    let answer = sandbox.client("dpo").await.audit().get_receipt(request).await.unwrap().into_inner();
    Receipt::from_json(&answer.receipt).unwrap()
}

/// Brings a copy up to date.
pub(crate) async fn mirror(folder: &Path, sandbox: &Sandbox, source: &str) -> Result<Update, MirrorError> {
    Mirror::open(folder, &sandbox.key)?.update(&Source::new(source)?, &mut |_, _| {}).await
}

#[tokio::test]
async fn clients_that_never_end_their_request_hold_the_public_log_up_for_seconds_only() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut sandbox = Sandbox::start().await;
    let mut slow = Vec::new();
    for _ in 0..600 {
        let mut client = tokio::net::TcpStream::connect(address(&sandbox)).await.unwrap();
        client.write_all(b"GET /checkpoint HTTP/1.1\r\nHost: l").await.unwrap();
        slow.push(client);
    }
    let url = format!("http://{}/checkpoint", address(&sandbox));
    let answer = tokio::time::timeout(std::time::Duration::from_secs(20), reqwest::get(url)).await.unwrap().unwrap();
    assert!(answer.status().is_success());
    let mut first = slow.swap_remove(0);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), first.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "a request that does not end keeps its connection");
    drop(slow);
    sandbox.stop().await;
    // Connections that are aborted let go of the engine a moment later.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    sandbox.finish().await;
}
