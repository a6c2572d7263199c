//! Looks after a plugin: one task from its start to its end.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use unefois_consent::DatasetId;
use unefois_consent::id::ConnectorName;
use unefois_proto::connector::PROTOCOL_VERSION;
use unefois_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use unefois_proto::connector::v1::{DescribeRequest, HandshakeRequest};

use super::described::Description;
use super::process::{Process, Program};
use super::settings::{Place, PluginConfig};
use crate::SourceFault;
use crate::config::ConnectorConfigError;
use crate::grpc::{self, Line, Remote, RemoteLine};
use crate::reloaded::Reloaded;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// For a process to serve its socket, and for handshake and description.
    pub(super) start_within: Duration,
    /// How often health is asked, and for how long.
    pub(super) health_every: Duration,
    pub(super) health_within: Duration,
    /// Between two beginnings: from the first, doubling, to the last.
    pub(super) pause: (Duration, Duration),
    /// The pauses are short again after a plugin was well for so long.
    pub(super) well_after: Duration,
}

pub(super) const PACE: Pace = Pace {
    start_within: Duration::from_secs(15),
    health_every: Duration::from_secs(3),
    health_within: Duration::from_secs(2),
    pause: (Duration::from_millis(200), Duration::from_secs(30)),
    well_after: Duration::from_secs(60),
};
/// How often health may fail in a row.
const MAX_UNHEALTHY: u32 = 2;
const TRY_EVERY: Duration = Duration::from_millis(50);
pub(super) const SERVICE: &str = "unefois.connector.v1.ConnectorService";

/// Where a plugin stands.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// It was never ready.
    Starting,
    Ready(Arc<Ready>),
    /// It failed, and is begun anew after a pause.
    Down(&'static str),
}

/// A plugin that can be asked.
#[derive(Debug)]
pub(super) struct Ready {
    client: ConnectorServiceClient<Channel>,
    pub(super) description: Description,
}

impl Ready {
    pub(super) fn client(&self) -> ConnectorServiceClient<Channel> {
        self.client.clone()
    }
}

/// How the plugin is reached.
#[derive(Debug)]
enum Way {
    Program(Program),
    Socket(Box<Line>),
    Remote(Reloaded<RemoteLine>),
}

/// Why a plugin can no longer be asked.
enum Ended {
    Failed(&'static str),
    /// The broker's own certificate changed.
    Renewed,
}

/// What looks after one plugin.
#[derive(Debug)]
pub(super) struct Supervisor {
    name: Arc<str>,
    way: Way,
    datasets: Vec<DatasetId>,
    max_message_bytes: usize,
    pace: Pace,
    state: watch::Sender<State>,
}

impl Supervisor {
    pub(super) fn open(
        name: &ConnectorName,
        config: &PluginConfig,
        base_dir: &Path,
        pace: Pace,
    ) -> Result<(Self, watch::Receiver<State>), ConnectorConfigError> {
        let way = match config.place()? {
            Place::Command => Way::Program(Program::open(config, base_dir)?),
            Place::Socket(path) => {
                check_folder(&base_dir.join(path))?;
                Way::Socket(Box::new(Line::to_socket(&base_dir.join(path))?))
            }
            Place::Remote(remote) => Way::Remote(Line::to_remote(Remote {
                ca_file: base_dir.join(&remote.ca_file),
                client_identity_file: base_dir.join(&remote.client_identity_file),
                ..remote
            })?),
        };
        let (state, seen) = watch::channel(State::Starting);
        let max_message_bytes = grpc::max_message_bytes(config.limits.max_answer_bytes);
        Ok((
            Self { name: name.as_str().into(), way, datasets: config.datasets.clone(), max_message_bytes, pace, state },
            seen,
        ))
    }

    /// Begins, and begins anew after each failure, until the task is aborted.
    pub(super) async fn run(self: Arc<Self>) {
        let mut pause = self.pace.pause.0;
        loop {
            let begun = Instant::now();
            let why = match self.once().await {
                Ended::Renewed => continue,
                Ended::Failed(why) => why,
            };
            if begun.elapsed() > self.pace.well_after {
                pause = self.pace.pause.0;
            }
            self.state.send_replace(State::Down(why));
            self.tell_down(why, pause);
            sleep(pause).await;
            pause = (2 * pause).min(self.pace.pause.1);
        }
    }

