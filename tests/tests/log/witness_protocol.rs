//! The protocol between log and witness (C2SP tlog-witness), each side against one that the test plays itself.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use ring::signature::{Ed25519KeyPair, KeyPair};
use unefois_audit::add_checkpoint::MAX_REQUEST_BYTES;
use unefois_audit::hash::leaf_hash;
use unefois_audit::{
    AddCheckpoint, Checkpoint, Cosignature, EMPTY_ROOT, Frontier, Hash, Policy, SignedNote, VerifierKey, WitnessKey,
    node_hash, signature_line,
};
use unefois_tests::ask::until;
use unefois_tests::sandbox::Sandbox;
use unefois_tests::witness::{TestWitness, http, watch};

const ORIGIN: &str = "log.example/played";

/// A log that signs whatever it likes.
struct Log(Ed25519KeyPair);

impl Log {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn key(&self) -> VerifierKey {
        VerifierKey::new(ORIGIN, self.0.public_key().as_ref().try_into().unwrap()).unwrap()
    }

    fn line(&self, text: &str) -> String {
        signature_line(ORIGIN, self.key().id(), self.0.sign(text.as_bytes()).as_ref())
    }

    fn note(&self, size: u64, root: Hash) -> String {
        let text = Checkpoint { origin: ORIGIN.to_owned(), size, root }.note_text();
        format!("{text}\n{}", self.line(&text))
    }
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
}

fn root(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.append_with(*leaf, |_, _, _| {}));
    frontier.root()
}

fn body(old: u64, proof: &[Hash], note: &str) -> String {
    let proof: String = proof.iter().map(|hash| hash.to_base64() + "\n").collect();
    format!("old {old}\n{proof}\n{note}")
}

fn add(witness: &TestWitness, body: &str) -> (u16, String, String) {
    http(witness.address, "POST /add-checkpoint", body.as_bytes())
}

#[track_caller]
fn refuses(witness: &TestWitness, status: u16, body: &str) {
    let (found, _, said) = add(witness, body);
    assert_eq!(found, status, "{said}");
}

/// The proof from two leaves to four.
fn two_to_four() -> Vec<Hash> {
    let leaves = leaves(4);
    vec![node_hash(&leaves[2], &leaves[3])]
}

#[test]
fn a_witness_gives_each_fault_its_status_and_cosigns_what_extends() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::new(1);
    let witness = TestWitness::start(folder.path(), "w", &[&log.key()]);
    let (two, four) = (log.note(2, root(&leaves(2))), log.note(4, root(&leaves(4))));
    let hash = unefois::witness::state::origin_hash(ORIGIN);
    let read = || http(witness.address, &format!("GET /{hash}/checkpoint"), b"");
    assert_eq!(read().0, 404, "nothing was cosigned yet");

    for malformed in ["", "old 0\n", "old 00\n\n", &two, "new 0\n\nx", &body(0, &[], "no note"), &body(3, &[], &two)] {
        refuses(&witness, 400, malformed);
    }
    refuses(&witness, 400, &body(0, &vec![leaf_hash(b"x"); 64], &two));
    assert_eq!(http(witness.address, "POST /add-checkpoint", &[0xff; 20]).0, 400);
    assert_eq!(http(witness.address, "POST /add-checkpoint", &vec![b'x'; MAX_REQUEST_BYTES + 1]).0, 413);
    assert_eq!(http(witness.address, "GET /add-checkpoint", b"").0, 405);
    refuses(&witness, 404, &body(0, &[], &two.replace("played", "unheard-of")));
    refuses(&witness, 403, &body(0, &[], &Log::new(2).note(2, root(&leaves(2)))));
    let false_line = signature_line(ORIGIN, log.key().id(), &[7; 64]);
    refuses(&witness, 403, &body(0, &[], &format!("{two}{false_line}")));
    refuses(&witness, 422, &body(0, &two_to_four(), &four));
    refuses(&witness, 422, &body(0, &[], &log.note(0, leaf_hash(b"not empty"))));
    assert!(std::fs::read(witness.state_of(ORIGIN)).is_err(), "a refusal changed the state");

    // The empty tree, then two leaves, then the same again; signatures of strangers do not matter.
    for note in [&log.note(0, EMPTY_ROOT), &format!("{two}{}", signature_line("stranger", 9, &[1; 64]))] {
        let (status, _, line) = add(&witness, &body(0, &[], note));
        assert_eq!(status, 200, "{line}");
        let own = SignedNote::parse(note).unwrap();
        let cosigned = SignedNote::parse(&format!("{}\n{line}", own.text)).unwrap();
        let cosignature = witness.key.cosignature_on(&cosigned).unwrap().unwrap();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(cosignature.timestamp_s.abs_diff(now_s) < 60);
    }
    assert_eq!(add(&witness, &body(2, &[], &two)).0, 200);
    let (status, _, kept) = read();
    assert_eq!((status, kept.lines().count()), (200, 6), "{kept}");
    assert_eq!(kept, std::fs::read_to_string(witness.state_of(ORIGIN)).unwrap());
    assert!(Checkpoint::open(&kept, &log.key(), ORIGIN).is_ok(), "{kept}");
    let parsed = SignedNote::parse(&kept).unwrap();
    assert!(witness.key.cosignature_on(&parsed).unwrap().is_some());

    // A rollback, a fork of the same size, a fork that is longer, a proof of something else.
    for old in [0, 1, 3] {
        let (status, head, size) = add(&witness, &body(old, &[], &four));
        assert_eq!((status, size.as_str()), (409, "2\n"));
        assert!(head.contains("content-type: text/x.tlog.size"), "{head}");
    }
    refuses(&witness, 409, &body(0, &[], &log.note(1, root(&leaves(1)))));
    refuses(&witness, 422, &body(2, &[], &log.note(2, leaf_hash(b"fork"))));
    refuses(&witness, 422, &body(2, &two_to_four(), &log.note(4, leaf_hash(b"fork"))));
    refuses(&witness, 422, &body(2, &[leaf_hash(b"x")], &four));
    refuses(&witness, 422, &body(2, &[], &four));
    assert_eq!(read().2, kept, "a refusal changed the state");
    assert_eq!(add(&witness, &body(2, &two_to_four(), &four)).0, 200);
}

