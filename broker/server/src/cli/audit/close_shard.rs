//! `audit close-shard` and `audit accept-clock`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use unefois_engine::{ClosedShard, Engine, EngineParts, Signer, SystemClock};
use unefois_store::EmbeddedStore;

use super::super::Failure;
use super::super::exchange::{open_receipt, remove_if_empty};
use super::super::output::{json, line, moves, progress};
use crate::config::{Loaded, SHARD_NAME_RULE, is_shard_name, read_key};
use crate::serve::Stores;

#[derive(Debug, clap::Args)]
pub(crate) struct CloseShardArgs {
    /// The configuration of the broker, which must not be running
    #[arg(long, short, value_name = "FILE", default_value = "unefois.toml")]
    config: PathBuf,
    /// Name of the next shard, such as the year; its checkpoints begin with ORIGIN/NAME
    #[arg(long, value_name = "NAME", value_parser = shard_name)]
    shard: String,
    /// Ed25519 key of the next shard, PKCS#8 in PEM, mode 0600; made where there is no such file
    #[arg(long, value_name = "FILE")]
    signing_key: PathBuf,
    /// Where the receipt of the closing entry goes, which proves the next key to whoever trusts this one; a new file
    #[arg(long, value_name = "FILE")]
    receipt: PathBuf,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

fn shard_name(text: &str) -> Result<String, &'static str> {
    if is_shard_name(text) { Ok(text.to_owned()) } else { Err(SHARD_NAME_RULE) }
}

/// Why a shard is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// The log goes on under another key.
    NextKey,
    /// The log goes on by another time.
    AcceptClock,
}

pub(super) async fn run(args: CloseShardArgs, closing: Closing) -> Result<(), Failure> {
    let loaded = Loaded::open(&args.config)?;
    let made = make_key(&args.signing_key)?;
    let next = read_key("--signing-key", &loaded.config.log.origin_of(Some(&args.shard)), &args.signing_key)?;
    // Before anything is closed: a file that cannot be written is no reason to close a shard without its receipt.
    let mut receipt = open_receipt(&args.receipt)?;
    let closed = close(loaded, &next, closing).await.inspect_err(|_| remove_if_empty(&args.receipt))?;
    let written = receipt.write_all(closed.receipt.to_json().as_bytes()).and_then(|()| receipt.sync_all());
    written.map_err(|error| {
        Failure::Failed(format!(
            "the shard is closed with entry {}, and its receipt could not be written to {}: {error}. Get it with `unefois \
             receipt get {}` when the broker runs",
            closed.index,
            args.receipt.display(),
            closed.index
        ))
    })?;
    let key = next.verifier_key().to_string();
    if args.json {
        json(&serde_json::json!({
            "closed_with_entry": closed.index, "clock": closed.clock, "shard": args.shard, "verifier_key": key, "key_made": made,
            "checkpoint": closed.next.note, "receipt": args.receipt, "signing_key": args.signing_key,
        }));
    } else {
        line(text(&args, &closed, &key, made));
    }
    Ok(())
}

/// Makes a key where there is no file; says whether it did.
fn make_key(path: &Path) -> Result<bool, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", path.display()));
    let mut file = match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(failed(&error)),
    };
    let pem = crate::pki::new_log_key().map_err(|error| failed(&error))?;
    file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| failed(&error))?;
    Ok(true)
}

async fn close(loaded: Loaded, next: &dyn Signer, closing: Closing) -> Result<ClosedShard, Failure> {
    // Holds the folder's lock: a running broker is refused here.
    let store = EmbeddedStore::open(&loaded.config.store.path, &loaded.config.store_options())
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let signer = Arc::clone(&loaded.signer);
    let engine = open_engine(loaded, &store).await?;
    let closed = match closing {
        Closing::NextKey => engine.close_shard(&*signer, next).await,
        Closing::AcceptClock => engine.accept_clock(&*signer, next).await,
    };
    closed.map_err(|error| Failure::Failed(error.to_string()))
}

/// The engine of a broker that is not running.
pub(super) async fn open_engine(loaded: Loaded, store: &EmbeddedStore) -> Result<Engine, Failure> {
    let Stores { journal, fold, keys, head } = Stores::from(store);
    let parts = EngineParts {
        journal,
        fold,
        keys,
        head,
        signer: loaded.signer,
        clock: Arc::new(SystemClock),
        sources: loaded.connectors,
        first_registry: loaded.registry,
    };
    let bar = progress("catching up with the journal");
    let engine = Engine::open(parts, &mut moves(&bar)).await;
    bar.finish_and_clear();
    engine.map_err(|error| Failure::Failed(error.to_string()))
}

fn text(args: &CloseShardArgs, closed: &ClosedShard, key: &str, made: bool) -> String {
    let made = if made { " (made now)" } else { "" };
    let clock = closed.clock.map_or_else(String::new, |clock| {
        format!(
            "The last entry is of {}, and the next shard begins with {}: its first entry says so.\n",
            clock.from, clock.to
        )
    });
    format!(
        "The shard is closed with entry {index}; the log goes on in the shard {shard}.\n\
         {clock}\
         \n\
         1. Set in {config}, and start the broker:\n\
         \x20    [log]\n\
         \x20    shard = \"{shard}\"\n\
         \x20    signing_key = \"{signing_key}\"{made}\n\
         2. Give the new verifier key to whoever checks this log: consumers, witnesses, mirrors, brokers that ask this one.\n\
         \x20    {key}\n\
         3. Publish {receipt} beside it. Under the old key it proves that the log goes on with the new one.\n\
         4. Where a policy lists this log, add the line: log {key}\n\
         \x20  The old line stays. Mirrors of the closed shard go on at /shard/{first}.\n\
         5. When the broker runs, back up the data folder, then destroy the old private key: nothing signs with it any more,\n\
         \x20  and an older copy of the data folder cannot be opened without it. Keep its verifier key: receipts and\n\
         \x20  checkpoints of the closed shard are checked with it.",
        index = closed.index,
        first = closed.first,
        shard = args.shard,
        config = args.config.display(),
        signing_key = std::path::absolute(&args.signing_key).unwrap_or_else(|_| args.signing_key.clone()).display(),
        receipt = args.receipt.display(),
    )
}
