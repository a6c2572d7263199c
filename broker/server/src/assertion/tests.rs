use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use unefois_consent::EidasLevel;

use super::issue::{Authentication, DevelopmentProvider};
use super::*;

mod identities;
mod key_files;

const ISSUER: &str = "https://fc.example/api/v2";
const PORTAL: &str = "portal-1";
/// 2026-11-24T12:00:00Z.
const NOW_S: u64 = 1_795_521_600;

fn now() -> Timestamp {
    Timestamp::from_millis(NOW_S * 1000)
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Signer {
    Es(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    fn es() -> Self {
        let alg = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(alg, &SystemRandom::new()).unwrap();
        Self::Es(EcdsaKeyPair::from_pkcs8(alg, key.as_ref(), &SystemRandom::new()).unwrap())
    }

    fn ed() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    /// A key made with `openssl genpkey` for these tests alone.
    fn rsa() -> Self {
        let pem = include_bytes!("../../testdata/assertion-rsa.pem");
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).unwrap();
        Self::Rsa(Box::new(RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap()))
    }

    fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Es(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..]), "kid": kid})
            }
            Self::Ed(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key()), "kid": kid}),
            Self::Rsa(key) => {
                let public: rsa::PublicKeyComponents<Vec<u8>> = key.public().into();
                json!({"kty": "RSA", "n": b64(public.n), "e": b64(public.e), "kid": kid})
            }
        }
    }

    fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Es(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
            Self::Rsa(key) => {
                let padding: &dyn signature::RsaEncoding =
                    if alg == "PS256" { &signature::RSA_PSS_SHA256 } else { &signature::RSA_PKCS1_SHA256 };
                let mut signed = vec![0; key.public().modulus_len()];
                key.sign(padding, &SystemRandom::new(), message, &mut signed).unwrap();
                signed
            }
        }
    }

    /// A token of whatever header and payload.
    fn token(&self, header: &Value, payload: &[u8]) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(payload));
        let signature = self.sign(header["alg"].as_str().unwrap_or_default(), signed.as_bytes());
        format!("{signed}.{}", b64(signature))
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": PORTAL, "sub": "s-1", "iat": NOW_S, "exp": NOW_S + 60, "auth_time": NOW_S - 100,
        "acr": "eidas1", "nonce": "n", "family_name": "LEFÈVRE", "given_name": "Anne Marie", "birthdate": "1982-12-27",
        "gender": "female", "birthplace": "08480", "birthcountry": "99100",
    })
}

/// The same with some members changed; null takes one out.
fn with(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

struct World {
    _dir: tempfile::TempDir,
    jwks: PathBuf,
    es: Signer,
    ed: Signer,
    rsa: Signer,
    providers: IdentityProviders,
}

fn config(jwks: &std::path::Path, more: &str) -> IdentityProviderConfig {
    let path = jwks.display();
    toml::from_str(&format!(
        "issuer = \"{ISSUER}\"\naudiences = [\"{PORTAL}\", \"portal-2\"]\njwks = \"{path}\"\n{more}"
    ))
    .unwrap()
}

fn world_with(more: &str) -> World {
    let dir = tempfile::tempdir().unwrap();
    let jwks = dir.path().join("jwks.json");
    let (es, ed, rsa) = (Signer::es(), Signer::ed(), Signer::rsa());
    let other = json!({"kty": "EC", "crv": "secp256k1", "kid": "of no use"});
    let keys = json!({"keys": [es.jwk("es"), ed.jwk("ed"), rsa.jwk("rsa"), other]});
    std::fs::write(&jwks, keys.to_string()).unwrap();
    let providers = IdentityProviders::open(vec![config(&jwks, more)]).unwrap();
    World { _dir: dir, jwks, es, ed, rsa, providers }
}

fn world() -> World {
    world_with("")
}

impl World {
    fn sign(&self, claims: &Value) -> String {
        self.es.token(&json!({"alg": "ES256", "kid": "es"}), claims.to_string().as_bytes())
    }

    fn verify(&self, token: &str) -> Result<(PivotIdentity, PersonProof), AssertionFault> {
        self.providers.verify(token, "", now())
    }

    fn verdict(&self, changes: &Value) -> &'static str {
        self.verify(&self.sign(&with(changes))).map_or_else(AssertionFault::code, |_| "ok")
    }
}

