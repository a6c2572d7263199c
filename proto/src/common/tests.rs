use proptest::prelude::*;

use super::*;
use crate::testing::{SPOILT_IDENTITIES, identity as good};

fn read(message: &v1::Identity) -> Result<PivotIdentity, Malformed> {
    identity("subject", Some(message))
}

#[test]
fn a_malformed_identity_names_its_field_and_says_nothing_of_the_person() {
    for (at, (field, spoil)) in SPOILT_IDENTITIES.iter().enumerate() {
        let mut message = good();
        spoil(&mut message);
        let fault = read(&message).unwrap_err();
        assert_eq!(fault.field, format!("subject.{field}"), "case {at}");
        for text in [fault.to_string(), format!("{fault:?}")] {
            assert!(!text.contains(crate::testing::MARKER) && !text.contains("MARCHAND"), "case {at}: {text}");
        }
    }
    assert_eq!(identity("subject", None).unwrap_err().to_string(), "subject: is required");
}

#[test]
fn an_identity_may_lack_what_a_person_may_lack() {
    for date in ["", "1988", "1988-04", "1988-04-17", "2000-02-29"] {
        let message = v1::Identity {
            usage_name: String::new(),
            birth_date: date.to_owned(),
            birth_commune: String::new(),
            birth_country: "99243".to_owned(),
            ..good()
        };
        assert_eq!(wire_identity(&read(&message).unwrap()), message, "{date}");
    }
}

#[test]
fn a_commune_is_judged_by_its_form_alone() {
    // 35000 is the postcode of Rennes and no commune, but only the whole COG could tell.
    for commune in ["35238", "2A004", "2B033", "97105", "35000"] {
        let message = v1::Identity { birth_commune: commune.to_owned(), ..good() };
        assert_eq!(wire_identity(&read(&message).unwrap()), message);
    }
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-zÀ-ÖØ-öø-ÿ王][A-Za-zÀ-ÖØ-öø-ÿ '’-]{0,60}[a-zé]"
}

proptest! {
    #[test]
    fn an_identity_comes_back_from_the_wire_as_it_was(
        birth_name in name(),
        given_names in proptest::collection::vec(name(), 1..=16),
        (year, month, day, precision) in (1850..=2100_u16, 1..=12_u8, 1..=28_u8, 0..4_usize),
        sex in 1..=2,
        commune in "[0-9]{5}",
    ) {
        let date = format!("{year:04}-{month:02}-{day:02}");
        let birth_date = date[..[0, 4, 7, 10][precision]].to_owned();
        let message = v1::Identity {
            birth_name, usage_name: given_names[0].clone(), given_names, birth_date, sex, birth_country: "99100".to_owned(),
            birth_commune: commune,
        };
        let identity = read(&message).unwrap();
        prop_assert_eq!(wire_identity(&identity), message);
        prop_assert_eq!(format!("{identity:?}"), "[pivot identity]");
    }

    #[test]
    fn no_text_makes_the_conversion_panic_or_show_up_in_its_fault(text in any::<String>()) {
        let message = v1::Identity {
            birth_name: text.clone(), usage_name: text.clone(), given_names: vec![text.clone()], birth_date: text.clone(),
            birth_country: text.clone(), birth_commune: text.clone(), ..good()
        };
        if let Err(fault) = read(&message) {
            prop_assert!(text.chars().count() < 4 || !fault.to_string().contains(&text));
        }
    }
}
