//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod audit;
mod connector;
mod consent;
mod exchange;
mod mandate;
mod me;
mod output;
mod person;
mod receipt;
mod registry;
mod serve;
mod setup;
mod webhook;
mod witness;

pub(crate) use audit::{Check, check_files, report_text};
pub use connector::registry_of;
pub(crate) use exchange::{answer_text, draw_request_id};
pub use output::{Failure, exit_code};
pub(crate) use output::{describe, line as print_line};
pub(crate) use receipt::verify as verify_receipt;

/// The program's version, and the format of the data folder that it writes.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (data folder: format 1)");
const _: () = assert!(unefois_engine::store::DATA_FORMAT == 1, "the version names the format");

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed (broken, unreachable, does not verify), 2 wrong usage or configuration, 3 refused by law, right or rule.

Try it:
  unefois demo                 a broker, a source and a story, in one minute
  unefois init my-broker       a folder with development certificates, keys and configuration";

/// A broker for « Dites-le-nous une fois »: administrations ask each other for what a person has already declared.
#[derive(Debug, Parser)]
#[command(name = "unefois", version = VERSION, propagate_version = true, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play a whole story with a real broker and a fictitious source
    ///
    /// Makes a folder with development certificates, keys, configuration and registry, starts a broker on loopback, and
    /// plays exchanges, refusals, a consent and its withdrawal through the gRPC client over mutual TLS. Ends by verifying
    /// a receipt offline and the whole log.
    #[command(
        after_help = "Example:\n  unefois demo --serve       keep the broker running and print commands to go on by hand"
    )]
    Demo(crate::demo::DemoArgs),
    /// Make a folder in which a broker runs at once, for development
    #[command(after_help = "Example:\n  unefois init my-broker && unefois serve --config my-broker/unefois.toml")]
    Init(setup::InitArgs),
    /// Run the broker until it gets SIGINT or SIGTERM
    #[command(after_help = "Example:\n  unefois serve --config /etc/unefois/unefois.toml")]
    Serve(serve::ServeArgs),
    /// Check all that `serve` checks, short of opening the store and listening
    #[command(after_help = "Example:\n  unefois check-config --config /etc/unefois/unefois.toml")]
    CheckConfig(setup::CheckConfigArgs),
    /// Print the fingerprint of a certificate's key, as the registry enrols it
    #[command(after_help = "Example:\n  unefois fingerprint clients/ville.pem")]
    Fingerprint(setup::FingerprintArgs),
    /// See what connectors can be asked
    #[command(subcommand)]
    Connector(connector::ConnectorCommand),
    /// Ask for attributes of a person
    #[command(after_help = exchange::EXAMPLE)]
    Exchange(exchange::ExchangeArgs),
    /// Show or change who takes part, for what, with which right
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// Ask persons for consents, record them, and hear of their changes
    #[command(subcommand)]
    Consent(consent::ConsentCommand),
    /// See your webhooks, and send again what they could not deliver
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// Record who may act for whom
    #[command(subcommand)]
    Mandate(mandate::MandateCommand),
    /// See and decide as a person, through a portal
    #[command(subcommand)]
    Me(me::MeCommand),
    /// Read, verify and replay the audit log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Check receipts, offline, or get one anew
    #[command(subcommand)]
    Receipt(receipt::ReceiptCommand),
    /// Run a witness, which cosigns the logs of others and so keeps them from showing two histories
    #[command(subcommand)]
    Witness(witness::WitnessCommand),
}

/// Where a broker is, and as whom to call it.
#[derive(Debug, clap::Args)]
struct Connection {
    /// Profile of the client: broker, CA, certificate, key
    #[arg(long, short, value_name = "FILE", env = "UNEFOIS_PROFILE")]
    profile: PathBuf,
    /// How long to wait, such as 500ms, 10s or 1m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = output::parse_duration)]
    timeout: std::time::Duration,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

impl Connection {
    async fn client(&self) -> Result<crate::client::Client, Failure> {
        let profile = crate::client::Profile::read(&self.profile).map_err(|error| Failure::Usage(error.to_string()))?;
        profile.connect().await.map_err(Failure::from)
    }

    /// `message` with the deadline that the user gave.
    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.timeout);
        request
    }
}

impl Cli {
    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Demo(args) => crate::demo::run(args).await,
            Command::Init(args) => setup::init(&args),
            Command::Serve(args) => serve::run(&args).await,
            Command::CheckConfig(args) => setup::check_config(&args),
            Command::Fingerprint(args) => setup::fingerprint(&args),
            Command::Connector(command) => connector::run(command).await,
            Command::Exchange(args) => exchange::run(args).await,
            Command::Registry(command) => registry::run(command).await,
            Command::Consent(command) => consent::run(command).await,
            Command::Webhook(command) => webhook::run(command).await,
            Command::Mandate(command) => mandate::run(command).await,
            Command::Me(command) => me::run(command).await,
            Command::Audit(command) => audit::run(command).await,
            Command::Receipt(command) => receipt::run(command).await,
            Command::Witness(command) => witness::run(command).await,
        }
    }

    /// What is logged where `UNEFOIS_LOG` does not say: a server tells its life, a command only what is wrong.
    pub fn default_log(&self) -> &'static str {
        match self.command {
            Command::Serve(_) | Command::Witness(_) => "info,lsm_tree=warn",
            Command::Demo(_)
            | Command::Init(_)
            | Command::CheckConfig(_)
            | Command::Fingerprint(_)
            | Command::Connector(_)
            | Command::Exchange(_)
            | Command::Registry(_)
            | Command::Consent(_)
            | Command::Webhook(_)
            | Command::Mandate(_)
            | Command::Me(_)
            | Command::Audit(_)
            | Command::Receipt(_) => "error",
        }
    }
}
