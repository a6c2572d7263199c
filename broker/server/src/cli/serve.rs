//! `serve`.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use unefois_engine::SystemClock;
use unefois_store::EmbeddedStore;

use super::Failure;
use super::output::{moves, progress};
use crate::config::Loaded;
use crate::serve::{Broker, Stores};

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The configuration
    #[arg(long, short, value_name = "FILE", default_value = "unefois.toml")]
    config: PathBuf,
}

pub(crate) async fn run(args: &ServeArgs) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Failed(error.to_string());
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    // No core file of values and keys, and no look into this process by others of the same user: plugins are.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| failed(error.into()))?;
    let loaded = Loaded::open(&args.config)?;
    crate::http::install_metrics();
    let store = EmbeddedStore::open(&loaded.config.store.path, &loaded.config.store_options())
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let bar = progress("catching up with the journal");
    let broker = Broker::start(loaded, Stores::from(&store), Arc::new(SystemClock), &mut moves(&bar)).await?;
    bar.finish_and_clear();
    tokio::spawn(crate::http::keep_metrics_small());
    let halted = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        error = broker.halted() => Some(error),
    };
    broker.stop().await;
    match halted {
        None => Ok(()),
        Some(error) => Err(error.into()),
    }
}
