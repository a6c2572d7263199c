//! `unefois demo`: a real broker, a fictitious source, and a story through the real client over mutual TLS.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use unefois_engine::SystemClock;
use unefois_store::EmbeddedStore;

use crate::cli::Failure;
use crate::config::Loaded;
use crate::init::{InitFolder, Layout, init};
use crate::serve::{Broker, Stores};

mod ending;
mod source;
mod story;

use source::Source;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Keep the broker and the source running after the story, until Ctrl-C
    #[arg(long)]
    serve: bool,
    /// Folder to make; `unefois-demo` or the next free name where absent
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// A folder that does not exist yet.
fn free_folder() -> PathBuf {
    let names = std::iter::once("unefois-demo".to_owned()).chain((2..).map(|n| format!("unefois-demo-{n}")));
    names.map(PathBuf::from).find(|path| !path.exists()).unwrap_or_default()
}

/// A free port of loopback.
fn free_address() -> Result<SocketAddr, Failure> {
    let listener = StdListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener.map_err(|error| Failure::Failed(format!("loopback: {error}")))
}

/// A running demonstration.
pub(crate) struct Stage {
    pub(crate) folder: InitFolder,
    pub(crate) source: Source,
    pub(crate) verifier_key: String,
    pub(crate) data: PathBuf,
}

impl Stage {
    /// The folder as a person would type it.
    pub(crate) fn path(&self) -> &Path {
        &self.folder.path
    }
}

/// Runs the demonstration.
pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    let path = args.dir.unwrap_or_else(free_folder);
    let source = Source::start().await?;
    let layout = Layout {
        listen: free_address()?,
        metrics: Some(free_address()?),
        log: Some(free_address()?),
        api_particulier: format!("http://{}", source.address()),
        token: source::TOKEN.to_owned(),
    };
    let folder = init(&path, &layout).map_err(|error| Failure::Failed(error.to_string()))?;
    let loaded = Loaded::open(&folder.config())?;
    crate::http::install_metrics();
    let verifier_key = loaded.signer.verifier_key().to_string();
    let data = loaded.config.store.path.clone();
    let store = EmbeddedStore::open(&data, &loaded.config.store_options())
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let broker = Broker::start(loaded, Stores::from(&store), Arc::new(SystemClock), &mut |_, _| {}).await?;
    let stage = Stage { folder, source, verifier_key, data };
    let told = story::tell(&stage).await;
    let ended = match told {
        Ok(()) => ending::verify_everything(&stage),
        Err(failure) => Err(failure),
    };
    if ended.is_ok() {
        ending::commands(&stage, &layout, args.serve);
        if args.serve {
            // Either way the broker stops.
            let _ = tokio::signal::ctrl_c().await;
        }
    }
    broker.stop().await;
    ended
}
