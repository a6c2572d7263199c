use super::*;

fn identity(birth_name: &str, given: &[&str]) -> PivotIdentity {
    PivotIdentity {
        birth_name: birth_name.parse().unwrap(),
        usage_name: None,
        given_names: given.iter().map(|n| n.parse().unwrap()).collect(),
        birth_date: "1982-12-27".parse().unwrap(),
        sex: Sex::Female,
        birth_country: CogCode::country("99100").unwrap(),
        birth_commune: Some(CogCode::commune("08480").unwrap()),
    }
}

#[test]
fn spellings_of_one_name_are_one_subject() {
    let same = identity("Lefèvre-Dœuf", &["Gérôme", "Jean-Philippe"]).normalised();
    for (name, given) in [
        ("LEFEVRE DOEUF", ["GEROME", "JEAN PHILIPPE"]),
        ("lefe\u{300}vre-dœuf", ["gérôme", "jean–philippe".replace('–', "-").as_str()]),
    ] {
        assert_eq!(identity(name, &given).normalised(), same);
    }
    assert_ne!(identity("LEFEVRE", &["GEROME"]).normalised(), same);
    // A name that moves from one field to the next is another person.
    assert_ne!(identity("A B", &["C"]).normalised(), identity("A", &["B", "C"]).normalised());
}

#[test]
fn malformed_names_are_refused() {
    for bad in ["", "   ", "a\u{0}b", "a\nb", "\u{202e}abc", "123", "<script>", &"x".repeat(10_240)] {
        assert!(bad.parse::<Name>().is_err(), "{}", bad.len());
    }
    for good in ["O'Brien", "D’Artagnan", "Jean-Marie", "Ñandú", "Łukasz", "王", "de la Tour"] {
        assert!(good.parse::<Name>().is_ok(), "{good}");
    }
}

#[test]
fn a_birth_date_may_be_partial_but_not_impossible() {
    for good in ["", "1982", "1982-12", "1982-12-27", "2000-02-29"] {
        assert!(good.parse::<BirthDate>().is_ok(), "{good}");
    }
    for bad in [
        "82",
        "1982-1",
        "1982-13",
        "1982-02-30",
        "1900-02-29",
        "1982-12-27-1",
        "198a",
        "1982/12/27",
        "0000",
        "27-12-1982",
        "+982",
    ] {
        assert!(bad.parse::<BirthDate>().is_err(), "{bad}");
    }
}

#[test]
fn a_birth_date_after_today_is_seen() {
    let now: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
    for (text, after) in
        [("2026-11-24", false), ("2026-11-25", true), ("2026-12", true), ("2026", false), ("2027", true), ("", false)]
    {
        assert_eq!(text.parse::<BirthDate>().unwrap().is_after(now), after, "{text}");
    }
}

/// At 0:30 in Paris and in the morning of Nouméa the date in UTC is still that of the day before.
#[test]
fn a_newborn_is_no_person_of_the_future_wherever_it_was_born() {
    let newborn: BirthDate = "2026-11-25".parse().unwrap();
    for now in ["2026-11-24T23:30:00Z", "2026-11-24T13:00:00Z", "2026-11-24T12:00:00Z"] {
        assert!(!newborn.is_after(now.parse().unwrap()), "{now}");
    }
    assert!(newborn.is_after("2026-11-24T09:59:59Z".parse().unwrap()), "no place has that day yet");
    let month: BirthDate = "2027-01".parse().unwrap();
    assert!(!month.is_after("2026-12-31T23:30:00Z".parse().unwrap()));
}

#[test]
fn places_are_cog_codes_not_postcodes_of_another_form() {
    for good in ["08480", "2A004", "97105"] {
        assert!(CogCode::commune(good).is_ok(), "{good}");
    }
    for bad in ["", "8480", "2C004", "A2004", "0848é", "084800"] {
        assert!(CogCode::commune(bad).is_err(), "{bad}");
    }
    assert!(CogCode::country("99100").is_ok());
    for bad in ["FR", "33100", "9910", "99X00"] {
        assert!(CogCode::country(bad).is_err(), "{bad}");
    }
}

#[test]
fn debug_output_says_nothing_of_the_person() {
    let text = format!(
        "{:?} {:?} {:?}",
        identity("Lefèvre", &["Anne"]),
        identity("Lefèvre", &["Anne"]).birth_name,
        Sex::Female
    );
    assert!(!text.contains("Lef") && !text.contains("Anne") && !text.contains("1982"));
}

