//! `exchange`: a client for people and scripts.

use std::path::PathBuf;

use clap::ValueEnum;
use unefois_consent::{Channel, Ground, Language, NoticeShown, OutcomeCode, Timestamp};
use unefois_proto::exchange::{status, wire_ground};
use unefois_proto::v1;
use unefois_proto::value::to_json;

use super::output::{json, line};
use super::{Connection, Failure, person};
use crate::text::time_text;

pub(crate) const EXAMPLE: &str = "\
Example:
  unefois exchange --profile clients/ville.toml --subject personne.toml \\
    --procedure tarification-cantine --attribute dss.quotient_familial.valeur --receipt receipt.json

Where an attribute is not FOUND, ask the person for the supporting document instead; the exit code is still 0.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GroundArg {
    /// The person made a request and was informed (CRPA L114-8 I)
    LawRequest,
    /// To inform a person of a right and grant it (CRPA L114-8 II)
    Proactive,
    /// A consent in the ledger
    Consent,
    /// The person asked explicitly (EU once-only)
    ExplicitRequest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChannelArg {
    Online,
    Counter,
    Phone,
    Post,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LanguageArg {
    Fr,
    En,
}

impl ChannelArg {
    pub(crate) fn on_wire(self) -> i32 {
        match self {
            Self::Online => v1::Channel::Online as i32,
            Self::Counter => v1::Channel::Counter as i32,
            Self::Phone => v1::Channel::Phone as i32,
            Self::Post => v1::Channel::Post as i32,
        }
    }

    pub(crate) fn channel(self) -> Channel {
        match self {
            Self::Online => Channel::Online,
            Self::Counter => Channel::Counter,
            Self::Phone => Channel::Phone,
            Self::Post => Channel::Post,
        }
    }
}

impl LanguageArg {
    pub(crate) fn on_wire(self) -> i32 {
        match self {
            Self::Fr => v1::Language::French as i32,
            Self::En => v1::Language::English as i32,
        }
    }

    pub(crate) fn language(self) -> Language {
        match self {
            Self::Fr => Language::Fr,
            Self::En => Language::En,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExchangeArgs {
    #[command(flatten)]
    connection: Connection,
    /// The person: a file in TOML or JSON, or - for the standard input
    #[arg(long, value_name = "FILE")]
    subject: PathBuf,
    /// The procedure for which data is asked
    #[arg(long)]
    procedure: String,
    /// An attribute; may be given several times
    #[arg(long = "attribute", short, value_name = "ATTRIBUTE", required = true)]
    attributes: Vec<String>,
    /// A filter of a dataset: dataset:name=value; may be given several times
    #[arg(long = "filter", value_name = "FILTER", value_parser = parse_filter)]
    filters: Vec<(String, String, String)>,
    /// Why it is lawful; law-request where absent, consent with --consent
    #[arg(long, value_enum)]
    ground: Option<GroundArg>,
    /// Version of the notice that was shown (law-request, proactive)
    #[arg(long, value_name = "VERSION", default_value_t = 1)]
    notice: u32,
    /// How the person was reached
    #[arg(long, value_enum, default_value = "online")]
    channel: ChannelArg,
    /// Language of the notice
    #[arg(long, value_enum, default_value = "fr")]
    language: LanguageArg,
    /// When the notice was shown or the request made; now where absent
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// The consent, with --ground consent; the newest that covers the question where absent
    #[arg(long, value_name = "ID", default_value = "")]
    consent: String,
    /// The mandate under which somebody acts for the person
    #[arg(long, value_name = "ID", default_value = "")]
    mandate: String,
    /// The habilitation; your only one for the procedure where absent
    #[arg(long, value_name = "ID", default_value = "")]
    habilitation: String,
    /// SIRET of the administration that uses the data; your own where absent
    #[arg(long, value_name = "SIRET", default_value = "")]
    recipient: String,
    /// The agent or the system that asks
    #[arg(long, default_value = "unefois exchange")]
    agent: String,
    /// Names the exchange, so that trying again is the same one (give --at too, since all of it must be the same); drawn
    /// where absent
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Where to save the receipt
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
}

pub(super) fn parse_filter(text: &str) -> Result<(String, String, String), String> {
    let rule = || "dataset:name=value, such as dss.quotient_familial:mois=5".to_owned();
    let (dataset, parameter) = text.split_once(':').ok_or_else(rule)?;
    let (name, value) = parameter.split_once('=').ok_or_else(rule)?;
    Ok((dataset.to_owned(), name.to_owned(), value.to_owned()))
}

/// Filters by dataset.
pub(super) fn wire_filters(given: &[(String, String, String)]) -> Vec<v1::DatasetFilter> {
    let mut filters: Vec<v1::DatasetFilter> = Vec::new();
    for (dataset, name, value) in given {
        if let Some(filter) = filters.iter_mut().find(|f| f.dataset == *dataset) {
            filter.parameters.insert(name.clone(), value.clone());
        } else {
            let parameters = [(name.clone(), value.clone())].into();
            filters.push(v1::DatasetFilter { dataset: dataset.clone(), parameters });
        }
    }
    filters
}

/// What nobody has drawn before.
pub(crate) fn draw_id() -> Result<[u8; 16], Failure> {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 16];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Failure::Failed("the system gives no randomness".to_owned()))?;
    Ok(bytes)
}

/// A request id nobody has drawn before.
pub(crate) fn draw_request_id() -> Result<String, Failure> {
    draw_id().map(hex::encode)
}

impl ExchangeArgs {
    fn ground(&self) -> Result<Ground, Failure> {
        let at = self.at.unwrap_or_else(crate::init::now);
        let (channel, language) = (self.channel.channel(), self.language.language());
        let notice = NoticeShown { version: self.notice, shown_at: at, channel, language };
        let given = !self.consent.is_empty();
        let ground = self.ground.unwrap_or(if given { GroundArg::Consent } else { GroundArg::LawRequest });
        if given && !matches!(ground, GroundArg::Consent) {
            return Err(Failure::Usage("--consent is for --ground consent; leave one of them out".to_owned()));
        }
        Ok(match ground {
            GroundArg::LawRequest => Ground::LawRequest { notice },
            GroundArg::Proactive => Ground::Proactive { notice },
            GroundArg::Consent if self.consent.is_empty() => Ground::Consent { consent: None },
            GroundArg::Consent => {
                let id = self.consent.parse().map_err(|error| Failure::Usage(format!("--consent{error}")))?;
                Ground::Consent { consent: Some(id) }
            }
            GroundArg::ExplicitRequest => Ground::ExplicitRequest { requested_at: at, previewed_at: None },
        })
    }

    fn message(&self) -> Result<v1::ExchangeRequest, Failure> {
        Ok(v1::ExchangeRequest {
            request_id: self.request_id.clone().map_or_else(draw_request_id, Ok)?,
            agent: self.agent.clone(),
            recipient: self.recipient.clone(),
            procedure: self.procedure.clone(),
            habilitation: self.habilitation.clone(),
            subject: Some(person::read(&self.subject)?),
            attributes: self.attributes.clone(),
            filters: wire_filters(&self.filters),
            ground: Some(wire_ground(&self.ground()?)),
            mandate_id: self.mandate.clone(),
            via: Vec::new(),
            france_connect_token: String::new(),
        })
    }
}

pub(crate) async fn run(args: ExchangeArgs) -> Result<(), Failure> {
    let message = args.message()?;
    let client = args.connection.client().await?;
    // Before anything is asked: an exchange whose receipt cannot be kept has spent a consent or a quota for nothing.
    let mut receipt = args.receipt.as_ref().map(open_receipt).transpose()?;
    let answer = client.exchange().exchange(args.connection.request(message)).await;
    if let (Err(_), Some(path)) = (&answer, &args.receipt) {
        remove_if_empty(path);
    }
    let answer = answer?.into_inner();
    if let (Some(path), Some(file)) = (&args.receipt, &mut receipt) {
        let written = std::io::Write::write_all(file, answer.receipt.as_bytes());
        written.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
    }
    if args.connection.json {
        json(&answer_json(&answer));
    } else {
        line(answer_text(&answer));
        match &args.receipt {
            Some(path) => line(format!("receipt saved in {}; check it with `unefois receipt verify`", path.display())),
            None => line("receipt not saved; give --receipt FILE to keep the proof"),
        }
    }
    Ok(())
}

/// A new file for a receipt.
pub(super) fn open_receipt(path: &std::path::PathBuf) -> Result<std::fs::File, Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    // It opens what the log keeps sealed: for its owner alone, and never over another one.
    let opened = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    opened.map_err(|error| {
        let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
        let what =
            if exists { "exists already; name another file for the receipt".to_owned() } else { error.to_string() };
        Failure::Usage(format!("{}: {what}", path.display()))
    })
}

/// A refused exchange leaves no empty receipt. One that stays is of no account.
pub(super) fn remove_if_empty(path: &std::path::Path) {
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0) {
        let _ = std::fs::remove_file(path);
    }
}

fn code(attribute: &v1::Attribute) -> &'static str {
    status(attribute).map_or("UNKNOWN", OutcomeCode::as_str)
}

