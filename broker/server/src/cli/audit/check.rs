//! `audit verify` and `audit replay`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use unefois_audit::{Policy, VerifierKey};
use unefois_consent::event::{Event, Purged};
use unefois_engine::key_of_last;
use unefois_engine::replay::{Examined, Faults, LogFault, Look, Report, ShardReport};
use unefois_engine::seal::Opener;
use unefois_engine::store::{RecordKeys, StoreError};
use unefois_engine::{Clock, SystemClock};
use unefois_store::Options;
use unefois_store::embedded::{FileHead, FileKeys, JournalReader, open_fold};

use super::super::Failure;
use super::super::output::{json, line, moves, progress};
use super::heads::KeptHeads;
use super::scratch::Scratch;
use crate::config::Loaded;

#[derive(Debug, clap::Args)]
pub(crate) struct FilesArgs {
    /// The configuration of the broker
    #[arg(long, short, value_name = "FILE", default_value = "unefois.toml", conflicts_with = "data")]
    config: PathBuf,
    /// The data folder, instead of a configuration
    #[arg(long, value_name = "FOLDER", requires = "key")]
    data: Option<PathBuf>,
    /// A verifier key that a shard of the log must have; with --data one of them is that of the last shard. Get it from the operator
    /// by another way than the log; more than once for several shards
    #[arg(long, value_name = "VKEY")]
    key: Vec<VerifierKey>,
    /// Stop at the first fault
    #[arg(long)]
    first: bool,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

/// How deep a log is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    Verify,
    Replay,
}

impl Check {
    fn done(self) -> &'static str {
        match self {
            Self::Verify => "verified",
            Self::Replay => "replayed",
        }
    }
}

/// A log and what it must agree with.
struct Expected<'a> {
    data: &'a Path,
    key: &'a VerifierKey,
    /// Each must be the key of a shard.
    keys: &'a [VerifierKey],
    /// The newest head that the broker kept elsewhere.
    head: Option<FileHead>,
    /// Whose witnesses cosigned heads.
    policy: Option<&'a Policy>,
    faults: Faults,
}

pub(super) fn run(args: &FilesArgs, check: Check) -> Result<(), Failure> {
    let faults = if args.first { Faults::First } else { Faults::All };
    let found = match &args.data {
        Some(data) => {
            let key = &of_last_shard(data, &args.key)?;
            examine(&Expected { data, key, keys: &args.key, head: None, policy: None, faults }, check)?
        }
        None => {
            let loaded = Loaded::open(&args.config)?;
            let store = &loaded.config.store;
            let head = Some(FileHead::new(&loaded.config.store_options().head_of(&store.path)));
            let key = loaded.signer.verifier_key();
            let policy = loaded.policy.as_ref();
            examine(&Expected { data: &store.path, key, keys: &args.key, head, policy, faults }, check)?
        }
    };
    if args.json {
        json(&found_json(&found));
    } else {
        print(&found, check);
    }
    match found.count() {
        0 => Ok(()),
        1 => Err(Failure::Failed("the log does not hold: one fault".to_owned())),
        count => Err(Failure::Failed(format!("the log does not hold: {count} faults"))),
    }
}

/// Which of `keys` is that of the last shard in `data`: the one that this shard says it has. Where it says nothing, the only one.
fn of_last_shard(data: &Path, keys: &[VerifierKey]) -> Result<VerifierKey, Failure> {
    let failed = |error: StoreError| Failure::Failed(error.to_string());
    let reader = JournalReader::open(data).map_err(failed)?;
    let opener = Opener::new(Arc::new(FileKeys::open(&data.join("keys")).map_err(failed)?));
    let said = key_of_last(&reader, &opener);
    match (said, keys) {
        (Some(said), _) if keys.contains(&said) => Ok(said),
        (_, [key]) => Ok(key.clone()),
        (Some(said), _) => {
            Err(Failure::Failed(format!("none of the keys is that of the last shard of this log, {}", said.name())))
        }
        (None, _) => {
            Err(Failure::Usage("the last shard does not say its key: give that one alone as --key".to_owned()))
        }
    }
}

