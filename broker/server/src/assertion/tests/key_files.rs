//! The files of an identity provider's keys: rotated, wrong, of another use.

use super::*;

#[test]
fn keys_are_rotated_by_replacing_the_file() {
    let world = world();
    let old = world.sign(&claims());
    let next = Signer::es();
    let new = next.token(&json!({"alg": "ES256", "kid": "next"}), claims().to_string().as_bytes());
    let replace = |text: String| {
        let draft = world.jwks.with_extension("new");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, &world.jwks).unwrap();
    };
    assert_eq!(world.verify(&new).unwrap_err(), AssertionFault::KeyUnknown);
    replace(json!({"keys": [world.es.jwk("es"), next.jwk("next")]}).to_string());
    assert!(world.verify(&new).is_ok() && world.verify(&old).is_ok());
    // With two keys that fit, a token must say which.
    let nameless = next.token(&json!({"alg": "ES256"}), claims().to_string().as_bytes());
    assert_eq!(world.verify(&nameless).unwrap_err(), AssertionFault::KeyUnknown);
    replace(json!({"keys": [next.jwk("next")]}).to_string());
    assert!(world.verify(&new).is_ok() && world.verify(&nameless).is_ok());
    assert_eq!(world.verify(&old).unwrap_err(), AssertionFault::KeyUnknown);
    replace("{".to_owned());
    assert!(world.verify(&new).is_ok(), "a file that is not usable leaves the old keys in force");
}

#[test]
fn a_file_of_keys_that_is_not_right_is_refused_and_a_key_of_another_use_is_passed_over() {
    let es = Signer::es().jwk("a");
    let changed = |name: &str, value: Value| {
        let mut key = es.clone();
        key[name] = value;
        key
    };
    let small = json!({"kty": "RSA", "n": b64([1; 128]), "e": "AQAB"});
    for (what, keys) in [
        ("no key", json!([])),
        ("only an encryption key", json!([changed("use", json!("enc"))])),
        ("only an operation that is not verify", json!([changed("key_ops", json!(["sign"]))])),
        ("a private key", json!([changed("d", json!("AA"))])),
        ("a short coordinate", json!([changed("x", json!("AA"))])),
        ("not base64url", json!([changed("x", json!("+/"))])),
        ("an alg of another kind", json!([changed("alg", json!("RS256"))])),
        ("a small RSA key", json!([small])),
        ("a key of Ed25519 of small order", json!([{"kty": "OKP", "crv": "Ed25519", "x": b64([0; 32])}])),
        ("a key of Ed25519 that is too long", json!([{"kty": "OKP", "crv": "Ed25519", "x": b64([7; 33])}])),
        ("a secret", json!([{"kty": "oct", "k": "AA"}])),
        ("not objects", json!(["a"])),
    ] {
        assert!(jwks::KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).is_err(), "{what}");
    }
    // One that is not right does not refuse the others (RFC 7517, section 5).
    for bad in [small, changed("d", json!("AA")), json!({"kty": "oct", "k": "AA"}), changed("x", json!("AA"))] {
        let set = jwks::KeySet::parse(json!({"keys": [bad, es]}).to_string().as_bytes()).unwrap();
        assert!(matches!(&set.passed_over[..], [problem] if problem.starts_with("keys[0] ")), "{:?}", set.passed_over);
    }
    let both = json!({"keys": [changed("use", json!("enc")), changed("use", json!("sig"))]});
    assert!(jwks::KeySet::parse(both.to_string().as_bytes()).is_ok());
    assert!(jwks::KeySet::parse(b"{\"keys\": [], \"keys\": []}").is_err());
}

#[test]
fn keys_of_several_kinds_may_have_one_kid() {
    let world = world();
    let (es, rsa, stranger) = (Signer::es(), &world.rsa, Signer::es());
    std::fs::write(&world.jwks, json!({"keys": [rsa.jwk("one"), es.jwk("one")]}).to_string()).unwrap();
    let token =
        |signer: &Signer, alg: &str| signer.token(&json!({"alg": alg, "kid": "one"}), claims().to_string().as_bytes());
    assert!(world.verify(&token(&es, "ES256")).is_ok());
    assert!(world.verify(&token(rsa, "RS256")).is_ok());
    assert_eq!(world.verify(&token(&stranger, "ES256")).unwrap_err(), AssertionFault::Signature);
    assert_eq!(world.verify(&token(&world.ed, "EdDSA")).unwrap_err(), AssertionFault::Algorithm);
}

#[test]
fn keys_that_others_may_write_are_not_trusted() {
    use std::os::unix::fs::PermissionsExt;
    let world = world();
    let next = Signer::es();
    let new = next.token(&json!({"alg": "ES256", "kid": "next"}), claims().to_string().as_bytes());
    std::fs::write(&world.jwks, json!({"keys": [next.jwk("next")]}).to_string()).unwrap();
    std::fs::set_permissions(&world.jwks, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(world.verify(&new).unwrap_err(), AssertionFault::KeyUnknown);
    // The mode alone is mended.
    std::fs::set_permissions(&world.jwks, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(world.verify(&new).is_ok());
}
