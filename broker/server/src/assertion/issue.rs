//! An identity provider for development and tests: it signs whatever it is told. **Never trust its key in service.**

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use unefois_consent::identity::{BirthDate, CogCode, Name, Sex};
use unefois_consent::{PivotIdentity, Timestamp};

/// The development provider could not make a key, read it or sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key of the development identity provider could not be made, read or used")]
pub struct IssueError;

/// A provider that signs with one ES256 key. For development only.
#[derive(Debug)]
pub struct DevelopmentProvider {
    issuer: String,
    key: EcdsaKeyPair,
}

/// What a development token says beside the person. For development only.
#[derive(Debug, Clone, Copy)]
pub struct Authentication<'a> {
    /// Client id of the portal (`aud`).
    pub audience: &'a str,
    /// Pseudonym of the person at the provider (`sub`).
    pub subject: &'a str,
    /// Level of assurance in the provider's words: `eidas1`.
    pub acr: &'a str,
    /// When the person was authenticated (`auth_time`), in whole seconds; also taken as `iat`.
    pub authenticated_at: Timestamp,
    /// When the token ends (`exp`), in whole seconds.
    pub expires_at: Timestamp,
}

impl DevelopmentProvider {
    /// Makes a new key. Returns it in PKCS#8 DER, to be kept in a file of mode 0600.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn generate_key(random: &dyn SecureRandom) -> Result<Vec<u8>, IssueError> {
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, random).map_err(|_| IssueError)?;
        Ok(key.as_ref().to_vec())
    }

    /// The provider `issuer` with a key in PKCS#8 DER.
    ///
    /// # Errors
    /// Where this is no key for ES256.
    pub fn from_pkcs8(issuer: &str, key: &[u8], random: &dyn SecureRandom) -> Result<Self, IssueError> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, random).map_err(|_| IssueError)?;
        Ok(Self { issuer: issuer.to_owned(), key })
    }

    /// Its public key as a JWKS file (RFC 7517).
    pub fn jwks(&self) -> String {
        let (x, y) = self.coordinates();
        let key = json!({
            "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.kid(), "use": "sig", "alg": "ES256",
        });
        json!({ "keys": [key] }).to_string()
    }

    /// Signs an ID token that holds the identity, in the claims of FranceConnect. A birth date that is not known at all
    /// has no form there: such a token is refused when it is verified.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn id_token(
        &self,
        person: &PivotIdentity,
        authentication: &Authentication<'_>,
        random: &dyn SecureRandom,
    ) -> Result<String, IssueError> {
        let seconds = |at: Timestamp| at.as_millis() / 1000;
        let mut claims = identity_claims(person);
        claims.extend([
            ("iss".to_owned(), json!(self.issuer)),
            ("aud".to_owned(), json!(authentication.audience)),
            ("sub".to_owned(), json!(authentication.subject)),
            ("acr".to_owned(), json!(authentication.acr)),
            ("auth_time".to_owned(), json!(seconds(authentication.authenticated_at))),
            ("iat".to_owned(), json!(seconds(authentication.authenticated_at))),
            ("exp".to_owned(), json!(seconds(authentication.expires_at))),
        ]);
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.kid() }).to_string();
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(&header), encode(&Value::Object(claims).to_string()));
        let signature = self.key.sign(random, signed.as_bytes()).map_err(|_| IssueError)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn coordinates(&self) -> (String, String) {
        // An uncompressed point: 4, then x, then y, of 32 bytes each.
        let point = self.key.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at_checked(32).unwrap_or_default();
        (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
    }

    /// The key's thumbprint (RFC 7638, section 3).
    fn kid(&self) -> String {
        let (x, y) = self.coordinates();
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()))
    }
}

fn identity_claims(person: &PivotIdentity) -> serde_json::Map<String, Value> {
    let given: Vec<&str> = person.given_names.iter().map(Name::as_str).collect();
    let part = |number: Option<i16>| number.unwrap_or_default();
    let date: BirthDate = person.birth_date;
    let (month, day) = (part(date.month().map(i16::from)), part(date.day().map(i16::from)));
    let mut claims = serde_json::Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("family_name", json!(person.birth_name.as_str()));
    put("given_name", json!(given.join(" ")));
    put("given_name_array", json!(given));
    put("birthdate", json!(format!("{:04}-{month:02}-{day:02}", part(date.year()))));
    let gender = match person.sex {
        Sex::Female => "female",
        Sex::Male => "male",
        Sex::Other => "unspecified",
    };
    put("gender", json!(gender));
    put("birthcountry", json!(person.birth_country.as_str()));
    put("birthplace", json!(person.birth_commune.as_ref().map_or("", CogCode::as_str)));
    if let Some(usage) = &person.usage_name {
        put("preferred_username", json!(usage.as_str()));
    }
    claims
}
