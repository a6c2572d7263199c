//! A provider's public keys, from a JWKS file (RFC 7517) that is read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde_json::Value;
use unefois_audit::is_weak_key;
use unefois_connectors::files::{FileStamp, Seen, read_trusted};
use unefois_consent::json;

use super::AssertionFault;
use super::claims::Claims;
use super::jws::{Algorithm, Jws};

/// Largest file of keys, in bytes.
const MAX_FILE_BYTES: usize = 256 << 10;
/// A file that was not usable is read again after so long, though it did not change: a read can fail by chance.
const TRIED_AGAIN: Duration = Duration::from_secs(1);

/// A set of keys; at least one.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// What is wrong with the keys that were passed over.
    pub(super) passed_over: Vec<String>,
}

#[derive(Debug)]
struct Key {
    kid: Option<String>,
    /// The one algorithm that the key is for, where its `alg` says so.
    only: Option<Algorithm>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    /// An uncompressed point of P-256.
    P256(Vec<u8>),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    Ed25519([u8; 32]),
}

impl Key {
    /// Whether the key is for the algorithm: its kind fits, and its own `alg` says nothing else.
    fn fits(&self, algorithm: Algorithm) -> bool {
        let kind_fits = match algorithm {
            Algorithm::Es256 => matches!(self.material, Material::P256(_)),
            Algorithm::Rs256 | Algorithm::Ps256 => matches!(self.material, Material::Rsa(_)),
            Algorithm::EdDsa => matches!(self.material, Material::Ed25519(_)),
        };
        kind_fits && self.only.is_none_or(|only| only == algorithm)
    }

    fn verify(&self, token: &Jws<'_>) -> Result<(), AssertionFault> {
        if !self.fits(token.algorithm) {
            return Err(AssertionFault::Algorithm);
        }
        let (signed, signature) = (token.signed, &token.signature);
        let verified = match &self.material {
            Material::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature),
            Material::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(signed, signature),
            Material::Rsa(key) if token.algorithm == Algorithm::Ps256 => {
                key.verify(&RSA_PSS_2048_8192_SHA256, signed, signature)
            }
            Material::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature),
        };
        verified.map_err(|_| AssertionFault::Signature)
    }
}

impl KeySet {
    /// Verifies a token with a key that its `kid` names, or with the only key that is for its algorithm. Keys of several kinds may
    /// have one `kid` (RFC 7517, section 4.5).
    pub(super) fn verify(&self, token: &Jws<'_>) -> Result<(), AssertionFault> {
        if let Some(kid) = &token.kid {
            let mut verdict = Err(AssertionFault::KeyUnknown);
            for key in self.keys.iter().filter(|key| key.kid.as_ref() == Some(kid)) {
                // That a signature is wrong says more than that another key is not for it.
                let of_others = verdict;
                verdict = key.verify(token).map_err(|fault| match of_others {
                    Err(AssertionFault::Signature) => AssertionFault::Signature,
                    _ => fault,
                });
                if verdict.is_ok() {
                    break;
                }
            }
            return verdict;
        }
        let mut fitting = self.keys.iter().filter(|key| key.fits(token.algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => only.verify(token),
            (None, _) | (Some(_), Some(_)) => Err(AssertionFault::KeyUnknown),
        }
    }

    /// Reads a set. A key of another kind or use is passed over, and so is one that is not right (RFC 7517, section 5).
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let mut file = json::read(text).unwrap_or_default();
        let Some(Value::Array(members)) = file.get_mut("keys").map(Value::take) else {
            return Err("is not a JWKS (RFC 7517)".to_owned());
        };
        let (mut keys, mut passed_over) = (Vec::new(), Vec::new());
        for (place, key) in members.into_iter().enumerate() {
            match Claims::of(key).ok_or("is no object").and_then(|key| read_key(&key)) {
                Ok(key) => keys.extend(key),
                Err(problem) => passed_over.push(format!("keys[{place}] {problem}")),
            }
        }
        if keys.is_empty() {
            let why: String = passed_over.iter().map(|problem| format!("; {problem}")).collect();
            return Err(format!("holds no key for ES256, RS256, PS256 or EdDSA{why}"));
        }
        Ok(Self { keys, passed_over })
    }
}

