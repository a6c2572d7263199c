//! `me object` and `me objections`.

use unefois_proto::v1;

use super::WhoArgs;
use crate::cli::Failure;
use crate::cli::output::{json, lapse_text, line};
use crate::text::time_text;

#[derive(Debug, clap::Args)]
pub(crate) struct ObjectArgs {
    #[command(flatten)]
    who: WhoArgs,
    /// SIRET of the administration
    consumer: String,
    /// The procedure; all of the administration's where absent
    #[arg(long, default_value = "")]
    procedure: String,
    /// Lift the objection
    #[arg(long)]
    lift: bool,
}

pub(super) async fn object(args: ObjectArgs) -> Result<(), Failure> {
    let client = args.who.connection.client().await?;
    let request = v1::SetMyObjectionRequest {
        assertion: args.who.assertion()?,
        consumer: args.consumer.clone(),
        procedure: args.procedure.clone(),
        lift: args.lift,
    };
    client.citizen().set_my_objection(args.who.connection.request(request)).await?;
    let said = if args.lift { "lifted" } else { "recorded" };
    if args.who.connection.json {
        json(&serde_json::json!({ "objection": said }));
    } else {
        line(format!("objection {said}"));
    }
    Ok(())
}

pub(super) async fn list(args: WhoArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let request = v1::ListMyObjectionsRequest { assertion: args.assertion()? };
    let listed = client.citizen().list_my_objections(args.connection.request(request)).await?.into_inner();
    if args.connection.json {
        let objections = listed.objections.iter();
        let one = |o: &v1::MyObjection| {
            serde_json::json!({
                "consumer": o.consumer, "procedure": o.procedure, "lapses_at": o.lapses_at.as_ref().map(time_text),
            })
        };
        json(&objections.map(one).collect());
        return Ok(());
    }
    if listed.objections.is_empty() {
        line("no objection");
    }
    for objection in &listed.objections {
        let procedure = if objection.procedure.is_empty() { "all procedures" } else { &objection.procedure };
        let lapses = lapse_text(objection.lapses_at.as_ref());
        line(format!("{} · {procedure}{lapses}", objection.consumer));
    }
    Ok(())
}