/// Checks the files in `data`; a fault ends it.
pub(crate) fn check_files(data: &Path, key: &VerifierKey, check: Check) -> Result<Report, Failure> {
    let found = examine(&Expected { data, key, keys: &[], head: None, policy: None, faults: Faults::First }, check)?;
    match found.besides.into_iter().next() {
        Some(fault) => Err(Failure::Failed(fault)),
        None => Ok(found.examined.report),
    }
}

pub(super) fn does_not_hold(fault: LogFault) -> Failure {
    Failure::Failed(format!("the log does not hold: {fault}"))
}

/// What was found in a log, and in what lies beside its journal.
struct Found {
    examined: Examined,
    /// What is wrong beside the journal, each a sentence.
    besides: Vec<String>,
}

impl Found {
    fn count(&self) -> u64 {
        self.examined.faults.len() as u64 + self.examined.more_faults + self.besides.len() as u64
    }
}

fn examine(expected: &Expected<'_>, check: Check) -> Result<Found, Failure> {
    let failed = |error: StoreError| Failure::Failed(error.to_string());
    // ORDER: read before the journal, which may grow meanwhile: the journal must know all that the heads know.
    let heads = KeptHeads::read(expected.data, expected.head.as_ref())?;
    let reader = open_settled(expected.data).map_err(failed)?;
    let keys = Arc::new(FileKeys::open(&expected.data.join("keys")).map_err(failed)?);
    let opener = Opener::new(keys.clone());
    let (key, faults, now) = (expected.key, expected.faults, SystemClock.now());
    let look = Look { source: &reader, key, opener: &opener, now, faults };
    let bar = progress(check.done());
    let examined = match check {
        Check::Verify => look.verify(&mut moves(&bar)).map_err(does_not_hold),
        Check::Replay => replay_in_scratch(&look, &mut moves(&bar)),
    };
    bar.finish_and_clear();
    let examined = examined?;
    let mut besides = Vec::new();
    if reader.torn_bytes() > 0 {
        besides.push(format!(
            "the log holds up to entry {}, and {} bytes behind it are no whole batch. A broker that died leaves that, and \
             its next start cuts it off; if it was stopped well, entries were damaged: compare with a checkpoint or a \
             receipt that somebody kept",
            examined.report.entries,
            reader.torn_bytes()
        ));
    }
    if examined.report.entries > 0 && keys.subject_key().map_err(failed)?.is_none() {
        besides.push(
            "keys/subject.key is missing: no broker opens this data folder without it. Put it back from the backup"
                .to_owned(),
        );
    }
    besides.extend(heads.faults(&examined, &reader, expected.policy));
    let shards = &examined.shards;
    let missing = expected.keys.iter().filter(|key| !shards.iter().any(|shard| shard.key == **key));
    besides.extend(missing.map(|key| format!("no shard of this log has the key {key}")));
    Ok(Found { examined, besides })
}

fn replay_in_scratch(look: &Look<'_>, progress: &mut dyn FnMut(u64, u64)) -> Result<Examined, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("the scratch folder of the replay: {error}"));
    let scratch = Scratch::new().map_err(|error| failed(&error))?;
    let fold = open_fold(&scratch.path().join("fold"), &Options::scratch()).map_err(|error| failed(&error))?;
    look.replay(fold, progress).map_err(does_not_hold)
}

/// Opens a journal. A commit under way looks like a torn end for a moment, and only for a moment.
fn open_settled(data: &Path) -> Result<JournalReader, StoreError> {
    let mut reader = JournalReader::open(data)?;
    for _ in 0..5 {
        if reader.torn_bytes() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
        reader = JournalReader::open(data)?;
    }
    Ok(reader)
}

