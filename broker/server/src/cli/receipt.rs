//! `receipt verify`: offline, without a broker. `receipt get`: the receipt of an entry anew.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use unefois_audit::{Checkpoint, Receipt, VerifierKey};
use unefois_consent::{Event, Timestamp};
use unefois_proto::v1;

use super::exchange::open_receipt;
use super::output::{json, line, read_text};
use super::{Connection, Failure};

mod answer;
mod inside;
mod quorum;

use inside::Inside;
pub(crate) use quorum::{Judged, judge};

#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Check a receipt and say what it proves and what not
    ///
    /// With a policy it also says which witnesses cosigned the tree, and fails where they are no quorum.
    #[command(
        after_help = "Example:\n  unefois receipt verify receipt.json --key \"$(cat log.vkey)\"\n  unefois receipt verify receipt.json --policy policy"
    )]
    Verify(VerifyArgs),
    /// Get the receipt of an entry from the broker; the reading is logged
    ///
    /// It proves the entry in the newest head that a quorum of witnesses cosigned, where the log has witnesses: the receipt
    /// that came with an answer is older than any cosignature. The salt of the answer's values is in that one only.
    #[command(
        after_help = "Example:\n  unefois receipt get --of receipt.json --profile clients/ville.toml --out cosigned.json\n  unefois receipt get 42 --profile clients/dpo.toml --out receipt-42.json"
    )]
    Get(GetArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    connection: Connection,
    /// The entry, by its index in the log as `audit list` has it
    #[arg(required_unless_present = "of", conflicts_with = "of")]
    index: Option<u64>,
    /// The receipt to get anew
    #[arg(long, value_name = "FILE")]
    of: Option<PathBuf>,
    /// Where the receipt goes; a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The receipt
    file: PathBuf,
    /// The log's verifier key, as you learned it from the administration, not from the receipt
    #[arg(long, value_name = "VKEY", required_unless_present = "policy")]
    key: Option<VerifierKey>,
    /// A policy (C2SP tlog-policy): the logs and witnesses that you trust, and which of these are enough. With --key, the log
    /// of that key is one of them
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The values that came with the receipt, to check that they are the ones: a JSON object from attribute to value, or
    /// the output of `unefois exchange --json`
    #[arg(long, value_name = "FILE")]
    answer: Option<PathBuf>,
    /// The verifier key of another broker's log, whose receipt is in this one because its broker answered; may be given several
    /// times
    #[arg(long = "source-key", value_name = "VKEY")]
    source_keys: Vec<VerifierKey>,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(command: ReceiptCommand) -> Result<(), Failure> {
    match command {
        ReceiptCommand::Verify(args) => verify_file(args),
        ReceiptCommand::Get(args) => get(args).await,
    }
}

async fn get(args: GetArgs) -> Result<(), Failure> {
    let wanted = wanted(&args)?;
    let client = args.connection.client().await?;
    let request = args.connection.request(wanted);
    let receipt = client.audit().get_receipt(request).await?.into_inner().receipt;
    let mut file = open_receipt(&args.out)?;
    let written = std::io::Write::write_all(&mut file, receipt.as_bytes());
    written.map_err(|error| Failure::Failed(format!("{}: {error}", args.out.display())))?;
    if args.connection.json {
        json(&serde_json::from_str(&receipt).unwrap_or_default());
    } else {
        line(format!("receipt saved in {}; check it with `unefois receipt verify`", args.out.display()));
    }
    Ok(())
}

/// Which entry is asked for. A receipt has the index of its leaf in the tree of its shard.
fn wanted(args: &GetArgs) -> Result<v1::GetReceiptRequest, Failure> {
    let Some(file) = &args.of else {
        return Ok(v1::GetReceiptRequest { index: args.index.unwrap_or_default(), origin: String::new() });
    };
    let proof = read_receipt(file)?.proof;
    let origin = proof.checkpoint.lines().next().unwrap_or_default().to_owned();
    Ok(v1::GetReceiptRequest { index: proof.index, origin })
}

fn read_receipt(file: &Path) -> Result<Receipt, Failure> {
    let text = read_text(file)?;
    Receipt::from_json(&text).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))
}

