//! Identifiers: one newtype for each, so that two of them are never confused.
//!
//! Names that people choose (procedures, habilitations) are short lower-case words; identifiers that the broker draws
//! are 16 random bytes in hexadecimal; digests are 32 bytes in hexadecimal.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;

/// Longest name of a procedure, habilitation, dataset or attribute, in bytes.
pub const MAX_NAME_BYTES: usize = 96;
/// Longest request id, in bytes.
pub const MAX_REQUEST_ID_BYTES: usize = 64;

pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= MAX_NAME_BYTES
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
}

/// Reads a value from its text where it lies: a `Cow` would be a copy of it (serde's `Cow` is always owned).
pub(crate) fn from_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err = Malformed>,
    D: Deserializer<'de>,
{
    struct Text<T>(PhantomData<T>);

    impl<T: FromStr<Err = Malformed>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(PhantomData))
}

/// Serde through text for types that have `Display` and `FromStr`.
macro_rules! serde_as_text {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::id::from_text(deserializer)
            }
        }
    };
}
pub(crate) use serde_as_text;

/// The same, but for formats that no human reads, which get `$binary` by `$to` and give it to `$from`.
macro_rules! serde_as_text_or {
    ($name:ty, $binary:ty, $to:expr, $from:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    let to: fn(&$name) -> $binary = $to;
                    to(self).serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    $crate::id::from_text(deserializer)
                } else {
                    <$binary>::deserialize(deserializer).map($from)
                }
            }
        }
    };
}
pub(crate) use serde_as_text_or;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                if is_name(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Malformed::new("", "1 to 96 of a-z, 0-9, '.', '_', '-', first a letter or a digit"))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        serde_as_text!($name);
    };
}

name_type!(
    /// A procedure (*démarche*) for which data is asked.
    ProcedureId
);
name_type!(
    /// A habilitation: the right of one participant to ask certain attributes for certain procedures.
    HabilitationId
);
name_type!(
    /// A configured address that an administration is told changes at.
    WebhookName
);
name_type!(
    /// A configured connector instance that serves a dataset.
    ConnectorName
);

/// What a client calls an exchange, so that its retry is the same exchange. Unique for each participant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let fits = (1..=MAX_REQUEST_ID_BYTES).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':')) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed::new("", "1 to 64 of A-Z, a-z, 0-9, '.', '_', '-', ':'; a UUID is a good choice"))
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(RequestId);

macro_rules! bytes_type {
    ($(#[$doc:meta])* $name:ident, $len:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                let mut bytes = [0; $len];
                // Upper case would make two texts of one identifier.
                let is_whole = text.len() == 2 * $len && HEXLOWER.decode_mut(text.as_bytes(), &mut bytes).is_ok();
                if is_whole { Ok(Self(bytes)) } else { Err(Malformed::new("", $rule)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0_u8; $len * 2];
                HEXLOWER.encode_mut(&self.0, &mut text);
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        serde_as_text_or!($name, [u8; $len], |id| id.0, $name);
    };
}

bytes_type!(
    /// The only name of a person in records: random, so that it says nothing outside the store that drew it.
    SubjectRef, 16, "32 lower-case hexadecimal digits"
);
bytes_type!(
    /// A consent in the ledger.
    ConsentId, 16, "32 lower-case hexadecimal digits"
);
bytes_type!(
    /// A mandate in the ledger.
    MandateId, 16, "32 lower-case hexadecimal digits"
);
bytes_type!(
    /// An exchange; drawn by the broker.
    ExchangeId, 16, "32 lower-case hexadecimal digits"
);
bytes_type!(
    /// A SHA-256 or HMAC-SHA-256 value.
    Digest, 32, "64 lower-case hexadecimal digits"
);
bytes_type!(
    /// SHA-256 of a certificate's SubjectPublicKeyInfo in DER (RFC 7469 section 2.4, in hexadecimal).
    KeyFingerprint, 32, "64 lower-case hexadecimal digits: SHA-256 of the public key (SubjectPublicKeyInfo, DER)"
);

/// What a person types to find a request for their consent: short, and without letters that look like digits.
///
/// It opens nothing: the request is shown to the person whom it concerns and to nobody else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestCode([u8; RequestCode::LEN]);

impl RequestCode {
    const LEN: usize = 8;
    /// Crockford's base 32: no I, L, O, U.
    const LETTERS: &'static [u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    /// The code of eight random bytes.
    pub fn from_random(random: [u8; Self::LEN]) -> Self {
        Self(random.map(|byte| *Self::LETTERS.get(usize::from(byte % 32)).unwrap_or(&b'0')))
    }
}

impl FromStr for RequestCode {
    type Err = Malformed;

    /// Takes what people write: small letters, a hyphen or spaces, I and L for 1, O for 0.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed::new("", "8 letters or digits, such as 4F7K-92QX");
        let typed = text.bytes().filter(|b| !matches!(b, b'-' | b' ')).map(|b| match b.to_ascii_uppercase() {
            b'I' | b'L' => b'1',
            b'O' => b'0',
            other => other,
        });
        let code: Vec<u8> = typed.take(Self::LEN + 1).collect();
        let code: [u8; Self::LEN] = code.try_into().map_err(|_| malformed())?;
        if code.iter().all(|b| Self::LETTERS.contains(b)) { Ok(Self(code)) } else { Err(malformed()) }
    }
}

impl fmt::Display for RequestCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (left, right) = self.0.split_at(Self::LEN / 2);
        let text = |half| std::str::from_utf8(half).map_err(|_| fmt::Error);
        write!(f, "{}-{}", text(left)?, text(right)?)
    }
}

impl fmt::Debug for RequestCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(RequestCode);

impl Digest {
    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut digest = [0; 32];
        digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
        Self(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_lower_case_and_starts_with_a_letter_or_digit() {
        for good in ["cantine", "tarification-cantine", "dss.quotient_familial", "2fa"] {
            assert!(good.parse::<ProcedureId>().is_ok(), "{good}");
        }
        for bad in ["", "Cantine", "-x", ".x", "a b", "é", "a\n", &"a".repeat(97)] {
            assert!(bad.parse::<ProcedureId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_identifier_has_one_text_only() {
        let id = SubjectRef([0xab; 16]);
        assert_eq!(id.to_string().parse::<SubjectRef>().unwrap(), id);
        assert!("AB".repeat(16).parse::<SubjectRef>().is_err());
        assert!("ab".repeat(15).parse::<SubjectRef>().is_err());
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
    }

    #[test]
    fn a_request_code_is_read_as_people_write_it() {
        let code = RequestCode::from_random([1, 0, 31, 8, 9, 33, 255, 18]);
        assert_eq!(code.to_string(), "10Z8-91ZJ");
        for written in ["10Z8-91ZJ", "10z891zj", "lOZ8 9IZJ", " 10Z8-91ZJ "] {
            assert_eq!(written.parse::<RequestCode>().unwrap(), code, "{written}");
        }
        for bad in ["", "10Z8-91Z", "10Z8-91ZJ0", "10Z8-91ZU", "10Z8-91Zé"] {
            assert!(bad.parse::<RequestCode>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_request_id_has_no_spaces_and_at_most_64_bytes() {
        assert!("7f1c2c8e-5c1e-4ad0-8a58-0b6a4b0f5c11".parse::<RequestId>().is_ok());
        for bad in ["", "a b", "é", &"x".repeat(65)] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad:?}");
        }
    }
}