fn print(Found { examined, besides }: &Found, check: Check) {
    for fault in &examined.faults {
        line(format!("FAULT {fault}"));
    }
    for fault in besides {
        line(format!("FAULT {fault}"));
    }
    if examined.more_faults > 0 {
        line(format!("FAULT {} more", examined.more_faults));
    }
    line(report_text(&examined.report, check));
    for ShardReport { first, key, size, root } in &examined.shards {
        line(format!("shard from entry {first}: {size} entries, root {root}, key {key}"));
    }
    for (index, purged) in &examined.purges {
        line(format!("purge, entry {index}: {}", purge_text(purged)));
    }
    if check == Check::Replay {
        let taken = &examined.taken;
        line(format!(
            "taken as the log says it: {} answers of sources, {} certificates that ended, {} failures, {} declarations of \
             persons and administrations, {} facts carried over, {} decisions that rest on purged records",
            taken.answers,
            taken.certificates,
            taken.failures,
            taken.declarations,
            taken.carried,
            examined.report.underived
        ));
        line(
            "no log proves that what it does not hold did not happen, or what an operator with all keys made up: see \
             SECURITY.md",
        );
    }
}

fn purge_text(purged: &Purged) -> String {
    let one = |covered: &unefois_consent::event::PurgedPeriod| {
        let kinds: Vec<_> =
            covered.entries.iter().map(|(kind, count)| format!("{count} {}", Event::kind_name(*kind))).collect();
        format!("{} ({})", covered.period, kinds.join(", "))
    };
    purged.periods.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// A report for people.
pub(crate) fn report_text(report: &Report, check: Check) -> String {
    let mut text = format!(
        "{} {} entries: in order, {} heads signed, {} records are what their leaves commit to, {} tile hashes agree",
        check.done(),
        report.entries,
        report.heads,
        report.records,
        report.tile_hashes
    );
    if report.tile_hashes_missing > 0 {
        text.push_str(&format!(", {} are missing until the broker's next start", report.tile_hashes_missing));
    }
    if report.purged > 0 {
        text.push_str(&format!(", {} records were purged", report.purged));
    }
    if report.decisions > 0 {
        text.push_str(&format!("; {} decisions follow from what was before them", report.decisions));
    }
    if report.underived > 0 {
        text.push_str(&format!(", {} more rest on purged records", report.underived));
    }
    text
}

fn found_json(Found { examined, besides }: &Found) -> serde_json::Value {
    let Examined { report, faults, more_faults, shards, purges, taken } = examined;
    let fault = |fault: &LogFault| match fault {
        LogFault::Entry { index, what } => serde_json::json!({ "entry": index, "what": what }),
        LogFault::Store(error) => serde_json::json!({ "what": error.to_string() }),
    };
    let beside = |what: &String| serde_json::json!({ "what": what });
    let shard = |shard: &ShardReport| {
        serde_json::json!({
            "first": shard.first, "origin": shard.key.name(), "verifier_key": shard.key.to_string(),
            "size": shard.size, "root": shard.root.to_hex(),
        })
    };
    serde_json::json!({
        "holds": faults.is_empty() && besides.is_empty(),
        "faults": faults.iter().map(fault).chain(besides.iter().map(beside)).collect::<Vec<_>>(),
        "more_faults": more_faults,
        "entries": report.entries,
        "heads": report.heads,
        "records": report.records,
        "tile_hashes": report.tile_hashes,
        "tile_hashes_missing": report.tile_hashes_missing,
        "purged": report.purged,
        "decisions": report.decisions,
        "decisions_on_purged_records": report.underived,
        "open_exchanges": report.open,
        "state_sha256": hex::encode(report.state),
        "shards": shards.iter().map(shard).collect::<Vec<_>>(),
        "purges": purges.iter().map(|(index, purged)| serde_json::json!({ "entry": index, "purged": purged })).collect::<Vec<_>>(),
        "taken": {
            "answers": taken.answers, "certificates": taken.certificates, "failures": taken.failures,
            "declarations": taken.declarations, "carried": taken.carried,
        },
    })
}
