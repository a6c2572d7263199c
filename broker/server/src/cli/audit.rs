//! `audit list`, `mirror`, `accept-head` and `set-rules`; `verify`, `replay`, `close-shard` and `accept-clock` have modules of
//! their own.

use std::path::PathBuf;

use clap::Subcommand;
use unefois_audit::VerifierKey;
use unefois_consent::Rules;
use unefois_engine::replay::JournalSource;
use unefois_engine::seal::Opener;
use unefois_engine::store::{HeadFile, Journal, StoreError};
use unefois_engine::{Shards, SignedHead};
use unefois_proto::v1;
use unefois_store::EmbeddedStore;

use super::output::{json, line, moves, progress};
use super::{Connection, Failure};

use crate::config::{Loaded, read_policy};
use crate::mirror::{Mirror, MirrorError, Source, Update};
use crate::text::time_text;

mod check;
mod close_shard;
mod heads;
mod scratch;

use check::does_not_hold;
pub(crate) use check::{Check, check_files, report_text};
use close_shard::Closing;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List entries with their records; the reading is logged
    #[command(after_help = "Example:\n  unefois audit list --profile clients/dpo.toml --start 0 --count 50")]
    List(ListArgs),
    /// Verify the log: order, hashes, roots, signatures, records, tiles
    ///
    /// Reads the journal's files beside a running broker. Names each entry that does not hold.
    #[command(after_help = "Example:\n  unefois audit verify --config unefois.toml")]
    Verify(check::FilesArgs),
    /// Verify the log and derive every decision in it again
    ///
    /// Names each decision that does not follow from the entries before it, and counts what no log can prove.
    #[command(after_help = "Example:\n  unefois audit replay --config unefois.toml")]
    Replay(check::FilesArgs),
    /// Copy a public log and check that it only ever grows
    ///
    /// Copies what is new since the last time, hashes every entry again and compares with the head that the log signed and with
    /// the hash tiles that it shows. A log that changed or dropped an entry, shows fewer than before, or has times or kinds that
    /// no log has, ends the command with exit code 1 and leaves the copy at its checkpoint. Run it from cron to keep watch.
    #[command(after_help = "Example:\n  unefois audit mirror https://unefois.ville.example ./ville --key VKEY")]
    Mirror(MirrorArgs),
    /// Take the data folder as the newest where its head file is lost or newer
    ///
    /// A broker refuses data that is older than its head file, or that has none: it may be a copy from which acknowledged
    /// entries are missing. This command is for an operator who knows better, or has nothing newer. The old head file is
    /// kept beside the new one as proof. Entries that are lost stay lost; whoever holds a receipt of one can prove it.
    #[command(after_help = "Example:\n  unefois audit accept-head --config unefois.toml --entries 1234")]
    AcceptHead(AcceptHeadArgs),
    /// Close the log's shard, so that the log goes on under another key
    ///
    /// The broker must not be running. The last entry of the shard names the next one, with its key and its first checkpoint;
    /// the first entry of the next shard names this one. Nothing that is recorded changes: consents, objections and traces
    /// stay, receipts of the closed shard hold under its key, and `audit verify` and `audit replay` go through all shards.
    #[command(
        after_help = "Example:\n  unefois audit close-shard --config unefois.toml --shard 2027 --signing-key keys/log-2027.key --receipt closed.json"
    )]
    CloseShard(close_shard::CloseShardArgs),
    /// Go on by the clock as it is, where the log's last entry is of another time
    ///
    /// A broker writes nothing while the clock is before the log's last entry, or more than 92 days after it. Put the clock
    /// right first. Where it is right, because the log was written by a wrong clock or the broker was off for so long, this command
    /// closes the shard like close-shard, and the next shard begins with an entry that says from which time to which the log
    /// goes. The broker must not be running.
    #[command(
        after_help = "Example:\n  unefois audit accept-clock --config unefois.toml --shard 2027b --signing-key keys/log-2027b.key --receipt closed.json"
    )]
    AcceptClock(close_shard::CloseShardArgs),
    /// Let other rules decide from the next entry on
    ///
    /// The version of the rules stands in the log, so that old decisions are derived by the rules of their time. A newer program
    /// goes on by the rules of the log until this command changes them. The broker must not be running.
    #[command(after_help = "Example:\n  unefois audit set-rules --config unefois.toml 1")]
    SetRules(SetRulesArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetRulesArgs {
    /// The configuration of the broker, which must not be running
    #[arg(long, short, value_name = "FILE", default_value = "unefois.toml")]
    config: PathBuf,
    /// Version of the rules
    #[arg(value_name = "VERSION")]
    rules: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AcceptHeadArgs {
    /// The configuration of the broker, which must not be running
    #[arg(long, short, value_name = "FILE", default_value = "unefois.toml")]
    config: PathBuf,
    /// How many entries the data folder holds, to say that you looked
    #[arg(long, value_name = "N")]
    entries: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MirrorArgs {
    /// The log: an address, or a folder with another copy
    #[arg(value_name = "URL|FOLDER")]
    source: String,
    /// Where the copy is kept; made where it does not exist
    #[arg(value_name = "COPY")]
    copy: PathBuf,
    /// The log's verifier key; get it from its operator by another way than the log itself
    #[arg(long, value_name = "VKEY", required_unless_present = "policy")]
    key: Option<VerifierKey>,
    /// A policy (C2SP tlog-policy): take only heads that a quorum of its witnesses cosigned. It names the log where --key
    /// does not
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    connection: Connection,
    /// First entry
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// How many entries
    #[arg(long, default_value_t = 20)]
    count: u64,
}

pub(crate) async fn run(command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::List(args) => list(args).await,
        AuditCommand::Verify(args) => check::run(&args, Check::Verify),
        AuditCommand::Replay(args) => check::run(&args, Check::Replay),
        AuditCommand::Mirror(args) => mirror(args).await,
        AuditCommand::AcceptHead(args) => accept_head(&args),
        AuditCommand::CloseShard(args) => close_shard::run(args, Closing::NextKey).await,
        AuditCommand::AcceptClock(args) => close_shard::run(args, Closing::AcceptClock).await,
        AuditCommand::SetRules(args) => set_rules(args).await,
    }
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let client = args.connection.client().await?;
    let (mut start, mut left) = (args.start, args.count);
    let mut entries = Vec::new();
    // Each page is an entry too: the list ends where the log ended at the first one.
    let mut end = None;
    while left > 0 && end.is_none_or(|end| start < end) {
        let page_size = u32::try_from(left.min(1_000)).unwrap_or(1_000);
        let request = v1::ListEntriesRequest { start, page_size };
        let page = client.audit().list_entries(args.connection.request(request)).await?.into_inner();
        left = left.saturating_sub(page.entries.len() as u64);
        start = page.next_start;
        end.get_or_insert(page.tree_size);
        entries.extend(page.entries);
    }
    if args.connection.json {
        json(&entries.iter().map(entry_json).collect());
    } else {
        for entry in &entries {
            let at = entry.time.as_ref().map(time_text).unwrap_or_default();
            let record = if entry.record.is_empty() { "purged" } else { &entry.record };
            line(format!("{:>6}  {at}  {:<18} {record}", entry.index, entry.kind));
        }
    }
    Ok(())
}

fn entry_json(entry: &v1::Entry) -> serde_json::Value {
    serde_json::json!({
        "index": entry.index,
        "kind": entry.kind,
        "time": entry.time.as_ref().map(time_text),
        "leaf": hex::encode(&entry.leaf),
        "record": serde_json::from_str::<serde_json::Value>(&entry.record).ok(),
    })
}

async fn set_rules(args: SetRulesArgs) -> Result<(), Failure> {
    let loaded = Loaded::open(&args.config)?;
    // Holds the folder's lock: a running broker is refused here.
    let store = EmbeddedStore::open(&loaded.config.store.path, &loaded.config.store_options())
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let engine = close_shard::open_engine(loaded, &store).await?;
    let changed = engine.change_rules(Rules::from_number(args.rules)).await;
    engine.close();
    let index = changed.map_err(|error| Failure::Failed(error.to_string()))?;
    line(format!("entry {index}: version {} of the rules decides from here on", args.rules));
    Ok(())
}

async fn mirror(args: MirrorArgs) -> Result<(), Failure> {
    let failed = |error: MirrorError| Failure::Failed(error.to_string());
    let source = Source::new(&args.source).map_err(failed)?;
    let policy = args.policy.as_deref().map(read_policy).transpose().map_err(Failure::Usage)?;
    let listed = policy.as_ref().map(|policy| policy.logs()).unwrap_or_default();
    let key = match (&args.key, listed) {
        (Some(key), _) => key,
        (None, [only]) => &only.key,
        (None, _) => return Err(Failure::Usage("the policy does not list one log alone; give --key".to_owned())),
    };
    let mut mirror = Mirror::open(&args.copy, key).map_err(failed)?;
    if let Some(policy) = policy.clone() {
        mirror = mirror.requiring(policy);
    }
    let bar = progress("copied");
    let updated = mirror.update(&source, &mut moves(&bar)).await;
    bar.finish_and_clear();
    let Update { before, after } = updated.map_err(failed)?;
    if args.json {
        json(&serde_json::json!({ "before": before, "entries": after }));
    } else {
        line(format!(
            "copied {} entries: {after} in all, and the {before} of the last time are unchanged among them",
            after - before
        ));
    }
    Ok(())
}

fn accept_head(args: &AcceptHeadArgs) -> Result<(), Failure> {
    let failed = |error: StoreError| Failure::Failed(error.to_string());
    let loaded = Loaded::open(&args.config)?;
    let (data, options) = (&loaded.config.store.path, loaded.config.store_options());
    // Holds the folder's lock: a running broker is refused here.
    let store = EmbeddedStore::open(data, &options).map_err(failed)?;
    let end = store.journal.end();
    let entries = end.entries();
    if entries != args.entries {
        return Err(Failure::Failed(format!(
            "{} holds {entries} entries, not {}; compare with the newest receipt or checkpoint that anyone holds",
            data.display(),
            args.entries
        )));
    }
    let Some(signature) = end.signature else {
        return Err(Failure::Failed(format!("{} holds no entry yet; there is nothing to accept", data.display())));
    };
    let key = loaded.signer.verifier_key();
    let opener = Opener::new(store.keys.clone());
    Shards::read(&JournalSource(&*store.journal), key, &opener).map_err(does_not_hold)?;
    let head = SignedHead::verified(key, end.shard, (end.frontier.size(), end.frontier.root()), &signature)
        .map_err(|error| Failure::Failed(format!("the log's last head is not signed by {key}: {error}")))?;
    let path = options.head_of(data);
    // Never over an older one, which is proof too.
    let names = std::iter::once(format!("before-{entries}")).chain((1..).map(|n| format!("before-{entries}.{n}")));
    let mut asides = names.map(|name| path.with_added_extension(name));
    let aside = asides.find(|aside| !aside.exists()).unwrap_or_else(|| path.with_added_extension("before"));
    match std::fs::rename(&path, &aside) {
        Ok(()) => line(format!("the old head file is kept as {}", aside.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::Failed(format!("{}: {error}", path.display()))),
    }
    store.head.write(&head.note).map_err(failed)?;
    line(format!("{} now says {entries} entries, root {}", path.display(), head.root));
    Ok(())
}
