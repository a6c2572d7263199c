//! `witness init` and `witness serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use unefois_engine::SystemClock;

use super::Failure;
use super::output::line;
use crate::witness::Witness;
use crate::witness::config::{WitnessConfig, init};

#[derive(Debug, Subcommand)]
pub(crate) enum WitnessCommand {
    /// Make a folder with a witness's key, configuration and empty state, and print its verifier key
    #[command(after_help = "Example:\n  unefois witness init ./witness --name temoin.departement.example/1")]
    Init(InitArgs),
    /// Run a witness until it gets SIGINT or SIGTERM (C2SP tlog-witness)
    ///
    /// It cosigns a checkpoint of a log that it knows, where the checkpoint extends the last one that it cosigned. It never
    /// cosigns a rollback or another history.
    #[command(after_help = "Example:\n  unefois witness serve --config ./witness/witness.toml")]
    Serve(ServeArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// The folder; nothing in it is ever replaced
    folder: PathBuf,
    /// The name that it cosigns under: a URL without scheme. It never changes
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Address and port on which the witness will listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7490")]
    listen: SocketAddr,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The configuration
    #[arg(long, short, value_name = "FILE", default_value = "witness.toml")]
    config: PathBuf,
}

pub(crate) async fn run(command: WitnessCommand) -> Result<(), Failure> {
    match command {
        WitnessCommand::Init(args) => make(&args),
        WitnessCommand::Serve(args) => serve(&args).await,
    }
}

fn make(args: &InitArgs) -> Result<(), Failure> {
    let key = init(&args.folder, &args.name, args.listen)?;
    let folder = args.folder.display();
    // The key alone on standard output, for scripts.
    line(key.to_string());
    super::output::note(format!(
        "Made {folder}: that is the witness's verifier key; give it to those whose logs it watches, for the line\n  \
         witness NAME VKEY URL\n\
         of their policy. Add their logs to {folder}/witness.toml, then:\n  \
         unefois witness serve --config {folder}/witness.toml"
    ));
    Ok(())
}

async fn serve(args: &ServeArgs) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Failed(error.to_string());
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let config = WitnessConfig::read(&args.config)?;
    let witness = Arc::new(Witness::open(config.load()?, Arc::new(SystemClock))?);
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| Failure::Failed(format!("listen: cannot listen on {}: {error}", config.listen)))?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, key = %witness.key(), logs = witness.logs(), "the witness serves");
    let stopped = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    crate::witness::serve(listener, witness, stopped).await;
    Ok(())
}
