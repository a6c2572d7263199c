//! `consent …`: what an administration asks persons for, records and hears of.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;

use super::exchange::{ChannelArg, LanguageArg};
use super::output::{json, line};
use super::{Connection, Failure, person};
use crate::text::{change_json, change_text, consent_json, consent_text};

#[derive(Debug, Subcommand)]
pub(crate) enum ConsentCommand {
    /// Ask a person for a consent; gives a link and a short code
    #[command(
        after_help = "Example:\n  unefois consent request --profile clients/departement.toml --subject personne.toml \\\n    --procedure allocation-rentree --attribute dss.quotient_familial.valeur --days 90"
    )]
    Request(RequestArgs),
    /// Record a consent that a person gave you
    #[command(
        visible_alias = "grant",
        after_help = "Example:\n  unefois consent record --profile clients/departement.toml --subject personne.toml \\\n    --procedure allocation-rentree --attribute dss.quotient_familial.valeur --days 90 --channel counter"
    )]
    Record(RecordArgs),
    /// Record that a person gives a consent again, with another end
    Renew(RenewArgs),
    /// Withdraw a consent: no reason, effective at once
    #[command(after_help = "Example:\n  unefois consent withdraw ID --profile clients/departement.toml")]
    Withdraw(OneArgs),
    /// Record another decision on a consent
    Decide(DecideArgs),
    /// Show one consent
    Show(OneArgs),
    /// List the consents that a person gave you
    #[command(
        after_help = "Example:\n  unefois consent list --profile clients/departement.toml --subject personne.toml"
    )]
    List(ListArgs),
    /// Print a consent receipt in the form of Kantara or of the Data Privacy Vocabulary
    Export(ExportArgs),
    /// Print the changes that concern you, first the old ones, then each as it comes
    #[command(after_help = "Example:\n  unefois consent watch --profile clients/departement.toml --after 1042 --json")]
    Watch(WatchArgs),
    /// Record that a person objects to proactive use
    Object(ObjectArgs),
    /// Record that a person lifts an objection
    Lift(ObjectArgs),
}

