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
        ("a kid twice", json!([es, es])),
        ("a small RSA key", json!([small])),
        ("a key of Ed25519 of small order", json!([{"kty": "OKP", "crv": "Ed25519", "x": b64([0; 32])}])),
        ("a key of Ed25519 that is too long", json!([{"kty": "OKP", "crv": "Ed25519", "x": b64([7; 33])}])),
        ("a secret", json!([{"kty": "oct", "k": "AA"}])),
        ("not objects", json!(["a"])),
    ] {
        assert!(jwks::KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).is_err(), "{what}");
    }
    let both = json!({"keys": [changed("use", json!("enc")), changed("use", json!("sig"))]});
    assert!(jwks::KeySet::parse(both.to_string().as_bytes()).is_ok());
    assert!(jwks::KeySet::parse(b"{\"keys\": [], \"keys\": []}").is_err());
}
