//! A person in a file: TOML or JSON. Never on the command line, where every user of the machine would see it.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use unefois_consent::PivotIdentity;
use unefois_proto::common;
use unefois_proto::v1;

use super::Failure;

/// The form of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PersonFile {
    birth_name: String,
    #[serde(default)]
    usage_name: String,
    given_names: Vec<String>,
    #[serde(default)]
    birth_date: String,
    sex: String,
    birth_country: String,
    #[serde(default)]
    birth_commune: String,
}

/// Reads and checks the person in `path`; `-` is the standard input.
pub(crate) fn read(path: &Path) -> Result<v1::Identity, Failure> {
    let fault = |problem: String| Failure::Usage(format!("{}: {problem}", path.display()));
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(path).map(|read| text = read)
    };
    read.map_err(|error| fault(error.to_string()))?;
    let file: PersonFile = if text.trim_start().starts_with('{') {
        // The position says enough; the parser's message could repeat what the file holds.
        serde_json::from_str(&text).map_err(|error| fault(format!("no person in JSON (line {})", error.line())))?
    } else {
        toml::from_str(&text).map_err(|_| fault("no person in TOML; see personne.toml of `unefois init`".to_owned()))?
    };
    let sex = match file.sex.as_str() {
        "F" => v1::Sex::Female,
        "M" => v1::Sex::Male,
        "X" => v1::Sex::Other,
        _ => return Err(fault("sex: must be F, M or X".to_owned())),
    };
    let wire = v1::Identity {
        birth_name: file.birth_name,
        usage_name: file.usage_name,
        given_names: file.given_names,
        birth_date: file.birth_date,
        sex: sex as i32,
        birth_country: file.birth_country,
        birth_commune: file.birth_commune,
    };
    let _: PivotIdentity = checked(path, &wire)?;
    Ok(wire)
}

/// The same as the broker understands it.
pub(crate) fn identity(path: &Path) -> Result<PivotIdentity, Failure> {
    checked(path, &read(path)?)
}

fn checked(path: &Path, wire: &v1::Identity) -> Result<PivotIdentity, Failure> {
    common::identity("", Some(wire))
        .map_err(|error| Failure::Usage(format!("{}: {}", path.display(), error.to_string().trim_start_matches('.'))))
}
