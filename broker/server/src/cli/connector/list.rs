//! `connector list`: what is configured, and what a running broker counted of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use unefois_connectors::{ConnectorConfig, Limits, build, http_client};
use unefois_consent::id::ConnectorName;
use unefois_consent::registry::RegistryFile;

use super::trial::{base_of, registry_file};
use crate::cli::Failure;
use crate::cli::output::{json, line};
use crate::config::Config;

/// The broker is on this machine or beside it.
const METRICS_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_METRICS_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// The configuration
    #[arg(long, short, value_name = "FILE", default_value = "unefois.toml")]
    config: PathBuf,
    /// The registry whose datasets are listed; that of the configuration where absent
    #[arg(long, value_name = "FILE")]
    registry: Option<PathBuf>,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

/// One connector of the list.
struct Row {
    name: ConnectorName,
    config: ConnectorConfig,
    datasets: Vec<String>,
    /// Why it could not be built, or does not serve a dataset of the registry.
    problem: Option<String>,
}

pub(crate) async fn run(args: &ListArgs) -> Result<(), Failure> {
    let config = Config::read(&args.config)?;
    let registry = registry_file(args.registry.as_deref(), &config)?;
    let base = base_of(&args.config);
    let rows: Vec<Row> = config.connectors.iter().map(|(name, c)| row(name, c, &registry, &base)).collect();
    let counted = match config.metrics.listen {
        Some(address) => metrics(address).await,
        None => None,
    };
    if args.json {
        json(&rows.iter().map(|row| row_json(row, counted.as_deref())).collect());
        return Ok(());
    }
    for row in &rows {
        line(row_text(row, counted.as_deref()));
    }
    match (config.metrics.listen, &counted) {
        (Some(address), None) => line(format!("no broker answers at {address}, so nothing is said of their health")),
        (None, _) => line("metrics.listen is not set, so nothing is said of their health"),
        (Some(_), Some(_)) => {}
    }
    Ok(())
}

fn row(name: &ConnectorName, config: &ConnectorConfig, registry: &RegistryFile, base: &std::path::Path) -> Row {
    let datasets: Vec<_> = registry.datasets.iter().filter(|dataset| dataset.connector == *name).collect();
    let problem = match build(name.clone(), config, base) {
        Ok(connector) => datasets.iter().find_map(|dataset| connector.why_not_served(dataset)),
        Err(error) => Some(error.to_string()),
    };
    let datasets = datasets.iter().map(|dataset| dataset.id.to_string()).collect();
    Row { name: name.clone(), config: config.clone(), datasets, problem }
}

/// The metrics of a running broker; none where there is none.
async fn metrics(address: SocketAddr) -> Option<String> {
    let url = format!("http://{address}/metrics").parse().ok()?;
    let client = http_client::client(&url, None, 1).ok()?;
    let read = async {
        let mut response = client.get(url).send().await.ok()?;
        let body = http_client::read(&mut response, MAX_METRICS_BYTES).await.ok()?;
        String::from_utf8(body).ok().filter(|_| response.status().is_success())
    };
    tokio::time::timeout(METRICS_TIMEOUT, read).await.ok().flatten()
}

/// How often a connector answered, by outcome or fault.
fn answers(metrics: &str, name: &ConnectorName) -> BTreeMap<String, u64> {
    let prefix = format!("unefois_source_answers_total{{connector=\"{name}\",outcome=\"");
    let counts = metrics.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "));
    counts.filter_map(|(outcome, count)| Some((outcome.to_owned(), count.parse().ok()?))).collect()
}

/// What of a connector is not well now, as its running broker says: a dataset that is left alone, a plugin that is down.
fn ailments(metrics: &str, name: &ConnectorName) -> Vec<String> {
    let left_alone = format!("unefois_source_left_alone{{connector=\"{name}\",dataset=\"");
    let datasets = metrics.lines().filter_map(|line| line.strip_prefix(&left_alone)?.strip_suffix("\"} 1"));
    let mut ailments: Vec<_> =
        datasets.map(|dataset| format!("{dataset} failed again and again and is left alone")).collect();
    let down = format!("unefois_plugin_up{{connector=\"{name}\"}} 0");
    if metrics.lines().any(|line| line == down) {
        ailments.push("the plugin is down and is begun anew; the broker's log says why".to_owned());
    }
    ailments
}

fn row_json(row: &Row, metrics: Option<&str>) -> Value {
    let limits = row.config.limits();
    json!({
        "name": row.name.as_str(),
        "type": row.config.type_name(),
        "datasets": row.datasets,
        "limits": {
            "timeout_ms": limits.timeout.as_millis(),
            "max_concurrent": limits.max_concurrent,
            "per_second": limits.per_second,
            "breaker_failures": limits.breaker_failures,
            "breaker_pause_ms": limits.breaker_pause.as_millis(),
            "keep_s": limits.keep.as_secs(),
            "max_answer_bytes": limits.max_answer_bytes,
        },
        "problem": row.problem,
        "answers": metrics.map(|metrics| answers(metrics, &row.name)),
        "ailments": metrics.map(|metrics| ailments(metrics, &row.name)),
    })
}

fn limits_text(limits: &Limits) -> String {
    let mut text = format!(
        "{} ms for a question, {} at once, {} bytes an answer",
        limits.timeout.as_millis(),
        limits.max_concurrent,
        limits.max_answer_bytes
    );
    if limits.per_second > 0 {
        text += &format!(", {} a second", limits.per_second);
    }
    if !limits.keep.is_zero() {
        text += &format!(", answers kept for {} s", limits.keep.as_secs());
    }
    if limits.breaker_failures == 0 {
        text += ", never left alone";
    }
    text
}

fn row_text(row: &Row, metrics: Option<&str>) -> String {
    let limits = row.config.limits();
    let mut lines = vec![
        format!("{} ({})", row.name, row.config.type_name()),
        match row.datasets.as_slice() {
            [] => "  no dataset of the registry names it".to_owned(),
            datasets => format!("  serves {}", datasets.join(", ")),
        },
        format!("  {}", limits_text(&limits)),
    ];
    if let Some(problem) = &row.problem {
        lines.push(format!("  PROBLEM {problem}"));
    }
    if let Some(metrics) = metrics {
        let counts: Vec<_> = answers(metrics, &row.name).iter().map(|(what, n)| format!("{what} {n}")).collect();
        lines.push(match counts.as_slice() {
            [] => "  was not asked since the broker's start".to_owned(),
            counts => format!("  answered since the broker's start: {}", counts.join(", ")),
        });
        lines.extend(ailments(metrics, &row.name).iter().map(|ailment| format!("  UNWELL {ailment}")));
    }
    lines.join("\n")
}
