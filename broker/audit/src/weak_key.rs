//! Public keys of Ed25519 under which a signature proves nothing.
//!
//! A key of small order accepts one signature for one text in eight at least, and that of order 1 for any text, without
//! anybody's private key. ring takes such keys, and encodings that RFC 8032 (section 5.1.3) does not decode, so they are
//! refused where keys are read.

/// The coordinate y of the points of small order, little-endian: orders 1, 2, 4, and twice 8. Each but the first two stands for
/// two points, which differ in the sign of x.
const SMALL_ORDER: [[u8; 32]; 5] = [
    y(0x01, 0x00, 0x00),
    y(0xec, 0xff, 0x7f),
    y(0x00, 0x00, 0x00),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// The prime 2^255 - 19 of the field, little-endian.
const PRIME: [u8; 32] = y(0xed, 0xff, 0x7f);

/// The number whose bytes in the middle are all the same.
const fn y(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    let [begin, .., end] = &mut bytes;
    (*begin, *end) = (first, last);
    bytes
}

/// Whether the key is of small order, or is not encoded as RFC 8032 has it.
pub fn is_weak_key(public_key: &[u8; 32]) -> bool {
    let mut y = *public_key;
    let [.., last] = &mut y;
    // The highest bit is the sign of x.
    *last &= 0x7f;
    let is_canonical = y.iter().rev().lt(PRIME.iter().rev());
    !is_canonical || SMALL_ORDER.contains(&y)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

    use super::*;
    use crate::{VerifierKey, WitnessKey};

    /// The eight points of small order, then the other encodings of them that ring decodes.
    const WEAK: [&str; 14] = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ];

    fn refused(key: [u8; 32]) -> bool {
        let made = (VerifierKey::new("log.example", key), WitnessKey::new("witness.example", key));
        assert_eq!(made.0.is_err(), made.1.is_err());
        made.0.is_err()
    }

    #[test]
    fn a_key_of_small_order_takes_one_signature_for_many_texts_and_is_refused_however_it_is_encoded() {
        // The neutral element as R, and S = 0.
        let mut signature = [0; 64];
        signature[0] = 1;
        for weak in WEAK {
            let key: [u8; 32] = hex::decode(weak).unwrap().try_into().unwrap();
            let verifier = UnparsedPublicKey::new(&ED25519, key);
            let taken = (0..200_u8).filter(|text| verifier.verify(&[*text], &signature).is_ok()).count();
            assert!(taken >= 10, "{weak}: {taken} texts");
            assert!(refused(key), "{weak}");
            for signature_type in [1, 4] {
                let id = crate::note::key_id_of(signature_type, "log.example", &key);
                let vkey = crate::note::vkey_text(signature_type, "log.example", id, &key);
                let parsed = (vkey.parse::<VerifierKey>(), vkey.parse::<WitnessKey>());
                assert!(parsed.0.is_err() && parsed.1.is_err(), "{vkey}");
                let fault = if signature_type == 1 { parsed.0.unwrap_err() } else { parsed.1.unwrap_err() };
                assert!(fault.to_string().contains("small order"), "{fault}");
            }
        }
    }

    #[test]
    fn a_coordinate_from_the_prime_on_is_refused() {
        for last in [0x7f, 0xff] {
            for first in 0xed..=0xff {
                assert!(refused(y(first, 0xff, last)), "{first:x}");
            }
            assert!(!refused(y(0xeb, 0xff, last)));
            assert!(!refused(y(0xee, 0xfe, last)));
        }
    }

    proptest! {
        #[test]
        fn a_key_that_somebody_has_is_taken(seed: [u8; 32]) {
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
            prop_assert!(!refused(pair.public_key().as_ref().try_into().unwrap()));
        }
    }
}