#[test]
fn each_algorithm_verifies_with_its_key() {
    let world = world();
    for (signer, alg, kid) in [
        (&world.es, "ES256", "es"),
        (&world.ed, "EdDSA", "ed"),
        (&world.rsa, "RS256", "rsa"),
        (&world.rsa, "PS256", "rsa"),
    ] {
        for header in [json!({"alg": alg, "kid": kid}), json!({"alg": alg, "typ": "JWT"})] {
            let token = signer.token(&header, claims().to_string().as_bytes());
            let (person, proof) = world.verify(&token).unwrap();
            assert_eq!(person.birth_name.as_str(), "LEFÈVRE");
            assert_eq!(person.given_names.len(), 2);
            assert_eq!(proof.issuer, ISSUER);
            assert_eq!(proof.assertion, Digest::of(token.as_bytes()));
            assert_eq!((proof.assurance.level, proof.assurance.acr.as_str()), (EidasLevel::Low, "eidas1"));
            assert_eq!(proof.assurance.authenticated_at.as_millis(), (NOW_S - 100) * 1000);
        }
    }
}

#[test]
fn each_claim_is_checked() {
    let world = world();
    for (changes, code) in [
        (json!({}), "ok"),
        (json!({"iss": "https://fc.example/api/v2/"}), "ASSERTION_ISSUER_UNKNOWN"),
        (json!({"iss": null}), "ASSERTION_MALFORMED"),
        (json!({"iss": [ISSUER]}), "ASSERTION_MALFORMED"),
        (json!({"aud": "another"}), "ASSERTION_AUDIENCE"),
        (json!({"aud": [PORTAL]}), "ok"),
        (json!({"aud": []}), "ASSERTION_AUDIENCE"),
        (json!({"aud": null}), "ASSERTION_MALFORMED"),
        (json!({"aud": [PORTAL, 1]}), "ASSERTION_MALFORMED"),
        (json!({"aud": [PORTAL, "another"]}), "ASSERTION_AUDIENCE"),
        (json!({"aud": [PORTAL, "another"], "azp": PORTAL}), "ok"),
        (json!({"aud": [PORTAL, "another"], "azp": "another"}), "ASSERTION_AUDIENCE"),
        (json!({"azp": "another"}), "ASSERTION_AUDIENCE"),
        (json!({"azp": 1}), "ASSERTION_MALFORMED"),
        (json!({"exp": null}), "ASSERTION_MALFORMED"),
        (json!({"exp": (NOW_S + 60).to_string()}), "ASSERTION_MALFORMED"),
        (json!({"exp": -1}), "ASSERTION_MALFORMED"),
        (json!({"exp": 1e300}), "ASSERTION_MALFORMED"),
        (json!({"exp": -0.5}), "ASSERTION_MALFORMED"),
        // RFC 7519, section 2: a NumericDate may have a fraction.
        (json!({"exp": 1_796_081_400.5, "iat": NOW_S as f64 - 0.5, "auth_time": NOW_S as f64 - 1.25}), "ok"),
        (json!({"exp": NOW_S as f64 - 59.75}), "ok"),
        (json!({"exp": NOW_S as f64 - 60.25}), "ASSERTION_EXPIRED"),
        (json!({"iat": NOW_S as f64 + 60.5}), "ASSERTION_NOT_YET_VALID"),
        (json!({"exp": NOW_S - 59}), "ok"),
        (json!({"exp": NOW_S - 60}), "ASSERTION_EXPIRED"),
        (json!({"iat": null}), "ASSERTION_MALFORMED"),
        (json!({"iat": "0"}), "ASSERTION_MALFORMED"),
        (json!({"iat": NOW_S + 60}), "ok"),
        (json!({"iat": NOW_S + 61}), "ASSERTION_NOT_YET_VALID"),
        (json!({"nbf": NOW_S + 61}), "ASSERTION_NOT_YET_VALID"),
        (json!({"nbf": "0"}), "ASSERTION_MALFORMED"),
        (json!({"auth_time": null}), "ASSERTION_MALFORMED"),
        (json!({"auth_time": "1"}), "ASSERTION_MALFORMED"),
        (json!({"auth_time": NOW_S - 1800}), "ok"),
        (json!({"auth_time": NOW_S - 1801}), "ASSERTION_TOO_OLD"),
        (json!({"auth_time": NOW_S + 61}), "ASSERTION_NOT_YET_VALID"),
        (json!({"acr": null}), "ASSERTION_MALFORMED"),
        (json!({"acr": 1}), "ASSERTION_MALFORMED"),
        (json!({"acr": "eidas4"}), "ASSERTION_LEVEL"),
        (json!({"acr": "eidas3"}), "ok"),
        (json!({"sub": null}), "ASSERTION_MALFORMED"),
        (json!({"sub": ""}), "ASSERTION_MALFORMED"),
        (json!({"family_name": null}), "ASSERTION_IDENTITY"),
        (json!({"family_name": 1}), "ASSERTION_IDENTITY"),
        (json!({"given_name": null}), "ASSERTION_IDENTITY"),
        (json!({"given_name": " "}), "ASSERTION_IDENTITY"),
        (json!({"given_name_array": []}), "ASSERTION_IDENTITY"),
        (json!({"given_name_array": "Anne"}), "ASSERTION_IDENTITY"),
        (json!({"given_name_array": vec!["Anne"; 17]}), "ASSERTION_IDENTITY"),
        (json!({"birthdate": null}), "ASSERTION_IDENTITY"),
        (json!({"birthdate": ""}), "ASSERTION_IDENTITY"),
        (json!({"birthdate": "1982-02-30"}), "ASSERTION_IDENTITY"),
        (json!({"birthdate": "1982-00-27"}), "ASSERTION_IDENTITY"),
        (json!({"birthdate": "2027-01-01"}), "ASSERTION_IDENTITY"),
        (json!({"birthdate": "1982"}), "ASSERTION_IDENTITY"),
        (json!({"gender": "F"}), "ASSERTION_IDENTITY"),
        (json!({"gender": "unspecified"}), "ok"),
        (json!({"birthplace": ""}), "ASSERTION_IDENTITY"),
        (json!({"birthplace": "8480"}), "ASSERTION_IDENTITY"),
        (json!({"birthcountry": "FR"}), "ASSERTION_IDENTITY"),
        (json!({"birthcountry": "99352"}), "ok"),
        (json!({"birthcountry": "99352", "birthplace": "90900"}), "ok"),
        (json!({"birthcountry": "99352", "birthplace": "Alger"}), "ok"),
        (json!({"birthcountry": "99352", "birthplace": 1}), "ASSERTION_IDENTITY"),
        (json!({"birthcountry": "99352", "birthplace": ""}), "ok"),
        (json!({"preferred_username": "<script>"}), "ASSERTION_IDENTITY"),
    ] {
        assert_eq!(world.verdict(&changes), code, "{changes}");
    }
}

