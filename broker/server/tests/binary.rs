//! The binary starts. That this test is here makes `cargo test --workspace` build the binary that other tests run.

use std::process::Command;

#[test]
fn the_binary_says_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_unefois")).arg("--version").output();
    let stdout = output.map(|output| output.stdout).unwrap_or_default();
    let expected = format!("unefois {} (data folder: format 1)\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&stdout), expected);
}