#[test]
fn a_checkpoint_with_extension_lines_is_cosigned_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::new(1);
    let witness = TestWitness::start(folder.path(), "w", &[&log.key()]);
    let text = Checkpoint { origin: ORIGIN.to_owned(), size: 2, root: root(&leaves(2)) }.note_text() + "more\n";
    let (status, _, line) = add(&witness, &body(0, &[], &format!("{text}\n{}", log.line(&text))));
    assert_eq!(status, 200, "{line}");
    let cosigned = SignedNote::parse(&format!("{text}\n{line}")).unwrap();
    assert!(witness.key.cosignature_on(&cosigned).unwrap().is_some());
}

#[test]
fn a_killed_witness_goes_on_from_its_state_and_never_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::new(1);
    let mut witness = TestWitness::start(folder.path(), "w", &[&log.key()]);
    assert_eq!(add(&witness, &body(0, &[], &log.note(2, root(&leaves(2))))).0, 200);
    let (code, said) = witness.spawn().wait();
    assert_eq!(code, Some(2), "a second process on the state was not refused: {said}");
    assert!(said.contains("is locked"), "{said}");
    witness.kill();
    witness.serve();
    let (status, _, size) = add(&witness, &body(0, &[], &log.note(4, root(&leaves(4)))));
    assert_eq!((status, size.as_str()), (409, "2\n"), "it forgot");
    assert_eq!(add(&witness, &body(2, &two_to_four(), &log.note(4, root(&leaves(4))))).0, 200);
    witness.kill();

    let refuses_to_start = |why: &str| {
        let (code, said) = witness.spawn().wait();
        assert_eq!(code, Some(2), "{why}: {said}");
        assert!(said.contains(why), "{why}: {said}");
    };
    let file = witness.state_of(ORIGIN);
    let kept = std::fs::read_to_string(&file).unwrap();
    let (_, own_line) = kept.split_at(kept.rfind("— ").unwrap());
    let of_another_log = Log::new(2).note(4, root(&leaves(4))) + own_line;
    let line = log.line(log.note(4, root(&leaves(4))).split("\n\n").next().unwrap());
    let false_line = kept.replace(&log.line(&SignedNote::parse(&kept).unwrap().text), &line);
    assert_ne!(false_line, kept);
    for (damaged, why) in [
        ("", "an empty line"),
        (&kept[1..], "is false"),
        (&kept.replace("\n4\n", "\n3\n"), "is false"),
        (&kept[..kept.len() - 30], "newline"),
        (&log.note(4, EMPTY_ROOT), "was not cosigned"),
        (&of_another_log, "the one that did must stay"),
        (&false_line, "is false"),
    ] {
        std::fs::write(&file, damaged).unwrap();
        refuses_to_start("put the file back");
        refuses_to_start(why);
    }
    std::fs::remove_file(&file).unwrap();
    refuses_to_start("it is gone");
    std::fs::write(&file, &kept).unwrap();
    let (state, away) = (witness.folder.join("state"), witness.folder.join("away"));
    std::fs::rename(&state, &away).unwrap();
    refuses_to_start("is no folder");
    std::fs::rename(&away, &state).unwrap();
    let key = witness.folder.join("witness.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    refuses_to_start("chmod 600");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    witness.serve();
    assert_eq!(add(&witness, &body(0, &[], &log.note(4, root(&leaves(4))))).2, "4\n");
}

