//! `consent grant`, `withdraw` and `list`.

use std::path::PathBuf;

use clap::Subcommand;
use unefois_consent::Timestamp;
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;

use super::exchange::{ChannelArg, LanguageArg, time_text};
use super::output::{json, line};
use super::{Connection, Failure, person};

#[derive(Debug, Subcommand)]
pub(crate) enum ConsentCommand {
    /// Record a consent that a person gave
    #[command(
        after_help = "Example:\n  unefois consent grant --profile clients/departement.toml --subject personne.toml \\\n    --procedure allocation-rentree --attribute dss.quotient_familial.valeur --days 90"
    )]
    Grant(GrantArgs),
    /// Withdraw a consent: no reason, effective at once
    #[command(after_help = "Example:\n  unefois consent withdraw ID --profile clients/departement.toml")]
    Withdraw(WithdrawArgs),
    /// List the consents that a person gave you
    #[command(
        after_help = "Example:\n  unefois consent list --profile clients/departement.toml --subject personne.toml"
    )]
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct GrantArgs {
    #[command(flatten)]
    connection: Connection,
    /// The person: a file in TOML or JSON, or - for the standard input
    #[arg(long, value_name = "FILE")]
    subject: PathBuf,
    /// For which procedure
    #[arg(long)]
    procedure: String,
    /// For which attribute; may be given several times
    #[arg(long = "attribute", short, value_name = "ATTRIBUTE", required = true)]
    attributes: Vec<String>,
    /// Version of the notice that the person read
    #[arg(long, value_name = "VERSION", default_value_t = 1)]
    notice: u32,
    /// How the person indicated it
    #[arg(long, value_enum, default_value = "online")]
    channel: ChannelArg,
    /// Language of the notice
    #[arg(long, value_enum, default_value = "fr")]
    language: LanguageArg,
    /// How many days it holds
    #[arg(long, default_value_t = 90)]
    days: u32,
    /// May be used only once
    #[arg(long)]
    one_time: bool,
    /// SHA-256 of the evidence that you keep
    #[arg(long, value_name = "HEX", default_value = "")]
    evidence: String,
    /// The agent or the system that records it
    #[arg(long, default_value = "unefois consent")]
    agent: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WithdrawArgs {
    #[command(flatten)]
    connection: Connection,
    /// The consent
    id: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    connection: Connection,
    /// The person: a file in TOML or JSON, or - for the standard input
    #[arg(long, value_name = "FILE")]
    subject: PathBuf,
}

pub(crate) async fn run(command: ConsentCommand) -> Result<(), Failure> {
    match command {
        ConsentCommand::Grant(args) => grant(args).await,
        ConsentCommand::Withdraw(args) => withdraw(args).await,
        ConsentCommand::List(args) => list(args).await,
    }
}

async fn grant(args: GrantArgs) -> Result<(), Failure> {
    let usage = if args.one_time { v1::ConsentUse::OneTime } else { v1::ConsentUse::Repeated };
    let days = std::time::Duration::from_secs(u64::from(args.days) * 24 * 60 * 60);
    let request = v1::GrantConsentRequest {
        agent: args.agent.clone(),
        subject: Some(person::read(&args.subject)?),
        procedure: args.procedure.clone(),
        attributes: args.attributes.clone(),
        notice_version: args.notice,
        language: match args.language {
            LanguageArg::Fr => v1::Language::French,
            LanguageArg::En => v1::Language::English,
        } as i32,
        channel: match args.channel {
            ChannelArg::Online => v1::Channel::Online,
            ChannelArg::Counter => v1::Channel::Counter,
            ChannelArg::Phone => v1::Channel::Phone,
            ChannelArg::Post => v1::Channel::Post,
        } as i32,
        evidence_sha256: args.evidence.clone(),
        not_before: None,
        expires_at: Some(wire_instant(crate::init::now().plus(days))),
        r#use: usage as i32,
    };
    let client = args.connection.client().await?;
    let answer = client.consent().grant_consent(args.connection.request(request)).await?.into_inner();
    print(&args.connection, answer.consent.as_slice());
    Ok(())
}

async fn withdraw(args: WithdrawArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let request = v1::WithdrawConsentRequest { consent_id: args.id.clone() };
    let answer = client.consent().withdraw_consent(args.connection.request(request)).await?.into_inner();
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

fn print(connection: &Connection, consents: &[v1::Consent]) {
    if connection.json {
        json(&consents.iter().map(consent_json).collect());
        return;
    }
    if consents.is_empty() {
        line("no consent");
    }
    for consent in consents {
        line(consent_text(consent, crate::init::now()));
    }
}

/// A consent for people.
pub(crate) fn consent_text(consent: &v1::Consent, now: Timestamp) -> String {
    let until = consent.expires_at.as_ref().map(time_text).unwrap_or_default();
    let state = match &consent.withdrawn_at {
        Some(at) => format!("withdrawn {}", time_text(at)),
        None if until < now.to_string() => format!("expired {until}"),
        None => format!("in force until {until}"),
    };
    let once = if consent.r#use == v1::ConsentUse::OneTime as i32 { ", for one use" } else { "" };
    format!(
        "consent {} for {}: {state}{once}, used {} times\n  {}",
        consent.id,
        consent.procedure,
        consent.uses,
        consent.attributes.join(", ")
    )
}

fn consent_json(consent: &v1::Consent) -> serde_json::Value {
    serde_json::json!({
        "id": consent.id,
        "consumer": consent.consumer,
        "procedure": consent.procedure,
        "attributes": consent.attributes,
        "notice_version": consent.notice_version,
        "notice_sha256": consent.notice_sha256,
        "not_before": consent.not_before.as_ref().map(time_text),
        "expires_at": consent.expires_at.as_ref().map(time_text),
        "granted_at": consent.granted_at.as_ref().map(time_text),
        "withdrawn_at": consent.withdrawn_at.as_ref().map(time_text),
        "one_time": consent.r#use == v1::ConsentUse::OneTime as i32,
        "uses": consent.uses,
    })
}