/// What a consent is for.
#[derive(Debug, clap::Args)]
struct TermsArgs {
    /// For which procedure
    #[arg(long)]
    procedure: String,
    /// For which attribute; may be given several times
    #[arg(long = "attribute", short, value_name = "ATTRIBUTE", required = true)]
    attributes: Vec<String>,
    /// SIRET that may use the data, where it is not yours alone; may be given several times
    #[arg(long = "recipient", value_name = "SIRET")]
    recipients: Vec<String>,
    /// Months that the data may be about: 2026-01 or 2026-01..2026-12
    #[arg(long, value_name = "MONTHS")]
    months: Option<String>,
    /// Version of the notice that the person reads
    #[arg(long, value_name = "VERSION", default_value_t = 1)]
    notice: u32,
    /// Language of the notice
    #[arg(long, value_enum, default_value = "fr")]
    language: LanguageArg,
    /// How many days it holds
    #[arg(long, default_value_t = 90)]
    days: u32,
    /// May be used only once
    #[arg(long, conflicts_with = "times")]
    one_time: bool,
    /// May be used so often in each window of --per
    #[arg(long, value_name = "COUNT", requires = "per")]
    times: Option<u32>,
    /// Length of a window
    #[arg(long, value_enum, value_name = "UNIT", requires = "times")]
    per: Option<UnitArg>,
    /// The data is kept for so many days; without this nothing is kept
    #[arg(long, value_name = "DAYS")]
    store_days: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UnitArg {
    Hour,
    Day,
    Month,
    Year,
}

impl UnitArg {
    fn on_wire(self) -> i32 {
        match self {
            Self::Hour => v1::TimeUnit::Hour as i32,
            Self::Day => v1::TimeUnit::Day as i32,
            Self::Month => v1::TimeUnit::Month as i32,
            Self::Year => v1::TimeUnit::Year as i32,
        }
    }
}

/// So many days from now, on the wire.
pub(super) fn in_days(days: u32) -> Option<prost_types::Timestamp> {
    let duration = std::time::Duration::from_secs(u64::from(days) * 24 * 60 * 60);
    Some(wire_instant(crate::init::now().plus(duration)))
}

impl TermsArgs {
    fn on_wire(&self) -> v1::ConsentTerms {
        let frequency = self.times.zip(self.per).map(|(times, per)| v1::Frequency { times, per: per.on_wire() });
        let use_ = match (self.one_time, &frequency) {
            (true, _) => v1::ConsentUse::OneTime,
            (false, Some(_)) => v1::ConsentUse::Periodic,
            (false, None) => v1::ConsentUse::Repeated,
        };
        let months = self.months.as_ref().map(|months| {
            let (from, to) = months.split_once("..").unwrap_or((months, months));
            v1::DataPeriod { from: from.to_owned(), to: to.to_owned() }
        });
        let storage = self.store_days.map(|value| v1::DataStorage { value, unit: v1::TimeUnit::Day as i32 });
        v1::ConsentTerms {
            procedure: self.procedure.clone(),
            attributes: self.attributes.clone(),
            recipients: self.recipients.clone(),
            filters: Vec::new(),
            period: months,
            notice_version: self.notice,
            language: self.language.on_wire(),
            not_before: None,
            expires_at: in_days(self.days),
            r#use: use_ as i32,
            frequency,
            store: storage.is_some(),
            storage,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct RequestArgs {
    #[command(flatten)]
    connection: Connection,
    /// The person: a file in TOML or JSON, or - for the standard input
    #[arg(long, value_name = "FILE")]
    subject: PathBuf,
    #[command(flatten)]
    terms: TermsArgs,
    /// Within how many days the person may answer
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    answer_days: u32,
    /// The agent or the system that asks
    #[arg(long, default_value = "unefois consent")]
    agent: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    connection: Connection,
    /// The person: a file in TOML or JSON, or - for the standard input
    #[arg(long, value_name = "FILE")]
    subject: PathBuf,
    #[command(flatten)]
    terms: TermsArgs,
    /// How the person indicated it
    #[arg(long, value_enum, default_value = "online")]
    channel: ChannelArg,
    /// SHA-256 of the evidence that you keep
    #[arg(long, value_name = "HEX", default_value = "")]
    evidence: String,
    /// The mandate of the representative who gave it
    #[arg(long, value_name = "ID", default_value = "")]
    mandate: String,
    /// The request that this answers
    #[arg(long, value_name = "ID", default_value = "")]
    request: String,
    /// The agent or the system that records it
    #[arg(long, default_value = "unefois consent")]
    agent: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RenewArgs {
    #[command(flatten)]
    connection: Connection,
    /// The consent
    id: String,
    /// Version of the notice that the person read now
    #[arg(long, value_name = "VERSION", default_value_t = 1)]
    notice: u32,
    /// Language of the notice
    #[arg(long, value_enum, default_value = "fr")]
    language: LanguageArg,
    /// How many days it holds from now
    #[arg(long, default_value_t = 90)]
    days: u32,
    /// How the person indicated it
    #[arg(long, value_enum, default_value = "online")]
    channel: ChannelArg,
    /// SHA-256 of the evidence that you keep
    #[arg(long, value_name = "HEX", default_value = "")]
    evidence: String,
    /// The agent or the system that records it
    #[arg(long, default_value = "unefois consent")]
    agent: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    #[command(flatten)]
    connection: Connection,
    /// The consent
    id: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DecisionArg {
    /// The person refuses a request
    Refuse,
    /// The person holds the consent back
    Pause,
    /// The person lets it count again
    Resume,
    /// It was never valid
    Invalidate,
    /// An authority ends it (role registry)
    Revoke,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DecideArgs {
    #[command(flatten)]
    connection: Connection,
    /// The consent
    id: String,
    /// What is decided
    #[arg(value_enum)]
    decision: DecisionArg,
    /// SHA-256 of the document that it rests on
    #[arg(long, value_name = "HEX", default_value = "")]
    evidence: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    connection: Connection,
    /// The person: a file in TOML or JSON, or - for the standard input
    #[arg(long, value_name = "FILE")]
    subject: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatArg {
    /// Kantara Consent Receipt 1.1
    Kantara,
    /// ISO/IEC TS 27560 record, DPV JSON-LD
    DpvRecord,
    /// ISO/IEC TS 27560 receipt, DPV JSON-LD
    DpvReceipt,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    connection: Connection,
    /// The consent
    id: String,
    /// The form
    #[arg(long, value_enum, default_value = "kantara")]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    connection: Connection,
    /// Cursor of the last change that you have; without it all are printed
    #[arg(long, value_name = "CURSOR")]
    after: Option<u64>,
    /// End after so many changes
    #[arg(long, value_name = "COUNT")]
    count: Option<usize>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ObjectArgs {
    #[command(flatten)]
    connection: Connection,
    /// The person: a file in TOML or JSON, or - for the standard input
    #[arg(long, value_name = "FILE")]
    subject: PathBuf,
    /// For which procedure; all of yours where absent
    #[arg(long, default_value = "")]
    procedure: String,
}

pub(crate) async fn run(command: ConsentCommand) -> Result<(), Failure> {
    match command {
        ConsentCommand::Request(args) => request(args).await,
        ConsentCommand::Record(args) => record(args).await,
        ConsentCommand::Renew(args) => renew(args).await,
        ConsentCommand::Withdraw(args) => withdraw(args).await,
        ConsentCommand::Decide(args) => decide(args).await,
        ConsentCommand::Show(args) => show(args).await,
        ConsentCommand::List(args) => list(args).await,
        ConsentCommand::Export(args) => export(args).await,
        ConsentCommand::Watch(args) => watch(args).await,
        ConsentCommand::Object(args) => object(args, false).await,
        ConsentCommand::Lift(args) => object(args, true).await,
    }
}

async fn request(args: RequestArgs) -> Result<(), Failure> {
    let request = v1::RequestConsentRequest {
        agent: args.agent.clone(),
        subject: Some(person::read(&args.subject)?),
        terms: Some(args.terms.on_wire()),
        answer_by: in_days(args.answer_days),
    };
    let client = args.connection.client().await?;
    let answer = client.consent().request_consent(args.connection.request(request)).await?.into_inner();
    if args.connection.json {
        let consent = answer.consent.as_ref().map(consent_json);
        json(&serde_json::json!({ "consent": consent, "link": answer.link, "code": answer.code }));
        return Ok(());
    }
    print(&args.connection, answer.consent.as_slice());
    line(format!("  code for the counter: {}", answer.code));
    if !answer.link.is_empty() {
        line(format!("  link for the person: {}", answer.link));
    }
    Ok(())
}

async fn record(args: RecordArgs) -> Result<(), Failure> {
    let request = v1::RecordConsentRequest {
        agent: args.agent.clone(),
        subject: Some(person::read(&args.subject)?),
        terms: Some(args.terms.on_wire()),
        channel: args.channel.on_wire(),
        evidence_sha256: args.evidence.clone(),
        assurance: None,
        mandate_id: args.mandate.clone(),
        request_id: args.request.clone(),
    };
    let client = args.connection.client().await?;
    let answer = client.consent().record_consent(args.connection.request(request)).await?.into_inner();
    print(&args.connection, answer.consent.as_slice());
    Ok(())
}

async fn renew(args: RenewArgs) -> Result<(), Failure> {
    let request = v1::RenewConsentRequest {
        agent: args.agent.clone(),
        consent_id: args.id.clone(),
        notice_version: args.notice,
        language: args.language.on_wire(),
        expires_at: in_days(args.days),
        channel: args.channel.on_wire(),
        evidence_sha256: args.evidence.clone(),
        assurance: None,
        mandate_id: String::new(),
    };
    let client = args.connection.client().await?;
    let answer = client.consent().renew_consent(args.connection.request(request)).await?.into_inner();
    print(&args.connection, answer.consent.as_slice());
    Ok(())
}

async fn withdraw(args: OneArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let request = v1::WithdrawConsentRequest { consent_id: args.id.clone() };
    let answer = client.consent().withdraw_consent(args.connection.request(request)).await?.into_inner();
    print(&args.connection, answer.consent.as_slice());
    Ok(())
}

async fn decide(args: DecideArgs) -> Result<(), Failure> {
    let decision = match args.decision {
        DecisionArg::Refuse => v1::Decision::Refuse,
        DecisionArg::Pause => v1::Decision::Pause,
        DecisionArg::Resume => v1::Decision::Resume,
        DecisionArg::Invalidate => v1::Decision::Invalidate,
        DecisionArg::Revoke => v1::Decision::Revoke,
    };
    let request = v1::DecideConsentRequest {
        consent_id: args.id.clone(),
        decision: decision as i32,
        evidence_sha256: args.evidence.clone(),
    };
    let client = args.connection.client().await?;
    let answer = client.consent().decide_consent(args.connection.request(request)).await?.into_inner();
    print(&args.connection, answer.consent.as_slice());
    Ok(())
}

async fn show(args: OneArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let request = v1::GetConsentRequest { consent_id: args.id.clone() };
    let answer = client.consent().get_consent(args.connection.request(request)).await?.into_inner();
    print(&args.connection, answer.consent.as_slice());
    Ok(())
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let subject = person::read(&args.subject)?;
    let (mut consents, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListConsentsRequest { subject: Some(subject.clone()), page_size: 0, page_token };
        let page = client.consent().list_consents(args.connection.request(request)).await?.into_inner();
        consents.extend(page.consents);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    print(&args.connection, &consents);
    Ok(())
}

async fn export(args: ExportArgs) -> Result<(), Failure> {
    let format = match args.format {
        FormatArg::Kantara => v1::ConsentFormat::Kantara,
        FormatArg::DpvRecord => v1::ConsentFormat::DpvRecord,
        FormatArg::DpvReceipt => v1::ConsentFormat::DpvReceipt,
    };
    let client = args.connection.client().await?;
    let request = v1::ExportConsentRequest { consent_id: args.id.clone(), format: format as i32 };
    let answer = client.consent().export_consent(args.connection.request(request)).await?.into_inner();
    line(answer.document);
    Ok(())
}

async fn watch(args: WatchArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    // No deadline: the stream goes on until it is stopped.
    let request = v1::WatchConsentsRequest { cursor: args.after };
    let mut changes = client.consent().watch_consents(request).await?.into_inner();
    let mut printed = 0;
    while args.count.is_none_or(|count| printed < count) {
        let Some(change) = changes.message().await? else { break };
        if args.connection.json {
            line(change_json(&change).to_string());
        } else {
            line(change_text(&change));
        }
        printed += 1;
    }
    Ok(())
}

async fn object(args: ObjectArgs, lift: bool) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let (subject, procedure) = (Some(person::read(&args.subject)?), args.procedure.clone());
    if lift {
        let request = v1::LiftObjectionRequest { subject, procedure };
        client.consent().lift_objection(args.connection.request(request)).await?;
    } else {
        let request = v1::RecordObjectionRequest { subject, procedure };
        client.consent().record_objection(args.connection.request(request)).await?;
    }
    let said = if lift { "lifted" } else { "recorded" };
    if args.connection.json {
        json(&serde_json::json!({ "objection": said }));
    } else {
        line(format!("objection {said}"));
    }
    Ok(())
}

pub(super) fn print(connection: &Connection, consents: &[v1::Consent]) {
    if connection.json {
        json(&consents.iter().map(consent_json).collect());
        return;
    }
    if consents.is_empty() {
        line("no consent");
    }
    for consent in consents {
        line(consent_text(consent));
    }
}
