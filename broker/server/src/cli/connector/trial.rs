//! `connector try`: asks a source as a connector does, outside the broker.
//!
//! A connector takes nothing but a permit, so one is decided by `decide` for a registry that is made for this question
//! alone. It is no exchange: nothing of it is logged, and the broker's own state is not touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use unefois_connectors::{ConnectorConfig, Fetch, Guarded, SourceAnswer, SourceFault, Step, Trial, build};
use unefois_consent::decide::{PermittedDataset, UsedToday};
use unefois_consent::id::ConnectorName;
use unefois_consent::registry::{Dataset, RegistryFile};
use unefois_consent::{
    AttributeId, Channel, DatasetId, Digest, ExchangeId, Facts, Filter, Ground, HabilitationId, KeyFingerprint,
    Language, NoticeShown, Outcome, Permit, PersonFacts, PivotIdentity, ProcedureId, Question, Registry, Rules, Siret,
    SubjectRef, Timestamp, decide,
};

use crate::cli::exchange::{draw_id, draw_request_id, parse_filter};
use crate::cli::output::{json, line};
use crate::cli::{Failure, person};
use crate::config::{Config, read_registry};

pub(crate) const EXAMPLE: &str = "\
Example:
  unefois connector try cantine --config unefois.toml --subject personne.toml --dry
  unefois connector try cantine --config unefois.toml --subject personne.toml \\
    --attribute saint-exemple.cantine.quotient --filter saint-exemple.cantine:annee=2026

The exit code is 0 where the source gave an answer, whatever it is, and 1 where it gave none that can be used.";

#[derive(Debug, clap::Args)]
pub(crate) struct TryArgs {
    /// The connector, [connectors.NAME] of the configuration
    name: ConnectorName,
    /// The configuration
    #[arg(long, short, value_name = "FILE", default_value = "unefois.toml")]
    config: PathBuf,
    /// The registry that has the datasets; that of the configuration where absent
    #[arg(long, value_name = "FILE")]
    registry: Option<PathBuf>,
    /// The person: a file in TOML or JSON, or - for the standard input
    #[arg(long, value_name = "FILE")]
    subject: PathBuf,
    /// An attribute; may be given several times. All of the connector's only dataset where absent
    #[arg(long = "attribute", short, value_name = "ATTRIBUTE")]
    attributes: Vec<AttributeId>,
    /// A filter of a dataset: dataset:name=value; may be given several times
    #[arg(long = "filter", value_name = "FILTER", value_parser = parse_filter)]
    filters: Vec<(String, String, String)>,
    /// SIRET of the administration that would use the data; that of a habilitation for it where absent
    #[arg(long, value_name = "SIRET")]
    recipient: Option<Siret>,
    /// The procedure for which is asked. For another broker the first of its `procedures` where absent
    #[arg(long, value_name = "PROCEDURE")]
    procedure: Option<ProcedureId>,
    /// The version of the notice that the person read. For another broker the first of the procedure's `notices` where absent
    #[arg(long, value_name = "VERSION")]
    notice: Option<u32>,
    /// Show the request and ask nothing
    #[arg(long)]
    dry: bool,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: TryArgs) -> Result<(), Failure> {
    let config = Config::read(&args.config)?;
    let registry = registry_file(args.registry.as_deref(), &config)?;
    let Some(connector) = config.connectors.get(&args.name) else {
        let known: Vec<_> = config.connectors.keys().map(ToString::to_string).collect();
        let text = format!("connectors.{}: not in the configuration; it has {}", args.name, known.join(", "));
        return Err(Failure::Usage(text));
    };
    let built = build(args.name.clone(), connector, &base_of(&args.config));
    let guarded = built.map_err(|error| Failure::Usage(format!("connectors.{}.{error}", args.name)))?;
    let identity = person::identity(&args.subject)?;
    let asked = datasets_asked(&args, &registry, &guarded)?;
    let recipient = args.recipient.or_else(|| recipient_of(&registry, &asked));
    let recipient = recipient.ok_or_else(|| Failure::Usage("give --recipient".to_owned()))?;
    let (procedure, notice) = told(&args, connector)?;
    let permit = permit_for(&asked, &args, recipient, &procedure)?;
    let ground = read_version(notice, permit.decided_at());
    let mut tried = Vec::with_capacity(asked.len());
    for dataset in permit.datasets() {
        tried.push(try_out(&guarded, (&permit, &ground), dataset, &identity, args.dry).await);
    }
    if args.json {
        json(&json!({
            "connector": args.name.as_str(),
            "type": connector.type_name(),
            "recipient": recipient.as_str(),
            "datasets": tried.iter().map(Tried::json).collect::<Vec<_>>(),
        }));
    } else {
        line(format!("connector {} ({}), for {recipient}", args.name, connector.type_name()));
        tried.iter().for_each(|tried| line(tried.text()));
    }
    match tried.iter().find_map(Tried::failure) {
        Some(fault) => Err(Failure::Failed(fault.to_string())),
        None => Ok(()),
    }
}

