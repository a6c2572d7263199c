//! A log that goes on under another key: what was recorded stays, receipts of both shards hold, and the whole log verifies
//! and replays from its first entry on.

use std::path::Path;
use std::sync::Arc;

use unefois::config::Loaded;
use unefois::mirror::{Mirror, Source};
use unefois_audit::{Checkpoint, Hash, Receipt, VerifierKey, verify_inclusion};
use unefois_consent::Event;
use unefois_consent::event::{LogOpened, ShardClosed};
use unefois_engine::Signer;
use unefois_engine::replay::{JournalSource, LogFault, verify};
use unefois_engine::seal::Opener;
use unefois_engine::store::{Batch, HeadFile};
use unefois_proto::v1;
use unefois_store::MemoryStore;
use unefois_store::embedded::{FileKeys, JournalReader};
use unefois_tests::ask::{allowance, assert_refused, canteen, exchange, grant, granted, withdraw, within};
use unefois_tests::process;
use unefois_tests::sandbox::Sandbox;

/// Writes a new key, and lets the configuration in `folder` name the shard `name` with it.
pub(crate) fn configure_shard(folder: &Path, name: &str) {
    let key = folder.join(format!("keys/{name}.key"));
    if !key.exists() {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(&key, unefois::pki::new_log_key().unwrap()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let config = folder.join("unefois.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("shard = "));
    let lines = lines.map(|line| match line.starts_with("signing_key = ") {
        true => format!("shard = \"{name}\"\nsigning_key = \"keys/{name}.key\"\n"),
        false => format!("{line}\n"),
    });
    std::fs::write(&config, lines.collect::<String>()).unwrap();
}

/// The signer that the configuration in `folder` names.
pub(crate) fn signer(folder: &Path) -> Arc<dyn Signer> {
    Loaded::open(&folder.join("unefois.toml")).unwrap().signer
}

/// The key that the shard `name` will have. The configuration stays as it is.
pub(crate) fn next_key(folder: &Path, name: &str) -> VerifierKey {
    let config = folder.join("unefois.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    configure_shard(folder, name);
    let key = signer(folder).verifier_key().clone();
    std::fs::write(&config, text).unwrap();
    key
}

/// Closes the shard of a running sandbox and starts its broker with the next one; gives the receipt of the closing entry.
pub(crate) async fn close_shard(sandbox: &mut Sandbox, name: &str) -> Receipt {
    let folder = sandbox.folder.path.clone();
    let now = signer(&folder);
    configure_shard(&folder, name);
    let next = signer(&folder);
    let closed = sandbox.broker().engine().close_shard(&*now, &*next).await.unwrap();
    sandbox.key = next.verifier_key().clone();
    sandbox.restart().await.unwrap();
    closed.receipt
}

async fn receipt(sandbox: &Sandbox, index: u64) -> Receipt {
    let request = within(v1::GetReceiptRequest { index, origin: String::new() });
    let answer = sandbox.client("dpo").await.audit().get_receipt(request).await.unwrap().into_inner();
    Receipt::from_json(&answer.receipt).unwrap()
}

#[tokio::test]
async fn what_was_recorded_counts_in_the_next_shard_and_is_derived_from_all() {
    let mut sandbox = Sandbox::start().await;
    let consent = granted(&sandbox.client("departement").await, grant("MARCHAND")).await;
    for shard in ["2027", "2028"] {
        close_shard(&mut sandbox, shard).await;
        exchange(&sandbox.client("departement").await, allowance("MARCHAND", Some(&consent))).await.unwrap();
    }
    withdraw(&sandbox.client("departement").await, &consent).await;
    sandbox.stop().await;
    std::fs::remove_dir_all(sandbox.data().join("fold")).unwrap();
    std::fs::remove_dir_all(sandbox.data().join("tiles")).unwrap();
    sandbox.restart().await.unwrap();
    let again = exchange(&sandbox.client("departement").await, allowance("MARCHAND", Some(&consent))).await;
    assert_refused(again, "CONSENT_WITHDRAWN");
    sandbox.finish().await;
}

#[tokio::test]
async fn the_ends_of_two_shards_name_each_other() {
    let mut sandbox = Sandbox::start().await;
    let first_key = sandbox.key.clone();
    let closing = close_shard(&mut sandbox, "2027").await;
    let second_key = sandbox.key.clone();
    let closed = closing.verify(&first_key).unwrap();
    let Event::ShardClosed(ShardClosed { origin, verifier_key, checkpoint }) =
        serde_json::from_str(&closing.record).unwrap()
    else {
        panic!("{}", closing.record)
    };
    assert_eq!((origin.as_str(), verifier_key), (second_key.name(), second_key.to_string()));
    let named = Checkpoint::open(&checkpoint, &second_key, second_key.name()).unwrap();
    assert_eq!((named.size, closed.checkpoint.size), (1, closed.index + 1));
    let opening = receipt(&sandbox, closed.index + 1).await;
    assert_eq!(opening.leaf().hash(), named.root);
    let Event::LogOpened(LogOpened { previous: Some(previous), .. }) = serde_json::from_str(&opening.record).unwrap()
    else {
        panic!("the shard does not say what it goes on from")
    };
    assert_eq!((previous.origin.as_str(), previous.size), (first_key.name(), closed.index));
    sandbox.finish().await;
}

#[tokio::test]
async fn receipts_and_proofs_of_each_shard_hold_under_its_key() {
    let mut sandbox = Sandbox::start().await;
    let first_key = sandbox.key.clone();
    let ask = async |sandbox: &Sandbox| {
        let answer = exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
        Receipt::from_json(&answer.receipt).unwrap()
    };
    let early = ask(&sandbox).await;
    let first = close_shard(&mut sandbox, "2027").await.proof.index + 1;
    let second_key = sandbox.key.clone();
    let late = ask(&sandbox).await;
    assert!(late.verify(&first_key).is_err() && early.verify(&second_key).is_err());

    // By the index in the log for whoever audits it, by that of the receipt for whoever holds one.
    let town = sandbox.client("ville").await;
    let mut audit = sandbox.client("dpo").await.audit();
    for (told, key, shard) in [(early, &first_key, 0), (late, &second_key, first)] {
        let held = told.verify(key).unwrap();
        let index = shard + held.index;
        let by_index = receipt(&sandbox, index).await.verify(key).unwrap();
        assert_eq!((by_index.index, by_index.leaf), (held.index, held.leaf));
        let request = v1::GetReceiptRequest { index: held.index, origin: key.name().to_owned() };
        let anew = town.audit().get_receipt(within(request)).await.unwrap().into_inner().receipt;
        assert_eq!(Receipt::from_json(&anew).unwrap().verify(key).unwrap().leaf, held.leaf);
        let request = within(v1::GetInclusionProofRequest { index });
        let proof = audit.get_inclusion_proof(request).await.unwrap().into_inner();
        let head = Checkpoint::open(&proof.checkpoint, key, key.name()).unwrap();
        let hashes: Vec<_> = proof.hashes.iter().map(|hash| Hash(hash.as_slice().try_into().unwrap())).collect();
        verify_inclusion(&held.leaf.hash(), proof.leaf_index, head.size, &hashes, &head.root).unwrap();
    }
    let unknown = v1::GetReceiptRequest { index: 0, origin: "another.example/log".to_owned() };
    assert_eq!(audit.get_receipt(within(unknown)).await.unwrap_err().code(), tonic::Code::NotFound);
    sandbox.finish().await;
}

#[tokio::test]
async fn each_shard_is_served_for_good_and_can_be_mirrored() {
    let mut sandbox = Sandbox::start().await;
    let first_key = sandbox.key.clone();
    let first = close_shard(&mut sandbox, "2027").await.proof.index + 1;
    let second_key = sandbox.key.clone();
    close_shard(&mut sandbox, "2028").await;
    let url = format!("http://{}", sandbox.broker().log_address.unwrap());
    let root = tempfile::tempdir().unwrap();
    let third = sandbox.broker().engine().head().shard;
    let served = [
        (&first_key, format!("{url}/shard/0")),
        (&second_key, format!("{url}/shard/{first}")),
        (&sandbox.key, format!("{url}/shard/{third}")),
        (&sandbox.key, url.clone()),
    ];
    for (place, (key, address)) in served.into_iter().enumerate() {
        let copy = root.path().join(place.to_string());
        let source = Source::new(&address).unwrap();
        Mirror::open(&copy, key).unwrap().update(&source, &mut |_, _| {}).await.unwrap();
    }
    let mut stale = Mirror::open(&root.path().join("0"), &first_key).unwrap();
    let refused = stale.update(&Source::new(&url).unwrap(), &mut |_, _| {}).await.unwrap_err().to_string();
    assert!(refused.contains("/shard/0") && refused.contains(sandbox.key.name()), "{refused}");
    for path in ["/shard/1/checkpoint", "/shard/x/checkpoint", "/shard/1/tile/0/000"] {
        let status = reqwest::get(format!("{url}{path}")).await.unwrap().status();
        assert_eq!(status, 404, "{path}");
    }
    sandbox.finish().await;
}

/// Why a sandbox does not start with this configuration, data folder and head file.
async fn refusal(sandbox: &mut Sandbox, config: &str, data: &Path, head: &[u8]) -> String {
    sandbox.stop().await;
    std::fs::write(sandbox.folder.config(), config).unwrap();
    let place = sandbox.data();
    if data != place {
        std::fs::remove_dir_all(&place).unwrap();
        unefois_tests::copy_folder(data, &place);
    }
    std::fs::write(place.with_extension("head"), head).unwrap();
    sandbox.restart().await.unwrap_err().to_string()
}

#[tokio::test]
async fn what_is_older_than_a_closing_is_refused_with_the_way_out() {
    let mut sandbox = Sandbox::start().await;
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    sandbox.stop().await;
    let kept = tempfile::tempdir().unwrap();
    let copy = |sandbox: &Sandbox, name: &str| {
        let to = kept.path().join(name);
        unefois_tests::copy_folder(&sandbox.data(), &to);
        let head = std::fs::read(sandbox.data().with_extension("head")).unwrap();
        (std::fs::read_to_string(sandbox.folder.config()).unwrap(), to, head)
    };
    let (first_config, first_data, first_head) = copy(&sandbox, "first");
    sandbox.restart().await.unwrap();
    close_shard(&mut sandbox, "2027").await;
    sandbox.stop().await;
    let (config, data, head) = copy(&sandbox, "second");
    let said = refusal(&mut sandbox, &first_config, &data, &head).await;
    assert!(said.contains("/dev/2027+") && said.contains("set log.shard"), "the configuration is older: {said}");
    let said = refusal(&mut sandbox, &config, &first_data, &head).await;
    assert!(said.contains("older than the log") && said.contains("accept-head"), "the data is older: {said}");
    let said = refusal(&mut sandbox, &first_config, &first_data, &head).await;
    assert!(said.contains("head file") && said.contains("accept-head"), "data and configuration are older: {said}");
    // What a process leaves that died between the closing and the next head, and only that.
    std::fs::write(sandbox.folder.config(), &config).unwrap();
    std::fs::remove_dir_all(sandbox.data()).unwrap();
    unefois_tests::copy_folder(&data, &sandbox.data());
    std::fs::write(sandbox.data().with_extension("head"), &first_head).unwrap();
    sandbox.restart().await.unwrap();
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    let place = sandbox.data();
    let said = refusal(&mut sandbox, &config, &place, &first_head).await;
    assert!(said.contains("head file") && said.contains("accept-head"), "the head file is older: {said}");
}

#[tokio::test]
async fn a_log_whose_next_or_first_shard_is_missing_does_not_open_or_verify() {
    let mut sandbox = Sandbox::start().await;
    let first_key = sandbox.key.clone();
    close_shard(&mut sandbox, "2027").await;
    sandbox.stop().await;
    let (data, config) = (sandbox.data(), std::fs::read_to_string(sandbox.folder.config()).unwrap());
    let mut segments = unefois_tests::files(&data.join("journal"));
    segments.retain(|path| !path.ends_with("spare.seg"));
    let [first, second] = &segments[..] else { panic!("{segments:?}") };
    let aside = data.with_extension("aside");
    let head = std::fs::read(data.with_extension("head")).unwrap();

    std::fs::rename(first, &aside).unwrap();
    let said = refusal(&mut sandbox, &config, &data, &head).await;
    assert!(said.contains("the first shard of the log"), "{said}");
    std::fs::rename(&aside, first).unwrap();

    std::fs::rename(second, &aside).unwrap();
    std::fs::remove_dir_all(data.join("fold")).unwrap();
    let folder = sandbox.folder.path.clone();
    let without = config.lines().filter(|line| !line.starts_with("shard = ")).collect::<Vec<_>>().join("\n");
    let old_config = without.replace("keys/2027.key", "keys/log.key");
    let said = refusal(&mut sandbox, &old_config, &data, &head).await;
    assert!(said.contains("closes the shard") && said.contains("/dev/2027+"), "{said}");
    let reader = JournalReader::open(&data).unwrap();
    let opener = Opener::new(Arc::new(FileKeys::open(&data.join("keys")).unwrap()));
    let fault = verify(&reader, &first_key, &opener, &mut |_, _| {}).unwrap_err().to_string();
    assert!(fault.contains("closes the shard"), "{fault}");
    let entries = reader.end().entries().to_string();
    let config = folder.join("unefois.toml");
    let output = process::run(&["audit", "accept-head", "-c", config.to_str().unwrap(), "--entries", &entries]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("closes the shard"));
}

#[tokio::test]
async fn a_shard_is_closed_for_another_key_only() {
    let sandbox = Sandbox::start().await;
    let pem = std::fs::read(sandbox.folder.path.join("keys/log.key")).unwrap();
    let now = signer(&sandbox.folder.path);
    // The same key under another name, as an operator would give it by mistake.
    let config = sandbox.folder.config();
    let text = std::fs::read_to_string(&config).unwrap();
    configure_shard(&sandbox.folder.path, "2027");
    std::fs::write(sandbox.folder.path.join("keys/2027.key"), pem).unwrap();
    let same = signer(&sandbox.folder.path);
    std::fs::write(&config, text).unwrap();
    let size = sandbox.broker().engine().head().size;
    let refused = sandbox.broker().engine().close_shard(&*now, &*same).await.unwrap_err().to_string();
    assert!(refused.contains("had that key already"), "{refused}");
    assert_eq!(sandbox.broker().engine().head().size, size);
    sandbox.finish().await;
}

/// What a command of the binary said, and its exit code.
fn said(arguments: &[&str]) -> (Option<i32>, String) {
    let output = process::run(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[test]
fn an_operator_closes_a_shard_by_command() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("broker");
    let (made, first_key) = process::folder(&folder, process::free_address());
    let config = made.config();
    let (config, key) = (config.to_str().unwrap(), folder.join("keys/2027.key"));
    let receipt = root.path().join("closed.json");
    let (key, receipt) = (key.to_str().unwrap(), receipt.to_str().unwrap());
    let close = |shard| {
        said(&["audit", "close-shard", "-c", config, "--shard", shard, "--signing-key", key, "--receipt", receipt])
    };

    assert_eq!(close("No/Name").0, Some(2));
    let running = process::Process::serve(&made.config());
    let (code, text) = close("2027");
    assert!(code == Some(1) && text.contains("is locked"), "{text}");
    assert_eq!(running.terminate(), Some(0));
    let (code, text) = close("2027");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("shard = \"2027\"") && text.contains("unefois.saint-exemple.example/dev/2027+"), "{text}");

    let (code, text) = said(&["receipt", "verify", receipt, "--key", &first_key.to_string()]);
    assert!(code == Some(0) && text.contains("shard closed") && text.contains("dev/2027+"), "{text}");
    let (code, text) = close("2027");
    assert!(code == Some(2) && text.contains("exists already"), "{text}");
    let (code, text) = said(&["audit", "verify", "-c", config]);
    assert!(code == Some(1) && text.contains("2027"), "an old key verifies no newer log: {text}");

    configure_shard(&folder, "2027");
    let running = process::Process::serve(&made.config());
    assert_eq!(running.terminate(), Some(0));
    for check in ["verify", "replay"] {
        let (code, text) = said(&["audit", check, "-c", config]);
        assert_eq!(code, Some(0), "{text}");
    }
    std::fs::remove_file(receipt).unwrap();
    let (code, text) = close("2027");
    assert!(code == Some(1) && text.contains("had a shard of that name"), "{text}");
    assert!(!Path::new(receipt).exists(), "a receipt of nothing was left");
}

/// The batches of a log with two shards in memory, and what checks it.
struct TwoShards {
    store: MemoryStore,
    key: VerifierKey,
    /// The batch that opens the second shard.
    opening: usize,
}

impl TwoShards {
    async fn new() -> Self {
        let store = MemoryStore::new();
        let mut sandbox = Sandbox::start_in_memory(store.clone()).await;
        exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
        close_shard(&mut sandbox, "2027").await;
        exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
        let key = sandbox.key.clone();
        sandbox.finish().await;
        let first = *unefois_engine::store::Journal::shards(&store).last().unwrap();
        let mut opening = 0;
        store.tamper(|batches| opening = batches.iter().position(|batch| batch.first == first).unwrap());
        Self { store, key, opening }
    }

    /// What verification says of the log that `change` makes of this one.
    fn fault(&self, change: impl FnOnce(&mut Vec<Batch>)) -> LogFault {
        let mut whole = Vec::new();
        self.store.tamper(|batches| {
            whole.clone_from(batches);
            change(batches);
        });
        let opener = Opener::new(Arc::new(self.store.clone()));
        let fault = verify(&JournalSource(&self.store), &self.key, &opener, &mut |_, _| {}).unwrap_err();
        self.store.tamper(|batches| *batches = whole);
        fault
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_end_of_a_shard_can_be_changed_moved_or_left_out() {
    let log = TwoShards::new().await;
    let (opening, closing) = (log.opening, log.opening - 1);
    let index = |at: usize| {
        let mut first = 0;
        log.store.tamper(|batches| first = batches[at].first);
        first
    };
    let (opening_index, closing_index) = (index(opening), index(closing));
    let expect = |what: &str, at: u64, fault: LogFault| {
        let LogFault::Entry { index, .. } = fault else { panic!("{what}: {fault}") };
        assert_eq!(index, at, "{what}: {fault}");
    };
    expect("the head of the closed shard", closing_index, log.fault(|b| b[closing].signature[7] ^= 1));
    expect("the head of an older batch", index(closing - 1), log.fault(|b| b[closing - 1].signature[7] ^= 1));
    expect("the first head of the next shard", opening_index, log.fault(|b| b[opening].signature[7] ^= 1));
    expect("the closing entry's kind", closing_index, log.fault(|b| b[closing].entries[0].leaf.kind = 32));
    expect("the opening entry's kind", opening_index, log.fault(|b| b[opening].entries[0].leaf.kind = 32));
    expect("the closed shard's root", closing_index, log.fault(|b| b[closing].root.0[0] ^= 1));
    // An entry is taken out of the closed shard, and all behind it moves up.
    expect("an entry less", index(closing - 1), {
        log.fault(|batches| {
            batches.remove(closing - 1);
        })
    });
    // The next shard is opened by the entry of another one, of the same key.
    let other = TwoShards::new().await;
    let mut foreign = None;
    other.store.tamper(|batches| foreign = Some(batches[other.opening].clone()));
    let mut foreign = foreign.unwrap();
    foreign.first = opening_index;
    expect("another shard's first entry", opening_index, log.fault(|batches| batches[opening] = foreign));
    let key = log.key.clone();
    assert!(log.store.read().unwrap().is_some_and(|note| Checkpoint::open(&note, &key, key.name()).is_ok()));
}
