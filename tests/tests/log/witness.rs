//! Witnesses: real brokers, real witness processes, and what each does when the other lies, forgets or is away.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tonic::Code;
use unefois::config::Loaded;
use unefois::mirror::{Mirror, MirrorError, Source};
use unefois_audit::{Policy, Receipt, Verdict, VerifierKey, WitnessKey};
use unefois_engine::EngineError;
use unefois_proto::v1;
use unefois_tests::ask::{canteen, exchange, reason, until, within};
use unefois_tests::process::{self, run};
use unefois_tests::sandbox::Sandbox;
use unefois_tests::witness::{TestWitness, http, watch};

use super::shards::{close_shard, next_key};

/// A policy of these witnesses, of which `threshold` are enough.
pub(crate) fn policy(sandbox: &Sandbox, witnesses: &[&TestWitness], threshold: &str) -> String {
    let lines: String = witnesses.iter().map(|witness| witness.line()).collect();
    let names: Vec<_> = witnesses.iter().map(|witness| witness.name.as_str()).collect();
    format!("log {}\n{lines}group all-of-them {threshold} {}\nquorum all-of-them\n", sandbox.key, names.join(" "))
}

/// Removes the data of a stopped broker, and the head beside it that would tell.
fn forget(sandbox: &Sandbox) {
    std::fs::remove_dir_all(sandbox.data()).unwrap();
    std::fs::remove_file(sandbox.data().with_extension("head")).unwrap();
}

fn judge(policy: &str, note: &str) -> Verdict {
    Policy::parse(policy.as_bytes()).unwrap().judge(note).unwrap()
}

