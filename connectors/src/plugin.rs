//! A connector outside the broker, in any language, over gRPC: `proto/unefois/connector/v1/connector.proto`.
//!
//! The broker starts the plugin's process and reaches it over a Unix socket, or reaches one that runs elsewhere over a socket
//! or mutual TLS. Either way it agrees on the version of the contract, learns what can be asked, looks after its health, and
//! begins anew, a process too, when it fails. A plugin that hangs, lies, floods or dies is a source that is down, and no more:
//! the guard keeps time, places and sizes, and what it says is checked like that of any other source. Deliberately absent: any
//! trust in what it says. What it can *do* is another matter: a program that the broker starts runs as the broker's user, and can
//! read what that user can. One that is not trusted runs as another user, and is reached by `socket`.
//!
//! | module | what |
//! |---|---|
//! | `settings` | the operator's words |
//! | `process` | a process of its own, without the broker's environment |
//! | `supervise` | handshake, description, health, and a new beginning after a failure |
//! | `described` | what the plugin says that it can be asked |
//! | `question` | from a question to the wire, and back |

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use unefois_consent::id::ConnectorName;
use unefois_consent::registry::Dataset;
use unefois_consent::{DatasetId, Filter, Malformed, OutcomeCode};

use crate::config::ConnectorConfigError;
use crate::{BoxFuture, Connector, Fetch, Sharing, SourceAnswer, SourceFault, grpc};

mod described;
mod process;
mod question;
mod settings;
mod supervise;

pub use settings::PluginConfig;
use supervise::{PACE, Pace, Ready, State, Supervisor};

/// A connector to a plugin.
#[derive(Debug)]
pub struct PluginConnector {
    datasets: BTreeSet<DatasetId>,
    supervisor: Arc<Supervisor>,
    state: watch::Receiver<State>,
    running: OnceLock<Running>,
}

/// The task that looks after the plugin, and with it the process, end with the connector.
#[derive(Debug)]
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PluginConnector {
    /// Looks at the program or the certificates, and starts nothing: that is for [`Connector::start`], or for the first
    /// question. Relative paths start at `base_dir`.
    pub fn open(name: &ConnectorName, config: &PluginConfig, base_dir: &Path) -> Result<Self, ConnectorConfigError> {
        Self::open_at(name, config, base_dir, PACE)
    }

    fn open_at(
        name: &ConnectorName,
        config: &PluginConfig,
        base_dir: &Path,
        pace: Pace,
    ) -> Result<Self, ConnectorConfigError> {
        config.validate()?;
        let (supervisor, state) = Supervisor::open(name, config, base_dir, pace)?;
        Ok(Self {
            datasets: config.datasets.iter().cloned().collect(),
            supervisor: Arc::new(supervisor),
            state,
            running: OnceLock::new(),
        })
    }

    /// What is ready to be asked; waits for a plugin that is being started, and not for one that failed.
    async fn ready(&self, deadline: Instant) -> Result<Arc<Ready>, SourceFault> {
        self.start();
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| !matches!(state, State::Starting));
        let settled = tokio::time::timeout_at(deadline.into(), settled).await.map_err(|_| SourceFault::Timeout)?;
        match settled.as_deref() {
            Ok(State::Ready(ready)) => Ok(Arc::clone(ready)),
            Ok(State::Down(why)) => Err(SourceFault::Down(why)),
            Ok(State::Starting) | Err(_) => Err(SourceFault::Down("nobody looks after the plugin")),
        }
    }

    async fn answer(&self, fetch: Fetch<'_>) -> Result<SourceAnswer, SourceFault> {
        if !self.serves(&fetch.dataset.dataset.id) {
            return Err(SourceFault::Untrusted("the plugin has no such dataset"));
        }
        let ready = self.ready(fetch.deadline).await?;
        ready.description.check_question(&fetch)?;
        let (asked, has_token) = (fetch.dataset, fetch.access_token.is_some());
        if let Err(needed) = ready.description.check(&asked.dataset, &asked.filter, has_token) {
            // It was not ready when the question was checked.
            fetch.heard(|| format!("nothing was asked: {needed}"));
            return Ok(SourceAnswer::missing(asked, OutcomeCode::FilterRefused));
        }
        let message = question::of(&fetch);
        fetch.asks(|| question::shown(&message))?;
        let asked = ready.client().fetch(grpc::request(message, fetch.deadline)).await;
        fetch.heard(|| match &asked {
            Ok(_) => "an answer".to_owned(),
            Err(status) => format!("gRPC status {:?}", status.code()),
        });
        question::answer(asked.map_err(|status| grpc::fault(&status))?.into_inner(), fetch.dataset)
    }

    fn now(&self) -> Option<Arc<Ready>> {
        match &*self.state.borrow() {
            State::Ready(ready) => Some(Arc::clone(ready)),
            State::Starting | State::Down(_) => None,
        }
    }
}

impl Connector for PluginConnector {
    fn serves(&self, dataset: &DatasetId) -> bool {
        self.datasets.contains(dataset)
    }

    fn start(&self) {
        self.running.get_or_init(|| Running(tokio::spawn(Arc::clone(&self.supervisor).run())));
    }

    fn lacks(&self, dataset: &Dataset) -> Option<String> {
        self.now()?.description.lacks(dataset)
    }

    fn check(&self, dataset: &Dataset, filter: &Filter, has_token: bool) -> Result<(), Malformed> {
        // One that is not ready is SOURCE_DOWN for every question.
        self.now().map_or(Ok(()), |ready| ready.description.check(dataset, filter, has_token))
    }

    fn may_ask_again(&self, dataset: &DatasetId) -> bool {
        self.now().is_some_and(|ready| ready.description.is_repeatable(dataset))
    }

    /// One that needs the person's own token, or changes something at its source, is asked by everybody for themselves.
    fn sharing(&self, fetch: &Fetch<'_>) -> Sharing {
        if self.may_ask_again(&fetch.dataset.dataset.id) { Sharing::Joined } else { Sharing::Never }
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<SourceAnswer, SourceFault>> {
        Box::pin(self.answer(fetch))
    }
}

#[cfg(test)]
pub(crate) mod tests;
