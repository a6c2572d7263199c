//! `consent …`: what an administration asks persons for, records and hears of.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use unefois_proto::v1;

use super::exchange::{ChannelArg, LanguageArg};
use super::output::{json, line, parse_duration};
use super::{Connection, Failure, person};
use crate::text::{change_json, change_text, consent_json, consent_text};

mod objections;
mod terms;

use objections::ObjectArgs;
use terms::TermsArgs;
pub(super) use terms::in_days;

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
    /// List a person's objections to proactive use by you
    #[command(
        after_help = "Example:\n  unefois consent objections --profile clients/ville.toml --subject personne.toml"
    )]
    Objections(ListArgs),
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
    /// End after so long, such as 30s; without it the watch goes on until it is stopped, and --timeout is for connecting alone
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    time: Option<std::time::Duration>,
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
        ConsentCommand::Object(args) => objections::object(args, false).await,
        ConsentCommand::Lift(args) => objections::object(args, true).await,
        ConsentCommand::Objections(args) => objections::list(args).await,
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
    print_one(&args.connection, answer.consent.as_ref());
    line(format!("  code for the counter: {}", answer.code));
    if answer.link.is_empty() {
        line("  no link: the broker's operator has set no server.portal_url; the person uses the code");
    } else {
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
    print_one(&args.connection, answer.consent.as_ref());
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
    print_one(&args.connection, answer.consent.as_ref());
    Ok(())
}

async fn withdraw(args: OneArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let request = v1::WithdrawConsentRequest { consent_id: args.id.clone() };
    let answer = client.consent().withdraw_consent(args.connection.request(request)).await?.into_inner();
    print_one(&args.connection, answer.consent.as_ref());
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
    print_one(&args.connection, answer.consent.as_ref());
    Ok(())
}

async fn show(args: OneArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let request = v1::GetConsentRequest { consent_id: args.id.clone() };
    let answer = client.consent().get_consent(args.connection.request(request)).await?.into_inner();
    print_one(&args.connection, answer.consent.as_ref());
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
    match args.time {
        None => print_changes(&args).await,
        // What was printed was printed whole: the end comes between two changes.
        Some(time) => tokio::time::timeout(time, print_changes(&args)).await.unwrap_or(Ok(())),
    }
}

async fn print_changes(args: &WatchArgs) -> Result<(), Failure> {
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

/// Prints the consent that a call was about: an object in JSON.
pub(super) fn print_one(connection: &Connection, consent: Option<&v1::Consent>) {
    let Some(consent) = consent else { return };
    if connection.json {
        json(&consent_json(consent));
    } else {
        line(consent_text(consent));
    }
}

/// Prints a list of consents: an array in JSON.
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