/// Waits until the newest entry of the log is in a cosigned head.
pub(crate) async fn wait_for_quorum(sandbox: &Sandbox, policy: &str) {
    let engine = sandbox.broker().engine();
    until(|| {
        let head = engine.published_head();
        head.size == engine.head().size && judge(policy, &head.note).quorum_is_met
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_head_of_a_closed_shard_is_cosigned_and_shown_for_good() {
    let root = tempfile::tempdir().unwrap();
    let mut sandbox = Sandbox::start().await;
    let (old, next) = (sandbox.key.clone(), next_key(&sandbox.folder.path, "2027"));
    let witness = TestWitness::start(root.path(), "one", &[&old, &next]);
    let text = format!("log {next}\n{}", policy(&sandbox, &[&witness], "all"));
    watch(&mut sandbox, &text, "").await;
    let answer = exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    let index = Receipt::from_json(&answer.receipt).unwrap().proof.index;
    wait_for_quorum(&sandbox, &text).await;
    let before = sandbox.broker().engine().published_head().note.clone();
    let closing = close_shard(&mut sandbox, "2027").await;

    // Both by the witnesses: the end of the one shard, and the next one.
    let last_is_cosigned = |sandbox: &Sandbox| {
        let head = sandbox.broker().engine().closed_head(0).unwrap();
        head.entries() == closing.proof.index + 1 && judge(&text, &head.note).quorum_is_met
    };
    until(|| last_is_cosigned(&sandbox)).await;
    wait_for_quorum(&sandbox, &text).await;
    let (_, _, note) = http(sandbox.broker().log_address.unwrap(), "GET /shard/0/checkpoint", b"");
    assert!(judge(&text, &note).quorum_is_met && note.starts_with(&format!("{}\n", old.name())), "{note}");
    let early = receipt(&sandbox, index).await;
    early.verify(&old).unwrap();
    assert!(judge(&text, &early.proof.checkpoint).quorum_is_met);

    // It is shown after a restart without asking anybody.
    drop(witness);
    sandbox.restart().await.unwrap();
    until(|| last_is_cosigned(&sandbox)).await;
    // A kept head that was changed is not shown; one that the log contradicts is kept as proof.
    sandbox.stop().await;
    let kept = sandbox.data().join(format!("cosigned-{:020}", 0));
    let whole = std::fs::read_to_string(&kept).unwrap();
    let size = early.proof.checkpoint.lines().nth(1).unwrap();
    std::fs::write(&kept, whole.replace(&format!("\n{size}\n"), "\n7\n")).unwrap();
    sandbox.restart().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!last_is_cosigned(&sandbox));
    sandbox.stop().await;
    std::fs::write(&kept, &before).unwrap();
    sandbox.restart().await.unwrap();
    until(|| kept.with_added_extension("set-aside").exists()).await;
    assert!(!last_is_cosigned(&sandbox));
    sandbox.finish().await;
}

/// A metric of this process.
fn metric(line: &str) -> f64 {
    let text = unefois::http::install_metrics().unwrap().render();
    let value = text.lines().find_map(|found| found.strip_prefix(line));
    value.map_or(0.0, |value| value.trim().parse().unwrap())
}

fn requests(witness: &str, outcome: &str) -> f64 {
    metric(&format!("unefois_witness_requests_total{{witness=\"{witness}\",outcome=\"{outcome}\"}}"))
}

async fn receipt(sandbox: &Sandbox, index: u64) -> Receipt {
    let dpo = sandbox.client("dpo").await;
    let request = within(v1::GetReceiptRequest { index, origin: String::new() });
    Receipt::from_json(&dpo.audit().get_receipt(request).await.unwrap().into_inner().receipt).unwrap()
}

fn verify(file: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["receipt", "verify", file.to_str().unwrap()], arguments].concat());
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_cosigns_the_log_and_receipts_verify_with_the_policy() {
    let root = tempfile::tempdir().unwrap();
    let mut sandbox = Sandbox::start().await;
    let (one, two) = (
        TestWitness::start(root.path(), "one", &[&sandbox.key]),
        TestWitness::start(root.path(), "two", &[&sandbox.key]),
    );
    let text = policy(&sandbox, &[&one, &two], "all");
    let file = watch(&mut sandbox, &text, "").await;
    wait_for_quorum(&sandbox, &text).await;
    let client = sandbox.client("ville").await;
    for _ in 0..3 {
        exchange(&client, canteen("MARCHAND")).await.unwrap();
        wait_for_quorum(&sandbox, &text).await;
    }
    let (status, _, note) = http(sandbox.broker().log_address.unwrap(), "GET /checkpoint", b"");
    assert_eq!(status, 200);
    let verdict = judge(&text, &note);
    assert!(verdict.quorum_is_met && verdict.cosignatures.iter().all(Option::is_some));
    let copy = root.path().join("copy");
    let url = format!("http://{}", sandbox.broker().log_address.unwrap());
    let mirror = Mirror::open(&copy, &sandbox.key).unwrap().requiring(Policy::parse(text.as_bytes()).unwrap());
    let mut mirror = mirror;
    let update = mirror.update(&Source::new(&url).unwrap(), &mut |_, _| {}).await.unwrap();
    assert!(update.after >= verdict.checkpoint.size);

    let receipt = receipt(&sandbox, 3).await;
    assert!(judge(&text, &receipt.proof.checkpoint).quorum_is_met);
    let path = root.path().join("receipt.json");
    std::fs::write(&path, receipt.to_json()).unwrap();
    let policy_file = file.to_str().unwrap();
    let (code, said) = verify(&path, &["--policy", policy_file]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("witness one cosigned") && said.contains("witness two cosigned"), "{said}");
    let key = sandbox.key.to_string();
    assert_eq!(verify(&path, &["--key", &key]).0, Some(0), "old verifiers ignore cosignatures");
    // A third witness that the policy asks for has not cosigned.
    let three = TestWitness::start(root.path(), "three", &[]);
    let stricter = root.path().join("stricter");
    std::fs::write(&stricter, policy(&sandbox, &[&one, &two, &three], "all")).unwrap();
    let (code, said) = verify(&path, &["--policy", stricter.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nothing by witness three") && said.contains("no quorum"), "{said}");
    let strict = std::fs::read(&stricter).unwrap();
    let mut unmet =
        Mirror::open(&root.path().join("other"), &sandbox.key).unwrap().requiring(Policy::parse(&strict).unwrap());
    let refused = unmet.update(&Source::new(&url).unwrap(), &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(refused, MirrorError::NoQuorum(_)), "{refused}");
    std::fs::write(&stricter, "quorum none\n").unwrap();
    assert_eq!(verify(&path, &["--policy", stricter.to_str().unwrap()]).0, Some(2), "whose log?");
    assert_eq!(verify(&path, &[]).0, Some(2));
    sandbox.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cosigned_head_is_shown_again_after_a_restart_unless_it_was_changed() {
    let root = tempfile::tempdir().unwrap();
    let mut sandbox = Sandbox::start().await;
    let mut only = TestWitness::start(root.path(), "kept", &[&sandbox.key]);
    let text = policy(&sandbox, &[&only], "any");
    watch(&mut sandbox, &text, "").await;
    wait_for_quorum(&sandbox, &text).await;
    only.kill();
    let file = sandbox.data().join("cosigned");
    let kept = std::fs::read_to_string(&file).unwrap();
    // The log grows meanwhile, so that its newest head is another.
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    sandbox.restart().await.unwrap();
    assert_eq!(sandbox.broker().engine().published_head().note, kept);
    // Any other text is not shown: nor one whose cosignature is cut off, nor one that nobody can read.
    let cut = kept
        .lines()
        .filter(|line| !line.contains("witness.example"))
        .fold(String::new(), |text, line| text + line + "\n");
    for changed in [kept.replace("unefois", "unefoix"), cut, "x".to_owned()] {
        std::fs::write(&file, &changed).unwrap();
        sandbox.restart().await.unwrap();
        let shown = sandbox.broker().engine().published_head();
        assert_eq!(shown.note, sandbox.broker().engine().head().note, "{changed}");
    }
    only.serve();
    wait_for_quorum(&sandbox, &text).await;
    // The log went back, and what was cosigned says so.
    let kept = std::fs::read_to_string(&file).unwrap();
    sandbox.stop().await;
    forget(&sandbox);
    std::fs::create_dir(sandbox.data()).unwrap();
    std::fs::write(&file, &kept).unwrap();
    sandbox.restart().await.unwrap();
    assert_eq!(std::fs::read_to_string(sandbox.data().join("cosigned.set-aside")).unwrap(), kept);
    sandbox.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_history_under_the_same_key_is_not_cosigned() {
    let root = tempfile::tempdir().unwrap();
    let mut sandbox = Sandbox::start().await;
    let only = TestWitness::start(root.path(), "historian", &[&sandbox.key]);
    let text = policy(&sandbox, &[&only], "any");
    watch(&mut sandbox, &text, "").await;
    sandbox.grow(40).await;
    wait_for_quorum(&sandbox, &text).await;
    let state = std::fs::read_to_string(only.state_of(sandbox.key.name())).unwrap();
    sandbox.stop().await;
    // The same key, and a log that begins again: shorter first, then longer than what the witness saw.
    forget(&sandbox);
    unefois::http::install_metrics();
    sandbox.restart().await.unwrap();
    until(|| requests("historian", "ahead") >= 1.0).await;
    sandbox.grow(judge(&text, &state).checkpoint.size + 5).await;
    until(|| requests("historian", "proof_refused") >= 1.0).await;
    let engine = sandbox.broker().engine();
    assert!(!judge(&text, &engine.published_head().note).quorum_is_met);
    assert_eq!(std::fs::read_to_string(only.state_of(sandbox.key.name())).unwrap(), state, "the witness moved");
    sandbox.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_quorum_the_broker_stops_lets_exchanges_end_and_goes_on_by_itself() {
    let root = tempfile::tempdir().unwrap();
    let mut sandbox = Sandbox::start().await;
    let steady = TestWitness::start(root.path(), "steady", &[&sandbox.key]);
    let mut absent = TestWitness::start(root.path(), "absent", &[&sandbox.key]);
    let text = policy(&sandbox, &[&steady, &absent], "2");
    unefois::http::install_metrics();
    watch(&mut sandbox, &text, "late_quorum = \"stop\"\nlate_quorum_after_s = 1").await;
    wait_for_quorum(&sandbox, &text).await;
    let client = sandbox.client("ville").await;
    absent.kill();
    sandbox.source.hold();
    let under_way = tokio::spawn({
        let client = client.clone();
        async move { exchange(&client, canteen("MARCHAND")).await }
    });
    sandbox.source.was_asked(1).await;
    let engine = sandbox.broker().engine().clone();
    until(|| engine.ready().is_err()).await;
    assert!(matches!(engine.ready(), Err(EngineError::LateQuorum)));
    let size = engine.head().size;
    let refused = exchange(&client, canteen("MARCHAND")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "QUORUM_LATE"));
    assert!(refused.message().contains("witnesses"), "{refused:?}");
    assert_eq!((engine.head().size, sandbox.source.asked()), (size, 1), "something was logged or asked");
    sandbox.source.release();
    under_way.await.unwrap().unwrap();
    assert_eq!(engine.head().size, size + 1, "what was under way got its end");
    assert!(metric("unefois_quorum_late_total") >= 1.0);
    assert!(requests("absent", "unavailable") >= 1.0 && requests("steady", "cosigned") >= 1.0);
    absent.serve();
    until(|| engine.ready().is_ok()).await;
    exchange(&client, canteen("MARCHAND")).await.unwrap();
    wait_for_quorum(&sandbox, &text).await;
    drop(engine);
    sandbox.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_only_warns_goes_on_without_its_quorum() {
    let root = tempfile::tempdir().unwrap();
    let mut sandbox = Sandbox::start().await;
    let mut only = TestWitness::start(root.path(), "away", &[&sandbox.key]);
    only.kill();
    let text = policy(&sandbox, &[&only], "any");
    unefois::http::install_metrics();
    watch(&mut sandbox, &text, "late_quorum_after_s = 1").await;
    let begun = Instant::now();
    until(|| metric("unefois_quorum_late_total") >= 1.0 && begun.elapsed() > Duration::from_secs(1)).await;
    let client = sandbox.client("ville").await;
    exchange(&client, canteen("MARCHAND")).await.unwrap();
    let engine = sandbox.broker().engine();
    assert!(engine.ready().is_ok());
    // Before the first quorum the log shows its own head; then what is cosigned, and never a smaller one than before.
    until(|| engine.published_head().size == engine.head().size).await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (engine, done) = (engine.clone(), done.clone());
        move || {
            let mut shown = 0;
            while !done.load(Ordering::SeqCst) {
                let size = engine.published_head().size;
                assert!(size >= shown, "it showed {shown} and then {size}");
                shown = size;
            }
        }
    });
    let size = engine.head().size;
    sandbox.grow(size + 100).await;
    only.serve();
    sandbox.grow(size + 600).await;
    wait_for_quorum(&sandbox, &text).await;
    done.store(true, Ordering::SeqCst);
    reader.join().unwrap();
    sandbox.finish().await;
}

#[test]
fn a_policy_that_cannot_be_met_or_is_of_another_log_stops_the_start() {
    let root = tempfile::tempdir().unwrap();
    let (folder, key) = process::folder(&root.path().join("broker"), process::free_address());
    let away = TestWitness::make(root.path(), "away", &[]);
    let config = std::fs::read_to_string(folder.config()).unwrap();
    let signing_key = "signing_key = \"keys/log.key\"\n";
    std::fs::write(folder.config(), config.replace(signing_key, &format!("{signing_key}policy = \"policy\"\n")))
        .unwrap();
    let open = |policy: &str| {
        std::fs::write(folder.path.join("policy"), policy).unwrap();
        Loaded::open(&folder.config()).map(|loaded| loaded.policy.unwrap()).map_err(|error| error.to_string())
    };
    let (log, line) = (format!("log {key}\n"), away.line());
    let other = VerifierKey::new("another.example", [1; 32]).unwrap();
    assert!(open(&format!("{log}{line}quorum away\n")).is_ok());
    assert_eq!(
        open(&format!("{line}quorum away\n")).unwrap().logs()[0].key,
        key,
        "a policy without logs is of this one"
    );
    let bare = format!("witness bare {}\n", WitnessKey::new("bare.example", [2; 32]).unwrap());
    assert!(open(&format!("{log}{line}{bare}group g any away bare\nquorum g\n")).is_ok());
    for (policy, says) in [
        (format!("log {other}\n{line}quorum away\n"), "does not list this log"),
        (format!("{log}{bare}quorum bare\n"), "are no quorum"),
        (format!("{log}{line}{bare}group g all away bare\nquorum g\n"), "are no quorum"),
        (format!("{log}{}quorum away\n", line.replace("http:", "ftp:")), "must begin with http"),
        (format!("{log}{line}"), "without a quorum"),
        (format!("{log}{line}quorum elsewhere\n"), "line 3"),
    ] {
        let refused = open(&policy).unwrap_err();
        assert!(refused.starts_with("log.policy: ") && refused.contains(says), "{policy}: {refused}");
    }
}

#[test]
fn a_witness_with_a_wrong_configuration_does_not_start() {
    let root = tempfile::tempdir().unwrap();
    let witness = TestWitness::make(root.path(), "wrong", &[]);
    let file = witness.folder.join("witness.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let own = VerifierKey::new("log.example", *witness.key.public_key()).unwrap();
    let log = VerifierKey::new("log.example", [1; 32]).unwrap();
    // The key of the log whose y is 0, a point of order 4.
    let weak = "log.example+f3e73440+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (more, says) in [
        (format!("[[log]]\nkey = \"{weak}\"\n"), "small order"),
        ("[[log]]\nkey = \"x\"\n".to_owned(), "log.key"),
        (format!("[[log]]\nkey = \"{}\"\n", witness.key), "type 1"),
        (format!("[[log]]\nkey = \"{own}\"\n"), "a key of its own"),
        (format!("[[log]]\nkey = \"{log}\"\n[[log]]\nkey = \"{log}\"\n"), "twice"),
        (format!("[[log]]\nvkey = \"{log}\"\n"), "vkey"),
    ] {
        std::fs::write(&file, format!("{text}{more}")).unwrap();
        let (code, said) = witness.spawn().wait();
        assert_eq!(code, Some(2), "{more}: {said}");
        assert!(said.contains(says), "{more}: {said}");
    }
}
