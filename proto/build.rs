//! Compiles the contract without a system `protoc`.

use std::path::{Path, PathBuf};

/// What a broker serves.
const SERVED: [&str; 6] = ["common", "exchange", "consent", "citizen", "registry", "audit"];
/// What a broker asks of connectors outside it.
const CONNECTOR: &str = "unefois/connector/v1/connector.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let served = SERVED.map(|name| format!("unefois/v1/{name}.proto"));
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let mut compiler = compiler(&root)?;
    compiler.open_files(&served)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // The reflection service hands this out.
    std::fs::write(out.join("unefois.v1.bin"), compiler.encode_file_descriptor_set())?;
    compiler.open_file(CONNECTOR)?;
    let private = ["Identity", "IdentityAssertion", "Attribute", "ExchangeRequest", "ExchangeResponse"]
        .map(|message| format!(".unefois.v1.{message}"));
    let private_of_connectors =
        ["FetchRequest", "FetchResponse", "AttributeOutcome"].map(|message| format!(".unefois.connector.v1.{message}"));
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        // These hold names, values or tokens; `src/redact.rs` says what may be seen of them.
        .skip_debug(private.into_iter().chain(private_of_connectors))
        .compile_fds(compiler.file_descriptor_set())?;
    for file in served.iter().map(String::as_str).chain([CONNECTOR]) {
        println!("cargo:rerun-if-changed={file}");
    }
    Ok(())
}

fn compiler(root: &Path) -> Result<protox::Compiler, protox::Error> {
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_source_info(true).include_imports(true);
    Ok(compiler)
}
