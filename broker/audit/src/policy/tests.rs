use proptest::prelude::*;

use super::*;
use crate::hash::leaf_hash;
use crate::testing::{LogKey, Witness};

const ORIGIN: &str = "log.example/1";

fn witness(number: u8) -> Witness {
    Witness::new(&format!("w.example/{number}"), number)
}

fn log() -> LogKey {
    LogKey::new(ORIGIN, 100)
}

/// The example of tlog-policy, with keys.
fn example() -> String {
    let mut text = format!("log {}\n\n", log().verifier());
    for (number, name) in (1..).zip(["X1", "X2", "X3", "Y1", "Y2", "Y3"]) {
        text.push_str(&format!("witness {name} {}\n", witness(number).key()));
    }
    text + "group X-witnesses 2 X1 X2 X3\n\
            group Y-witnesses any Y1 Y2 Y3\n\
            \n\
            group X-and-Y all X-witnesses Y-witnesses\n\
            quorum X-and-Y\n"
}

fn parse(text: &str) -> Result<Policy, PolicyError> {
    Policy::parse(text.as_bytes())
}

/// A checkpoint cosigned by these witnesses.
fn note(signers: &[u8]) -> String {
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 3, root: leaf_hash(b"root") };
    let mut note = log().sign(&checkpoint);
    for number in signers {
        note.push_str(&witness(*number).line(1_700_000_000, &checkpoint.note_text()));
    }
    note
}

#[test]
fn the_example_of_the_specification_means_what_it_says() {
    let policy = parse(&example()).unwrap();
    assert_eq!((policy.logs().len(), policy.witnesses().len()), (1, 6));
    for (signers, met) in [
        (&[][..], false),
        (&[1, 2], false),
        (&[4, 5, 6], false),
        (&[1, 4], false),
        (&[1, 2, 4], true),
        (&[2, 3, 6], true),
        (&[1, 2, 3, 4, 5, 6], true),
    ] {
        let verdict = policy.judge(&note(signers)).unwrap();
        assert_eq!(verdict.quorum_is_met, met, "{signers:?}");
        let found: Vec<u8> =
            (1..).zip(&verdict.cosignatures).filter(|(_, found)| found.is_some()).map(|(number, _)| number).collect();
        assert_eq!(found, signers);
    }
}

#[test]
fn a_quorum_of_one_witness_or_of_none_needs_no_group() {
    let one = format!("log {}\nwitness A {}\nquorum A\n", log().verifier(), witness(1).key());
    assert!(!parse(&one).unwrap().judge(&note(&[])).unwrap().quorum_is_met);
    assert!(!parse(&one).unwrap().judge(&note(&[2])).unwrap().quorum_is_met);
    assert!(parse(&one).unwrap().judge(&note(&[1])).unwrap().quorum_is_met);
    let none = format!("log {}\nquorum none\n", log().verifier());
    assert!(parse(&none).unwrap().judge(&note(&[])).unwrap().quorum_is_met);
    assert!(parse("quorum none\n").unwrap().logs().is_empty());
}

#[test]
fn only_a_checkpoint_of_a_listed_log_with_true_lines_is_judged() {
    let policy = parse(&example()).unwrap();
    let stranger = LogKey::new(ORIGIN, 101);
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 3, root: leaf_hash(b"root") };
    assert_eq!(policy.judge(&stranger.sign(&checkpoint)), Err(AuditError::NoKnownKey));
    assert!(policy.clone().with_log(stranger.verifier()).judge(&stranger.sign(&checkpoint)).is_ok());
    // The key is known, and the origin another: a log speaks for its own name alone.
    let renamed = Checkpoint { origin: "log.example/2".to_owned(), ..checkpoint.clone() };
    let text = renamed.note_text();
    let line = crate::note::signature_line(ORIGIN, log().verifier().id(), &log().signature(&text));
    assert_eq!(policy.judge(&format!("{text}\n{line}")), Err(AuditError::NoKnownKey));
    let other = Checkpoint { size: 4, ..checkpoint };
    let moved = format!("{}{}", note(&[1, 2, 4]), witness(5).line(1, &other.note_text()));
    assert_eq!(policy.judge(&moved), Err(AuditError::FalseSignature));
}

#[test]
fn spaces_tabs_comments_and_octets_beyond_ascii_are_allowed() {
    let mut file = format!("  # a comment\n\t\n \tlog\t{}  http://log.example \n", log().verifier()).into_bytes();
    file.extend(b"witness \xff\xfe ");
    file.extend(witness(1).key().to_string().bytes());
    file.extend(b" http://\xe9.example\nquorum \xff\xfe\n#\n");
    let policy = Policy::parse(&file).unwrap();
    assert_eq!(policy.logs()[0].url.as_ref().unwrap().as_text(), Some("http://log.example"));
    assert_eq!(policy.witnesses()[0].name.as_text(), None);
    assert!(policy.is_met(|place| place == 0));
    // The Kelvin sign is not the letter K.
    let kelvin = format!("witness K {}\nquorum \u{212a}\n", witness(1).key());
    assert_eq!(parse(&kelvin).unwrap_err().line, 2);
}