fn verify_file(args: VerifyArgs) -> Result<(), Failure> {
    let receipt = read_receipt(&args.file)?;
    let answer = args.answer.as_deref().map(read_text).transpose()?;
    let judged = args.policy.as_ref().map(|policy| judge(policy, args.key.as_ref(), &receipt)).transpose()?;
    let key = match (&judged, args.key) {
        (Some(judged), _) => judged.key.clone(),
        (None, Some(key)) => key,
        (None, None) => return Err(Failure::Usage("give --key or --policy".to_owned())),
    };
    let checked = verify(&receipt, &key, answer.as_deref())?;
    let inside = inside::check(&receipt, &args.source_keys)?;
    let next = next_key(&receipt)?;
    if args.json {
        let record: serde_json::Value = serde_json::from_str(&receipt.record).unwrap_or_default();
        json(&serde_json::json!({
            "verified": judged.as_ref().is_none_or(|judged| judged.quorum_is_met), "log": key.name(),
            "index": checked.index, "tree_size": checked.size,
            "time": checked.time.to_string(), "kind": Event::kind_name(receipt.kind), "record": record,
            "answer_matches": answer.is_some(), "sources": inside.iter().map(Inside::json).collect::<Vec<_>>(), "quorum": judged.as_ref().map(Judged::json),
            "next_key": next.as_ref().map(ToString::to_string),
        }));
    } else {
        line(checked.text(&receipt, key.name(), answer.is_some(), judged.as_ref()));
        inside.iter().for_each(|inside| line(inside.text()));
        if let Some(next) = &next {
            line(format!(
                "The log goes on in another shard, whose key signed its first checkpoint:\n  {next}\n\
                 Take it for newer receipts and checkpoints. Whoever stole the key of this shard could name another one: \
                 compare with what the administration publishes."
            ));
        }
    }
    match judged {
        Some(judged) if !judged.quorum_is_met => Err(Failure::Failed(
            "the witnesses that cosigned are no quorum of the policy. Ask the administration for a newer receipt of this \
             entry, or whether its witnesses answer"
                .to_owned(),
        )),
        Some(_) | None => Ok(()),
    }
}

/// The key that the log goes on with, where the receipt is of the entry that closed a shard. The first checkpoint that the entry
/// names must be signed by it.
fn next_key(receipt: &Receipt) -> Result<Option<VerifierKey>, Failure> {
    let Ok(Event::ShardClosed(closed)) = serde_json::from_str(&receipt.record) else { return Ok(None) };
    let does_not_hold = |error: &dyn std::fmt::Display| {
        Failure::Failed(format!("this receipt names a next shard that does not hold: {error}"))
    };
    let key: VerifierKey = closed.verifier_key.parse().map_err(|error| does_not_hold(&error))?;
    Checkpoint::open(&closed.checkpoint, &key, &closed.origin).map_err(|error| does_not_hold(&error))?;
    Ok(Some(key))
}

/// What a receipt was found to prove.
pub(crate) struct Checked {
    pub(crate) index: u64,
    pub(crate) size: u64,
    time: Timestamp,
}

/// Checks a receipt, and the values where they are given.
pub(crate) fn verify(receipt: &Receipt, key: &VerifierKey, answer: Option<&str>) -> Result<Checked, Failure> {
    let verified =
        receipt.verify(key).map_err(|error| Failure::Failed(format!("this receipt does not hold: {error}")))?;
    if let Some(answer) = answer {
        verify_answer(receipt, answer)?;
    }
    Ok(Checked {
        index: verified.index,
        size: verified.checkpoint.size,
        time: Timestamp::from_millis(verified.leaf.time_ms),
    })
}

fn verify_answer(receipt: &Receipt, text: &str) -> Result<(), Failure> {
    let failed = |text: &str| Failure::Failed(text.to_owned());
    let salt = receipt
        .answer_salt
        .as_ref()
        .ok_or_else(|| failed("this receipt carries no answer_salt, so values cannot be checked against it"))?;
    let Ok(Event::Answered(answered)) = serde_json::from_str(&receipt.record) else {
        return Err(failed("this receipt is not of an answer"));
    };
    answer::check(text, salt, &answered).map_err(Failure::Failed)
}

impl Checked {
    pub(crate) fn text(&self, receipt: &Receipt, log: &str, answer: bool, judged: Option<&Judged>) -> String {
        let values = if answer { "\n  that the values given are those of the answer" } else { "" };
        let what = Event::kind_name(receipt.kind);
        let witnesses = judged.map(Judged::text).unwrap_or_default();
        let same_tree = match judged {
            Some(judged) if judged.quorum_is_met => ", should more of its witnesses be false than the policy foresees",
            Some(_) | None => " (compare checkpoints with others)",
        };
        let headline = match judged {
            Some(judged) if !judged.quorum_is_met => {
                "This receipt holds, but its witnesses are no quorum of the policy."
            }
            Some(_) | None => "This receipt holds.",
        };
        format!(
            "{headline}\n\
             Proven:\n  \
             that the log {log} signed a tree of {size} entries with this record as entry {index}\n  \
             that the record says: {record}\n  \
             that the log gives its time as {time}, and its kind as {what}{values}{witnesses}\n\
             Not proven:\n  \
             that the log shows everyone the same tree{same_tree}\n  \
             that what the source said is true",
            size = self.size,
            index = self.index,
            record = receipt.record,
            time = self.time,
        )
    }
}