/// Reads one key (RFC 7517, section 4; RFC 7518, section 6; RFC 8037, section 2). None where it is not for us.
fn read_key(key: &Claims) -> Result<Option<Key>, &'static str> {
    let text = |name| key.text(name).map_err(|_| "a member is not of its type");
    if ["d", "p", "q", "dp", "dq", "qi", "k"].iter().any(|name| key.has(name)) {
        return Err("holds a secret; put the public part only, and replace the key");
    }
    let ops = key.list("key_ops").map_err(|_| "key_ops is not a list of texts")?;
    if text("use")?.is_some_and(|of| of != "sig") || ops.is_some_and(|ops| !ops.contains(&"verify")) {
        return Ok(None);
    }
    let only = match text("alg")?.map(Algorithm::from_name) {
        None => None,
        Some(Some(algorithm)) => Some(algorithm),
        Some(None) => return Ok(None),
    };
    let bytes = |name| {
        let text = text(name)?.ok_or("a member of the key is missing")?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| "a member is not base64url")
    };
    let material = match (text("kty")?.ok_or("kty is missing")?, text("crv")?) {
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != 32 || y.len() != 32 {
                return Err("a coordinate of P-256 has 32 bytes");
            }
            Material::P256([&[4][..], &x, &y].concat())
        }
        ("OKP", Some("Ed25519")) => {
            let x = <[u8; 32]>::try_from(bytes("x")?).map_err(|_| "a key of Ed25519 has 32 bytes")?;
            if is_weak_key(&x) {
                return Err("a key of Ed25519 is of small order, so anybody could sign with it");
            }
            Material::Ed25519(x)
        }
        ("RSA", _) => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            if n.first().is_none_or(|first| *first == 0) || e.first().is_none_or(|first| *first == 0) {
                return Err("a number of an RSA key begins with zero");
            }
            // 2048 bits at least (RFC 7518, section 3.3), and no more than ring verifies with.
            if !(256..=1024).contains(&n.len()) {
                return Err("an RSA key has 2048 to 8192 bits");
            }
            Material::Rsa(RsaPublicKeyComponents { n, e })
        }
        _ => return Ok(None),
    };
    let key = Key { kid: text("kid")?.map(str::to_owned), only, material };
    let right = only.is_none_or(|only| key.fits(only));
    if right { Ok(Some(key)) } else { Err("alg does not fit the kind of the key") }
}

/// A file of keys and what it held last. The file is looked at whenever the keys are asked for, so that a key that was
/// taken out is refused from then on.
#[derive(Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    keys: ArcSwap<KeySet>,
    seen: Mutex<(Seen, Instant)>,
}

impl KeyFile {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let seen = Seen::used(FileStamp::of(path));
        let keys = read(path).map_err(|problem| format!("{}: {problem}", path.display()))?;
        Ok(Self { path: path.to_owned(), keys: ArcSwap::from_pointee(keys), seen: Mutex::new((seen, Instant::now())) })
    }

    /// The keys as the file has them now. A file that cannot be used leaves the old ones in force and is told once.
    pub(super) fn current(&self) -> Arc<KeySet> {
        self.look();
        self.keys.load_full()
    }

    fn look(&self) {
        let mut seen = match self.seen.try_lock() {
            Ok(seen) => seen,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another call looks.
            Err(TryLockError::WouldBlock) => return,
        };
        let (seen, tried) = &mut *seen;
        let now = FileStamp::of(&self.path);
        if seen.is_used(now) || (seen.is_refused(now) && tried.elapsed() < TRIED_AGAIN) {
            return;
        }
        *tried = Instant::now();
        match read(&self.path) {
            Ok(keys) => {
                *seen = Seen::used(now);
                self.keys.store(Arc::new(keys));
                tracing::info!(path = %self.path.display(), "the keys of an identity provider changed and were read again");
            }
            Err(problem) if seen.refuse(now) => {
                let path = self.path.display();
                tracing::error!(%path, problem, "changed keys are not usable; the old ones stay in force");
            }
            // It was told.
            Err(_) => {}
        }
    }
}

fn read(path: &Path) -> Result<KeySet, String> {
    let keys = KeySet::parse(&read_trusted(path, MAX_FILE_BYTES)?)?;
    for problem in &keys.passed_over {
        tracing::warn!(path = %path.display(), problem, "a key of an identity provider is passed over");
    }
    Ok(keys)
}
