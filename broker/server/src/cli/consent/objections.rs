//! `consent object`, `lift` and `objections`.

use std::path::PathBuf;

use unefois_proto::v1;

use super::ListArgs;
use crate::cli::output::{json, lapse_text, line};
use crate::cli::{Connection, Failure, person};
use crate::text::time_text;

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

pub(super) async fn object(args: ObjectArgs, lift: bool) -> Result<(), Failure> {
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

pub(super) async fn list(args: ListArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let request = v1::ListObjectionsRequest { subject: Some(person::read(&args.subject)?) };
    let listed = client.consent().list_objections(args.connection.request(request)).await?.into_inner().objections;
    if args.connection.json {
        let objections = listed.iter();
        let one = |o: &v1::ListedObjection| {
            serde_json::json!({
                "procedure": o.procedure, "by_person": o.by_person, "lapses_at": o.lapses_at.as_ref().map(time_text),
            })
        };
        json(&objections.map(one).collect());
        return Ok(());
    }
    if listed.is_empty() {
        line("no objection");
    }
    for objection in &listed {
        let procedure = if objection.procedure.is_empty() { "all procedures" } else { &objection.procedure };
        let by_person = if objection.by_person { ": by the person, who lifts it in their portal" } else { "" };
        line(format!("{procedure}{by_person}{}", lapse_text(objection.lapses_at.as_ref())));
    }
    Ok(())
}
