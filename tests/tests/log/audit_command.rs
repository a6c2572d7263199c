//! What `audit verify` and `audit replay` tell, with the real binary.

use std::os::unix::fs::FileExt;

use unefois_audit::VerifierKey;
use unefois_tests::ask::{canteen, exchange};
use unefois_tests::process;
use unefois_tests::sandbox::Sandbox;

use crate::shards::{close_shard, next_key};

const COMMANDS: [&str; 2] = ["verify", "replay"];

/// A log of two shards whose broker has stopped, and the keys of both.
async fn two_shards() -> (Sandbox, [VerifierKey; 2]) {
    let mut sandbox = Sandbox::start().await;
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    let first = sandbox.key.clone();
    close_shard(&mut sandbox, "2027").await;
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    sandbox.stop().await;
    let last = sandbox.key.clone();
    (sandbox, [first, last])
}

/// Exit code and output of `audit COMMAND` on the data folder, with `keys`.
fn audit(sandbox: &Sandbox, command: &str, keys: &[&VerifierKey]) -> (Option<i32>, String) {
    let data = sandbox.data().to_str().unwrap().to_owned();
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let keys = keys.iter().flat_map(|key| ["--key", key]);
    let output = process::run(&["audit", command, "--data", &data].into_iter().chain(keys).collect::<Vec<_>>());
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    (output.status.code(), said)
}

#[tokio::test]
async fn keys_of_all_shards_can_be_demanded_of_a_data_folder() {
    let (sandbox, [first, last]) = two_shards().await;
    let other = next_key(&sandbox.folder.path, "other");
    for command in COMMANDS {
        for keys in [&[&last][..], &[&first, &last], &[&last, &first]] {
            let (code, said) = audit(&sandbox, command, keys);
            assert_eq!(code, Some(0), "{said}");
        }
        let (code, said) = audit(&sandbox, command, &[&first]);
        assert!(code == Some(1) && said.contains("and the key given is"), "{said}");
        let (code, said) = audit(&sandbox, command, &[&last, &other]);
        assert!(code == Some(1) && said.contains("no shard of this log has the key"), "{said}");
    }
    sandbox.finish().await;
}

#[tokio::test]
async fn each_fault_is_told_whatever_else_is_wrong() {
    let (sandbox, [_, last]) = two_shards().await;
    let data = sandbox.data();
    std::fs::remove_file(data.join("keys/subject.key")).unwrap();
    let keys: Vec<_> = std::fs::read_dir(data.join("keys/records")).unwrap().map(|key| key.unwrap().path()).collect();
    let of_traces = keys.iter().find(|path| path.file_stem().unwrap().to_str().unwrap().len() == 7).unwrap();
    std::fs::remove_file(of_traces).unwrap();
    let segments = unefois_tests::files(&data.join("journal")).into_iter();
    let segment = segments
        .filter(|path| path.extension().is_some_and(|kind| kind == "seg") && !path.ends_with("spare.seg"))
        .max();
    let segment = std::fs::File::options().read(true).write(true).open(segment.unwrap()).unwrap();
    let mut bytes = vec![0; usize::try_from(segment.metadata().unwrap().len()).unwrap()];
    segment.read_exact_at(&mut bytes, 0).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    segment.write_all_at(&[bytes[usize::try_from(end).unwrap() - 60] ^ 1], end - 60).unwrap();
    for command in COMMANDS {
        let (code, said) = audit(&sandbox, command, &[&last]);
        assert_eq!(code, Some(1), "{said}");
        let faults: Vec<&str> = said.lines().filter(|line| line.starts_with("FAULT")).collect();
        for why in ["the key that opens entry", "keys/subject.key is missing", "are no whole batch"] {
            assert!(faults.iter().any(|fault| fault.contains(why)), "{why}: {said}");
        }
        assert!(said.contains(&format!("the log does not hold: {} faults", faults.len())), "{said}");
    }
}