/// What to do where there is no value.
fn advice(attribute: &v1::Attribute) -> &'static str {
    match status(attribute) {
        Ok(OutcomeCode::Found) | Err(_) => "",
        Ok(OutcomeCode::NoFile) => ": the source holds no file of this person; ask for the supporting document",
        Ok(OutcomeCode::NotIdentified) => {
            ": the source cannot identify the person; check the identity, or ask for the supporting document"
        }
        Ok(OutcomeCode::Ambiguous) => ": several persons match and none is picked; ask for the supporting document",
        Ok(OutcomeCode::FilterRefused) => ": the source takes no such value of a filter; change it",
        Ok(OutcomeCode::NotAuthorised) => {
            ": the source refuses the broker; its operator is told; ask for the supporting document"
        }
        Ok(OutcomeCode::RateLimited) => ": the source asks to slow down; try later, or ask for the supporting document",
        Ok(OutcomeCode::SourceDown) => ": the source did not answer; try later, or ask for the supporting document",
        Ok(OutcomeCode::Withheld) => ": the right to it ended while it was fetched",
    }
}

/// The answer for people: one line an attribute.
pub(crate) fn answer_text(answer: &v1::ExchangeResponse) -> String {
    let mut lines = Vec::new();
    for attribute in &answer.attributes {
        let value = attribute.value.as_ref().map(|value| format!(" = {}", to_json(value))).unwrap_or_default();
        lines.push(format!("{}{value} [{}]{}", attribute.name, code(attribute), advice(attribute)));
        if let Some(from) = &attribute.provenance {
            let at = from.obtained_at.as_ref().map(time_text).unwrap_or_default();
            let reference =
                if from.reference.is_empty() { String::new() } else { format!(", reference {}", from.reference) };
            lines.push(format!("  from {} version {}, obtained {at}{reference}", from.source, from.dataset_version));
        }
    }
    if !answer.withheld_reasons.is_empty() {
        lines.push(format!("everything was withheld: {}", answer.withheld_reasons.join(", ")));
    }
    lines.push(format!("exchange {}", answer.exchange_id));
    lines.join("\n")
}

fn answer_json(answer: &v1::ExchangeResponse) -> serde_json::Value {
    let attribute = |a: &v1::Attribute| {
        serde_json::json!({
            "name": a.name,
            "status": code(a),
            "value": a.value.as_ref().map(to_json),
            "provenance": a.provenance.as_ref().map(|p| serde_json::json!({
                "source": p.source,
                "dataset_version": p.dataset_version,
                "obtained_at": p.obtained_at.as_ref().map(time_text),
                "reference": p.reference,
            })),
        })
    };
    serde_json::json!({
        "exchange_id": answer.exchange_id,
        "attributes": answer.attributes.iter().map(attribute).collect::<Vec<_>>(),
        "withheld_reasons": answer.withheld_reasons,
        "receipt": answer.receipt,
    })
}
