//! `me …`: what a person sees and decides, through a portal's key and an identity provider's word.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use unefois_proto::v1;

use super::consent::{in_days, print, print_one};
use super::exchange::LanguageArg;
use super::output::{json, line, read_text};
use super::{Connection, Failure, mandate, person};
use crate::text::{consent_json, consent_text, mandate_json, mandate_text, time_text};

mod objections;

use objections::ObjectArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum MeCommand {
    /// What I agreed to, and what I am asked for
    #[command(
        after_help = "Example:\n  unefois me consents --profile clients/portail.toml --id-token jeton.jwt --waiting"
    )]
    Consents(ConsentsArgs),
    /// One consent or request, with the notice to read
    Show(OneArgs),
    /// Say yes to a request
    Grant(GrantArgs),
    /// Refuse, withdraw, pause or resume: no reason, effective at once
    Decide(DecideArgs),
    /// Give a consent again, with another end
    Renew(RenewArgs),
    /// Object to proactive use by an administration, or lift that
    Object(ObjectArgs),
    /// My objections in force
    Objections(WhoArgs),
    /// Who asked what about me, why, and what became of it
    Exchanges(WhoArgs),
    /// Mandates under which I act for another, or another for me
    Mandates(WhoArgs),
    /// End a mandate that I gave, or under which I act
    EndMandate(EndMandateArgs),
    /// The receipt of an entry about me
    Receipt(ReceiptArgs),
    /// All that is held about me, as one JSON document (GDPR 15 and 20)
    Export(WhoArgs),
    /// Sign an ID token with the development identity provider of `unefois init`
    #[command(after_help = "Example:\n  unefois me token --key pki/identite.key --subject personne.toml > jeton.jwt")]
    Token(TokenArgs),
}

/// Who the person is.
#[derive(Debug, clap::Args)]
pub(crate) struct WhoArgs {
    #[command(flatten)]
    connection: Connection,
    /// File with the identity provider's ID token
    #[arg(long, value_name = "FILE")]
    id_token: PathBuf,
    /// File with the provider's signed UserInfo answer, where the ID token has no identity
    #[arg(long, value_name = "FILE")]
    user_info: Option<PathBuf>,
    /// The mandate under which the person acts for another
    #[arg(long, value_name = "ID", default_value = "")]
    mandate: String,
}