    /// From a beginning to its end. The process, where there is one, ends with it.
    async fn once(&self) -> Ended {
        match &self.way {
            Way::Program(program) => {
                let mut process = match program.start() {
                    Ok(process) => process,
                    Err(why) => return Ended::Failed(why),
                };
                self.with_process(&mut process).await
            }
            Way::Socket(line) => Ended::Failed(self.talk(line.channel()).await),
            Way::Remote(reloaded) => {
                let used = reloaded.get().await;
                let renewed = async {
                    while Arc::ptr_eq(&used, &reloaded.get().await) {
                        sleep(self.pace.health_every).await;
                    }
                };
                tokio::select! {
                    why = self.talk(used.line.channel()) => Ended::Failed(why),
                    () = renewed => Ended::Renewed,
                }
            }
        }
    }

    async fn with_process(&self, process: &mut Process) -> Ended {
        let line = match Line::to_socket(process.socket()) {
            Ok(line) => line,
            Err(_) => return Ended::Failed("the path of the temporary folder is not UTF-8"),
        };
        tokio::select! {
            why = self.talk(line.channel()) => Ended::Failed(why),
            (exit_code, signal) = process.ended() => {
                tracing::warn!(connector = &*self.name, exit_code, signal, "the process of a plugin ended by itself");
                Ended::Failed("its process ended")
            }
        }
    }

    /// Handshake and description, then health until it fails.
    async fn talk(&self, channel: Channel) -> &'static str {
        match timeout(self.pace.start_within, self.begin(channel.clone())).await {
            Err(_) => return "it did not complete its handshake and description in time",
            Ok(Err(why)) => return why,
            Ok(Ok(ready)) => {
                self.state.send_replace(State::Ready(Arc::new(ready)));
                gauge!("unefois_plugin_up", "connector" => Arc::clone(&self.name)).set(1.0);
            }
        }
        let mut health = HealthClient::new(channel);
        let mut failed = 0;
        while failed < MAX_UNHEALTHY {
            sleep(self.pace.health_every).await;
            let asked = health.check(HealthCheckRequest { service: SERVICE.to_owned() });
            let is_well = match timeout(self.pace.health_within, asked).await {
                Ok(Ok(answer)) => answer.into_inner().status() == ServingStatus::Serving,
                Ok(Err(_)) | Err(_) => false,
            };
            failed = if is_well { 0 } else { failed + 1 };
        }
        "it does not say that it is well"
    }

    async fn begin(&self, channel: Channel) -> Result<Ready, &'static str> {
        let mut client = ConnectorServiceClient::new(channel).max_decoding_message_size(self.max_message_bytes);
        let offer = HandshakeRequest {
            protocol_versions: vec![PROTOCOL_VERSION],
            broker: concat!("unefois/", env!("CARGO_PKG_VERSION")).to_owned(),
            connector: self.name.to_string(),
        };
        let agreed = loop {
            match client.handshake(offer.clone()).await {
                Ok(agreed) => break agreed.into_inner(),
                Err(status) if grpc::fault(&status) == SourceFault::Down(grpc::UNTRUSTED) => {
                    return Err(grpc::UNTRUSTED);
                }
                // It does not serve yet, or will never.
                Err(status) if status.code() == Code::Unavailable => sleep(TRY_EVERY).await,
                Err(status) if status.code() == Code::FailedPrecondition => {
                    return Err("it speaks no version of the contract that this broker speaks");
                }
                Err(_) => return Err("its handshake failed"),
            }
        };
        if agreed.protocol_version != PROTOCOL_VERSION {
            return Err("it chose a version of the contract that was not offered");
        }
        let described = client.describe(DescribeRequest {}).await.map_err(|_| "its description failed")?.into_inner();
        let description = Description::read(described, &self.datasets)?;
        let software = if is_software(&agreed.software) { agreed.software.as_str() } else { "" };
        tracing::info!(connector = &*self.name, software, "a plugin is ready");
        Ok(Ready { client, description })
    }

    fn tell_down(&self, why: &'static str, pause: Duration) {
        gauge!("unefois_plugin_up", "connector" => Arc::clone(&self.name)).set(0.0);
        counter!("unefois_plugin_failures_total", "connector" => Arc::clone(&self.name)).increment(1);
        let again_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        tracing::error!(connector = &*self.name, why, again_in_ms, "a plugin failed and is begun anew");
    }
}

/// Whoever can write the folder of a socket can put another socket there, and gets the persons.
fn check_folder(socket: &Path) -> Result<(), ConnectorConfigError> {
    let folder = socket.parent().unwrap_or(Path::new("/"));
    // One that is not there yet is its maker's.
    let mode = std::fs::metadata(folder).map_or(0, |folder| folder.permissions().mode());
    if mode & 0o022 == 0 {
        return Ok(());
    }
    Err(ConnectorConfigError::file(
        "socket",
        folder,
        "others may put another socket there; run: chmod go-w on the folder",
    ))
}

fn is_software(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}
