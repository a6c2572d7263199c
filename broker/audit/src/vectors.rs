//! The Merkle proof vectors of transparency-dev/merkle, run when their folder lies beside the checkout.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::hash::Hash;
use crate::verify::{verify_consistency, verify_inclusion};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Inclusion {
    leaf_idx: u64,
    tree_size: u64,
    root: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    desc: String,
    want_err: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Consistency {
    size1: u64,
    size2: u64,
    root1: String,
    root2: String,
    proof: Option<Vec<String>>,
    desc: String,
    want_err: bool,
}

/// The JSON files under a folder of the vectors; `None`, and a line that says so, where they are not there.
fn vectors(kind: &str) -> Option<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/merkle").join(kind);
    if !folder.is_dir() {
        println!("no {kind} vectors run: there is no folder {}", folder.display());
        return None;
    }
    let mut files = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                files.push(path);
            }
        }
    }
    files.sort();
    println!("{} {kind} vectors run", files.len());
    Some(files)
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Some vectors have hashes of other lengths ("WrongRoot"). Here they cannot even be written; they are filled or cut,
/// so that the refusal comes from the proof and not from the length. A hash without a byte is filled with what no tree
/// has, a number of its own, lest two of them be equal.
fn hash(encoded: &str, number: u8) -> Hash {
    let mut bytes = STANDARD.decode(encoded).unwrap();
    let filling = if bytes.is_empty() { number } else { 0 };
    bytes.resize(32, filling);
    Hash(bytes.try_into().unwrap())
}

fn hashes(encoded: Option<&Vec<String>>) -> Vec<Hash> {
    encoded.into_iter().flatten().map(|encoded| hash(encoded, 3)).collect()
}

#[test]
fn inclusion_vectors_are_judged_as_the_reference_does() {
    for path in vectors("inclusion").into_iter().flatten() {
        let case: Inclusion = read(&path);
        let proof = hashes(case.proof.as_ref());
        let outcome =
            verify_inclusion(&hash(&case.leaf_hash, 1), case.leaf_idx, case.tree_size, &proof, &hash(&case.root, 2));
        assert_eq!(outcome.is_err(), case.want_err, "{}: {outcome:?}", case.desc);
    }
}

#[test]
fn consistency_vectors_are_judged_as_the_reference_does() {
    let mut from_the_empty_tree = 0;
    for path in vectors("consistency").into_iter().flatten() {
        let case: Consistency = read(&path);
        let proof = hashes(case.proof.as_ref());
        let (root1, root2) = (hash(&case.root1, 1), hash(&case.root2, 2));
        let outcome = verify_consistency(case.size1, case.size2, &proof, &root1, &root2);
        // The reference refuses any proof from the empty tree as useless. tlog-witness has a witness accept its first
        // checkpoint of a log with an empty proof from size 0; so do we, if the first root is that of the empty tree.
        let as_tlog_witness = case.size1 == 0 && case.size2 >= case.size1 && proof.is_empty();
        if as_tlog_witness && (case.size2 > 0 || root1 == root2) {
            from_the_empty_tree += 1;
            assert_eq!(outcome.is_ok(), root1 == crate::hash::EMPTY_ROOT, "{}", case.desc);
            continue;
        }
        assert_eq!(outcome.is_err(), case.want_err, "{}: {outcome:?}", case.desc);
    }
    println!("{from_the_empty_tree} of them start from the empty tree and are judged as tlog-witness does");
}