#[test]
fn an_identity_is_read_as_franceconnect_writes_it() {
    let world = world();
    let read = |changes| world.verify(&world.sign(&with(&changes))).unwrap().0;
    let person = read(json!({
        "given_name_array": ["Anne Marie", "Zoé"], "birthdate": "1982-00-00", "preferred_username": "PETIT",
        "gender": "male", "birthcountry": "99352", "birthplace": "",
    }));
    let given: Vec<&str> = person.given_names.iter().map(|name| name.as_str()).collect();
    assert_eq!(given, ["Anne Marie", "Zoé"]);
    assert!(person.birth_date == "1982".parse().unwrap());
    assert_eq!(person.usage_name.unwrap().as_str(), "PETIT");
    assert_eq!((person.sex.letter(), person.birth_country.as_str()), ("M", "99352"));
    assert!(person.birth_commune.is_none());
    assert!(read(json!({"birthdate": "1982-12-00"})).birth_date == "1982-12".parse().unwrap());
    assert!(read(json!({"preferred_username": ""})).usage_name.is_none());
    assert_eq!(read(json!({})).birth_commune.unwrap().as_str(), "08480");
}

#[test]
fn an_algorithm_that_is_not_the_keys_is_refused() {
    let world = world();
    let payload = claims().to_string();
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "None", "kid": "es"}),
        json!({"alg": "ES384", "kid": "es"}),
        json!({"alg": "RS256", "kid": "es"}),
        json!({"alg": "ES256", "kid": "rsa"}),
        json!({"alg": "EdDSA", "kid": "es"}),
    ] {
        let token = world.es.token(&header, payload.as_bytes());
        assert_eq!(world.verify(&token).unwrap_err(), AssertionFault::Algorithm, "{header}");
    }
    let unsigned = format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(&payload));
    assert_eq!(world.verify(&unsigned).unwrap_err(), AssertionFault::Algorithm);
    // Whoever has the public key could make this one.
    let signed = format!("{}.{}", b64(r#"{"alg":"HS256","kid":"rsa"}"#), b64(&payload));
    for secret in [world.rsa.jwk("rsa").to_string(), std::fs::read_to_string(&world.jwks).unwrap()] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
        let token = format!("{signed}.{}", b64(tag));
        assert_eq!(world.verify(&token).unwrap_err(), AssertionFault::Algorithm);
    }
}

