//! The binary: parses the command line, runs the command, says what went wrong.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use unefois::cli::{Cli, exit_code};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("UNEFOIS_LOG").unwrap_or_else(|_| EnvFilter::new(cli.default_log()));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.init();
    } else {
        log.json().flatten_event(true).init();
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return say(&error.to_string(), 1),
    };
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => say(failure.message(), exit_code(&failure)),
    }
}

fn say(message: &str, code: u8) -> ExitCode {
    // A closed stderr is no reason to panic.
    let _ = writeln!(std::io::stderr(), "unefois: {message}");
    ExitCode::from(code)
}
