//! `mandate …`: who may act for whom, towards an administration.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use unefois_proto::v1;

use super::consent::in_days;
use super::output::{json, line};
use super::{Connection, Failure, person};
use crate::text::{mandate_json, mandate_text};

#[derive(Debug, Subcommand)]
pub(crate) enum MandateCommand {
    /// Record that somebody may act for another
    #[command(
        after_help = "Example:\n  unefois mandate record --profile clients/ville.toml --principal enfant.toml \\\n    --representative parent.toml --kind parent --proof SHA256"
    )]
    Record(RecordArgs),
    /// End a mandate before its time
    End(OneArgs),
    /// Show one mandate
    Show(OneArgs),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    /// Parental authority; ends at majority
    Parent,
    /// Guardianship
    Guardian,
    /// A mandate that the person gave
    Mandatary,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    connection: Connection,
    /// For whom somebody acts: a file in TOML or JSON
    #[arg(long, value_name = "FILE")]
    principal: PathBuf,
    /// Who acts: a file in TOML or JSON
    #[arg(long, value_name = "FILE")]
    representative: PathBuf,
    /// Why
    #[arg(long, value_enum)]
    kind: KindArg,
    /// For which procedure; may be given several times; all where absent
    #[arg(long = "procedure")]
    procedures: Vec<String>,
    /// SHA-256 of the proof that you keep
    #[arg(long, value_name = "HEX")]
    proof: String,
    /// How many days it holds; for a minor until majority where absent
    #[arg(long)]
    days: Option<u32>,
    /// The agent or the system that records it
    #[arg(long, default_value = "unefois mandate")]
    agent: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    #[command(flatten)]
    connection: Connection,
    /// The mandate
    id: String,
}

pub(crate) async fn run(command: MandateCommand) -> Result<(), Failure> {
    match command {
        MandateCommand::Record(args) => record(args).await,
        MandateCommand::End(args) => {
            let client = args.connection.client().await?;
            let request = v1::EndMandateRequest { mandate_id: args.id.clone() };
            let answer = client.consent().end_mandate(args.connection.request(request)).await?.into_inner();
            print(&args.connection, answer.mandate.as_ref());
            Ok(())
        }
        MandateCommand::Show(args) => {
            let client = args.connection.client().await?;
            let request = v1::GetMandateRequest { mandate_id: args.id.clone() };
            let answer = client.consent().get_mandate(args.connection.request(request)).await?.into_inner();
            print(&args.connection, answer.mandate.as_ref());
            Ok(())
        }
    }
}

async fn record(args: RecordArgs) -> Result<(), Failure> {
    let kind = match args.kind {
        KindArg::Parent => v1::MandateKind::Parent,
        KindArg::Guardian => v1::MandateKind::Guardian,
        KindArg::Mandatary => v1::MandateKind::Mandatary,
    };
    let request = v1::RecordMandateRequest {
        agent: args.agent.clone(),
        principal: Some(person::read(&args.principal)?),
        representative: Some(person::read(&args.representative)?),
        kind: kind as i32,
        procedures: args.procedures.clone(),
        proof_sha256: args.proof.clone(),
        not_before: None,
        expires_at: args.days.and_then(in_days),
    };
    let client = args.connection.client().await?;
    let answer = client.consent().record_mandate(args.connection.request(request)).await?.into_inner();
    print(&args.connection, answer.mandate.as_ref());
    Ok(())
}

pub(super) fn print(connection: &Connection, mandate: Option<&v1::Mandate>) {
    let Some(mandate) = mandate else { return };
    if connection.json {
        json(&mandate_json(mandate));
    } else {
        line(mandate_text(mandate));
    }
}