impl WhoArgs {
    fn assertion(&self) -> Result<Option<v1::IdentityAssertion>, Failure> {
        let read = |path: &PathBuf| read_text(path).map(|text| text.trim().to_owned());
        Ok(Some(v1::IdentityAssertion {
            id_token: read(&self.id_token)?,
            user_info: self.user_info.as_ref().map(read).transpose()?.unwrap_or_default(),
            mandate_id: self.mandate.clone(),
        }))
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct ConsentsArgs {
    #[command(flatten)]
    who: WhoArgs,
    /// Only what waits for an answer
    #[arg(long)]
    waiting: bool,
    /// Only the request of this code
    #[arg(long, default_value = "")]
    code: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    #[command(flatten)]
    who: WhoArgs,
    /// The consent
    id: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GrantArgs {
    #[command(flatten)]
    who: WhoArgs,
    /// The request
    id: String,
    /// In which language the notice was read
    #[arg(long, value_enum, default_value = "fr")]
    language: LanguageArg,
    /// Only this attribute; may be given several times
    #[arg(long = "attribute", short, value_name = "ATTRIBUTE")]
    attributes: Vec<String>,
    /// An earlier end, in days from now
    #[arg(long)]
    days: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DecisionArg {
    Refuse,
    Withdraw,
    Pause,
    Resume,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DecideArgs {
    #[command(flatten)]
    who: WhoArgs,
    /// The consent
    id: String,
    /// What the person decides
    #[arg(value_enum)]
    decision: DecisionArg,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RenewArgs {
    #[command(flatten)]
    who: WhoArgs,
    /// The consent
    id: String,
    /// Version of the notice that was read
    #[arg(long, value_name = "VERSION", default_value_t = 1)]
    notice: u32,
    /// In which language the notice was read
    #[arg(long, value_enum, default_value = "fr")]
    language: LanguageArg,
    /// The new end, in days from now
    #[arg(long, default_value_t = 90)]
    days: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct EndMandateArgs {
    #[command(flatten)]
    who: WhoArgs,
    /// The mandate
    id: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReceiptArgs {
    #[command(flatten)]
    who: WhoArgs,
    /// Index of the entry
    index: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// The provider's key, as `unefois init` made it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The person: a file in TOML or JSON, or - for the standard input
    #[arg(long, value_name = "FILE")]
    subject: PathBuf,
    /// How well the person is proven: eidas1, eidas2 or eidas3
    #[arg(long, default_value = "eidas1")]
    acr: String,
}

/// For development only: who has this key is whoever they say.
fn token(args: &TokenArgs) -> Result<(), Failure> {
    let text = std::fs::read_to_string(&args.key)
        .map_err(|error| Failure::Usage(format!("{}: {error}", args.key.display())))?;
    let identity = unefois_proto::common::identity("subject", Some(&person::read(&args.subject)?))
        .map_err(|fault| Failure::Usage(fault.to_string()))?;
    let signed = crate::init::development_token(&text, &identity, &args.acr, crate::init::now());
    line(signed.map_err(|error| Failure::Usage(format!("{}: {error}", args.key.display())))?);
    Ok(())
}

pub(crate) async fn run(command: MeCommand) -> Result<(), Failure> {
    match command {
        MeCommand::Consents(args) => consents(args).await,
        MeCommand::Show(args) => show(args).await,
        MeCommand::Grant(args) => grant(args).await,
        MeCommand::Decide(args) => decide(args).await,
        MeCommand::Renew(args) => renew(args).await,
        MeCommand::Object(args) => objections::object(args).await,
        MeCommand::Objections(args) => objections::list(args).await,
        MeCommand::Exchanges(args) => exchanges(args).await,
        MeCommand::Mandates(args) => mandates(args).await,
        MeCommand::EndMandate(args) => end_mandate(args).await,
        MeCommand::Receipt(args) => receipt(args).await,
        MeCommand::Export(args) => export(args).await,
        MeCommand::Token(args) => token(&args),
    }
}

async fn consents(args: ConsentsArgs) -> Result<(), Failure> {
    let client = args.who.connection.client().await?;
    let (mut consents, mut names, mut page_token) = (Vec::new(), HashMap::new(), String::new());
    loop {
        let request = v1::ListMyConsentsRequest {
            assertion: args.who.assertion()?,
            waiting_only: args.waiting,
            code: args.code.clone(),
            page_size: 0,
            page_token,
        };
        let page = client.citizen().list_my_consents(args.who.connection.request(request)).await?.into_inner();
        consents.extend(page.consents);
        names.extend(page.consumer_names);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if args.who.connection.json || consents.is_empty() {
        print(&args.who.connection, &consents);
    } else {
        for consent in &consents {
            let name = names.get(&consent.consumer).map(|name| format!("{name}, ")).unwrap_or_default();
            line(format!(
                "{}\n  to {name}SIRET {}; more: unefois me show {}",
                consent_text(consent),
                consent.consumer,
                consent.id
            ));
        }
    }
    Ok(())
}

async fn show(args: OneArgs) -> Result<(), Failure> {
    let client = args.who.connection.client().await?;
    let request = v1::GetMyConsentRequest { assertion: args.who.assertion()?, consent_id: args.id.clone() };
    let shown = client.citizen().get_my_consent(args.who.connection.request(request)).await?.into_inner();
    if args.who.connection.json {
        json(&serde_json::json!({
            "consent": shown.consent.as_ref().map(consent_json),
            "consumer_name": shown.consumer_name,
            "procedure_title": shown.procedure_title,
            "attribute_titles": shown.attribute_titles,
            "notice_fr": shown.notice_fr,
            "notice_en": shown.notice_en,
            "dpo_contact": shown.dpo_contact,
        }));
        return Ok(());
    }
    if let Some(consent) = &shown.consent {
        line(consent_text(consent));
    }
    line(format!("  {} · {}", shown.consumer_name, shown.procedure_title));
    line(format!("  {}", shown.attribute_titles.join(", ")));
    line(format!("  {}", shown.notice_fr));
    line(format!("  {}", shown.notice_en));
    line(format!("  write to {}", shown.dpo_contact));
    Ok(())
}

async fn grant(args: GrantArgs) -> Result<(), Failure> {
    let client = args.who.connection.client().await?;
    let request = v1::GrantMyConsentRequest {
        assertion: args.who.assertion()?,
        consent_id: args.id.clone(),
        language: args.language.on_wire(),
        attributes: args.attributes.clone(),
        expires_at: args.days.and_then(in_days),
    };
    let answer = client.citizen().grant_my_consent(args.who.connection.request(request)).await?.into_inner();
    print_one(&args.who.connection, answer.consent.as_ref());
    Ok(())
}

async fn decide(args: DecideArgs) -> Result<(), Failure> {
    let decision = match args.decision {
        DecisionArg::Refuse => v1::Decision::Refuse,
        DecisionArg::Withdraw => v1::Decision::Withdraw,
        DecisionArg::Pause => v1::Decision::Pause,
        DecisionArg::Resume => v1::Decision::Resume,
    };
    let client = args.who.connection.client().await?;
    let request = v1::DecideMyConsentRequest {
        assertion: args.who.assertion()?,
        consent_id: args.id.clone(),
        decision: decision as i32,
    };
    let answer = client.citizen().decide_my_consent(args.who.connection.request(request)).await?.into_inner();
    print_one(&args.who.connection, answer.consent.as_ref());
    Ok(())
}

async fn renew(args: RenewArgs) -> Result<(), Failure> {
    let client = args.who.connection.client().await?;
    let request = v1::RenewMyConsentRequest {
        assertion: args.who.assertion()?,
        consent_id: args.id.clone(),
        notice_version: args.notice,
        language: args.language.on_wire(),
        expires_at: in_days(args.days),
    };
    let answer = client.citizen().renew_my_consent(args.who.connection.request(request)).await?.into_inner();
    print_one(&args.who.connection, answer.consent.as_ref());
    Ok(())
}

fn exchange_text(exchange: &v1::MyExchange) -> String {
    let at = exchange.at.as_ref().map(time_text).unwrap_or_default();
    let outcome = exchange.outcome().as_str_name().trim_start_matches("EXCHANGE_OUTCOME_").to_lowercase();
    let ground = exchange.ground().as_str_name().trim_start_matches("GROUND_KIND_");
    let attributes: Vec<_> = exchange
        .attributes
        .iter()
        .map(|a| if a.status.is_empty() { a.name.clone() } else { format!("{} {}", a.name, a.status) })
        .collect();
    let why = if exchange.reasons.is_empty() { String::new() } else { format!(" [{}]", exchange.reasons.join(", ")) };
    let receipt = exchange.receipt_index.map(|index| format!("\n  receipt {index}")).unwrap_or_default();
    format!(
        "{at}  {} for {}, ground {ground}: {outcome}{why}\n  {}{receipt}",
        exchange.consumer_name,
        exchange.procedure,
        attributes.join(", ")
    )
}

fn exchange_json(exchange: &v1::MyExchange) -> serde_json::Value {
    let attributes = exchange.attributes.iter().map(|a| (a.name.clone(), serde_json::json!(a.status)));
    serde_json::json!({
        "exchange": exchange.exchange_id,
        "at": exchange.at.as_ref().map(time_text),
        "consumer": exchange.consumer,
        "consumer_name": exchange.consumer_name,
        "recipient": exchange.recipient,
        "procedure": exchange.procedure,
        "ground": exchange.ground().as_str_name().trim_start_matches("GROUND_KIND_"),
        "consent": exchange.consent_id,
        "mandate": exchange.mandate_id,
        "attributes": attributes.collect::<serde_json::Map<_, _>>(),
        "sources": exchange.sources,
        "outcome": exchange.outcome().as_str_name().trim_start_matches("EXCHANGE_OUTCOME_"),
        "reasons": exchange.reasons,
        "receipt_index": exchange.receipt_index,
    })
}

async fn exchanges(args: WhoArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let (mut exchanges, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListMyExchangesRequest { assertion: args.assertion()?, page_size: 0, page_token };
        let page = client.citizen().list_my_exchanges(args.connection.request(request)).await?.into_inner();
        exchanges.extend(page.exchanges);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if args.connection.json {
        json(&exchanges.iter().map(exchange_json).collect());
        return Ok(());
    }
    if exchanges.is_empty() {
        line("nobody asked about this person");
    }
    for exchange in &exchanges {
        line(exchange_text(exchange));
    }
    Ok(())
}

async fn mandates(args: WhoArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let request = v1::ListMyMandatesRequest { assertion: args.assertion()? };
    let answer = client.citizen().list_my_mandates(args.connection.request(request)).await?.into_inner();
    if args.connection.json {
        let one = |mine: &v1::MyMandate| serde_json::json!({ "mandate": mine.mandate.as_ref().map(mandate_json), "i_act": mine.i_act });
        json(&answer.mandates.iter().map(one).collect());
        return Ok(());
    }
    if answer.mandates.is_empty() {
        line("no mandate");
    }
    for mine in &answer.mandates {
        let who = if mine.i_act { "you act" } else { "somebody acts for you" };
        line(format!("{}, {who}", mine.mandate.as_ref().map(mandate_text).unwrap_or_default()));
    }
    Ok(())
}

async fn end_mandate(args: EndMandateArgs) -> Result<(), Failure> {
    let client = args.who.connection.client().await?;
    let request = v1::EndMyMandateRequest { assertion: args.who.assertion()?, mandate_id: args.id.clone() };
    let answer = client.citizen().end_my_mandate(args.who.connection.request(request)).await?.into_inner();
    mandate::print(&args.who.connection, answer.mandate.as_ref());
    Ok(())
}

async fn receipt(args: ReceiptArgs) -> Result<(), Failure> {
    let client = args.who.connection.client().await?;
    let request = v1::GetMyReceiptRequest { assertion: args.who.assertion()?, index: args.index };
    let answer = client.citizen().get_my_receipt(args.who.connection.request(request)).await?.into_inner();
    line(answer.receipt);
    Ok(())
}

async fn export(args: WhoArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let request = v1::ExportMineRequest { assertion: args.assertion()? };
    let mut items = client.citizen().export_mine(request).await?.into_inner();
    let mut document = serde_json::Map::new();
    while let Some(item) = items.message().await? {
        let value = serde_json::from_str(&item.item).map_err(|error| Failure::Failed(error.to_string()))?;
        if let serde_json::Value::Array(list) =
            document.entry(format!("{}s", item.kind)).or_insert_with(|| serde_json::Value::Array(Vec::new()))
        {
            list.push(value);
        }
    }
    json(&serde_json::Value::Object(document));
    Ok(())
}
