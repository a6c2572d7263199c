//! `registry apply` and `registry show`.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use clap::Subcommand;
use unefois_proto::registry::{registry, wire_registry};
use unefois_proto::v1;

use super::output::{json, line};
use super::{Connection, Failure};
use crate::config::read_versioned_registry;

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Turn the registry into the one in a file; shows the difference first
    #[command(after_help = "Example:\n  unefois registry apply registry.toml --profile clients/operateur.toml")]
    Apply(ApplyArgs),
    /// Print the registry in force, as a file that can be applied
    #[command(after_help = "Example:\n  unefois registry show --profile clients/operateur.toml > registry.toml")]
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    connection: Connection,
    /// The whole registry; what is not in it is removed. Where it says `version`, that must be the one in force
    file: PathBuf,
    /// Apply without asking
    #[arg(long, short)]
    yes: bool,
    /// Only show the difference
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(command: RegistryCommand) -> Result<(), Failure> {
    match command {
        RegistryCommand::Apply(args) => apply(args).await,
        RegistryCommand::Show(args) => show(args).await,
    }
}

async fn apply(args: ApplyArgs) -> Result<(), Failure> {
    let (file, taken_from) = read_versioned_registry(&args.file).map_err(Failure::Usage)?;
    let wire = wire_registry(&file);
    let client = args.connection.client().await?;
    let plan = v1::ApplyRegistryRequest { registry: Some(wire.clone()), validate_only: true, expected_version: 0 };
    let plan = client.registry().apply_registry(args.connection.request(plan)).await?.into_inner();
    if let Some(taken_from) = taken_from.filter(|taken_from| *taken_from != plan.version) {
        return Err(Failure::Refused(format!(
            "{} was taken from version {taken_from} of the registry, and version {} is in force: what was changed since would be undone. \
             Take it anew with `unefois registry show`, and make your change in that",
            args.file.display(),
            plan.version
        )));
    }
    if !args.connection.json {
        show_changes(&plan.changes);
    }
    let applied = !plan.changes.is_empty() && !args.dry_run && (args.yes || confirmed()?);
    let mut version = plan.version;
    if applied {
        let request =
            v1::ApplyRegistryRequest { registry: Some(wire), validate_only: false, expected_version: version };
        version = client.registry().apply_registry(args.connection.request(request)).await?.into_inner().version;
    }
    if args.connection.json {
        let changes: Vec<_> = plan.changes.iter().map(change_json).collect();
        json(&serde_json::json!({ "applied": applied, "version": version, "changes": changes }));
    } else if applied {
        line(format!("Applied; the registry is now version {version}. Each change is an entry of the log."));
    } else if !plan.changes.is_empty() {
        line("Nothing was changed.");
    }
    Ok(())
}

fn change_json(change: &v1::RegistryChange) -> serde_json::Value {
    serde_json::json!({ "verb": change.verb, "kind": change.kind, "name": change.name, "fields": change.fields })
}

fn show_changes(changes: &[v1::RegistryChange]) {
    if changes.is_empty() {
        line("The registry in force is the one in the file; nothing to change.");
    }
    for change in changes {
        let sign = match change.verb.as_str() {
            "add" => "+",
            "remove" => "-",
            _ => "~",
        };
        line(format!("{sign} {} {} {}", change.verb, change.kind, change.name));
        for field in &change.fields {
            line(format!("    {field}"));
        }
    }
}

fn confirmed() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("standard input is no terminal: give --yes to apply, or --dry-run".to_owned()));
    }
    line("Apply? Type yes:");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(answer.trim() == "yes")
}

async fn show(args: ShowArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let answer = client.registry().get_registry(args.connection.request(v1::GetRegistryRequest {})).await?.into_inner();
    let wire = answer.registry.unwrap_or_default();
    let file = registry(&wire).map_err(|error| Failure::Failed(error.to_string()))?;
    if args.connection.json {
        json(&serde_json::json!({ "version": answer.version, "registry": file }));
    } else {
        let text = toml::to_string_pretty(&file).map_err(|error| Failure::Failed(error.to_string()))?;
        line(format!(
            "# The registry that this was taken from; to apply the file, it must still be in force.\nversion = {}\n\n{text}",
            answer.version
        ));
    }
    Ok(())
}