#[test]
fn a_key_that_says_its_algorithm_is_for_no_other() {
    let world = world();
    let mut jwk = world.rsa.jwk("rsa");
    jwk["alg"] = json!("PS256");
    std::fs::write(&world.jwks, json!({"keys": [jwk]}).to_string()).unwrap();
    let verdict = |alg: &str| {
        let token = world.rsa.token(&json!({"alg": alg, "kid": "rsa"}), claims().to_string().as_bytes());
        world.verify(&token).map(|_| ())
    };
    assert_eq!(verdict("PS256"), Ok(()));
    assert_eq!(verdict("RS256"), Err(AssertionFault::Algorithm));
}

#[test]
fn another_key_and_a_changed_byte_are_refused() {
    let world = world();
    let payload = claims().to_string();
    let stranger = Signer::es();
    // The header's own key counts for nothing.
    let header = json!({"alg": "ES256", "kid": "es", "jwk": stranger.jwk("es")});
    assert_eq!(world.verify(&stranger.token(&header, payload.as_bytes())).unwrap_err(), AssertionFault::Signature);
    let unknown = world.es.token(&json!({"alg": "ES256", "kid": "other"}), payload.as_bytes());
    assert_eq!(world.verify(&unknown).unwrap_err(), AssertionFault::KeyUnknown);
    let token = world.sign(&claims());
    let parts: Vec<&str> = token.split('.').collect();
    let changed = with(&json!({"family_name": "AUTRE"})).to_string();
    for forged in [
        format!("{}.{}.{}", parts[0], b64(changed), parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], b64([0; 64])),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}.{}", b64(r#"{"alg":"ES256","kid":"es","typ":"JWT"}"#), parts[1], parts[2]),
    ] {
        assert_eq!(world.verify(&forged).unwrap_err(), AssertionFault::Signature);
    }
}

