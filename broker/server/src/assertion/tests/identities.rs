//! The identity in the claims: what is as good as none, what is refused and how that is told.

use super::*;

#[test]
fn a_claim_that_is_null_is_as_good_as_none() {
    let world = world();
    let verdict = |name: &str| {
        let mut claims = claims();
        claims[name] = Value::Null;
        world.verify(&world.sign(&claims)).map_or_else(AssertionFault::code, |_| "ok")
    };
    for optional in ["preferred_username", "azp", "nbf", "given_name_array"] {
        assert_eq!(verdict(optional), "ok", "{optional}");
    }
    for needed in ["exp", "iat", "auth_time", "sub", "acr"] {
        assert_eq!(verdict(needed), "ASSERTION_MALFORMED", "{needed}");
    }
    for of_identity in ["family_name", "birthdate", "gender", "birthcountry", "birthplace"] {
        assert_eq!(verdict(of_identity), "ASSERTION_IDENTITY", "{of_identity}");
    }
}

#[test]
fn a_refused_identity_names_its_claim_and_nothing_that_it_holds() {
    let world = world();
    for claim in ["family_name", "given_name", "birthdate", "gender", "birthcountry", "birthplace"] {
        let refused = world.verify(&world.sign(&with(&json!({claim: "<Xyzzy>"})))).unwrap_err();
        assert_eq!(refused, AssertionFault::Identity { claim });
        let said = refused.to_string();
        assert!(said.contains(claim) && !said.contains("Xyzzy"), "{said}");
    }
}

#[test]
fn a_commune_of_a_birth_abroad_makes_no_other_person() {
    let world = world();
    let read = |place: &str| {
        let claims = with(&json!({"birthcountry": "99352", "birthplace": place}));
        world.verify(&world.sign(&claims)).unwrap().0.normalised()
    };
    assert_eq!(read("93352"), read("Alger"));
}
