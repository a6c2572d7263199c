//! A client of a broker, for the command line, the demo and tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use unefois_connectors::files::{read_secret, read_trusted};
use unefois_proto::v1::audit_service_client::AuditServiceClient;
use unefois_proto::v1::citizen_service_client::CitizenServiceClient;
use unefois_proto::v1::consent_service_client::ConsentServiceClient;
use unefois_proto::v1::exchange_service_client::ExchangeServiceClient;
use unefois_proto::v1::registry_service_client::RegistryServiceClient;

/// How to reach a broker, and as whom: a file such as `clients/ville.toml`. Paths start at its folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// `https://unefois.example:7443`.
    pub endpoint: String,
    /// CA of the broker's certificate, PEM.
    pub ca: PathBuf,
    /// Own certificate, PEM.
    pub certificate: PathBuf,
    /// Own private key, PEM, mode 0600.
    pub private_key: PathBuf,
    /// Name in the broker's certificate, where it is not the endpoint's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// Why a client cannot talk to its broker.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The profile, or a file that it names, is wrong.
    #[error("{0}")]
    Profile(String),
    /// The broker cannot be reached or refuses the certificate.
    #[error("{0}")]
    Connect(String),
}

impl Profile {
    /// Reads a profile.
    pub fn read(path: &Path) -> Result<Self, ClientError> {
        let fault = |problem: String| ClientError::Profile(format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        let mut profile: Self = toml::from_str(&text).map_err(|error| fault(error.to_string()))?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        for file in [&mut profile.ca, &mut profile.certificate, &mut profile.private_key] {
            *file = base.join(&*file);
        }
        Ok(profile)
    }

    fn tls(&self) -> Result<ClientTlsConfig, ClientError> {
        let fault = |path: &Path, problem: String| ClientError::Profile(format!("{}: {problem}", path.display()));
        let read = |path: &Path| read_trusted(path, MAX_PEM_BYTES).map_err(|problem| fault(path, problem));
        let key = read_secret(&self.private_key, MAX_PEM_BYTES).map_err(|problem| fault(&self.private_key, problem))?;
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&self.ca)?))
            .identity(Identity::from_pem(read(&self.certificate)?, &*key));
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        Ok(tls)
    }

    /// Connects.
    pub async fn connect(&self) -> Result<Client, ClientError> {
        let tls = self.tls()?;
        let endpoint = Endpoint::from_shared(self.endpoint.clone()).and_then(|endpoint| endpoint.tls_config(tls));
        let endpoint = endpoint.map_err(|error| ClientError::Profile(chain(&error)))?;
        let endpoint =
            endpoint.connect_timeout(CONNECT_WITHIN).tcp_nodelay(true).initial_connection_window_size(1 << 20);
        // The endpoint's own patience ends with TCP; somebody may listen and never speak TLS.
        let connected = tokio::time::timeout(2 * CONNECT_WITHIN, endpoint.connect()).await.map_err(|_| {
            ClientError::Connect(format!(
                "{}: it took the connection and did not complete TLS; is it a broker?",
                self.endpoint
            ))
        })?;
        let channel =
            connected.map_err(|error| ClientError::Connect(explain_transport(&chain(&error), &self.endpoint)))?;
        Ok(Client { channel, endpoint: self.endpoint.clone() })
    }
}

/// Largest file of certificates or of a key.
const MAX_PEM_BYTES: usize = 1 << 20;
/// Patience for TCP, and as much again for TLS.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

const CLOSED_WITHOUT_A_WORD: &str = "the connection was closed without a word: the broker does not accept your certificate \
                                     (another CA, expired, revoked), or it was stopping";

/// What an error of the transport means. TLS 1.3 lets the client finish its handshake before the server has judged its
/// certificate, so the refusal comes as an alert on the first call.
pub fn explain_transport(text: &str, endpoint: &str) -> String {
    let known = [
        (
            "UnknownCA",
            "the broker does not know the CA of your certificate; ask its operator which CA it trusts (tls.client_ca)",
        ),
        (
            "DecryptError",
            "the broker does not know the CA of your certificate; ask its operator which CA it trusts (tls.client_ca)",
        ),
        ("CertificateRevoked", "your certificate was revoked; ask for a new one"),
        ("CertificateExpired", "your certificate has expired, or the broker's revocation list has; renew it"),
        ("CertificateRequired", "the broker wants a client certificate"),
        ("CertificateUnknown", "the broker does not accept your certificate"),
        ("BadCertificate", "the broker does not accept your certificate"),
        ("UnknownIssuer", "the broker's certificate is not from the CA in your profile (ca)"),
        ("NotValidForName", "the broker's certificate is for another name; set server_name in your profile"),
        ("Connection refused", "nothing listens there; is the broker running?"),
        // The alert may be lost when the connection ends while the client still writes.
        ("broken pipe", CLOSED_WITHOUT_A_WORD),
        ("Broken pipe", CLOSED_WITHOUT_A_WORD),
        ("Connection reset", CLOSED_WITHOUT_A_WORD),
    ];
    let advice = known.iter().find(|(sign, _)| text.contains(sign)).map(|(_, advice)| *advice);
    match advice {
        Some(advice) => format!("{endpoint}: {advice} ({text})"),
        None => format!("{endpoint}: {text}"),
    }
}

/// A connection to a broker.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    endpoint: String,
}

impl Client {
    /// Where the broker is.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The channel, for other services.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// ExchangeService.
    pub fn exchange(&self) -> ExchangeServiceClient<Channel> {
        ExchangeServiceClient::new(self.channel())
    }

    /// ConsentService.
    pub fn consent(&self) -> ConsentServiceClient<Channel> {
        ConsentServiceClient::new(self.channel())
    }

    /// CitizenService.
    pub fn citizen(&self) -> CitizenServiceClient<Channel> {
        CitizenServiceClient::new(self.channel())
    }

    /// RegistryService.
    pub fn registry(&self) -> RegistryServiceClient<Channel> {
        RegistryServiceClient::new(self.channel()).max_decoding_message_size(crate::rpc::MAX_MESSAGE_BYTES)
    }

    /// AuditService.
    pub fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel()).max_decoding_message_size(crate::rpc::MAX_MESSAGE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_whose_reason_was_lost_says_what_it_may_have_been() {
        let lost = "transport error: connection error: stream closed because of a broken pipe";
        let text = explain_transport(lost, "the broker");
        assert!(
            text.starts_with("the broker: the connection was closed without a word") && text.contains(lost),
            "{text}"
        );
        let alert = "transport error: connection error: received fatal alert: UnknownCA";
        assert!(explain_transport(alert, "the broker").contains("CA of your certificate"));
    }
}
