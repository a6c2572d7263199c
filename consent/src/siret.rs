//! SIRET: the number of an establishment of an organisation in France.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;
use crate::id::serde_as_text;

/// La Poste's establishments do not follow Luhn: the sum of their digits is a multiple of five (INSEE, SIRENE).
const LA_POSTE: [u8; 9] = *b"356000000";

/// Fourteen digits of which the last is a Luhn key (INSEE, SIRENE repertory).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Siret([u8; 14]);

impl Siret {
    /// The fourteen digits.
    pub fn as_str(&self) -> &str {
        // The constructor let only ASCII digits in, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Siret {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let digits: [u8; 14] =
            text.as_bytes().try_into().map_err(|_| Malformed::new("", "a SIRET has exactly 14 digits"))?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(Malformed::new("", "a SIRET has exactly 14 digits"));
        }
        let luhn: u32 = digits
            .iter()
            .rev()
            .zip([1_u32, 2].into_iter().cycle())
            .map(|(d, weight)| {
                let n = u32::from(d - b'0') * weight;
                if n > 9 { n - 9 } else { n }
            })
            .sum();
        let plain: u32 = digits.iter().map(|d| u32::from(d - b'0')).sum();
        if luhn.is_multiple_of(10) || (digits.starts_with(&LA_POSTE) && plain.is_multiple_of(5)) {
            Ok(Self(digits))
        } else {
            Err(Malformed::new("", "this SIRET fails its Luhn check: a digit is wrong"))
        }
    }
}

impl fmt::Display for Siret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Siret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

serde_as_text!(Siret);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_siret_satisfies_luhn() {
        for good in ["13002526500013", "21350238800019", "35600000000048"] {
            assert_eq!(good.parse::<Siret>().unwrap().to_string(), good);
        }
        for bad in
            ["13002526500014", "1300252650001", "130025265000133", "1300252650001a", "", "１３００２５２６５０００１３"]
        {
            assert!(bad.parse::<Siret>().is_err(), "{bad}");
        }
    }

    #[test]
    fn la_poste_counts_its_digits_in_fives() {
        // Any post office: the digit sum is a multiple of five where Luhn fails.
        assert!("35600000049837".parse::<Siret>().is_ok());
        assert!("35600000049838".parse::<Siret>().is_err());
    }
}
