//! Compiles the contract without a system `protoc`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["common", "exchange", "consent", "citizen", "registry", "audit"]
        .map(|name| format!("unefois/v1/{name}.proto"));
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // The reflection service hands this out.
    std::fs::write(out.join("unefois.v1.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        // These hold names, values or tokens; `src/redact.rs` says what may be seen of them.
        .skip_debug(
            ["Identity", "IdentityAssertion", "Attribute", "ExchangeRequest", "ExchangeResponse"]
                .map(|m| format!(".unefois.v1.{m}")),
        )
        .compile_fds(descriptors)?;
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    Ok(())
}
