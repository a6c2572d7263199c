//! A broker for benches of calls, built as it is installed, with persons in its source.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use unefois::client::{Client, Profile};
use unefois::init::{InitFolder, Layout, init};
use unefois_proto::v1::ExchangeRequest;

use crate::ask::{CHILDREN, canteen};

/// Persons in the source.
pub const PERSONS: usize = 1_000;

/// Builds the binary where [`crate::process::binary`] looks for it in a bench.
pub fn build_broker() {
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let optimised = [("CARGO_PROFILE_RELEASE_LTO", "thin"), ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")];
    let mut build = Command::new(cargo);
    build.envs(optimised).args(["build", "--release", "--quiet", "-p", "unefois"]);
    assert!(build.status().unwrap().success(), "the broker does not build");
}

/// The birth name of person `n`.
pub fn name(n: usize) -> String {
    let letters = [n / 676 % 26, n / 26 % 26, n % 26].map(|l| char::from(b'A' + u8::try_from(l).unwrap()));
    format!("PERSONNE {}", letters.iter().collect::<String>())
}

/// A folder for a broker that listens on `listen`; the town hall has data of [`PERSONS`] persons.
pub fn prepare(folder: &Path, listen: SocketAddr) -> InitFolder {
    let made = init(folder, &Layout { listen, metrics: None, log: None, ..Layout::development() }).unwrap();
    let mut csv =
        "birth_name;given_names;birth_date;sex;birth_country;birth_commune;enfants_inscrits;regime\n".to_owned();
    for n in 0..PERSONS {
        writeln!(csv, "{};Camille;1988-04-17;F;99100;35238;{};sans", name(n), n % 5).unwrap();
    }
    std::fs::write(folder.join("sources/periscolaire.csv"), csv).unwrap();
    made
}

/// The town hall's question about person `n`, which its own source answers.
pub fn question(n: usize) -> ExchangeRequest {
    ExchangeRequest { attributes: vec![CHILDREN.to_owned()], ..canteen(&name(n % PERSONS)) }
}

/// A connection of the client `name` to the server at `listen`.
pub async fn connect(folder: &Path, name: &str, listen: SocketAddr) -> Client {
    let mut profile = Profile::read(&folder.join(format!("clients/{name}.toml"))).unwrap();
    profile.endpoint = format!("https://{listen}");
    profile.connect().await.unwrap()
}

/// A number of `/proc/PROCESS/status`: kB for memory.
pub fn status(process: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
