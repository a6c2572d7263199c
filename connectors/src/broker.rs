//! Another broker as a source: an exchange of this broker becomes one of that broker's.
//!
//! The other broker decides by its own registry and ledger, asks its own sources and logs the exchange; this one is its
//! consumer, by the certificate that it shows. Both logs hold the exchange: the other one's receipt is checked with the key of
//! its log, against the question and the answer that came with it, before anything of it goes further, and is kept in this
//! broker's own record.
//! A consent or a mandate that the other broker shall see is in its own ledger: evidence does not travel. Brokers that ask each
//! other in a circle notice it by `via`.
//!
//! | module | what |
//! |---|---|
//! | `settings` | the operator's words: where, the log's key, their names for datasets and procedures |
//! | `question` | from a question to theirs |
//! | `answer` | whether their answer is the one that their receipt is for, and what their refusals mean |

use std::path::Path;

use unefois_audit::{Receipt, VerifierKey};
use unefois_consent::DatasetId;
use unefois_consent::event::SourceReceipt;
use unefois_proto::v1::exchange_service_client::ExchangeServiceClient;

use crate::config::ConnectorConfigError;
use crate::grpc::{self, Line, RemoteLine};
use crate::reloaded::Reloaded;
use crate::{BoxFuture, Connector, Fetch, SourceAnswer, SourceFault};

mod answer;
mod question;
mod settings;

use answer::Expected;
pub use settings::{BrokerConfig, BrokerDataset, BrokerProcedure};

/// A connector to another broker.
#[derive(Debug)]
pub struct BrokerConnector {
    config: BrokerConfig,
    line: Reloaded<RemoteLine>,
    keys: Vec<VerifierKey>,
    max_message_bytes: usize,
}

impl BrokerConnector {
    /// Reads the certificates, and asks nothing. Relative paths start at `base_dir`.
    pub fn open(config: &BrokerConfig, base_dir: &Path) -> Result<Self, ConnectorConfigError> {
        let keys = config.check()?;
        Ok(Self {
            config: config.clone(),
            line: Line::to_remote(config.remote(base_dir))?,
            keys,
            max_message_bytes: grpc::max_message_bytes(config.limits.max_answer_bytes) + answer::MAX_RECEIPT_BYTES,
        })
    }

    async fn answer(&self, fetch: Fetch<'_>) -> Result<SourceAnswer, SourceFault> {
        let id = &fetch.dataset.dataset.id;
        let dataset = self.config.datasets.get(id).ok_or(SourceFault::Untrusted("the broker is not asked for this"))?;
        let theirs = dataset.dataset.as_ref().unwrap_or(id);
        let question = question::of(&self.config, theirs, &fetch)?;
        let request_id = question.request_id.clone();
        fetch.asks(|| question::shown(&question))?;
        let line = self.line.get().await;
        let mut client =
            ExchangeServiceClient::new(line.line.channel()).max_decoding_message_size(self.max_message_bytes);
        let asked = client.exchange(grpc::request(question, fetch.deadline)).await;
        fetch.heard(|| match &asked {
            Ok(_) => "an answer with its receipt".to_owned(),
            Err(status) => format!("gRPC status {:?} {}", status.code(), answer::reason(status).unwrap_or_default()),
        });
        match asked {
            Ok(said) => {
                let (keys, config) = (self.keys.as_slice(), &self.config);
                let expected = Expected { keys, request_id: &request_id, dataset: theirs, fetch: &fetch, config };
                expected.checked(said.into_inner())
            }
            Err(status) => answer::refused(&status, &fetch),
        }
    }
}

impl Connector for BrokerConnector {
    fn serves(&self, dataset: &DatasetId) -> bool {
        self.config.datasets.contains_key(dataset)
    }

    /// While it runs, the same request id is the same exchange there; afterwards it is another attempt of it.
    fn may_ask_again(&self, _: &DatasetId) -> bool {
        true
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<SourceAnswer, SourceFault>> {
        Box::pin(self.answer(fetch))
    }
}

/// A receipt as it is kept: one line, without the salt by which values could be guessed.
fn kept(receipt: &Receipt) -> SourceReceipt {
    let without_salt = Receipt { answer_salt: None, ..receipt.clone() };
    SourceReceipt(without_salt.to_json().trim_end().into())
}

#[cfg(test)]
pub(crate) mod tests;
