//! `connector`: what connectors can be asked, what is configured, and how one answers.

use std::fmt::Write as _;

use unefois_connectors::api_particulier::table::{DatasetRow, datasets};
use unefois_consent::Siret;

use super::Failure;
use super::output::line;

mod list;
mod trial;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ConnectorCommand {
    /// Print every dataset of API Particulier as a registry names it: copy the tables that you need
    #[command(after_help = "Example:\n  unefois connector datasets --connector api-particulier")]
    Datasets(DatasetsArgs),
    /// List the connectors of a configuration, their datasets and limits, and what a running broker counted
    #[command(after_help = "Example:\n  unefois connector list --config /etc/unefois/unefois.toml")]
    List(list::ListArgs),
    /// Ask a source as a connector does, outside the broker, and see the request, the status and each attribute
    ///
    /// Nothing is decided and nothing is logged: ask about a test person. --dry shows the request and asks nothing.
    #[command(after_help = trial::EXAMPLE)]
    Try(trial::TryArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct DatasetsArgs {
    /// The participant of your registry that supplies them
    #[arg(long, value_name = "SIRET", default_value = crate::init::DINUM)]
    source: Siret,
    /// The table of your configuration, [connectors.NAME]
    #[arg(long, value_name = "NAME", default_value = "api-particulier")]
    connector: String,
}

pub(crate) async fn run(command: ConnectorCommand) -> Result<(), Failure> {
    match command {
        ConnectorCommand::Datasets(args) => {
            line(registry_of(args.source, &args.connector).trim_end());
            Ok(())
        }
        ConnectorCommand::List(args) => list::run(&args).await,
        ConnectorCommand::Try(args) => trial::run(args).await,
    }
}

/// Every dataset of API Particulier, as `[[datasets]]` of a registry file. Of several versions the first has the plain id,
/// and the ids of the others end in their version, so that all can be there at once.
pub fn registry_of(source: Siret, connector: &str) -> String {
    let mut text = String::new();
    let mut before: Option<&DatasetRow> = None;
    for row in datasets() {
        let is_first = before.is_none_or(|before| before.dataset != row.dataset);
        let id = if is_first { row.dataset.to_owned() } else { format!("{}.v{}", row.dataset, row.version) };
        // Writing to a String does not fail.
        let _ = write_dataset(&mut text, row, &id, source, connector);
        before = Some(row);
    }
    text
}

fn write_dataset(
    text: &mut String,
    row: &DatasetRow,
    id: &str,
    source: Siret,
    connector: &str,
) -> Result<(), std::fmt::Error> {
    writeln!(text, "[[datasets]]\nid = \"{id}\"\ntitle = \"{}\"\nsource = \"{source}\"", row.title)?;
    writeln!(text, "connector = \"{connector}\"\nversion = \"v{}\"\nclass = \"ordinary\"", row.version)?;
    if !row.filters.is_empty() {
        let names: Vec<_> = row.filters.iter().map(|filter| format!("\"{}\"", filter.name)).collect();
        writeln!(text, "filters = [{}]", names.join(", "))?;
    }
    writeln!(text, "attributes = [")?;
    for attribute in row.attributes {
        writeln!(text, "    {{ name = \"{}\", title = \"{}\" }},", attribute.name, attribute.title)?;
    }
    writeln!(text, "]\n")
}
