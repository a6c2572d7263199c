//! End to end tests, conformance and benches of Unefois.
//!
//! A [`sandbox::Sandbox`] is a real broker with real certificates and a real store in a temporary folder; its source is
//! scripted. A [`process::Process`] is the real binary. After a test both check the world: the log verifies and replays,
//! and the fold is what a replay gives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking, and says where"
)]

pub mod ask;
pub mod bench;
pub mod caller;
pub mod chaos;
pub mod forger;
pub mod lifetime;
pub mod load;
pub mod power;
pub mod process;
pub mod sandbox;
pub mod shown;
pub mod source;
pub mod standin;
pub mod told;
pub mod witness;
pub mod world;
pub mod writers;

/// Every file under `folder`, in order of their paths.
pub fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Copies a folder with all below it.
pub fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, &target).unwrap();
    }
}