/// The folder at which relative paths of a configuration start.
pub(super) fn base_of(config: &Path) -> PathBuf {
    let path = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

/// The registry `path`, or that of the configuration.
pub(super) fn registry_file(path: Option<&Path>, config: &Config) -> Result<RegistryFile, Failure> {
    read_registry(path.unwrap_or(&config.registry.bootstrap)).map_err(Failure::Usage)
}

/// The datasets of the connector that are asked, each with its attributes.
fn datasets_asked(
    args: &TryArgs,
    registry: &RegistryFile,
    connector: &Guarded,
) -> Result<Vec<(Dataset, Vec<AttributeId>)>, Failure> {
    let own: Vec<&Dataset> = registry.datasets.iter().filter(|dataset| dataset.connector == args.name).collect();
    let names = || own.iter().map(|dataset| dataset.id.to_string()).collect::<Vec<_>>().join(", ");
    let mut asked: Vec<(Dataset, Vec<AttributeId>)> = Vec::new();
    for attribute in &args.attributes {
        let dataset = own.iter().find(|dataset| dataset.id.as_str() == attribute.dataset());
        let dataset = dataset.filter(|dataset| dataset.has_attribute(attribute.name())).ok_or_else(|| {
            Failure::Usage(format!("{attribute} is no attribute of this connector in the registry; it has {}", names()))
        })?;
        match asked.iter_mut().find(|(known, _)| known.id == dataset.id) {
            Some((_, attributes)) => attributes.push(attribute.clone()),
            None => asked.push(((*dataset).clone(), vec![attribute.clone()])),
        }
    }
    match own.as_slice() {
        _ if !asked.is_empty() => {}
        [] => return Err(Failure::Usage("no dataset of the registry names this connector".to_owned())),
        [only] => {
            let attributes = only.attributes.iter().filter_map(|attribute| only.id.attribute(&attribute.name).ok());
            asked.push(((*only).clone(), attributes.collect()));
        }
        [_, _, ..] => return Err(Failure::Usage(format!("name attributes with --attribute; it has {}", names()))),
    }
    for (dataset, _) in &asked {
        if let Some(problem) = connector.why_not_served(dataset) {
            return Err(Failure::Usage(problem));
        }
        let filter = filters(args)?.remove(&dataset.id).unwrap_or_default();
        connector.check(dataset, &filter, false).map_err(|malformed| Failure::Usage(malformed.to_string()))?;
    }
    Ok(asked)
}

fn filters(args: &TryArgs) -> Result<BTreeMap<DatasetId, Filter>, Failure> {
    let mut filters: BTreeMap<DatasetId, Filter> = BTreeMap::new();
    for (dataset, name, value) in &args.filters {
        let dataset = dataset.parse().map_err(|error| Failure::Usage(format!("--filter{error}")))?;
        filters.entry(dataset).or_default().insert(name.clone(), value.clone());
    }
    Ok(filters)
}

/// Who may use these attributes by the registry; their source where nobody may.
fn recipient_of(registry: &RegistryFile, asked: &[(Dataset, Vec<AttributeId>)]) -> Option<Siret> {
    let wanted = asked.iter().flat_map(|(_, attributes)| attributes).next();
    let habilitation = registry.habilitations.iter().find(|h| wanted.is_some_and(|a| h.attributes.contains(a)));
    let recipient = habilitation.and_then(|habilitation| habilitation.recipients.iter().next().copied());
    let source = asked.iter().map(|(dataset, _)| dataset.source).next();
    recipient.or(source)
}

#[derive(Debug)]
struct NoneUsed;

impl UsedToday for NoneUsed {
    fn used(&self, _: &HabilitationId, _: u64) -> u64 {
        0
    }
}

/// The procedure and the version of its notice: as given, or the first that another broker is asked for.
fn told(args: &TryArgs, connector: &ConnectorConfig) -> Result<(ProcedureId, u32), Failure> {
    let mapped = match connector {
        ConnectorConfig::Broker(config) => Some(&config.procedures),
        ConnectorConfig::ApiParticulier(_)
        | ConnectorConfig::File(_)
        | ConnectorConfig::Http(_)
        | ConnectorConfig::Plugin(_)
        | ConnectorConfig::Sql(_) => None,
    };
    let procedure = match (&args.procedure, mapped.and_then(|procedures| procedures.keys().next())) {
        (Some(procedure), _) | (None, Some(procedure)) => procedure.clone(),
        (None, None) => "trial".parse().map_err(|error| Failure::Usage(format!("--procedure: {error}")))?,
    };
    let notices = mapped.and_then(|procedures| procedures.get(&procedure)).map(|known| &known.notices);
    let first = notices.and_then(|notices| notices.keys().next()?.parse().ok());
    Ok((procedure, args.notice.or(first).unwrap_or(1)))
}

/// The person asked, and read this version of the notice just now.
fn read_version(version: u32, shown_at: Timestamp) -> Ground {
    Ground::LawRequest { notice: NoticeShown { version, shown_at, channel: Channel::Online, language: Language::Fr } }
}

/// A permit by the one function that makes them, for a registry of this question alone.
fn permit_for(
    asked: &[(Dataset, Vec<AttributeId>)],
    args: &TryArgs,
    recipient: Siret,
    procedure: &ProcedureId,
) -> Result<Permit, Failure> {
    let failed = |what: String| Failure::Usage(format!("the question cannot be tried: {what}"));
    let now = crate::init::now();
    let key = KeyFingerprint([1; 32]);
    let attributes: Vec<AttributeId> = asked.iter().flat_map(|(_, attributes)| attributes.clone()).collect();
    let mut sirets: Vec<Siret> = asked.iter().map(|(dataset, _)| dataset.source).chain([recipient]).collect();
    sirets.sort_unstable();
    sirets.dedup();
    let participant = |siret: &Siret| {
        let keys = if *siret == recipient { json!([{"fingerprint": key, "roles": ["exchange"]}]) } else { json!([]) };
        json!({"siret": siret, "name": siret, "keys": keys})
    };
    let file: RegistryFile = serde_json::from_value(json!({
        "participants": sirets.iter().map(participant).collect::<Vec<_>>(),
        "procedures": [{"id": procedure, "title": "trial",
            "notices": [{"version": 1, "fr": "trial", "en": "trial"}]}],
        "datasets": asked.iter().map(|(dataset, _)| dataset).collect::<Vec<_>>(),
        "habilitations": [{"id": "trial", "participant": recipient, "legal_basis": "trial", "procedures": [procedure],
            "attributes": attributes, "grounds": ["LAW_REQUEST"], "recipients": [recipient], "retention_months": 1,
            "valid_from": now, "valid_until": "9999-01-01T00:00:00Z", "dpo_contact": "trial", "status": "active"}],
    }))
    .map_err(|error| failed(error.to_string()))?;
    let registry = Registry::from_file(file).map_err(|fault| failed(fault.to_string()))?;
    let question = Question {
        consumer: recipient,
        key,
        agent: "unefois connector try".to_owned(),
        recipient,
        procedure: procedure.clone(),
        habilitation: None,
        attributes,
        filters: filters(args)?,
        ground: read_version(1, now),
        subject: SubjectRef([0; 16]),
        mandate: None,
        request_id: draw_request_id()?.parse().map_err(|error| failed(format!("{error}")))?,
        content: Digest([0; 32]),
    };
    let facts = Facts {
        rules: Rules::NEWEST,
        registry: &registry,
        person: &PersonFacts::default(),
        used_today: &NoneUsed,
        earlier: None,
    };
    // Another one each time: to another broker the same one is the same exchange.
    decide(&facts, &question, ExchangeId(draw_id()?), now).map_err(|refusal| {
        let reasons: Vec<_> = refusal.reasons().iter().map(|reason| reason.code()).collect();
        failed(reasons.join(", "))
    })
}

/// One dataset that was tried.
struct Tried {
    dataset: DatasetId,
    steps: Vec<Step>,
    answer: Result<SourceAnswer, SourceFault>,
    missing: SourceAnswer,
}

async fn try_out(
    connector: &Guarded,
    (permit, ground): (&Permit, &Ground),
    dataset: &PermittedDataset,
    identity: &PivotIdentity,
    is_dry: bool,
) -> Tried {
    let trial = if is_dry { Trial::dry() } else { Trial::real() };
    let deadline = Instant::now() + connector.limits().timeout;
    let fetch = Fetch {
        permit,
        dataset,
        identity,
        access_token: None,
        ground,
        broker: "unefois-connector-try",
        via: &[],
        trial: Some(&trial),
        deadline,
    };
    let answer = connector.try_out(fetch).await;
    let fault = answer.as_ref().err().map(SourceFault::outcome);
    let missing = SourceAnswer::missing(dataset, fault.unwrap_or(unefois_consent::OutcomeCode::SourceDown));
    Tried { dataset: dataset.dataset.id.clone(), steps: trial.steps(), answer, missing }
}

impl Tried {
    /// What an exchange would give; nothing where nothing was asked.
    fn outcomes(&self) -> &[(AttributeId, Outcome)] {
        match &self.answer {
            Ok(answer) => &answer.outcomes,
            Err(SourceFault::NotAsked) => &[],
            Err(_) => &self.missing.outcomes,
        }
    }

    fn failure(&self) -> Option<&SourceFault> {
        self.answer.as_ref().err().filter(|fault| **fault != SourceFault::NotAsked)
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("dataset {}", self.dataset)];
        for step in &self.steps {
            let (what, text) = match step {
                Step::Asks(text) => ("asks", text),
                Step::Heard(text) => ("heard", text),
            };
            lines.push(format!("{what}:"));
            lines.extend(text.lines().map(|line| format!("  {line}").trim_end().to_owned()));
        }
        if let Some(fault) = self.failure() {
            lines.push(format!("fault: {fault} [{}]", fault.code()));
        }
        for (attribute, outcome) in self.outcomes() {
            lines.push(match outcome {
                Outcome::Found(value) => format!("{attribute} = {value} [FOUND]"),
                Outcome::Missing(code) => format!("{attribute} [{}]", code.as_str()),
            });
        }
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let attribute = |(attribute, outcome): &(AttributeId, Outcome)| {
            let value = match outcome {
                Outcome::Found(value) => Some(value),
                Outcome::Missing(_) => None,
            };
            json!({"name": attribute.as_str(), "status": outcome.code().as_str(), "value": value})
        };
        let step = |step: &Step| match step {
            Step::Asks(text) => json!({"asks": text}),
            Step::Heard(text) => json!({"heard": text}),
        };
        json!({
            "dataset": self.dataset.as_str(),
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "fault": self.failure().map(|fault| json!({"code": fault.code(), "text": fault.to_string()})),
            "reference": self.answer.as_ref().ok().and_then(|answer| answer.reference.as_ref()),
            "attributes": self.outcomes().iter().map(attribute).collect::<Vec<_>>(),
        })
    }
}
