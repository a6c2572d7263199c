use proptest::prelude::*;

use super::*;
use crate::hash::leaf_hash;
use crate::testing::LogKey;

/// The example of tlog-witness.
const EXAMPLE: &str = "old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
";

#[test]
fn the_example_of_the_specification_is_read_and_printed() {
    let (request, checkpoint) = AddCheckpoint::parse(EXAMPLE).unwrap();
    assert_eq!((request.old_size, request.proof.len(), request.note.signatures.len()), (20_852_014, 4, 2));
    assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
    assert_eq!(request.to_string(), EXAMPLE);
}

fn with_hashes(count: usize) -> String {
    let key = LogKey::new("log.example", 1);
    let checkpoint = Checkpoint { origin: "log.example".to_owned(), size: 9, root: leaf_hash(b"root") };
    let note = SignedNote::parse(&key.sign(&checkpoint)).unwrap();
    AddCheckpoint { old_size: 4, proof: vec![leaf_hash(b"x"); count], note }.to_string()
}

#[test]
fn sixty_three_hashes_are_read_and_one_more_is_refused() {
    assert_eq!(AddCheckpoint::parse(&with_hashes(0)).unwrap().0.proof.len(), 0);
    assert_eq!(AddCheckpoint::parse(&with_hashes(63)).unwrap().0.proof.len(), 63);
    let refused = AddCheckpoint::parse(&with_hashes(64)).unwrap_err();
    assert!(refused.to_string().contains("63"), "{refused}");
}

#[test]
fn extension_lines_are_read_past_but_not_empty_ones() {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let extended = EXAMPLE.replace(root, &format!("{root}more\nand more\n"));
    let (request, checkpoint) = AddCheckpoint::parse(&extended).unwrap();
    assert_eq!(checkpoint.size, 20_852_163);
    assert!(request.note.text.ends_with("and more\n"), "the witness signs them too");
    assert_eq!(request.to_string(), extended);
    assert!(AddCheckpoint::parse(&EXAMPLE.replace(root, &format!("{root}\nmore\n"))).is_err());
}

#[test]
fn what_deviates_is_refused() {
    let replaced = |from: &str, to: &str| {
        assert!(EXAMPLE.contains(from));
        EXAMPLE.replacen(from, to, 1)
    };
    for bad in [
        String::new(),
        "old 3".to_owned(),
        "old 3\n".to_owned(),
        "old 3\n\n".to_owned(),
        replaced("old ", ""),
        replaced("old ", "Old "),
        replaced("old 20852014", "old  20852014"),
        replaced("old 20852014", "old 020852014"),
        replaced("old 20852014", "old 20852014 "),
        replaced("old 20852014", "old -1"),
        replaced("old 20852014\n", "old 20852014\r\n"),
        replaced("old 20852014", "old 99999999999999999999"),
        replaced("pkaw=\n", "pkaw\n"),
        replaced("pkaw=\n", "pkaw= \n"),
        replaced("\n\nexample", "\nexample"),
        replaced("\n\n—", "\n—"),
        replaced("\n20852163\n", "\n020852163\n"),
        EXAMPLE.trim_end().to_owned(),
        format!("\n{EXAMPLE}"),
        format!("{EXAMPLE}\n"),
    ] {
        assert!(AddCheckpoint::parse(&bad).is_err(), "{bad:?}");
    }
    let long = format!("{EXAMPLE}{}", "x".repeat(MAX_REQUEST_BYTES));
    assert!(matches!(AddCheckpoint::parse(&long), Err(AuditError::TooLarge { .. })));
}

proptest! {
    #[test]
    fn what_parses_prints_back(
        body in "old [0-9]{1,3}\n([A-Za-z0-9+/]{43}=\n){0,3}\nlog\n[0-9]{1,2}\n[A-Za-z0-9+/]{43}=\n(x\n)?\n— log [A-Za-z0-9+/]{8}\n"
    ) {
        if let Ok((request, _)) = AddCheckpoint::parse(&body) {
            prop_assert_eq!(request.to_string(), body);
        }
    }
}