#[test]
fn each_fault_is_told_with_its_line() {
    let (a, b) = (witness(1), witness(2));
    let (a, b) = (format!("witness A {}", a.key()), format!("witness B {}", b.key()));
    let same_key = format!("witness C {}", WitnessKey::new("elsewhere", *witness(1).key().public_key()).unwrap());
    let same_log = VerifierKey::new("elsewhere", *log().verifier().public_key()).unwrap();
    let log_line = format!("log {}", log().verifier());
    let weak = |signature_type| {
        let id = crate::note::key_id_of(signature_type, "weak", &[0; 32]);
        crate::note::vkey_text(signature_type, "weak", id, &[0; 32])
    };
    for (lines, line, says) in [
        (vec!["witnes A x"], 1, "none of log"),
        (vec!["Quorum none"], 1, "none of log"),
        (vec!["quorum none # really"], 1, "quorum NAME"),
        (vec!["quorum"], 1, "quorum NAME"),
        (vec!["quorum A"], 1, "not defined"),
        (vec![&a, "quorum A", "quorum A"], 3, "already"),
        (vec![&a, "quorum none", "quorum A"], 3, "already"),
        (vec![&a], 1, "without a quorum"),
        (vec!["log", "quorum none"], 1, "log VKEY"),
        (vec!["log x", "quorum none"], 1, "verifier key"),
        (vec![&log_line, &format!("log {same_log}"), "quorum none"], 2, "already"),
        (vec![&a.replace("witness A", "log"), "quorum none"], 1, "type 1"),
        (vec![&log_line.replacen("log", "witness A", 1), "quorum A"], 1, "type 4"),
        (vec![&a, &same_key, "quorum A"], 2, "already"),
        (vec![&format!("log {}", weak(1)), "quorum none"], 1, "small order"),
        (vec![&format!("witness W {}", weak(4)), "quorum W"], 1, "small order"),
        (vec![&a, &b.replace(" B ", " A "), "quorum A"], 2, "defined already"),
        (vec![&a.replace(" A ", " none "), "quorum none"], 1, "none"),
        (vec!["witness A", "quorum A"], 1, "witness NAME"),
        (vec![&format!("{a} http://x y"), "quorum A"], 1, "witness NAME"),
        (vec![&a, "group G", "quorum G"], 2, "group NAME"),
        (vec![&a, "group G any", "quorum G"], 2, "group NAME"),
        (vec![&a, "group G some A", "quorum G"], 2, "threshold"),
        (vec![&a, "group G 0 A", "quorum G"], 2, "threshold"),
        (vec![&a, "group G 2 A", "quorum G"], 2, "threshold"),
        (vec![&a, "group G 01 A", "quorum G"], 2, "threshold"),
        (vec![&a, "group G all B", "quorum G"], 2, "not defined"),
        (vec!["group G all A", &a, "quorum G"], 1, "not defined"),
        (vec![&a, "group G any A G", "quorum G"], 2, "not defined"),
        (vec![&a, "group G any A none", "quorum G"], 2, "none"),
        (vec![&a, "group none any A", "quorum none"], 2, "none"),
        (vec![&a, "group A any A", "quorum A"], 2, "defined already"),
        (vec![&a, "group G any A A", "quorum G"], 2, "once"),
        (vec![&a, "group G any A", "group H any A", "quorum H"], 3, "once"),
        (vec!["quorum none\r"], 1, "control"),
        (vec!["quorum none", "# \u{7f}"], 2, "control"),
    ] {
        let fault = parse(&(lines.join("\n") + "\n")).expect_err(&format!("{lines:?}"));
        assert_eq!(fault.line, line, "{lines:?}: {fault}");
        assert!(fault.problem.contains(says), "{lines:?}: {fault}");
    }
    let cut = parse("quorum none").unwrap_err();
    assert!(cut.problem.contains("newline"), "{cut}");
    assert!(parse(&format!("quorum none\n{}", "#\n".repeat(MAX_POLICY_BYTES))).is_err());
}

#[test]
fn thirty_two_of_each_and_a_tower_of_groups_are_read() {
    let mut text = String::new();
    for number in 1..=32 {
        text.push_str(&format!("log {}\n", LogKey::new(&format!("log.example/{number}"), number + 100).verifier()));
        text.push_str(&format!("witness w{number} {}\n", witness(number).key()));
    }
    text.push_str("group g1 all w1\n");
    for number in 2..=32 {
        text.push_str(&format!("group g{number} all g{} w{number}\n", number - 1));
    }
    let policy = parse(&(text + "quorum g32\n")).unwrap();
    assert!(policy.is_met(|_| true));
    for missing in 0..32 {
        assert!(!policy.is_met(|place| place != missing), "{missing}");
    }
}

proptest! {
    #[test]
    fn reading_never_panics(file in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Policy::parse(&file);
    }

    #[test]
    fn more_cosignatures_never_break_a_quorum(x in 1_u8..=3, signers in 0_u8..64, more in 0_u8..64) {
        let text = example().replace("X-witnesses 2", &format!("X-witnesses {x}"));
        let policy = parse(&text).unwrap();
        let met = |set: u8| policy.is_met(|place| set >> place & 1 == 1);
        let by_hand = |set: u8| (set & 0b111).count_ones() >= u32::from(x) && set & 0b11_1000 != 0;
        prop_assert_eq!(met(signers), by_hand(signers));
        prop_assert!(!met(signers) || met(signers | more));
    }
}