#[test]
fn a_token_of_another_form_is_refused() {
    let world = world();
    let payload = claims().to_string();
    let good = world.sign(&claims());
    let raw = |header: &str, payload: &[u8]| {
        let signed = format!("{}.{}", b64(header), b64(payload));
        format!("{signed}.{}", b64(world.es.sign("ES256", signed.as_bytes())))
    };
    let head = r#"{"alg":"ES256","kid":"es"}"#;
    assert!(world.verify(&raw(head, payload.as_bytes())).is_ok());
    let twice = format!("{{\"sub\":\"s-2\",{}", &payload[1..]);
    let mut not_utf8 = payload.clone().into_bytes();
    let place = payload.find("Anne").unwrap();
    not_utf8[place] = 0xff;
    let long = with(&json!({"filler": "x".repeat(16 << 10)}));
    for (what, token) in [
        ("empty", String::new()),
        ("one part", "abc".to_owned()),
        ("a fourth part", format!("{good}.abc")),
        ("padding", format!("{good}=")),
        ("a space", format!(" {good}")),
        ("too long", world.sign(&long)),
        ("a claim twice", raw(head, twice.as_bytes())),
        ("not UTF-8", raw(head, &not_utf8)),
        ("more than an object", raw(head, format!("{payload}{{}}").as_bytes())),
        ("an array", raw(head, b"[]")),
        ("a header member twice", raw(r#"{"alg":"none","alg":"ES256","kid":"es"}"#, payload.as_bytes())),
        ("crit", raw(r#"{"alg":"ES256","kid":"es","crit":["exp"]}"#, payload.as_bytes())),
        ("b64", raw(r#"{"alg":"ES256","kid":"es","b64":true}"#, payload.as_bytes())),
        ("an access token", raw(r#"{"alg":"ES256","kid":"es","typ":"at+jwt"}"#, payload.as_bytes())),
        ("a kid of another type", raw(r#"{"alg":"ES256","kid":1}"#, payload.as_bytes())),
        ("no alg", raw(r#"{"kid":"es"}"#, payload.as_bytes())),
    ] {
        assert_eq!(world.verify(&token).err(), Some(AssertionFault::Malformed), "{what}");
    }
}

#[test]
fn user_info_is_of_the_same_provider_client_and_subject() {
    let world = world();
    let id_token = world.sign(&with(&json!({"family_name": null, "given_name": null})));
    let verdict = |changes: Value| {
        let answer = world.sign(&with(&changes));
        world.providers.verify(&id_token, &answer, now()).map_or_else(AssertionFault::code, |_| "ok")
    };
    assert_eq!(world.verify(&id_token).unwrap_err(), AssertionFault::Identity { claim: "family_name" });
    let bare = json!({"exp": null, "iat": null, "auth_time": null, "acr": null});
    assert_eq!(verdict(bare), "ok");
    for (changes, code) in [
        (json!({"sub": "s-2"}), "ASSERTION_SUBJECT"),
        (json!({"sub": null}), "ASSERTION_MALFORMED"),
        (json!({"iss": "https://other.example"}), "ASSERTION_ISSUER_UNKNOWN"),
        (json!({"iss": null}), "ASSERTION_ISSUER_UNKNOWN"),
        (json!({"aud": "another"}), "ASSERTION_AUDIENCE"),
        (json!({"exp": NOW_S - 60}), "ASSERTION_EXPIRED"),
        (json!({"exp": "x"}), "ASSERTION_MALFORMED"),
        (json!({"iat": NOW_S + 61}), "ASSERTION_NOT_YET_VALID"),
        (json!({"family_name": null}), "ASSERTION_IDENTITY"),
    ] {
        assert_eq!(verdict(changes.clone()), code, "{changes}");
    }
    let forged = Signer::es().token(&json!({"alg": "ES256", "kid": "es"}), claims().to_string().as_bytes());
    assert_eq!(world.providers.verify(&id_token, &forged, now()).unwrap_err(), AssertionFault::Signature);
    let plain = claims().to_string();
    assert_eq!(world.providers.verify(&id_token, &plain, now()).unwrap_err(), AssertionFault::Malformed);
    // An answer that is there is the identity, also where the ID token has another.
    let answer = world.sign(&with(&json!({"family_name": "MARTIN"})));
    let (person, proof) = world.providers.verify(&world.sign(&claims()), &answer, now()).unwrap();
    assert_eq!(person.birth_name.as_str(), "MARTIN");
    assert_ne!(proof.assertion, Digest::of(answer.as_bytes()));
}

#[test]
fn the_lowest_level_and_the_longest_age_are_the_operators() {
    let world =
        world_with("lowest = \"substantial\"\nmax_age_s = 50\nlevels = { loa2 = \"substantial\", loa1 = \"low\" }");
    let fresh = |acr: &str| world.verdict(&json!({"acr": acr, "auth_time": NOW_S - 50}));
    assert_eq!(fresh("loa2"), "ok");
    assert_eq!(fresh("loa1"), "ASSERTION_LEVEL");
    assert_eq!(fresh("eidas3"), "ASSERTION_LEVEL");
    assert_eq!(world.verdict(&json!({"acr": "loa2"})), "ASSERTION_TOO_OLD");
}

#[test]
fn a_table_that_breaks_a_rule_is_refused_by_its_key() {
    let world = world();
    let key_of = |change: fn(&mut IdentityProviderConfig)| {
        let mut table = config(&world.jwks, "");
        change(&mut table);
        IdentityProviders::open(vec![table]).unwrap_err().key
    };
    assert_eq!(key_of(|t| t.issuer.clear()), "identity_providers[0].issuer");
    assert_eq!(key_of(|t| t.audiences.clear()), "identity_providers[0].audiences");
    assert_eq!(key_of(|t| t.max_age_s = 0), "identity_providers[0].max_age_s");
    assert_eq!(key_of(|t| t.levels.clear()), "identity_providers[0].levels");
    assert_eq!(key_of(|t| t.jwks.push("not-there")), "identity_providers[0].jwks");
    let twice = vec![config(&world.jwks, ""), config(&world.jwks, "")];
    assert_eq!(IdentityProviders::open(twice).unwrap_err().key, "identity_providers[1].issuer");
    assert!(
        toml::from_str::<IdentityProviderConfig>("issuer = \"a\"\naudiences = [\"b\"]\njwks = \"c\"\nx = 1").is_err()
    );
    let none = IdentityProviders::open(Vec::new()).unwrap();
    assert_eq!(none.verify(&world.sign(&claims()), "", now()).unwrap_err(), AssertionFault::IssuerUnknown);
}

#[test]
fn the_token_of_the_development_provider_verifies() {
    let world = world();
    let random = SystemRandom::new();
    let key = DevelopmentProvider::generate_key(&random).unwrap();
    let provider = DevelopmentProvider::from_pkcs8(ISSUER, &key, &random).unwrap();
    std::fs::write(&world.jwks, provider.jwks()).unwrap();
    let authentication = Authentication {
        audience: PORTAL,
        subject: "s-9",
        acr: "eidas2",
        authenticated_at: now(),
        expires_at: now().plus(Duration::from_secs(600)),
    };
    for changes in [
        json!({"given_name_array": ["Anne Marie"], "preferred_username": "PETIT"}),
        json!({"birthdate": "1982-00-00", "birthcountry": "99352", "birthplace": ""}),
    ] {
        let person = identity::pivot(&Claims::read(with(&changes).to_string().as_bytes()).unwrap(), now()).unwrap();
        let token = provider.id_token(&person, &authentication, &random).unwrap();
        let (read, proof) = world.verify(&token).unwrap();
        assert!(read == person);
        assert_eq!(proof.assurance.level, EidasLevel::Substantial);
    }
    assert!(!format!("{provider:?}").contains(&b64(&key)));
}

#[test]
fn a_fault_says_nothing_of_the_token_or_the_person() {
    let world = world();
    for changes in [json!({"family_name": "<LEFÈVRE>"}), json!({"aud": "secret"}), json!({"acr": "secret"})] {
        let fault = world.verify(&world.sign(&with(&changes))).unwrap_err();
        let text = format!("{fault} {fault:?}");
        assert!(text.contains(fault.code()) && text.contains(&*fault.advice()));
        assert!(!text.contains("LEFÈVRE") && !text.contains("secret"), "{text}");
    }
}