#[test]
fn of_many_requests_at_once_the_witness_cosigns_one_line_of_history() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::new(1);
    let witness = TestWitness::start(folder.path(), "w", &[&log.key()]);
    // Eight first checkpoints that contradict each other.
    let offers: Vec<_> = (0..8_u8).map(|n| body(0, &[], &log.note(2, leaf_hash(&[n])))).collect();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = offers.iter().map(|offer| scope.spawn(|| add(&witness, offer).0)).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
}

/// A witness that answers what it is told to.
#[derive(Clone)]
struct Played {
    key: Arc<Ed25519KeyPair>,
    answer: Arc<Mutex<Lie>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    AnotherKey,
    Noise,
    Yesterday,
    Tomorrow,
    AnotherCheckpoint,
    MovedText,
    Endless,
    Elsewhere,
    ConflictWithout,
    Nothing,
    Truth,
}

impl Played {
    fn key(&self) -> WitnessKey {
        WitnessKey::new("witness.example/liar", self.key.public_key().as_ref().try_into().unwrap()).unwrap()
    }

    fn line(&self, now_s: u64, text: &str) -> String {
        let sign = |message: &[u8]| Ok::<_, Infallible>(self.key.sign(message).as_ref().try_into().unwrap());
        self.key().line(&Cosignature::make(now_s, text, sign).unwrap())
    }

    fn answer(&self, body: &str) -> Response {
        let (request, checkpoint) = AddCheckpoint::parse(body).unwrap();
        let text = &request.note.text;
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let key = self.key();
        match *self.answer.lock().unwrap() {
            Lie::AnotherKey => {
                let other =
                    Self { key: Arc::new(Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap()), ..self.clone() };
                other.line(now_s, text).into_response()
            }
            Lie::Noise => signature_line(key.name(), key.id(), &[1; 72]).into_response(),
            Lie::Yesterday => self.line(now_s - 86_400, text).into_response(),
            Lie::Tomorrow => self.line(now_s + 86_400, text).into_response(),
            Lie::AnotherCheckpoint => {
                self.line(now_s, &Checkpoint { size: checkpoint.size + 1, ..checkpoint }.note_text()).into_response()
            }
            Lie::MovedText => {
                // The lines end the text anew, so that what is signed is not the log's.
                let moved = format!("{}x\n", request.note);
                format!("x\n\n{}", self.line(now_s, &moved)).into_response()
            }
            Lie::Endless => "x".repeat(1 << 20).into_response(),
            Lie::Elsewhere => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response(),
            Lie::ConflictWithout => (StatusCode::CONFLICT, "soon\n").into_response(),
            Lie::Nothing => "".into_response(),
            Lie::Truth => self.line(now_s, text).into_response(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_believes_no_witness_that_lies() {
    let played = Played {
        key: Arc::new(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()),
        answer: Arc::new(Mutex::new(Lie::AnotherKey)),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let router = Router::new()
        .route(
            "/add-checkpoint",
            post({
                let seen = seen.clone();
                async move |State(played): State<Played>, body: String| {
                    let lie = *played.answer.lock().unwrap();
                    let answer = played.answer(&body);
                    seen.lock().unwrap().push(lie);
                    answer
                }
            }),
        )
        .route(
            "/elsewhere",
            post(async |State(played): State<Played>, body: String| {
                *played.answer.lock().unwrap() = Lie::Truth;
                played.answer(&body)
            }),
        )
        .with_state(played.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut sandbox = Sandbox::start().await;
    let text = format!("log {}\nwitness liar {} http://{address}/\nquorum liar\n", sandbox.key, played.key());
    watch(&mut sandbox, &text, "").await;
    let policy = Policy::parse(text.as_bytes()).unwrap();
    let engine = sandbox.broker().engine().clone();
    for lie in [
        Lie::AnotherKey,
        Lie::Noise,
        Lie::Yesterday,
        Lie::Tomorrow,
        Lie::AnotherCheckpoint,
        Lie::MovedText,
        Lie::Endless,
        Lie::Elsewhere,
        Lie::ConflictWithout,
        Lie::Nothing,
    ] {
        *played.answer.lock().unwrap() = lie;
        // Twice: the first answer has been judged when the second question comes.
        until(|| seen.lock().unwrap().iter().filter(|told| **told == lie).count() >= 2).await;
        assert!(!policy.judge(&engine.published_head().note).unwrap().quorum_is_met, "{lie:?}");
    }
    *played.answer.lock().unwrap() = Lie::Truth;
    until(|| policy.judge(&engine.published_head().note).unwrap().quorum_is_met).await;
    drop(engine);
    sandbox.finish().await;
}