/// Two spellings, and whether they are one name.
const SPELLINGS: [(&str, &str, bool); 34] = [
    // Case and accents, composed or not.
    ("Lefèvre", "LEFEVRE", true),
    ("Lefèvre", "lefe\u{300}vre", true),
    ("NOËL", "Noel", true),
    ("Ñandú", "NANDU", true),
    ("ÇELİK", "Celik", true),
    ("Müller", "MULLER", true),
    // An umlaut written out is another spelling: nobody is guessed.
    ("Müller", "MUELLER", false),
    ("Weiß", "WEISS", true),
    // Ligatures and letters that French keyboards do not have.
    ("Lebœuf", "LEBOEUF", true),
    ("Lætitia", "Laetitia", true),
    ("Łukasz", "Lukasz", true),
    ("Sørensen", "SORENSEN", true),
    ("Đorđević", "Dordevic", true),
    ("Þór", "Thor", true),
    // Hyphens, apostrophes of all forms, dots, and spaces between.
    ("Jean-Marie", "JEAN MARIE", true),
    ("Jean  Marie", "Jean Marie", true),
    ("Jean-Marie", "JeanMarie", false),
    ("D'Artagnan", "D’ARTAGNAN", true),
    ("D'Artagnan", "D ARTAGNAN", true),
    ("D'Artagnan", "DARTAGNAN", false),
    ("N'Diaye", "N Diaye", true),
    ("O'Brien", "OBRIEN", false),
    ("St. Martin", "St Martin", true),
    ("St. Martin", "Saint Martin", false),
    // Particles belong to the name.
    ("de La Tour", "DE LA TOUR", true),
    ("de La Tour", "LA TOUR", false),
    ("Le Goff", "LEGOFF", false),
    // What is no letter at the ends does not count.
    ("-Martin-", "Martin", true),
    // Other scripts are what they are.
    ("王", "王", true),
    ("Иванов", "ИВАНОВ", true),
    ("Иванов", "Ivanov", false),
    ("Παπαδόπουλος", "ΠΑΠΑΔΟΠΟΥΛΟΣ", true),
    ("Martin", "Martín", true),
    ("Martin", "Martins", false),
];

#[test]
fn spellings_are_one_name_or_two_as_the_table_says() {
    for (one, other, same) in SPELLINGS {
        assert_eq!(fold(one) == fold(other), same, "{one} and {other}: {} and {}", fold(one), fold(other));
        let person = |name: &str| identity(name, &["Anne"]).normalised();
        assert_eq!(person(one) == person(other), same, "{one} and {other}");
    }
}

#[test]
fn what_is_folded_is_folded() {
    for (one, other, _) in SPELLINGS {
        for name in [one, other] {
            assert_eq!(fold(&fold(name)), fold(name), "{name}");
        }
    }
}

#[test]
fn each_part_but_the_name_of_usage_makes_another_person() {
    let changed = |change: fn(&mut PivotIdentity)| {
        let mut other = identity("Lefèvre", &["Anne", "Marie"]);
        change(&mut other);
        other.normalised() != identity("Lefèvre", &["Anne", "Marie"]).normalised()
    };
    assert!(!changed(|p| p.usage_name = Some("Martin".parse().unwrap())), "it changes in a life");
    assert!(changed(|p| p.birth_name = "Martin".parse().unwrap()));
    assert!(changed(|p| drop(p.given_names.pop())), "all given names");
    assert!(changed(|p| p.given_names.swap(0, 1)), "in their order");
    assert!(changed(|p| p.sex = Sex::Male));
    // What is not known of a date is another person than what is.
    for date in ["1982-12", "1982", "", "1982-12-28"] {
        assert_ne!(
            PivotIdentity { birth_date: date.parse().unwrap(), ..identity("Lefèvre", &["Anne"]) }.normalised(),
            identity("Lefèvre", &["Anne"]).normalised(),
            "{date}"
        );
    }
    // Born abroad: a country and no commune.
    assert!(changed(|p| p.birth_commune = None));
    assert!(changed(|p| p.birth_country = CogCode::country("99352").unwrap()));
    assert!(changed(|p| p.birth_commune = Some(CogCode::commune("2A004").unwrap())));
}
