//! `webhook …`: where an administration's webhooks stand, and what they could not deliver.

use clap::Subcommand;
use unefois_proto::v1;

use super::output::{json, line};
use super::{Connection, Failure};
use crate::text::time_text;

#[derive(Debug, Subcommand)]
pub(crate) enum WebhookCommand {
    /// Show your webhooks and their dead letters
    #[command(after_help = "Example:\n  unefois webhook list --profile clients/departement.toml")]
    List(ListArgs),
    /// Send dead letters again, oldest first; ends at the first that fails
    #[command(after_help = "Example:\n  unefois webhook replay --profile clients/departement.toml aides")]
    Replay(ReplayArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    connection: Connection,
    /// The webhook
    name: String,
    /// Which changes, by their cursors; all dead letters where absent
    cursors: Vec<u64>,
}

pub(crate) async fn run(command: WebhookCommand) -> Result<(), Failure> {
    match command {
        WebhookCommand::List(args) => list(args).await,
        WebhookCommand::Replay(args) => replay(args).await,
    }
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let request = args.connection.request(v1::ListWebhooksRequest {});
    let webhooks = client.consent().list_webhooks(request).await?.into_inner().webhooks;
    if args.connection.json {
        json(&serde_json::json!({ "webhooks": webhooks.iter().map(webhook_json).collect::<Vec<_>>() }));
    } else if webhooks.is_empty() {
        line("no webhook: the operator adds one to the broker's configuration, under [webhooks.NAME]");
    } else {
        webhooks.iter().for_each(|webhook| line(webhook_text(webhook)));
    }
    Ok(())
}

async fn replay(args: ReplayArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let request = v1::ReplayDeadLettersRequest { webhook: args.name.clone(), cursors: args.cursors.clone() };
    let v1::ReplayDeadLettersResponse { delivered, purged, error } =
        client.consent().replay_dead_letters(args.connection.request(request)).await?.into_inner();
    if args.connection.json {
        json(&serde_json::json!({ "delivered": delivered, "purged": purged, "error": error }));
    } else if delivered == 0 && purged == 0 && error.is_empty() {
        line("there was nothing to send again: the webhook has no dead letters of these cursors");
    } else {
        let purged = if purged > 0 { format!(", {purged} whose records are purged") } else { String::new() };
        line(format!("delivered {delivered}{purged}"));
    }
    if error.is_empty() { Ok(()) } else { Err(Failure::Failed(format!("{}: {error}", args.name))) }
}

fn webhook_text(webhook: &v1::Webhook) -> String {
    let cursor = webhook.cursor.map_or_else(|| "nothing".to_owned(), |cursor| format!("entry {cursor}"));
    let state = match webhook.failures {
        0 => "well".to_owned(),
        failures => format!("failed {failures} times, last: {}", webhook.error),
    };
    let mut text = format!("{} → {}: {state}; done up to {cursor}", webhook.name, webhook.url);
    for letter in &webhook.dead_letters {
        let at = letter.given_up_at.as_ref().map(time_text).unwrap_or_default();
        text += &format!("\n  dead letter {}  {at}  sent {} times: {}", letter.cursor, letter.attempts, letter.error);
    }
    text
}

fn webhook_json(webhook: &v1::Webhook) -> serde_json::Value {
    let letter = |letter: &v1::DeadLetter| {
        serde_json::json!({
            "cursor": letter.cursor,
            "given_up_at": letter.given_up_at.as_ref().map(time_text),
            "attempts": letter.attempts,
            "error": letter.error,
        })
    };
    serde_json::json!({
        "name": webhook.name,
        "url": webhook.url,
        "cursor": webhook.cursor,
        "failures": webhook.failures,
        "error": webhook.error,
        "dead_letters": webhook.dead_letters.iter().map(letter).collect::<Vec<_>>(),
    })
}
